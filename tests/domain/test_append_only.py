"""Rows that are written once: the application refuses to change them, and so does the database."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError

from asapp.extensions import db
from asapp.models import ConsentEvent, ConsentText
from asapp.models.columns import AppendOnly
from tests.factories import make_advisor
from tests.signing_up import someone_signs_up


@pytest.fixture(autouse=True)
def history(app: Flask) -> None:
    someone_signs_up(make_advisor())


@pytest.mark.parametrize(("model", "column"), [(ConsentEvent, "kind"), (ConsentText, "words")])
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


def test_postgresql_refuses_to_truncate() -> None:
    if db.engine.dialect.name != "postgresql":
        return
    with pytest.raises(DBAPIError, match="append-only"):
        db.session.execute(text("TRUNCATE consent_events"))
    db.session.rollback()
