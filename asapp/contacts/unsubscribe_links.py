"""Unsubscribe links in mails: signed with a random key of the firm's, and valid for ever.

A token is base64url of: version (1 byte), firm and advisor (16 bytes each, their public ids), the hash of the address
that was written to (32 bytes), and a signature over all of it (16 bytes of BLAKE2b with the key: an answer to a sender
holds a hundred thousand of them, and HMAC-SHA256 takes four times as long). It has no address and no row number. The key
is stored sealed, so neither a new SECRET_KEY nor new ENCRYPTION_KEYS ends a link, and it is kept when the firm is
deleted.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session, load_only

from asapp.contacts.partner_keys import partner_key
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen, Vault
from asapp.models import Contact, Partner, User

VERSION = b"\x01"
SIGNED_BYTES, SIGNATURE_BYTES = 65, 16
TOKEN_LENGTH = (SIGNED_BYTES + SIGNATURE_BYTES) * 4 // 3
REST_LENGTH = (32 + SIGNATURE_BYTES) * 4 // 3  # of a token, from the address's hash on
# Parameters: firms, users. The signature says that they belong together.
PEOPLE_OF_A_LINK = (
    select(Partner, User)
    .join(User, User.public_id.in_(bindparam("users", expanding=True)))
    .where(Partner.public_id.in_(bindparam("firms", expanding=True)))
    .options(  # what an unsubscribe needs: these rows are wide, and a mailing brings thousands
        load_only(
            Partner.public_id, Partner.name, Partner.link_key_sealed, Partner.deleted_at, Partner.writes_opt_outs_back
        ),
        load_only(User.name, User.password_hash, User.partner_id),
    )
)


class BadLink(Exception):
    """The token is forged, damaged or cut short."""


@dataclass(frozen=True)
class UnsubscribeLink:
    """The advisor who wrote and the address written to. partner: the advisor's firm when the mail was sent."""

    partner: Partner
    user: User
    address_hash: bytes

    @property
    def is_of_the_past(self) -> bool:
        """Is the advisor, or the firm, no longer here?"""
        return self.user.is_emptied or self.user.partner is None or self.user.partner.deleted_at is not None


class LinkMaker:
    """Makes the links of one advisor's mails. key: the partner's, from link_key(). base_url: without a slash at its end.

    They all begin alike, with whole groups of three bytes: so the signature goes on from a state that has taken these in, and
    what follows is encoded for many links at once.
    """

    def __init__(self, partner: Partner, user: User, key: bytes, base_url: str) -> None:
        prefix = VERSION + UUID(partner.public_id).bytes + UUID(user.public_id).bytes
        self._state = _begun_signature(prefix, key)
        self._start = f"{base_url}/u/{urlsafe_b64encode(prefix).decode()}"

    def urls(self, address_hashes: Iterable[bytes]) -> list[str]:
        parts: list[bytes] = []
        for hashed in address_hashes:
            signature = self._state.copy()
            signature.update(hashed)
            parts += (hashed, signature.digest())
        encoded = urlsafe_b64encode(b"".join(parts)).decode()
        return [self._start + encoded[at : at + REST_LENGTH] for at in range(0, len(encoded), REST_LENGTH)]

    def url(self, address_hash: bytes) -> str:
        (url,) = self.urls([address_hash])
        return url


def link_key(session: Session, partner: Partner, vault: Vault) -> bytes:
    """Return the partner's 32-byte key for links; the first call creates and commits it."""
    return partner_key(session, partner, vault, Partner.link_key_sealed)


def read_link(token: str, vault: Vault) -> UnsubscribeLink:
    """Return what a link says; raise BadLink."""
    signed, signature = _parts(token)
    found = db.session.execute(
        PEOPLE_OF_A_LINK, {"firms": _forms(signed[1:17]), "users": _forms(signed[17:33])}
    ).first()
    if found is None:
        raise BadLink
    partner, user = found
    if partner.link_key_sealed is None:
        raise BadLink
    try:
        key = bytes.fromhex(partner.unseal(vault, Partner.link_key_sealed.key))
    except CannotOpen as error:
        raise BadLink from error
    if not hmac.compare_digest(signature, _signature(signed, key)):
        raise BadLink
    return UnsubscribeLink(partner, user, signed[33:])


def masked_address(link: UnsubscribeLink) -> str:
    """Return as much of the address as a stranger with the link may see; empty if no contact has it any more."""
    email = db.session.scalar(
        select(Contact.email).where(Contact.user_id == link.user.id, Contact.address_hash == link.address_hash).limit(1)
    )
    return mask(email) if email else ""


def mask(email: str) -> str:
    """Return r•••@a•••.example for rosa@acme.example."""
    local, _, domain = email.rpartition("@")
    name, dot, ending = domain.rpartition(".")
    return f"{local[:1]}•••@{name[:1]}•••{dot}{ending}"


def _parts(token: str) -> tuple[bytes, bytes]:
    """Return what was signed, and the signature."""
    try:
        raw = urlsafe_b64decode(token.encode("ascii")) if len(token) == TOKEN_LENGTH else b""
    except ValueError as error:
        raise BadLink from error
    if len(raw) != SIGNED_BYTES + SIGNATURE_BYTES or raw[:1] != VERSION:
        raise BadLink
    return raw[:SIGNED_BYTES], raw[SIGNED_BYTES:]


def _signature(signed: bytes, key: bytes) -> bytes:
    return _begun_signature(signed, key).digest()


def _begun_signature(signed: bytes, key: bytes) -> blake2b:
    return blake2b(signed, key=key, digest_size=SIGNATURE_BYTES)


def _forms(raw: bytes) -> tuple[str, str]:
    """Return a public id in both its forms: with dashes, and without, as the databases themselves write them."""
    public_id = UUID(bytes=raw)
    return str(public_id), public_id.hex
