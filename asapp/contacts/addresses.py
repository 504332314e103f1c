"""Addresses as keyed hashes: they show that two records share an address, without storing the address of a record that
was not imported.

The key is random, one per partner, and stored sealed, so that rotating encryption keys leaves the hashes unchanged.
"""

from __future__ import annotations

import hmac
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import Session

from asapp.contacts.partner_keys import partner_key
from asapp.core.vault import Vault
from asapp.models import Partner


class HashRange(NamedTuple):
    """Addresses with a hash that is greater than `after` and at most `upto`: values, or parameters of a statement."""

    after: Any
    upto: Any

    def holds(self, column: Any) -> ColumnElement[bool]:
        """Is the hash in this column one of them?"""
        return and_(column > self.after, column <= self.upto)


def address_hash(email: str, key: bytes) -> bytes:
    """Return the 32-byte HMAC-SHA256 of the address in normal form; equal addresses of one partner give equal hashes."""
    return hmac.digest(key, normal_form(email).encode(), "sha256")


def normal_form(email: str) -> str:
    """Return the address in lower case with its domain in ASCII, as mail servers use it: münchen.de is xn--mnchen-3ya.de."""
    lowered = email.strip().lower()
    if lowered.isascii():
        return lowered
    local, at, domain = lowered.rpartition("@")
    try:
        return f"{local}{at}{domain.encode('idna').decode()}"
    except UnicodeError:  # not a valid domain
        return lowered


def address_key(session: Session, partner: Partner, vault: Vault) -> bytes:
    """Return the partner's 32-byte key; the first call creates and commits it."""
    return partner_key(session, partner, vault, Partner.address_key_sealed)
