"""Checks of a page in the browser: where htmx comes from, violations of the policy, screenshots, axe, sideways scrolling."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Route

from devtools.guard import ROOT
from devtools.npm_files import AXE, HTMX

CDN = "https://cdn.jsdelivr.net/**"
OUR_COPY = "**/static/vendor/**"
CUT_OFF = """() => [...document.querySelectorAll(".table-wrap")]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel || e.textContent.trim().slice(0, 40))"""
PICTURES = ROOT / ".cache" / "screens"  # git-ignored; for people to look at
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
TALLEST = 2200  # of a screenshot; the rest of a long table looks the same


class Htmx(Enum):
    """Where the browser gets htmx from, if at all."""

    CDN = "from the CDN"
    HANGS = "a CDN that hangs, and our own copy"
    OUT_OF_REACH = "a CDN that is blocked, and no copy"
    NO_SCRIPTS = "scripts switched off"

    @property
    def loads(self) -> bool:
        return self in (Htmx.CDN, Htmx.HANGS)


def serve_htmx(context: BrowserContext, htmx: Htmx) -> None:
    def answer(route: Route) -> None:
        route.fulfill(body=HTMX.read(), headers={"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"})

    if htmx is Htmx.CDN:
        context.route(CDN, answer)
    elif htmx is Htmx.HANGS:
        context.route(CDN, lambda route: None)
    else:
        context.route(CDN, lambda route: route.abort())
        context.route(OUR_COPY, lambda route: route.fulfill(status=404))


def watch(context: BrowserContext) -> list[str]:
    """Return a list that collects violations of the content policy and errors of scripts."""
    complaints: list[str] = []

    def collect(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            complaints.append(message.text)

    context.on("console", collect)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    return complaints


def follow(page: Page, locator: Locator) -> None:
    """Click a link or button that leads to another page, and wait for it."""
    with page.expect_navigation():
        locator.click()


def inspect(page: Page, name: str) -> None:
    """Take screenshots, wide and light, narrow and dark; fail if axe finds a serious problem or the page scrolls sideways."""
    for size, scheme, rules in ((PHONE, "dark", ["color-contrast"]), (WIDE, "light", None)):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        take_picture(page, f"{name}-{size['width']}-{scheme}")
        assert not (found := violations(page, rules)), f"{name}, {scheme}: {found}"
        if size is PHONE:
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], f"{name} is {width} wide on a phone: {widest(page)}"
        else:
            cut_off = page.evaluate(CUT_OFF)
            assert not cut_off, f"{name}: columns of {cut_off} are cut off at {WIDE['width']}"


def take_picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state()  # after a click the new words are there before the stylesheet is
    # Through a locator: a page that reloads itself may be between two documents, and has no root element then.
    width, height = page.locator("html").evaluate("root => [innerWidth, root.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST)}
    # Hiding the caret would leave style="" behind, which htmx carries over and the policy then stops.
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=clip, caret="initial")  # type: ignore[arg-type]


def violations(page: Page, rules: list[str] | None = None) -> list[tuple[str, str]]:
    """Return what axe finds serious or critical, by these rules or all: (rule, first element)."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read())
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found: dict[str, Any] = page.evaluate("options => axe.run(options)", options)
    return [
        (each["id"], each["nodes"][0]["html"])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def widest(page: Page) -> str:
    """Return the elements that are wider than the page, for the message."""
    found: str = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join(" ")"""
    )
    return found


def wait_until(page: Page, condition: str, timeout_ms: float = 5000) -> None:
    """Playwright's wait_for_function evaluates text inside the page, which our policy forbids."""
    give_up_at = time.monotonic() + timeout_ms / 1000
    while not page.evaluate(f"() => Boolean({condition})"):
        assert time.monotonic() < give_up_at, f"never: {condition}"
        page.wait_for_timeout(30)
