"""The panel in a real browser: connect through the org's own pages, watch a sync end by itself; with and without scripts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import select, update
from werkzeug.serving import make_server

from asapp import create_app
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, SyncRun, User
from devtools.npm_files import HTMX
from orgsim.org import Org
from orgsim.server import Running
from orgsim.server import start as start_org
from tests.browser.test_loader import wait_for_htmx
from tests.conftest import NOWHERE_REDIS_URL, make_config
from tests.factories import make_advisor, make_connection, make_partner, make_run, session_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

KEY, SECRET = "panel-key", "panel-secret"
PANEL = "/settings/integrations?open=salesforce"
CALLBACK = "/salesforce/salesforce_as/login/callback/"


@dataclass
class PanelSite:
    app: Flask
    url: str
    org: Running
    amara: str
    jonas: str
    cookie: str
    advisor_id: int

    def change_run(self, **values: object) -> None:
        with self.app.app_context():
            db.session.execute(update(SyncRun).values(**values))
            db.session.commit()

    def start_run(self, **columns: object) -> None:
        with self.app.app_context():
            connection = db.session.scalars(select(Connection)).one()
            make_run(connection, **{"status": "running", "phase": "contacts", "total": 2500, "read": 1000, **columns})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PanelSite]:
    """The application and an org on ports of their own. An advisor is logged in; nothing is connected."""
    made = Org(name="Northgate Wealth", seed=1)
    config = make_config(f"sqlite:///{tmp_path / 'asapp.db'}", NOWHERE_REDIS_URL, htmx_url="/htmx.js")
    with start_org(made) as running:
        server = make_server("127.0.0.1", 0, lambda environ, answer: app.wsgi_app(environ, answer), threaded=True)
        config = replace(config, public_url=f"http://127.0.0.1:{server.server_port}")
        app = create_app(config)
        app.add_url_rule("/htmx.js", "static_htmx", lambda: (HTMX.read(), 200, {"Content-Type": "text/javascript"}))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        made.register_app(KEY, SECRET, [config.callback_url])
        amara = made.add_user(name="Amara Okafor", username="amara@northgate.example")
        jonas = made.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")
        with app.app_context():
            upgrade()
            advisor = make_advisor(make_partner(url=running.url, key=KEY, secret=SECRET), name="Amara Okafor")
            cookie = app.session_interface.get_signing_serializer(app).dumps(session_of(advisor))  # type: ignore[attr-defined]
            advisor_id = advisor.id
            db.session.remove()
        yield PanelSite(app, config.public_url, running, amara, jonas, cookie, advisor_id)
        server.shutdown()
        thread.join()
        server.server_close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(params=["htmx", "without scripts", "htmx out of reach"])
def page(request: pytest.FixtureRequest, browser: Browser, site: PanelSite) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=request.param != "without scripts")
    made = open_page(context, site)
    if request.param == "htmx out of reach":
        made.route("**/htmx.js", lambda route: route.abort())
    yield made
    context.close()


@pytest.fixture
def htmx_page(browser: Browser, site: PanelSite) -> Iterator[Page]:
    context = browser.new_context()
    yield open_page(context, site)
    context.close()


def open_page(context: BrowserContext, site: PanelSite) -> Page:
    context.add_cookies([{"name": "session", "value": site.cookie, "url": site.url}])
    return context.new_page()


def connect_as(page: Page, name: str) -> None:
    """Log in and allow on the org's pages."""
    page.get_by_role("button", name=f"Log in as {name}").click()
    page.get_by_role("button", name="Allow").click()


def test_connect_switch_and_disconnect(page: Page, site: PanelSite) -> None:
    violations: list[str] = []
    page.on("console", lambda said: violations.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(f"{site.url}/settings/integrations")
    page.locator("#salesforce-toggle").click()
    page.get_by_role("button", name="Connect Account").click()
    connect_as(page, "Amara Okafor")
    expect(page.get_by_role("status")).to_contain_text("Connected")
    expect(page.get_by_role("main")).to_contain_text("amara@northgate.example")
    page.locator("summary", has_text="Connect another Salesforce user").click()
    page.get_by_role("button", name="Log in as another user").click()
    connect_as(page, "Jonas Lindqvist")
    page.get_by_role("button", name="Switch to jonas@northgate.example").click()
    expect(page.get_by_role("status")).to_contain_text("Connected")
    expect(page.get_by_role("main")).to_contain_text("jonas@northgate.example")
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_have_text("Disconnect from Salesforce?")
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_contain_text("Disconnected")
    assert violations == []


def test_denying_shows_a_text_on_return(page: Page, site: PanelSite) -> None:
    page.goto(site.url + PANEL)
    page.get_by_role("button", name="Connect Account").click()
    page.get_by_role("button", name="Log in as Amara Okafor").click()
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("status")).to_contain_text("You did not allow AdvisorStream")


def test_asking_ends_with_the_run_and_the_focus_stays(htmx_page: Page, site: PanelSite) -> None:
    connected(site)
    site.start_run()
    asked: list[str] = []
    htmx_page.on("request", lambda request: asked.append(request.url) if "/salesforce?seen=" in request.url else None)
    htmx_page.goto(site.url + PANEL)
    htmx_page.get_by_role("button", name="Sync Account").focus()
    site.change_run(read=2000)
    expect(htmx_page.get_by_role("progressbar")).to_have_attribute("value", "2000", timeout=10_000)
    expect(htmx_page.get_by_role("button", name="Sync Account")).to_be_focused()
    site.change_run(status="failed", error_code="no_answer", finished_at=utcnow())
    expect(htmx_page.get_by_role("status")).to_contain_text("Sync failed", timeout=10_000)
    number = len(asked)
    htmx_page.wait_for_timeout(4500)
    assert len(asked) == number


def test_the_disconnect_question_has_the_focus_and_enter_does_not_answer_it(htmx_page: Page, site: PanelSite) -> None:
    connected(site)
    htmx_page.goto(site.url + PANEL)
    wait_for_htmx(htmx_page)
    htmx_page.get_by_role("button", name="Disconnect").focus()
    htmx_page.keyboard.press("Enter")
    expect(htmx_page.get_by_role("group", name="What should happen to")).to_be_focused()
    # htmx puts the focus there as well, a moment later
    expect(htmx_page.locator(".htmx-added, .htmx-settling")).to_have_count(0)
    sent: list[str] = []
    htmx_page.on("request", lambda request: sent.append(request.method))
    htmx_page.keyboard.press("Enter")  # pressed once more by mistake
    htmx_page.keyboard.press("Tab")
    expect(htmx_page.get_by_label("Keep them, inactive")).to_be_focused()
    htmx_page.wait_for_timeout(500)
    assert "POST" not in sent
    with site.app.app_context():
        assert db.session.scalars(select(Connection)).one().is_connected


def test_the_live_region_is_never_replaced(htmx_page: Page, site: PanelSite) -> None:
    connected(site)
    site.start_run()
    htmx_page.goto(site.url + PANEL)
    region = htmx_page.locator("#salesforce-said").element_handle()
    site.change_run(status="complete", finished_at=utcnow())
    expect(htmx_page.get_by_role("status")).to_contain_text("Sync complete", timeout=10_000)
    assert region.evaluate("node => node.isConnected")


def test_unfolding_keeps_the_focus_and_the_address(htmx_page: Page, site: PanelSite) -> None:
    htmx_page.goto(f"{site.url}/settings/integrations")
    htmx_page.wait_for_timeout(500)
    htmx_page.locator("#salesforce-toggle").click()
    expect(htmx_page.get_by_role("button", name="Connect Account")).to_be_visible()
    expect(htmx_page.locator("#salesforce-toggle")).to_have_attribute("aria-expanded", "true")
    expect(htmx_page.locator("#salesforce-toggle")).to_be_focused()
    assert htmx_page.url.endswith("open=salesforce")
    htmx_page.locator("#salesforce-toggle").click()
    expect(htmx_page.get_by_role("button", name="Connect Account")).to_have_count(0)
    htmx_page.go_back()
    expect(htmx_page.get_by_role("button", name="Connect Account")).to_be_visible()


def connected(site: PanelSite) -> None:
    with site.app.app_context():
        tokens = site.org.org.issue_tokens(site.amara, KEY)
        make_connection(
            db.session.get_one(User, site.advisor_id),
            org_id=site.org.org.id,
            salesforce_user_id=site.amara,
            username="amara@northgate.example",
            instance_url=site.org.url,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
        )
