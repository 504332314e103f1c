"""Headers of every answer, and where htmx comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp import create_app
from asapp.web import htmx
from config import HTMX_CDN_URL, HTMX_INTEGRITY
from tests.conftest import make_config
from tests.factories import log_in, make_advisor


def other_app(**changes: Any) -> Flask:
    """Return an app that never uses its database."""
    return create_app(make_config("sqlite://", **changes))


def policy_of(app: Flask) -> dict[str, str]:
    header = app.test_client().get("/healthz").headers["Content-Security-Policy"]
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in header.split(";"))}


@pytest.mark.parametrize("path", ["/", "/login", "/healthz", "/nothing", "/static/asapp.css", "/settings", "/logout"])
def test_every_answer_carries_them(path: str, client: FlaskClient) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers


def test_the_content_policy() -> None:
    assert policy_of(other_app()) == {
        "default-src": "'none'",
        "script-src": f"'self' {HTMX_CDN_URL}",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("url", "scripts"),
    [
        ("/static/vendor/htmx.min.js", "'self'"),
        ("https://scripts.firm.example/htmx.js?v=2", "'self' https://scripts.firm.example/htmx.js"),
    ],
)
def test_the_policy_names_the_script_of_a_firm_that_blocks_cdns(url: str, scripts: str) -> None:
    assert policy_of(other_app(htmx_url=url))["script-src"] == scripts


def test_https_is_kept_and_its_cookie_is_bound_to_the_host() -> None:
    client = other_app(public_url="https://my.advisorstream.example", salesforce_allow_loopback=False).test_client()
    response = client.get("/login", base_url="https://my.advisorstream.example")
    assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie


OUR_HOST = "my.advisorstream.example"


@pytest.mark.parametrize(
    ("host", "forwarded", "is_ours"),
    [
        (OUR_HOST, None, True),
        (f"{OUR_HOST.upper()}:443", None, True),
        ("web:8000", OUR_HOST, True),
        ("web:8000", None, False),
        (OUR_HOST, "evil.example", False),
        (f"{OUR_HOST}.evil.example", None, False),
        (f"evil.example@{OUR_HOST}", None, False),
        ("localhost", None, False),
        ("127.0.0.1", None, False),
        ("..", None, False),
        ("", None, False),
    ],
)
def test_it_answers_for_the_host_of_its_public_address(host: str, forwarded: str | None, is_ours: bool) -> None:
    app = other_app(public_url=f"https://{OUR_HOST}", salesforce_allow_loopback=False, trusted_proxies=1)
    headers = {"Host": host, **({"X-Forwarded-Host": forwarded} if forwarded else {})}
    for path in ("/login", "/contacts", "/nothing"):
        answer = app.test_client().get(path, headers=headers)
        assert (answer.status_code != 400) == is_ours
        assert answer.headers["Strict-Transport-Security"]
    assert app.test_client().get("/healthz", headers=headers).status_code == 200


def test_pages_are_not_stored_and_differ_for_htmx(client: FlaskClient) -> None:
    log_in(client, make_advisor())
    response = client.get("/settings")
    assert response.headers["Cache-Control"] == "no-store"
    assert "HX-Request" in response.headers["Vary"]


def test_static_files_are_kept_by_their_fingerprint(client: FlaskClient) -> None:
    style = re.search(r'href="(/static/asapp\.css\?v=[0-9a-f]+)"', client.get("/login").text)
    assert style
    assert "immutable" in client.get(style[1]).headers["Cache-Control"]
    assert "immutable" not in client.get("/static/asapp.css").headers["Cache-Control"]
    assert "immutable" not in client.get("/static/nothing.css?v=1").headers["Cache-Control"]
    for wrong in ("WRONG", "absent", style[1].rpartition("=")[2][:-1], "\x00"):  # as during a release
        assert "immutable" not in client.get("/static/asapp.css", query_string={"v": wrong}).headers["Cache-Control"]


def page_of(app: Flask, client: FlaskClient) -> str:
    log_in(client, make_advisor())
    return client.get("/settings").text


def test_pages_name_the_cdn_its_hash_and_our_copy(app: Flask, client: FlaskClient) -> None:
    page = page_of(app, client)
    assert f'data-htmx="{HTMX_CDN_URL}"' in page
    assert f'data-integrity="{HTMX_INTEGRITY}"' in page


def test_htmx_is_set_so_that_the_policy_holds(app: Flask, client: FlaskClient) -> None:
    from html import unescape

    found = re.search(r'<meta name="htmx-config" content="([^"]+)">', page_of(app, client))
    assert found
    settings = json.loads(unescape(found[1]))
    assert settings["includeIndicatorStyles"] is False
    assert settings["allowEval"] is False
    assert settings["historyCacheSize"] == 0


@pytest.mark.parametrize(("is_there", "shown"), [(True, True), (False, False)])
def test_our_copy_is_named_only_where_it_is(is_there: bool, shown: bool, tmp_path: Path) -> None:
    app = other_app()
    app.static_folder = str(tmp_path)
    if is_there:
        (tmp_path / "vendor").mkdir()
        (tmp_path / "vendor/htmx.min.js").write_text("htmx")
    with app.test_request_context():
        assert bool(htmx.source_of(app.extensions["asapp.config"]).fallback_url) is shown


@pytest.mark.parametrize(
    ("url", "source", "integrity"),
    [
        ("https://scripts.firm.example/htmx.js", "https://scripts.firm.example/htmx.js", HTMX_INTEGRITY),
        ("https://scripts.firm.example/htmx.js#sha384-abc", "https://scripts.firm.example/htmx.js", "sha384-abc"),
        ("/static/htmx.js", "/static/htmx.js", None),
    ],
)
def test_a_script_of_another_host_runs_only_with_its_hash(url: str, source: str, integrity: str | None) -> None:
    app = other_app(htmx_url=url)
    with app.test_request_context():
        found = htmx.source_of(app.extensions["asapp.config"])
    assert (found.url, found.integrity) == (source, integrity)


def test_the_process_says_that_it_is_alive(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")
