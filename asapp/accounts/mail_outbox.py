"""Mails that a request asked for: stored sealed, and sent by a job.

A request never calls the mail server: the answer would take as long as the server does, and its time would reveal what
was done. A mail that the server refuses is retried at growing intervals, until it would be too late. A process that dies
between sending a mail and deleting it sends it twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from asapp.core.backoff import wait_after
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, reading
from asapp.core.extensions import db
from asapp.core.leases import NO_LEASE, new_lease
from asapp.core.mail import LEASE, Fate, Letter
from asapp.core.vault import CannotOpen, Vault
from asapp.models import WaitingKind, WaitingMail
from asapp.models.columns import new_public_id

log = logging.getLogger(__name__)

GIVE_UP_AFTER = timedelta(days=1)
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
ROUND_S = 45.0  # then other jobs have their turn; the next tick enqueues again
CONTENT = "content_sealed"

Post = Callable[[Letter], Fate]
Enqueue = Callable[[], bool]


def post_later(letters: Iterable[Letter], vault: Vault, enqueue: Enqueue) -> None:
    """Store the letters and enqueue the job that sends them. Commits."""
    for letter in letters:
        add(WaitingKind.LETTER, asdict(letter), vault)
    db.session.commit()
    enqueue()


def add(kind: WaitingKind, content: dict[str, str], vault: Vault, give_up_after: timedelta = GIVE_UP_AFTER) -> None:
    """Store a mail in the caller's transaction."""
    now = utcnow()
    mail = WaitingMail(public_id=new_public_id(), kind=kind, created_at=now, due_at=now, give_up_at=now + give_up_after)
    mail.seal(vault, CONTENT, json.dumps(content))
    db.session.add(mail)


def read(mail: WaitingMail, vault: Vault) -> dict[str, str]:
    """Return the content; raise CannotOpen."""
    content: dict[str, str] = json.loads(mail.unseal(vault, CONTENT))
    return content


def are_due() -> bool:
    """Is a mail due, or a reset to answer? Ends the transaction."""
    end_read(db.session)
    with reading():
        found = db.session.scalar(select(WaitingMail.id).where(*_is_due(utcnow())).limit(1)) is not None
        end_read(db.session)
    return found


def count_refused(session: Session) -> int:
    """Return how many mails the mail server was offered and has not taken."""
    return session.scalar(select(func.count()).select_from(WaitingMail).where(WaitingMail.attempts > 0)) or 0


def send_due(post: Post, vault: Vault) -> int:
    """Send the due letters, the oldest first; return how many the server took. Commits."""
    delete_what_is_too_late()
    end_at, sent = time.monotonic() + ROUND_S, 0
    while time.monotonic() < end_at and (mail := claim(utcnow())) is not None:
        mail_id, lease, attempts = mail.id, mail.lease or "", mail.attempts
        letter = _letter(mail, vault)
        end_read(db.session)
        fate = post(letter) if letter is not None else Fate.TAKEN  # one that can't be opened is useless and deleted
        sent += fate is Fate.TAKEN
        settle(mail_id, lease, attempts, fate)
        if fate is Fate.AWAY:
            break
    return sent


def claim(now: datetime) -> WaitingMail | None:
    """Claim one due letter. Commits."""
    one = (
        select(WaitingMail.id)
        .where(WaitingMail.kind == WaitingKind.LETTER, *_is_due(now))
        .order_by(WaitingMail.due_at, WaitingMail.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    mail_id = db.session.scalar(one)
    if mail_id is None:
        db.session.rollback()
        return None
    mail = db.session.get_one(WaitingMail, mail_id)
    mail.lease, mail.lease_until, mail.attempts = new_lease(), now + LEASE, mail.attempts + 1
    db.session.commit()
    return mail


def _letter(mail: WaitingMail, vault: Vault) -> Letter | None:
    try:
        return Letter(**read(mail, vault))
    except CannotOpen:
        log.warning("a mail that waits can't be opened: its key is not in ENCRYPTION_KEYS")
        return None


def settle(mail_id: int, lease: str, attempts: int, fate: Fate) -> None:
    """Delete a mail that was taken, delay one that was not; do nothing if another job has it by now. Commits."""
    is_mine = (WaitingMail.id == mail_id, WaitingMail.lease == lease)
    if fate is Fate.TAKEN:
        db.session.execute(delete(WaitingMail).where(*is_mine))
    else:
        due_at = utcnow() + wait_after(attempts, FIRST_WAIT, LONGEST_WAIT)
        db.session.execute(update(WaitingMail).where(*is_mine).values(due_at=due_at, **NO_LEASE))
    db.session.commit()


def delete_what_is_too_late() -> None:
    given_up = change_rows(db.session, delete(WaitingMail).where(WaitingMail.give_up_at <= utcnow()))
    db.session.commit()
    if given_up:
        log.warning("mails were given up: the mail server did not take them in time", extra={"mails": given_up})


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return WaitingMail.due_at <= now, WaitingMail.has_no_worker(now)
