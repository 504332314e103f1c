"""How we use the two databases: naming of constraints, aware times, and SQLite's locking.

SQLite loses updates silently under the driver's own BEGIN, and fails at once where a transaction that has read starts to
write. So we emit BEGIN ourselves: IMMEDIATE wherever something may be written (unsafe requests, the OAuth callback, jobs,
commands), DEFERRED for readers, who never wait.

A commit on SQLite survives the death of the process, but after a power cut the last ones may be gone, unless the log is
flushed: 5 to 15 ms each. So that is done where it matters: for what a person was told is stored (web), and for what must be
known before a call to Salesforce is made or its answer used (`durably`). A flush keeps all earlier commits as well.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, CursorResult, DateTime, Engine, MetaData, Result, TextClause, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, scoped_session
from sqlalchemy.types import TypeDecorator

log = logging.getLogger(__name__)
T = TypeVar("T")
AnySession = Session | scoped_session[Any]

LOCK_WAIT_S = 15.0  # for what another transaction is writing
SQLITE_WAL_PAGES = 4000  # before they are brought home: a sync writes the same ones again and again
# PostgreSQL ended a transaction so that another could go on: a deadlock, or two that can't be put one after the other.
BEATEN = ("40P01", "40001")
TRANSACTION_TRIES = 4
PAUSE_S = 0.05
SYNCHRONOUS = "sqlite_synchronous"  # key of what is set on a connection now
UNSYNCHRONIZED = {"synchronize_session": False, "preserve_rowcount": True}

_begin_mode: ContextVar[str] = ContextVar("sqlite_begin_mode", default="DEFERRED")
_synchronous: ContextVar[str] = ContextVar("sqlite_synchronous", default="NORMAL")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC moment. SQLite stores it without a zone; a naive value is refused on the way in."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime must not reach the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def expect_writes(expected: bool) -> None:
    """From here on, in this context, do transactions on SQLite take the write lock when they begin, and survive a power cut?"""
    _begin_mode.set("IMMEDIATE" if expected else "DEFERRED")
    _synchronous.set("FULL" if expected else "NORMAL")


@contextmanager
def writing() -> Iterator[None]:
    """Transactions begun in this block on SQLite take the write lock at once."""
    token = _begin_mode.set("IMMEDIATE")
    try:
        yield
    finally:
        _begin_mode.reset(token)


@contextmanager
def durably() -> Iterator[None]:
    """As writing(); what is committed in this block, and all before it, survives a power cut on SQLite too."""
    token = _synchronous.set("FULL")
    try:
        with writing():
            yield
    finally:
        _synchronous.reset(token)


@contextmanager
def reading() -> Iterator[None]:
    """Transactions begun in this block on SQLite are for reading."""
    token = _begin_mode.set("DEFERRED")
    try:
        yield
    finally:
        _begin_mode.reset(token)


def end_read(session: AnySession) -> None:
    """End a transaction that has only read."""
    session.rollback()


def retry_when_beaten(session: Session, work: Callable[[], T]) -> T:
    """Do work, commit, and return what it returned; all of it again, a few times, where PostgreSQL ended it for another's sake.

    work is one transaction from its first statement on: it reads again all that it builds on, and has done nothing
    outside the database before. Locks are taken in one order (docs/decisions/11-lock-order.md), so this is for what slipped.
    """
    for attempt in range(1, TRANSACTION_TRIES + 1):
        try:
            result = work()
            session.commit()
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            session.rollback()
            if state not in BEATEN or attempt == TRANSACTION_TRIES:
                raise
            log.warning("beaten by another transaction, trying again", extra={"sqlstate": state, "attempt": attempt})
            time.sleep(PAUSE_S * attempt * random.uniform(0.5, 1.5))
        else:
            return result
    raise AssertionError


def is_postgresql(session: AnySession) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def insert_ignore(session: AnySession, table: Any, key: Sequence[str] | None = None) -> postgresql.Insert:
    """Return an INSERT that does nothing where there is such a row already: with this key, or by any unique index."""
    statement: postgresql.Insert = _insert(session, table).on_conflict_do_nothing(index_elements=key)
    return statement


def upsert(
    session: AnySession,
    table: Any,
    key: Sequence[str],
    changing: Sequence[str] | Mapping[str, Any],
    where: ColumnElement[bool] | None = None,
    index_where: ColumnElement[bool] | TextClause | None = None,
) -> postgresql.Insert:
    """Return an INSERT that changes the row with this key instead, where there is one.

    changing: the columns that take what was to be inserted, or {column: what it becomes}. where: of the row that is there.
    index_where: the condition of the unique index, where that is a partial one.
    """
    statement: postgresql.Insert = _insert(session, table)
    changes = changing if isinstance(changing, Mapping) else {name: statement.excluded[name] for name in changing}
    return statement.on_conflict_do_update(index_elements=key, index_where=index_where, set_=changes, where=where)


def _insert(session: AnySession, table: Any) -> Any:
    """Return the database's own kind of INSERT; both kinds know ON CONFLICT, in the same words."""
    return (postgresql if is_postgresql(session) else sqlite).insert(table)


def change_rows(session: AnySession, statement: Any) -> int:
    """Execute an INSERT, UPDATE or DELETE; return how many rows it wrote. Objects in the session stay as they were read."""
    return rows_changed(session.execute(statement, execution_options=UNSYNCHRONIZED))


def change_rows_returning(session: AnySession, statement: Any) -> Sequence[Any]:
    """As change_rows(), for a statement with RETURNING; return the values of its first column."""
    return session.scalars(statement, execution_options=UNSYNCHRONIZED).all()


def fetch_tuples(session: AnySession, query: Any, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return all rows as the driver gives them, which for thousands of rows costs half. No column may need a conversion."""
    result = session.connection().execute(query, parameters)
    rows: list[tuple[Any, ...]] = list(result.cursor.fetchall())
    result.close()
    return rows


def rows_changed(result: Result[Any]) -> int:
    """Return how many rows an INSERT, UPDATE or DELETE has written."""
    return cast(CursorResult[Any], result).rowcount


def prepare_engine(engine: Engine, sqlite_cache_mb: int) -> None:
    """Set SQLite up as the module says; PostgreSQL needs nothing."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def on_connect(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.isolation_level = None  # the driver must not emit BEGIN
        for pragma in (
            "journal_mode=WAL",
            f"wal_autocheckpoint={SQLITE_WAL_PAGES}",
            f"cache_size=-{sqlite_cache_mb * 1000}",
            "synchronous=NORMAL",
            "foreign_keys=ON",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")
        record.info[SYNCHRONOUS] = "NORMAL"

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        wanted = _synchronous.get()
        if connection.info.get(SYNCHRONOUS) != wanted:  # it can't change within a transaction
            connection.exec_driver_sql(f"PRAGMA synchronous={wanted}")
            connection.info[SYNCHRONOUS] = wanted
        connection.exec_driver_sql(f"BEGIN {_begin_mode.get()}")


def is_read_only(error: DBAPIError) -> bool:
    """Was something to be written to a copy for reading, or during a switch-over? PostgreSQL says it as an internal error."""
    return getattr(error.orig, "sqlstate", None) == "25006"


def engine_options(database_url: str) -> dict[str, Any]:
    """Engine options for Flask-SQLAlchemy."""
    if database_url.startswith("sqlite:"):
        return {"hide_parameters": True, "connect_args": {"timeout": LOCK_WAIT_S}}
    options = f"-c statement_timeout=60000 -c lock_timeout={LOCK_WAIT_S * 1000:.0f}"
    return {
        "hide_parameters": True,  # errors must not quote the rows
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": 5, "options": options},
    }
