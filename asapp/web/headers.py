"""Headers of every answer: what pages may load, who may frame them, what may be cached."""

from __future__ import annotations

from flask import Flask, Response, request

from asapp.web import htmx
from config import Config

HSTS = "max-age=31536000"
A_YEAR = 31_536_000
STEADY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def steady_headers(config: Config) -> dict[str, str]:
    """Return the headers that every answer has."""
    of_https = {"Strict-Transport-Security": HSTS} if config.is_https else {}
    return {**STEADY, "Content-Security-Policy": content_policy(config), **of_https}


def register(app: Flask) -> None:
    steady = steady_headers(app.extensions["asapp.config"])

    @app.after_request
    def add_headers(response: Response) -> Response:
        present = {name for name, _ in response.headers}
        for name, value in steady.items():
            if name not in present:
                response.headers.add(name, value)
        if request.endpoint == "static" and response.status_code < 400:
            keep_by_fingerprint(response)
        else:
            response.headers.setdefault("Cache-Control", "no-store")
            response.vary.add("HX-Request")
        return response


def content_policy(config: Config, frame_ancestors: str = "'none'") -> str:
    """Return the content security policy. No inline code, no eval, at most one script from another host.

    A page that needs another policy (the sign-up form may be framed by sites that its advisor named) sets its own header.
    """
    htmx_place = htmx.outside_place(config)
    scripts = f"'self' {htmx_place}" if htmx_place else "'self'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {scripts}",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            f"frame-ancestors {frame_ancestors}",
        )
    )


def keep_by_fingerprint(response: Response) -> None:
    """Let browsers keep a static file that is requested by its fingerprint; others are revalidated each time.

    A different fingerprint may be that of the previous or next release, while both are running.
    """
    asked_for, filename = request.args.get("v"), (request.view_args or {}).get("filename", "")
    if asked_for and asked_for == htmx.fingerprint_of(filename):
        response.headers["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
