"""Events that a sender reports: people who unsubscribed or complained, and addresses that bounced."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from asapp.contacts import suppressions
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.suppressions import Address, Happened
from asapp.core.bulk import in_chunks
from asapp.core.database import retry_when_beaten
from asapp.core.extensions import db
from asapp.core.forms import clean_line
from asapp.core.vault import Vault
from asapp.models import Partner, SuppressionSource, SuppressionStep, User
from asapp.models.suppression import WORDS_MAX

DETAIL_READ = 4 * WORDS_MAX  # characters of a detail that are read
TRIES = 3  # two calls at once may report the same event

# Stores and commits, and returns what was new, as writeback/unsubscribing.py: record().
Record = Callable[[Collection[Happened]], Collection[Happened]]


class EventType(StrEnum):
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    BOUNCED = "bounced"


class Told(NamedTuple):
    """An event as the sender reports it. id: its own. advisor_id: the public one. at: when it happened.

    detail: the sender's text about it, unchanged.
    """

    id: str
    type: EventType
    advisor_id: str
    email: str
    at: datetime
    detail: str = ""


class Taken(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # this advisor's event with this id was stored before
    UNKNOWN_ADVISOR = "unknown_advisor"  # not one of ours, or not one that the key may access


def record_events(told: Sequence[Told], partner_id: int | None, vault: Vault, record: Record) -> list[Taken]:
    """Store events and return the result of each, in their order. Commits.

    partner_id: only about advisors of this firm; None: about any. Events about advisors who were deactivated are stored too.
    record: with what else belongs to it; what is stored is given to it once, unless the database ends its transaction.
    """
    users = _find_users({each.advisor_id for each in told}, partner_id)
    keys = _keys({user.partner_id for user in users.values() if user.partner_id}, vault)
    happened = {
        number: _as_happened(each, users[each.advisor_id], keys)
        for number, each in enumerate(told)
        if each.advisor_id in users
    }
    new = _record(happened, record) if happened else set()
    return [
        Taken.UNKNOWN_ADVISOR if number not in happened else Taken.ACCEPTED if number in new else Taken.DUPLICATE
        for number in range(len(told))
    ]


def _find_users(public_ids: set[str], partner_id: int | None) -> dict[str, User]:
    """Return {public id: advisor}; deactivated ones too, but none whose account is gone with its firm."""
    query = select(User).where(User.partner_id.is_not(None))
    if partner_id is not None:
        query = query.where(User.partner_id == partner_id)
    return {
        user.public_id: user
        for chunk in in_chunks(sorted(public_ids))
        for user in db.session.scalars(query.where(User.public_id.in_(chunk)))
        if not user.is_emptied
    }


def _keys(partner_ids: set[int], vault: Vault) -> dict[int, bytes]:
    return {
        partner_id: address_key(db.session(), db.session.get_one(Partner, partner_id), vault)
        for partner_id in sorted(partner_ids)
    }


def _as_happened(told: Told, user: User, keys: dict[int, bytes]) -> Happened:
    partner_id = user.partner_id or 0
    return Happened(
        Address(partner_id, user.id, address_hash(told.email, keys[partner_id])),
        SuppressionStep(told.type.value),
        SuppressionSource.SENDER,
        told.at,
        told.id,
        words=clean_detail(told.detail, told.email),
    )


def clean_detail(detail: str, email: str) -> str:
    """Return a sender's text on one line of at most WORDS_MAX visible characters, without the address itself."""
    line = clean_line(detail[:DETAIL_READ])
    if not line:  # as of nearly all but bounces
        return ""
    return re.sub(re.escape(email.strip()), "this address", line, flags=re.IGNORECASE)[:WORDS_MAX].rstrip()


def _record(happened: dict[int, Happened], record: Record) -> set[int]:
    """Store these; return the numbers of the new ones."""

    def work() -> set[int]:
        new = _without_known(happened)
        stored = set(record([happened[number] for number in sorted(new)]))
        return {
            number for number in new if happened[number] in stored
        }  # a call at the same moment may have been faster

    for attempt in range(1, TRIES + 1):
        try:
            return retry_when_beaten(db.session(), work)
        except IntegrityError:  # the other call was faster: its events are now stored
            db.session.rollback()
            if attempt == TRIES:
                raise
    raise AssertionError


def _without_known(happened: dict[int, Happened]) -> set[int]:
    """Return the numbers of those that were not reported before, nor earlier in this call."""
    first: dict[tuple[int | None, str | None], int] = {}
    for number, each in happened.items():
        first.setdefault((each.address.user_id, each.sender_event_id), number)
    known = suppressions.known_sender_ids(first.keys())
    return {number for key, number in first.items() if key not in known}
