"""Firms whose Salesforce org is set up here: made and changed by admins.

app_version counts the changes of URL, key and secret, so that a log-in begun under other values is refused at its return.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from asapp.contacts.fields import InvalidFields, clean_line
from asapp.extensions import db
from asapp.models import Connection, ConnectionStatus, Partner, Role, User
from asapp.models.columns import new_public_id
from asapp.salesforce.hosts import NotSalesforce, is_login_host, normalise_url
from asapp.vault import CannotOpen, Vault

NAME_MAX = 120
URL_MAX = 255
KEY_MAX = 512
SLUG_MAX = 50
RESERVED_SLUGS = frozenset({"new"})  # an address of its own
SLUG_TRIES = 5


class PartnerDetails(NamedTuple):
    """What an admin enters. An empty secret of a partner that has one keeps it."""

    name: str
    url: str
    key: str
    secret: str


@dataclass(frozen=True)
class PartnerRow:
    partner: Partner
    advisors: int
    connected: int


def find_partner(slug: str) -> Partner | None:
    return db.session.scalar(select(Partner).where(Partner.slug == slug))


def list_partners() -> list[PartnerRow]:
    """All partners by name, each with its active advisors and how many of them are connected."""
    advisors = (
        select(func.count())
        .where(User.partner_id == Partner.id, User.role == Role.ADVISOR, User.deactivated_at.is_(None))
        .scalar_subquery()
    )
    connected = (
        select(func.count())
        .where(Connection.partner_id == Partner.id, Connection.status == ConnectionStatus.CONNECTED)
        .scalar_subquery()
    )
    rows = db.session.execute(select(Partner, advisors, connected).order_by(func.lower(Partner.name), Partner.id))
    return [PartnerRow(*row) for row in rows]


def create_partner(details: PartnerDetails, vault: Vault, allow_loopback: bool) -> Partner:
    """Make a partner, its slug from the name; raise InvalidFields."""
    details = _check(details, allow_loopback, has_secret=False)
    _refuse_twin(details)
    for _ in range(SLUG_TRIES):
        partner = Partner(
            public_id=new_public_id(),
            name=details.name,
            slug=_free_slug(details.name),
            salesforce_url=details.url,
            app_version=1,
        )
        partner.seal(vault, "consumer_key_sealed", details.key)
        partner.seal(vault, "consumer_secret_sealed", details.secret)
        db.session.add(partner)
        try:
            db.session.commit()
        except IntegrityError:  # somebody took the slug meanwhile
            db.session.rollback()
        else:
            return partner
    raise InvalidFields({"name": "Many firms with this name are being added right now. Try again."})


def change_partner(partner: Partner, details: PartnerDetails, vault: Vault, allow_loopback: bool) -> None:
    """Raises InvalidFields."""
    details = _check(details, allow_loopback, has_secret=partner.consumer_secret_sealed is not None)
    is_app_changed = (
        bool(details.secret) or details.url != partner.salesforce_url or details.key != read_key(partner, vault)
    )
    partner.name = details.name
    partner.salesforce_url = details.url
    if is_app_changed:
        partner.seal(vault, "consumer_key_sealed", details.key)
        if details.secret:
            partner.seal(vault, "consumer_secret_sealed", details.secret)
        partner.app_version = Partner.app_version + 1
    db.session.commit()


def set_enabled(partner: Partner, enabled: bool) -> None:
    partner.is_enabled = enabled
    db.session.commit()


def read_key(partner: Partner, vault: Vault) -> str | None:
    """Return the Consumer Key, which is no secret; None if there is none or it can't be opened here."""
    if partner.consumer_key_sealed is None:
        return None
    try:
        return partner.unseal(vault, "consumer_key_sealed")
    except CannotOpen:
        return None


def _check(details: PartnerDetails, allow_loopback: bool, has_secret: bool) -> PartnerDetails:
    """Return the details cleaned, the URL as the origin that has the API; raise InvalidFields."""
    errors: dict[str, str] = {}
    name = clean_line(details.name)
    if not name:
        errors["name"] = "Enter the firm's name."
    elif len(name) > NAME_MAX:
        errors["name"] = f"Use {NAME_MAX} characters or fewer; this has {len(name)}."
    url = ""
    try:
        url = _check_url(details.url, allow_loopback)
    except NotSalesforce as error:
        errors["url"] = str(error)
    key, secret = details.key.strip(), details.secret.strip()
    if problem := _credential_problem(key, "Consumer Key"):
        errors["key"] = problem
    if (secret or not has_secret) and (problem := _credential_problem(secret, "Consumer Secret")):
        errors["secret"] = problem
    if errors:
        raise InvalidFields(errors)
    return PartnerDetails(name, url, key, secret)


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
        func.lower(Partner.name) == details.name.lower(), Partner.salesforce_url == details.url
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
