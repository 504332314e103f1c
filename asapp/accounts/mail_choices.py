"""When the digest of an advisor's contacts is due: at half past seven of their own time, on weekdays or on Mondays."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from sqlalchemy import Table, select

from asapp.core.clock import utcnow
from asapp.core.database import end_read, insert_ignore, writing
from asapp.core.extensions import db
from asapp.core.formats import zone_of
from asapp.models import Digest, LeadMails, MailChoice, Role, User

HOUR = time(7, 30)
WEEKDAYS = {Digest.DAILY: range(5), Digest.WEEKLY: range(1)}
PLANNED_AT_ONCE = 1000

CHOICES: Table = MailChoice.__table__  # type: ignore[assignment]


def find(user_id: int) -> MailChoice:
    """Return what the person has chosen, or the defaults, which are not stored."""
    stored = db.session.get(MailChoice, user_id)
    return stored or MailChoice(user_id=user_id, digest=Digest.DAILY, lead_mails=LeadMails.ALL)


def save(user: User, digest: str, lead_mails: str, now: datetime) -> None:
    """Store the choice, in the caller's transaction. What happened before is not told later."""
    choice = db.session.get(MailChoice, user.id)
    if choice is None:
        choice = MailChoice(user_id=user.id, digest_until=now, leads_until=now)
        db.session.add(choice)
    if choice.digest != digest and choice.digest == Digest.OFF:
        choice.digest_until = now
    choice.digest, choice.lead_mails = digest, lead_mails
    choice.digest_due_at = next_due(digest, user.time_zone, now)


def next_due(digest: str, zone_name: str | None, now: datetime) -> datetime | None:
    """Return the first due time after now; None if the person wants no digest."""
    weekdays = WEEKDAYS.get(Digest(digest))
    if weekdays is None:
        return None
    zone = zone_of(zone_name)
    today = now.astimezone(zone).date()
    days = (today + timedelta(days=ahead) for ahead in range(9))
    times = (datetime.combine(day, HOUR, tzinfo=zone) for day in days if day.weekday() in weekdays)
    return next(at.astimezone(now.tzinfo) for at in times if at > now)


def plan(now: datetime | None = None) -> int:
    """Plan the first digest of advisors who have none planned; return how many. Commits."""
    now = now or utcnow()
    db.session.rollback()
    new = db.session.execute(
        select(User.id, User.time_zone)
        .outerjoin(MailChoice, MailChoice.user_id == User.id)
        .where(User.role == Role.ADVISOR, User.deactivated_at.is_(None), MailChoice.user_id.is_(None))
        .limit(PLANNED_AT_ONCE)
    ).all()
    end_read(db.session)
    if new:
        rows = [
            {
                "user_id": row.id,
                "digest": Digest.DAILY,
                "digest_due_at": next_due(Digest.DAILY, row.time_zone, now),
                "digest_until": now,
                "lead_mails": LeadMails.ALL,
                "leads_until": now,
            }
            for row in new
        ]
        with writing():
            db.session.execute(insert_ignore(db.session, CHOICES), rows)
            db.session.commit()
    return len(new)
