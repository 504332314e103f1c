"""What admins do with advisors, and the links for setting a password."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.accounts import users
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Contact, LeadState, Partner, PasswordLink, User, WaitingMail
from tests.factories import (
    PASSWORD,
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
)
from tests.mailing import send_waiting_mails
from tests.signing_up import someone_signs_up

ALICE = {"name": "Alice Moreau", "email": "Alice@Northgate.example"}
NEW = "seven quiet harbours"
LIST = "/admin/partners/northgate/advisors"


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    made = make_admin()
    log_in(client, made)
    return made


@pytest.fixture
def partner(app: Flask) -> Partner:
    return make_partner(slug="northgate")


@pytest.fixture
def nobody(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def outbox(app: Flask) -> list[Any]:
    mailman = app.extensions["mailman"]
    mailman.outbox = []
    found: list[Any] = mailman.outbox
    return found


@pytest.fixture
def revoking(app: Flask) -> Any:
    with requests_mock.Mocker() as salesforce:
        yield salesforce.post("https://northgate.my.salesforce.com/services/oauth2/revoke")


def link_of(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:5000(/password/[\w-]+)", text)
    assert found
    return found.group(1)


def invite(client: FlaskClient) -> str:
    response = client.post(LIST, data=ALICE)
    assert response.status_code == 200
    return link_of(response.text)


def alice() -> User:
    db.session.rollback()
    return db.session.scalars(select(User).where(User.email == "alice@northgate.example")).one()


def test_an_advisor_is_invited_sets_a_password_and_is_in(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, outbox: list[Any]
) -> None:
    path = invite(client)
    assert outbox == []  # the page didn't wait for the mail server
    send_waiting_mails()
    assert outbox[0].to == ["alice@northgate.example"]
    assert path in outbox[0].body
    assert "Invited" in client.get(LIST).text
    shown = nobody.get(path)
    assert "Welcome, Alice Moreau" in shown.text
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    done = nobody.post(path, data={"new": NEW})
    assert done.status_code == 303
    assert done.location == "/settings/integrations?open=salesforce"
    assert nobody.get(done.location).status_code == 200
    assert alice().invited_at is None
    assert users.log_in(ALICE["email"], NEW)
    assert nobody.get(path).status_code == 410
    assert nobody.post(path, data={"new": "another harbour or two"}).status_code == 410


def test_an_easy_password_is_refused_and_the_link_works_on(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner
) -> None:
    path = invite(client)
    refused = nobody.post(path, data={"new": "short"})
    assert refused.status_code == 422
    assert "Use at least 12 characters" in refused.text
    assert nobody.post(path, data={"new": NEW}).status_code == 303


def test_no_log_in_works_before_a_password_is_set(client: FlaskClient, ada: User, partner: Partner) -> None:
    invite(client)
    for guess in ("", "!", "nobody has this password"):
        assert users.log_in(ALICE["email"], guess) is None


@pytest.mark.parametrize(
    ("changes", "field"), [({"name": " "}, "name"), ({"email": "alice"}, "email"), ({"email": ""}, "email")]
)
def test_an_invalid_invitation_is_refused(
    changes: dict[str, str], field: str, client: FlaskClient, ada: User, partner: Partner, outbox: list[Any]
) -> None:
    response = client.post(LIST, data=ALICE | changes)
    assert response.status_code == 422
    assert f'id="{field}-error"' in response.text
    assert send_waiting_mails() == len(outbox) == 0


def test_an_address_is_invited_once(client: FlaskClient, ada: User, partner: Partner) -> None:
    first = invite(client)
    assert "Someone already has this address" in client.post(LIST, data=ALICE).text
    again = client.post(f"{LIST}/{alice().id}/invite")
    assert client.application.test_client().get(first).status_code == 410
    assert client.application.test_client().get(link_of(again.text)).status_code == 200


def test_while_the_mail_server_is_away_the_page_has_the_link_and_the_mail_waits(
    app: Flask, client: FlaskClient, ada: User, partner: Partner, outbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> int:
        raise ConnectionRefusedError

    with monkeypatch.context() as away:
        away.setattr("flask_mailman.backends.locmem.EmailBackend.send_messages", refuse)
        page = client.post(LIST, data=ALICE).text
        assert "copy the link and hand it over yourself" in page
        assert client.application.test_client().get(link_of(page)).status_code == 200
        assert send_waiting_mails() == 0
    db.session.scalars(select(WaitingMail)).one().due_at = utcnow()
    db.session.commit()
    assert send_waiting_mails() == 1
    assert link_of(page) in outbox[0].body


def test_a_deactivated_advisor_is_out_at_once(
    client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, revoking: Any
) -> None:
    made = make_advisor(partner)
    connection = make_connection(made)
    make_contact(connection)
    log_in(nobody, made)
    assert nobody.get("/contacts").status_code == 200
    assert client.post(f"{LIST}/{made.id}/deactivate").status_code == 303
    assert nobody.get("/contacts").status_code == 302
    assert users.log_in(made.email, PASSWORD) is None
    db.session.rollback()
    assert db.session.get_one(Connection, connection.id).is_disconnected
    assert revoking.call_count == 1
    assert "Deactivated" in client.get(LIST).text
    client.post(f"{LIST}/{made.id}/let-back-in")
    assert users.log_in(made.email, PASSWORD)
    assert nobody.get("/contacts").status_code == 302


def test_deactivating_is_asked_first_and_says_what_it_does(
    client: FlaskClient, ada: User, partner: Partner, revoking: Any
) -> None:
    made = make_advisor(partner)
    make_connection(made, username="alice@northgate.example")
    someone_signs_up(made)
    listed = client.get(LIST).text
    path = f"{LIST}/{made.id}/deactivate"
    assert f'href="{path}"' in listed
    assert f'action="{path}"' not in listed
    page = client.get(path).text
    for words in (
        "Deactivate Alice Moreau?",
        "logged out everywhere",
        "disconnected from Salesforce",
        "1 lead that is",
    ):
        assert words in page
    assert f'action="{path}"' in page
    db.session.rollback()
    assert db.session.get_one(User, made.id).is_active
    assert revoking.call_count == 0
    client.post(path)
    assert client.get(path).status_code == 404
    client.get(LIST)  # shows the message that waits
    assert "disconnected" not in client.get(f"{LIST}/{make_advisor(partner).id}/deactivate").text


def test_the_page_says_what_stays_with_the_firm(client: FlaskClient, ada: User, partner: Partner) -> None:
    made = make_advisor(partner)
    make_partner(name="Fjord")
    path = f"{LIST}/{made.id}/move"
    assert "People who sign up until then" in client.get(path).text
    someone_signs_up(made)
    someone_signs_up(made, "rose@fjord.example").state = LeadState.SENT
    db.session.commit()
    page = client.get(path).text
    assert "2 people who signed up so far" in page
    assert "1 lead is not in Northgate Wealth's Salesforce yet." in page
    assert "It waits here and never goes to another firm's." in page


@pytest.mark.parametrize(("contacts", "left"), [("remove", 1), ("keep", 2)])
def test_moving_an_advisor_disconnects_first(
    contacts: str, left: int, client: FlaskClient, nobody: FlaskClient, ada: User, partner: Partner, revoking: Any
) -> None:
    made, other = make_advisor(partner), make_partner(name="Fjord", slug="fjord")
    connection = make_connection(made)
    make_contact(connection)
    make_contact(made)
    log_in(nobody, made)
    path = f"{LIST}/{made.id}/move"
    assert "Fjord" in client.get(path).text
    refused = client.post(path, data={"partner": "northgate"})
    assert refused.status_code == 422
    assert "Choose the firm to move to" in refused.text
    assert (
        client.post(path, data={"partner": "fjord", "contacts": contacts}).location == "/admin/partners/fjord/advisors"
    )
    db.session.rollback()
    assert db.session.get_one(User, made.id).partner_id == other.id
    assert db.session.get_one(Connection, connection.id).is_disconnected
    assert revoking.call_count == 1
    assert len(db.session.scalars(select(Contact)).all()) == left
    assert nobody.get("/contacts").status_code == 302


@pytest.mark.parametrize("number", ["999", "x", "1" * 30])
@pytest.mark.parametrize("act", ["deactivate", "let-back-in", "move", "invite"])
def test_an_advisor_of_another_firm_is_not_found_here(
    act: str, number: str, client: FlaskClient, ada: User, partner: Partner
) -> None:
    stranger = make_advisor(make_partner(name="Fjord"))
    assert client.post(f"{LIST}/{number}/{act}").status_code == 404
    assert client.post(f"{LIST}/{stranger.id}/{act}").status_code == 404
    assert client.post(f"{LIST}/{ada.id}/{act}").status_code == 404


def test_a_forgotten_password_can_be_replaced(nobody: FlaskClient, partner: Partner, outbox: list[Any]) -> None:
    made = make_advisor(partner, email="alice@northgate.example")
    elsewhere = nobody.application.test_client()
    log_in(elsewhere, made)
    assert "Forgot your password?" in nobody.get("/login").text
    known = nobody.post("/password/forgot", data={"email": " ALICE@northgate.example"})
    send_waiting_mails()
    path = link_of(outbox[0].body)
    assert path.rsplit("/", 1)[1] not in known.text
    assert "Set a new password" in nobody.get(path).text
    assert nobody.post(path, data={"new": NEW}).status_code == 303
    assert users.log_in(made.email, NEW)
    assert elsewhere.get("/contacts").status_code == 302


def test_the_answer_is_the_same_for_an_unknown_address(
    nobody: FlaskClient, partner: Partner, outbox: list[Any]
) -> None:
    made = make_advisor(partner)
    make_advisor(partner, email="gone@northgate.example", deactivated_at=utcnow())
    pages = [
        nobody.post("/password/forgot", data={"email": email})
        for email in (made.email, "stranger@northgate.example", "gone@northgate.example")
    ]
    assert [page.status_code for page in pages] == [200, 200, 200]
    plain = {re.sub(r"[\w.]+<wbr>@[\w.]+", "…", page.text) for page in pages}
    assert len(plain) == 1
    assert send_waiting_mails() == 1
    assert [letter.to for letter in outbox] == [[made.email]]


def test_a_reset_ends_after_an_hour(nobody: FlaskClient, partner: Partner, outbox: list[Any]) -> None:
    made = make_advisor(partner)
    nobody.post("/password/forgot", data={"email": made.email})
    send_waiting_mails()
    db.session.scalars(select(PasswordLink)).one().expires_at = utcnow() - timedelta(seconds=1)
    db.session.commit()
    assert nobody.get(link_of(outbox[0].body)).status_code == 410


def test_guessing_password_links_is_limited(nobody: FlaskClient) -> None:
    answers = [nobody.get(f"/password/guess{n}").status_code for n in range(22)]
    assert answers[:20] == [410] * 20
    assert answers[-1] == 429


def test_an_admin_changes_a_name_at_once_and_an_address_when_it_is_confirmed(
    client: FlaskClient, ada: User, partner: Partner, outbox: list[Any], nobody: FlaskClient
) -> None:
    invite(client)
    send_waiting_mails()
    user, before = alice(), alice().email
    path = f"{LIST}/{user.id}/edit"
    assert client.post(path, data={"name": " ", "email": ada.email}).status_code == 422
    assert "Someone already has this address." in client.post(path, data={"name": "Al", "email": ada.email}).text
    outbox.clear()
    page = client.get(client.post(path, data={"name": "Alice Roy", "email": "Roy@Example.com"}).location).text
    assert "An email to roy@example.com asks to confirm it." in page
    send_waiting_mails()
    (asked,) = outbox
    assert asked.to == ["roy@example.com"]
    db.session.expire_all()
    assert (user.name, user.email) == ("Alice Roy", before)
    found = re.search(r"/email/\S+", asked.body)
    assert found
    assert nobody.get(found[0] + "x").status_code == 410
    assert "Confirm your new address" in nobody.get(found[0]).text
    db.session.expire_all()
    assert user.email == before
    outbox.clear()
    assert "Your address is changed" in nobody.post(found[0]).text
    db.session.expire_all()
    assert user.email == "roy@example.com"
    send_waiting_mails()
    assert sorted(letter.to[0] for letter in outbox) == sorted([before, "roy@example.com"])
    assert nobody.post(found[0]).status_code == 410  # it counts once


def test_an_admin_has_a_link_for_a_new_password_mailed(
    client: FlaskClient, ada: User, partner: Partner, outbox: list[Any], nobody: FlaskClient
) -> None:
    bob = make_advisor(partner, "Bob Tanner", email="bob@northgate.example")
    path = f"{LIST}/{bob.id}"
    assert "Send a link for a new password" in client.get(f"{path}/edit").text
    page = client.get(client.post(f"{path}/password-link").location).text
    assert "on its way to bob@northgate.example" in page
    send_waiting_mails()
    (letter,) = outbox
    assert letter.to == ["bob@northgate.example"]
    assert f"{ada.name} of AdvisorStream sends you this link" in letter.body
    found = re.search(r"/password/\S+", letter.body)
    assert found
    assert found[0] not in page, "it is not the admin's"
    assert nobody.post("/login", data={"email": bob.email, "password": PASSWORD}).status_code == 303
    assert nobody.post(found[0], data={"new": NEW}).status_code == 303
    assert nobody.post(found[0], data={"new": NEW}).status_code == 410
    invite(client)
    assert "Send a link for a new password" not in client.get(f"{LIST}/{alice().id}/edit").text
    assert client.post(f"{LIST}/{alice().id}/password-link").status_code == 404


def test_the_list_calls_a_connection_as_the_firm_board_does(client: FlaskClient, app: Flask) -> None:
    partner = make_connection(status="needs_reconnect").partner
    log_in(client, make_admin())
    for page in (f"/admin/partners/{partner.slug}/advisors", f"/admin/board?firm={partner.slug}"):
        assert '<span class="pill warn">Needs reconnecting</span>' in client.get(page).text
