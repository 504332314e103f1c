"""Log-ins that go wrong or are helped by an admin, in a browser: reset, changed, half, too often."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from asapp.accounts import email_links, links
from asapp.core.extensions import db
from asapp.models import PasswordLinkKind, User
from asapp.web.login_session import HALF, SECOND_STEP_WITHIN
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import follow, inspect
from tests.factories import PASSWORD, app_code, make_admin, make_advisor, make_second_factor

pytestmark = pytest.mark.browser

NEW_PASSWORD = "seven quiet harbours"


def make_alice(house: BrowserHouse) -> tuple[int, str, str]:
    """Return id, address and firm of an advisor with a second step."""
    with house.rows():
        alice = make_advisor()
        make_second_factor(alice)
        assert alice.partner
        return alice.id, alice.email, alice.partner.slug


def log_in(page: Page, house: BrowserHouse, email: str, password: str = PASSWORD) -> None:
    page.goto(f"{house.url}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    follow(page, page.get_by_role("button", name="Log in"))


def heading(page: Page) -> Any:
    return expect(page.get_by_role("heading", level=1))


def test_admins_help_people_back_in(house: BrowserHouse, open_page: OpenPage) -> None:
    alice_id, email, slug = make_alice(house)
    with house.rows():
        eve = make_admin("Eve Sand")
        eve_id, eve_email = eve.id, eve.email
    admin, hers, eves = open_page(house, house.make_admin()), open_page(house, alice_id), open_page(house, eve_id)
    # Alice's second step: she is out, and her password alone lets her in again
    hers.goto(f"{house.url}/settings")
    heading(hers).to_have_text("Profile")
    admin.goto(f"{house.url}/admin/partners/{slug}/advisors")
    follow(admin, admin.get_by_role("button", name="Reset second step of"))
    expect(admin.get_by_role("main")).to_contain_text("is logged out everywhere. A mail says so.")
    hers.goto(f"{house.url}/settings")
    heading(hers).to_have_text("Log in")
    log_in(hers, house, email)
    heading(hers).to_have_text("Contacts")
    # Another admin's: she proves her mailbox before she sets a new one up
    admin.goto(f"{house.url}/admin/admins")
    reset = admin.locator(f'form[action="/admin/admins/{eve_id}/reset-second-step"]')
    admin.locator("details").filter(has=reset).locator("summary").click()
    follow(admin, reset.get_by_role("button"))
    expect(admin.get_by_role("main")).to_contain_text("sets up a new one at the next log-in")
    log_in(eves, house, eve_email)
    heading(eves).to_have_text("Add a second step to your log-in")
    expect(eves.get_by_role("button", name="Send me the link")).to_be_visible()
    # Alice's address, once she confirms it, and a link for a new password
    admin.goto(f"{house.url}/admin/partners/{slug}/advisors/{alice_id}/edit")
    inspect(admin, "advisor-change")
    admin.get_by_label("Email").fill("no address")
    follow(admin, admin.get_by_role("button", name="Save"))
    expect(admin.get_by_label("Email")).to_have_attribute("aria-invalid", "true")
    admin.get_by_label("Email").fill(f"new.{email}")
    follow(admin, admin.get_by_role("button", name="Save"))
    expect(admin.get_by_role("main")).to_contain_text(f"An email to new.{email} asks to confirm it.")
    with house.rows():
        token = email_links.make_token(db.session.get_one(User, alice_id), f"new.{email}", house.config.secret_key)
    hers.goto(f"{house.url}/email/{token}")
    inspect(hers, "email-confirm")
    follow(hers, hers.get_by_role("button", name="Use this address"))
    heading(hers).to_have_text("Your address is changed")
    inspect(hers, "email-changed")
    admin.goto(f"{house.url}/admin/partners/{slug}/advisors/{alice_id}/edit")
    follow(admin, admin.get_by_role("button", name="Send a link for a new password"))
    expect(admin.get_by_role("main")).to_contain_text(f"on its way to new.{email}")
    again = open_page(house, is_logged_in=False)
    log_in(again, house, f"new.{email}")
    heading(again).to_have_text("Contacts")


def test_a_new_password_a_half_log_in_that_ended_and_too_many_wrong_codes(
    house: BrowserHouse, open_page: OpenPage
) -> None:
    alice_id, email, _ = make_alice(house)
    with house.rows():
        token = links.make_link(db.session.get_one(User, alice_id), PasswordLinkKind.RESET)
    page = open_page(house, is_logged_in=False)
    page.goto(f"{house.url}/password/{token}")
    page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
    follow(page, page.get_by_role("button", name="Set password and log in"))
    heading(page).to_have_text("One more step")
    expect(page.get_by_text("Your password is set.")).to_be_visible()
    page.goto(f"{house.url}/contacts")
    heading(page).to_have_text("Log in")
    # The half log-in goes on for ten minutes
    page.goto(f"{house.url}/login/code")
    heading(page).to_have_text("One more step")
    grow_old(page, house)
    page.get_by_label("Six digits").fill(app_code())
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    heading(page).to_have_text("Log in")
    page.goto(f"{house.url}/login/code")
    heading(page).to_have_text("Log in")
    # Ten wrong codes an hour; the right one is no longer looked at
    log_in(page, house, email, NEW_PASSWORD)
    for _ in range(10):
        page.get_by_label("Six digits").fill("000000")
        follow(page, page.get_by_role("button", name="Log in", exact=True))
        expect(page.get_by_text("That code is not right, or it was used before.")).to_be_visible()
    page.get_by_label("Six digits").fill(app_code())
    with page.expect_response(lambda answer: answer.url.endswith("/login/code")) as limited:
        follow(page, page.get_by_role("button", name="Log in", exact=True))
    assert limited.value.status == 429
    heading(page).to_have_text("Too many tries in a short time")
    inspect(page, "too-many-codes")
    page.goto(f"{house.url}/contacts")
    heading(page).to_have_text("Log in")


def grow_old(page: Page, house: BrowserHouse) -> None:
    """As if this browser's person had entered the password more than ten minutes ago."""
    serializer: Any = house.app.session_interface.get_signing_serializer(house.app)  # type: ignore[attr-defined]
    (cookie,) = (each for each in page.context.cookies() if each["name"] == "session")
    session = serializer.loads(cookie["value"])
    session[HALF]["at"] -= int(SECOND_STEP_WITHIN.total_seconds()) + 1
    page.context.add_cookies([{"name": "session", "value": serializer.dumps(session), "url": house.url}])
