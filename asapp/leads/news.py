"""Advisors are told by mail of new leads and refused ones.

What is new is found by its time when the mail is written (alerts/lead_mails.py); here an advisor only becomes due. The
mail waits a moment, so that it can say what became of the lead in Salesforce.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, literal, update

from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import MailChoice

WAIT = timedelta(minutes=2)


def plan_mail(user_id: int, now: datetime) -> None:
    """Let the advisor be told of a lead soon, in the caller's transaction. One without a row gets it from the tick first."""
    first_due = func.coalesce(MailChoice.leads_due_at, literal(now + WAIT, MailChoice.leads_due_at.type))
    change_rows(db.session, update(MailChoice).where(MailChoice.user_id == user_id).values(leads_due_at=first_due))
