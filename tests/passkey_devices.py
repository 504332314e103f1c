"""A passkey device in software (WebAuthn, ES256, attestation "none"): what a browser would send of it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import bytes_to_base64url

IS_PRESENT, IS_VERIFIED, HAS_KEY = 0x01, 0x04, 0x40


class PasskeyDevice:
    """One key for one site. counts: does it count its uses?"""

    def __init__(self, origin: str, host: str, *, credential_id: bytes = b"a key", counts: bool = True) -> None:
        self.origin, self.host, self.credential_id = origin, host, credential_id
        self.counts, self.count = counts, 0
        self.key = ec.generate_private_key(ec.SECP256R1())

    def make(self, options: str, **changes: Any) -> str:
        """Answer navigator.credentials.create(). changes: of the client data."""
        data = self._data(IS_PRESENT | IS_VERIFIED | HAS_KEY) + self._credential()
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client_data = self._client_data("webauthn.create", options, changes)
        return self._json(clientDataJSON=client_data, attestationObject=attestation)

    def use(self, options: str, **changes: Any) -> str:
        """Answer navigator.credentials.get()."""
        if self.counts:
            self.count += 1
        data = self._data(IS_PRESENT | IS_VERIFIED)
        client_data = self._client_data("webauthn.get", options, changes)
        signature = self.key.sign(data + sha256(client_data).digest(), ec.ECDSA(SHA256()))
        return self._json(clientDataJSON=client_data, authenticatorData=data, signature=signature)

    def _client_data(self, kind: str, options: str, changes: dict[str, Any]) -> bytes:
        challenge = json.loads(options)["challenge"]
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin} | changes).encode()

    def _data(self, flags: int) -> bytes:
        return sha256(self.host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _credential(self) -> bytes:
        at = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: at.x.to_bytes(32, "big"), -3: at.y.to_bytes(32, "big")}
        length = len(self.credential_id).to_bytes(2, "big")
        return bytes(16) + length + self.credential_id + cbor2.dumps(public)

    def _json(self, **response: bytes) -> str:
        name = bytes_to_base64url(self.credential_id)
        encoded = {key: bytes_to_base64url(value) for key, value in response.items()}
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": encoded})
