"""Setup links for a firm's Salesforce admin, and that no secret is left anywhere on the way."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text

from asapp.accounts.links import LinkIsGone
from asapp.core.clock import utcnow
from asapp.core.database import Base
from asapp.core.extensions import db
from asapp.messages.checks import PKCE_LABEL
from asapp.models import Partner, SetupLink, User
from asapp.partners import setup_link
from asapp.partners.form_fields import AppForm
from orgsim.server import Running
from tests.connecting import CALLBACK, ConnectingDesk, visit
from tests.connecting import KEY as APP_KEY
from tests.factories import log_in, make_admin, make_advisor, make_partner, org_access
from tests.mailing import send_waiting_mails

KEY, SECRET, WRONG = "3MVG9setup.key", "RightSecret0123456789", "WrongSecret0123456789"
HENRIK = {"admin_name": "Henrik Sørensen", "admin_email": "henrik@northgate.example"}


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    made = make_admin()
    log_in(client, made)
    return made


@pytest.fixture
def partner(app: Flask) -> Partner:
    return make_partner(url="", key="", secret="", slug="northgate")


@pytest.fixture
def nobody(app: Flask) -> FlaskClient:
    """A browser without an account."""
    return app.test_client()


@pytest.fixture
def outbox(app: Flask) -> list[Any]:
    mailman = app.extensions["mailman"]
    mailman.outbox = []
    found: list[Any] = mailman.outbox
    return found


def register(org: Running, **changes: Any) -> None:
    org.org.register_app(KEY, SECRET, [CALLBACK], **changes)


def link_of(page: str) -> str:
    found = re.search(r'value="http://127\.0\.0\.1:5000(/[\w/-]+)"', page)
    assert found
    return found.group(1)


def send_link(client: FlaskClient, **changes: str) -> str:
    """Return the path of a new setup link."""
    response = client.post("/admin/partners/northgate/setup-link", data=HENRIK | changes)
    assert response.status_code == 200
    return link_of(response.text)


def dump() -> str:
    """Return everything in the database."""
    return "\n".join(
        str(tuple(row))
        for table in Base.metadata.sorted_tables
        for row in db.session.execute(text(f"SELECT * FROM {table.name}"))
    )


def test_a_link_is_mailed_shown_once_and_stored_as_a_hash(
    client: FlaskClient, ada: User, partner: Partner, outbox: list[Any]
) -> None:
    path = send_link(client)
    token = path.rsplit("/", 1)[1]
    assert len(token) >= 43
    assert token not in dump()
    assert token not in client.get("/admin/partners/northgate").text
    send_waiting_mails()
    (letter,) = outbox
    assert letter.to == ["henrik@northgate.example"]
    assert path in letter.body
    assert "Hello Henrik Sørensen" in letter.body


@pytest.mark.parametrize("changes", [{"admin_name": ""}, {"admin_email": "henrik"}, {"admin_name": "x" * 121}])
def test_a_link_without_a_recipient_is_refused(
    changes: dict[str, str], client: FlaskClient, ada: User, partner: Partner, outbox: list[Any]
) -> None:
    response = client.post("/admin/partners/northgate/setup-link", data=HENRIK | changes)
    assert response.status_code == 422
    assert response.text.count('aria-invalid="true"') == 1
    assert send_waiting_mails() == len(outbox) == 0


def test_each_step_names_the_firm_and_the_callback_shows_its_end(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    path = send_link(client)
    guide = nobody.get(path).text
    for page in (guide, nobody.get(f"{path}/keys").text):
        assert partner.name in page.partition('<p class="lead">')[2].partition("</p>")[0]
    for page in (guide, client.get("/admin/partners/northgate").text):
        assert re.search(r'<textarea id="[a-z-]+" rows="2" readonly>http[^<]+/callback/</textarea>', page)


def test_the_guide_has_every_value_of_the_article(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    response = nobody.get(send_link(client))
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    for value in (
        *("AdvisorStream Integration", "AdvisorStream_Integration", "as_support@broadridge.com", CALLBACK),
        *("External Client App Manager", "App Manager", "Require secret for Web Server Flow", "refresh_token"),
        *("Permitted Users", "Relax IP restrictions", "valid until revoked", PKCE_LABEL, "Email Opt Out", ada.name),
    ):
        assert value in response.text, value
    assert "Log out" not in response.text


def test_edit_is_asked_for_only_if_the_firm_wants_salesforce_told(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    path = send_link(client)
    assert "Contact and Lead: Edit" not in nobody.get(path).text
    partner.writes_opt_outs_back = True
    db.session.commit()
    assert "Contact and Lead: Edit" in nobody.get(path).text


def test_the_firms_admin_sees_exactly_what_is_wrong_and_loses_no_input(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, org: Running, outbox: list[Any]
) -> None:
    register(org)
    path = send_link(client)
    refused = nobody.post(f"{path}/keys", data={"url": org.url, "key": KEY, "secret": WRONG})
    assert refused.status_code == 422
    assert "Salesforce refused the secret" in refused.text
    assert "invalid client credentials" in refused.text
    assert f'value="{org.url}"' in refused.text
    assert f'value="{KEY}"' in refused.text
    assert WRONG not in refused.text
    assert not partner.is_set_up
    done = nobody.post(f"{path}/keys", data={"url": org.url, "key": KEY, "secret": f" {SECRET} "})
    assert done.status_code == 200
    assert "Your org is ready" in done.text
    assert "5 checks are good; 6 others need an advisor" in done.text
    assert done.text.count("Not known yet") == 6
    assert done.text.count("Can only be seen with an advisor") == 1, "the reason is said once"
    assert "Setup › External Client Apps › OAuth Usage" in done.text  # where an External Client App is ended
    assert "AdvisorStream Integration › Block" in done.text  # where a Connected App is
    db.session.expire_all()
    assert partner.is_ready
    assert partner.salesforce_url == org.url
    assert "Henrik Sørensen used it" in client.get("/admin/partners/northgate").text
    send_waiting_mails()
    to_ada = outbox[-2]
    assert to_ada.to == [ada.email]
    assert "/admin/partners/northgate" in to_ada.body


def test_the_firms_admin_keeps_in_a_mail_what_was_done_and_how_to_end_it(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, org: Running, outbox: list[Any]
) -> None:
    register(org)
    nobody.post(f"{send_link(client)}/keys", data={"url": org.url, "key": KEY, "secret": SECRET})
    send_waiting_mails()
    kept = outbox[-1]
    assert kept.to == ["henrik@northgate.example"]
    assert kept.subject == "Northgate Wealth: your Salesforce is set up for AdvisorStream"
    assert "5 checks are good, and 6 others wait for the first advisor's permission" in kept.body
    assert "/help/salesforce-admin#end" in kept.body
    assert "If that was not you" in kept.body
    assert KEY not in kept.body
    assert "/partner-setup/" not in kept.body  # the link is closed


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"url": "https://evil.example"}, "url"), ({"key": ""}, "key"), ({"secret": ""}, "secret")],
)
def test_invalid_setup_input_is_explained_beside_its_field(
    changes: dict[str, str], field: str, client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    entered = {"url": "https://northgate.my.salesforce.com", "key": KEY, "secret": SECRET}
    response = nobody.post(f"{send_link(client)}/keys", data=entered | changes)
    assert response.status_code == 422
    assert f'id="{field}-error"' in response.text
    assert SECRET not in response.text


def test_what_the_address_becomes_is_shown_before_saving(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    pasted = "https://northgate--uat.sandbox.lightning.force.com/lightning/page/home"
    shown = nobody.post(f"{send_link(client)}/keys", data={"url": pasted, "show": "1"})
    assert shown.status_code == 200
    assert "https://northgate--uat.sandbox.my.salesforce.com</strong>, a sandbox" in shown.text
    part = client.get(f"/admin/partners/preview?url={pasted}", part=True).text
    assert "https://northgate--uat.sandbox.my.salesforce.com</strong>, a sandbox" in part
    form = client.post("/admin/partners/new", data={"name": "Fjord", "url": pasted, "show": "1"})
    assert "northgate--uat.sandbox.my.salesforce.com</strong>" in form.text
    assert len(db.session.scalars(select(Partner)).all()) == 1


def test_nothing_is_saved_while_salesforce_does_not_answer(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, org: Running
) -> None:
    register(org)
    path = send_link(client)
    org.org.trouble.add("server_unavailable_html", kind="token")
    response = nobody.post(f"{path}/keys", data={"url": org.url, "key": KEY, "secret": SECRET})
    assert response.status_code == 422
    assert "Salesforce did not answer" in response.text
    assert not partner.is_set_up


def close_used(link: SetupLink) -> None:
    link.used_at = utcnow()


def close_revoked(link: SetupLink) -> None:
    link.revoked_at = utcnow()


def close_expired(link: SetupLink) -> None:
    link.expires_at = utcnow() - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("close", "words"),
    [(close_used, "It was used on <time"), (close_revoked, "It was revoked."), (close_expired, "It has expired.")],
)
def test_a_link_that_is_closed_says_so_and_nothing_more(
    close: Any, words: str, client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    path = send_link(client)
    close(db.session.scalars(select(SetupLink)).one())
    db.session.commit()
    for response in (nobody.get(path), nobody.get(f"{path}/keys"), nobody.post(f"{path}/keys", data={"key": KEY})):
        assert response.status_code == 410
        assert "This link no longer works" in response.text
        assert words in response.text
        assert "mailto:as_support@broadridge.com" in response.text
        assert 'href="/help/salesforce-admin"' in response.text
        assert "Northgate" not in response.text


@pytest.mark.parametrize("close", [close_used, close_revoked, close_expired])
def test_a_link_that_is_closed_while_salesforce_is_asked_stores_nothing(
    close: Any, client: FlaskClient, ada: User, partner: Partner, org: Running
) -> None:
    register(org)
    token = send_link(client).rsplit("/", 1)[1]
    found = setup_link.find_link(token)
    assert found
    close(found[0])
    db.session.commit()
    form = AppForm.entered(url=org.url, key=KEY, secret=SECRET)
    with pytest.raises(LinkIsGone):
        setup_link.enter_app(*found, form, org_access())
    assert db.session.scalars(select(Partner.consumer_key_sealed)).all() == [None]


def test_a_link_that_never_was_is_not_found(nobody: FlaskClient) -> None:
    response = nobody.get("/partner-setup/aaaaaaaaaaaaaaaaaaaaaaaa")
    assert response.status_code == 404
    assert "This link no longer works" in response.text
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_a_new_link_takes_the_place_of_the_one_before(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    first, second = send_link(client), send_link(client)
    assert nobody.get(first).status_code == 410
    assert nobody.get(second).status_code == 200
    assert client.post("/admin/partners/northgate/setup-link/revoke").status_code == 303
    assert nobody.get(second).status_code == 410


def test_guessing_setup_links_is_limited(nobody: FlaskClient) -> None:
    answers = [nobody.get(f"/partner-setup/guess{n}").status_code for n in range(22)]
    assert answers[:20] == [404] * 20
    assert answers[-1] == 429


def test_a_form_without_its_token_is_refused(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    response = nobody.post(f"{send_link(client)}/keys", data={"key": KEY}, forged=True)
    assert response.status_code == 400
    assert "This form can&#39;t be sent any more" in response.text


def test_no_secret_is_left_anywhere(
    app: Flask,
    client: FlaskClient,
    nobody: FlaskClient,
    partner: Partner,
    org: Running,
    outbox: list[Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Checks every page, every log line at debug level, every mail and the whole database."""
    register(org)
    ada = make_admin()
    log_in(client, ada)
    pages: list[str] = []
    with caplog.at_level(logging.DEBUG):
        setup = send_link(client)
        entered = ({"url": org.url, "key": KEY, "secret": secret} for secret in (WRONG, SECRET))
        pages += [nobody.post(f"{setup}/keys", data=data).text for data in entered]
        change = {"name": "Northgate", "url": org.url, "key": KEY, "secret": WRONG}
        client.post("/admin/partners/northgate", data=change)
        invited = client.post(
            "/admin/partners/northgate/advisors", data={"name": "Alice", "email": "alice@northgate.example"}
        )
        invitation = link_of(invited.text)
        nobody.post(invitation, data={"new": "a password nobody knows"})
        nobody.post("/password/forgot", data={"email": "alice@northgate.example"})
        waiting = dump()
        send_waiting_mails()
        reset = re.search(r"5000(/password/\S+)", outbox[-1].body)
        admin_pages = ("/admin/partners", "/admin/partners/northgate", "/admin/partners/northgate/advisors")
        of_admins = [client.get(path).text for path in admin_pages]
    assert reset
    said = capfd.readouterr()
    tokens = [path.rsplit("/", 1)[1] for path in (setup, invitation, reset.group(1))]
    password = "a password nobody knows"
    logged = caplog.text + said.out + said.err
    mails = "\n".join(letter.body + letter.subject for letter in outbox)
    for hidden in (SECRET, WRONG, password):
        for place, words in (
            ("pages", "".join(pages + of_admins)),
            ("logs", logged),
            ("mails", mails),
            ("database", waiting + dump()),
        ):
            assert hidden not in words, f"{hidden} in {place}"
    for token in tokens:
        for place, words in (("pages", "".join(of_admins)), ("logs", logged), ("database", waiting + dump())):
            assert token not in words, f"a token in {place}"
    assert KEY not in dump()


def come_back(browser: FlaskClient, org: Running, salesforce_user: str) -> None:
    """Connect as this person: press the button, log in at Salesforce, press Allow, and bring back what it answers."""
    started = browser.post("/settings/integrations/salesforce/connect", part=True)
    answer = visit(started.headers["HX-Redirect"], salesforce_user)
    query = {"state": answer.state, "code": answer.code, "error": answer.error}
    came = browser.get("/salesforce/salesforce_as/login/callback/", query_string={k: v for k, v in query.items() if v})
    assert came.status_code == 303


def line_of(page: str, code: str) -> str:
    """Return the line of the list of checks."""
    found = re.search(rf'<li[^>]* data-check="{code}">.*?</li>', page, re.DOTALL)
    assert found
    return found.group(0)


def test_what_needs_a_user_is_checked_when_the_first_one_connects(
    client: FlaskClient, nobody: FlaskClient, ada: User, org: Running
) -> None:
    register(org)
    amara = org.org.add_user(name="Amara Okafor", username="amara@northgate.example")
    org.org.hide_field("Lead", "HasOptedOutOfEmail")
    made = make_partner(url=org.url, key=KEY, secret=SECRET, slug="northgate")
    before = client.get("/admin/partners/northgate").text
    assert "Not known yet" in line_of(before, "opt_out")
    log_in(nobody, make_advisor(made))
    come_back(nobody, org, amara)
    after = client.get("/admin/partners/northgate").text
    assert "To fix" in line_of(after, "opt_out")
    assert "Object Manager › Lead" in line_of(after, "opt_out")
    for code in ("scopes", "api", "lead", "allowance", "secret", "callback"):
        assert "Good" in line_of(after, code), code
    assert "Needs attention" in client.get("/admin/partners").text
    mark = org.org.calls.mark()
    org.org.show_field("Lead", "HasOptedOutOfEmail")
    client.post("/admin/partners/northgate/check")
    assert "Good" in line_of(client.get("/admin/partners/northgate").text, "opt_out")
    assert len(org.org.calls.since(mark)) == 8  # six without a user, two with


def test_checks_that_find_nothing_new_cost_the_next_advisor_nothing(
    client: FlaskClient, nobody: FlaskClient, ada: User, org: Running
) -> None:
    register(org)
    made = make_partner(url=org.url, key=KEY, secret=SECRET, slug="northgate")
    described = []
    for name in ("amara", "jonas"):
        user = org.org.add_user(name=name.title(), username=f"{name}@northgate.example")
        browser = nobody.application.test_client()
        log_in(browser, make_advisor(made, name=name.title()))
        mark = org.org.calls.mark()
        come_back(browser, org, user)
        described.append(sum("describe" in call.tags for call in org.org.calls.since(mark)))
    assert described == [2, 0]


def test_a_log_in_that_salesforce_refuses_is_shown_to_the_advisor_and_turns_no_check_red(
    client: FlaskClient, nobody: FlaskClient, ada: User, org: Running
) -> None:
    """The text that a browser brings may be forged. Admins see Salesforce's own answers, and a check can't see a block."""
    register(org, blocked=True)
    amara = org.org.add_user(name="Amara Okafor", username="amara@northgate.example")
    log_in(nobody, make_advisor(make_partner(url=org.url, key=KEY, secret=SECRET, slug="northgate")))
    come_back(nobody, org, amara)
    assert "Not asked yet" in line_of(client.get("/admin/partners/northgate").text, "key")
    assert "Unblock" in nobody.get("/settings/integrations?open=salesforce").text


def test_a_mistyped_opt_out_field_is_told_at_once_and_what_is_wrong_is_said(
    client: FlaskClient, ada: User, org: Running
) -> None:
    desk = ConnectingDesk(org)
    desk.connect()
    path = f"/admin/partners/{desk.partner.slug}"
    typed = {"name": desk.partner.name, "url": org.url, "key": APP_KEY, "opt_out_field": "HasOptedOutOfEmial"}
    client.post(path, data=typed)
    page = unescape(client.get(path).text)
    assert "Saved, and 1 check needs fixing. First: The connected advisor can't see a field HasOptedOutOfEmial" in page
    assert "Either there is none of that name, or it is hidden" in page
