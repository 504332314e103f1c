"""A sender for tests: a key, and API calls with it."""

from __future__ import annotations

from typing import Any

from flask import current_app
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.accounts import api_keys
from asapp.audit.entries import COMMAND
from asapp.contacts.addresses import address_hash, address_key
from asapp.core.extensions import db
from asapp.models import Connection, Contact, ContactList, ListKind, ListMember, Partner, Scope, User
from tests.factories import make_contact, save

PROBLEM = "application/problem+json"


def make_key(*scopes: Scope, partner: Partner | None = None, **more: Any) -> str:
    """Return a new key; without scopes it has all of them."""
    key = api_keys.make_key("Mail engine", scopes or tuple(Scope), partner, more.get("expires_at"), COMMAND)
    db.session.rollback()
    return key


class Sender:
    """Makes calls with one key. headers: additional or different ones."""

    def __init__(self, client: FlaskClient, key: str | None) -> None:
        self._client, self.key = client, key

    def get(self, path: str, **options: Any) -> TestResponse:
        return self._call("GET", path, options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self._call("POST", path, {"json": body, **options} if body is not None else options)

    def lines(self, path: str) -> TestResponse:
        return self.get(path, headers={"Accept": "application/x-ndjson"})

    def _call(self, method: str, path: str, options: dict[str, Any]) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers |= options.pop("headers", {})
        return self._client.open(f"/api/v1{path}", method=method, headers=headers, forged=True, **options)


def problem_of(response: TestResponse) -> str:
    """Return the code at the end of a problem's type."""
    assert response.mimetype == PROBLEM, response.text
    body = response.get_json()
    assert body["status"] == response.status_code
    assert {"type", "title", "detail", "request_id"} <= set(body)
    assert body["type"].startswith("/api/docs#")
    return str(body["type"]).partition("#")[2]


def hash_of(email: str, partner: Partner) -> bytes:
    return address_hash(email, address_key(db.session(), partner, current_app.extensions["asapp.vault"]))


def make_person(owner: User | Connection, email: str, **columns: Any) -> Contact:
    """Make a contact whose address is hashed with the firm's key, as in production."""
    user = owner if isinstance(owner, User) else db.session.get_one(User, owner.user_id)
    assert user.partner
    return make_contact(owner, email=email, address_hash=hash_of(email, user.partner), **columns)


def make_list(advisor: User, name: str = "Clients", *members: Contact) -> ContactList:
    made = ContactList(user_id=advisor.id, kind=ListKind.OWN, name=name, name_key=name.casefold())
    save(made)
    save(*(ListMember(list_id=made.id, contact_id=contact.id) for contact in members))
    return made


def make_system_list(advisor: User, kind: ListKind = ListKind.SALESFORCE_CONTACTS) -> ContactList:
    made = ContactList(user_id=advisor.id, kind=kind, name=kind.value, name_key=kind.value)
    save(made)
    return made
