"""The story of a contact: when it arrived, what syncs changed, when it was deleted here and restored, lists, consent, and what
happened to its address.

Everything is read from what is stored for other reasons. Runs are deleted after a time, and what they changed with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select

from asapp.contacts.queries import ContactLine
from asapp.contacts.suppressions import AddressStory
from asapp.core.extensions import db
from asapp.leads.consent import Moment
from asapp.messages import story as words
from asapp.messages.leads import words_of
from asapp.messages.suppressions import ENDS, SOURCES, STEPS
from asapp.models import Contact, ContactSource, Restoration, RunChange, SyncRun
from asapp.models.run import SWITCHED_ON
from asapp.panel.receipts import changed_fields, owner_in
from asapp.writeback.queries import ShownWriteBack

CHANGES_MAX = 200
RESTORED_MAX = 50
YES, HUSH, TOLD, PLAIN = "yes", "hush", "told", ""  # how an event is marked: asapp.css


class StoryEvent(NamedTuple):
    """run_id: of the sync whose receipt shows it. fields: (label, old, new). consent: for a sign-up or an opt-out of it."""

    at: datetime
    mark: str
    title: str
    text: str = ""
    run_id: int | None = None
    fields: Sequence[tuple[str, str, str]] = ()
    consent: Moment | None = None


def story_of(
    line: ContactLine, address: AddressStory, consent: Sequence[Moment], telling: ShownWriteBack | None
) -> list[StoryEvent]:
    """Return what happened to a contact, newest first. line: of find_contact()."""
    contact = line.contact
    events = [
        *_by_syncs(contact),
        *_by_restoring(contact),
        *_lists(line),
        *_of_address(address),
        *map(_of_consent, consent),
    ]
    if contact.source != ContactSource.LEAD or not consent:
        events.append(_arrival(line))
    if contact.hidden_at is not None:
        events.append(StoryEvent(contact.hidden_at, PLAIN, *words.HIDDEN))
    if contact.bounced_at is not None and contact.has_bounced:
        events.append(StoryEvent(contact.bounced_at, HUSH, words.BOUNCED, contact.bounce_reason))
    if telling is not None and telling.is_told and telling.at is not None:
        events.append(StoryEvent(telling.at, TOLD, *words.TOLD_SALESFORCE))
    return sorted(events, key=lambda event: event.at, reverse=True)


def _arrival(line: ContactLine) -> StoryEvent:
    contact = line.contact
    is_by_hand = contact.is_read_only and contact.created_in_run_id is None
    told = words.WENT_BY_HAND if is_by_hand else words.ARRIVED[contact.source]
    return StoryEvent(contact.created_at, PLAIN, *told, run_id=line.arrived_in)


def _by_syncs(contact: Contact) -> Iterable[StoryEvent]:
    at = func.coalesce(SyncRun.finished_at, SyncRun.started_at, SyncRun.queued_at)
    rows = db.session.execute(
        select(RunChange.kind, RunChange.reason, RunChange.old, RunChange.new, RunChange.run_id, at.label("at"))
        .join(SyncRun, SyncRun.id == RunChange.run_id)
        .where(RunChange.contact_id == contact.id)
        .order_by(RunChange.id.desc())
        .limit(CHANGES_MAX)
    )
    for row in rows:
        told = words.of_change(row.kind, row.reason, owner_in(row))
        yield StoryEvent(row.at, _mark_of(row.kind, row.reason), *told, row.run_id, changed_fields(row))


def _by_restoring(contact: Contact) -> Iterable[StoryEvent]:
    """Return when the contact was deleted here and restored, each time. The tombstone that still holds is not among them."""
    rows = db.session.execute(
        select(Restoration.deleted_at, Restoration.restored_at)
        .where(Restoration.contact_id == contact.id)
        .order_by(Restoration.id.desc())
        .limit(RESTORED_MAX)
    )
    for row in rows:
        yield StoryEvent(row.restored_at, PLAIN, *words.RESTORED)
        yield StoryEvent(row.deleted_at, PLAIN, *words.HIDDEN)


def _mark_of(kind: str, reason: str | None) -> str:
    if kind == "reactivated" or (kind == "also" and reason in SWITCHED_ON):
        return YES
    return HUSH if kind in ("deactivated", "also") and reason in words.OPT_OUTS else PLAIN


def _lists(line: ContactLine) -> Iterable[StoryEvent]:
    for each in line.memberships:
        if each.added_at is not None:
            yield StoryEvent(each.added_at, PLAIN, *words.put_on(each.name))


def _of_address(address: AddressStory) -> Iterable[StoryEvent]:
    for event in address.events:
        quoted = address.words.get(event.id)
        text = SOURCES[event.source] + ("" if event.user_id else ", for everyone at your firm") + "."
        text = text[0].upper() + text[1:] + (f" “{quoted}”" if quoted else "")
        yield StoryEvent(event.at, YES if event.step in ENDS else HUSH, STEPS[event.step], text)


def _of_consent(moment: Moment) -> StoryEvent:
    told = words_of(moment.event)
    mark = YES if moment.is_yes else HUSH if moment.is_no else PLAIN
    return StoryEvent(moment.event.at, mark, told.title, told.meaning, consent=moment)
