"""The page behind the unsubscribe link of every mail, and the one-click POST of mail programs."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from asapp.accounts import advisors, key_rotation
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.status import contact_rows, reason_of
from asapp.contacts.suppressions import UNDO_WITHIN
from asapp.contacts.unsubscribe_links import mask
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import Contact, Reason, SuppressionEvent, User
from asapp.partners import erasure, offboarding
from tests.factories import log_in, make_advisor, make_contact, make_partner, org_access
from tests.mail_links import path_of_link

RUTH = "ruth@river.example"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def amara(app: Flask) -> User:
    return make_advisor(name="Amara Okafor")


@pytest.fixture
def path(amara: User) -> str:
    assert amara.partner is not None
    hashed = address_hash(RUTH, address_key(db.session(), amara.partner, org_access().vault))
    make_contact(amara, first_name="Ruth", email=RUTH, address_hash=hashed)
    return path_of_link(amara, RUTH)


def press(client: FlaskClient, path: str, **kwargs: Any) -> TestResponse:
    """Post as a browser or a mail program does, with no token except the link's own."""
    return client.post(path, forged=True, **kwargs)


def events() -> list[tuple[str, str, bool]]:
    """Return (step, source, for the whole firm or not) of all stored events."""
    db.session.rollback()
    rows = db.session.scalars(select(SuppressionEvent).order_by(SuppressionEvent.id))
    return [(row.step, row.source, row.user_id is None) for row in rows]


def reasons() -> list[str | None]:
    """Return why each contact is inactive."""
    db.session.rollback()
    return list(db.session.scalars(contact_rows(reason_of(utcnow()))))


def test_opening_the_link_changes_nothing_and_names_whose_mails_they_are(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    assert "Stop these emails?" in page
    assert "Amara Okafor" in page
    assert "r•••@r•••.example" in page
    assert RUTH not in page
    client.head(path)
    assert events() == []


def test_its_button_stops_the_mails_of_this_advisor(client: FlaskClient, path: str) -> None:
    answer = press(client, path, data={"scope": "advisor"})
    assert answer.status_code == 303
    page = client.get(answer.location).text
    assert "Amara Okafor won't email" in page
    assert "Undo" in page
    assert events() == [("unsubscribed", "page", False)]


def test_a_person_may_choose_the_whole_firm(client: FlaskClient, path: str) -> None:
    press(client, path, data={"scope": "firm"})
    assert "No one at" in client.get(path).text
    assert events() == [("unsubscribed", "page", True)]


def test_the_firm_can_be_chosen_afterwards(client: FlaskClient, path: str) -> None:
    press(client, path, data={})
    assert "Everyone at" in client.get(f"{path}?scope=firm").text
    press(client, path, data={"scope": "firm"})
    assert "No one at" in client.get(f"{path}?scope=firm").text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_one_click_of_a_mail_program_is_answered_at_once(client: FlaskClient, path: str, kind: str) -> None:
    for _ in range(2):
        answer = press(client, path, data=ONE_CLICK, content_type=kind)
        assert answer.status_code == 200
        assert answer.text == "You are unsubscribed.\nNo more emails will be sent to this address.\n"
        assert "Set-Cookie" not in answer.headers
    assert events() == [("unsubscribed", "one_click", False)] * 2


def test_undo_for_ten_minutes(client: FlaskClient, path: str) -> None:
    press(client, path, data={})
    answer = press(client, path, data={"do": "undo"})
    assert "You're still subscribed" in client.get(answer.location).text
    assert "Stop these emails?" in client.get(path).text


def test_undo_holds_at_the_firm_that_the_advisor_has_moved_to(client: FlaskClient, path: str, amara: User) -> None:
    advisors.move(amara, make_partner(), True, org_access())
    press(client, path, data={})
    assert reasons() == [Reason.UNSUBSCRIBED]
    answer = press(client, path, data={"do": "undo"})
    assert "You're still subscribed" in client.get(answer.location).text
    assert reasons() == [None]


def test_after_ten_minutes_there_is_no_undo(client: FlaskClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    press(client, path, data={})
    later = utcnow() + UNDO_WITHIN + timedelta(seconds=1)
    monkeypatch.setattr("asapp.contacts.suppressions.utcnow", lambda: later)
    assert "Undo" not in client.get(path).text
    press(client, path, data={"do": "undo"})
    assert "You're unsubscribed" in client.get(path).text


def test_no_session_is_needed_and_none_is_made(client: FlaskClient, path: str, amara: User) -> None:
    for answer in (client.get(path), press(client, path, data={})):
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
    log_in(client, amara)
    assert "You're unsubscribed" in client.get(path).text


def changed(path: str, place: int) -> str:
    raw = bytearray(urlsafe_b64decode(path.rpartition("/")[2]))
    raw[place] ^= 1
    return f"/u/{urlsafe_b64encode(bytes(raw)).decode()}"


@pytest.mark.parametrize("place", [0, 1, 17, 33, 64, 65, 80])
def test_a_forged_link_says_so_and_reveals_nothing(client: FlaskClient, path: str, place: int) -> None:
    for answer in (client.get(changed(path, place)), press(client, changed(path, place), data=ONE_CLICK)):
        assert answer.status_code == 404
        assert "This link is incomplete" in answer.text
        assert "Amara" not in answer.text
    assert events() == []


@pytest.mark.parametrize("token", ["x", "é" * 108, "A" * 108, "A" * 4000])
def test_nonsense_is_a_damaged_link(client: FlaskClient, token: str) -> None:
    answer = client.get(f"/u/{token}")
    assert answer.status_code == 404
    assert "Nothing has changed." in answer.text


def test_a_link_that_was_cut_short_is_damaged(client: FlaskClient, path: str) -> None:
    assert client.get(path[:-1]).status_code == 404


def test_links_survive_new_keys(own_app: Flask) -> None:
    amara = make_advisor(name="Amara Okafor")
    path = path_of_link(amara, RUTH)
    new_key = b"n" * 32
    old_keys = own_app.extensions["asapp.config"].encryption_keys
    key_rotation.rotate(Vault([new_key, *old_keys]))
    own_app.extensions["asapp.vault"] = Vault([new_key])
    own_app.secret_key = "another one"
    assert press(own_app.test_client(), path, data=ONE_CLICK).status_code == 200
    assert events() == [("unsubscribed", "one_click", False)]


def test_the_link_of_a_deleted_firm_says_that_no_more_comes(client: FlaskClient, path: str, amara: User) -> None:
    assert amara.partner is not None
    offboarding.delete_partner(amara.partner, org_access())
    for answer in (client.get(path), press(client, path, data={})):
        assert answer.status_code == 200
        assert "You won't get any more emails" in answer.text
    assert press(client, path, data=ONE_CLICK).status_code == 200


def test_the_link_of_an_erased_advisor_says_that_no_more_comes(client: FlaskClient, path: str, amara: User) -> None:
    erasure.erase_account(amara, org_access())
    assert "You won't get any more emails" in client.get(path).text


def test_the_address_is_not_shown_once_no_contact_has_it(client: FlaskClient, path: str) -> None:
    db.session.execute(update(Contact).values(email="", address_hash=None))
    db.session.commit()
    page = client.get(path).text
    assert "They go to" not in page
    press(client, path, data={})
    assert 'email <strong class="nowrap">this address</strong> any more' in client.get(path).text


def test_one_link_is_limited_and_others_are_not(client: FlaskClient, path: str, amara: User) -> None:
    answers = [press(client, path, data=ONE_CLICK).status_code for _ in range(31)]
    assert answers == [200] * 30 + [429]
    assert press(client, path_of_link(amara, "someone@else.example"), data=ONE_CLICK).status_code == 200


def test_guessing_links_is_limited(client: FlaskClient, path: str) -> None:
    answers = [client.get(changed(path, 64)).status_code for _ in range(31)]
    assert answers == [404] * 30 + [429]


def test_the_mask_keeps_one_letter_on_each_side() -> None:
    assert mask("rosa@acme.co.example") == "r•••@a•••.example"
    assert mask("r@a.example") == "r•••@a•••.example"
