"""The digest: what changed among an advisor's contacts since the last one, by mail.

Where nothing happened, no mail is stored, and the next one is due at its time. It names people, never addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select

from asapp.accounts import mail_choices
from asapp.alerts.due_mails import DueMail, KindOfMail
from asapp.connections.connections import find_latest
from asapp.contacts.queries import count_contacts
from asapp.core import formats, mail
from asapp.core.extensions import db
from asapp.core.mail import Letter
from asapp.leads.queries import find_hold, find_to_act_on
from asapp.messages.changes import TALLIED, in_a_mail
from asapp.models import Digest, MailChoice, Role, User
from asapp.panel import changes
from asapp.panel.changes import Account, Entry, Wanted
from asapp.panel.load import count_held_of

NAMED = 3  # people of each kind
FURTHEST_BACK = timedelta(days=8)  # for an advisor who was let back in
UNNAMED = "someone without a name"


class DigestLine(NamedTuple):
    """What happened of one kind: 12, "added", "Esi Mensah, Noor van Dijk, Ines Carvalho and 9 more"."""

    number: int
    words: str
    names: str


def due(now: datetime) -> Any:
    """Select (id of the advisor, when it was due, until when the last one told), the longest due first."""
    return (
        select(MailChoice.user_id, MailChoice.digest_due_at, MailChoice.digest_until)
        .join(User, User.id == MailChoice.user_id)
        .where(MailChoice.digest_due_at <= now, User.deactivated_at.is_(None), User.role == Role.ADVISOR)
        .order_by(MailChoice.digest_due_at, MailChoice.user_id)
    )


def moved_on(user_id: int, until: datetime) -> dict[str, Any]:
    user, choice = db.session.get_one(User, user_id), mail_choices.find(user_id)
    next_due_at = mail_choices.next_due(choice.digest, user.time_zone, until)
    return {"digest_due_at": next_due_at, "digest_until": until}


def write_one(due_mail: DueMail, now: datetime, public_url: str) -> Letter | None:
    return write(due_mail.user_id, max(due_mail.until, now - FURTHEST_BACK), now, public_url)


def write(user_id: int, since: datetime, until: datetime, public_url: str) -> Letter | None:
    """Return the digest about this time, or None if nothing happened. Only reads."""
    user = db.session.get_one(User, user_id)
    account, wanted = Account.of(user), Wanted(since, until)
    counts = changes.tally(account, wanted)
    if not counts:
        return None
    choice, connection = mail_choices.find(user_id), find_latest(user)
    to_act_on = find_to_act_on(user, find_hold(user, connection, until))
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
        refused=[people(line.lead.name) for line in to_act_on[:NAMED]],
        held=count_held_of(connection),
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
    told = [in_a_mail(people(entry.name), entry.kind, entry.reason, entry.owner) for entry in entries[:NAMED]]
    more = number - len(told)
    return ", ".join(told) + (f" and {formats.number(more)} more" if more else "")


def people(name: str) -> str:
    """Return a person's name as a mail may have it: never an address."""
    return name if name and "@" not in name else UNNAMED


DIGESTS = KindOfMail(due, MailChoice.digest_due_at, write_one, moved_on)
