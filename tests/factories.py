"""Rows for tests, as plain functions. Alice and Bob are at the same firm, Charlie is at another, Ada is the admin."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from argon2 import PasswordHasher
from flask import current_app
from flask.testing import FlaskClient

from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    BlockedAddress,
    BlockedBy,
    Connection,
    ConnectionStatus,
    Contact,
    ContactSource,
    Partner,
    Role,
    RunStatus,
    RunTrigger,
    SyncRun,
    User,
)
from asapp.salesforce.hosts import to_18

A = TypeVar("A", bound=OrgAccess)
PASSWORD = "correct horse battery staple"
ORG_ID = to_18("00D5g000004XyZa")
LONG_AGO = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def save(*rows: Any) -> None:
    db.session.add_all(rows)
    db.session.commit()


def org_access(kind: type[A] = OrgAccess, **more: Any) -> A:  # type: ignore[assignment]
    """The app's way to orgs; or one of another kind, with what else that needs."""
    access: OrgAccess = current_app.extensions["asapp.org_access"]
    return kind(access.vault, access.callback_url, access.allow_loopback, **more)


def make_partner(
    name: str = "Northgate Wealth", url: str = "https://northgate.my.salesforce.com", **columns: Any
) -> Partner:
    key, secret = columns.pop("key", "consumer-key"), columns.pop("secret", "consumer-secret")
    slug = columns.pop("slug", f"{name.lower().replace(' ', '-')}-{next(_numbers)}")
    partner = Partner(public_id=_uuid(), name=name, slug=slug, salesforce_url=url, **columns)
    vault = current_app.extensions["asapp.vault"]
    if key:
        partner.seal(vault, "consumer_key_sealed", key)
    if secret:
        partner.seal(vault, "consumer_secret_sealed", secret)
    save(partner)
    return partner


def make_advisor(partner: Partner | None = None, name: str = "Alice Moreau", **columns: Any) -> User:
    return _make_user(name, Role.ADVISOR, partner=partner or make_partner(), **columns)


def make_admin(name: str = "Ada Lindgren", **columns: Any) -> User:
    return _make_user(name, Role.ADMIN, **columns)


def _make_user(name: str, role: Role, **columns: Any) -> User:
    email = columns.pop("email", f"{name.split()[0].lower()}.{next(_numbers)}@example.com")
    user = User(
        name=name, email=email, role=role, password_hash=_password_hash(), session_nonce=_uuid()[:32], **columns
    )
    save(user)
    return user


def make_connection(advisor: User | None = None, **columns: Any) -> Connection:
    advisor = advisor or make_advisor()
    number = next(_numbers)
    vault = current_app.extensions["asapp.vault"]
    access_token = columns.pop("access_token", f"00Dxx!access{number}")
    refresh_token = columns.pop("refresh_token", f"5Aep861refresh{number}")
    assert advisor.partner
    defaults = {
        "org_id": ORG_ID,
        "salesforce_user_id": to_18(f"0055g00000{number:05d}"),
        "username": f"{advisor.name.split()[0].lower()}@northgate.example",
        "instance_url": advisor.partner.salesforce_url,
        "scopes": "api id refresh_token",
    }
    connection = Connection(
        public_id=_uuid(), user_id=advisor.id, partner_id=advisor.partner.id, **(defaults | columns)
    )
    connection.seal(vault, "access_token_sealed", access_token)
    connection.seal(vault, "refresh_token_sealed", refresh_token)
    save(connection)
    return connection


def make_synced_connection(advisor: User | None = None, **columns: Any) -> Connection:
    """A connection whose last sync was good, a moment ago."""
    now = utcnow()
    times = {"watermark": now, "first_synced_at": now, "last_good_sync_at": now}
    return make_connection(advisor, **({**times, "opt_outs_known_until": now.replace(year=now.year + 1)} | columns))


def make_contact(owner: User | Connection, *, is_twin: bool = False, **columns: Any) -> Contact:
    """owner: a user for a manual contact, a connection for one from Salesforce. is_twin: of a record that opted out."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "first_name": "Zoë",
        "last_name": f"Lindström {number}",
        "email": f"zoe.{number}@fjord.example",
    }
    if isinstance(owner, Connection):
        defaults |= {
            "user_id": owner.user_id,
            "connection_id": owner.id,
            "salesforce_id": to_18(f"0035g00000{number:05d}"),
            "source": ContactSource.SALESFORCE,
            "system_modstamp": LONG_AGO,
        }
    else:
        defaults |= {"user_id": owner.id, "source": ContactSource.MANUAL}
    contact = Contact(**(defaults | columns))
    save(contact)
    if is_twin:
        make_twin(contact)
    return contact


def make_twin(contact: Contact) -> BlockedAddress:
    """Another record with the contact's address opts out."""
    contact.address_hash = contact.address_hash or hashlib.sha256(contact.email.lower().encode()).digest()
    owner = db.session.get_one(User, contact.user_id)
    connection_id = contact.connection_id or make_connection(owner, status=ConnectionStatus.DISCONNECTED).id
    blocked = BlockedAddress(
        connection_id=connection_id,
        salesforce_id=to_18(f"0035g00TWIN{next(_numbers):04d}"),
        kind=BlockedBy.CONTACT,
        user_id=owner.id,
        address_hash=contact.address_hash,
    )
    save(blocked)
    return blocked


def make_run(connection: Connection, status: str = RunStatus.COMPLETE, **columns: Any) -> SyncRun:
    run = SyncRun(connection_id=connection.id, status=status, **({"trigger": RunTrigger.MANUAL} | columns))
    save(run)
    return run


def log_in(client: FlaskClient, user: User) -> None:
    """As if this person had logged in through the page (tests of the page itself go through it)."""
    with client.session_transaction() as session:
        session["_user_id"] = user.get_id()
        session["_fresh"] = True


@cache
def _password_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def _uuid() -> str:
    from uuid import uuid4

    return str(uuid4())
