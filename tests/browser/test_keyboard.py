"""Every flow without a mouse: Tab, Space and Enter reach everything, the focus is always to be seen and is never lost."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from asapp.core.extensions import db
from asapp.models import User
from tests.browser.conftest import OpenPage
from tests.browser.house import KEY, SECRET, BrowserHouse, Firm
from tests.browser.test_leads import BLINK_MS, address_of
from tests.factories import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]

VIEW = "Partners of the firm"
MOST = 90  # stops from the top of a page to anything on it
PATIENCE_MS = 30_000
# An outline or a shadow around the focused element, or around the one that stands for a hidden box or button.
SHOWS_FOCUS = """() => {
    const at = document.activeElement;
    if (!at || at === document.body) return "the end";  // of the page: the next stop is at its top
    const style = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    if (style.outlineStyle === "none" && style.boxShadow === "none") return "not to be seen on " + at.outerHTML.slice(0, 120);
    if (box.bottom < 0 || box.top > innerHeight) return "outside the window on " + at.outerHTML.slice(0, 120);
    return "";
}"""

# Where the focused element of the page's main part is on the page; null outside that part.
PLACE = """() => {
    const at = document.activeElement.closest("main :is(a, button, input, select, textarea, summary, [tabindex])");
    if (!at) return null;
    const box = (at.closest("label, .choice") ?? at).getBoundingClientRect();
    const name = (at.innerText || at.id || at.name || "").slice(0, 40);
    return {name, top: box.top + scrollY, bottom: box.bottom + scrollY, left: box.left, right: box.right};
}"""

# htmx focuses when a swap has settled, and a browser what has come with "autofocus" in its next frame.
BEGIN = """async () => {
    const isBusy = () => document.querySelector(".htmx-request, .htmx-swapping, .htmx-settling, .htmx-added");
    for (let still = 0; still < 2; still = isBusy() ? 0 : still + 1) await new Promise(requestAnimationFrame);
    document.querySelector("a.skip").focus();  // the first of a page; where it was blurred, Tab would go on from the middle
    scrollTo(0, 0);
    window.firstStop = document.activeElement;
}"""
# After the last stop the browser may go on to the first at once.
IS_FIRST_AGAIN = """() => window.firstStop === document.activeElement"""


class Keyboard:
    """A person who only has a keyboard."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def go_to(self, target: Locator) -> None:
        """Press Tab until the target has the focus."""
        self._wait_for_htmx()
        ends = 0
        for _ in range(MOST):
            self.page.keyboard.press("Tab")
            trouble = self._trouble()
            ends += trouble == "the end"
            assert trouble == "" or (trouble == "the end" and ends == 1), trouble
            if trouble == "" and target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"{MOST} stops, and never at {target}")

    def _wait_for_htmx(self) -> None:
        """Wait until a part that was swapped is in place: htmx puts the focus in it once more then."""
        expect(self.page.locator(".htmx-added, .htmx-settling")).to_have_count(0)

    def _trouble(self) -> str:
        """Return what is wrong with the focus; the window may still be scrolling to it."""
        trouble = ""
        for _ in range(40):
            trouble = str(self.page.evaluate(SHOWS_FOCUS))
            if not trouble.startswith("outside"):
                break
            self.page.wait_for_timeout(50)
        return trouble

    def fill(self, label: str, text: str) -> None:
        self.go_to(self.page.get_by_label(label, exact=True))
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def press(self, role: str, name: str) -> None:
        """Go to a button or link, and press Enter; the page stays, or a part of it is swapped."""
        self.go_to(self.page.get_by_role(role, name=name).first)  # type: ignore[arg-type]
        self.page.keyboard.press("Enter")

    def follow(self, role: str, name: str) -> None:
        """As press, where another page comes."""
        self.go_to(self.page.get_by_role(role, name=name).first)  # type: ignore[arg-type]
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def unfold(self, words: str) -> None:
        self.go_to(self.page.locator("summary", has_text=words))
        self.page.keyboard.press("Enter")

    def is_safe(self) -> bool:
        """Answer whether Enter would take nothing away now."""
        return not self.page.evaluate("document.activeElement.matches('.danger')")

    def walk(self) -> None:
        """Go through the whole page once: every stop can be seen, and they come as one reads, column by column."""
        self._wait_for_htmx()
        self.page.evaluate(BEGIN)
        assert self._trouble() == ""
        before = None
        for _ in range(MOST):
            self.page.keyboard.press("Tab")
            trouble = self._trouble()
            if trouble == "the end" or self.page.evaluate(IS_FIRST_AGAIN):
                assert before, "the page has no stops"
                return
            assert trouble == "", trouble
            at = self.page.evaluate(PLACE)
            is_back = before and at and at["bottom"] <= before["top"] and at["left"] < before["right"]
            assert not is_back, f"from {before} back to {at}"
            before = at or before
        raise AssertionError(f"more than {MOST} stops")

    def tick(self, target: Locator) -> None:
        self.go_to(target)
        self.page.keyboard.press("Space")
        expect(target).to_be_checked()


def test_an_advisor_needs_no_mouse(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(40)
    page = open_page(firm, is_logged_in=False)
    keys = Keyboard(page)
    page.goto(firm.url("/login"))
    keys.fill("Email", firm.email)
    keys.fill("Password", PASSWORD)
    keys.follow("button", "Log in")
    keys.follow("link", "Account Settings")
    keys.follow("link", "Integrations")
    keys.press("link", "Salesforce")
    expect(page.get_by_role("button", name="Connect Account")).to_be_visible()
    keys.press("button", "Connect Account")
    page.get_by_role("button", name="Log in as Amara Okafor").press("Enter", timeout=PATIENCE_MS)  # at Salesforce
    page.get_by_role("button", name="Allow").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Connected", timeout=PATIENCE_MS)
    keys.press("button", "Sync Account")
    expect(page.get_by_role("status")).to_contain_text("Sync complete", timeout=PATIENCE_MS)
    assert page.evaluate("document.activeElement.id") == "sync", "the focus was lost when the sync ended"

    for contact_id in firm.ids[:15]:
        firm.org.give(contact_id, firm.jonas)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Sync held", timeout=PATIENCE_MS)
    keys.press("button", "Discard: keep 15")
    expect(page.get_by_role("status")).to_contain_text("You kept 15 contacts")
    keys.press("button", "Change this decision")
    expect(page.get_by_role("status")).to_contain_text("Sync held")
    keys.press("button", "Approve: switch off 15")
    expect(page.get_by_role("status")).to_contain_text("Sync complete", timeout=PATIENCE_MS)

    keys.follow("link", "Contacts")
    keys.fill("Name or email", "lindström 020")
    expect(page.locator("#people tbody tr")).to_have_count(1)
    keys.tick(page.get_by_role("checkbox", name="Select Zoë Lindström 020"))
    keys.follow("button", "Delete…")
    keys.follow("button", "Delete 1 contact here")
    keys.follow("button", "Undo")
    expect(page.get_by_role("main")).to_contain_text("1 contact restored")
    keys.follow("link", "Changes")
    expect(page.get_by_role("heading", level=1)).to_have_text("Changes")
    keys.follow("button", "Log out")


def test_an_advisor_changes_the_salesforce_user_without_a_mouse(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(6)
    firm.connect()
    assert firm.sync().is_complete
    page = open_page(firm)
    keys = Keyboard(page)
    status, main = page.get_by_role("status"), page.get_by_role("main")

    def log_in_as_jonas() -> None:
        page.goto(firm.url("/settings/integrations?open=salesforce"))
        keys.walk()
        keys.unfold("Connect another Salesforce user")
        keys.follow("button", "Log in as another user")
        page.get_by_role("button", name="Log in as Jonas Lindqvist").press(
            "Enter", timeout=PATIENCE_MS
        )  # at Salesforce
        page.get_by_role("button", name="Allow").press("Enter")
        expect(page.get_by_role("button", name="Switch to jonas")).to_be_visible(timeout=PATIENCE_MS)
        assert keys.is_safe()
        keys.walk()

    log_in_as_jonas()
    keys.press("button", "Keep amara")
    expect(page.get_by_role("button", name="Switch to jonas")).to_be_hidden()
    expect(main).to_contain_text("amara@northgate.example")
    assert keys.is_safe()

    log_in_as_jonas()
    keys.press("button", "Switch to jonas")
    expect(status).to_contain_text("Connected")
    expect(main).to_contain_text("jonas@northgate.example")
    assert keys.is_safe()
    keys.press("button", "Disconnect")
    expect(status).to_have_text("Disconnect from Salesforce?")
    assert keys.is_safe()
    keys.walk()
    keys.press("button", "Disconnect")
    expect(status).to_contain_text("Disconnected")
    keys.walk()


def test_an_advisor_chooses_lists_without_a_mouse(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(6)
    firm.org.add_list_view("Contact", VIEW, where={"field": "Title", "operator": "equals", "values": ["'Partner'"]})
    firm.org.update_contact(firm.ids[0], Title="Partner")
    firm.connect()
    assert firm.sync().is_complete
    page = open_page(firm)
    keys = Keyboard(page)
    lists = page.get_by_role("table", name="List views and campaigns")
    page.goto(firm.url("/contacts"))
    keys.follow("link", "Lists from Salesforce")
    expect(lists).to_contain_text(VIEW)
    keys.press("link", f"Look inside {VIEW}")
    expect(page.get_by_role("heading", name=VIEW)).to_be_focused()
    keys.walk()
    keys.follow("button", "Use this list")
    expect(page.get_by_role("main")).to_contain_text(f"You use “{VIEW}” now")
    expect(lists).to_contain_text("In use")
    keys.walk()
    keys.follow("button", f"Stop using {VIEW}")
    expect(lists).to_contain_text("Look inside")


def test_a_visitor_signs_up_without_a_mouse(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    address = address_of(open_page(firm), firm)
    page = open_page(firm, is_logged_in=False)
    keys = Keyboard(page)
    page.goto(address)
    page.wait_for_timeout(BLINK_MS)
    keys.fill("First name", "Mei-Ling")
    keys.fill("Last name", "Chou")
    keys.follow("button", "Sign up")
    expect(page.get_by_label("Email")).to_have_attribute("aria-invalid", "true")
    keys.fill("Email", "mei.chou@harbour.example")
    keys.tick(page.get_by_role("checkbox"))
    keys.follow("button", "Sign up")
    expect(page.get_by_role("heading", level=1)).to_have_text("Thank you")


def test_an_admin_and_a_salesforce_admin_need_no_mouse(house: BrowserHouse, firm: Firm, open_page: OpenPage) -> None:
    admin = open_page(house, house.make_admin())
    keys = Keyboard(admin)
    admin.goto(firm.url("/admin/partners"))
    keys.follow("link", "New firm")
    keys.fill("Firm name", "Keyboard Wealth")
    keys.follow("button", "Save")
    keys.fill("Name of the firm's Salesforce admin", "Tess Ward")
    keys.fill("Their email", "tess@keyboard.example")
    keys.follow("button", "Send setup link")
    link = admin.get_by_label("For tess").input_value()

    tess = open_page(house, is_logged_in=False)
    keys = Keyboard(tess)
    tess.goto(link)
    keys.follow("link", "Next: enter key and secret")
    keys.fill("Salesforce URL", firm.running.url)
    keys.fill("Consumer Key", KEY)
    keys.fill("Consumer Secret", SECRET)
    keys.follow("button", "Check and save")
    expect(tess.get_by_role("heading", name="Your org is ready")).to_be_visible()

    keys = Keyboard(admin)
    admin.goto(firm.url(f"/admin/partners/{firm.slug}/advisors"))
    keys.fill("Name", "Priya Raman")
    keys.fill("Email", "priya@keyboard.example")
    keys.follow("button", "Invite")
    keys.follow("link", "Done")
    with house.rows():
        assert db.session.query(User).filter_by(email="priya@keyboard.example").count() == 1


def test_an_admin_looks_after_a_firm_without_a_mouse(house: BrowserHouse, firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    admin = open_page(house, house.make_admin())
    keys = Keyboard(admin)
    admin.goto(firm.url(f"/admin/board?firm={firm.slug}"))
    keys.walk()
    keys.go_to(admin.get_by_label("Show"))
    admin.keyboard.press("ArrowDown")
    keys.follow("button", "Show")
    expect(admin.get_by_label("Show")).to_have_value("attention")
    keys.follow("link", "Northgate Wealth")
    keys.walk()
    keys.follow("button", "Check again")
    expect(admin.get_by_role("main")).to_contain_text("Checked")
    keys.follow("link", "Advisors (1)")
    keys.walk()
    keys.follow("link", "Change…")
    keys.fill("Name", "Amara Okafor-Lind")
    keys.follow("button", "Save")
    expect(admin.get_by_role("table", name="Advisors")).to_contain_text("Amara Okafor-Lind")
    keys.follow("link", "Deactivate…")
    keys.walk()
    keys.follow("link", "Cancel")

    label = f"Keyboard of {firm.slug}"
    keys.follow("link", "API keys")
    keys.fill("Label", label)
    keys.tick(admin.get_by_role("checkbox", name="Read who may be written to"))
    keys.follow("button", "Make the key")
    expect(admin.get_by_role("heading", level=1)).to_have_text("The key is ready")
    keys.walk()
    keys.follow("link", "Done")
    keys.unfold(label)
    assert keys.is_safe()
    keys.follow("button", f"Revoke the key {label}")
    expect(admin.get_by_role("row", name=label)).to_contain_text("Revoked")

    keys.follow("link", "Audit log")
    keys.fill("Person, firm or address", "Ada")
    keys.follow("button", "Search")
    expect(admin.get_by_role("row", name="Revoked an API key").first).to_be_visible()
    keys.walk()
