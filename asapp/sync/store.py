"""Bulk reading and writing for the sync: SQLAlchemy Core with lists of rows, never an object a row.

Everything joins the caller's transaction. Lists of Ids are asked for in chunks that both databases take as parameters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    String,
    Table,
    any_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy import column as sql_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.selectable import TableValuedAlias

from asapp.contacts.bounces import is_skipped_as_bounced, skip_bounced
from asapp.contacts.twins import block, is_twin, unblock
from asapp.core.database import UTCDateTime
from asapp.core.extensions import db
from asapp.models import BlockedBy, Contact, ContactSource, Departure, DepartureState, LedgerEntry, RunChange
from asapp.sync.row_rules import Known

PARAMETERS = 5000  # in one IN list

CONTACTS: Table = Contact.__table__  # type: ignore[assignment]
LEDGER: Table = LedgerEntry.__table__  # type: ignore[assignment]
DEPARTURES: Table = Departure.__table__  # type: ignore[assignment]
CHANGES: Table = RunChange.__table__  # type: ignore[assignment]
NEW_FACTS = ("reason", "merged_into", "found_in_run_id", "was_read", "opted_out")


def among(
    column: Column[Any] | InstrumentedAttribute[Any], values: Collection[str] | Collection[int]
) -> ColumnElement[bool]:
    """`column IN values` with the values as one parameter, so that the statement is compiled and planned once."""
    if is_postgresql() and isinstance(column.type, String):
        return column == any_(
            func.string_to_array(",".join(map(str, values)), ",")
        )  # Ids; an array costs five times more
    if is_postgresql():
        return column == any_(literal(list(values), ARRAY(column.type)))
    listed = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(listed.c.value))


def find_known(connection_id: int, ids: Collection[str]) -> dict[str, Known]:
    c = CONTACTS.c
    query = select(
        c.salesforce_id,
        c.id,
        c.first_name,
        c.last_name,
        c.email,
        c.opted_out,
        c.departed,
        c.bounced_at,
        c.bounce_reason,
        c.bounced_hash,
        is_twin(),
        c.hidden_at.is_not(None),
        c.address_hash,
        c.system_modstamp,
        c.merged_into,
        c.erased_at.is_not(None),
    ).where(c.connection_id == connection_id)
    rows = db.session.execute(query.where(among(c.salesforce_id, ids))).all()
    skips = bool(rows) and bool(db.session.scalar(select(skip_bounced(connection_id))))  # the same for all of them
    return {row[0]: Known._make((*row[1:], skips)) for row in rows}


def find_ledger(connection_id: int, ids: Collection[str]) -> dict[str, tuple[str, bytes | None]]:
    c = LEDGER.c
    query = select(c.salesforce_id, c.outcome, c.address_hash).where(c.connection_id == connection_id)
    return {row[0]: (row[1], row[2]) for row in db.session.execute(query.where(among(c.salesforce_id, ids))).all()}


def find_departures(connection_id: int, ids: Collection[str]) -> dict[str, int]:
    """Return {Salesforce Id: the run that found it} of departures written down and not applied."""
    c = DEPARTURES.c
    query = select(c.salesforce_id, c.found_in_run_id).where(c.connection_id == connection_id)
    return {row[0]: row[1] for row in db.session.execute(query.where(among(c.salesforce_id, ids))).all()}


def is_anyone_at(user_id: int, hashes: Collection[bytes], run_id: int) -> bool:
    """Has the advisor a contact from before this run with one of these address hashes?"""
    c = CONTACTS.c
    is_older = func.coalesce(c.created_in_run_id, 0) != run_id
    return any(
        db.session.execute(
            select(c.id).where(c.user_id == user_id, c.address_hash.in_(chunk), is_older).limit(1)
        ).first()
        for chunk in chunks(hashes)
    )


def find_inactive_as_twins_alone(run_id: int, contact_ids: Collection[int]) -> set[int]:
    """Return those of these contacts, from before the run, that are active but for being twins."""
    c = CONTACTS.c
    is_older = func.coalesce(c.created_in_run_id, 0) != run_id
    is_else_on = c.departed.is_(None) & c.hidden_at.is_(None) & ~c.opted_out & ~is_skipped_as_bounced()
    return {
        contact_id
        for chunk in chunks(contact_ids)
        for contact_id in db.session.scalars(select(c.id).where(c.id.in_(chunk), is_older, is_else_on))
    }


def find_manual(user_id: int, hashes: Collection[bytes]) -> dict[bytes, list[int]]:
    """Return {address hash: contacts made by hand, oldest first}."""
    c = CONTACTS.c
    is_manual = (c.user_id == user_id) & (c.source == literal_column(f"'{ContactSource.MANUAL}'"))
    if db.session.execute(select(c.id).where(is_manual).limit(1)).first() is None:
        return {}
    query = (
        select(c.address_hash, c.id).where(is_manual).order_by(c.id).with_for_update()
    )  # nobody deletes it meanwhile
    found: dict[bytes, list[int]] = defaultdict(list)
    for chunk in chunks(hashes):
        for hashed, contact_id in db.session.execute(query.where(c.address_hash.in_(chunk))):
            found[hashed].append(contact_id)
    return dict(found)


def insert_contacts(rows: Sequence[dict[str, Any]]) -> None:
    """Insert new contacts; all rows have the same columns."""
    insert_many(CONTACTS, rows)


def update_contacts(rows: Sequence[dict[str, Any]]) -> None:
    """Each row: b_id and the columns to set, the same ones in all rows."""
    if not rows:
        return
    names = [name for name in rows[0] if name != "b_id"]
    if is_postgresql():
        source = unnest(rows, {"b_id": CONTACTS.c.id, **{name: CONTACTS.c[name] for name in names}})
        db.session.execute(
            update(CONTACTS).where(CONTACTS.c.id == source.c.b_id).values({name: source.c[name] for name in names})
        )
        return
    columns: dict[str, Any] = {name: bindparam(name) for name in names}
    db.session.execute(update(CONTACTS).where(CONTACTS.c.id == bindparam("b_id")).values(columns), rows)


def insert_ledger(connection_id: int, user_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """As upsert_ledger(), for records that the ledger has no row of."""
    insert_many(LEDGER, [{"connection_id": connection_id, **row} for row in rows])
    _block_opted_out(connection_id, user_id, rows)


def upsert_ledger(connection_id: int, user_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Each row: salesforce_id, outcome, address_hash. The blocked addresses follow the ledger here, and nowhere else."""
    _upsert(
        LEDGER,
        [{"connection_id": connection_id, **row} for row in rows],
        key=("connection_id", "salesforce_id"),
        changing=("outcome", "address_hash"),
    )
    _block_opted_out(connection_id, user_id, rows)
    unblock(connection_id, [row["salesforce_id"] for row in rows if row["address_hash"] is None])


def delete_from_ledger(connection_id: int, ids: Collection[str]) -> None:
    for chunk in chunks(ids):
        db.session.execute(
            delete(LEDGER).where(LEDGER.c.connection_id == connection_id, LEDGER.c.salesforce_id.in_(chunk))
        )
    unblock(connection_id, ids)


def _block_opted_out(connection_id: int, user_id: int, rows: Iterable[dict[str, Any]]) -> None:
    addresses = {row["salesforce_id"]: row["address_hash"] for row in rows if row["address_hash"] is not None}
    block(connection_id, user_id, BlockedBy.CONTACT, addresses)


def mark_swept(connection_id: int, run_id: int, ids: Collection[str]) -> None:
    """Write down that a run's sweep has seen these."""
    for chunk in chunks(ids):
        mine = (LEDGER.c.connection_id == connection_id) & among(LEDGER.c.salesforce_id, chunk)
        db.session.execute(update(LEDGER).where(mine).values(swept_in_run_id=run_id))


def upsert_departures(rows: Sequence[dict[str, Any]]) -> None:
    """A departure that is held or discarded keeps its state, and learns what was found now."""
    _upsert(
        DEPARTURES,
        [{"state": DepartureState.FOUND, **row} for row in rows],
        key=("connection_id", "salesforce_id"),
        changing=NEW_FACTS,
    )


def take_back_departures(connection_id: int, ids: Collection[str]) -> None:
    """These are here again. If the advisor had discarded one of them, the set is a different one: the rest is open again."""
    mine = DEPARTURES.c.connection_id == connection_id
    is_discarded = DEPARTURES.c.state == DepartureState.DISCARDED
    for chunk in chunks(ids):
        if db.session.execute(
            select(DEPARTURES).where(mine, is_discarded, DEPARTURES.c.salesforce_id.in_(chunk))
        ).first():
            db.session.execute(update(DEPARTURES).where(mine, is_discarded).values(state=DepartureState.FOUND))
    drop_departures(connection_id, ids)


def drop_departures(connection_id: int, ids: Collection[str]) -> None:
    for chunk in chunks(ids):
        db.session.execute(
            delete(DEPARTURES).where(DEPARTURES.c.connection_id == connection_id, DEPARTURES.c.salesforce_id.in_(chunk))
        )
        db.session.execute(
            update(CONTACTS)
            .where(
                CONTACTS.c.connection_id == connection_id,
                among(CONTACTS.c.salesforce_id, chunk),
                CONTACTS.c.opt_out_known_until.is_not(None),
            )
            .values(opt_out_known_until=None)
        )


def insert_changes(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        db.session.execute(insert(CHANGES), rows)


def chunks(items: Iterable[Any]) -> Iterable[list[Any]]:
    everything = list(items)
    for start in range(0, len(everything), PARAMETERS):
        yield everything[start : start + PARAMETERS]


def _upsert(table: Table, rows: list[dict[str, Any]], key: tuple[str, ...], changing: tuple[str, ...]) -> None:
    if not rows:
        return
    dialect = postgresql if is_postgresql() else sqlite
    statement = dialect.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=list(key), set_={name: statement.excluded[name] for name in changing}
    )
    if not is_postgresql():
        db.session.execute(statement, rows)
        return
    source = unnest(rows, {name: table.c[name] for name in rows[0]})
    names = list(rows[0])
    db.session.execute(statement.from_select(names, select(*(source.c[name] for name in names))))


def is_postgresql() -> bool:
    return db.engine.dialect.name == "postgresql"


def unnest(rows: Sequence[dict[str, Any]], columns: Mapping[str, Column[Any]]) -> TableValuedAlias:
    """Return rows as a table made of one array a column: one statement, whatever the number of rows."""
    arrays = (literal([row[name] for row in rows], ARRAY(column.type)) for name, column in columns.items())
    typed = (sql_column(name, column.type) for name, column in columns.items())
    return func.unnest(*arrays).table_valued(*typed, name="rows").render_derived()


def insert_many(table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """INSERT rows, all with the same columns, as the driver takes them; PostgreSQL gets them by COPY."""
    if not rows:
        return
    if is_postgresql():
        copy_into(table, rows)
        return
    names = list(rows[0])
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    db.session.connection().exec_driver_sql(statement, list(prepared(table, names, rows)))


def copy_into(table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """COPY rows, all with the same columns, in the session's transaction."""
    names = list(rows[0])
    connection = db.session.connection()
    driver: Any = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
            for row in prepared(table, names, rows):
                copy.write_row(row)
    except driver.OperationalError as error:  # SQLAlchemy doesn't see it
        connection.invalidate(error)
        raise OperationalError("COPY", None, error) from error


def prepared(table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Iterable[tuple[Any, ...]]:
    """Return the rows as the driver takes them."""
    columns = zip(*map(itemgetter(*names), rows), strict=True)
    return zip(
        *(prepared_column(table.c[name], column) for name, column in zip(names, columns, strict=True)), strict=True
    )


def prepared_column(column: Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    """Moments are few and come again and again: each is prepared once."""
    if not isinstance(column.type, UTCDateTime):
        return values
    bind = column.type.dialect_impl(db.engine.dialect).bind_processor(db.engine.dialect)
    prepare = datetime.isoformat if bind is None or is_postgresql() else bind
    known = {value: None if value is None else prepare(value) for value in set(values)}
    return [known[value] for value in values]
