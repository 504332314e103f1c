"""Mails that tell an advisor of new leads, and of leads that Salesforce refused.

leads/news.py makes the advisor due. What came within a quarter of an hour goes in one mail, so that a flood of sign-ups
is a mail and not hundreds; people who wait for the advisor's review are told about by an alert. It names people, never addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select

from asapp.accounts import mail_choices
from asapp.alerts.digest import people
from asapp.alerts.due_mails import DueMail, KindOfMail
from asapp.core import mail
from asapp.core.extensions import db
from asapp.core.formats import counted, place_of
from asapp.core.mail import Letter
from asapp.leads import queries
from asapp.leads.queries import LeadLine
from asapp.models import Lead, LeadMails, LeadState, MailChoice, User
from asapp.salesforce.hosts import is_salesforce_url, record_url

GAP = timedelta(minutes=15)  # between two of these mails to one advisor
LISTED = 10


def due(now: datetime) -> Any:
    """Select (id of the advisor, when the mail was due, until when the last one told), the longest due first."""
    return (
        select(MailChoice.user_id, MailChoice.leads_due_at, MailChoice.leads_until)
        .join(User, User.id == MailChoice.user_id)
        .where(MailChoice.leads_due_at <= now, MailChoice.leads_until <= now - GAP, User.deactivated_at.is_(None))
        .order_by(MailChoice.leads_due_at, MailChoice.user_id)
    )


def moved_on(_user_id: int, until: datetime) -> dict[str, Any]:
    return {"leads_due_at": None, "leads_until": until}


def write_one(due_mail: DueMail, now: datetime, public_url: str) -> Letter | None:
    return write(due_mail.user_id, due_mail.until, now, public_url)


def write(user_id: int, since: datetime, until: datetime, public_url: str) -> Letter | None:
    """Return the mail about the leads of this time, or None if the advisor wants none of them told. Only reads."""
    user = db.session.get_one(User, user_id)
    wants = mail_choices.find(user_id).lead_mails
    lines = find_new(user, wants, since, until)
    if not lines:
        return None
    return mail.write(
        user.email,
        subject_of(lines),
        "leads",
        zone=user.time_zone,
        name=user.name,
        place=place_of(user.time_zone) if user.time_zone else "UTC",
        lines=lines[:LISTED],
        more=len(lines) - LISTED,
        people=people,
        link_to=link_to,
        wants_all=wants == LeadMails.ALL,
        url=public_url,
    )


def link_to(line: LeadLine) -> str | None:
    """Return the address of the record in Salesforce; None if there is none to open. A mail leads to Salesforce's hosts alone."""
    is_there = line.record_id and line.instance_url and is_salesforce_url(line.instance_url, allow_loopback=False)
    return record_url(line.instance_url or "", line.record_id or "") if is_there else None


def find_new(user: User, wants: str, since: datetime, until: datetime) -> Sequence[LeadLine]:
    """Return the leads that came or were refused within this time, the newest first."""
    if wants == LeadMails.OFF:
        return []
    is_refused = and_(Lead.state == LeadState.REFUSED, Lead.changed_at > since, Lead.changed_at <= until)
    came_at = func.coalesce(Lead.confirmed_at, Lead.signed_up_at)
    came = and_(came_at > since, came_at <= until)
    is_told = Lead.state.not_in((LeadState.ERASED, LeadState.FOR_REVIEW))
    return queries.find_lines(user, until, is_told, or_(is_refused, came) if wants == LeadMails.ALL else is_refused)


def subject_of(lines: Sequence[LeadLine]) -> str:
    refused = [line for line in lines if line.lead.is_refused]
    if len(lines) == 1:
        name = people(lines[0].lead.name)
        return f"Salesforce refused the lead of {name}" if refused else f"New lead: {name}"
    if len(refused) == len(lines):
        return f"Salesforce refused {counted(len(lines), 'lead')}"
    return f"{counted(len(lines), 'new lead')}" + (f", {len(refused)} refused by Salesforce" if refused else "")


LEAD_MAILS = KindOfMail(due, MailChoice.leads_due_at, write_one, moved_on)
