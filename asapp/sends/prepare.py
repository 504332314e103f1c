"""Preparing a send: Salesforce is queried now, and the send is ready with its answer, or stale with a reason.

A preparation never waits. It starts the connection's sync, or joins the active one, and stores which. That run looks up
each recipient by Id (sync/recipient_check.py) and ends; then the send is advanced by that run's job or by the tick, whichever
comes first. A run that began before the send was requested has read older changes, so another one follows it. Each step is
one transaction on a send that is still preparing, so it may be repeated, and a process that dies between two steps delays the
send by one tick. After five minutes a send is stale, whatever happens; whether older data is good enough is decided a few
ticks earlier, because the sender may read of a send that has taken too long before any process writes it down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, select, update

from asapp.connections.connections import is_current_of
from asapp.contacts.lists import is_on
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.messages.failures import FixedBy, Occasion, fixed_by
from asapp.models import (
    Connection,
    Contact,
    ContactList,
    Partner,
    RunStatus,
    RunTrigger,
    Send,
    SendReason,
    SendState,
    SyncRun,
    User,
)
from asapp.models.contact import is_known_in_salesforce
from asapp.sync.runs import Enqueue, start_run

GOOD_FOR = timedelta(minutes=60)
DECIDED_BEFORE = timedelta(seconds=35)  # a few ticks before the deadline
AT_ONCE = 200  # sends that one tick advances
USED_UP = (Code.SHARE_USED_UP, Code.ORG_NEARLY_FULL, Code.REQUEST_LIMIT)


class SendFacts(NamedTuple):
    """What decides about a send. connection: the advisor's, if it is connected. run: the one that the send waits for."""

    contact_list: ContactList
    user: User
    partner: Partner | None
    connection: Connection | None
    run: SyncRun | None


def advance(send_id: int, enqueue: Enqueue) -> None:
    """Advance a send as far as possible now; one that has ended stays as it is. Commits."""
    send = _lock(send_id)
    now = utcnow()
    if send is None:
        db.session.rollback()
        return
    facts = _facts_of(send)
    if send.deadline_at <= now:
        _end(send, SendState.STALE, now, SendReason.TOOK_TOO_LONG)  # as Send.outcome() has said already
    elif reason := _why_refused(facts):
        _end(send, SendState.REFUSED, now, reason)
    elif not _asks_salesforce(facts.contact_list):
        send.as_of = now
        _end(send, SendState.READY, now)
    elif reason := _why_not_asked(facts, now):
        _go_on_without(send, facts, reason, now)
    elif _is_answered(send, facts.run):
        _end(send, SendState.READY, now)
    elif facts.run is not None and facts.run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        _go_on_without(send, facts, _why_it_failed(facts.run), now)
    elif send.deadline_at - DECIDED_BEFORE <= now:
        _go_on_without(send, facts, SendReason.TOOK_TOO_LONG, now)
    elif facts.run is None or not facts.run.is_active:
        join_run(send, facts, enqueue)
    db.session.commit()


def advance_sends_of(run_id: int, enqueue: Enqueue) -> None:
    """Advance the sends that wait for a run, once it has ended. Commits."""
    _advance_all(Send.run_id == run_id, enqueue)


def advance_all(enqueue: Enqueue) -> None:
    """Advance every send that is being prepared, also those whose job was lost. Commits."""
    _advance_all(Send.state == SendState.PREPARING, enqueue)


def _advance_all(which: ColumnElement[bool], enqueue: Enqueue) -> None:
    waiting = select(Send.id).where(which, Send.state == SendState.PREPARING).order_by(Send.id).limit(AT_ONCE)
    ids = db.session.scalars(waiting).all()
    end_read(db.session)
    for send_id in ids:
        advance(send_id, enqueue)


def _lock(send_id: int) -> Send | None:
    """Return the send, locked, if it is still being prepared."""
    query = select(Send).where(Send.id == send_id, Send.state == SendState.PREPARING).with_for_update()
    return db.session.scalar(query.execution_options(populate_existing=True))


def _facts_of(send: Send) -> SendFacts:
    contact_list = db.session.get_one(ContactList, send.list_id)
    user = db.session.get_one(User, contact_list.user_id)
    current = select(Connection).where(is_current_of(user.id)).execution_options(populate_existing=True)
    connection = db.session.scalar(current)
    run = db.session.get(SyncRun, send.run_id, populate_existing=True) if send.run_id else None
    return SendFacts(contact_list, user, user.partner, connection, run)


def _asks_salesforce(contact_list: ContactList) -> bool:
    """Does the list have people from Salesforce?"""
    known_there = exists().where(
        Contact.user_id == contact_list.user_id,
        is_on(contact_list),
        is_known_in_salesforce(),
    )
    return bool(db.session.scalar(select(known_there)))


def _why_refused(facts: SendFacts) -> SendReason | None:
    if not facts.user.is_active:
        return SendReason.ADVISOR_INACTIVE
    if facts.partner is None or not facts.partner.is_ready:
        return SendReason.NOT_SET_UP
    if facts.connection is None and _asks_salesforce(facts.contact_list):
        return SendReason.DISCONNECTED
    return None


def _why_not_asked(facts: SendFacts, now: datetime) -> SendReason | None:
    """Return why Salesforce can't be queried now, as far as is known without a call."""
    if facts.connection is not None and facts.connection.needs_reconnect:
        return SendReason.NEEDS_RECONNECT
    if facts.partner is not None and facts.partner.is_paused(now):
        return SendReason.API_ALLOWANCE
    return None


def _is_answered(send: Send, run: SyncRun | None) -> bool:
    """Has the run that the send waits for begun after it, ended well, and asked about its recipients?"""
    if send.as_of is None or run is None or run.status not in (RunStatus.COMPLETE, RunStatus.HELD):
        return False
    return run.started_at is not None and run.started_at >= send.created_at


def _why_it_failed(run: SyncRun) -> SendReason:
    if run.status == RunStatus.CANCELLED:
        return SendReason.CANCELLED
    if run.error_code in USED_UP:
        return SendReason.API_ALLOWANCE
    is_admins = fixed_by(Occasion.SYNC, run.error_code) == FixedBy.FIRM_ADMIN
    return SendReason.WAITING_FOR_ADMIN if is_admins else SendReason.SALESFORCE_AWAY


def _go_on_without(send: Send, facts: SendFacts, reason: SendReason, now: datetime) -> None:
    """End a send without an answer: the firm's setting and the sender decide together how old the data may be."""
    hours = facts.partner.sends_on_data_of_hours if facts.partner else None
    known_at = facts.connection.opt_outs_as_of if facts.connection else None
    oldest = now - min(timedelta(hours=hours or 0), timedelta(minutes=send.max_age_minutes))
    if hours is not None and known_at is not None and known_at >= oldest:
        send.as_of = known_at
        _end(send, SendState.READY, now)
    else:
        send.as_of = known_at
        _end(send, SendState.STALE, now, reason)


def _end(send: Send, state: SendState, now: datetime, reason: SendReason | None = None) -> None:
    send.state, send.reason, send.ended_at = state, reason, now
    send.expires_at = now + GOOD_FOR if state == SendState.READY else None


def join_run(send: Send, facts: SendFacts, enqueue: Enqueue) -> None:
    """Start a sync, or join the active one.

    One that began before the send, or has already looked up its recipients, is followed by another. Commits before that.
    """
    send_id, connection = send.id, facts.connection
    if connection is None:
        return
    db.session.commit()  # no lock is held while the run is created and enqueued
    run = start_run(connection, RunTrigger.SEND, enqueue)
    if run is None:
        return  # just disconnected: the next step handles it
    if run.is_queued and run.trigger != RunTrigger.SEND:
        enqueue([run.id])  # it waits among the scheduled ones; the first of its two jobs takes it
    is_waiting = (Send.id == send_id, Send.state == SendState.PREPARING)
    change_rows(db.session, update(Send).where(*is_waiting).values(run_id=run.id, as_of=None))
