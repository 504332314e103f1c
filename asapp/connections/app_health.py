"""What renewing tokens shows of a firm's app: it goes on its list of checks, where admins and the alerts see it."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from asapp.clock import utcnow
from asapp.models import Partner, PartnerCheck, Verdict

# Salesforce's refusal, as salesforce/errors.py calls it: the check that it turns red.
REFUSED = {"bad_key": "key", "bad_secret": "secret"}
ACCEPTED = {"key": "known", "secret": "accepted"}
IS_REFUSED = (
    PartnerCheck.code.in_(REFUSED.values()),
    PartnerCheck.verdict == Verdict.BAD,
    PartnerCheck.why.in_(REFUSED),
)


def is_refused(session: Session, partner_id: int) -> bool:
    """Did Salesforce refuse key or secret when it was last asked?"""
    return (
        session.scalar(select(PartnerCheck.code).where(PartnerCheck.partner_id == partner_id, *IS_REFUSED)) is not None
    )


def note_refused(session: Session, partner_id: int, app_version: int, code: str, detail: str) -> None:
    """Turn the check red, unless the app was changed since we asked; in the caller's transaction."""
    if session.scalar(select(Partner.app_version).where(Partner.id == partner_id)) != app_version:
        return
    values = {"verdict": Verdict.BAD, "why": code, "detail": detail, "checked_at": utcnow()}
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(PartnerCheck).values(partner_id=partner_id, code=REFUSED[code], **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["partner_id", "code"],
            set_=values,
            where=PartnerCheck.verdict != Verdict.BAD,  # what is red already keeps the moment since when
        )
    )


def note_accepted(session: Session, partner_id: int) -> None:
    """A token was renewed, so key and secret are right; in the caller's transaction."""
    for code, why in ACCEPTED.items():
        session.execute(
            update(PartnerCheck)
            .where(PartnerCheck.partner_id == partner_id, PartnerCheck.code == code, *IS_REFUSED)
            .values(verdict=Verdict.GOOD, why=why, detail="", checked_at=utcnow())
        )
