"""Encryption at rest: AES-256-GCM, bound to table, row and column.

A sealed value is `v1.<key id>.<base64url of nonce, ciphertext and tag>`. It opens only for the place it was sealed for: a
value pasted into another row or column is refused. The first key seals, every key opens; the key id says which key is
missing.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = "v1"
NONCE_BYTES = 12


class CannotOpen(Exception):
    """A sealed value does not open here: its key is not configured, or it was moved or tampered with."""


class Vault:
    def __init__(self, keys: Sequence[bytes]) -> None:
        """keys: 32 bytes each, newest first; none: nothing can be sealed or opened."""
        self._ciphers = {key_id(key): AESGCM(_derive(key)) for key in keys}
        self.key_ids = tuple(self._ciphers)  # newest first
        self.newest_key_id = self.key_ids[0] if keys else ""

    def seal(self, plain: str, place: str) -> str:
        """Return the sealed form of plain. place is `table:public id:column` of the value."""
        nonce = os.urandom(NONCE_BYTES)
        box = nonce + self._ciphers[self.newest_key_id].encrypt(nonce, plain.encode(), place.encode())
        return f"{VERSION}.{self.newest_key_id}.{urlsafe_b64encode(box).decode().rstrip('=')}"

    def open(self, sealed: str, place: str) -> str:
        """Return the text sealed for this place; raise CannotOpen if it was sealed for another, or its key is missing."""
        try:
            version, used_key_id, encoded = sealed.split(".")
            box = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError as error:
            raise CannotOpen("not a sealed value") from error
        cipher = self._ciphers.get(used_key_id)
        if version != VERSION or cipher is None:
            raise CannotOpen(f"sealed with key {used_key_id}, which is not in ENCRYPTION_KEYS")
        try:
            return cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError) as error:  # ValueError: cut short
            raise CannotOpen("sealed for another place, or altered") from error

    def has_key_of(self, sealed: str) -> bool:
        """Was it sealed with a key that is here?"""
        return sealed.startswith(tuple(self.beginnings))

    @property
    def beginnings(self) -> list[str]:
        """Return how values begin that a key sealed which is here."""
        return [f"{VERSION}.{key}." for key in self.key_ids]

    def is_current(self, sealed: str) -> bool:
        """Was it sealed with the newest key?"""
        return sealed.startswith(f"{VERSION}.{self.newest_key_id}.")


def key_id(key: bytes) -> str:
    return hashlib.sha256(b"asapp key id" + key).hexdigest()[:8]


def _derive(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"asapp/vault/v1").derive(key)
