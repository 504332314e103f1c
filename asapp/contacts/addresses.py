"""Addresses as keyed hashes: how we know that two records share an address without keeping the address of the one that
was not imported.

The key is random, one per partner, and itself stored encrypted, so that rotating encryption keys leaves the hashes alone.
"""

from __future__ import annotations

import hmac
import secrets

from sqlalchemy import update
from sqlalchemy.orm import Session

from asapp.core.database import writing
from asapp.core.vault import Vault
from asapp.models import Partner

KEY_COLUMN = "address_key_sealed"


def address_hash(email: str, key: bytes) -> bytes:
    """Return the 32-byte HMAC-SHA256 of the lower-cased address; equal addresses of one partner give equal hashes."""
    return hmac.digest(key, email.strip().lower().encode(), "sha256")


def address_key(session: Session, partner: Partner, vault: Vault) -> bytes:
    """Return the partner's 32-byte key; the first call makes and commits it."""
    if partner.address_key_sealed is None:
        partner_id, made = partner.id, Partner(public_id=partner.public_id)
        made.seal(vault, KEY_COLUMN, secrets.token_hex(32))
        session.commit()
        with writing():
            session.execute(
                update(Partner)
                .where(Partner.id == partner_id, Partner.address_key_sealed.is_(None))
                .values(address_key_sealed=made.address_key_sealed)
            )
            session.commit()
        session.refresh(partner)
    return bytes.fromhex(partner.unseal(vault, KEY_COLUMN))
