"""Rows for tests, as plain functions. Alice and Bob are at the same firm, Charlie is at another, Ada is the admin."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyotp
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
    User,
)
from asapp.salesforce.hosts import to_18
from devtools.makers import (
    APP_SECRET,
    ORG_ID,
    PASSWORD,
    make_admin,
    make_advisor,
    make_connection,
    make_partner,
    make_passkey,
    make_run,
    make_second_factor,
    numbers,
    save,
    session_of,
)

A = TypeVar("A", bound=OrgAccess)
LONG_AGO = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
__all__ = [
    "APP_SECRET",
    "LONG_AGO",
    "ORG_ID",
    "PASSWORD",
    "app_code",
    "log_in",
    "make_admin",
    "make_advisor",
    "make_connection",
    "make_contact",
    "make_partner",
    "make_passkey",
    "make_run",
    "make_second_factor",
    "make_synced_connection",
    "make_twin",
    "org_access",
    "save",
    "session_of",
]


def org_access(kind: type[A] = OrgAccess, **more: Any) -> A:  # type: ignore[assignment]
    """Return the app's OrgAccess, or one of another class with its extra arguments."""
    access: OrgAccess = current_app.extensions["asapp.org_access"]
    return kind(access.vault, access.callback_url, access.allow_loopback, **more)


def make_synced_connection(advisor: User | None = None, **columns: Any) -> Connection:
    """Make a connection whose last sync succeeded a moment ago."""
    now = utcnow()
    times = {"watermark": now, "first_synced_at": now, "last_good_sync_at": now}
    return make_connection(advisor, **({**times, "opt_outs_known_until": now.replace(year=now.year + 1)} | columns))


def make_contact(owner: User | Connection, *, is_twin: bool = False, **columns: Any) -> Contact:
    """owner: a user for a manual contact, a connection for one from Salesforce. is_twin: the twin of an opted-out record."""
    number = next(numbers)
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
    """Store another record with the contact's address as opted out."""
    contact.address_hash = contact.address_hash or hashlib.sha256(contact.email.lower().encode()).digest()
    owner = db.session.get_one(User, contact.user_id)
    connection_id = contact.connection_id or make_connection(owner, status=ConnectionStatus.DISCONNECTED).id
    blocked = BlockedAddress(
        connection_id=connection_id,
        salesforce_id=to_18(f"0035g00TWIN{next(numbers):04d}"),
        kind=BlockedBy.CONTACT,
        user_id=owner.id,
        address_hash=contact.address_hash,
    )
    save(blocked)
    return blocked


def log_in(client: FlaskClient, user: User, minutes_ago: int = 0) -> None:
    """Log in without the page (tests of the page itself use the page)."""
    content = session_of(user, minutes_ago)
    with client.session_transaction() as session:
        session.update(content)


def app_code(minutes_ago: float = 0, secret: str = APP_SECRET) -> str:
    """Return the six digits that an authenticator app shows now, or showed."""
    return pyotp.TOTP(secret).at(utcnow() - timedelta(minutes=minutes_ago))
