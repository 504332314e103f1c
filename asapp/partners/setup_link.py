"""The setup link: a one-time link on which a firm's own Salesforce admin enters address, key and secret.

Only the hash of a link's token is stored. A partner has at most one open link; a new one replaces it. The link is used up
once the input has passed the checks, and not before: an admin who mistypes the secret tries again on the same page.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from asapp.accounts.links import TOKEN_BYTES, LinkIsGone, sha256_of
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections.call_log import Caller
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Action, Partner, SetupLink, User
from asapp.partners import checks
from asapp.partners.checks import Checklist
from asapp.partners.form_fields import AppForm, RecipientForm
from asapp.partners.partners import changes_since, put_app, values_of
from asapp.salesforce import probe

LIFETIME = timedelta(days=14)


@dataclass(frozen=True)
class Recipient:
    """The firm's Salesforce admin."""

    name: str
    email: str


@dataclass(frozen=True)
class SetupAttempt:
    """The result of an attempt. is_saved: the link is used up."""

    is_saved: bool
    checklist: Checklist
    is_secret_wrong: bool = False


def make_link(partner: Partner, recipient: Recipient, admin: User, by: Actor = ITSELF) -> tuple[SetupLink, str]:
    """Return a new link and its token; an earlier one no longer works. Commits.

    Raises InvalidFields (admin_name, admin_email).
    """
    clean = RecipientForm.entered(admin_name=recipient.name, admin_email=recipient.email).checked()
    now, token = utcnow(), secrets.token_urlsafe(TOKEN_BYTES)
    _revoke_open(partner.id)
    link = SetupLink(
        partner_id=partner.id,
        token_sha256=sha256_of(token),
        name=clean["admin_name"],
        email=clean["admin_email"],
        created_by_id=admin.id,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    db.session.add(link)
    try:
        entries.record(Action.SETUP_LINK_SENT, by, partner)
        db.session.commit()
    except IntegrityError as error:  # another admin made one at the same moment
        db.session.rollback()
        raise InvalidFields({"admin_email": "Another link was made at this very moment. Look at it first."}) from error
    return link, token


def find_link(token: str) -> tuple[SetupLink, Partner] | None:
    """Return the link, in any state, and its partner."""
    row = db.session.execute(
        select(SetupLink, Partner)
        .join(Partner, Partner.id == SetupLink.partner_id)
        .where(SetupLink.token_sha256 == sha256_of(token), Partner.deleted_at.is_(None))
    ).first()
    return (row[0], row[1]) if row else None


def latest_link(partner: Partner) -> SetupLink | None:
    return db.session.scalar(
        select(SetupLink).where(SetupLink.partner_id == partner.id).order_by(SetupLink.id.desc()).limit(1)
    )


def sender_of(link: SetupLink) -> User | None:
    """Return the admin who made the link."""
    return db.session.get(User, link.created_by_id) if link.created_by_id else None


def revoke_link(partner: Partner, by: Actor = ITSELF) -> None:
    _revoke_open(partner.id)
    entries.record(Action.SETUP_LINK_REVOKED, by, partner)
    db.session.commit()


def enter_app(
    link: SetupLink, partner: Partner, form: AppForm, access: OrgAccess, client_address: str = ""
) -> SetupAttempt:
    """Check what was entered, and store it if no check is red. Commits.

    Raises InvalidFields (url, key, secret), or LinkIsGone if the link was used or revoked during the checks.
    """
    app = form.check(access.allow_loopback)
    link_id, partner_id = link.id, partner.id
    by = entries.by_link(partner, link.name, link.email, client_address)
    end_read(db.session)
    found = probe.check_app(access.app(app.url, app.key, app.secret, Caller(partner_id)))
    by_code = {finding.code: finding for finding in found}
    is_answered = bool(by_code["host"].is_good) and by_code["key"].is_good is not None
    if not is_answered or by_code["secret"].why == "no_answer" or any(f.is_good is False for f in found):
        return SetupAttempt(False, checks.as_checklist(found), by_code["secret"].is_good is False)
    now = utcnow()
    won = change_rows(
        db.session,
        update(SetupLink)
        .where(
            SetupLink.id == link_id,
            SetupLink.used_at.is_(None),
            SetupLink.revoked_at.is_(None),
            SetupLink.expires_at > now,
        )
        .values(used_at=now),
    )
    if not won:
        db.session.rollback()
        raise LinkIsGone
    partner = db.session.get_one(Partner, partner_id)
    before = values_of(partner)
    put_app(partner, app, access.vault)
    entries.record(Action.SECRET_REPLACED, by, partner, **changes_since(before, partner))
    db.session.commit()
    checks.store(partner_id, found)
    return SetupAttempt(True, checks.checklist(db.session.get_one(Partner, partner_id)))


def _revoke_open(partner_id: int) -> None:
    db.session.execute(
        update(SetupLink)
        .where(SetupLink.partner_id == partner_id, SetupLink.used_at.is_(None), SetupLink.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )
