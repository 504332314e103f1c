"""Mails to advisors that become due: each is written once.

The time that makes a mail due moves on in the transaction that stores the mail, and only if it is still the time that was
read. From then on the outbox has it (accounts/mail_outbox.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, update

from asapp.accounts import mail_outbox
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, reading, writing
from asapp.core.extensions import db
from asapp.core.mail import Letter
from asapp.core.vault import Vault
from asapp.models import MailChoice, WaitingKind

ROUND_S = 45.0  # then other jobs have their turn; the next tick enqueues another


class DueMail(NamedTuple):
    """A mail that is due for an advisor. until: up to when the last one told."""

    user_id: int
    due_at: datetime
    until: datetime


class KindOfMail(NamedTuple):
    """due: selects the columns of DueMail at a moment, the longest due first. due_at: the column that makes it due.

    write: returns the mail at a moment, or None if there is nothing to tell; it only reads. moved_on: returns the columns of
    MailChoice after a mail that told up to a moment.
    """

    due: Callable[[datetime], Select[Any]]
    due_at: Any
    write: Callable[[DueMail, datetime, str], Letter | None]
    moved_on: Callable[[int, datetime], dict[str, Any]]


def are_due(kind: KindOfMail) -> bool:
    """Is such a mail due? Ends the transaction."""
    end_read(db.session)
    with reading():
        found = db.session.execute(kind.due(utcnow()).limit(1)).first() is not None
        end_read(db.session)
    return found


def write_due(kind: KindOfMail, vault: Vault, public_url: str) -> int:
    """Store the mails that are due; return how many. Commits."""
    stop_at, written = time.monotonic() + ROUND_S, 0
    while time.monotonic() < stop_at:
        now = utcnow()
        with reading():
            row = db.session.execute(kind.due(now).limit(1)).first()
            due = DueMail(*row) if row is not None else None
            letter = kind.write(due, now, public_url) if due is not None else None
            end_read(db.session)
        if due is None:
            break
        written += store(kind, due, now, letter, vault)
    return written


def store(kind: KindOfMail, due: DueMail, until: datetime, letter: Letter | None, vault: Vault) -> bool:
    """Store the mail, if there is one, and when the next is due; return whether a mail is stored. Commits."""
    with writing():
        is_same = (MailChoice.user_id == due.user_id, kind.due_at == due.due_at)
        mine = update(MailChoice).where(*is_same).values(kind.moved_on(due.user_id, until))
        is_mine = change_rows(db.session, mine) == 1
        if is_mine and letter is not None:
            mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault)
        db.session.commit()
    return is_mine and letter is not None
