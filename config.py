"""Every setting, parsed and checked once.

Nothing else reads the environment. Secrets may also come from files: SECRET_KEY_FILE names the one with SECRET_KEY. A
missing or bad value raises ConfigError with one line that says what to set.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

T = TypeVar("T")

HTMX_CDN_URL = "https://cdn.jsdelivr.net/npm/htmx.org@2.0.11/dist/htmx.min.js"
HTMX_INTEGRITY = "sha384-2OatzQy1H+Zd/IIrjr1TcuDGqLXeHhbooAyJY1KdQMKnr4LZ22k31GBLdYKHmVjg"

INTEGRITY = re.compile(r"sha(256|384|512)-[A-Za-z0-9+/]+=*")
BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750
# Settings that hold a secret; each may come from the file that NAME_FILE names.
IN_FILES = (
    *("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL", "MAIL_URL", "METRICS_TOKEN", "OIDC_CLIENT_SECRET"),
)
MAIL_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
MAIL_SENDER = "AdvisorStream <as_support@broadridge.com>"


class ConfigError(Exception):
    """A setting is missing or bad; the message is one line for the person who starts the process."""


@dataclass(frozen=True)
class MailServer:
    """The parts of MAIL_URL: smtps://user:password@host:465?from=AdvisorStream <mail@my.example>"""

    host: str
    port: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    is_tls_from_start: bool
    is_starttls: bool
    sender: str

    @classmethod
    def from_url(cls, raw: str) -> MailServer:
        """Raises ValueError."""
        url = urlsplit(raw)
        if url.scheme not in MAIL_PORTS or not url.hostname:
            raise ValueError("must look like smtps://user:password@host:465 (or smtp://, smtp+starttls://)")
        sender = parse_qs(url.query).get("from", [MAIL_SENDER])[0]
        if "@" not in sender or not sender.isprintable():
            raise ValueError("must name an address in ?from=, or leave it out")
        return cls(
            host=url.hostname,
            port=url.port or MAIL_PORTS[url.scheme],
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            is_tls_from_start=url.scheme == "smtps",
            is_starttls=url.scheme == "smtp+starttls",
            sender=sender,
        )


@dataclass(frozen=True)
class IdentityProvider:
    """The OpenID Connect provider that people log in with, and what it knows us by."""

    issuer: str  # as it calls itself, character for character
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Config:
    secret_key: str = field(repr=False)
    encryption_keys: tuple[bytes, ...] = field(repr=False)  # empty in a process that WITHOUT_KEYS=1 started
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    public_url: str
    trusted_proxies: int = 0
    htmx_url: str = HTMX_CDN_URL
    mail_url: str | None = field(default=None, repr=False)
    salesforce_allow_loopback: bool = False
    sync_interval_minutes: int = 15
    runs_kept_days: int = 400
    traces_kept_days: int = 90
    metrics_token: str | None = field(default=None, repr=False)
    require_second_factor: bool = True
    admin_idle_minutes: int = 30
    advisor_idle_minutes: int = 720
    admin_session_hours: int = 12
    advisor_session_hours: int = 168
    identity_provider: IdentityProvider | None = None
    testing: bool = False

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def takes_all_for_one(self) -> bool:
        """Do all people seem to have the proxy's address? https takes a proxy, and none is trusted to name them."""
        return self.is_https and self.trusted_proxies == 0

    def require_keys(self) -> None:
        """Raise ConfigError in a process that was started without keys: it can neither read nor write secrets."""
        if not self.encryption_keys:
            raise ConfigError(
                "WITHOUT_KEYS=1 is for the scheduler, migrations and backups; web and workers need the keys"
            )

    @property
    def mail_server(self) -> MailServer | None:
        """Return the server that sends mails; None: they are printed."""
        return MailServer.from_url(self.mail_url) if self.mail_url else None

    @property
    def callback_url(self) -> str:
        """Return the OAuth callback that firms register, character for character."""
        return f"{self.public_url}/salesforce/salesforce_as/login/callback/"

    @property
    def log_in_callback_url(self) -> str:
        """Return the callback that the identity provider has to know, character for character."""
        return f"{self.public_url}/login/provider/callback"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read all settings; raise ConfigError for the first one that is missing or bad."""
        environ = _with_files(environ)
        is_keyless = _read(environ, "WITHOUT_KEYS", _flag, default="0")
        public_url = _read(environ, "PUBLIC_URL", _public_url)
        allow_loopback = _read(environ, "SALESFORCE_ALLOW_LOOPBACK", _flag, default="0")
        if allow_loopback and not is_loopback(urlsplit(public_url)):
            raise ConfigError("SALESFORCE_ALLOW_LOOPBACK=1 goes only with a loopback PUBLIC_URL (demo and tests)")
        require_second_factor = _read(environ, "REQUIRE_SECOND_FACTOR", _flag, default="1")
        if not require_second_factor and not is_loopback(urlsplit(public_url)):
            raise ConfigError("REQUIRE_SECOND_FACTOR=0 goes only with a loopback PUBLIC_URL (demo and tests)")
        return cls(
            secret_key=secrets.token_urlsafe(48) if is_keyless else _read(environ, "SECRET_KEY", _secret_key),
            encryption_keys=() if is_keyless else _read(environ, "ENCRYPTION_KEYS", _encryption_keys),
            database_url=_read(environ, "DATABASE_URL", _database_url),
            redis_url=_read(environ, "REDIS_URL", _redis_url),
            public_url=public_url,
            trusted_proxies=_read(environ, "TRUSTED_PROXIES", _whole_number(0, 10), default="0"),
            htmx_url=_read(environ, "HTMX_URL", _script_url, default=HTMX_CDN_URL),
            mail_url=_read(environ, "MAIL_URL", _mail_url) if environ.get("MAIL_URL") else None,
            salesforce_allow_loopback=allow_loopback,
            sync_interval_minutes=_read(environ, "SYNC_INTERVAL_MINUTES", _whole_number(5, 10_080), default="15"),
            runs_kept_days=_read(environ, "RUNS_KEPT_DAYS", _whole_number(30, 3650), default="400"),
            traces_kept_days=_read(environ, "TRACES_KEPT_DAYS", _whole_number(30, 3650), default="90"),
            metrics_token=_read(environ, "METRICS_TOKEN", _bearer_token) if environ.get("METRICS_TOKEN") else None,
            require_second_factor=require_second_factor,
            admin_idle_minutes=_read(environ, "ADMIN_IDLE_MINUTES", _whole_number(5, 1440), default="30"),
            advisor_idle_minutes=_read(environ, "ADVISOR_IDLE_MINUTES", _whole_number(5, 10_080), default="720"),
            admin_session_hours=_read(environ, "ADMIN_SESSION_HOURS", _whole_number(1, 168), default="12"),
            advisor_session_hours=_read(environ, "ADVISOR_SESSION_HOURS", _whole_number(1, 2160), default="168"),
            identity_provider=_identity_provider(environ, public_url),
        )


def shared_figures_folder(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the folder in which the processes of one gunicorn count together, which gunicorn.conf.py makes; else None."""
    return environ.get("PROMETHEUS_MULTIPROC_DIR")


def environ_with(more: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return our environment and more, for a program that we start; files with these settings no longer count."""
    return {**{name: value for name, value in environ.items() if name.removesuffix("_FILE") not in more}, **more}


def secret_of_command(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return a password or secret that a command may get by the environment; None: it asks at the prompt."""
    return environ.get(name) or None


def is_loopback(url: SplitResult) -> bool:
    """Is the host of this address the local machine?"""
    host = url.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_files(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment with the settings that files hold; raise ConfigError for one that can't be read."""
    found = {}
    for name in IN_FILES:
        path = environ.get(f"{name}_FILE")
        if path and environ.get(name):
            raise ConfigError(f"{name} and {name}_FILE are both set; leave one out")
        if path:
            try:
                found[name] = Path(path).read_text()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ConfigError(f"{name}_FILE names {path}, which can't be read: {reason}") from error
    return {**environ, **found}


def _read(environ: Mapping[str, str], name: str, parse: Callable[[str], T], default: str | None = None) -> T:
    raw = (environ.get(name) or "").strip() or default
    if raw is None:
        raise ConfigError(f"{name} is not set")
    try:
        return parse(raw)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from error


def _public_url(raw: str) -> str:
    url = urlsplit(raw)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an address such as https://my.example.com")
    if url.path not in ("", "/") or url.query or url.fragment or url.username:
        raise ValueError("must be a scheme and a host, without a path")
    if url.scheme == "http" and not is_loopback(url):
        raise ValueError("must be https; http is accepted for a loopback address only")
    return f"{url.scheme}://{url.netloc}".lower()


def _identity_provider(environ: Mapping[str, str], public_url: str) -> IdentityProvider | None:
    names = ("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
    if not any((environ.get(name) or "").strip() for name in names):
        return None
    issuer = _read(environ, names[0], _issuer)
    if issuer.startswith("http:") and not is_loopback(urlsplit(public_url)):
        raise ConfigError("OIDC_ISSUER must be https; http goes only with a loopback PUBLIC_URL (demo and tests)")
    return IdentityProvider(issuer, _read(environ, names[1], str), _read(environ, names[2], str))


def _issuer(raw: str) -> str:
    url = urlsplit(raw)
    is_local = url.scheme == "http" and is_loopback(url)
    if not url.hostname or not (url.scheme == "https" or is_local) or url.query or url.fragment or url.username:
        raise ValueError("must be the https address that the identity provider calls itself by")
    return raw


def _secret_key(raw: str) -> str:
    if len(raw) < 32 or len(set(raw)) < 10:
        raise ValueError("must be a random text of at least 32 characters")
    return raw


def _bearer_token(raw: str) -> str:
    if len(raw) < 16 or not BEARER_TOKEN.fullmatch(raw):
        raise ValueError("must be a random text of at least 16 letters, digits and -._~+/=")
    return raw


def _encryption_keys(raw: str) -> tuple[bytes, ...]:
    keys = tuple(_encryption_key(part.strip()) for part in raw.split(",") if part.strip())
    if not keys or len(set(keys)) != len(keys):
        raise ValueError("must hold one or more different keys, newest first, separated by commas")
    return keys


def _encryption_key(raw: str) -> bytes:
    try:
        key = base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32 or len(set(key)) < 8:
        raise ValueError("must hold keys of 32 random bytes each, in base64url")
    return key


def _database_url(raw: str) -> str:
    if not raw.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")
    return raw


def _redis_url(raw: str) -> str:
    if not raw.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return raw


def _script_url(raw: str) -> str:
    """Accept an address, which may end with the hash of another release of htmx: #sha384-…"""
    url = urlsplit(raw)
    if raw.startswith("/") and not raw.startswith("//"):
        return raw
    if url.scheme != "https" or not url.hostname or any(c in raw for c in " ;,'\""):
        raise ValueError("must be an https address or a path on this host")
    if url.fragment and not INTEGRITY.fullmatch(url.fragment):
        raise ValueError("must end with #sha384- and the script's hash in base64, or without #")
    return raw


def _mail_url(raw: str) -> str:
    MailServer.from_url(raw)
    return raw


def _flag(raw: str) -> bool:
    if raw not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return raw == "1"


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not raw.isdecimal() or not least <= int(raw) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(raw)

    return parse
