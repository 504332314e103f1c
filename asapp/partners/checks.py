"""Live checks of a partner's set-up: run, stored with their time, and shown.

Green means that Salesforce was asked and agreed, red that it was asked and did not; everything else is "not known yet".
Checks that need a user's token use that of a connected advisor. A new Consumer Secret waits beside the old one until
Salesforce has accepted it. No transaction is open during a call.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from asapp.connections.call_log import Caller
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen, Vault
from asapp.messages.checks import TITLES, CheckName, CheckWhy, words_of
from asapp.messages.codes import Code
from asapp.models import CheckVerdict, Connection, Partner, PartnerCheck
from asapp.partners import opt_out_field
from asapp.partners.partners import AWAY_CODES, AWAY_WHYS, IS_AWAY, use_pending_secret
from asapp.salesforce import probe
from asapp.salesforce.errors import SalesforceError
from asapp.salesforce.oauth import App
from asapp.salesforce.probe import Finding, asked_with_user

log = logging.getLogger(__name__)

DETAIL_MAX = 400
VERDICTS = {True: CheckVerdict.GOOD, False: CheckVerdict.BAD, None: CheckVerdict.UNKNOWN}
# How a log-in ended, if that says something about the set-up: outcome -> (check, why).
OUTCOMES: Mapping[str, tuple[CheckName, str]] = {
    Code.BAD_KEY: (CheckName.KEY, Code.BAD_KEY),
    Code.BAD_SECRET: (CheckName.SECRET, Code.BAD_SECRET),
    Code.REDIRECTED: (CheckName.HOST, CheckWhy.MOVED),
    Code.REDIRECT_MISMATCH: (CheckName.CALLBACK, Code.REDIRECT_MISMATCH),
    Code.APP_NOT_INSTALLED: (CheckName.KEY, Code.APP_NOT_INSTALLED),
    Code.APP_BLOCKED: (CheckName.KEY, Code.APP_BLOCKED),
    Code.NOT_ADMIN_APPROVED: (CheckName.KEY, Code.NOT_ADMIN_APPROVED),
    Code.SCOPE_MISSING: (CheckName.SCOPES, CheckWhy.SCOPES_MISSING),
    Code.NO_API_SCOPE: (CheckName.SCOPES, CheckWhy.SCOPES_MISSING),
    Code.NO_REFRESH_TOKEN: (CheckName.SCOPES, CheckWhy.SCOPES_MISSING),
}
# Answers that say nothing: the earlier result (of a log-in that worked, say) stays. A change of the app deletes it.
PROVES_NOTHING = (
    *(Code.NO_ANSWER, CheckWhy.HOST_AWAY, CheckWhy.API_AWAY, CheckWhy.CALLS_FIRST),
    *(CheckWhy.NO_OBJECTION, CheckWhy.SAME_ANSWER, CheckWhy.OTHER_ANSWER),
)
WAITS = (CheckWhy.USED_UP, *AWAY_WHYS)  # nothing to fix, and not as it should be
# These depend on what the browser sent, which its user can change: no proof, but a reason to ask Salesforce.
OF_THE_BROWSER = frozenset({Code.REDIRECT_MISMATCH, Code.SCOPE_MISSING, Code.NO_API_SCOPE, Code.NO_REFRESH_TOKEN})


@dataclass(frozen=True)
class SetupCheck:
    """One line of the list."""

    code: str
    title: str
    verdict: CheckVerdict
    says: str
    path: str
    checked_at: datetime | None = None
    why: str = ""

    @property
    def is_waiting(self) -> bool:
        """Is there nothing to fix, but Salesforce did not answer, or has no calls left?"""
        return (
            self.verdict == CheckVerdict.UNKNOWN
            and self.why in WAITS
            and self.code in (*AWAY_CODES, CheckName.ALLOWANCE)
        )

    @property
    def is_good(self) -> bool:
        return self.verdict == CheckVerdict.GOOD

    @property
    def is_bad(self) -> bool:
        return self.verdict == CheckVerdict.BAD


@dataclass(frozen=True)
class Checklist:
    """All checks in the order in which to fix them, red ones first, then those that wait."""

    checks: tuple[SetupCheck, ...]

    @property
    def checked_at(self) -> datetime | None:
        return max((check.checked_at for check in self.checks if check.checked_at), default=None)

    @property
    def waiting(self) -> list[SetupCheck]:
        return [check for check in self.checks if check.is_waiting]

    @property
    def is_away(self) -> bool:
        """Did Salesforce not answer?"""
        return any(check.code in AWAY_CODES for check in self.waiting)

    def count(self, verdict: str) -> int:
        return Counter(check.verdict for check in self.checks)[CheckVerdict(verdict)]

    @property
    def first_bad(self) -> SetupCheck | None:
        return next((check for check in self.checks if check.is_bad), None)


def checklist(partner: Partner) -> Checklist:
    """Return what is known of the partner; checks that never ran are "not known yet"."""
    rows = db.session.scalars(select(PartnerCheck).where(PartnerCheck.partner_id == partner.id))
    known = {row.code: row for row in rows}
    with_user = _asked_of(partner)
    hidden = {CheckName.PENDING_SECRET} - set(known)
    hidden |= {CheckName.OPT_OUT_2, CheckName.OPT_OUT_3, CheckName.OPT_OUT_WRITE} - set(with_user)
    codes = [code for code in TITLES if code not in hidden]
    return _in_order(
        _check(code, row.verdict, row.why, row.detail, row.checked_at)
        if (row := known.get(code))
        else _check(
            code,
            CheckVerdict.UNKNOWN,
            CheckWhy.NOBODY_CONNECTED if code in with_user else CheckWhy.NOBODY_ASKED,
            "",
            None,
        )
        for code in codes
    )


def as_checklist(findings: Iterable[Finding]) -> Checklist:
    """Return a checklist of findings that are not stored."""
    found = [_check(f.code, VERDICTS[f.is_good], f.why, f.detail, None) for f in findings]
    return _in_order(sorted(found, key=lambda check: list(TITLES).index(check.code)))


def find_due() -> list[int]:
    """Return the ids of the partners whose new secret has not been accepted yet, or whose Salesforce did not answer."""
    away = select(PartnerCheck.code).where(PartnerCheck.partner_id == Partner.id, *IS_AWAY)
    is_due = or_(Partner.pending_secret_sealed.is_not(None), away.exists())
    query = select(Partner.id).where(is_due, Partner.is_enabled)
    return list(db.session.scalars(query.order_by(Partner.id)))


def run_checks(partner: Partner, access: OrgAccess) -> Checklist:
    """Run every check that is possible now, store the results, and put a new secret in use if Salesforce accepts it. Commits."""
    partner_id = partner.id
    if not partner.is_set_up:
        db.session.execute(delete(PartnerCheck).where(PartnerCheck.partner_id == partner_id))
        db.session.commit()
        return checklist(partner)
    try:
        app = access.app_of(partner, Caller(partner.id))
        pending = _pending_app(partner, app, access)
    except CannotOpen:
        store(partner_id, [Finding(CheckName.KEY, False, CheckWhy.UNREADABLE)])
        return checklist(db.session.get_one(Partner, partner_id))
    pending_sealed = partner.pending_secret_sealed
    db.session.commit()
    findings: list[Finding] = []
    if pending is not None:
        tried = probe.check_app(pending)
        is_accepted = any(f.code == CheckName.SECRET and f.is_good for f in tried)
        if is_accepted and _promote(partner_id, pending_sealed, access.vault):
            findings = list(tried)
        else:
            findings = [replace(f, code=CheckName.PENDING_SECRET) for f in tried if f.code == CheckName.SECRET]
    if not any(f.code == CheckName.HOST for f in findings):
        findings += probe.check_app(app)
    findings = [*findings, *_check_as_an_advisor(partner_id, access)]
    store(partner_id, findings, is_whole=True)
    return checklist(db.session.get_one(Partner, partner_id))


def check_connection(connection: Connection, access: OrgAccess) -> None:
    """Run the checks that need a user's token with this one, if some are not green yet. Commits; never fails."""
    partner_id, connection_id = connection.partner_id, connection.id
    with_user = _asked_of(connection.partner)
    good = select(PartnerCheck.code).where(
        PartnerCheck.partner_id == partner_id,
        PartnerCheck.verdict == CheckVerdict.GOOD,
        PartnerCheck.code.in_((*with_user, CheckName.SECRET)),
    )
    if len(set(db.session.scalars(good))) == len(with_user) + 1:
        end_read(db.session)
        return
    findings = _check_with(connection, access)
    # A connection proves that key, secret and callback are right.
    proven = (
        (CheckName.KEY, CheckWhy.KNOWN),
        (CheckName.SECRET, CheckWhy.ACCEPTED),
        (CheckName.CALLBACK, CheckWhy.REGISTERED),
    )
    findings += [Finding(code, True, why) for code, why in proven]
    end_read(db.session)
    log.info("set-up checked with a connection", extra={"connection_id": connection_id})
    store(partner_id, findings)


def record_outcome(partner_id: int, outcome: str, detail: str = "") -> None:
    """Store what Salesforce's answer to a failed log-in says about the set-up. Commits.

    detail: Salesforce's own code, from an answer that we fetched; never text from an address that a browser opened.
    """
    if outcome not in OUTCOMES or outcome in OF_THE_BROWSER:
        return
    code, why = OUTCOMES[outcome]
    if code == CheckName.HOST:
        detail = db.session.get_one(Partner, partner_id).salesforce_host
    store(partner_id, [Finding(code, False, why, detail or outcome)])


def _pending_app(partner: Partner, app: App, access: OrgAccess) -> App | None:
    if partner.pending_secret_sealed is None:
        return None
    return replace(app, consumer_secret=partner.unseal(access.vault, "pending_secret_sealed"))


def _promote(partner_id: int, pending_sealed: str | None, vault: Vault) -> bool:
    """Put the new secret in use, unless another one was entered in between."""
    lock = {"key_share": True}
    partner = db.session.get_one(Partner, partner_id, populate_existing=True, with_for_update=lock)
    if partner.pending_secret_sealed != pending_sealed:
        db.session.rollback()
        return False
    return use_pending_secret(partner, vault)


def _check_as_an_advisor(partner_id: int, access: OrgAccess) -> list[Finding]:
    connection = opt_out_field.find_last_used_connection(partner_id)
    if connection is None:
        asked = _asked_of(db.session.get_one(Partner, partner_id))
        end_read(db.session)
        return [Finding(code, None, CheckWhy.NOBODY_CONNECTED) for code in asked]
    return _check_with(connection, access)


def _check_with(connection: Connection, access: OrgAccess) -> list[Finding]:
    partner = connection.partner
    partner_id, asked = partner.id, (partner.api_version, partner.opt_out_fields, partner.lead_source)
    writes_back, codes = partner.writes_opt_outs_back, _asked_of(partner)
    scopes = probe.judge_scopes(connection.scopes, connection.refresh_token_sealed is not None)
    try:
        with access.open_session(connection) as org:
            answer = probe.check_with_session(org, *asked, writes_back=writes_back)
    except SalesforceError:
        return [Finding(code, None, CheckWhy.RECONNECT_FIRST) for code in codes]
    store_figures(partner_id, asked[1], answer)
    return [scopes, *answer.findings]


def _asked_of(partner: Partner) -> tuple[str, ...]:
    """Return the checks of this firm that need a user's token."""
    return asked_with_user(partner.opt_out_fields, partner.writes_opt_outs_back)


def store_figures(partner_id: int, opt_out_fields: Sequence[str], answer: probe.UserFindings) -> None:
    """Store the org's own figures, what kind of org it is, and its own spelling of the opt-out fields."""
    mine = update(Partner).where(Partner.id == partner_id)
    if answer.usage is not None:
        used, allowed = answer.usage
        db.session.execute(mine.values(org_calls_used=used, org_calls_allowed=allowed, org_calls_seen_at=utcnow()))
    seen = {
        "has_person_accounts": answer.has_person_accounts,
        "may_leads_lack_company": answer.may_leads_lack_company,
    }
    if known := {name: value for name, value in seen.items() if value is not None}:
        db.session.execute(mine.values(**known))
    first, *more = opt_out_fields
    spelled = [found.name or name for found, name in zip(answer.contact_fields, opt_out_fields, strict=False)]
    if spelled and spelled != [first, *more]:
        # an admin may have changed them in between
        is_as_asked = (Partner.opt_out_field == first, Partner.more_opt_out_fields == ", ".join(more))
        values = {"opt_out_field": spelled[0], "more_opt_out_fields": ", ".join(spelled[1:])}
        db.session.execute(mine.where(*is_as_asked).values(**values))
    db.session.commit()


def store(partner_id: int, findings: Sequence[Finding], is_whole: bool = False) -> None:
    """Replace earlier findings with these; one that proves nothing doesn't replace a known one, is_whole or not.

    Host and API that don't answer are no longer good, but one that is red stays red.
    """
    now = utcnow()
    table = PartnerCheck
    unknown = [f for f in findings if f.is_good is None]
    away = {f.code for f in unknown if f.code in AWAY_CODES and f.why in AWAY_WHYS}
    proves_nothing = {f.code for f in unknown if f.why in PROVES_NOTHING} - away
    stays = or_(table.code.in_(proves_nothing), table.code.in_(away) & (table.verdict == CheckVerdict.BAD))
    replaced = ~stays if is_whole else table.code.in_([f.code for f in findings]) & ~stays
    db.session.execute(delete(table).where(table.partner_id == partner_id, replaced))
    left = set(db.session.scalars(select(table.code).where(table.partner_id == partner_id)))
    latest = {f.code: f for f in findings}
    db.session.add_all(
        table(
            partner_id=partner_id,
            code=finding.code,
            verdict=VERDICTS[finding.is_good],
            why=finding.why,
            detail=finding.detail[:DETAIL_MAX],
            checked_at=now,
        )
        for finding in latest.values()
        if finding.code not in left
    )
    try:
        db.session.commit()
    except IntegrityError:  # another check ran at the same moment, or the partner was deleted
        db.session.rollback()


def _check(code: str, verdict: str, why: str, detail: str, checked_at: datetime | None) -> SetupCheck:
    words = words_of(code, why, detail)
    return SetupCheck(code, TITLES[code], CheckVerdict(verdict), words.says, words.path, checked_at, why)


def _in_order(checks: Iterable[SetupCheck]) -> Checklist:
    order = {CheckVerdict.BAD: 0, CheckVerdict.GOOD: 2, CheckVerdict.UNKNOWN: 3}
    return Checklist(tuple(sorted(checks, key=lambda check: 1 if check.is_waiting else order[check.verdict])))
