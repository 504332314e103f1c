"""Many rows in one statement: SQLAlchemy Core with lists of rows, never one ORM object a row.

Everything joins the transaction of db.session. Rows are dicts; all rows of a call have the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from struct import pack
from types import MappingProxyType
from typing import Any, TypeVar

from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    String,
    Table,
    TextClause,
    any_,
    bindparam,
    func,
    insert,
    literal,
    select,
    true,
    update,
)
from sqlalchemy import column as sql_column
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine, UserDefinedType

from asapp.core.database import UTCDateTime, is_postgresql, upsert
from asapp.core.extensions import db

T = TypeVar("T")

IDS_A_STATEMENT = 5000  # in one IN list; both databases accept it
BYTEA = adapters.types["bytea"]
NULL = pack("!i", -1)
A_FEW = 3  # rows that are written sooner one by one
NOTHING: Mapping[str, Any] = MappingProxyType({})


def in_chunks(items: Iterable[T], size: int = IDS_A_STATEMENT) -> Iterator[list[T]]:
    everything = list(items)
    return (everything[start : start + size] for start in range(0, len(everything), size))


def is_among(
    column: Column[Any] | InstrumentedAttribute[Any], values: Collection[str] | Collection[int] | Collection[bytes]
) -> ColumnElement[bool]:
    """Return `column IN values`, with the values as one parameter, so that the statement is compiled and planned once.

    Bytes are one parameter on PostgreSQL alone.
    """
    if isinstance(column.type, LargeBinary) and not is_postgresql(db.session):
        return column.in_(values)
    if not is_postgresql(db.session):
        listed = func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(select(listed.c.value))
    if isinstance(column.type, String) and not any("," in str(value) for value in values):  # an array costs more
        return column == any_(func.string_to_array(",".join(map(str, values)), ","))
    return column == any_(literal(list(values), _array_of(column)))


class BytesList(list[bytes | None]):
    """Many values for PostgreSQL, as its bytea[]."""


class BytesListDumper(Dumper):
    """Writes a BytesList as the server's binary protocol wants it: as text, the driver's own way, it takes many times as long."""

    format = Format.BINARY
    oid = BYTEA.array_oid

    def dump(self, obj: BytesList) -> bytes:
        if not obj:
            return pack("!iiI", 0, 0, BYTEA.oid)
        head = pack("!iiIii", 1, None in obj, BYTEA.oid, len(obj), 1)  # dimensions, NULLs, type; length, first index
        return head + b"".join([NULL if each is None else pack("!i", len(each)) + each for each in obj])


adapters.register_dumper(BytesList, BytesListDumper)


class BytesArray(UserDefinedType[Any]):
    """bytea[] as the parameter of a statement on PostgreSQL."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "BYTEA[]"

    def bind_processor(self, _dialect: Dialect) -> Any:
        return BytesList


def _array_of(column: Column[Any] | InstrumentedAttribute[Any]) -> TypeEngine[Any]:
    return BytesArray() if isinstance(column.type, LargeBinary) else ARRAY(column.type)


def is_among_given(
    column: Column[Any] | InstrumentedAttribute[Any], parameter: str, *, on_postgresql: bool
) -> ColumnElement[bool]:
    """Return `column IN values` for a statement that is built once: its values come with each execution, as this parameter."""
    if on_postgresql:
        return column == any_(bindparam(parameter, type_=_array_of(column)))
    return column.in_(bindparam(parameter, expanding=True))


def rows_with_each(
    query: Select[Any], column: InstrumentedAttribute[Any], values: Collection[bytes] | Collection[str]
) -> FromClause:
    """Return the rows of query whose column has one of these values, each value looked up by the column's index.

    Where there are a thousand values PostgreSQL would rather read the whole table, with processes started to help.
    """
    if not is_postgresql(db.session):
        return query.where(column.in_(values)).subquery()
    wanted = func.unnest(literal(list(values), _array_of(column))).table_valued(sql_column("value", column.type))
    asked = wanted.render_derived(name="asked")
    found = query.where(column == asked.c.value).offset(0).lateral()  # OFFSET: not to be merged into one join again
    return select(*found.c).select_from(asked).join(found, true()).subquery()


def insert_many(table: Table, rows: Sequence[dict[str, Any]], same: Mapping[str, Any] = NOTHING) -> None:
    """INSERT rows in the driver's own way; PostgreSQL gets many by COPY. same: the columns that have one value in all rows."""
    if not rows:
        return
    if is_postgresql(db.session) and len(rows) <= A_FEW:
        db.session.execute(insert(table), [{**row, **same} for row in rows])
        return
    if is_postgresql(db.session):
        _copy_into(table, rows, same)
        return
    names = [*rows[0], *same]
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    db.session.connection().exec_driver_sql(statement, list(_as_the_driver_takes_them(table, rows, same)))


def upsert_many(
    table: Table,
    rows: Sequence[dict[str, Any]],
    key: Sequence[str],
    changing: Sequence[str],
    where: ColumnElement[bool] | None = None,
    index_where: TextClause | None = None,
) -> None:
    """INSERT rows; where one with this key exists, set the columns `changing` to the new values if `where` holds for it.

    index_where: as in upsert().
    """
    if not rows:
        return
    statement = upsert(db.session, table, key, changing, where, index_where)
    if not is_postgresql(db.session) or len(rows) <= A_FEW:
        db.session.execute(statement, rows)
        return
    names = list(rows[0])
    source = _unnest(rows, {name: table.c[name] for name in names})
    db.session.execute(statement.from_select(names, select(*(source.c[name] for name in names))))


def update_many(table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """UPDATE rows by id. Each row has b_id, the id, and the columns to set."""
    if not rows:
        return
    names = [name for name in rows[0] if name != "b_id"]
    if is_postgresql(db.session):
        source = _unnest(rows, {"b_id": table.c.id, **{name: table.c[name] for name in names}})
        values = {name: source.c[name] for name in names}
        db.session.execute(update(table).where(table.c.id == source.c.b_id).values(values))
        return
    columns: dict[str, Any] = {name: bindparam(name) for name in names}
    db.session.execute(update(table).where(table.c.id == bindparam("b_id")).values(columns), rows)


def _unnest(rows: Sequence[dict[str, Any]], columns: Mapping[str, Column[Any]]) -> TableValuedAlias:
    """Return rows as a table built from one array a column: one statement, for any number of rows."""
    arrays = (literal([row[name] for row in rows], _array_of(column)) for name, column in columns.items())
    typed = (sql_column(name, column.type) for name, column in columns.items())
    return func.unnest(*arrays).table_valued(*typed, name="rows").render_derived()


def _copy_into(table: Table, rows: Sequence[dict[str, Any]], same: Mapping[str, Any]) -> None:
    """COPY rows in the session's transaction."""
    names = [*rows[0], *same]
    connection = db.session.connection()
    driver: Any = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
            for row in _as_the_driver_takes_them(table, rows, same):
                copy.write_row(row)
    except driver.OperationalError as error:  # SQLAlchemy doesn't wrap it
        connection.invalidate(error)
        raise OperationalError("COPY", None, error) from error
    except driver.IntegrityError as error:
        raise IntegrityError("COPY", None, error) from error


def _as_the_driver_takes_them(
    table: Table, rows: Sequence[dict[str, Any]], same: Mapping[str, Any]
) -> Iterable[tuple[Any, ...]]:
    names = list(rows[0])
    columns = zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True)
    differing = [_column_for_the_driver(table.c[name], values) for name, values in columns]
    constant = [_column_for_the_driver(table.c[name], [value] * len(rows)) for name, value in same.items()]
    return zip(*differing, *constant, strict=True)


def _column_for_the_driver(column: Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    """Convert each distinct value once: timestamps repeat within a page."""
    if not isinstance(column.type, UTCDateTime):
        return values
    dialect = db.session.get_bind().dialect
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    convert = datetime.isoformat if bind is None or is_postgresql(db.session) else bind
    known = {value: None if value is None else convert(value) for value in set(values)}
    return [known[value] for value in values]
