"""Account Settings: profile, security, and the contact to ask if Salesforce is not there."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.accounts import links, passwords, users
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import PasswordLinkKind, User
from tests.factories import PASSWORD, log_in, make_admin, make_advisor, make_partner, save

NEW = "four unrelated words here"


@pytest.fixture
def alice(app: Flask, client: FlaskClient) -> User:
    made = make_advisor()
    log_in(client, made)
    return made


def test_integrations_are_in_the_navigation_only_when_the_firm_is_ready(client: FlaskClient, alice: User) -> None:
    assert alice.partner
    assert "Integrations" in client.get("/settings").text
    alice.partner.is_enabled = False
    save(alice.partner)
    page = client.get("/settings").text
    assert "/settings/integrations" not in page
    assert f"{alice.partner.name} is disabled at the moment" in page


def test_an_advisor_of_a_firm_that_is_not_set_up_sees_whom_to_contact(client: FlaskClient) -> None:
    log_in(client, make_advisor(make_partner(name="Calloway & Reyes", secret="")))
    page = client.get("/settings").text
    assert "Calloway &amp; Reyes has not been set up for it." in page
    assert "mailto:as_support@broadridge.com" in page
    assert "/settings/integrations" not in page


def test_admins_have_settings_without_a_firm(client: FlaskClient) -> None:
    log_in(client, make_admin())
    page = client.get("/settings").text
    assert "Salesforce isn" not in page
    assert ">Firms</a>" in page
    assert ">Contacts</a>" not in page


def test_the_current_link_is_marked(client: FlaskClient, alice: User) -> None:
    page = client.get("/settings/security").text
    assert '<a href="/settings/security" aria-current="page">Security</a>' in page
    assert '<a href="/settings" aria-current="true">Account Settings' in page


def test_the_current_link_is_marked_on_a_refused_form_as_well(client: FlaskClient, alice: User) -> None:
    page = client.post("/settings/security", data={"current": "wrong", "new": NEW}).text
    assert '<a href="/settings/security" aria-current="page">Security</a>' in page


def test_renaming(client: FlaskClient, alice: User) -> None:
    response = client.post("/settings", data={"name": "  Alice   Moreau-Ní Bhriain "})
    assert response.status_code == 303
    assert "Saved." in client.get(response.location).text
    assert alice.name == "Alice Moreau-Ní Bhriain"


@pytest.mark.parametrize(("name", "words"), [("  ", "Enter a name."), ("x" * 121, "Use 120 characters or fewer")])
def test_an_invalid_name_is_refused(name: str, words: str, client: FlaskClient, alice: User) -> None:
    response = client.post("/settings", data={"name": name})
    assert response.status_code == 422
    assert words in response.text
    assert 'aria-invalid="true"' in response.text
    assert alice.name == "Alice Moreau"


def test_what_a_form_adds_is_not_taken(client: FlaskClient, alice: User) -> None:
    email = alice.email
    client.post("/settings", data={"name": "Alice", "email": "x@x.example", "role": "admin", "partner_id": "9"})
    assert (alice.email, alice.role) == (email, "advisor")


def change(client: FlaskClient, current: str = PASSWORD, new: str = NEW) -> tuple[int, str]:
    response = client.post("/settings/security", data={"current": current, "new": new})
    return response.status_code, response.text


def test_changing_the_password_ends_the_other_sessions_and_not_this_one(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    elsewhere = app.test_client()
    log_in(elsewhere, alice)
    assert elsewhere.get("/settings").status_code == 200
    assert change(client)[0] == 303
    assert elsewhere.get("/settings").status_code == 302
    assert "Your password is changed." in client.get("/settings/security").text
    assert passwords.is_right(NEW, alice.password_hash)


@pytest.mark.parametrize(
    ("current", "new", "words"),
    [
        ("wrong", NEW, "That is not your current password. Nothing was changed."),
        (PASSWORD, PASSWORD, "This is the password you have."),
        (PASSWORD, "short", "Use at least 12 characters; this has 5."),
        (PASSWORD, "é" * 129, "Use at most 128 characters"),
        (PASSWORD, "Password12345!", "Many people use this password"),
        (PASSWORD, "aaaaaaaaaaaabbbb", "Use at least 5 different characters."),
        (PASSWORD, "Alice Moreau", "This is made of your name or address"),
        (PASSWORD, "NorthgateWealth2026!", "This is made of your name or address, your firm&#39;s name or ours."),
        (PASSWORD, "Summer2026!!!!", "This is easy to guess"),
    ],
)
def test_an_invalid_new_password_is_refused(
    current: str, new: str, words: str, client: FlaskClient, alice: User
) -> None:
    before = alice.password_hash
    status, page = change(client, current, new)
    assert status == 422
    assert words in page
    assert new not in page.replace(alice.name, "")
    assert alice.password_hash == before


def test_a_password_that_its_owner_resets_meanwhile_stays(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another session that knows the old password is changing it at this moment; hashing takes a while."""
    token, is_right = links.make_link(alice, PasswordLinkKind.RESET), passwords.is_right

    def check_slowly(password: str, password_hash: str | None) -> bool:
        answer = is_right(password, password_hash)
        monkeypatch.undo()
        links.set_password(token, NEW)
        return answer

    monkeypatch.setattr(passwords, "is_right", check_slowly)
    with pytest.raises(InvalidFields) as refused:
        users.change_password(alice, PASSWORD, "somebody elses new words")
    assert refused.value.errors["current"] == "Your password was changed a moment ago. This change was not made."
    db.session.refresh(alice)
    assert is_right(NEW, alice.password_hash)


def test_guessing_the_current_password_is_limited(client: FlaskClient, alice: User) -> None:
    assert [change(client, "wrong")[0] for _ in range(11)] == [422] * 10 + [429]


def test_any_characters_make_a_password(client: FlaskClient, alice: User) -> None:
    assert change(client, new="пароль из слов ☂ e\u0301")[0] == 303
    assert passwords.is_right("пароль из слов ☂ é", alice.password_hash)
