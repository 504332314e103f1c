"""Checks of the form `column IN ('one', 'two')`: add or remove one value, whatever the list is by then.

allow_value("alerts", "kind", "flood")     # in upgrade()
remove_value("alerts", "kind", "flood")    # in downgrade(), once no row holds it

SQLite can't alter a check. Copying the table would cascade to the rows that refer to it, so this does what SQLite's
documentation names for a change that touches no row (lang_altertable.html, section 7): it edits the text of the schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

VALUE = re.compile(r"'(\w+)'")


def allow_value(table: str, column: str, value: str) -> None:
    _replace(table, column, [*_values(table, column), value])


def remove_value(table: str, column: str, value: str) -> None:
    _replace(table, column, [each for each in _values(table, column) if each != value])


def _values(table: str, column: str) -> list[str]:
    checks = sa.inspect(op.get_bind()).get_check_constraints(table)
    (text,) = [check["sqltext"] for check in checks if check["name"] == _name(table, column)]
    return list(dict.fromkeys(VALUE.findall(text)))


def _replace(table: str, column: str, values: Sequence[str]) -> None:
    listed = ", ".join(f"'{value}'" for value in values)
    name, condition = _name(table, column), f"{column} IN ({listed})"
    if op.get_bind().dialect.name == "sqlite":
        before = rf"CONSTRAINT {name} CHECK \(\w+ IN \([^)]*\)\)"
        _edit_schema(table, before, f"CONSTRAINT {name} CHECK ({condition})")
        return
    op.drop_constraint(op.f(name), table, type_="check")
    op.create_check_constraint(op.f(name), table, condition)


def edit_schema(table: str, before: str, after: str) -> None:
    """Replace a piece of text in SQLite's schema of a table; it must be there once."""
    _edit_schema(table, re.escape(before), after)


def _edit_schema(table: str, before: str, after: str) -> None:
    connection = op.get_bind()
    where = {"table": table}
    sql = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table"), where)
    changed, count = re.subn(before, lambda _: after, str(sql))
    if count != 1:
        raise LookupError(f"not once in the schema of {table}: {before}")
    version = connection.scalar(sa.text("PRAGMA schema_version"))
    connection.execute(sa.text("PRAGMA writable_schema=ON"))
    connection.execute(
        sa.text("UPDATE sqlite_master SET sql = :sql WHERE type = 'table' AND name = :table"), where | {"sql": changed}
    )
    connection.execute(sa.text(f"PRAGMA schema_version={int(version or 0) + 1}"))  # other connections read it again
    connection.execute(sa.text("PRAGMA writable_schema=RESET"))  # and this one does


def _name(table: str, column: str) -> str:
    return f"ck_{table}_{column}"
