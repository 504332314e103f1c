"""What htmx needs of us: where it is loaded from, its settings, and the answers that only it understands.

Its headers are hints: they choose between a page and its part, never what a person may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, make_response, redirect, request, url_for

from config import HTMX_INTEGRITY, Config

FALLBACK_FILE = "vendor/htmx.min.js"  # placed by devtools/npm_files.py if npm is available; may be missing
FONT_FILE = "vendor/fonts/source-serif-4-latin-600.woff2"  # as FALLBACK_FILE
CONFIG = {
    "includeIndicatorStyles": False,
    "allowEval": False,
    "allowScriptTags": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "timeout": 15000,
    # A refused form comes back as the form; other errors are shown at the top of the page.
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "422", "swap": True},
        {"code": "[45]..", "swap": True, "error": True, "target": "#trouble", "swapOverride": "innerHTML"},
    ],
}


@dataclass(frozen=True)
class Source:
    """integrity: the hash that a script from another host is checked against; None: it comes from ours."""

    url: str
    integrity: str | None
    fallback_url: str | None


def register(app: Flask) -> None:
    config: Config = app.extensions["asapp.config"]
    app.jinja_env.globals.update(static_url=static_url, has_font=has_font, htmx_config=CONFIG)

    @app.context_processor
    def htmx_source() -> dict[str, Source]:
        return {"htmx_source": source_of(config)}


def source_of(config: Config) -> Source:
    url, _, integrity = config.htmx_url.partition("#")
    if url.startswith("/"):
        return Source(url, None, None)
    fallback = static_url(FALLBACK_FILE) if _path(FALLBACK_FILE).is_file() else None
    return Source(url, integrity or HTMX_INTEGRITY, fallback)


def outside_place(config: Config) -> str | None:
    """Return what the content security policy has to allow; None for a path on this host."""
    parts = urlsplit(config.htmx_url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.netloc else None


def static_url(filename: str) -> str:
    """Return the address of a static file, which changes with its content; browsers may keep it for good."""
    return url_for("static", filename=filename, v=fingerprint_of(filename))


def has_font() -> bool:
    """Is the font of headings here? Set-up fetches it where npm is available."""
    return _path(FONT_FILE).is_file()


def fingerprint_of(filename: str) -> str:
    """Return a text that changes with the content of a static file."""
    path = _path(filename)
    return _fingerprint(path, path.stat().st_mtime_ns if path.is_file() else 0)


def wants_part() -> bool:
    """Does htmx ask for a part of the page? Going back in history asks for the whole page."""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def go_to(url: str) -> Response:
    """Answer an accepted form: go on to the page at url, with htmx or without."""
    if wants_part():
        return make_response("", 200, {"HX-Redirect": url})
    return make_response(redirect(url, 303))


def _path(filename: str) -> Path:
    return Path(current_app.static_folder or "") / filename


@cache
def _fingerprint(path: Path, modified: int) -> str:
    return sha256(path.read_bytes()).hexdigest()[:12] if modified else "absent"
