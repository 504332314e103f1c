"""How we use the two databases: naming of constraints, aware times, and SQLite's locking.

SQLite loses updates silently under the driver's own BEGIN, and fails at once if a transaction that has read starts to
write. So we emit BEGIN ourselves: IMMEDIATE for whatever may write (unsafe requests, the OAuth callback, jobs, commands),
DEFERRED for readers, who never wait. SQLite lets writers sleep and try again until the lock is free; so the threads of one
process wait for their turn before they ask for it.

A commit on SQLite survives the death of the process, but a power cut may lose the last commits unless the log is flushed,
at 5 to 15 ms each. So it is flushed where it matters: for what a person was told is stored (web), and for what must be
stored before a call to Salesforce is made or its answer used (`durably`). A flush saves all earlier commits too.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
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

LOCK_WAIT_S = 15.0  # for rows that another transaction is writing
SQLITE_WAL_PAGES = 4000  # before they are checkpointed: a sync writes the same pages again and again
# PostgreSQL ended the transaction so that another could go on: a deadlock, or a serialization failure.
BEATEN = ("40P01", "40001")
TRANSACTION_TRIES = 4
PAUSE_S = 0.05
SQLITE_ROWS_AT_ONCE = 500  # no server has to be asked for more, and 5,000 took a twentieth more CPU
SYNCHRONOUS = "sqlite_synchronous"  # key of the connection's present setting
HAS_TURN = "has_writers_turn"  # key of the connection that writes now
WAITS_LESS = "sqlite_waits_less"  # key of the connection whose wait was shortened
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
    """An aware UTC datetime. SQLite stores it without a zone; a naive value raises."""

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
    """Set whether later transactions on SQLite, in this context, take the write lock at BEGIN and survive a power cut."""
    _begin_mode.set("IMMEDIATE" if expected else "DEFERRED")
    _synchronous.set("FULL" if expected else "NORMAL")


@contextmanager
def writing() -> Iterator[None]:
    """Let transactions begun in this block take the write lock of SQLite at BEGIN."""
    token = _begin_mode.set("IMMEDIATE")
    try:
        yield
    finally:
        _begin_mode.reset(token)


@contextmanager
def durably() -> Iterator[None]:
    """As writing(); commits in this block, and all earlier ones, survive a power cut on SQLite too."""
    token = _synchronous.set("FULL")
    try:
        with writing():
            yield
    finally:
        _synchronous.reset(token)


@contextmanager
def reading() -> Iterator[None]:
    """Let transactions begun in this block be readers on SQLite."""
    token = _begin_mode.set("DEFERRED")
    try:
        yield
    finally:
        _begin_mode.reset(token)


def end_read(session: AnySession) -> None:
    """End a transaction that only read."""
    session.rollback()


def retry_when_beaten(session: Session, work: Callable[[], T]) -> T:
    """Call work, commit and return its result; repeat it a few times if PostgreSQL ended it in favour of another
    transaction.

    work is one transaction from its first statement on: it reads everything it needs itself, and does nothing outside the
    database. Locks are taken in one order (docs/decisions/11-lock-order.md), so this is for the cases that slip through.
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
    """Return an INSERT that does nothing if the row exists already: with this key, or by any unique index."""
    insert = _insert_of(session.get_bind().dialect.name)
    statement: postgresql.Insert = insert(table).on_conflict_do_nothing(index_elements=key)
    return statement


def upsert(
    session: AnySession,
    table: Any,
    key: Sequence[str],
    changing: Sequence[str] | Mapping[str, Any],
    where: ColumnElement[bool] | None = None,
    index_where: ColumnElement[bool] | TextClause | None = None,
) -> postgresql.Insert:
    """Return an INSERT that updates the row with this key instead, if there is one.

    changing: the columns that take the inserted values, or {column: new value}. where: condition on the existing row.
    index_where: the condition of a partial unique index.
    """
    dialect = session.get_bind().dialect.name
    if where is None and not isinstance(changing, Mapping):
        return _upsert_of_new_values(dialect, table, tuple(key), tuple(changing), index_where)
    return _upsert(dialect, table, key, changing, where, index_where)


@lru_cache(maxsize=64)  # building one costs more than executing it
def _upsert_of_new_values(
    dialect: str, table: Any, key: Sequence[str], changing: Sequence[str], index_where: Any
) -> postgresql.Insert:
    return _upsert(dialect, table, key, changing, None, index_where)


def _upsert(
    dialect: str,
    table: Any,
    key: Sequence[str],
    changing: Sequence[str] | Mapping[str, Any],
    where: ColumnElement[bool] | None,
    index_where: Any,
) -> postgresql.Insert:
    statement: postgresql.Insert = _insert_of(dialect)(table)
    changes = changing if isinstance(changing, Mapping) else {name: statement.excluded[name] for name in changing}
    return statement.on_conflict_do_update(index_elements=key, index_where=index_where, set_=changes, where=where)


def _insert_of(dialect: str) -> Any:
    """Return the dialect's insert(); both dialects have ON CONFLICT with the same methods."""
    return (postgresql if dialect == "postgresql" else sqlite).insert


def change_rows(session: AnySession, statement: Any) -> int:
    """Execute an INSERT, UPDATE or DELETE; return how many rows it wrote. Objects in the session are not refreshed."""
    return rows_changed(session.execute(statement, execution_options=UNSYNCHRONIZED))


def change_rows_returning(session: AnySession, statement: Any) -> Sequence[Any]:
    """As change_rows(), for a statement with RETURNING; return the values of its first column."""
    return session.scalars(statement, execution_options=UNSYNCHRONIZED).all()


def fetch_tuples(connection: Connection, query: Any, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return all rows as the driver gives them, which for thousands of rows costs half. No column may need a conversion."""
    result = connection.execute(query, parameters)
    rows: list[tuple[Any, ...]] = list(result.cursor.fetchall())
    result.close()
    return rows


def iter_tuples(connection: Connection, query: Any, at_once: int) -> Iterator[Sequence[Any]]:
    """Yield all rows, at most so many at a time: fetch_tuples() for more than should be in memory.

    On PostgreSQL a cursor of the server's keeps memory flat. SQLAlchemy reads ahead from it, so the driver's rows can't be used.
    """
    if connection.dialect.name == "postgresql":
        yield from connection.execute(query, execution_options={"yield_per": at_once}).partitions()
        return
    with connection.execute(query) as result:
        while rows := result.cursor.fetchmany(min(at_once, SQLITE_ROWS_AT_ONCE)):
            yield rows


def rows_changed(result: Result[Any]) -> int:
    """Return how many rows an INSERT, UPDATE or DELETE wrote."""
    return cast(CursorResult[Any], result).rowcount


def prepare_engine(engine: Engine, sqlite_cache_mb: int) -> None:
    """Set SQLite up as described above; PostgreSQL needs nothing."""
    if engine.dialect.name != "sqlite":
        return

    writers_turn = threading.Lock()

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
        mode = _begin_mode.get()
        if mode == "IMMEDIATE" and not connection.info.get(HAS_TURN):
            began = time.monotonic()
            connection.info[HAS_TURN] = writers_turn.acquire(timeout=LOCK_WAIT_S)
            limit_wait(connection, LOCK_WAIT_S - (time.monotonic() - began))
        connection.exec_driver_sql(f"BEGIN {mode}")

    def limit_wait(connection: Connection, left_s: float) -> None:
        """Let SQLite wait for its lock for what is left of LOCK_WAIT_S; a difference below a second isn't worth a statement."""
        is_shorter = left_s < LOCK_WAIT_S - 1
        if is_shorter or connection.info.get(WAITS_LESS):
            wait_s = max(0, left_s) if is_shorter else LOCK_WAIT_S
            connection.exec_driver_sql(f"PRAGMA busy_timeout={wait_s * 1000:.0f}")
            connection.info[WAITS_LESS] = is_shorter

    def end_turn(_dbapi_connection: Any, record: Any, _why: Any) -> None:
        if record.info.pop(HAS_TURN, False):
            writers_turn.release()

    for name in ("reset", "invalidate"):
        event.listen(engine, name, end_turn)


def is_read_only(error: DBAPIError) -> bool:
    """Was a write sent to a read-only replica, or during a failover? PostgreSQL reports that as an internal error."""
    return getattr(error.orig, "sqlstate", None) == "25006"


def engine_options(database_url: str, *, for_jobs: bool) -> dict[str, Any]:
    """Engine options for Flask-SQLAlchemy. for_jobs: statements ask for thousands of values, of tables that grow."""
    if database_url.startswith("sqlite:"):
        return {"hide_parameters": True, "connect_args": {"timeout": LOCK_WAIT_S}}
    options = f"-c statement_timeout=60000 -c lock_timeout={LOCK_WAIT_S * 1000:.0f}"
    connect_args = {"connect_timeout": 5, "options": options}
    if for_jobs:
        # Nothing is prepared: PostgreSQL would sooner or later take a plan that it made for any values, which compares each row
        # of a growing table with each of 2,000 values. (plan_cache_mode would also plan each check of a foreign key.)
        connect_args["prepare_threshold"] = None
    return {
        "hide_parameters": True,  # errors must not quote the rows
        "pool_pre_ping": True,
        "connect_args": connect_args,
    }
