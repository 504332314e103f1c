"""Whether a person has logged in on this device before.

The device's cookie is signed and names accounts by a hash. It opens nothing: wrong passwords from this device are counted
apart from those of strangers. It is valid as long as the password: a thief who knew the password and logged in on many
devices has no separate count there once it is changed.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from hashlib import sha256

from flask import Response, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from asapp.accounts import users
from asapp.accounts.attempts import Origin
from asapp.models import User
from asapp.web.current import config
from asapp.web.networks import client_network

KNOWN_FOR = timedelta(days=400)  # the longest that browsers keep a cookie; each log-in renews it
ACCOUNTS_OF_A_DEVICE = 5
MARK_OF = "."
# The first that fits: most browsers name others too.
BROWSERS = (
    *(("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser", "Samsung Internet"), ("FxiOS", "Firefox")),
    *(("Firefox/", "Firefox"), ("CriOS", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari")),
)
SYSTEMS = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows")),
    *(("Macintosh", "Mac"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)


def origin_of(email: str) -> Origin:
    """Return where a try for this account comes from.

    The account is looked up only if it was logged in with this browser: strangers' tries look the same for every address.
    """
    device, _, stored = _known_accounts().get(_account(email), "").partition(MARK_OF)
    is_known = bool(stored) and hmac.compare_digest(stored, users.password_mark(users.find_by_email(email)))
    return Origin(client_network(), device if is_known else None)


def remember_device(response: Response, user: User) -> None:
    """Mark this browser as one on which the account logged in with its present password."""
    known, account = _known_accounts(), _account(user.email)
    device = known.pop(account, "").partition(MARK_OF)[0] or secrets.token_urlsafe(12)
    mark = f"{device}{MARK_OF}{users.password_mark(user)}"
    latest = list(known.items())[-(ACCOUNTS_OF_A_DEVICE - 1) :]
    response.set_cookie(
        _cookie_name(),
        str(_serializer().dumps(dict([*latest, (account, mark)]))),
        max_age=KNOWN_FOR,
        secure=config().is_https,
        httponly=True,
        samesite="Lax",
    )


def name_of(user_agent: str) -> str:
    """Return what a person would call the browser that sends this: "Firefox on Linux"."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return f"{browser or 'A browser'} on {system}" if system else browser or "A browser"


def _known_accounts() -> dict[str, str]:
    """Return {hash of an account's address: name of this device, MARK_OF, mark of the password}.

    Empty if the cookie is missing, old or not ours.
    """
    try:
        known = _serializer().loads(request.cookies.get(_cookie_name(), ""), max_age=int(KNOWN_FOR.total_seconds()))
    except BadSignature:
        return {}
    return dict(known)


def _account(email: str) -> str:
    return sha256(users.normal_email(email).encode()).hexdigest()[:32]


def _cookie_name() -> str:
    return "__Host-device" if config().is_https else "device"


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(config().secret_key, salt="known device")
