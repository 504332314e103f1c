"""Whether what a page needs is there: a writable database, its tables as this release needs them, its keys, Redis."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from asapp.accounts import key_rotation
from asapp.core.database import writing
from asapp.core.vault import Vault

T = TypeVar("T")
CHECK_S = 2.0
PROBE = "UPDATE alembic_version SET version_num = version_num"  # writes the value that is there

MOST_AT_ONCE = 4  # of one name: several may run at once, but hanging ones must not pile up

_under_way: Counter[str] = Counter()
_lock = threading.Lock()


class NoAnswer(Exception):
    """No answer came in time, or too many earlier ones are still waiting."""


@dataclass(frozen=True)
class HealthCheck:
    """why: a few words, never the text of an exception."""

    is_good: bool
    why: str = ""


def check_all(
    engine: Engine, find_redis_trouble: Callable[[], str | None], migrations: str, vault: Vault
) -> dict[str, HealthCheck]:
    """Return {name: check}. migrations: their folder."""
    database, tables = check_database(engine, migrations)
    written = check_writing(engine) if database.is_good else HealthCheck(False, "unknown")
    keys = check_keys(engine, vault) if tables.is_good else HealthCheck(False, "unknown")
    trouble = find_redis_trouble()
    redis = HealthCheck(not trouble, trouble or "")
    return {"database": database, "writing": written, "migrations": tables, "keys": keys, "redis": redis}


def check_database(engine: Engine, migrations: str) -> tuple[HealthCheck, HealthCheck]:
    """Return (does it answer, are its tables current)."""
    try:
        found = within(CHECK_S, "database", lambda: read_revisions(engine))
    except NoAnswer:
        return HealthCheck(False, f"no answer within {CHECK_S:g} s"), HealthCheck(False, "unknown")
    except OperationalError:
        return HealthCheck(False, "can't be reached, or refuses our user"), HealthCheck(False, "unknown")
    except SQLAlchemyError as error:
        return HealthCheck(False, type(error).__name__), HealthCheck(False, "unknown")
    wanted = heads_of(migrations)
    if found == wanted or is_later(found, wanted):
        return HealthCheck(True), HealthCheck(True)
    return HealthCheck(True), HealthCheck(False, f"at {_listed(found)}, this release needs {_listed(wanted)}")


def check_writing(engine: Engine) -> HealthCheck:
    """Check that a row can be written: a locked, full or read-only database answers every query and loses every form."""
    try:
        within(CHECK_S, "writing", lambda: write_revision_again(engine))
    except NoAnswer:
        return HealthCheck(False, f"nothing was written within {CHECK_S:g} s")
    except SQLAlchemyError as error:
        return HealthCheck(False, type(error).__name__)
    return HealthCheck(True)


def check_keys(engine: Engine, vault: Vault) -> HealthCheck:
    """Check that ENCRYPTION_KEYS are those of this database. A single value under a missing key doesn't count."""

    def ask() -> bool:
        with Session(engine) as session:
            return key_rotation.opens_nothing(session, vault)

    try:
        are_wrong = within(CHECK_S, "keys", ask)
    except (NoAnswer, SQLAlchemyError):
        return HealthCheck(False, "unknown")
    return HealthCheck(not are_wrong, "ENCRYPTION_KEYS are not those of this database" if are_wrong else "")


def write_revision_again(engine: Engine) -> None:
    """Rewrite the one row that every release has. It is committed: that is when a full disk shows."""
    with writing(), engine.begin() as connection:
        connection.execute(text(PROBE))


def read_revisions(engine: Engine) -> frozenset[str]:
    """Return the database's revisions; none if it has no tables yet."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        if not engine.dialect.has_table(connection, "alembic_version"):
            return frozenset()
        return frozenset(connection.scalars(text("SELECT version_num FROM alembic_version")))


@cache
def heads_of(migrations: str) -> frozenset[str]:
    return frozenset(ScriptDirectory(migrations).get_heads())


def is_later(found: frozenset[str], wanted: frozenset[str]) -> bool:
    """Was the database brought to a later release's tables? This release goes on with them: migrations see to that.

    So it is while a release is replaced, and after going back to the one before. Revisions are numbered.
    """
    return bool(found) and min(found) > max(wanted)


class _Answer(Generic[T]):
    value: T
    error: BaseException | None = None


def within(seconds: float, name: str, ask: Callable[[], T]) -> T:
    """Return what ask returns, or raise NoAnswer in time; a hanging call is left in its thread."""
    answer: _Answer[T] = _Answer()

    def run() -> None:
        try:
            answer.value = ask()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            answer.error = error
        finally:
            with _lock:
                _under_way[name] -= 1

    with _lock:
        if _under_way[name] >= MOST_AT_ONCE:
            raise NoAnswer
        _under_way[name] += 1
    thread = threading.Thread(target=run, name=f"check {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NoAnswer
    if answer.error is not None:
        raise answer.error
    return answer.value


def _listed(revisions: frozenset[str]) -> str:
    return ", ".join(sorted(revisions)) or "none"
