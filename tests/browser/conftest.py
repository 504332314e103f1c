"""One Chromium for all tests; web and worker processes of its own; a firm with its org for each test.

Every page that a test opens is watched: a violation of the content policy or an error of a script fails it.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from devtools.processes import Worker
from devtools.programs import find_chromium
from devtools.servers import RedisServer
from orgsim import Org, start
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import Htmx, serve_htmx, watch
from tests.conftest import make_config

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",  # Chromium has no sandbox as root
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
OpenPage = Callable[..., Page]
CLIENTS = 40  # of `synced`
_seeds = itertools.count(1)  # of orgs: their ids must differ, because a Salesforce user connects to one account only


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(find_chromium()), args=list(CHROMIUM_ARGUMENTS))
        yield made
        made.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[BrowserHouse]:
    """Web and worker, shared by all tests that don't stop or kill them."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(sqlite_template, folder / "asapp.db")
    with RedisServer() as redis:
        made = BrowserHouse(make_config(f"sqlite:///{folder / 'asapp.db'}", redis.url), folder / "web.log")
        with Worker(made.config, folder / "worker.log"):
            yield made
            made.close()


@pytest.fixture
def firm(house: BrowserHouse) -> Iterator[Firm]:
    with start(Org(name="Northgate Wealth", seed=next(_seeds))) as running:
        yield Firm.found(house, running)


@pytest.fixture
def synced(firm: Firm) -> Firm:
    firm.fill(CLIENTS)
    firm.connect()
    assert firm.sync().is_complete
    return firm


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """open_page(firm) or open_page(house, user_id): a browser of its own, in which that person is logged in."""
    opened: list[tuple[BrowserContext, list[str]]] = []
    with ExitStack() as stack:

        def make(
            place: Firm | BrowserHouse, user_id: int | None = None, htmx: Htmx = Htmx.CDN, is_logged_in: bool = True
        ) -> Page:
            context = browser.new_context(
                viewport={"width": 1280, "height": 900},
                reduced_motion="reduce",  # screenshots show the end of a transition
                java_script_enabled=htmx is not Htmx.NO_SCRIPTS,
            )
            stack.callback(context.close)
            serve_htmx(context, htmx)
            if is_logged_in:
                house, person = (place.house, place.advisor_id) if isinstance(place, Firm) else (place, user_id)
                assert person
                context.add_cookies([house.cookie_of(person)])  # type: ignore[list-item]
            opened.append((context, watch(context)))
            return context.new_page()

        yield make
    assert [said for _, complaints in opened for said in complaints] == []
