"""The demo's house with a browser in it: pages opened as its people, and pictures of them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from playwright.sync_api import Browser, BrowserContext, Error, Locator, Page, Route, sync_playwright

from devtools.demo import ADMIN, ADVISOR, BEGINNER, PASSWORD, Demo, Ports, empty_folder, own_folder, stopping
from devtools.npm_files import AXE, HTMX
from devtools.programs import find_chromium, free_port
from devtools.smtp_sink import MailServer, running_mail_server
from devtools.waiting import wait_for

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS = [(size, scheme) for size in (WIDE, PHONE) for scheme in ("light", "dark")]
TALLEST = 2600  # of a picture
TIMEOUT_S = 60.0
CDN = "https://cdn.jsdelivr.net/**"
AGED = {"sync_runs": ("queued_at", "enqueued_at", "started_at", "finished_at"), "contacts": ("created_at",)}


class Studio:
    """urls: of the pages that were photographed."""

    def __init__(self, demo: Demo, browser: Browser, pictures: Path, mails: MailServer) -> None:
        self.demo = demo
        self.pictures = pictures
        self.problems: list[str] = []
        self.urls: set[str] = set()
        self._mails = mails
        self._last: Page | None = None
        self._browser = browser
        self._contexts: dict[str, BrowserContext] = {}
        pictures.mkdir(parents=True, exist_ok=True)

    @property
    def web(self) -> str:
        return self.demo.ports.web_url

    def org(self, verb: str, **arguments: Any) -> Any:
        """Do something in the simulated org, and return its result."""
        answer = requests.post(f"{self.demo.ports.org_url}/practice/api/{verb}", json=arguments, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()["result"]

    def org_state(self, what: str = "state", **query: str) -> Any:
        answer = requests.get(f"{self.demo.ports.org_url}/practice/api/{what}", params=query, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()

    def open(self, path: str, who: str = "") -> Page:
        """Open a page as a person with this address, who is logged in first; as no one without it."""
        self._last = page = self._context(who).new_page()
        page.goto(urljoin(self.web, path))
        return page

    def _context(self, who: str) -> BrowserContext:
        if who not in self._contexts:
            context = self._browser.new_context(viewport=WIDE, reduced_motion="reduce")  # type: ignore[arg-type]
            context.set_default_timeout(TIMEOUT_S * 1000)
            context.route(CDN, _answer_with_htmx)
            self._contexts[who] = context
            if who:
                log_in(context, self.web, who)
        return self._contexts[who]

    def photograph(self, name: str, page: Page) -> None:
        """Take a picture of the page as it is in each look; note what axe finds and what scrolls sideways."""
        self.urls.add(page.url)
        for size, scheme in LOOKS:
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_load_state()
            look = f"{name}-{size['width']}-{scheme}"
            height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
            clip = {"x": 0, "y": 0, "width": size["width"], "height": max(height, size["height"])}
            page.screenshot(path=self.pictures / f"{look}.png", full_page=True, clip=clip, caret="initial")  # type: ignore[arg-type]
            self._examine(look, page, size["width"])
        page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="light")

    def attempt(self, act: Callable[[Studio], None]) -> None:
        """Let an act be played; one that fails is noted, and the next one begins."""
        try:
            act(self)
        except (Error, TimeoutError) as error:
            self.photograph_failure()
            self.problems.append(f"{act.__name__}: {str(error).splitlines()[0]}")

    def photograph_failure(self) -> None:
        """Take a picture of the page that was opened last."""
        if self._last and not self._last.is_closed():
            self._last.screenshot(path=self.pictures / "failed.png", full_page=True)

    def _examine(self, look: str, page: Page, width: int) -> None:
        if (found := page.evaluate("document.documentElement.scrollWidth")) > width:
            self.problems.append(f"{look}: {found} wide")
        if not page.evaluate("Boolean(window.axe)"):
            page.evaluate(AXE.read())
        results = page.evaluate("axe.run({resultTypes: ['violations']})")
        self.problems += [
            f"{look}: {each['id']} {each['nodes'][0]['html'][:120]}"
            for each in results["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def sync(self, page: Page) -> None:
        """Press Sync Account on the panel, and wait for the end."""
        page.goto(f"{self.web}/settings/integrations?open=salesforce")
        panel = page.locator("[data-run]")
        before = panel.get_attribute("data-run") if panel.count() else None
        page.locator("#sync").click()
        ended = ", ".join(f"[data-state={state}]" for state in ("complete", "held", "failed"))
        page.locator(f"[data-run]:not([data-run='{before}'])").and_(page.locator(ended)).wait_for()

    def link_in_mail(self, address: str) -> str:
        """Wait for a mail to this address; return the link in it."""

        def find() -> str | None:
            for mail in (message_from_string(raw, policy=policy.default) for raw in self._mails.taken):
                body = mail.get_body(("plain",))
                found = re.search(rf"{re.escape(self.web)}\S+", body.get_content() if body else "")
                if mail["To"] == address and found:
                    return found.group()
            return None

        return wait_for(find, f"for a mail to {address}") or ""

    def break_syncs(self) -> None:
        """Leave rows that no page can show."""
        with sqlite3.connect(self.demo.folder / "asapp.sqlite3", timeout=TIMEOUT_S) as database:
            database.execute("UPDATE sync_runs SET queued_at = 'never'")

    def age(self, days: int) -> None:
        """Move what syncs did so far into the past, so that pages have a history to show."""
        with sqlite3.connect(self.demo.folder / "asapp.sqlite3", timeout=TIMEOUT_S) as database:
            for table, columns in AGED.items():
                moved = ", ".join(
                    f"{c} = datetime(substr({c}, 1, 19), '-{days} days') || substr({c}, 20)" for c in columns
                )
                database.execute(f"UPDATE {table} SET {moved}")


def log_in(context: BrowserContext, web: str, email: str) -> None:
    page = context.new_page()
    page.goto(f"{web}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out").wait_for()
    page.close()


def take(part: Page | Locator, path: Path, height: int | None = None) -> None:
    """Take a picture of a page, or of an element; height: of its upper part alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(part, Page):
        part.screenshot(path=path)
        return
    part.page.evaluate("scrollTo(0, 0)")  # a box is measured from the top of the window
    box = part.bounding_box()
    if box is None:
        raise ValueError(f"{path.name}: not to be seen")
    # In whole pixels, so that the picture has the same size each time.
    left, top, width = int(box["x"]), int(box["y"]), round(box["width"])
    clip = {"x": left, "y": top, "width": width, "height": height or round(box["height"])}
    part.page.screenshot(path=path, full_page=True, clip=clip)  # type: ignore[arg-type]


def _answer_with_htmx(route: Route) -> None:
    route.fulfill(body=HTMX.read(), headers={"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"})


@contextmanager
def opened(folder: Path, pictures: Path) -> Iterator[Studio]:
    """Start the demo's house, with one advisor connected and synced and one mailing sent, and a browser."""
    with running_mail_server() as mails:
        demo = Demo(Ports(free_port(), free_port()), folder, mails.url)
        with own_folder(folder), stopping(demo), sync_playwright() as playwright:
            empty_folder(folder)
            demo.start()
            demo.drive()
            demo.send()
            arguments = ["--no-sandbox", "--disable-gpu"]  # Chromium has no sandbox as root
            browser = playwright.chromium.launch(executable_path=str(find_chromium()), args=arguments)
            studio = Studio(demo, browser, pictures, mails)
            try:
                yield studio
            except Exception:
                studio.photograph_failure()
                raise
            finally:
                browser.close()


AMARA, JONAS, ADA = ADVISOR[0], BEGINNER[0], ADMIN[0]
