"""Rows that benchmarks and tests start from, as plain functions; tests/factories.py has more of them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import uuid4

from argon2 import PasswordHasher
from flask import current_app
from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    Connection,
    LoginSession,
    Partner,
    Passkey,
    Role,
    RunStatus,
    RunTrigger,
    SecondFactor,
    SyncRun,
    User,
)
from asapp.salesforce.hosts import to_18
from asapp.web.login_session import CONFIRMED_AT, KEY

PASSWORD = "correct horse battery staple"
APP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # of every authenticator app, in base32
AN_HOUR = timedelta(hours=1)
ORG_ID = to_18("00D5g000004XyZa")
numbers = itertools.count(1)


def save(*rows: Any) -> None:
    db.session.add_all(rows)
    db.session.commit()


def make_partner(
    name: str = "Northgate Wealth", url: str = "https://northgate.my.salesforce.com", **columns: Any
) -> Partner:
    key, secret = columns.pop("key", "consumer-key"), columns.pop("secret", "consumer-secret")
    slug = columns.pop("slug", f"{name.lower().replace(' ', '-')}-{next(numbers)}")
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


def make_admin(name: str = "Ada Lindgren", *, has_second_factor: bool = True, **columns: Any) -> User:
    admin = _make_user(name, Role.ADMIN, **columns)
    if has_second_factor:
        make_second_factor(admin)
    return admin


def make_second_factor(user: User) -> SecondFactor:
    """An app with APP_SECRET, as set up long ago; no recovery codes."""
    factor = SecondFactor(user_id=user.id, public_id=_uuid(), last_step=0)
    vault = current_app.extensions["asapp.vault"]
    factor.seal(vault, "secret_sealed", APP_SECRET)
    factor.seal(vault, "recovery_key_sealed", "recovery key")
    save(factor)
    return factor


def make_passkey(user: User, name: str = "Work laptop") -> Passkey:
    """A passkey whose key no one has, never used."""
    passkey = Passkey(user_id=user.id, name=name, credential_id=_uuid(), public_key="", sign_count=0)
    save(passkey)
    return passkey


def session_of(user: User, minutes_ago: int = 0) -> dict[str, Any]:
    """Return what the session holds after this person's log-in so long ago.

    One row serves all log-ins of a person that are made here, and is never too long ago to be used without being written.
    """
    key = f"the key of {user.get_id()}"
    key_sha256 = sha256(key.encode()).hexdigest()
    if db.session.scalar(select(LoginSession.id).where(LoginSession.key_sha256 == key_sha256)) is None:
        save(LoginSession(user_id=user.id, key_sha256=key_sha256, device="A test", last_used_at=utcnow() + AN_HOUR))
    return {
        KEY: key,
        "_user_id": user.get_id(),
        "_fresh": True,
        CONFIRMED_AT: int(utcnow().timestamp()) - 60 * minutes_ago,
    }


def _make_user(name: str, role: Role, **columns: Any) -> User:
    email = columns.pop("email", f"{name.split(maxsplit=1)[0].lower()}.{next(numbers)}@example.com")
    user = User(
        name=name, email=email, role=role, password_hash=_password_hash(), session_nonce=_uuid()[:32], **columns
    )
    save(user)
    return user


def make_connection(advisor: User | None = None, **columns: Any) -> Connection:
    advisor = advisor or make_advisor()
    number = next(numbers)
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


def make_run(connection: Connection, status: str = RunStatus.COMPLETE, **columns: Any) -> SyncRun:
    run = SyncRun(connection_id=connection.id, status=status, **({"trigger": RunTrigger.MANUAL} | columns))
    save(run)
    return run


@cache
def _password_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def _uuid() -> str:
    return str(uuid4())
