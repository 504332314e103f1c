"""Leads: the page of an advisor's sign-ups, the advisor's decisions, and the history of consent."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select

from asapp.accounts import email_links
from asapp.contacts import removal, suppressions
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import queries, sign_up_page
from asapp.messages.leads import CHECKS
from asapp.models import (
    ApiUsage,
    ConsentEvent,
    Contact,
    Lead,
    LeadState,
    OptInPage,
    SuppressionSource,
    SuppressionStep,
    User,
)
from asapp.partners import partners
from asapp.partners.form_fields import PartnerForm
from asapp.writeback import unsubscribing
from tests.factories import (
    log_in,
    make_admin,
    make_advisor,
    make_contact,
    make_partner,
    make_synced_connection,
    org_access,
    save,
)
from tests.mail_links import record
from tests.signing_up import someone_signs_up


@pytest.fixture
def amara(app: Flask, client: FlaskClient) -> User:
    advisor = make_advisor(name="Amara Okafor")
    log_in(client, advisor)
    return advisor


def put(lead: Lead, state: LeadState, **columns: object) -> Lead:
    for name, value in {"state": state, **columns}.items():
        setattr(lead, name, value)
    db.session.commit()
    return lead


def test_the_page_shows_its_address_as_a_link_and_a_code(client: FlaskClient, amara: User) -> None:
    html = client.get("/leads").text

    assert '<a href="http://127.0.0.1:5000/o/amara-okafor">' in html
    assert "No one has signed up yet" in html
    assert '<div class="qr" role="img" aria-label="QR code for your sign-up page"><svg' in html


def test_two_advisors_of_one_name_have_two_addresses(app: Flask) -> None:
    slugs = [sign_up_page.ensure_page(make_advisor(name="Amara Okafor")).slug for _ in range(3)]

    assert slugs == ["amara-okafor", "amara-okafor-2", "amara-okafor-3"]


def test_the_code_is_a_drawing_to_download(client: FlaskClient, amara: User) -> None:
    answer = client.get("/leads/code.svg")

    assert answer.mimetype == "image/svg+xml"
    assert b"<svg" in answer.data


def test_the_code_is_a_picture_to_download_for_programs_that_take_no_drawing(client: FlaskClient, amara: User) -> None:
    answer = client.get("/leads/code.png")

    assert answer.mimetype == "image/png"
    assert answer.data.startswith(b"\x89PNG")
    assert "amara-okafor.png" in answer.headers["Content-Disposition"]


def test_a_site_is_named_where_the_snippet_is_and_the_words_stay(client: FlaskClient, amara: User) -> None:
    client.post("/leads/page", data={"heading": "Letters", "words": "Yes.", "frame_hosts": "", "daily_limit": "40"})

    answer = client.post("/leads/page", data={"frame_hosts": "www.amara.example"})

    assert answer.location.endswith("/leads?site=1#site")
    page = client.get(answer.location).text
    assert '<details class="more" id="site" open>' in page
    assert "&lt;iframe src=" in page
    assert 'value="https://www.amara.example"' in page
    text, stored = sign_up_page.current_text(amara.id), sign_up_page.ensure_page(amara)
    assert (text.heading, text.words, stored.daily_limit) == ("Letters", "Yes.", 40)


def test_a_site_that_is_none_is_refused_beside_its_field(client: FlaskClient, amara: User) -> None:
    sign_up_page.ensure_page(amara)
    before = sign_up_page.current_text(amara.id).words
    answer = client.post("/leads/page", data={"frame_hosts": "javascript:alert(1)"})

    assert answer.status_code == 422
    assert "is not a site" in answer.text
    assert "javascript:alert(1)" in answer.text
    assert before in answer.text


def test_the_snippet_is_a_link_until_a_site_is_named(client: FlaskClient, amara: User) -> None:
    assert "&lt;a href=" in client.get("/leads").text

    words = {"heading": "Letters", "words": "Yes.", "frame_hosts": "www.amara.example"}
    assert client.post("/leads/page", data=words).status_code == 303

    assert "&lt;iframe src=" in client.get("/leads").text


def test_new_words_make_a_version_and_the_same_words_none(client: FlaskClient, amara: User) -> None:
    words = {"heading": "Money matters", "words": "Yes, write to me.", "frame_hosts": ""}
    client.post("/leads/page", data=words)
    assert "Saved. Your page shows version 2 of its words." in client.get("/leads").text
    client.post("/leads/page", data={**words, "frame_hosts": "www.amara.example"})
    page = client.get("/leads").text
    assert "Saved." in page
    assert "of its words" not in page

    assert [text.version for text in sign_up_page.all_texts(amara.id)] == [2, 1]
    assert "Money matters" in client.get("/o/amara-okafor").text


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("heading", "", "Enter a heading."),
        ("words", "x" * 1001, "Use 1000 characters or fewer"),
        ("frame_hosts", "javascript:alert(1)", "is not a site"),
        ("frame_hosts", "http://plain.example", "is not a site"),
        ("frame_hosts", "https://a.example; script-src *", "is not a site"),
        ("frame_hosts", f"https://{'a' * 9000}.example", "is not a site"),
        ("frame_hosts", f"https://{'a' * 64}.example", "is not a site"),
        ("frame_hosts", f"https://{'a.' * 125}example", "is not a site"),
        (
            "frame_hosts",
            " ".join(f"https://{('a' * 60 + '.') * 3}x{n}.example" for n in range(10)),
            "too long together",
        ),
    ],
)
def test_invalid_consent_words_are_refused(
    client: FlaskClient, amara: User, field: str, typed: str, words: str
) -> None:
    data = {"heading": "Letters", "words": "Yes.", "frame_hosts": "", field: typed}

    answer = client.post("/leads/page", data=data)

    assert answer.status_code == 422
    assert words in answer.text
    assert [text.version for text in sign_up_page.all_texts(amara.id)] == [1]


# ---- The page's limit, and its pause


def set_limit(advisor: User, limit: int) -> None:
    sign_up_page.ensure_page(advisor).daily_limit = limit
    db.session.commit()


def test_those_beyond_the_days_limit_wait_until_the_advisor_sends_them(client: FlaskClient, amara: User) -> None:
    make_synced_connection(amara)
    set_limit(amara, 2)
    for number in range(5):
        someone_signs_up(amara, f"p{number}@example.com")

    html = unescape(client.get("/leads").text)
    assert "3 people wait for you" in html
    assert "Your page takes 2 people a day" in html
    assert "Waits for you" in html
    assert (
        unescape(client.get("/leads?state=for_review").text).count("Your page had reached its limit for the day.") == 3
    )

    contact_id = db.session.scalars(select(Lead.contact_id).where(Lead.email == "p4@example.com")).one()
    assert unescape(client.get("/contacts").text).count("Signed up, and waits: see Leads") == 3
    assert "Nothing is sent until then." in unescape(client.get(f"/contacts/{contact_id}").text)
    answer = unescape(client.get("/contacts/why?person=p4@example.com").text)
    assert "p4@example.com waits for you on Leads" in answer or "Mei-Ling Chou waits for you on Leads" in answer
    client.post("/leads/send-reviewed")

    html = unescape(client.get("/leads").text)
    assert "3 leads on the way." in html
    assert "wait for you" not in html
    assert "Inactive" not in client.get("/contacts").text.partition('<div id="people">')[2]
    assert set(db.session.scalars(select(Lead.state))) == {LeadState.RECEIVED}
    client.post("/leads/send-reviewed")
    assert "No one was waiting for you." in client.get("/leads").text


def test_leads_that_can_not_go_out_are_not_shown_as_on_the_way(client: FlaskClient, amara: User) -> None:
    set_limit(amara, 1)
    for number in range(2):
        someone_signs_up(amara, f"p{number}@example.com")

    client.post("/leads/send-reviewed")

    html = unescape(client.get("/leads").text)
    assert "on the way" not in html
    assert "They can't go out at the moment" in html
    assert "Salesforce isn't connected yet." in html


def test_the_limit_is_the_advisors_to_set(client: FlaskClient, amara: User) -> None:
    form = {"heading": "Letters", "words": "Yes.", "frame_hosts": ""}
    assert 'value="500"' in client.get("/leads/page").text

    assert client.post("/leads/page", data={**form, "daily_limit": "1,200"}).status_code == 303

    assert sign_up_page.ensure_page(amara).daily_limit == 1200


@pytest.mark.parametrize("typed", ["", "0", "-1", "10001", "many", "٣", "9" * 30])
def test_an_invalid_limit_is_refused(client: FlaskClient, amara: User, typed: str) -> None:
    form = {"heading": "Letters", "words": "Yes.", "frame_hosts": ""}

    answer = client.post("/leads/page", data={**form, "daily_limit": typed})

    assert answer.status_code == 422
    assert "Enter a number from 1 to 10,000." in answer.text
    assert sign_up_page.ensure_page(amara).daily_limit == 500


def test_the_page_can_be_paused_and_take_sign_ups_again(client: FlaskClient, amara: User) -> None:
    assert "Pause sign-ups" in client.get("/leads").text

    client.post("/leads/page/pause", data={"do": "pause"})
    html = client.get("/leads").text
    assert "Your sign-up page is paused." in html
    assert "Take sign-ups again" in html
    assert "Sign-ups are closed at the moment" in client.get("/o/amara-okafor").text

    client.post("/leads/page/pause", data={"do": "resume"})
    assert "Your sign-up page is paused." not in client.get("/leads").text
    assert "Sign up" in client.get("/o/amara-okafor").text


def test_who_was_filling_in_the_form_when_it_was_paused_waits_too(client: FlaskClient, amara: User) -> None:
    make_synced_connection(amara)
    sign_up_page.pause(sign_up_page.ensure_page(amara))
    someone_signs_up(amara)

    html = unescape(client.get("/leads").text)

    assert "1 person was filling in the form when you paused your page." in html
    assert "Many people have signed up" not in html


def test_where_the_calls_for_leads_are_used_up_they_wait_and_say_so(client: FlaskClient, amara: User) -> None:
    connection = make_synced_connection(amara)
    connection.partner.org_calls_allowed = 1200  # ours: 120; leads may take 30 of them
    hour = utcnow().replace(minute=0, second=0, microsecond=0)
    save(ApiUsage(partner_id=connection.partner_id, hour=hour, calls=30, lead_calls=30))
    someone_signs_up(amara)

    html = unescape(client.get("/leads").text)

    assert "the Salesforce calls that are set aside for them" in html
    assert "Syncs go on as always." in html


# ---- The table


def test_a_lead_without_a_connection_waits_and_says_so(client: FlaskClient, amara: User) -> None:
    someone_signs_up(amara)

    html = client.get("/leads").text

    assert "Waiting" in html
    assert "go out when you connect" in html
    assert 'href="/settings/integrations?open=salesforce">Open Integrations</a>' in html


def test_where_the_firm_is_not_set_up_leads_wait_and_the_way_to_who_can_help_is_there(
    client: FlaskClient, app: Flask
) -> None:
    log_in(client, advisor := make_advisor(make_partner(key=None, secret=None)))
    someone_signs_up(advisor)

    html = unescape(client.get("/leads").text)

    assert "isn't set up yet" in html
    assert 'href="/settings">See who can help</a>' in html
    assert "Open Integrations" not in html


def test_a_refused_lead_says_why_and_can_be_sent_again(client: FlaskClient, amara: User) -> None:
    make_synced_connection(amara)
    lead = put(someone_signs_up(amara), LeadState.REFUSED, why="required_field", why_detail="Region__c")

    html = client.get("/leads").text
    assert "requires “Region__c” on every lead" in html
    client.post("/leads/retry", data={"lead": lead.public_id})

    assert (lead.state, lead.why) == (LeadState.WAITING, None)


def test_all_refused_ones_can_be_sent_again_at_once(client: FlaskClient, amara: User) -> None:
    leads = [
        put(someone_signs_up(amara, f"p{n}@example.com"), LeadState.REFUSED, why="insufficient_access")
        for n in range(3)
    ]

    client.post("/leads/retry", data={"all": "1"})

    assert {lead.state for lead in leads} == {LeadState.WAITING}


@pytest.mark.parametrize(
    ("do", "why", "state"),
    [
        ("send", "out_of_sight", LeadState.SENDING),  # we search once more ourselves
        ("send", "tried_elsewhere", LeadState.WAITING),
        ("there", "out_of_sight", LeadState.SENT),
    ],
)
def test_a_lead_to_be_checked_is_decided_by_the_advisor(
    client: FlaskClient, amara: User, do: str, why: str, state: LeadState
) -> None:
    connection = make_synced_connection(amara, leads_known_until=utcnow().replace(year=2100))
    lead = put(
        someone_signs_up(amara),
        LeadState.PLEASE_CHECK,
        why=why,
        unanswered_at=utcnow(),
        connection_id=connection.id,
    )
    assert CHECKS[why] in unescape(client.get("/leads").text)

    client.post("/leads/check", data={"lead": lead.public_id, "do": do})

    assert lead.state == state
    assert (lead.unanswered_at is None) == (state != LeadState.SENDING)
    if do == "there":  # the org can't tell whether this person opts out
        assert "opt_out_unknown" in client.get("/contacts/export.csv").text


def test_leads_can_be_found_by_name_and_state(client: FlaskClient, amara: User) -> None:
    make_synced_connection(amara)
    someone_signs_up(amara)
    put(
        someone_signs_up(amara, "karim@poste.example", "Karim", "Benali"),
        LeadState.SENT,
        salesforce_id="00Q" + "x" * 15,
    )

    assert "Karim" not in client.get("/leads?q=chou", part=True).text
    assert "Mei-Ling" not in client.get("/leads?state=sent", part=True).text
    assert "Anything (2)" in client.get("/leads").text


def test_what_salesforce_did_comes_before_how_far_it_came(client: FlaskClient, amara: User) -> None:
    put(someone_signs_up(amara), LeadState.SENT, opted_out=True)

    html = client.get("/leads").text

    assert "Opted out (1)" in html


def test_a_sign_up_after_an_opt_out_is_shown_until_noted(client: FlaskClient, amara: User) -> None:
    put(someone_signs_up(amara), LeadState.SENT, opted_out=True)
    someone_signs_up(amara)

    assert "asked for email again" in client.get("/leads").text
    note_those_shown(client, "asked for email again")
    assert "asked for email again" not in client.get("/leads").text


def note_those_shown(client: FlaskClient, box: str) -> None:
    """Press Noted in the box with these words."""
    form = client.get("/leads").text.partition(box)[2].partition('action="/leads/noted"')[2].partition("</form>")[0]
    client.post("/leads/noted", data={"lead": re.findall(r'name="lead" value="([^"]+)"', form)})


def test_noted_is_about_those_who_were_shown(client: FlaskClient, amara: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "NEWS_MAX", 2)
    for number in range(3):
        put(someone_signs_up(amara, f"p{number}@example.com"), LeadState.SENT, opted_out=True, asked_again_at=utcnow())
    gone = someone_signs_up(amara, "p4@example.com")
    removal.remove_contacts(amara.id, [gone.contact_id or 0])
    someone_signs_up(amara, "p4@example.com")

    page = client.get("/leads").text
    assert "3 people have asked for email again." in page
    assert "1 person you deleted here signed up again." in page
    note_those_shown(client, "asked for email again")
    page = client.get("/leads").text
    assert "1 person has asked for email again." in page
    assert "1 person you deleted here signed up again." in page
    note_those_shown(client, "you deleted here signed up again")
    client.post("/leads/noted")
    page = client.get("/leads").text
    assert "1 person has asked for email again." in page
    assert "you deleted here" not in page


def test_the_file_has_every_lead_and_runs_no_formula(client: FlaskClient, amara: User) -> None:
    someone_signs_up(amara, first_name="=cmd()")
    someone_signs_up(amara, "b@example.com")

    rows = list(csv.DictReader(io.StringIO(client.get("/leads/export.csv").text)))

    assert [row["email"] for row in rows] == ["mei.chou@harbour.example", "b@example.com"]
    assert rows[0]["first_name"] == "'=cmd()"
    assert rows[0]["state"] == "waiting"


# ---- Consent


def test_the_contacts_page_shows_the_history_and_gives_it_as_a_file(client: FlaskClient, amara: User) -> None:
    lead = someone_signs_up(amara)

    html = client.get(f"/contacts/{lead.contact_id}").text
    rows = list(csv.DictReader(io.StringIO(client.get(f"/leads/consent/{lead.contact_id}.csv").text)))

    assert "Download consent history (CSV)" in html
    assert "Signed up on your page as Mei-Ling Chou" in " ".join(html.split())
    assert "203.0.113.80" in html
    assert (rows[0]["event"], rows[0]["text_version"], rows[0]["client_address"]) == ("opted_in", "1", "203.0.113.80")
    assert "may write to me" in rows[0]["text"]


def by_the_person(client: FlaskClient, _advisor: User) -> None:
    assert client.post("/settings", data={"name": "Amara B. Okafor"}).status_code == 303


def by_an_admin(_client: FlaskClient, advisor: User) -> None:
    email_links.change_person(advisor, "Amara B. Okafor", advisor.email)


def of_the_firm(_client: FlaskClient, advisor: User) -> None:
    partner = advisor.partner
    assert partner
    form = {"name": "Eastgate Wealth", "url": partner.salesforce_url, "key": "key", "secret": "secret"}
    partners.change_partner(partner, PartnerForm.entered(**form), org_access())


@pytest.mark.parametrize("rename", [by_the_person, by_an_admin, of_the_firm])
def test_a_new_name_leaves_what_people_agreed_to(
    client: FlaskClient, amara: User, rename: Callable[[FlaskClient, User], None]
) -> None:
    """The words that name the person or the firm get a new version."""
    lead = someone_signs_up(amara)
    before = sign_up_page.current_text(amara.id)
    agreed, old = (before.heading, before.words), (amara.name, amara.partner.name if amara.partner else "")
    rename(client, amara)
    db.session.expire_all()
    new = (amara.name, amara.partner.name if amara.partner else "")
    assert new != old
    someone_signs_up(amara, "ruth@river.example", "Ruth", "Abara")

    first, second = sign_up_page.all_texts(amara.id)[::-1]
    assert (first.heading, first.words) == agreed
    names = list(zip(old, new, strict=True))
    assert (second.heading, second.words) == tuple(replaced(part, names) for part in agreed)
    (row,) = csv.DictReader(io.StringIO(client.get(f"/leads/consent/{lead.contact_id}.csv").text))
    assert (row["text_version"], row["heading"], row["text"]) == ("1", *agreed)
    words = text_of(client.get("/leads/page").text)
    assert all(each.words in words for each in (first, second))
    assert second.words in text_of(client.get("/o/amara-okafor").text)
    rename(client, amara)
    assert len(sign_up_page.all_texts(amara.id)) == 2


def replaced(part: str, names: list[tuple[str, str]]) -> str:
    for old, new in names:
        part = part.replace(old, new)
    return part


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def test_the_file_tells_what_happened_to_the_address(client: FlaskClient, amara: User) -> None:
    lead = someone_signs_up(amara)
    assert lead.contact_id
    assert lead.address_hash
    address = Address(lead.partner_id, amara.id, lead.address_hash)
    bounced = Happened(address, SuppressionStep.BOUNCED, SuppressionSource.SENDER, utcnow(), "e-1", words="=550 No")
    record([bounced])
    record([bounced._replace(step=SuppressionStep.COMPLAINED, sender_event_id="e-2", words="")])
    unsubscribing.unsubscribe(address, SuppressionSource.ONE_CLICK, whole_firm=True, vault=org_access().vault)
    someone_signs_up(amara)
    suppressions.try_again(address)

    page = client.get(f"/contacts/{lead.contact_id}").text
    assert page.count(f"/leads/consent/{lead.contact_id}.csv") == 1
    rows = list(csv.DictReader(io.StringIO(client.get(f"/leads/consent/{lead.contact_id}.csv").text)))
    assert [(row["event"], row["source"], row["scope"], row["detail"]) for row in rows] == [
        ("opted_in", "form", "", ""),
        ("bounced", "sender", "advisor", "'=550 No"),
        ("complained", "sender", "advisor", ""),
        ("unsubscribed", "one_click", "firm", ""),
        ("opted_in", "form", "", ""),
        ("tried_again", "advisor", "advisor", ""),
    ]
    assert {row["email"] for row in rows} == {"mei.chou@harbour.example"}


def test_someone_who_never_signed_up_has_a_file_once_something_happened(client: FlaskClient, amara: User) -> None:
    contact = make_contact(amara, email="ruth@river.example", address_hash=b"r" * 32)
    path = f"/leads/consent/{contact.id}.csv"
    assert client.get(path).status_code == 404
    address = Address(amara.partner_id or 0, amara.id, b"r" * 32)
    record([Happened(address, SuppressionStep.UNSUBSCRIBED, SuppressionSource.SENDER, utcnow(), "e-1")])
    assert client.get(f"/contacts/{contact.id}").text.count(path) == 1
    (row,) = csv.DictReader(io.StringIO(client.get(path).text))
    assert (row["event"], row["email"]) == ("unsubscribed", "ruth@river.example")


def test_erasing_takes_the_person_and_keeps_the_skeleton(client: FlaskClient, amara: User) -> None:
    lead = someone_signs_up(amara)
    contact_id = lead.contact_id
    assert "Erase Mei-Ling Chou?" in client.get(f"/leads/erase/{contact_id}").text

    client.post(f"/leads/erase/{contact_id}")

    assert (lead.first_name, lead.last_name, lead.email, lead.details) == ("", "", "", {})
    assert lead.is_erased
    kinds = db.session.scalars(select(ConsentEvent.kind).order_by(ConsentEvent.id)).all()
    assert kinds == ["opted_in", "erased"]
    contact = db.session.get_one(Contact, contact_id)
    assert (contact.first_name, contact.last_name, contact.email, contact.address_hash) == ("", "", "", None)
    assert client.get(f"/contacts/{contact_id}").status_code == 404
    assert client.get("/contacts/export.csv").text.count("\n") == 1
    assert "No one has signed up yet" in client.get("/leads").text


def test_an_erased_person_may_sign_up_again(client: FlaskClient, amara: User) -> None:
    first = someone_signs_up(amara)
    client.post(f"/leads/erase/{first.contact_id}")

    again = someone_signs_up(amara)

    assert again.id != first.id
    assert again.state == LeadState.RECEIVED


# ---- Access


def test_advisors_see_only_their_own_leads(client: FlaskClient, amara: User) -> None:
    bobs = someone_signs_up(make_advisor(amara.partner, name="Bob Adeyemi"), "secret@example.com")
    put(bobs, LeadState.REFUSED, why="duplicate")

    assert "secret@example.com" not in client.get("/leads").text + client.get("/leads/export.csv").text
    assert client.post("/leads/retry", data={"lead": bobs.public_id}).status_code == 404
    assert client.post("/leads/check", data={"lead": bobs.public_id}).status_code == 404
    for method, path in [
        ("GET", f"/leads/consent/{bobs.contact_id}.csv"),
        ("GET", f"/leads/erase/{bobs.contact_id}"),
        ("POST", f"/leads/erase/{bobs.contact_id}"),
    ]:
        assert client.open(path, method=method).status_code == 404
    assert bobs.state == LeadState.REFUSED


def test_an_admin_has_no_leads(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_admin())

    assert client.get("/leads").status_code == 403
    assert db.session.scalars(select(OptInPage)).all() == []


def test_a_contact_made_by_hand_is_deleted_not_erased(client: FlaskClient, amara: User) -> None:
    assert client.get(f"/leads/erase/{make_contact(amara).id}").status_code == 404


# ---- Leads whose contact was removed with a connection


@pytest.fixture
def removed(amara: User) -> Lead:
    """Return a lead that became a contact, which was removed when the advisor disconnected."""
    lead = put(someone_signs_up(amara), LeadState.CONVERTED, contact_id=None)
    db.session.execute(delete(Contact))
    db.session.commit()
    return lead


def test_the_history_of_a_removed_contact_can_still_be_read(client: FlaskClient, removed: Lead) -> None:
    address = f"/leads/person?lead={removed.public_id}"
    assert f'href="{address}"' in client.get("/leads").text

    html = client.get(address).text
    rows = list(csv.DictReader(io.StringIO(client.get(f"/leads/person/consent.csv?lead={removed.public_id}").text)))

    assert "Consent history" in html
    assert (rows[0]["event"], rows[0]["email"]) == ("opted_in", "mei.chou@harbour.example")


def test_whose_contact_was_removed_can_still_be_erased(client: FlaskClient, removed: Lead) -> None:
    assert "Erase Mei-Ling Chou?" in client.get(f"/leads/person/erase?lead={removed.public_id}").text

    client.post("/leads/person/erase", data={"lead": removed.public_id})

    assert (removed.first_name, removed.email, removed.details, removed.is_erased) == ("", "", {}, True)
    kinds = db.session.scalars(select(ConsentEvent.kind).order_by(ConsentEvent.id)).all()
    assert kinds == ["opted_in", "erased"]


def test_who_has_a_contact_is_shown_and_erased_with_it(client: FlaskClient, amara: User) -> None:
    lead = someone_signs_up(amara)
    contact_id = lead.contact_id

    assert client.get(f"/leads/person?lead={lead.public_id}").location == f"/contacts/{contact_id}"
    client.post("/leads/person/erase", data={"lead": lead.public_id})

    assert lead.is_erased
    assert client.get(f"/contacts/{contact_id}").status_code == 404


def test_leads_to_be_checked_are_named_above_the_table(client: FlaskClient, amara: User) -> None:
    put(someone_signs_up(amara), LeadState.PLEASE_CHECK, why="out_of_sight")

    assert "1 lead needs a look in Salesforce." in client.get("/leads").text
