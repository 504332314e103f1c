"""Connecting: a log-in at Salesforce, from the button to the stored connection.

State and PKCE verifier are in the table oauth_states, the verifier sealed, the state as its hash. A state can be used
once, by the person who started, within ten minutes, with the app that the firm had then. The result of a log-in stays on
its row, so that the panel can show it until the next attempt. No transaction is open during a call. A grant that is not
kept is revoked at once: Salesforce allows five per user and app, and silently ends the oldest.

An error in the address that a browser opens proves nothing: anyone can write one. It is shown to the person who opened
it; only Salesforce's answers to our own calls say anything about the firm's set-up.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import api_budget, connections, switching
from asapp.connections.call_log import Caller
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, change_rows_returning, end_read
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen
from asapp.messages.codes import Code
from asapp.models import Action, Connection, OAuthState, Partner, PendingGrant, User
from asapp.models.columns import new_public_id
from asapp.salesforce import oauth
from asapp.salesforce.errors import CODE, OurBug, SalesforceError
from asapp.salesforce.oauth import Grant, Identity

log = logging.getLogger(__name__)

LIFETIME = timedelta(minutes=10)
KEPT_FOR = timedelta(days=1)
QUOTE_LENGTH = 200
DETAIL_LENGTH = 80

Learn = Callable[[str, str], None]  # called with an outcome and Salesforce's own code for it


class ConnectOutcome(StrEnum):
    """How a log-in ended well; every other outcome is a Code."""

    CONNECTED = "connected"
    WAITS_FOR_SWITCH = "waits_for_switch"


@dataclass(frozen=True)
class CallbackAnswer:
    """The parameters of a request to the callback address."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""


class LostState(Exception):
    """The answer belongs to no log-in that this person started: it is ignored."""


class NotKept(Exception):
    """The log-in ended without a connection. code: a Code."""

    def __init__(self, code: str, detail: str = "", words: str = "") -> None:
        super().__init__(code)
        self.code, self.detail, self.words = code, detail, words


class ToldByBrowser(NotKept):
    """The log-in ended with an error in the address that the browser opened."""


def begin(user: User, partner: Partner, access: OrgAccess, login_hint: str = "", ask_again: bool = False) -> str | None:
    """Start a log-in and return the address to send the browser to; None (and an outcome) if we can't. Commits."""
    now = utcnow()
    db.session.execute(delete(OAuthState).where(OAuthState.user_id == user.id, OAuthState.created_at < now - KEPT_FOR))
    row = OAuthState(
        public_id=new_public_id(),
        user_id=user.id,
        partner_id=partner.id,
        app_version=partner.app_version,
        salesforce_url=partner.salesforce_url,
        redirect_uri=access.callback_url,
        expires_at=now + LIFETIME,
        created_at=now,
    )
    db.session.add(row)
    try:
        start = oauth.begin(access.app_of(partner), login_hint, ask_again)
    except CannotOpen:
        log.error("the key or secret of partner %s does not open", partner.id)  # noqa: TRY400 - a trace adds nothing
        row.state_sha256, row.used_at, row.outcome = _sha256(row.public_id), now, Code.KEY_MISSING
        db.session.commit()
        return None
    row.state_sha256 = _sha256(start.state)
    row.seal(access.vault, "code_verifier_sealed", start.code_verifier)
    db.session.commit()
    return start.authorize_url


def finish(
    user: User, answer: CallbackAnswer, access: OrgAccess, by: Actor = ITSELF, learn: Learn = lambda *_: None
) -> str:
    """Handle an answer and return the outcome. Commits. Raises LostState, and then nothing has changed.

    An answer that comes again gets the outcome of the first time ("" while that is in progress). learn is called if
    Salesforce itself has answered us: with the outcome, once it is stored.
    """
    user_id, row_id = user.id, _consume(user, answer.state)
    db.session.commit()
    if row_id is None:
        outcome = _earlier_outcome(user, answer.state)
        db.session.commit()
        return outcome
    detail, words, is_fetched = "", "", True
    try:
        outcome = _carry_out(user, row_id, answer, access, by)
    except CannotOpen:
        outcome, is_fetched = Code.KEY_MISSING, False
    except NotKept as ended:
        outcome, detail, words = ended.code, ended.detail, ended.words
        is_fetched = not isinstance(ended, ToldByBrowser)
    except SalesforceError as error:
        level = logging.ERROR if isinstance(error, OurBug) else logging.WARNING
        log.log(level, "log-in of user %s at Salesforce failed: %s", user_id, error)
        outcome, detail, words = error.code, error.detail, error.words
    except Exception:
        record_outcome(row_id, Code.OUR_BUG)
        raise
    record_outcome(row_id, outcome, detail, words, is_fetched)
    if is_fetched:
        learn(outcome, detail)
    return outcome


def find_last_attempt(user: User) -> OAuthState | None:
    """Return the log-in that this person started last, whatever its result."""
    return db.session.scalar(
        select(OAuthState).where(OAuthState.user_id == user.id).order_by(OAuthState.id.desc()).limit(1)
    )


def find_connected_at(user_id: int) -> datetime | None:
    """Return when this person last returned from a log-in that connected, as far back as log-ins are kept."""
    return db.session.scalar(
        select(func.max(OAuthState.used_at)).where(
            OAuthState.user_id == user_id, OAuthState.outcome == ConnectOutcome.CONNECTED.value
        )
    )


def _consume(user: User, state: str) -> int | None:
    """Use up the state and return its row's id, or None: one statement, so that one of two simultaneous answers wins."""
    now = utcnow()
    won = change_rows_returning(
        db.session,
        update(OAuthState)
        .where(
            OAuthState.state_sha256 == _sha256(state),
            OAuthState.user_id == user.id,
            OAuthState.used_at.is_(None),
            OAuthState.expires_at > now,
        )
        .values(used_at=now)
        .returning(OAuthState.id),
    )
    return won[0] if won else None


def _earlier_outcome(user: User, state: str) -> str:
    row = db.session.scalar(
        select(OAuthState).where(OAuthState.state_sha256 == _sha256(state), OAuthState.user_id == user.id)
    )
    if row is None:
        db.session.rollback()
        raise LostState
    if row.used_at is None:
        row.used_at, row.outcome, row.code_verifier_sealed = utcnow(), Code.STATE_EXPIRED, None
    return row.outcome or ""


def _carry_out(user: User, row_id: int, answer: CallbackAnswer, access: OrgAccess, by: Actor) -> str:
    row = db.session.get_one(OAuthState, row_id, populate_existing=True)
    partner = _check(row, user.partner, answer)
    app = access.app_of(partner, Caller(partner.id, user.id))
    app = replace(app, salesforce_url=row.salesforce_url, callback_url=row.redirect_uri)
    code_verifier = row.unseal(access.vault, "code_verifier_sealed")
    partner_id, api_version, paused_until = partner.id, partner.api_version, _paused_by_salesforce(partner)
    end_read(db.session)
    grant = oauth.exchange_code(app, answer.code, code_verifier)
    try:
        _check_scopes(grant)
        who = oauth.who_is(grant, api_version, access.allow_loopback, app.on_call)
        outcome = store_grant(user, partner_id, grant, who, access, by)
    except Exception:  # our own bugs too: otherwise the grant would never be revoked
        db.session.rollback()
        connections.give_back_token(app, grant.refresh_token or grant.access_token)
        raise
    if paused_until is not None and who.org_name:  # which is read by an API call
        end_pause(partner_id, paused_until)
    return outcome


def end_pause(partner_id: int, paused_until: datetime) -> None:
    """End this pause of the firm, and no later one. Commits."""
    api_budget.record_usage(db.session(), partner_id, None, paused_until, utcnow())
    db.session.commit()


def _paused_by_salesforce(partner: Partner) -> datetime | None:
    """Return until when the firm is paused because Salesforce refused a call for want of calls: an answer ends that."""
    return partner.paused_until if partner.paused_why == Code.REQUEST_LIMIT else None


def _check(row: OAuthState, partner: Partner | None, answer: CallbackAnswer) -> Partner:
    """Return the person's firm if the log-in was started with its present app and brought a code; else raise NotKept."""
    began_with = (row.partner_id, row.app_version)
    if partner is None or began_with != (partner.id, partner.app_version) or not partner.is_ready:
        raise NotKept(Code.SETUP_CHANGED)
    if answer.error:
        code = oauth.code_of_callback_error(answer.error, answer.error_description)
        raise ToldByBrowser(code, answer.error if CODE.fullmatch(answer.error) else "", answer.error_description)
    if not answer.code:
        raise NotKept(Code.NO_CODE)
    return partner


def _check_scopes(grant: Grant) -> None:
    missing = oauth.missing_scope(grant)
    if missing:
        raise NotKept(missing, grant.scopes)


def store_grant(user: User, partner_id: int, grant: Grant, who: Identity, access: OrgAccess, by: Actor) -> str:
    """Store the grant: on the current connection, on a new one, or for a decision. Commits."""
    if not connections.is_still_at(user, partner_id):
        raise NotKept(Code.SETUP_CHANGED)  # moved or deactivated during the call
    if connections.is_taken(user, grant.identity):
        raise NotKept(Code.ALREADY_CONNECTED)
    current = next(iter(connections.lock_current(Connection.user_id == user.id)), None)
    if current is not None and current.identity != grant.identity:
        replaced = switching.put_pending(user, partner_id, grant, who, access)
        outcome = ConnectOutcome.WAITS_FOR_SWITCH
    else:
        replaced = connections.find_revocable(current, access) if current else None
        connection = connections.put_grant(user, partner_id, grant, who, access)
        # This log-in is the decision: the tick revokes the other one.
        switching.withdraw(PendingGrant.user_id == user.id)
        outcome = ConnectOutcome.CONNECTED
        try:
            entries.record(Action.CONNECTED, by, connection)
            db.session.commit()
        except IntegrityError:  # another process was faster, for this Salesforce user or advisor
            db.session.rollback()
            raise NotKept(
                Code.ALREADY_CONNECTED if connections.is_taken(user, grant.identity) else Code.AT_ONCE
            ) from None
    if replaced is not None and replaced[1] != grant.refresh_token:
        connections.give_back_token(*replaced)
    return outcome


def record_outcome(row_id: int, outcome: str, detail: str = "", words: str = "", is_fetched: bool = False) -> None:
    quotable = "".join(character for character in words if character.isprintable())[:QUOTE_LENGTH]
    db.session.rollback()
    change_rows(
        db.session,
        update(OAuthState)
        .where(OAuthState.id == row_id)
        .values(
            outcome=outcome,
            outcome_detail=detail[:DETAIL_LENGTH] or None,
            outcome_words=quotable or None,
            is_fetched=is_fetched,
            code_verifier_sealed=None,
        ),
    )
    db.session.commit()


def _sha256(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
