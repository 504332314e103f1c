"""The keys that our sealed columns are under, and re-encrypting them with the newest one while the system runs.

Every table with a public_id that seals (SealsColumns) takes part; its sealed columns are those named `…_sealed`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table, case, false, func, literal, or_, select, update
from sqlalchemy.orm import Session

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.database import Base, change_rows
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen, Vault
from asapp.models import Action
from asapp.models.columns import SealsColumns, place_of

BATCH = 500
SUFFIX = "_sealed"
LASTING = ("partners", "second_factors")  # the tables whose sealed rows stay for years


@dataclass
class Rotation:
    """renewed: now under the newest key. overtaken: changed by another process in between, so already under the newest
    key.
    unreadable: sealed with a key that is not here, or altered; left as they were."""

    renewed: int = 0
    overtaken: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)


def sealed_columns() -> list[tuple[Table, str]]:
    tables = [mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, SealsColumns)]
    found = [(t, c.name) for t in tables if isinstance(t, Table) for c in t.columns if c.name.endswith(SUFFIX)]
    return sorted(found, key=lambda pair: (pair[0].name, pair[1]))


def count_by_key() -> dict[str, Counter[str]]:
    """Return `table.column` -> key id -> how many values."""
    counted = {}
    for table, column in sealed_columns():
        used: Counter[str] = Counter()
        for batch in _batches(table, column):
            used.update(row.sealed.split(".")[1] for row in batch)
        counted[f"{table.name}.{column}"] = used
    return counted


def count_without_key(session: Session, vault: Vault) -> int:
    """Return how many values are sealed with a key that is not here. One query, which reads each of the tables once."""
    counts: dict[Table, list[Any]] = defaultdict(list)
    for table, column in sealed_columns():
        is_known = or_(false(), *(table.c[column].startswith(beginning) for beginning in vault.beginnings))
        counts[table].append(func.count(case((~is_known, 1))))
    of_tables = [select(sum(of_columns, start=literal(0))).scalar_subquery() for of_columns in counts.values()]
    return session.scalar(select(sum(of_tables, start=literal(0)))) or 0


def opens_nothing(session: Session, vault: Vault) -> bool:
    """Is what was sealed first, in each column that lasts, under keys that are not here? Then they are another database's.

    One query for a row of each column. What was sealed since, with the wrong keys, hides nothing.
    """
    first = [
        select(table.c[column]).where(table.c[column].is_not(None)).order_by(table.c.id).limit(1).scalar_subquery()
        for table, column in sealed_columns()
        if table.name in LASTING
    ]
    sealed = [value for value in session.execute(select(*first)).one() if value is not None]
    return bool(sealed) and not any(vault.has_key_of(value) for value in sealed)


def count_outdated(vault: Vault) -> int:
    return sum(count for used in count_by_key().values() for key, count in used.items() if key != vault.newest_key_id)


def rotate(vault: Vault, by: Actor = ITSELF) -> Rotation:
    """Re-encrypt what an older key sealed, batch by batch; a value that changes in between is left as its writer sealed it."""
    result = Rotation()
    for table, column in sealed_columns():
        for batch in _batches(table, column):
            for row in batch:
                if not vault.is_current(row.sealed):
                    _renew(table, column, row, vault, result)
            db.session.commit()
    told: dict[str, Any] = {
        "renewed": result.renewed,
        "unreadable": result.unreadable.total(),
        "to": vault.newest_key_id,
    }
    entries.record(Action.KEYS_ROTATED, by, None, **told)
    db.session.commit()
    return result


def _renew(table: Table, column: str, row: Any, vault: Vault, result: Rotation) -> None:
    place = place_of(table.name, row.public_id, column)
    try:
        fresh = vault.seal(vault.open(row.sealed, place), place)
    except CannotOpen:
        result.unreadable[f"{table.name}.{column}"] += 1
        return
    swap = update(table).where(table.c.id == row.id, table.c[column] == row.sealed).values({column: fresh})
    if change_rows(db.session, swap):
        result.renewed += 1
    else:
        result.overtaken += 1


def _batches(table: Table, column: str) -> Iterator[list[Any]]:
    """Yield rows of (id, public_id, sealed), in order of id; each batch is a transaction of its own."""
    sealed = table.c[column].label("sealed")
    last_id = 0
    while True:
        rows = db.session.execute(
            select(table.c.id, table.c.public_id, sealed)
            .where(table.c.id > last_id, table.c[column].is_not(None))
            .order_by(table.c.id)
            .limit(BATCH)
        ).all()
        if not rows:
            db.session.rollback()
            return
        yield list(rows)
        db.session.rollback()  # what the caller wanted kept is committed
        last_id = rows[-1].id
