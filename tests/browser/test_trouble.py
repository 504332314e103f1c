"""What an advisor sees when something fails: refused, hidden, held, disconnected, cancelled, and services that stop."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Route, expect
from sqlalchemy import update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import RunStatus, SyncRun
from asapp.sync.dispatch import dispatch
from devtools.processes import Worker
from devtools.servers import RedisServer
from orgsim import Org, start
from tests.browser.conftest import CLIENTS, OpenPage
from tests.browser.house import KEY, BrowserHouse, Firm
from tests.browser.looking import Htmx, follow, inspect
from tests.conftest import make_config

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ASKING = re.compile(r"/salesforce\?seen=")  # what the panel asks for while a run is active
LEAVING = 15


def press(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).click()


def expect_said(page: Page, words: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(words, timeout=15_000)


# ---- At Salesforce


def test_denied_at_salesforce(firm: Firm, open_page: OpenPage) -> None:
    page = open_page(firm)
    page.goto(firm.url())
    press(page, "Connect Account")
    press(page, "Log in as Amara Okafor")
    press(page, "Deny")
    expect_said(page, "You did not allow AdvisorStream")
    expect(page.get_by_role("button", name="Connect Account")).to_be_visible()
    inspect(page, "panel-denied")


def test_an_app_that_the_firm_has_blocked(firm: Firm, open_page: OpenPage) -> None:
    firm.org.change_app(KEY, blocked=True)
    page = open_page(firm)
    page.goto(firm.url())
    press(page, "Connect Account")
    press(page, "Log in as Amara Okafor")
    expect_said(page, "your admin has blocked this app")
    assert "Unblock" in page.get_by_label("Text for your Salesforce admin").first.input_value()
    inspect(page, "panel-blocked")


def test_a_permission_that_was_withdrawn(synced: Firm, open_page: OpenPage) -> None:
    synced.org.expire_sessions()
    synced.org.revoke_approvals()
    page = open_page(synced)
    page.goto(synced.url())
    press(page, "Sync Account")
    expect_said(page, "Needs reconnecting")
    inspect(page, "panel-needs-reconnect")
    page.goto(synced.url("/contacts"))
    expect(page.get_by_role("region", name="Salesforce needs you")).to_be_visible()
    inspect(page, "banner-reconnect")
    press(page, "Connect Account")
    press(page, "Log in as Amara Okafor")
    press(page, "Allow")
    expect(page.get_by_role("button", name="Sync Account")).to_be_visible()
    expect(page.get_by_role("region", name="Salesforce needs you")).to_have_count(0)


# ---- In a sync


def test_a_hidden_opt_out_field_ends_with_words_for_the_admin(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(CLIENTS)
    firm.connect()
    firm.org.hide_field("Contact", "HasOptedOutOfEmail")
    page = open_page(firm)
    page.goto(firm.url())
    press(page, "Sync Account")
    expect_said(page, "Sync failed Your Salesforce user can't see who has opted out of email.")
    expect(page.locator("#salesforce")).to_have_attribute("data-state", "failed")
    assert "HasOptedOutOfEmail" in page.get_by_label("Text for your Salesforce admin").input_value()
    inspect(page, "panel-waiting-for-admin")
    firm.org.show_field("Contact", "HasOptedOutOfEmail")
    press(page, "Sync Account")
    expect_said(page, f"Sync complete {CLIENTS} added")


@pytest.mark.parametrize(("button", "active"), [("Approve", CLIENTS - LEAVING), ("Discard", CLIENTS)])
def test_many_departures_are_held_until_the_advisor_decides(
    synced: Firm, open_page: OpenPage, button: str, active: int
) -> None:
    for contact_id in synced.ids[:LEAVING]:
        synced.org.give(contact_id, synced.jonas)
    page = open_page(synced)
    page.goto(synced.url())
    press(page, "Sync Account")
    expect_said(page, f"Sync held It would make {LEAVING} of your {CLIENTS} contacts inactive")
    if button == "Approve":
        inspect(page, "panel-held")
        expect(page.locator(".groups summary")).to_contain_text("Jonas Lindqvist owns them now")
        follow(page, page.get_by_role("link", name=f"See all {LEAVING}"))
        expect(page.locator(".groups tbody tr")).to_have_count(LEAVING)
    press(page, button)
    expect_said(page, "Sync complete" if button == "Approve" else f"You kept {LEAVING} contacts")
    expect(page.get_by_role("button", name=button)).to_have_count(0)
    inspect(page, "panel-approved" if button == "Approve" else "panel-discarded")
    page.goto(synced.url("/contacts?state=active"))
    expect(page.get_by_role("main")).to_contain_text(f"of {active}")


def test_a_second_click_joins_and_cancel_stops(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(450)
    firm.connect()
    with firm.held_pages() as release:
        page = open_page(firm)
        page.goto(firm.url())
        press(page, "Sync Account")
        expect(page.locator("#salesforce")).to_have_attribute("data-state", "running", timeout=15_000)
        run = page.locator("#salesforce").get_attribute("data-run")
        other = open_page(firm, htmx=Htmx.NO_SCRIPTS)
        other.goto(firm.url())
        press(other, "Sync Account")
        expect(other.locator("#salesforce")).to_have_attribute("data-run", run or "")
        press(page, "Cancel sync")
        expect_said(page, "Stopping")
        release.set()
        expect_said(page, "Sync cancelled")
    assert [run.status for run in firm.runs()] == [RunStatus.CANCELLED]
    inspect(page, "panel-cancelled")
    press(page, "Sync Account")
    expect_said(page, "Sync complete")


def test_a_button_pressed_while_the_page_asks_wins(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(450)
    firm.connect()
    on_their_way: list[Route] = []
    with firm.held_pages() as release:
        page = open_page(firm)
        page.goto(firm.url())
        press(page, "Sync Account")
        expect(page.locator("#salesforce")).to_have_attribute("data-state", "running", timeout=15_000)
        page.route(ASKING, lambda route: on_their_way.append(route))
        with page.expect_request(ASKING):
            pass
        press(page, "Cancel sync")
        expect_said(page, "Stopping")
        release.set()
        page.unroute(ASKING)
        for route in on_their_way:
            with suppress(Error):  # the browser has dropped the request
                route.continue_()
        expect_said(page, "Sync cancelled")


# ---- By keyboard


def test_the_panel_by_keyboard(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(450)
    firm.connect()
    page = open_page(firm)
    page.goto(firm.url())
    expect(page.locator("#preview")).to_contain_text("ready to be emailed")  # htmx is there
    button = page.get_by_role("button", name="Sync Account")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            break
    expect(button).to_be_focused()
    with firm.held_pages() as release:
        page.keyboard.press("Enter")
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "200", timeout=15_000)
        expect(button).to_be_focused()  # the part has been swapped at least twice
        release.set()
        expect_said(page, "Sync complete")
    expect(button).to_be_focused()


# ---- Disconnect


@pytest.mark.parametrize("choice", ["keep", "remove"])
def test_disconnect(synced: Firm, open_page: OpenPage, choice: str) -> None:
    page = open_page(synced)
    page.goto(synced.url())
    press(page, "Disconnect")
    expect_said(page, "Disconnect from Salesforce?")
    if choice == "keep":
        inspect(page, "panel-disconnect")
    page.locator(f"#{choice}").check()
    press(page, "Disconnect")
    expect_said(page, "Disconnected")
    inspect(page, f"panel-disconnected-{choice}")
    assert not synced.org.grants.approvals
    page.goto(synced.url("/contacts"))
    words = f"{CLIENTS} people. You can email 0 of them" if choice == "keep" else "No contacts yet"
    expect(page.get_by_role("main")).to_contain_text(words)
    inspect(page, f"contacts-disconnected-{choice}")


# ---- Services that stop


@pytest.fixture
def frail(tmp_path: Path, sqlite_template: Path) -> Iterator[tuple[BrowserHouse, RedisServer]]:
    """Processes for this test alone, without a worker, that it may stop."""
    shutil.copy(sqlite_template, tmp_path / "asapp.db")
    with RedisServer() as redis:
        made = BrowserHouse(make_config(f"sqlite:///{tmp_path / 'asapp.db'}", redis.url), tmp_path / "web.log")
        yield made, redis
        made.close()


def tick(house: BrowserHouse) -> None:
    queues = house.app.extensions["asapp.queues"]
    with house.rows():
        dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds)


def test_redis_stopped_and_a_worker_killed_in_mid_run(
    frail: tuple[BrowserHouse, RedisServer], open_page: OpenPage, tmp_path: Path
) -> None:
    house, redis = frail
    with start(Org(name="Northgate Wealth", seed=99)) as running:
        firm = Firm.found(house, running)
        firm.fill(450)
        running.org.clock.advance(60)  # changes just before a run are read twice when it is resumed
        firm.connect()
        page = open_page(firm)
        page.goto(firm.url())
        expect(page.locator("#preview")).to_contain_text("ready to be emailed")
        redis.stop()
        with page.expect_response("**/salesforce/sync") as answered:
            press(page, "Sync Account")
        assert answered.value.request.timing["responseEnd"] < 1000
        expect_said(page, "Waiting to start Your sync is saved and starts by itself")
        inspect(page, "panel-waiting-to-start")
        redis.start()
        tick(house)
        with firm.held_pages():
            with Worker(house.config, tmp_path / "first.log") as worker:
                expect(page.get_by_role("progressbar")).to_have_attribute("value", "200", timeout=15_000)
                worker.kill_with_children()
            expect_said(page, "Syncing")  # the page can't know yet
        with house.rows():
            db.session.execute(update(SyncRun).values(lease_until=utcnow()))  # two minutes later
            db.session.commit()
        with Worker(house.config, tmp_path / "second.log"):
            tick(house)
            expect_said(page, "Sync complete 450 added")
        (run,) = firm.runs()
        assert (run.created, run.read, run.tries) == (450, 452, 1)
