"""Rows that are written once: the application refuses to change them, and so does the database."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError

from asapp.audit import entries
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, AuditIdentity, ConsentEvent, ConsentText
from asapp.models.columns import AppendOnly
from tests.factories import make_advisor
from tests.signing_up import someone_signs_up


@pytest.fixture(autouse=True)
def history(app: Flask) -> None:
    someone_signs_up(make_advisor())


@pytest.mark.parametrize(("model", "column"), [(ConsentEvent, "kind"), (ConsentText, "words_stored")])
def test_the_application_refuses(model: type[ConsentEvent | ConsentText], column: str) -> None:
    row = db.session.scalars(select(model)).one()

    setattr(row, column, "erased")
    with pytest.raises(AppendOnly):
        db.session.commit()
    db.session.rollback()

    db.session.delete(row)
    with pytest.raises(AppendOnly):
        db.session.commit()
    db.session.rollback()


@pytest.mark.parametrize("model", [ConsentEvent, ConsentText])
def test_the_database_refuses(model: type[ConsentEvent | ConsentText]) -> None:
    for statement in (update(model).values(id=7), delete(model)):
        with pytest.raises(DBAPIError, match="append-only"):
            db.session.execute(statement)
        db.session.rollback()

    assert len(db.session.scalars(select(model)).all()) == 1


# ---- The identities beside the audit log's entries


@pytest.fixture
def identity() -> AuditIdentity:
    partner = make_advisor().partner
    assert partner
    entries.record_export(Action.EXPORTED, entries.by_link(partner, "Sam", "sam@firm.example", "192.0.2.7"), partner)
    return db.session.scalars(select(AuditIdentity)).one()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Somebody else"},
        {"name": "", "email": "", "client_address": ""},  # without saying when
        {"name": "", "email": "", "client_address": "", "erased_at": utcnow(), "partner_id": None},
        {"name": "", "email": "sam@firm.example", "client_address": "", "erased_at": utcnow()},
        {"client_address": "203.0.113.9"},
    ],
)
def test_who_it_was_is_not_altered(changes: dict[str, Any], identity: AuditIdentity) -> None:
    with pytest.raises(DBAPIError, match="can only be blanked"):
        db.session.execute(update(AuditIdentity).values(**changes))
    db.session.rollback()
    db.session.refresh(identity)
    assert (identity.name, identity.client_address) == ("Sam", "192.0.2.7")


def test_who_it_was_is_not_deleted(identity: AuditIdentity) -> None:
    with pytest.raises(DBAPIError, match="can only be blanked"):
        db.session.execute(delete(AuditIdentity))
    db.session.rollback()


def test_who_it_was_is_blanked_once_and_for_good(identity: AuditIdentity) -> None:
    assert identity.partner_id
    entries.erase_identities([], identity.partner_id)
    db.session.commit()
    db.session.refresh(identity)
    assert (identity.name, identity.email, identity.client_address) == ("", "", "")
    with pytest.raises(DBAPIError, match="can only be blanked"):
        db.session.execute(update(AuditIdentity).values(name="Sam"))
    db.session.rollback()


def test_postgresql_refuses_to_truncate() -> None:
    if db.engine.dialect.name != "postgresql":
        return
    with pytest.raises(DBAPIError, match="append-only"):
        db.session.execute(text("TRUNCATE consent_events"))
    db.session.rollback()
    with pytest.raises(DBAPIError, match="can only be blanked"):
        db.session.execute(text("TRUNCATE audit_identities CASCADE"))
    db.session.rollback()
