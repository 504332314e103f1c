"""Parts of columns that several tables share."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import CheckConstraint, event

from asapp.core.vault import Vault

M = TypeVar("M", bound=type)


def new_public_id() -> str:
    return str(uuid4())


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return a check that the column holds one of the values; the constraint is named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class AppendOnly(Exception):
    """A change or deletion of a row that must stay as it was written."""


def append_only(model: M) -> M:
    """Mark a model whose rows are written once. The database enforces it too: see migrations/append_only.py."""

    def refuse(_mapper: Any, _connection: Any, target: Any) -> None:
        raise AppendOnly(type(target).__name__)

    event.listen(model, "before_update", refuse)
    event.listen(model, "before_delete", refuse)
    return model


class SealsColumns:
    """For rows with a public_id: columns that the vault seals for this row."""

    __tablename__: str
    public_id: object

    def seal(self, vault: Vault, column: str, plain: str | None) -> None:
        setattr(self, column, None if plain is None else vault.seal(plain, self._place(column)))

    def unseal(self, vault: Vault, column: str) -> str:
        """Return the plain text; raise CannotOpen. The column must not be empty."""
        return vault.open(getattr(self, column), self._place(column))

    def _place(self, column: str) -> str:
        if not self.public_id:
            raise ValueError("a row needs its public_id before it can seal")
        return place_of(self.__tablename__, str(self.public_id), column)


def place_of(table: str, public_id: str, column: str) -> str:
    """Return the place that a sealed value is bound to."""
    return f"{table}:{public_id}:{column}"
