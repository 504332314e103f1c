"""Taking back what an advisor just did to contacts: deleting them here, taking them off a list.

Only what loses nothing is offered: a contact made by hand is deleted for good. The offer holds for some minutes, once, and only
for the advisor's last act.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete

from asapp.audit.entries import ITSELF, Actor
from asapp.contacts import lists, removal
from asapp.core.extensions import db
from asapp.models import ContactList, Undo, UndoKind

LASTS = timedelta(minutes=10)
TOKEN_BYTES = 18


class Undone(NamedTuple):
    """contact_list: the one that the contacts are on again; None if they were restored."""

    number: int
    contact_list: ContactList | None


def offer_restore(user_id: int, contact_ids: Sequence[int], now: datetime) -> str:
    """Store that these contacts were deleted here; return the token of the offer. Commits."""
    token = _store(user_id, UndoKind.RESTORE, contact_ids, now)
    db.session.commit()
    return token


def offer_put_back(contact_list: ContactList, contact_ids: Sequence[int], now: datetime) -> str:
    """Store that these contacts were taken off the list; return the token of the offer. Commits."""
    token = _store(contact_list.user_id, UndoKind.PUT_BACK, contact_ids, now, contact_list.id)
    db.session.commit()
    return token


def undo(user_id: int, token: str, now: datetime, by: Actor = ITSELF) -> Undone | None:
    """Take the act back; None if it was taken back, is too long ago, or another has followed it. Commits."""
    mine = (Undo.user_id == user_id, Undo.token == token, Undo.made_at > now - LASTS)
    act = db.session.execute(
        delete(Undo).where(*mine).returning(Undo.kind, Undo.list_id, Undo.contact_ids)
    ).one_or_none()
    if act is None:
        db.session.rollback()
        return None
    if act.kind == UndoKind.RESTORE:
        return Undone(removal.restore_contacts(user_id, act.contact_ids, by), None)
    contact_list = lists.find_own_list(user_id, act.list_id)
    return Undone(lists.add_members(contact_list, act.contact_ids), contact_list) if contact_list else None


def _store(user_id: int, kind: UndoKind, contact_ids: Sequence[int], now: datetime, list_id: int | None = None) -> str:
    """Store an act in place of the advisor's last one; return its token."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    act = Undo(user_id=user_id, token=token, kind=kind, list_id=list_id, contact_ids=list(contact_ids), made_at=now)
    db.session.merge(act)
    return token
