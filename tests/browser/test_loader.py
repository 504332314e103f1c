"""htmx comes from a CDN that may be slow, blocked or wrong; pages work with it, with our own copy, and without."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from flask import Flask, render_template_string, request
from playwright.sync_api import Browser, BrowserContext, Page, Route
from werkzeug.serving import make_server

from asapp import create_app
from config import HTMX_CDN_URL, HTMX_INTEGRITY
from devtools.npm_files import HTMX
from tests.browser.looking import wait_until
from tests.conftest import NOWHERE_REDIS_URL, make_config

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CDN = "https://cdn.jsdelivr.net/**"
OUR_COPY = "**/static/vendor/**"
RELOAD_EVERY_S = 2

PAGE = """
{% extends "base_document.html" %}
{% from "_macros.html" import csrf, field, copyable, reload_every %}
{% block title %}Trial{% endblock %}
{% block scripts %}{% include "_scripts.html" %}{% endblock %}
{% block reload %}{% if is_running %}{{ reload_every(2, "/login") }}{% endif %}{% endblock %}
{% block body %}<main id="main"><h1>Trial</h1><div id="trouble" role="alert"></div>
<template id="unreachable"><p>Unreachable</p></template>
<p id="opened">{{ opened }}</p>
<form method="post" action="/login" hx-post="/login" hx-target="this" hx-swap="outerHTML">{{ csrf() }}{{ field("name", "Name") }}
<button>Send</button></form>
<button id="part" hx-get="/login/part" hx-target="#here" hx-swap="innerHTML">Part</button><p id="here"></p>
<button id="broken" hx-get="/login/broken" hx-target="#here" hx-swap="innerHTML">Broken</button>
{{ copyable("url", "https://callback.example/", "callback URL") }}
</main>{% endblock %}
"""


@dataclass
class Trial:
    """A server with one page on it, under the real headers and with the real loader."""

    url: str
    is_running: bool = False
    opened: int = 0
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    app = create_app(make_config("sqlite://", NOWHERE_REDIS_URL))
    made = Trial("")
    add_pages(app, made)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def add_pages(app: Flask, trial: Trial) -> None:
    """Add pages in place of the log-in page, which needs no session."""

    def show() -> str:
        trial.opened += 1
        return render_template_string(PAGE, is_running=trial.is_running, opened=trial.opened)

    def refuse() -> tuple[str, int]:
        form = """{% from "_macros.html" import csrf, field %}<form method="post" action="/login">{{ csrf() }}
        {{ field("name", "Name", "x", {"name": "Too short."}) }}</form>"""
        return render_template_string(form), 422

    def part() -> str:
        trial.asked.append(request.headers.get("HX-Request", ""))
        return "the part"

    app.view_functions["auth.login"] = show
    app.view_functions["auth.try_login"] = refuse
    app.add_url_rule("/login/part", "auth.login_part", part)
    app.add_url_rule("/login/broken", "auth.login_broken", lambda: ({}["missing"], 200))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.before_request_funcs[None] = [f for f in app.before_request_funcs[None] if f.__name__ != "demand_login"]


@pytest.fixture
def context(browser: Browser, trial: Trial) -> Iterator[BrowserContext]:
    trial.is_running, trial.opened = False, 0
    trial.asked.clear()
    made = browser.new_context()
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def answer(route: Route, body: str | None = None) -> None:
    route.fulfill(
        body=HTMX.read() if body is None else body,
        headers={"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"},
    )


def block(page: Page, place: str) -> None:
    page.route(place, lambda route: route.abort())


def open_with_complaints(page: Page, trial: Trial) -> list[str]:
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{trial.url}/login")
    return complaints


def wait_for_htmx(page: Page, timeout_ms: float = 5000) -> None:
    wait_until(page, "window.htmx && document.body", timeout_ms)


def press_part(page: Page) -> None:
    page.click("#part")
    wait_until(page, "document.getElementById('here').textContent === 'the part'", 3000)


def test_from_the_cdn_with_its_hash_and_no_complaint_of_the_policy(page: Page, trial: Trial) -> None:
    seen: list[str] = []
    page.route(CDN, lambda route: (seen.append(route.request.url), answer(route))[1])
    complaints = open_with_complaints(page, trial)
    wait_for_htmx(page)
    press_part(page)
    assert seen == [HTMX_CDN_URL]
    assert page.evaluate("document.querySelector('script[integrity]').integrity") == HTMX_INTEGRITY
    assert trial.asked == ["true"]
    assert complaints == []


@pytest.mark.parametrize("trouble", ["blocked", "altered"])
def test_our_own_copy_at_once_where_the_cdn_is(trouble: str, page: Page, trial: Trial) -> None:
    if trouble == "blocked":
        block(page, CDN)
    else:
        page.route(CDN, lambda route: answer(route, "window.stolen = 1"))
    started = time.monotonic()
    page.goto(f"{trial.url}/login")
    wait_for_htmx(page)
    assert time.monotonic() - started < 2
    assert page.evaluate("window.stolen") is None
    press_part(page)


def test_a_cdn_that_hangs_costs_less_than_two_seconds_and_comes_too_late(page: Page, trial: Trial) -> None:
    held: list[Route] = []
    page.route(CDN, lambda route: held.append(route))
    started = time.monotonic()
    page.goto(f"{trial.url}/login")
    assert time.monotonic() - started < 1
    wait_for_htmx(page)
    assert time.monotonic() - started < 2.5
    page.evaluate("window.htmx.isOurCopy = true")
    answer(held[0])
    page.wait_for_timeout(300)
    assert page.evaluate("window.htmx.isOurCopy") is True
    press_part(page)
    assert trial.asked == ["true"]


def test_without_htmx_a_running_page_loads_itself_again(page: Page, trial: Trial) -> None:
    block(page, CDN)
    block(page, OUR_COPY)
    trial.is_running = True
    page.goto(f"{trial.url}/login")
    page.locator("#opened", has_text="3").wait_for(timeout=RELOAD_EVERY_S * 2000 + 2000)
    trial.is_running = False
    page.locator("#opened", has_text="4").wait_for(timeout=RELOAD_EVERY_S * 1000 + 2000)
    page.wait_for_timeout(RELOAD_EVERY_S * 1000 + 500)
    assert trial.opened == 4


def test_without_htmx_the_page_does_not_reload_while_a_person_types(page: Page, trial: Trial) -> None:
    block(page, CDN)
    block(page, OUR_COPY)
    trial.is_running = True
    page.goto(f"{trial.url}/login")
    page.fill("#name", "Zoë")
    page.wait_for_timeout(RELOAD_EVERY_S * 1000 + 700)
    assert trial.opened == 1
    page.evaluate("document.activeElement.blur()")
    page.locator("#opened", has_text="2").wait_for(timeout=10_000)


def test_without_scripts_a_running_page_loads_itself_again(browser: Browser, trial: Trial) -> None:
    trial.is_running, trial.opened = True, 0
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{trial.url}/login")
    page.locator("#opened", has_text="3").wait_for(timeout=RELOAD_EVERY_S * 2000 + 2000)
    context.close()


def test_with_htmx_a_running_page_stays(page: Page, trial: Trial) -> None:
    page.route(CDN, lambda route: answer(route))
    trial.is_running = True
    page.goto(f"{trial.url}/login")
    wait_for_htmx(page)
    page.wait_for_timeout(RELOAD_EVERY_S * 1000 + 700)
    assert trial.opened == 1


def test_a_refused_form_is_swapped_and_its_first_error_has_the_focus(page: Page, trial: Trial) -> None:
    page.route(CDN, lambda route: answer(route))
    page.goto(f"{trial.url}/login")
    wait_for_htmx(page)
    page.click("text=Send")
    page.locator("#name-error").wait_for()
    wait_until(page, "document.activeElement.id === 'name'", 1000)


def test_a_broken_part_shows_a_message_at_the_top_until_requests_work_again(page: Page, trial: Trial) -> None:
    page.route(CDN, lambda route: answer(route))
    page.goto(f"{trial.url}/login")
    wait_for_htmx(page)
    press_part(page)
    page.click("#broken")
    page.locator("#trouble", has_text="Something broke on our side").wait_for()
    assert page.inner_text("#here") == "the part"
    page.click("#part")
    wait_until(page, "!document.getElementById('trouble').firstElementChild", 2000)
    page.route("**/login/part", lambda route: route.abort())
    page.click("#part")
    page.locator("#trouble", has_text="Unreachable").wait_for()


def test_copying(page: Page, context: BrowserContext, trial: Trial) -> None:
    block(page, CDN)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{trial.url}/login")
    page.click("[data-copy]")
    page.locator("text=Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "https://callback.example/"
