"""The history of a person's consent. Entries are added and never changed.

An entry names the person by the lead's id. Name, addresses and client address are in the lead's row alone, so that
erasing that row leaves an anonymous history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import joinedload

from asapp.contacts import suppressions
from asapp.contacts.suppressions import Address
from asapp.core.clock import utcnow
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import insert_ignore
from asapp.core.extensions import db
from asapp.models import ConsentEvent, ConsentKind, ConsentSource, Contact, Lead, SuppressionEvent, SuppressionStep
from asapp.models.columns import new_public_id

COLUMNS = (
    "at",
    "event",
    "source",
    "first_name",
    "last_name",
    "email",
    "client_address",
    "text_version",
    "heading",
    "text",
    "scope",
    "detail",
)


@dataclass(frozen=True)
class Moment:
    """One entry of the history, with what is stored about the sign-up; the personal fields are empty once erased."""

    event: ConsentEvent
    lead: Lead
    first_name: str
    last_name: str
    client_address: str

    @property
    def is_yes(self) -> bool:
        return self.event.kind in (ConsentKind.OPTED_IN, ConsentKind.BACK_IN)

    @property
    def is_no(self) -> bool:
        return self.event.kind in (ConsentKind.OPTED_OUT, ConsentKind.DELETED, ConsentKind.ERASED)


def record(
    lead_id: int,
    kind: ConsentKind,
    source: ConsentSource,
    at: datetime,
    *,
    key: str | None = None,
    consent_text_id: int | None = None,
    run_id: int | None = None,
) -> bool:
    """Add an entry in the caller's transaction; return False if this form (its key) was already recorded."""
    added = db.session.execute(
        insert_ignore(db.session, ConsentEvent, key=("lead_id", "key"))
        .values(
            lead_id=lead_id,
            key=key or new_public_id(),
            kind=kind,
            source=source,
            at=at,
            recorded_at=utcnow(),
            consent_text_id=consent_text_id,
            run_id=run_id,
        )
        .returning(ConsentEvent.id)
    )
    return added.first() is not None


def history_of_contact(user_id: int, contact_id: int) -> list[Moment]:
    """Return every event that affected this person's consent here, newest first."""
    return _history(Lead.user_id == user_id, Lead.contact_id == contact_id)


def history_of_lead(lead: Lead) -> list[Moment]:
    """Return the same as history_of_contact(), for a person whose contact is no longer here."""
    return _history(Lead.id == lead.id)


def _history(*conditions: ColumnElement[bool]) -> list[Moment]:
    rows = db.session.execute(
        select(ConsentEvent, Lead)
        .join(Lead, Lead.id == ConsentEvent.lead_id)
        .options(joinedload(ConsentEvent.consent_text))
        .where(*conditions)
        .order_by(ConsentEvent.at.desc(), ConsentEvent.id.desc())
    ).all()
    return [_moment(row.ConsentEvent, row.Lead) for row in rows]


def csv_of(moments: Sequence[Moment], person: Contact | Lead, partner_id: int) -> str:
    """Return the history as CSV, oldest first, together with what happened to the person's address.

    moments: the history, newest first. partner_id: the firm whose key made the hash of the address.
    """
    rows = [(moment.event.at, _cells(moment)) for moment in reversed(moments)]
    agreed_at = {moment.event.at for moment in moments if moment.event.kind == ConsentKind.OPTED_IN}
    if person.address_hash is not None:
        address = Address(partner_id, person.user_id, person.address_hash)
        words = suppressions.words_of(person) if isinstance(person, Contact) else {}
        rows += [
            (event.at, _cells_of_address(event, person, words.get(event.id, "")))
            for event in reversed(suppressions.history_of(address))
            if not (event.step == SuppressionStep.OPTED_IN and event.at in agreed_at)  # the history has it
        ]
    return csv_header(COLUMNS) + csv_rows(cells for _, cells in sorted(rows, key=lambda row: row[0]))


def _cells_of_address(event: SuppressionEvent, person: Contact | Lead, words: str) -> list[Any]:
    return [
        event.at.isoformat(timespec="seconds"),
        event.step,
        event.source,
        person.first_name,
        person.last_name,
        person.email,
        *("", "", "", ""),
        "advisor" if event.user_id else "firm",
        words,
    ]


def _cells(moment: Moment) -> list[Any]:
    event, text = moment.event, moment.event.consent_text
    return [
        event.at.isoformat(timespec="seconds"),
        event.kind,
        event.source,
        moment.first_name,
        moment.last_name,
        moment.lead.email,
        moment.client_address,
        text.version if text else "",
        text.heading if text else "",
        text.words if text else "",
        *("", ""),
    ]


def _moment(event: ConsentEvent, lead: Lead) -> Moment:
    typed = lead.details.get(event.key, {})
    return Moment(
        event,
        lead,
        typed.get("first_name", lead.first_name),
        typed.get("last_name", lead.last_name),
        typed.get("client_address", ""),
    )
