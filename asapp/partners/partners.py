"""Firms whose Salesforce org is set up here: added and changed by admins.

app_version counts the changes of URL, key and secret, so that a log-in started under other values is refused at its
return.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields, clean_line
from asapp.core.vault import CannotOpen, Vault
from asapp.leads import sign_up_page
from asapp.messages.checks import CheckName, CheckWhy
from asapp.messages.codes import Code
from asapp.models import Action, CheckVerdict, Connection, ConnectionStatus, Partner, PartnerCheck, Role, User
from asapp.models.columns import new_public_id
from asapp.partners.form_fields import RESERVED_SLUGS, SETTINGS, SLUG_MAX, AppDetails, PartnerForm
from asapp.partners.opt_out_field import spelling_of_opt_out_fields
from asapp.salesforce.probe import OPT_OUTS, TO_WRITE_BACK, WITHOUT_USER

SLUG_TRIES = 5
QUOTED = ("name", *SETTINGS, "salesforce_url")  # by the audit log; of sealed ones it says only that they changed
SEALED = ("consumer_key_sealed", "consumer_secret_sealed", "pending_secret_sealed")
SLUG_TAKEN = "Another firm has this one already."
ON_OPT_OUTS = (*OPT_OUTS, TO_WRITE_BACK)  # checks that ask about the opt-out fields
# Nothing is known to be wrong, but Salesforce did not answer the last check.
AWAY_CODES = frozenset({CheckName.HOST, CheckName.API})
AWAY_WHYS = (
    *(Code.NO_ANSWER, CheckWhy.ERROR_STATUS, CheckWhy.TOKEN_BUSY),
    *(CheckWhy.UNREACHABLE, CheckWhy.MOVED, CheckWhy.NOTHING_THERE),
)
IS_AWAY = (
    PartnerCheck.code.in_(AWAY_CODES),
    PartnerCheck.verdict == CheckVerdict.UNKNOWN,
    PartnerCheck.why.in_(AWAY_WHYS),
)
STATES = ("enabled", "waiting", "attention", "disabled")


@dataclass(frozen=True)
class PartnerRow:
    partner: Partner
    advisors: int
    connected: int
    needs_attention: bool
    is_away: bool  # Salesforce did not answer the last check
    last_good_sync_at: datetime | None  # the latest of its advisors


def find_partner(slug: str) -> Partner | None:
    return db.session.scalar(select(Partner).where(Partner.slug == slug, Partner.deleted_at.is_(None)))


def list_partners(search: str = "", state: str = "") -> list[PartnerRow]:
    """Return partners by name, each with its active advisors, how many of them are connected, and its last good sync.

    search: part of the name or of the host. state: one of STATES; anything else is every state.
    """
    advisors = (
        select(func.count())
        .where(User.partner_id == Partner.id, User.role == Role.ADVISOR, User.deactivated_at.is_(None))
        .scalar_subquery()
    )
    connections = select(func.count()).where(Connection.partner_id == Partner.id)
    connected = connections.where(Connection.status == ConnectionStatus.CONNECTED).scalar_subquery()
    broken = connections.where(Connection.status == ConnectionStatus.NEEDS_RECONNECT).scalar_subquery()
    red = select(PartnerCheck.code).where(
        PartnerCheck.partner_id == Partner.id, PartnerCheck.verdict == CheckVerdict.BAD
    )
    attention = or_(red.exists(), broken > 0)
    away = select(PartnerCheck.code).where(PartnerCheck.partner_id == Partner.id, *IS_AWAY).exists()
    synced = select(func.max(Connection.last_good_sync_at)).where(Connection.partner_id == Partner.id).scalar_subquery()
    query = select(Partner, advisors, connected, attention, away, synced).where(Partner.deleted_at.is_(None))
    if wanted := clean_line(search).lower():
        query = query.where(
            or_(
                func.lower(Partner.name).contains(wanted, autoescape=True),
                Partner.salesforce_url.contains(wanted, autoescape=True),
            )
        )
    filters = {
        "enabled": Partner.is_ready,
        "waiting": Partner.is_enabled & ~Partner.is_set_up,
        "attention": Partner.is_enabled & attention,
        "disabled": ~Partner.is_enabled,
    }
    if state in filters:
        query = query.where(filters[state])
    rows = db.session.execute(query.order_by(func.lower(Partner.name), Partner.id))
    return [
        PartnerRow(partner, people, linked, bool(bad), bool(off), at) for partner, people, linked, bad, off, at in rows
    ]


def create_partner(form: PartnerForm, access: OrgAccess, by: Actor = ITSELF) -> Partner:
    """Add a partner, with a slug made from the name unless one is given; raise InvalidFields."""
    app = form.check(access.allow_loopback, may_wait=True)
    name, columns = form.name.data, form.settings
    slug = columns.pop("slug", "")
    _refuse_twin(name, app.url)
    for _ in range(SLUG_TRIES):
        partner = Partner(
            public_id=new_public_id(),
            name=name,
            slug=slug or _free_slug(name),
            salesforce_url=app.url,
            app_version=1,
            **columns,
        )
        if app.key:
            partner.seal(access.vault, "consumer_key_sealed", app.key)
            partner.seal(access.vault, "consumer_secret_sealed", app.secret)
            partner.secret_changed_at = utcnow()
        db.session.add(partner)
        try:
            entries.record(Action.PARTNER_CREATED, by, partner)
            db.session.commit()
        except IntegrityError:  # the slug was taken in between
            db.session.rollback()
            if slug:
                raise InvalidFields({"slug": SLUG_TAKEN}) from None
        else:
            return partner
    raise InvalidFields({"name": "Many firms with this name are being added right now. Try again."})


def change_partner(partner: Partner, form: PartnerForm, access: OrgAccess, by: Actor = ITSELF) -> None:
    """Store changed settings; raises InvalidFields. A new secret alone waits beside the old one until a check accepts it.

    New opt-out fields are looked up in Salesforce if an advisor is connected; no transaction is open during the calls.
    """
    vault, has_secret = access.vault, partner.consumer_secret_sealed is not None
    app = form.check(access.allow_loopback, has_secret=has_secret, may_wait=not partner.is_set_up)
    columns = form.settings
    if {"opt_out_field", "more_opt_out_fields"} & columns.keys():
        first, *more = spelling_of_opt_out_fields(partner, form.opt_out_fields(partner.opt_out_fields), access)
        columns |= {"opt_out_field": first, "more_opt_out_fields": ", ".join(more)}
    partner_id, before = partner.id, values_of(partner)
    try:
        old_name, partner.name = partner.name, form.name.data
        for column, value in columns.items():
            setattr(partner, column, value)
        _forget_what_depended_on(partner, before)
        if partner.name != old_name:
            db.session.flush()  # the partner before the pages, which is the lock order
            sign_up_page.change_firm(User.partner_id == partner_id, old_name, partner.name)
        if not partner.brings_in_open_leads:
            forget_open_leads(partner_id)
        is_same_app = app.url == partner.salesforce_url and app.key == (read_key(partner, vault) or "")
        if is_same_app and has_secret:
            if app.secret and app.secret != _read_secret(partner, vault):
                partner.seal(vault, "pending_secret_sealed", app.secret)
                partner.pending_secret_at = utcnow()
        elif form.is_app_later:
            partner.salesforce_url = app.url
        else:
            put_app(partner, app, vault)
        changes = changes_since(before, partner)
        if changes:
            entries.record(Action.PARTNER_CHANGED, by, partner, **changes)
        if has_secret and "consumer_secret" in changes:
            entries.record(Action.SECRET_REPLACED, by, partner)
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise InvalidFields({"slug": SLUG_TAKEN}) from None


def forget_open_leads(partner_id: int) -> None:
    """Record that the firm's open Leads are not read any more, in the caller's transaction: their opt-outs are not known."""
    db.session.flush()  # the partner before its connections, which is the lock order
    were_read = or_(Connection.open_leads_watermark.is_not(None), Connection.open_leads_known_until.is_not(None))
    db.session.execute(
        update(Connection)
        .where(Connection.partner_id == partner_id, were_read)
        .values(open_leads_watermark=None, open_leads_known_until=None, open_leads_count=None)
    )


def _forget_what_depended_on(partner: Partner, before: dict[str, Any]) -> None:
    """Delete the results of checks that asked about settings which have changed."""
    depends = {"opt_out_field": ON_OPT_OUTS, "more_opt_out_fields": ON_OPT_OUTS, "lead_source": (CheckName.LEAD,)}
    codes = {code for name, codes in depends.items() if getattr(partner, name) != before[name] for code in codes}
    if codes:
        of_partner = PartnerCheck.partner_id == partner.id
        db.session.execute(delete(PartnerCheck).where(of_partner, PartnerCheck.code.in_(codes)))


def values_of(partner: Partner) -> dict[str, Any]:
    return {name: getattr(partner, name) for name in (*QUOTED, *SEALED)}


def changes_since(before: dict[str, Any], partner: Partner) -> dict[str, Any]:
    """Return {setting: [old, new]} for the changed ones; for sealed ones only the name."""
    now = values_of(partner)
    changed = [name for name in now if now[name] != before[name]]
    return {
        name.removesuffix("_sealed"): _how_changed(before[name], now[name])
        if name in SEALED
        else [before[name], now[name]]
        for name in changed
    }


def _how_changed(before: str | None, now: str | None) -> str:
    return "entered" if before is None else "deleted" if now is None else "changed"


def put_app(partner: Partner, app: AppDetails, vault: Vault) -> None:
    """Store another app, in the caller's transaction. An empty secret keeps the stored one."""
    is_other_org = app.url != partner.salesforce_url
    known = delete(PartnerCheck).where(PartnerCheck.partner_id == partner.id)
    db.session.execute(known if is_other_org else known.where(PartnerCheck.code.in_(WITHOUT_USER)))
    partner.salesforce_url = app.url
    partner.seal(vault, "consumer_key_sealed", app.key)
    if app.secret:
        partner.seal(vault, "consumer_secret_sealed", app.secret)
        partner.secret_changed_at = utcnow()
    discard_pending(partner)
    partner.app_version = Partner.app_version + 1


def use_pending_secret(partner: Partner, vault: Vault) -> bool:
    """Put the new secret in use, on behalf of the person who entered it. Commits.

    The caller has locked the row.
    """
    if partner.pending_secret_sealed is None:
        return False
    by = entries.who_entered(partner)
    partner.seal(vault, "consumer_secret_sealed", partner.unseal(vault, "pending_secret_sealed"))
    partner.secret_changed_at = utcnow()
    discard_pending(partner)
    partner.app_version = Partner.app_version + 1
    entries.record(Action.SECRET_REPLACED, by, partner, after="Salesforce accepted it")
    db.session.commit()
    return True


def discard_pending(partner: Partner) -> None:
    """Delete a new secret that was never used, in the caller's transaction."""
    partner.pending_secret_sealed, partner.pending_secret_at = None, None
    db.session.execute(
        delete(PartnerCheck).where(PartnerCheck.partner_id == partner.id, PartnerCheck.code == "pending_secret")
    )


def discard_new_secret(partner: Partner, by: Actor = ITSELF) -> None:
    discard_pending(partner)
    entries.record(Action.PARTNER_CHANGED, by, partner, forgotten="the new secret")
    db.session.commit()


def enable(partner: Partner, by: Actor = ITSELF) -> None:
    partner.is_enabled, partner.stop_began_at = True, None
    entries.record(Action.PARTNER_ENABLED, by, partner)
    db.session.commit()


def form_of(partner: Partner | None, vault: Vault, sent: Any = None) -> PartnerForm:
    """Return the form of a partner, or of a new one, with the sent values, or else the stored ones and defaults."""
    settings = {field.name: field.column for field in PartnerForm() if field.column}
    if partner is None:
        defaults = {name: Partner.__table__.c[column].default for name, column in settings.items()}
        return PartnerForm(sent, data={name: default.arg for name, default in defaults.items() if default is not None})
    stored = {name: getattr(partner, column) for name, column in settings.items()}
    app = {"url": partner.salesforce_url, "key": read_key(partner, vault)}
    return PartnerForm(sent, data={"name": partner.name, **app, **stored})


def read_key(partner: Partner, vault: Vault) -> str | None:
    """Return the Consumer Key, which is no secret; None if there is none or it can't be opened."""
    if partner.consumer_key_sealed is None:
        return None
    try:
        return partner.unseal(vault, "consumer_key_sealed")
    except CannotOpen:
        return None


def _read_secret(partner: Partner, vault: Vault) -> str | None:
    try:
        return partner.unseal(vault, "consumer_secret_sealed")
    except CannotOpen:
        return None


def _refuse_twin(name: str, url: str) -> None:
    """Refuse a second partner with this name and address: Save was pressed twice."""
    same = select(Partner.slug).where(
        func.lower(Partner.name) == name.lower(),
        Partner.salesforce_url == url,
        Partner.deleted_at.is_(None),
    )
    if db.session.scalar(same.limit(1)):
        raise InvalidFields({"name": "A firm with this name and address is here already."})


def _free_slug(name: str) -> str:
    stem = slug_of(name)
    like = select(Partner.slug).where(Partner.slug.startswith(stem, autoescape=True))
    taken = set(db.session.scalars(like)) | RESERVED_SLUGS
    number = 1
    slug = stem
    while slug in taken:
        number += 1
        slug = f"{stem}-{number}"
    return slug


def slug_of(name: str) -> str:
    """Return northgate-sohne for Northgate & Söhne."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_MAX].strip("-") or "partner"
