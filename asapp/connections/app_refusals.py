"""What calls to Salesforce reveal about a firm's set-up is stored as its checks, for admins and alerts.

Only an answer of Salesforce to us turns a check red: to a token refresh or a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from asapp.core.clock import utcnow
from asapp.core.database import change_rows, upsert
from asapp.messages.checks import CheckName, CheckWhy
from asapp.messages.codes import Code
from asapp.models import CheckVerdict, Connection, Partner, PartnerCheck
from asapp.salesforce.errors import SalesforceError

log = logging.getLogger(__name__)

WARN_EVERY = timedelta(days=1)
WARNING_MAX = 200


class Red(NamedTuple):
    """A check, and why it is red: keys of messages/checks.py."""

    check: str
    why: str


# Salesforce's refusal, named as in salesforce/errors.py -> what it says about the firm's app, and about its address.
REFUSED: Mapping[str, Red] = {
    Code.BAD_KEY: Red(CheckName.KEY, Code.BAD_KEY),
    Code.BAD_SECRET: Red(CheckName.SECRET, Code.BAD_SECRET),
}
MOVED: Mapping[str, Red] = {Code.REDIRECTED: Red(CheckName.HOST, CheckWhy.MOVED)}
SHOWN_BY = {**REFUSED, **MOVED}
ACCEPTED = {CheckName.KEY: CheckWhy.KNOWN, CheckName.SECRET: CheckWhy.ACCEPTED}
IS_REFUSED = (
    PartnerCheck.code.in_([red.check for red in REFUSED.values()]),
    PartnerCheck.verdict == CheckVerdict.BAD,
    PartnerCheck.why.in_([red.why for red in REFUSED.values()]),
)
# The checks that have an alert.
IS_RED = (
    PartnerCheck.code.in_([red.check for red in SHOWN_BY.values()]),
    PartnerCheck.verdict == CheckVerdict.BAD,
    PartnerCheck.why.in_([red.why for red in SHOWN_BY.values()]),
)


def is_refused(session: Session, partner_id: int) -> bool:
    """Did Salesforce refuse key or secret at the last attempt?"""
    return (
        session.scalar(select(PartnerCheck.code).where(PartnerCheck.partner_id == partner_id, *IS_REFUSED)) is not None
    )


def record_refused(session: Session, partner_id: int, app_version: int, error: SalesforceError) -> None:
    """Turn red the check that a refused refresh is about, unless the app was changed since; in the caller's transaction."""
    row = session.execute(
        select(Partner.app_version, Partner.salesforce_url).where(Partner.id == partner_id)
    ).one_or_none()
    if row is None or row.app_version != app_version or error.code not in SHOWN_BY:
        return
    _turn_red(session, partner_id, error, row.salesforce_url)


def record_moved(session: Session, connection: Connection, error: SalesforceError) -> None:
    """Turn the check red if an org's host redirected a run; in the caller's transaction."""
    if error.code in MOVED:
        _turn_red(session, connection.partner_id, error, connection.instance_url)


def record_answers_again(session: Session, connection: Connection) -> None:
    """Clear the check if the connection's host answers again after a redirect; in the caller's transaction."""
    red = MOVED.get(connection.last_failure or "")
    if red is None:
        return
    change_rows(
        session,
        update(PartnerCheck)
        .where(
            PartnerCheck.partner_id == connection.partner_id,
            PartnerCheck.code == red.check,
            PartnerCheck.verdict == CheckVerdict.BAD,
            PartnerCheck.why == red.why,
        )
        .values(
            verdict=CheckVerdict.GOOD,
            why=CheckWhy.ANSWERS,
            detail=urlsplit(connection.instance_url).netloc,
            checked_at=utcnow(),
        ),
    )


def log_warning(session: Session, partner_id: int, warning: str, now: datetime) -> None:
    """Log what Salesforce warns of (an API version that will end), once a day for each partner; in the caller's transaction."""
    is_due = or_(Partner.api_warned_at.is_(None), Partner.api_warned_at <= now - WARN_EVERY)
    mine = update(Partner).where(Partner.id == partner_id, is_due)
    if warning and change_rows(session, mine.values(api_warned_at=now)):
        words = "".join(character for character in warning if character.isprintable())[:WARNING_MAX]
        log.warning("Salesforce warns: %s", words, extra={"partner_id": partner_id})


def _turn_red(session: Session, partner_id: int, error: SalesforceError, url: str) -> None:
    red = SHOWN_BY[error.code]
    detail = urlsplit(url).netloc if error.code in MOVED else error.detail
    values = {"verdict": CheckVerdict.BAD, "why": red.why, "detail": detail, "checked_at": utcnow()}
    is_news = PartnerCheck.verdict != CheckVerdict.BAD  # a red check keeps the time it turned red
    statement = upsert(session, PartnerCheck, ("partner_id", "code"), values, is_news)
    session.execute(statement.values(partner_id=partner_id, code=red.check, **values))


def record_accepted(session: Session, partner_id: int) -> None:
    """Record that key and secret are right, as a token was refreshed; in the caller's transaction."""
    for code, why in ACCEPTED.items():
        session.execute(
            update(PartnerCheck)
            .where(PartnerCheck.partner_id == partner_id, PartnerCheck.code == code, *IS_REFUSED)
            .values(verdict=CheckVerdict.GOOD, why=why, detail="", checked_at=utcnow())
        )
