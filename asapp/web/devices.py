"""Whether a person logged in on this device before.

The device's cookie is signed and names accounts by a hash. It opens nothing: it only lets wrong passwords of this device be
counted apart from those that strangers send.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from hashlib import sha256

from flask import Response, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from asapp.accounts.attempts import Origin
from asapp.accounts.users import normal_email
from asapp.web.current import config
from asapp.web.networks import client_network

KNOWN_FOR = timedelta(days=400)  # browsers keep no cookie for longer; each log-in renews it
ACCOUNTS_OF_A_DEVICE = 5


def origin_of(email: str) -> Origin:
    """Return where a try for this account comes from."""
    return Origin(client_network(), _known_accounts().get(_account(email)))


def remember_device(response: Response, email: str) -> None:
    """Let this browser say from now on that the account logged in here."""
    known, account = _known_accounts(), _account(email)
    mark = known.pop(account, None) or secrets.token_urlsafe(12)
    latest = list(known.items())[-(ACCOUNTS_OF_A_DEVICE - 1) :]
    response.set_cookie(
        _cookie_name(),
        str(_serializer().dumps(dict([*latest, (account, mark)]))),
        max_age=KNOWN_FOR,
        secure=config().is_https,
        httponly=True,
        samesite="Lax",
    )


def _known_accounts() -> dict[str, str]:
    """Return {hash of an account's address: mark of this device}; nothing where the cookie is missing, old or not ours."""
    try:
        known = _serializer().loads(request.cookies.get(_cookie_name(), ""), max_age=int(KNOWN_FOR.total_seconds()))
    except BadSignature:
        return {}
    return dict(known)


def _account(email: str) -> str:
    return sha256(normal_email(email).encode()).hexdigest()[:32]


def _cookie_name() -> str:
    return "__Host-device" if config().is_https else "device"


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(config().secret_key, salt="known device")
