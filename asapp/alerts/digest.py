"""The digest: what changed among an advisor's contacts since the last one, by mail.

A digest is written once: the time that makes it due moves on in the transaction that stores the mail, and only if it is
still the time that was read. Where nothing happened, the time moves on and no mail is stored. From then on the outbox has
it (accounts/mail_outbox.py). It names people, never addresses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select, update

from asapp.accounts import mail_choices, mail_outbox
from asapp.contacts.queries import count_contacts
from asapp.core import formats, mail
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, reading, writing
from asapp.core.extensions import db
from asapp.core.mail import Letter
from asapp.core.vault import Vault
from asapp.leads.queries import find_to_act_on
from asapp.messages.changes import TALLIED, in_a_mail
from asapp.models import Digest, MailChoice, Role, User, WaitingKind
from asapp.panel import changes
from asapp.panel.changes import Account, Entry, Wanted
from asapp.panel.load import count_held_of

NAMED = 3  # people of each kind
FURTHEST_BACK = timedelta(days=8)  # for an advisor who was let back in
ROUND_S = 45.0  # then other jobs have their turn; the next tick enqueues another
UNNAMED = "someone without a name"


class DigestLine(NamedTuple):
    """What happened of one kind: 12, "added", "Esi Mensah, Noor van Dijk, Ines Carvalho and 9 more"."""

    number: int
    words: str
    names: str


def are_due() -> bool:
    """Is a digest due? Ends the transaction."""
    end_read(db.session)
    with reading():
        found = db.session.execute(due(utcnow()).limit(1)).first() is not None
        end_read(db.session)
    return found


def due(now: datetime) -> Any:
    """Select (id of the advisor, when it was due, until when the last one told), the longest due first."""
    return (
        select(MailChoice.user_id, MailChoice.digest_due_at, MailChoice.digest_until)
        .join(User, User.id == MailChoice.user_id)
        .where(MailChoice.digest_due_at <= now, User.deactivated_at.is_(None), User.role == Role.ADVISOR)
        .order_by(MailChoice.digest_due_at, MailChoice.user_id)
    )


def write_due(vault: Vault, public_url: str) -> int:
    """Store the digests that are due as mails; return how many. Commits."""
    stop_at, written = time.monotonic() + ROUND_S, 0
    while time.monotonic() < stop_at:
        now = utcnow()
        with reading():
            row = db.session.execute(due(now).limit(1)).first()
            letter = (
                None if row is None else write(row.user_id, max(row.digest_until, now - FURTHEST_BACK), now, public_url)
            )
            db.session.rollback()
        if row is None:
            break
        written += store(row.user_id, row.digest_due_at, now, letter, vault)
    return written


def store(user_id: int, was_due_at: datetime, until: datetime, letter: Letter | None, vault: Vault) -> bool:
    """Store the mail, if there is one, and when the next is due; return whether a mail is stored. Commits."""
    with writing():
        user = db.session.get_one(User, user_id)
        choice = mail_choices.find(user_id)
        next_due_at = mail_choices.next_due(choice.digest, user.time_zone, until)
        is_same = (MailChoice.user_id == user_id, MailChoice.digest_due_at == was_due_at)
        mine = update(MailChoice).where(*is_same).values(digest_due_at=next_due_at, digest_until=until)
        is_mine = change_rows(db.session, mine) == 1
        if is_mine and letter is not None:
            mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault)
        db.session.commit()
    return is_mine and letter is not None


def write(user_id: int, since: datetime, until: datetime, public_url: str) -> Letter | None:
    """Return the digest about this time, or None if nothing happened. Only reads."""
    user = db.session.get_one(User, user_id)
    account, wanted = Account.of(user), Wanted(since, until)
    counts = changes.tally(account, wanted)
    if not counts:
        return None
    choice = mail_choices.find(user_id)
    return mail.write(
        user.email,
        subject_of(counts, choice.digest),
        "digest",
        zone=user.time_zone,
        name=user.name,
        since=since,
        place=formats.place_of(user.time_zone) if user.time_zone else "UTC",
        active=count_contacts(user_id, until).everybody.active,
        parts=parts_of(account, wanted, counts),
        refused=[people(line.lead.name) for line in find_to_act_on(user, until)[:NAMED]],
        held=count_held_of(user),
        is_weekly=choice.digest == Digest.WEEKLY,
        url=public_url,
    )


def subject_of(counts: Mapping[str, int], digest: str) -> str:
    """Return `Your contacts: 12 added, 3 opted out or unsubscribed, 2 left`."""
    listed = ", ".join(f"{formats.number(number)} {TALLIED[kind]}" for kind, number in counts.items())
    return f"{'Your contacts this week' if digest == Digest.WEEKLY else 'Your contacts'}: {listed}"


def parts_of(account: Account, wanted: Wanted, counts: Mapping[str, int]) -> list[DigestLine]:
    first = changes.first_of_each(account, wanted)
    return [
        DigestLine(number, TALLIED[kind], listing([each for each in first if each.kind == kind], number))
        for kind, number in counts.items()
    ]


def listing(entries: Sequence[Entry], number: int) -> str:
    """Return the first names of a kind, and how many more there are."""
    told = [in_a_mail(people(entry.name), entry.kind, entry.reason) for entry in entries[:NAMED]]
    more = number - len(told)
    return ", ".join(told) + (f" and {formats.number(more)} more" if more else "")


def people(name: str) -> str:
    """Return a person's name as a mail may have it: never an address."""
    return name if name and "@" not in name else UNNAMED
