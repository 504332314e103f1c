"""Firms whose Salesforce org is set up here: made and changed by admins.

app_version counts the changes of URL, key and secret, so that a log-in begun under other values is refused at its return.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import delete, func, or_, select
from sqlalchemy.exc import IntegrityError

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields, clean_line
from asapp.core.vault import CannotOpen, Vault
from asapp.models import Action, Connection, ConnectionStatus, Partner, PartnerCheck, Role, User, Verdict
from asapp.models.columns import new_public_id
from asapp.partners.opt_out_field import spelling_of_opt_out_field
from asapp.salesforce.errors import FIELD
from asapp.salesforce.hosts import NotSalesforce, is_login_host, normalise_url
from asapp.salesforce.probe import WITHOUT_USER

NAME_MAX = 120
URL_MAX = 255
KEY_MAX = 512
SLUG_MAX = 50
RESERVED_SLUGS = frozenset({"new", "preview"})  # addresses of their own
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
SLUG_TRIES = 5
API_VERSION = re.compile(r"[1-9][0-9]\.0")
OLDEST_API_VERSION = 56  # what Salesforce still answers, with room
OPT_OUT_FIELD_MAX = 80
LEAD_TEXT_MAX = 255
# field -> (column, least, most, whether it may be empty)
NUMBERS = {
    "sync_interval": ("sync_interval_minutes", 5, 10_080, True),
    "api_share": ("api_share_percent", 1, 100, False),
    "opt_outs_trusted_days": ("opt_outs_trusted_days", 1, 60, False),
}
# What the audit log quotes of a change; of what is sealed it says that it changed.
QUOTED = (
    *("name", "slug", "salesforce_url", "api_version", "opt_out_field", "opt_outs_trusted_days", "lead_company"),
    *("lead_source", "keep_leads_with_advisor", "skip_bounced", "sync_interval_minutes", "api_share_percent"),
)
SEALED = ("consumer_key_sealed", "consumer_secret_sealed", "pending_secret_sealed")
SLUG_TAKEN = "Another firm has this one already."
STATES = ("enabled", "waiting", "attention", "disabled")


class PartnerDetails(NamedTuple):
    """What an admin enters, as typed. None: not asked for, and left as it is (or at its default).

    An empty secret of a partner that has one keeps it. A new partner may do without key and secret: its own Salesforce
    admin enters them.
    """

    name: str
    url: str
    key: str
    secret: str
    slug: str | None = None
    api_version: str | None = None
    opt_out_field: str | None = None
    opt_outs_trusted_days: str | None = None
    lead_company: str | None = None
    lead_source: str | None = None
    keep_leads: bool | None = None
    skip_bounced: bool | None = None
    sync_interval: str | None = None
    api_share: str | None = None


class AppDetails(NamedTuple):
    """What a firm's own Salesforce admin enters."""

    url: str
    key: str
    secret: str


@dataclass(frozen=True)
class PartnerRow:
    partner: Partner
    advisors: int
    connected: int
    needs_attention: bool


def find_partner(slug: str) -> Partner | None:
    return db.session.scalar(select(Partner).where(Partner.slug == slug, Partner.deleted_at.is_(None)))


def list_partners(search: str = "", state: str = "") -> list[PartnerRow]:
    """Return partners by name, each with its active advisors and how many of them are connected.

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
    red = select(PartnerCheck.code).where(PartnerCheck.partner_id == Partner.id, PartnerCheck.verdict == Verdict.BAD)
    attention = or_(red.exists(), broken > 0)
    query = select(Partner, advisors, connected, attention).where(Partner.deleted_at.is_(None))
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
    return [PartnerRow(partner, people, linked, bool(bad)) for partner, people, linked, bad in rows]


def create_partner(details: PartnerDetails, access: OrgAccess, by: Actor = ITSELF) -> Partner:
    """Make a partner, its slug from the name unless one is given; raise InvalidFields."""
    is_app_later = not details.key.strip() and not details.secret.strip()
    details, columns = _check(details, access.allow_loopback, has_secret=False, is_app_later=is_app_later)
    _refuse_twin(details)
    for _ in range(SLUG_TRIES):
        partner = Partner(
            public_id=new_public_id(),
            name=details.name,
            slug=details.slug or _free_slug(details.name),
            salesforce_url=details.url,
            app_version=1,
            **columns,
        )
        if not is_app_later:
            partner.seal(access.vault, "consumer_key_sealed", details.key)
            partner.seal(access.vault, "consumer_secret_sealed", details.secret)
            partner.secret_changed_at = utcnow()
        db.session.add(partner)
        try:
            entries.record(Action.PARTNER_CREATED, by, partner)
            db.session.commit()
        except IntegrityError:  # somebody took the slug meanwhile
            db.session.rollback()
            if details.slug:
                raise InvalidFields({"slug": SLUG_TAKEN}) from None
        else:
            return partner
    raise InvalidFields({"name": "Many firms with this name are being added right now. Try again."})


def change_partner(partner: Partner, details: PartnerDetails, access: OrgAccess, by: Actor = ITSELF) -> None:
    """Raises InvalidFields. A new secret alone waits beside the old one until a check has seen Salesforce accept it.

    A new opt-out field is looked at in Salesforce where an advisor is connected; no transaction is open meanwhile.
    """
    if details.opt_out_field is not None:
        spelled = spelling_of_opt_out_field(partner, details.opt_out_field.strip(), access)
        details = details._replace(opt_out_field=spelled)
    is_app_later = not partner.is_set_up and not details.key.strip() and not details.secret.strip()
    has_secret = partner.consumer_secret_sealed is not None
    details, columns = _check(details, access.allow_loopback, has_secret, is_app_later)
    vault = access.vault
    partner_id, before = partner.id, values_of(partner)
    try:
        partner.name = details.name
        if details.slug:
            partner.slug = details.slug
        for column, value in columns.items():
            setattr(partner, column, value)
        is_same_app = details.url == partner.salesforce_url and details.key == (read_key(partner, vault) or "")
        if is_same_app and has_secret:
            if details.secret and details.secret != _read_secret(partner, vault):
                partner.seal(vault, "pending_secret_sealed", details.secret)
                partner.pending_secret_at = utcnow()
        elif is_app_later:
            partner.salesforce_url = details.url
        else:
            put_app(partner, AppDetails(details.url, details.key, details.secret), vault)
        changes = changes_since(before, partner)
        entries.record(Action.PARTNER_CHANGED, by, partner, **changes)
        if has_secret and "consumer_secret" in changes:
            entries.record(Action.SECRET_REPLACED, by, partner)
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        db.session.get(Partner, partner_id)
        raise InvalidFields({"slug": SLUG_TAKEN}) from None


def values_of(partner: Partner) -> dict[str, Any]:
    return {name: getattr(partner, name) for name in (*QUOTED, *SEALED)}


def changes_since(before: dict[str, Any], partner: Partner) -> dict[str, Any]:
    """Return {setting: [old, new]} of what has changed; of what is sealed the name alone."""
    now = values_of(partner)
    changed = [name for name in now if now[name] != before[name]]
    return {
        name.removesuffix("_sealed"): "changed" if name in SEALED else [before[name], now[name]] for name in changed
    }


def put_app(partner: Partner, app: AppDetails, vault: Vault) -> None:
    """Store another app, in the caller's transaction. An empty secret keeps the one there is."""
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
    """Let the new secret take the old one's place, on behalf of the person who entered it. Commits.

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
    """Forget a new secret that was never used, in the caller's transaction."""
    partner.pending_secret_sealed, partner.pending_secret_at = None, None
    db.session.execute(
        delete(PartnerCheck).where(PartnerCheck.partner_id == partner.id, PartnerCheck.code == "pending_secret")
    )


def discard_new_secret(partner: Partner, by: Actor = ITSELF) -> None:
    discard_pending(partner)
    entries.record(Action.PARTNER_CHANGED, by, partner, forgotten="the new secret")
    db.session.commit()


def enable(partner: Partner, by: Actor = ITSELF) -> None:
    partner.is_enabled = True
    entries.record(Action.PARTNER_ENABLED, by, partner)
    db.session.commit()


def check_app(app: AppDetails, allow_loopback: bool) -> AppDetails:
    """Return what a firm's Salesforce admin entered, cleaned; raise InvalidFields."""
    errors: dict[str, str] = {}
    checked = _check_app(app, allow_loopback, errors)
    if errors:
        raise InvalidFields(errors)
    return checked


def preview_url(pasted: str, allow_loopback: bool) -> str:
    """Return the address that would be stored; raise NotSalesforce with words for whoever pasted it."""
    return _check_url(pasted, allow_loopback)


def read_key(partner: Partner, vault: Vault) -> str | None:
    """Return the Consumer Key, which is no secret; None if there is none or it can't be opened here."""
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


def _check(
    details: PartnerDetails, allow_loopback: bool, has_secret: bool, is_app_later: bool
) -> tuple[PartnerDetails, dict[str, Any]]:
    """Return the details cleaned (the URL as the origin that has the API) and the columns of the other settings."""
    errors: dict[str, str] = {}
    name = clean_line(details.name)
    if not name:
        errors["name"] = "Enter the firm's name."
    elif len(name) > NAME_MAX:
        errors["name"] = f"Use {NAME_MAX} characters or fewer; this has {len(name)}."
    app = AppDetails(details.url, details.key, details.secret)
    if not is_app_later:
        app = _check_app(app, allow_loopback, errors, has_secret)
    elif details.url.strip():
        app = AppDetails(_url_or_error(details.url, allow_loopback, errors), "", "")
    else:
        app = AppDetails("", "", "")
    columns = _check_settings(details, errors)
    slug = (details.slug or "").strip().lower()
    if slug and (not SLUG.fullmatch(slug) or len(slug) > SLUG_MAX or slug in RESERVED_SLUGS):
        errors["slug"] = (
            f"Use up to {SLUG_MAX} small letters, digits and hyphens between them, such as northgate-wealth."
        )
    if errors:
        raise InvalidFields(errors)
    return details._replace(name=name, url=app.url, key=app.key, secret=app.secret, slug=slug or None), columns


def _check_app(app: AppDetails, allow_loopback: bool, errors: dict[str, str], has_secret: bool = False) -> AppDetails:
    url = _url_or_error(app.url, allow_loopback, errors)
    key, secret = app.key.strip(), app.secret.strip()
    if problem := _credential_problem(key, "Consumer Key"):
        errors["key"] = problem
    if (secret or not has_secret) and (problem := _credential_problem(secret, "Consumer Secret")):
        errors["secret"] = problem
    return AppDetails(url, key, secret)


def _url_or_error(pasted: str, allow_loopback: bool, errors: dict[str, str]) -> str:
    try:
        return _check_url(pasted, allow_loopback)
    except NotSalesforce as error:
        errors["url"] = str(error)
        return ""


def _check_numbers(details: PartnerDetails, errors: dict[str, str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for field, (column, least, most, may_be_empty) in NUMBERS.items():
        typed = getattr(details, field)
        if typed is None:
            continue
        text = typed.strip()
        if not text and may_be_empty:
            columns[column] = None
        elif text.isascii() and text.isdecimal() and len(text) < 7 and least <= int(text) <= most:
            columns[column] = int(text)
        else:
            errors[field] = f"Enter a whole number from {least} to {most:,}."
    return columns


def _check_settings(details: PartnerDetails, errors: dict[str, str]) -> dict[str, Any]:
    """Return columns and their values for the settings that were asked for."""
    columns = _check_numbers(details, errors)
    if details.api_version is not None:
        version = details.api_version.strip().removeprefix("v")
        if API_VERSION.fullmatch(version) and float(version) >= OLDEST_API_VERSION:
            columns["api_version"] = version
        else:
            errors["api_version"] = f"Enter a version such as 66.0, from {OLDEST_API_VERSION}.0 on."
    if details.opt_out_field is not None:
        field = details.opt_out_field.strip()
        if FIELD.fullmatch(field) and "." not in field and len(field) <= OPT_OUT_FIELD_MAX:
            columns["opt_out_field"] = field
        else:
            errors["opt_out_field"] = "Enter the field's API name, such as HasOptedOutOfEmail."
    for name, label in (("lead_company", "company"), ("lead_source", "lead source")):
        typed = getattr(details, name)
        if typed is None:
            continue
        columns[name] = clean_line(typed)
        if not 0 < len(columns[name]) <= LEAD_TEXT_MAX:
            errors[name] = f"Enter a {label} of up to {LEAD_TEXT_MAX} characters; new leads carry it."
    if details.keep_leads is not None:
        columns["keep_leads_with_advisor"] = details.keep_leads
    if details.skip_bounced is not None:
        columns["skip_bounced"] = details.skip_bounced
    return columns


def _check_url(pasted: str, allow_loopback: bool) -> str:
    if len(pasted) > 2000:
        raise NotSalesforce("That is too long for an address.")
    url = normalise_url(pasted, allow_loopback)
    if is_login_host(url):
        raise NotSalesforce(
            "All firms log in there. Enter the firm's own address, which ends in my.salesforce.com; Setup › My Domain shows it."
        )
    if len(url) > URL_MAX:
        raise NotSalesforce("That is too long for an address.")
    return url


def _credential_problem(value: str, label: str) -> str | None:
    if not value:
        return f"Enter the {label} of the firm's app in Salesforce."
    if len(value) > KEY_MAX or not value.isascii() or not value.isprintable() or " " in value:
        return f"This is not a {label}: it is one word of letters, digits and marks. Copy it again."
    return None


def _refuse_twin(details: PartnerDetails) -> None:
    """Save pressed twice must not make two."""
    same = select(Partner.slug).where(
        func.lower(Partner.name) == details.name.lower(),
        Partner.salesforce_url == details.url,
        Partner.deleted_at.is_(None),
    )
    if db.session.scalar(same.limit(1)):
        raise InvalidFields({"name": "A partner with this name and address is here already."})


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
    """Northgate & Söhne -> northgate-sohne"""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_MAX].strip("-") or "partner"
