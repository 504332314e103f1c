"""The public sign-up page."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from flask.testing import FlaskClient
from sqlalchemy import func, select, text
from werkzeug.test import TestResponse

from asapp import create_app
from asapp.accounts import mail_outbox
from asapp.contacts import queries, suppressions
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import sign_up_page
from asapp.models import (
    ConsentEvent,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    OptInPage,
    Review,
    SuppressionSource,
    SuppressionStep,
    WaitingMail,
)
from asapp.web import confirmation, optin
from tests.conftest import make_config
from tests.factories import log_in, make_advisor, save
from tests.pages import CheckingClient

MEI = {
    "first_name": "Mei-Ling",
    "last_name": "Chou",
    "email": "mei.chou@harbour.example",
    "consent": "yes",
}


@pytest.fixture
def page(app: Flask) -> OptInPage:
    return sign_up_page.ensure_page(make_advisor(name="Amara Okafor"))


@pytest.fixture
def address(page: OptInPage) -> str:
    return f"/o/{page.slug}"


def token_in(html: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', html)
    assert found
    return found.group(1)


def aged(token: str, seconds: float = 5) -> str:
    """Return the token of the same form, opened so many seconds earlier."""
    slug, text_id, key, made_ms = optin._serializer().loads(token)
    return optin.write_token(optin.Token(slug, text_id, key, made_ms / 1000 - seconds))


def open_form(client: FlaskClient, address: str) -> str:
    """Open the page, wait, and return the token of its form."""
    return aged(token_in(client.get(address).text))


def send(client: FlaskClient, address: str, **fields: Any) -> TestResponse:
    """Open the page and send its form as people do, unless a token is given."""
    token = fields.pop("token", None) or open_form(client, address)
    return client.post(address, data={**MEI, "csrf_token": token, **fields}, forged=True)


def count(table: type[Any]) -> int:
    return db.session.scalar(select(func.count()).select_from(table)) or 0


def test_it_shows_whose_page_it_is_and_what_one_agrees_to(client: FlaskClient, address: str) -> None:
    html = client.get(address).text

    for words in ("Amara Okafor", "Northgate Wealth", "First name", "Last name", "Email", "Sign up", "may write to me"):
        assert words in html


def test_the_firms_disclosure_and_privacy_notice_stand_below_the_form(
    client: FlaskClient, page: OptInPage, address: str
) -> None:
    assert "Privacy notice" not in client.get(address).text
    firm = page.user.partner
    firm.disclosure, firm.privacy_url = (
        "Investments <can> fall.\nReally.",
        "https://www.northgate.example/privacy?a=1&b=2",
    )
    save(firm)
    for path in (address, f"{address}/thanks"):
        html = client.get(path).text
        assert "Investments &lt;can&gt; fall.<br>Really." in html
        assert 'href="https://www.northgate.example/privacy?a=1&amp;b=2" rel="noopener noreferrer"' in html


def test_a_sign_up_stores_lead_contact_and_consent(client: FlaskClient, address: str) -> None:
    answer = send(client, address)

    assert answer.status_code == 303
    assert answer.location == f"{address}/thanks"
    lead = db.session.scalars(select(Lead)).one()
    assert (lead.first_name, lead.last_name, lead.email) == ("Mei-Ling", "Chou", "mei.chou@harbour.example")
    assert lead.state == LeadState.RECEIVED
    contact = db.session.get_one(Contact, lead.contact_id)
    assert (contact.source, contact.name) == (ContactSource.LEAD, "Mei-Ling Chou")
    event = db.session.scalars(select(ConsentEvent)).one()
    assert event.consent_text
    assert event.consent_text.version == 1
    assert lead.details[event.key]["client_address"] == "127.0.0.1"


def test_a_form_sent_within_a_moment_says_what_is_missing_before_that_it_was_quick(
    client: FlaskClient, address: str
) -> None:
    at_once = token_in(client.get(address).text)
    incomplete = send(client, address, token=at_once, last_name="")
    assert "Enter your last name." in incomplete.text
    assert "very quick" not in incomplete.text
    whole = send(client, address, token=token_in(incomplete.text))
    assert (whole.status_code, count(Lead)) == (422, 0)
    assert "That was very quick." in whole.text


def test_the_thanks_name_only_the_advisor(client: FlaskClient, address: str) -> None:
    html = client.get(send(client, address).location).text

    assert "Thank you" in html
    assert "Mei" not in html


def test_it_sets_no_cookie(client: FlaskClient, address: str) -> None:
    answers = [client.get(address), send(client, address), client.get(f"{address}/thanks")]

    assert [answer.headers.getlist("Set-Cookie") for answer in answers] == [[], [], []]


def test_an_unknown_address_is_not_found(client: FlaskClient, page: OptInPage) -> None:
    assert client.get("/o/nobody").status_code == 404
    assert client.post("/o/nobody", data=MEI, forged=True).status_code == 404


# ---- One person per address


def test_sending_the_form_twice_makes_one_lead_and_one_consent(client: FlaskClient, address: str) -> None:
    token = open_form(client, address)

    answers = [send(client, address, token=token) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert (count(Lead), count(Contact), count(ConsentEvent)) == (1, 1, 1)


def test_signing_up_again_adds_to_the_history(client: FlaskClient, address: str) -> None:
    send(client, address)
    send(client, address, first_name="M.", email="MEI.CHOU@Harbour.example")

    lead = db.session.scalars(select(Lead)).one()
    assert (count(Contact), count(ConsentEvent)) == (1, 2)
    assert lead.first_name == "Mei-Ling"
    assert lead.asked_again_at is not None


def test_a_known_address_gets_the_same_answer(client: FlaskClient, address: str) -> None:
    first, second = send(client, address), send(client, address)

    assert (first.status_code, first.location, first.data) == (second.status_code, second.location, second.data)


def test_going_back_to_correct_the_address_keeps_both(client: FlaskClient, address: str) -> None:
    token = open_form(client, address)
    send(client, address, token=token, email="mei.chou@harbor.example")
    send(client, address, token=token)

    assert count(Lead) == 2


# ---- Bad input


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("first_name", "", "Enter your first name."),
        ("first_name", "x" * 41, "Use 40 characters or fewer; this has 41."),
        ("last_name", " ", "Enter your last name."),
        ("last_name", "x" * 81, "Use 80 characters or fewer; this has 81."),
        ("email", "", "Enter an email address."),
        ("email", "mei.chou@", "Something should follow the @"),
        ("email", f"{'x' * 60}@{'y' * 20}.example", "Use an address of 80 characters or fewer"),
        ("consent", "", "Tick the box if you want the emails."),
    ],
)
def test_invalid_input_of_a_sign_up_is_explained_beside_its_field(
    client: FlaskClient, address: str, field: str, typed: str, words: str
) -> None:
    answer = send(client, address, **{field: typed})

    assert answer.status_code == 422
    assert words in answer.text
    assert f'id="{field}-error"' in answer.text
    assert count(Lead) == 0


def test_nothing_typed_is_lost(client: FlaskClient, address: str) -> None:
    html = send(client, address, email="mei.chou@").text

    for value in ("Mei-Ling", "Chou", "mei.chou@"):
        assert f'value="{value}"' in html
    assert re.search(r'id="consent"[^>]* checked', html)


def test_forty_letters_of_any_script_are_forty(client: FlaskClient, address: str) -> None:
    assert send(client, address, first_name="ß" * 40, last_name="李" * 80).status_code == 303


# ---- Robots


def test_a_filled_trap_is_thanked_and_forgotten(client: FlaskClient, address: str) -> None:
    answer = send(client, address, website="https://spam.example")

    assert (answer.status_code, answer.location) == (303, f"{address}/thanks")
    assert count(Lead) == 0


def test_a_form_sent_at_once_is_shown_again_with_what_was_typed(client: FlaskClient, address: str) -> None:
    token = token_in(client.get(address).text)

    answer = send(client, address, token=token)

    assert answer.status_code == 422
    assert "Mei-Ling" in answer.text
    assert count(Lead) == 0
    assert token_in(answer.text) == token
    assert send(client, address, token=aged(token, 2)).status_code == 303


@pytest.mark.parametrize("kind", ["forged", "of another page", "a day old", "missing"])
def test_a_token_that_does_not_fit_gives_a_new_one(client: FlaskClient, page: OptInPage, kind: str) -> None:
    address = f"/o/{page.slug}"
    other = sign_up_page.ensure_page(make_advisor(name="Bob Adeyemi"))
    tokens = {
        "forged": "x" * 60,
        "of another page": open_form(client, f"/o/{other.slug}"),
        "a day old": aged(open_form(client, address), 25 * 3600),
        "missing": "",
    }

    answer = client.post(address, data={**MEI, "csrf_token": tokens[kind]}, forged=True)

    assert answer.status_code == 422
    assert count(Lead) == 0
    assert 'value="Mei-Ling"' in answer.text
    assert send(client, address, token=aged(token_in(answer.text))).status_code == 303


def test_thirty_forms_a_minute_from_one_address(client: FlaskClient, address: str) -> None:
    forms = [open_form(client, address) for _ in range(2)]

    codes = [
        send(client, address, token=forms[number % 2], email=f"p{number}@example.com").status_code
        for number in range(31)
    ]

    assert codes == [303] * 30 + [429]
    token = forms[0]
    refused = send(client, address, token=token)
    assert "Wait a minute, then press Sign up once more." in refused.text
    assert 'value="Mei-Ling"' in refused.text  # nothing typed is lost
    assert token_in(refused.text) == token
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "198.51.100.7"}}
    data = {**MEI, "csrf_token": token}
    assert client.post(address, data=data, forged=True, **elsewhere).status_code == 303


@pytest.mark.parametrize("path", ["/o/nobody", "/o/nobody/thanks", "/o/nobody/at/all"])
def test_a_stranger_on_a_page_that_is_gone_reads_nothing_of_advisors(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    assert "Ask the person who gave it to you." in page
    for of_advisors in ("Your contacts", "mailto:", 'href="/"', "Write to support"):
        assert of_advisors not in page


def test_an_error_page_tells_strangers_nothing_about_syncs() -> None:
    client = create_app(make_config("sqlite:////nowhere/at/all.db")).test_client()
    page = client.get("/o/amara-okafor").text
    assert "Something broke on our side" in page
    for of_advisors in ("a sync", "mailto:", 'href="/"'):
        assert of_advisors not in page


def test_where_a_key_is_missing_strangers_are_told_to_ask_the_person_whose_page_it_is(
    client: FlaskClient, address: str, database_url: str
) -> None:
    assert send(client, address).status_code == 303  # the firm's key of addresses is made
    other = create_app(make_config(database_url, encryption_keys=(bytes(range(7, 39)),)))
    other.test_client_class = CheckingClient
    token = open_form(client, address)
    data = {**MEI, "email": "mira@fjord.example", "csrf_token": token}
    answer = other.test_client().post(address, data=data, forged=True, broken=True)
    assert answer.status_code == 503
    assert "tell the person whose page this is" in answer.text
    assert "encrypted" not in answer.text
    assert count(Lead) == 1


def test_many_forms_for_a_page_that_is_not_there_are_no_bug_of_ours(client: FlaskClient) -> None:
    codes = [client.post("/o/nobody", data=MEI, forged=True).status_code for _ in range(31)]
    assert codes == [404] * 31


def test_many_forms_while_the_database_is_away() -> None:
    client = create_app(make_config("sqlite:////nowhere/at/all.db")).test_client()
    codes = [client.post("/o/amara-okafor", data=MEI).status_code for _ in range(31)]
    assert codes == [503] * 31


def test_one_whose_address_cannot_be_read_is_limited_too(client: FlaskClient, address: str) -> None:
    nowhere = {"environ_overrides": {"REMOTE_ADDR": "unix:"}}
    token = open_form(client, address)
    codes = [client.post(address, data={"csrf_token": token}, forged=True, **nowhere).status_code for _ in range(31)]
    assert codes == [422] * 30 + [429]


# ---- How many people a form serves


def sign_up_people(client: FlaskClient, address: str, token: str, numbers: range) -> list[int]:
    """Let these people sign up with one form, each from an address of their own."""
    return [
        client.post(
            address,
            data={**MEI, "csrf_token": token, "email": f"p{number}@example.com"},
            environ_overrides={"REMOTE_ADDR": f"198.51.100.{number}"},
            forged=True,
        ).status_code
        for number in numbers
    ]


def test_a_form_serves_twenty_people_then_it_comes_again_with_what_was_typed(client: FlaskClient, address: str) -> None:
    token = open_form(client, address)
    assert sign_up_people(client, address, token, range(20)) == [303] * 20

    refused = send(client, address, token=token)

    assert refused.status_code == 422
    assert "press Sign up once more" in refused.text
    assert 'value="mei.chou@harbour.example"' in refused.text
    assert re.search(r'id="consent"[^>]* checked', refused.text)
    assert count(Lead) == 20
    fresh = token_in(refused.text)
    assert fresh != token
    assert send(client, address, token=aged(fresh)).status_code == 303


def test_one_of_the_twenty_may_send_the_form_again(client: FlaskClient, address: str) -> None:
    token = open_form(client, address)

    codes = sign_up_people(client, address, token, range(20)) + sign_up_people(client, address, token, range(5))

    assert codes == [303] * 25
    assert (count(Lead), count(ConsentEvent)) == (20, 20)


def test_a_known_person_who_is_the_twenty_first_loads_the_form_again(client: FlaskClient, address: str) -> None:
    send(client, address)
    token = open_form(client, address)
    sign_up_people(client, address, token, range(20))

    assert send(client, address, token=token).status_code == 422
    assert (count(Lead), count(ConsentEvent)) == (21, 21)


def test_twenty_at_once_is_twenty(app: Flask, client: FlaskClient, address: str) -> None:
    token = open_form(client, address)

    def sign_up(number: int) -> int:
        data = {**MEI, "csrf_token": token, "email": f"p{number}@example.com"}
        where = {"REMOTE_ADDR": f"198.51.100.{number}"}
        return FlaskClient(app).post(address, data=data, environ_overrides=where).status_code

    with ThreadPoolExecutor(6) as pool:
        codes = sorted(pool.map(sign_up, range(30)))

    assert codes == [303] * 20 + [422] * 10
    db.session.rollback()
    assert count(Lead) == 20


# ---- A page that is paused


def test_a_paused_page_says_so_and_has_no_form(client: FlaskClient, page: OptInPage) -> None:
    sign_up_page.pause(page)

    answer = client.get(f"/o/{page.slug}")

    assert answer.status_code == 200
    assert "Sign-ups are closed at the moment" in answer.text
    assert "<form" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_a_form_that_was_open_when_the_page_was_paused_is_stored_and_waits(
    client: FlaskClient, page: OptInPage
) -> None:
    token = open_form(client, f"/o/{page.slug}")
    sign_up_page.pause(page)

    answer = send(client, f"/o/{page.slug}", token=token)

    assert (answer.status_code, answer.location) == (303, f"/o/{page.slug}/thanks")
    lead = db.session.scalars(select(Lead)).one()
    assert (lead.state, lead.why) == (LeadState.FOR_REVIEW, Review.PAGE_PAUSED)


def test_any_other_form_keeps_what_was_typed_until_the_page_takes_sign_ups_again(
    client: FlaskClient, page: OptInPage
) -> None:
    address = f"/o/{page.slug}"
    stale = aged(open_form(client, address), 25 * 3600)
    sign_up_page.pause(page)

    refused = send(client, address, token=stale)
    again = send(client, address, token=token_in(refused.text))

    for answer in (refused, again):
        assert answer.status_code == 422
        assert "Sign-ups are closed at the moment" in answer.text
        assert 'value="Mei-Ling"' in answer.text
    assert count(Lead) == 0
    sign_up_page.resume(page)
    assert send(client, address, token=aged(token_in(again.text))).status_code == 303
    assert db.session.scalars(select(Lead.state)).one() == LeadState.RECEIVED


# ---- Words and frames


def test_the_words_one_saw_count_even_if_they_changed_meanwhile(client: FlaskClient, page: OptInPage) -> None:
    token = open_form(client, f"/o/{page.slug}")
    sign_up_page.save_page(page, "New heading", "Yes to everything.", "")

    send(client, f"/o/{page.slug}", token=token)

    event = db.session.scalars(select(ConsentEvent)).one()
    assert event.consent_text
    assert event.consent_text.version == 1


def test_no_site_may_frame_it(client: FlaskClient, address: str) -> None:
    for answer in (client.get(address), send(client, address), client.get(f"{address}/thanks")):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_sites_that_the_advisor_named_may_frame_it(client: FlaskClient, page: OptInPage) -> None:
    sign_up_page.save_page(page, "Letters", "Yes.", "https://www.amara.example blog.amara.example")

    for answer in (client.get(f"/o/{page.slug}"), send(client, f"/o/{page.slug}", email="")):
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors https://www.amara.example https://blog.amara.example" in policy


def test_hostile_text_is_shown_as_text(client: FlaskClient, address: str) -> None:
    html = send(client, address, first_name='"><script>alert(1)</script>', email="").text

    assert "<script>" not in html


# ---- Many at once


@pytest.mark.slow
def test_a_thousand_people_in_a_burst_are_all_stored_once_and_half_of_them_wait_for_the_advisor(
    app: Flask, client: FlaskClient, address: str
) -> None:
    forms = [open_form(client, address) for _ in range(50)]  # each serves twenty people

    def send_some(worker: int) -> list[int]:
        browser = FlaskClient(app)
        return [
            browser.post(
                address,
                data={**MEI, "csrf_token": forms[number % 50], "email": f"p{number}@example.com"},
                environ_overrides={"REMOTE_ADDR": f"198.51.{worker}.{number % 250}"},
            ).status_code
            for number in range(worker * 125, worker * 125 + 125)
        ]

    with ThreadPoolExecutor(8) as pool:
        codes = [code for some in pool.map(send_some, range(8)) for code in some]

    assert codes == [303] * 1000
    db.session.rollback()
    assert (count(Lead), count(Contact), count(ConsentEvent)) == (1000, 1000, 1000)
    by_state = dict(db.session.execute(select(Lead.state, func.count()).group_by(Lead.state)).all())  # type: ignore[arg-type]
    assert by_state == {LeadState.RECEIVED: 500, LeadState.FOR_REVIEW: 500}


def test_one_person_pressing_many_times_at_once_is_one_lead(app: Flask, client: FlaskClient, address: str) -> None:
    token = open_form(client, address)

    def press(_number: int) -> int:
        return FlaskClient(app).post(address, data={**MEI, "csrf_token": token}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(press, range(16))) == [303] * 16

    db.session.rollback()
    assert (count(Lead), count(Contact), count(ConsentEvent)) == (1, 1, 1)


def test_the_words_are_kept_without_the_advisors_name_and_shown_with_it(
    client: FlaskClient, page: OptInPage, address: str
) -> None:
    """They are append-only, and the users who wrote them can be erased."""
    advisor = page.user
    name = advisor.name
    sign_up_page.save_page(page, f"Post from {name}", f"{name} and {name}'s firm may write; {name}son may not.", "")
    kept = db.session.execute(text("SELECT heading, words FROM consent_texts ORDER BY version")).all()
    assert len(kept) == 2
    assert not any(re.search(rf"{name}\b", part) for row in kept for part in row)
    shown = client.get(address).text
    assert f"Post from {name}" in shown
    assert f"{name}son may not." in shown
    advisor.name = "Erased advisor"
    db.session.commit()
    shown = client.get(address).text
    assert "Post from Erased advisor" in shown
    assert f"{name}son may not." in shown


def test_saving_the_same_words_again_makes_no_version(page: OptInPage) -> None:
    before = sign_up_page.current_text(page.user_id)
    after = sign_up_page.save_page(page, before.heading, before.words, "")
    assert after.version == before.version


# ---- Sign-ups that are confirmed by a link in an email


def links_sent() -> list[str]:
    """Return the paths of the links in the mails that wait, and empty the outbox."""
    vault = current_app.extensions["asapp.vault"]
    mails = db.session.scalars(select(WaitingMail).order_by(WaitingMail.id)).all()
    texts = [mail_outbox.read(mail, vault)["text"] for mail in mails]
    for mail in mails:
        db.session.delete(mail)
    db.session.commit()
    assert "Mei" not in "".join(texts), "anyone can type any words into the form"
    return [re.findall(r"https?://[^/]+(/o/\S+)", text)[0] for text in texts]


@pytest.fixture
def confirming(page: OptInPage) -> OptInPage:
    page.user.partner.confirms_sign_ups = True
    save(page.user.partner)
    return page


def the_lead() -> Lead:
    return db.session.scalars(select(Lead).execution_options(populate_existing=True)).one()


def press(client: FlaskClient, path: str) -> TestResponse:
    page, _, link = path.partition("?link=")
    return client.post(page, data={"csrf_token": link}, forged=True)


def test_a_lead_waits_until_the_link_in_the_email_is_confirmed(
    client: FlaskClient, confirming: OptInPage, address: str
) -> None:
    assert "One more step" in client.get(send(client, address).location).text
    [path] = links_sent()
    lead, contact = the_lead(), db.session.scalars(select(Contact)).one()
    assert (lead.state, lead.why) == (LeadState.FOR_REVIEW, Review.NOT_CONFIRMED)
    log_in(client, confirming.user)
    assert "Not confirmed" in client.get("/leads").text
    assert "waits for you" not in client.get("/leads").text
    client.post("/leads/send-reviewed")
    assert "Yes, sign me up" in client.get(path).text
    assert the_lead().state == LeadState.FOR_REVIEW, "mail programs open links to look at them"
    assert queries.find_contact(confirming.user_id, contact.id, utcnow()).reason == "opt_out_unknown"
    for _ in range(2):
        assert "Confirmed" in press(client, path).text
    assert (the_lead().state, the_lead().why) == (LeadState.RECEIVED, None)
    assert queries.find_contact(confirming.user_id, contact.id, utcnow()).is_active
    assert [event.is_confirmation for event in db.session.scalars(select(ConsentEvent))] == [False, True]
    assert "Opened the link in our email" in client.get(f"/contacts/{contact.id}").text


def test_a_sign_up_that_is_not_confirmed_ends_no_unsubscribe(
    client: FlaskClient, confirming: OptInPage, address: str
) -> None:
    send(client, address)
    press(client, links_sent()[0])
    lead = the_lead()
    where = suppressions.Address(lead.partner_id, lead.user_id, lead.address_hash)
    at = utcnow()
    suppressions.store([suppressions.Happened(where, SuppressionStep.UNSUBSCRIBED, SuppressionSource.PAGE, at)])
    lead.signed_up_at = at - timedelta(hours=1)
    db.session.commit()
    send(client, address)
    assert suppressions.held_for(where).advisor.unsubscribed_at is not None
    later = links_sent()
    assert len(later) == 1
    press(client, later[0])
    assert suppressions.held_for(where).advisor.unsubscribed_at is None


def test_the_answer_tells_no_one_whether_an_address_is_known_or_suppressed(
    client: FlaskClient, page: OptInPage, address: str
) -> None:
    send(client, address, email="known@fjord.example")
    send(client, address, email="suppressed@fjord.example")
    lead = db.session.scalars(select(Lead).where(Lead.email == "suppressed@fjord.example")).one()
    where = suppressions.Address(lead.partner_id, lead.user_id, lead.address_hash)
    told = suppressions.Happened(where, SuppressionStep.COMPLAINED, SuppressionSource.SENDER, utcnow())
    suppressions.store([told])

    def answer_for(email: str) -> tuple[object, ...]:
        answer = send(client, address, email=email)
        shown = client.get(answer.location) if answer.location else answer
        return (answer.status_code, same_of(answer), same_of(shown))

    unknown = answer_for("unknown@fjord.example")
    assert unknown[0] in (200, 303)
    assert answer_for("known@fjord.example") == unknown
    assert answer_for("suppressed@fjord.example") == unknown


def same_of(answer: TestResponse) -> tuple[dict[str, str], str]:
    """Return headers and text without what differs from one request to the next."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("X-Request-ID", "Date")}
    return headers, re.sub(r'name="csrf_token" value="[^"]+"', "", answer.text)


def test_a_strangers_mailbox_is_not_filled(client: FlaskClient, confirming: OptInPage, address: str) -> None:
    for _ in range(3):
        send(client, address)
    assert len(links_sent()) == 1


def test_who_waited_for_the_advisor_is_asked_to_confirm_then(
    client: FlaskClient, confirming: OptInPage, address: str
) -> None:
    confirming.daily_limit = 1
    confirming.people_that_day, confirming.day_began_at = 1, utcnow()
    save(confirming)
    send(client, address)
    assert links_sent() == []
    log_in(client, confirming.user)
    client.post("/leads/send-reviewed")
    [path] = links_sent()
    press(client, path)
    assert the_lead().state == LeadState.RECEIVED


@pytest.mark.parametrize("broken", ["x", "", "another page's", "too old"])
def test_a_link_that_is_none_says_so(client: FlaskClient, confirming: OptInPage, address: str, broken: str) -> None:
    send(client, address)
    [path] = links_sent()
    if broken == "another page's":
        path = path.replace(confirming.slug, sign_up_page.ensure_page(make_advisor(confirming.user.partner)).slug)
    elif broken == "too old":
        link = confirmation._serializer().loads(path.partition("?link=")[2])
        week_ago = int(time.time()) - 7 * 86400 - 5
        serializer = confirmation._serializer()
        signer = serializer.make_signer(serializer.salt)
        signer.get_timestamp = lambda: week_ago  # type: ignore[method-assign]
        path = f"{address}/confirm?link=" + signer.sign(serializer.dump_payload(link)).decode()
    else:
        path = f"{address}/confirm?link={broken}"
    assert client.get(path).status_code == 410
    assert "This link no longer works" in press(client, path).text
    assert the_lead().state == LeadState.FOR_REVIEW
