"""Drives one advisor through the web pages: log in, connect Salesforce, sync, check the contacts, export them.

It uses only what a person sees: labels, buttons, links, and the panel's state as DESIGN.md's contract gives it.
"""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from devtools.visitor import LostError, Page, Visitor

SYNC_TIMEOUT_S = 180.0
POLL_S = 0.3
BY_PROVIDER = "Continue with AdvisorStream"
OVER = ("complete", "held", "failed", "cancelled")


class DriveError(Exception):
    """The drive did not finish; the text says where and why."""


@dataclass(frozen=True)
class Way:
    """The addresses and log-ins that the drive uses."""

    web: str
    org: str
    email: str
    password: str
    org_username: str
    org_password: str

    @property
    def integrations(self) -> str:
        return f"{self.web}/settings/integrations"


def drive(way: Way, say: Callable[[str], None]) -> None:
    """Do every step and say what came back; raise DriveError, LostError or requests' errors."""
    visitor = Visitor()
    log_in(visitor, way, say)
    connect(visitor, way, say)
    sync(visitor, way, say)
    look_at_contacts(visitor, way, say)


def log_in(visitor: Visitor, way: Way, say: Callable[[str], None]) -> None:
    page = visitor.open(f"{way.web}/login")
    say(f"Open {page.url}: {page.heading}")
    if page.has_button(BY_PROVIDER):
        page = visitor.press(page, BY_PROVIDER)
        if address := page.find_link("Go on"):
            page = visitor.open(address)
        say(f"{BY_PROVIDER}: {page.heading}, at the identity provider")
        page = visitor.press(page, way.email)
    else:
        page = visitor.press(page, "Log in", {"Email": way.email, "Password": way.password})
    if page.has_button("Log in") or not page.find_link("Integrations", to=way.web):
        # the navigation may be on the settings page only
        page = visitor.open(f"{way.web}/settings/integrations")
    if page.has_button("Log in"):
        raise page.lost("an advisor logged in")
    say(f"Log in as {way.email}: {page.heading}")


def connect(visitor: Visitor, way: Way, say: Callable[[str], None]) -> None:
    page = open_panel(visitor, way, wanted="Connect Account")
    say(f"Open {page.url}: {page.heading}, with the button Connect Account")
    page = visitor.press(page, "Connect Account")
    if not page.url.startswith(way.org):
        address = page.find_link(to=way.org)
        if address is None:
            raise page.lost("a link to Salesforce")
        say("Connect Account: a page that leads to Salesforce")
        page = visitor.open(address)
    if page.find("//input[@type='password']") is not None:
        page = press_login(visitor, page, way)
        say(f"Log in at {way.org} as {way.org_username}: {page.heading}")
    if page.has_button("Allow"):
        page = visitor.press(page, "Allow")
    if not page.url.startswith(way.web):
        raise page.lost("a way back to the app")
    page = open_panel(visitor, way, wanted="Sync Account")
    say(f"Allow: back at {page.url}, connected")


def press_login(visitor: Visitor, page: Page, way: Way) -> Page:
    for label in ("Username", "User name", "Email"):
        try:
            page.get_field(label)
        except LostError:
            continue
        return visitor.press(page, "Log in", {label: way.org_username, "Password": way.org_password})
    raise page.lost("a field for the user's name")


def open_panel(visitor: Visitor, way: Way, wanted: str = "") -> Page:
    """Open the Salesforce panel, and unfold its tile if it is closed."""
    page = visitor.open(way.integrations)
    if not _shows_panel(page) and (tile := page.find_link("Salesforce", to=way.web)):
        page = visitor.open(tile)
    if wanted and not page.has_button(wanted):
        raise page.lost(f'a button "{wanted}"')
    return page


def sync(visitor: Visitor, way: Way, say: Callable[[str], None]) -> None:
    page = open_panel(visitor, way, wanted="Sync Account")
    started_at = time.monotonic()
    page = visitor.press(page, "Sync Account")
    told = ""
    while True:
        panel = page.find("//*[@data-run and @data-state]")
        state = panel.get("data-state") if panel is not None else "not shown"
        telling = f"run {panel.get('data-run')} {state}{_progress(page)}" if panel is not None else state
        if telling != told:
            say(f"Sync Account: {telling}")
            told = telling
        if state in OVER:
            break
        if time.monotonic() - started_at > SYNC_TIMEOUT_S:
            raise DriveError(f"The sync was not over after {SYNC_TIMEOUT_S:.0f} s; last seen: {telling}")
        time.sleep(POLL_S)
        page = open_panel(visitor, way)
    said = " ".join(" ".join(found.text_content().split()) for found in page.tree.xpath("//*[@role='status']"))
    if state != "complete" or "Sync complete" not in said:
        raise DriveError(f"The sync ended as {state}: {said}")
    say(f"After {time.monotonic() - started_at:.1f} s: {said.strip()}")


def look_at_contacts(visitor: Visitor, way: Way, say: Callable[[str], None]) -> None:
    page = visitor.open(f"{way.web}/contacts")
    say(f"Open {page.url}: {page.heading}")
    answer = visitor.session.get(f"{way.web}/contacts/export.csv", timeout=SYNC_TIMEOUT_S)
    if not answer.ok or "csv" not in answer.headers.get("Content-Type", ""):
        raise DriveError(f"{answer.url} answered {answer.status_code} {answer.headers.get('Content-Type')}")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8"))))
    counts = Counter(f"{row['status']} {row['reason']}".strip() for row in rows)
    said = ", ".join(f"{number:,} {what}" for what, number in counts.most_common())
    say(f"Take along {answer.url}: {len(rows):,} contacts ({said or 'none'})")
    compare(visitor, way, {row["salesforce_id"] for row in rows if row["source"] == "salesforce"}, say)


def compare(visitor: Visitor, way: Way, here: set[str], say: Callable[[str], None]) -> None:
    """Ask the simulated org which contacts asapp should have; the org shows its whole store at this address."""
    users = visitor.get_json(f"{way.org}/practice/api/state")["users"]
    owner = next(user["id"] for user in users if user["username"] == way.org_username)
    theirs = visitor.get_json(f"{way.org}/practice/api/contacts?owner_id={owner}")
    without_email = {row["Id"] for row in theirs if not row["Email"]}
    opted_out = {row["Id"] for row in theirs if row["HasOptedOutOfEmail"]} - without_email
    expected = {row["Id"] for row in theirs} - opted_out - without_email
    say(
        f"The org itself: {len(theirs):,} contacts are this user's, {len(opted_out):,} opted out, "
        f"{len(without_email):,} without email; {len(expected):,} belong here"
    )
    if here != expected:
        raise DriveError(f"Not the same ones: {len(expected - here)} missing, {len(here - expected)} too many")
    if not here:
        raise DriveError("Nobody arrived")
    say(f"Exactly those {len(here):,} are here.")


def _shows_panel(page: Page) -> bool:
    return page.find("//*[@data-state]") is not None or any(
        page.has_button(label) for label in ("Connect Account", "Sync Account", "Disconnect")
    )


def _progress(page: Page) -> str:
    bar = page.find("//*[@role='progressbar']")
    if bar is None:
        return ""
    done = bar.get("value") or bar.get("aria-valuenow")
    total = bar.get("max") or bar.get("aria-valuemax")
    return f", {int(float(done)):,} of {int(float(total)):,}" if done and total else ""
