"""The text of an alert mail: what happened, what is safe, who can fix it, and where.

Each kind has a template in templates/mail/alerts/. A mail names firms and its recipient, never a contact or a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select

from asapp.alerts.rules import count_failing
from asapp.connections.app_refusals import IS_RED
from asapp.connections.opt_out_age import count_days
from asapp.core import mail
from asapp.core.extensions import db
from asapp.core.mail import Letter
from asapp.leads.queries import count_waiting
from asapp.leads.sign_up_page import ensure_page
from asapp.messages.alerts import FIRM_HAS_MOVED, OVER, SUBJECTS
from asapp.messages.checks import CheckName
from asapp.messages.failures import Facts, Occasion, explain
from asapp.models import Alert, AlertKind, AlertMail, Connection, Partner, PartnerCheck, User
from asapp.models.connection import IS_FAILING
from asapp.panel.load import find_run_to_show
from asapp.sync import departures

LEADS = "/leads"
INTEGRATIONS = "/settings/integrations?open=salesforce"
FIRM = "/admin/partners/{slug}"
BOARD = "/admin/board?firm={slug}&show=attention"


@dataclass(frozen=True)
class Part:
    """One alert in a mail; its template in templates/mail/alerts/ gets the names."""

    template: str
    subject: str
    names: dict[str, Any]


def write(lease: str, user_id: int, public_url: str) -> Letter | None:
    """Return the mail to this person about everything under the lease, or None if all of it is over by now. Only reads."""
    user = db.session.get_one(User, user_id)
    told = db.session.execute(
        select(Alert, AlertMail.is_reminder, AlertMail.is_over)
        .join(AlertMail, AlertMail.alert_id == Alert.id)
        .where(AlertMail.lease == lease, or_(Alert.closed_at.is_(None), AlertMail.is_over))
        .order_by(Alert.opened_at, Alert.id)
    ).all()
    parts = [
        make_over_part(alert, public_url) if is_over else make_part(alert, public_url, is_reminder)
        for alert, is_reminder, is_over in told
    ]
    if not parts:
        return None
    subject = parts[0].subject if len(parts) == 1 else f"{len(parts)} things to look at in AdvisorStream"
    return mail.write(user.email, subject, "alerts", zone=user.time_zone, name=user.name, parts=parts)


def make_over_part(alert: Alert, public_url: str) -> Part:
    """Return the part that says that an alert is over."""
    kind = AlertKind(alert.kind)
    if alert.connection_id is not None:
        firm, (page, _) = db.session.get_one(Connection, alert.connection_id).partner, OF_CONNECTION[kind]
    else:
        firm, (page, _) = db.session.get_one(Partner, alert.partner_id), OF_PARTNER[kind]
    subject, text = OVER[kind]
    names = {"text": text, "url": public_url + page.format(slug=firm.slug), "since": alert.opened_at}
    return Part("mail/alerts/_over.txt", subject.format(firm=firm.name), names)


def make_part(alert: Alert, public_url: str, is_reminder: bool = False) -> Part:
    kind = AlertKind(alert.kind)
    if alert.connection_id is not None:
        connection = db.session.get_one(Connection, alert.connection_id)
        page, ask = OF_CONNECTION[kind]
        firm, more = connection.partner, {"connection": connection, **ask(connection)}
    else:
        firm = db.session.get_one(Partner, alert.partner_id)
        page, ask_firm = OF_PARTNER[kind]
        more = ask_firm(firm)
    url = public_url + page.format(slug=firm.slug)
    names = {"firm": firm, "url": url, "since": alert.opened_at, "is_reminder": is_reminder, **more}
    subject = more.get("subject", SUBJECTS[kind]).format(firm=firm.name, held=more.get("held"))
    return Part(f"mail/alerts/{kind}.txt", f"Reminder: {subject}" if is_reminder else subject, names)


def _about_connection(connection: Connection) -> dict[str, Any]:
    """reason: why it has to be connected again. failure: how the last sync failed, as text, if it did.

    held: how many contacts wait for the advisor's decision, as text. trusted_for: how long opt-outs are trusted, as text.
    """
    partner = connection.partner
    facts = Facts(partner.name, connection.username, partner.salesforce_host, opt_out_field=partner.opt_out_field)
    run = find_run_to_show(connection)
    failure = ""
    if run is not None and run.is_failed and connection.is_connected:
        failure = explain(Occasion.SYNC, run.error_code, facts).headline
    number = departures.count_held(connection.id)
    held = f"{number:,} contact{'s wait' if number != 1 else ' waits'}"
    return {
        "reason": explain(Occasion.RECONNECT, connection.status_reason, facts),
        "failure": failure,
        "held": held,
        "trusted_for": count_days(partner.opt_outs_trusted_days),
    }


def _about_flood(connection: Connection) -> dict[str, Any]:
    """limit: how many people the page takes a day. waiting: how many wait for the advisor's review."""
    return {"limit": ensure_page(connection.user).daily_limit, "waiting": count_waiting(connection.user_id).over_limit}


def _about_pause(firm: Partner) -> dict[str, Any]:
    return {"until": firm.paused_until, "why": explain(Occasion.SYNC, firm.paused_why, Facts(firm.name)).happened}


def _about_app(firm: Partner) -> dict[str, Any]:
    """host: of a Salesforce that has moved; otherwise what: the value on the firm's page that no longer works."""
    found = db.session.execute(
        select(PartnerCheck.code, PartnerCheck.detail).where(PartnerCheck.partner_id == firm.id, *IS_RED)
    )
    red = {row.code: row.detail for row in found}
    if CheckName.HOST in red:
        return {"subject": FIRM_HAS_MOVED, "host": red["host"]}
    return {"what": "Consumer Key" if CheckName.KEY in red else "Consumer Secret"}


def _about_runs(firm: Partner) -> dict[str, Any]:
    """failing: how many connections. most: the most frequent failure, as text."""
    by_code = count_failing().add_columns(Connection.last_failure).group_by(Connection.last_failure)
    rows = db.session.execute(by_code.where(Connection.partner_id == firm.id, IS_FAILING)).all()
    most = max(rows, key=lambda row: row.number, default=None)
    code = most.last_failure if most is not None else None
    headline = explain(Occasion.SYNC, code, Facts(firm.name)).headline if code else ""
    return {"failing": sum(row.number for row in rows), "most": headline}


OF_CONNECTION: dict[AlertKind, tuple[str, Callable[[Connection], dict[str, Any]]]] = {
    AlertKind.RECONNECT: (INTEGRATIONS, _about_connection),
    AlertKind.OPT_OUTS_SOON: (INTEGRATIONS, _about_connection),
    AlertKind.OPT_OUTS_UNKNOWN: (INTEGRATIONS, _about_connection),
    AlertKind.HELD: (INTEGRATIONS, _about_connection),
    AlertKind.FLOOD: (LEADS, _about_flood),
}
OF_PARTNER: dict[AlertKind, tuple[str, Callable[[Partner], dict[str, Any]]]] = {
    AlertKind.PAUSED: (BOARD, _about_pause),
    AlertKind.APP_REFUSED: (FIRM, _about_app),
    AlertKind.RUNS_FAIL: (BOARD, _about_runs),
}
