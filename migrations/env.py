"""Alembic within the application: it uses the app's own database and metadata."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from alembic import context
from click import ClickException
from flask import current_app
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import OperationalError, ProgrammingError

from asapp.core.database import Base, UTCDateTime, writing

log = logging.getLogger("asapp.migrations")

# What an operator can put right; other errors are ours, and come with their traceback.
FOR_OPERATORS = (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege, sqlite3.OperationalError)

metadata: MetaData = Base.metadata


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our column type by its plain SQLAlchemy name, so that a migration never depends on the application."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def log_step(*, step: Any, **_more: Any) -> None:
    log.info("migration", extra={"revision": step.up_revision_id, "is_upgrade": step.is_upgrade})


def run() -> None:
    """Run the migrations; what the database refuses or can't do is one line."""
    try:
        migrate()
    except (OperationalError, ProgrammingError) as error:
        if not isinstance(error.orig, FOR_OPERATORS):
            raise
        reason = " ".join(str(error.orig).split())
        raise ClickException(f"The database can't do that: {reason}") from None


@contextmanager
def unlimited(connection: Connection) -> Iterator[None]:
    """Let a step take as long as a large table needs; waiting for a lock has its limit all the same."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("SET statement_timeout = 0")
    connection.commit()
    yield
    connection.rollback()
    connection.exec_driver_sql("RESET statement_timeout")
    connection.commit()


def migrate() -> None:
    engine = current_app.extensions["migrate"].db.engine
    with writing(), engine.connect() as connection, unlimited(connection):
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_item=render_item,
            transaction_per_migration=True,
            on_version_apply=log_step,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
