"""Sends that a sender has asked for: first a row, then a job (sends/prepare.py)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ContactList, Send, SendState
from asapp.models.send import EVERY_FIRM

ENDS_WITHIN = timedelta(minutes=5)


class SendDiffers(Exception):
    """The sender has already used this id for a send with other values."""


def key_scope(partner_id: int | None) -> int:
    """Return the scope in which a key's send ids are unique: the partner it is bound to, or all."""
    return EVERY_FIRM if partner_id is None else partner_id


def start_send(scope: int, sender_send_id: str, contact_list: ContactList, max_age_minutes: int) -> Send:
    """Return the send with this id; if there is none, store one as preparing, for the caller to enqueue. Commits.

    Raise SendDiffers if the id stands for another list or another age.
    """
    list_id, now = contact_list.id, utcnow()
    send = find_send(scope, sender_send_id)
    if send is None:
        send = Send(
            send_scope=scope,
            sender_send_id=sender_send_id,
            list_id=list_id,
            max_age_minutes=max_age_minutes,
            created_at=now,
            deadline_at=now + ENDS_WITHIN,
        )
        db.session.add(send)
        try:
            db.session.commit()
        except IntegrityError:  # the same call came twice at once
            db.session.rollback()
            return start_send(scope, sender_send_id, db.session.get_one(ContactList, list_id), max_age_minutes)
    if (send.list_id, send.max_age_minutes) != (list_id, max_age_minutes):
        raise SendDiffers(sender_send_id)
    return send


def find_send(scope: int, sender_send_id: str) -> Send | None:
    return db.session.scalar(select(Send).where(Send.send_scope == scope, Send.sender_send_id == sender_send_id))


def is_expired(send: Send, now: datetime) -> bool:
    """Was the send ready, and has that expired?"""
    return send.is_ready and send.expires_at is not None and send.expires_at <= now


def list_of(send: Send) -> ContactList:
    return db.session.get_one(ContactList, send.list_id)


def count_by_state(session: Session, since: datetime) -> dict[str, int]:
    """Return {state: how many of the sends that were asked for since then}, with every state there is."""
    rows = session.execute(select(Send.state, func.count()).where(Send.created_at > since).group_by(Send.state))
    return dict.fromkeys((state.value for state in SendState), 0) | {row[0]: row[1] for row in rows}
