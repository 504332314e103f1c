"""Who is meant in "Why isn't this person here?" if a name was asked for: contacts here and in Salesforce, at most five.

Salesforce is queried once, and nothing of its answer is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqlalchemy import select

from asapp.contacts.queries import WORDS_MAX, contacts_of
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.models import Contact
from asapp.models.search import fold
from asapp.salesforce.errors import OurBug, SalesforceError
from asapp.salesforce.records import NamedContact

SHOWN = 5


class AskNames(Protocol):
    def __call__(self, words: Sequence[str], limit: int) -> Sequence[NamedContact]:
        """Make one call to Salesforce, with no transaction open. Raises SalesforceError."""


class Match(NamedTuple):
    """contact_id: of the contact here. salesforce_id: None if it has none. owner_name: empty if it is the advisor's own.

    email: of a contact here."""

    name: str
    contact_id: int | None
    salesforce_id: str | None
    owner_name: str = ""
    is_deleted: bool = False
    email: str = ""


@dataclass(frozen=True)
class Matches:
    """has_more: there are others by that name. error: why Salesforce gave no answer."""

    found: Sequence[Match]
    has_more: bool = False
    error: SalesforceError | None = None


def find_matches(user_id: int, name: str, owner_id: str | None, ask: AskNames | None) -> Matches:
    """Return who may be meant: first those who are here. owner_id: the connected user; ask: None if there is none."""
    words = name.split()[:WORDS_MAX]
    here = _find_here(user_id, words)
    error: SalesforceError | None = None
    there: Sequence[NamedContact] = ()
    if ask is not None and len(here) <= SHOWN:
        try:
            there = ask(words, 2 * SHOWN + 1)
        except OurBug:
            raise
        except SalesforceError as refused:
            error = refused
    known = {match.salesforce_id for match in here}
    found = here + [
        Match(
            each.name,
            None,
            each.id,
            "" if each.owner_id == owner_id else each.owner_name or "another user",
            each.is_deleted,
        )
        for each in there
        if each.id not in known
    ]
    return Matches(found[:SHOWN], len(found) > SHOWN, error)


def _find_here(user_id: int, words: Sequence[str]) -> list[Match]:
    having = [Contact.search_key.contains(fold(word), autoescape=True) for word in words]
    contacts = db.session.scalars(
        select(Contact).where(contacts_of(user_id), *having).order_by(Contact.search_key, Contact.id).limit(SHOWN + 1)
    ).all()
    found = [Match(each.name or each.email, each.id, each.salesforce_id, email=each.email) for each in contacts]
    end_read(db.session)
    return found
