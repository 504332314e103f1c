"""The second step of a log-in in a browser: set up, asked for, lost; with scripts and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select, update

from asapp.accounts import mailbox_proof
from asapp.core.extensions import db
from asapp.models import SecondFactor, User
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect
from tests.factories import PASSWORD, app_code, make_admin, make_advisor

pytestmark = pytest.mark.browser


@pytest.fixture(params=[Htmx.CDN, Htmx.NO_SCRIPTS])
def page(request: pytest.FixtureRequest, house: BrowserHouse, open_page: OpenPage) -> Page:
    return open_page(house, htmx=request.param, is_logged_in=False)


def make(house: BrowserHouse, *, is_admin: bool = True) -> str:
    with house.rows():
        return (make_admin(has_second_factor=False) if is_admin else make_advisor()).email


def log_in(page: Page, house: BrowserHouse, email: str) -> None:
    page.goto(f"{house.url}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    follow(page, page.get_by_role("button", name="Log in"))


def prove_mailbox(page: Page, house: BrowserHouse, email: str) -> None:
    """Ask for the link, and open one such as the mail has it."""
    follow(page, page.get_by_role("button", name="Send me the link"))
    expect(page.get_by_text("A link is on its way")).to_be_visible()
    with house.rows():
        user = db.session.scalars(select(User).where(User.email == email)).one()
        url = mailbox_proof.url_of(mailbox_proof.make_link(user), house.url)
    page.goto(url)
    follow(page, page.get_by_role("button", name="Go on"))


def read_secret(page: Page) -> str:
    return page.locator(".secret-text").inner_text().replace(" ", "")


def test_an_admin_is_led_through_the_set_up_and_logs_in_in_two_steps(house: BrowserHouse, page: Page) -> None:
    email = make(house)
    log_in(page, house, email)
    expect(page.get_by_role("heading", level=1)).to_have_text("Add a second step to your log-in")
    prove_mailbox(page, house, email)
    secret = read_secret(page)
    page.get_by_label("Six digits").fill("123 45")
    follow(page, page.get_by_role("button", name="Confirm"))
    expect(page.get_by_text("These are not the six digits")).to_be_visible()
    assert read_secret(page) == secret
    page.get_by_label("Six digits").fill(app_code(secret=secret))
    follow(page, page.get_by_role("button", name="Confirm"))
    codes = page.locator(".codes li").all_inner_texts()
    assert len(codes) == 10
    page.get_by_label("I have kept these codes").check()
    follow(page, page.get_by_role("button", name="Finish"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Firms")
    follow(page, page.get_by_role("button", name="Log out", exact=True))
    log_in(page, house, email)
    expect(page.get_by_role("heading", level=1)).to_have_text("One more step")
    with house.rows():
        of_hers = SecondFactor.user_id == db.session.query(User.id).where(User.email == email).scalar_subquery()
        db.session.execute(update(SecondFactor).where(of_hers).values(last_step=0))
        db.session.commit()
    page.get_by_label("Six digits").fill(app_code(secret=secret))
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    expect(page.get_by_role("heading", level=1)).to_have_text("Firms")


def test_a_lost_phone_and_a_recovery_code(house: BrowserHouse, page: Page) -> None:
    email = make(house, is_admin=False)
    log_in(page, house, email)
    page.goto(f"{house.url}/settings/security")
    follow(page, page.get_by_role("link", name="Turn it on"))
    page.get_by_label("Six digits").fill(app_code(secret=read_secret(page)))
    follow(page, page.get_by_role("button", name="Confirm"))
    code = page.locator(".codes li").first.inner_text()
    page.goto(f"{house.url}/settings/security")
    follow(page, page.get_by_role("button", name="Log out", exact=True))
    log_in(page, house, email)
    page.get_by_text("Use a recovery code").click()
    page.get_by_label("Recovery code").fill(code)
    follow(page, page.get_by_role("button", name="Log in with this code"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")
    page.goto(f"{house.url}/settings/security")
    expect(page.get_by_text("You have 9 recovery codes left.")).to_be_visible()


def test_the_codes_can_be_taken_along(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, is_logged_in=False)
    log_in(page, house, make(house, is_admin=False))
    page.goto(f"{house.url}/settings/second-factor")
    page.get_by_label("Six digits").fill(app_code(secret=read_secret(page)))
    follow(page, page.get_by_role("button", name="Confirm"))
    codes = page.locator(".codes li").all_inner_texts()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_text().split() == codes


def test_how_the_pages_look(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, is_logged_in=False)
    email = make(house)
    log_in(page, house, email)
    inspect(page, "second-step-mailbox")
    follow(page, page.get_by_role("button", name="Send me the link"))
    inspect(page, "second-step-mailbox-sent")
    page.goto(f"{house.url}/settings/second-factor/link/wrong")
    inspect(page, "second-step-link-gone")
    with house.rows():
        user = db.session.scalars(select(User).where(User.email == email)).one()
        url = mailbox_proof.url_of(mailbox_proof.make_link(user), house.url)
    page.goto(url)
    inspect(page, "second-step-link")
    follow(page, page.get_by_role("button", name="Go on"))
    inspect(page, "second-step-set-up")
    secret = read_secret(page)
    page.get_by_label("Six digits").fill("000000")
    follow(page, page.get_by_role("button", name="Confirm"))
    inspect(page, "second-step-set-up-wrong")
    page.get_by_label("Six digits").fill(app_code(secret=secret))
    follow(page, page.get_by_role("button", name="Confirm"))
    inspect(page, "second-step-codes")
    page.goto(f"{house.url}/settings/security")
    inspect(page, "security-admin")
    with house.rows():
        make_admin("Eve Sand")
    page.goto(f"{house.url}/admin/admins")
    inspect(page, "admins")
    follow(page, page.get_by_role("button", name="Log out", exact=True))
    log_in(page, house, email)
    inspect(page, "second-step")
    page.get_by_label("Six digits").fill("000000")
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    inspect(page, "second-step-wrong")
