"""Backups of the database: made, restored, and restored beside it to see whether that works.

PostgreSQL's own programs do the work, and Python's sqlite3 for SQLite. Passwords reach them by the environment, so that no
list of processes shows them. BackupError says in one line what is wrong.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url

from config import environ_with

WHOLE_PAGES = -1
RESTORE = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")


class BackupError(Exception):
    """It can't be done; the text is one line for the operator."""


def make(database_url: str, folder: Path, now: datetime) -> Path:
    """Write a backup into the folder, which is made if it is missing, and return its path. No other user can read it."""
    url = make_url(database_url)
    is_sqlite = url.drivername == "sqlite"
    place = folder / f"asapp-{now:%Y%m%dT%H%M%SZ}.{'sqlite3' if is_sqlite else 'dump'}"
    part = place.with_suffix(".part")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.touch(mode=0o600)
    except OSError as error:
        raise BackupError(f"Cannot write to {folder}: {error.strerror}.") from error
    try:
        if is_sqlite:
            _copy_sqlite(_path_of(url), part)
        else:
            _run_postgres(url, "pg_dump", "--format=custom", f"--file={part}")
        part.rename(place)
    finally:
        part.unlink(missing_ok=True)
    return place


def find_newest(folder: Path) -> Path:
    """Return the backup in the folder that was made last, by its name."""
    made = [file for file in folder.glob("asapp-*Z.*") if file.suffix != ".part"]
    if not made:
        raise BackupError(f"There is no backup in {folder}.")
    return max(made)


def restore(file: Path, database_url: str, *, replace: bool) -> None:
    """Fill the database from a backup. One that has tables is refused, or emptied first if `replace`."""
    if not file.is_file():
        raise BackupError(f"There is no file {file}.")
    url = make_url(database_url)
    if has_tables(url):
        if not replace:
            raise BackupError("This database has tables already; --replace deletes all that is in it.")
        if url.drivername != "sqlite":
            _empty_postgres(url)
    if url.drivername == "sqlite":
        _copy_sqlite(file, _path_of(url))
    else:
        _run_postgres(url, "pg_restore", *RESTORE, f"--dbname={url.database}", str(file))


@contextmanager
def scratch_database(database_url: str) -> Iterator[str]:
    """Make an empty database beside this one, yield its URL, and delete it at the end."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/drill.sqlite3"
        return
    name = f"asapp_drill_{secrets.token_hex(4)}"
    try:
        _execute(url, "CREATE DATABASE {}", name)
    except psycopg.errors.InsufficientPrivilege:
        raise BackupError(f"The database user may not create a database: ALTER ROLE {url.username} CREATEDB.") from None
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(url, "DROP DATABASE {} WITH (FORCE)", name)


def has_tables(url: URL) -> bool:
    engine = create_engine(url)
    try:
        return bool(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _path_of(url: URL) -> Path:
    return Path(url.database or "")


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy while others may write to the source. The copy is checked."""
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=WHOLE_PAGES)
            (found,) = new.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"{source} can't be copied: {error}.") from error
    if found != "ok":
        raise BackupError(f"The copy of {source} is damaged: {found}.")


def _run_postgres(url: URL, program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"There is no {program} on this machine; Debian has it in postgresql-client.")
    answer = subprocess.run(  # noqa: S603 - a program of the system, with arguments of our own
        [found, *arguments], env=environ_with(_libpq(url)), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise BackupError((answer.stderr.strip() or f"{program} failed").splitlines()[0])


def _libpq(url: URL) -> dict[str, str]:
    """Return the address of a database as the variables that PostgreSQL's programs read."""
    parts = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
    }
    return {f"PG{name.upper()}": str(value) for name, value in {**parts, **url.query}.items() if value}


def _empty_postgres(url: URL) -> None:
    _execute(url, "DROP SCHEMA {0} CASCADE", "public")
    _execute(url, "CREATE SCHEMA {0}", "public")


def _execute(url: URL, statement: str, name: str) -> None:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
