"""Databases for tests, with all tables and no rows. A returned one is emptied and used again, which is faster than a new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from devtools.servers import PostgresServer

LARGEST_TABLE_BYTES = 1_000_000  # above this, deleted rows left behind cost more than a new database

# Tables, columns, keys, triggers, functions, statistics and the revision: what a test can change besides rows.
SCHEMA = """
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT 'class ' || oid || ' ' || xmin AS part FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'column ' || attrelid || ' ' || attnum || ' ' || a.xmin
            FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'key ' || oid || ' ' || xmin FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'trigger ' || oid || ' ' || xmin FROM pg_trigger
        UNION ALL SELECT 'function ' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'statistics ' || starelid || ' ' || staattnum
            FROM pg_statistic JOIN pg_class c ON c.oid = starelid WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'revision ' || version_num FROM alembic_version
    ) parts
"""
LARGEST = (
    "SELECT max(pg_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
EMPTY = """
    DO $$ DECLARE used record; BEGIN
        PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid();
        SET LOCAL session_replication_role = replica; -- no triggers, no foreign keys
        FOR used IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'r'
            AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
        LOOP
            EXECUTE 'DELETE FROM ' || used.name;
        END LOOP;
        PERFORM setval(format('%I.%I', schemaname, sequencename), start_value, false)
            FROM pg_sequences WHERE last_value IS NOT NULL;
    END $$
"""


NO_AUTOVACUUM = """
    DO $$ DECLARE each record; BEGIN
        FOR each IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', each.name);
        END LOOP;
    END $$
"""


def keep_autovacuum_away(url: str) -> None:
    """Turn autovacuum off: plans would depend on how many tests have used the database before."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(NO_AUTOVACUUM)


class SqliteDatabases:
    """Copies of a template; the file of a returned one is used again."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._template = template
        self._folder = folder
        self._idle: list[Path] = []
        self._made = 0

    @contextmanager
    def borrowed(self) -> Iterator[str]:
        """The address of a database that nothing else uses."""
        path = self._idle.pop() if self._idle else self._new_path()
        shutil.copy(self._template, path)
        yield f"sqlite:///{path}"
        for end in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        self._idle.append(path)

    def _new_path(self) -> Path:
        self._made += 1
        return self._folder / f"asapp-{self._made}.db"


class PostgresDatabases:
    """Copies of a template; a returned one in which only rows changed is emptied and used again."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._idle: list[_Database] = []

    @contextmanager
    def borrowed(self) -> Iterator[str]:
        """The address of a database that nothing else uses."""
        database = self._idle.pop() if self._idle else _Database(self._server, self._template)
        yield self._server.url(database.name)
        if database.is_emptied():
            self._idle.append(database)
        else:
            database.drop()


class _Database:
    def __init__(self, server: PostgresServer, template: str) -> None:
        self.name = server.create_database(template)
        self._server = server
        self._connection = psycopg.connect(
            host=str(server.folder), user="asapp", dbname=self.name, autocommit=True, connect_timeout=5
        )
        self._schema = self._value(SCHEMA)

    def is_emptied(self) -> bool:
        """Delete all rows and restart the sequences; return False if the database is not as it was then."""
        try:
            if self._value(LARGEST) > LARGEST_TABLE_BYTES or self._value(SCHEMA) != self._schema:
                return False
            self._connection.execute(EMPTY)
        except psycopg.Error:  # the test stopped the server, closed its connections or dropped the table of revisions
            return False
        return True

    def drop(self) -> None:
        self._connection.close()
        self._server.drop_database(self.name)

    def _value(self, query: LiteralString) -> Any:
        row = self._connection.execute(query).fetchone()
        return row[0] if row else None
