"""Passkeys in Chromium, with its virtual authenticator: added, used at the log-in and to confirm who it is, refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from asapp.accounts import mailbox_proof
from asapp.core.extensions import db
from asapp.models import Passkey, User
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect
from tests.conftest import make_config
from tests.factories import PASSWORD, app_code, make_admin, make_advisor, make_passkey, make_second_factor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def named_house(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[BrowserHouse]:
    folder = tmp_path_factory.mktemp("named house")
    shutil.copy(sqlite_template, folder / "asapp.db")
    made = BrowserHouse(make_config(f"sqlite:///{folder / 'asapp.db'}"), folder / "web.log", "localhost")
    yield made
    made.close()


def plug_in(page: Page) -> None:
    """Give this browser an authenticator that says yes at once."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    kind = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {**kind, "isUserVerified": True, "automaticPresenceSimulation": True}},
    )


def make(house: BrowserHouse) -> str:
    with house.rows():
        user = make_advisor()
        make_second_factor(user)
        return user.email


def log_in(page: Page, house: BrowserHouse, email: str) -> None:
    page.goto(f"{house.url}/login")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    follow(page, page.get_by_role("button", name="Log in"))


def grow_old(page: Page, house: BrowserHouse, email: str) -> None:
    """As if this browser's person had logged in 16 minutes ago."""
    with house.rows():
        user_id = db.session.query(User.id).where(User.email == email).scalar()
    page.context.add_cookies([house.cookie_of(user_id, minutes_ago=16)])  # type: ignore[list-item]


def count_uses(house: BrowserHouse, email: str, uses: int) -> int:
    """Store so many uses of the person's passkey; return how many there were."""
    with house.rows():
        passkey = db.session.query(Passkey).join(User, User.id == Passkey.user_id).filter(User.email == email).one()
        before, passkey.sign_count = passkey.sign_count, uses
        db.session.commit()
    return before


def test_an_admin_sets_a_passkey_up_alone_and_keeps_it(named_house: BrowserHouse, open_page: OpenPage) -> None:
    house, page = named_house, open_page(named_house, is_logged_in=False)
    with house.rows():
        ada = make_admin(has_second_factor=False)
        email, link = ada.email, mailbox_proof.url_of(mailbox_proof.make_link(ada), house.url)
    plug_in(page)
    log_in(page, house, email)
    page.goto(link)
    follow(page, page.get_by_role("button", name="Go on"))
    inspect(page, "second-step-choice")
    follow(page, page.get_by_role("button", name="Use a passkey"))
    expect(page.get_by_text("Your passkey is set up.")).to_be_visible()
    expect(page.locator(".codes li")).to_have_count(10)
    inspect(page, "second-step-codes-of-passkey")
    page.get_by_label("I have kept these codes").check()
    follow(page, page.get_by_role("button", name="Finish"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Firms")
    follow(page, page.get_by_role("button", name="Log out", exact=True))
    log_in(page, house, email)
    expect(page.get_by_label("Six digits")).to_have_count(0)
    inspect(page, "second-step-passkey-alone")
    follow(page, page.get_by_role("button", name="Use a passkey"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Firms")
    page.goto(f"{house.url}/settings/security")
    inspect(page, "security-passkey-alone")
    follow(page, page.get_by_role("link", name="Change…"))
    expect(page.get_by_text("is your only second step, and admins need one")).to_be_visible()
    expect(page.get_by_role("button", name="Remove this passkey")).to_have_count(0)
    inspect(page, "passkey-change-only")
    follow(page, page.get_by_role("link", name="an app"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Add an app")
    inspect(page, "second-step-add-app")
    grow_old(page, house, email)
    page.goto(f"{house.url}/settings/second-factor")
    inspect(page, "confirm-passkey-alone")
    follow(page, page.get_by_role("button", name="Use your passkey"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Add an app")


def test_a_passkey_does_instead_of_a_code(named_house: BrowserHouse, open_page: OpenPage) -> None:
    house, page = named_house, open_page(named_house, is_logged_in=False)
    email = make(house)
    plug_in(page)
    log_in(page, house, email)
    expect(page.get_by_role("button", name="Use a passkey")).to_have_count(0)
    page.get_by_label("Six digits").fill(app_code())
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    page.goto(f"{house.url}/settings/security")
    follow(page, page.get_by_role("link", name="Add a passkey"))
    inspect(page, "passkey-new")
    page.get_by_label("Name").fill("Work laptop")
    follow(page, page.get_by_role("button", name="Add a passkey"))
    expect(page.get_by_text("The passkey “Work laptop” is added.")).to_be_visible()
    inspect(page, "security-passkeys")
    follow(page, page.get_by_role("link", name="Add a passkey"))
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("holds one of your passkeys already")).to_be_visible()
    follow(page, page.get_by_role("button", name="Log out", exact=True))
    log_in(page, house, email)
    inspect(page, "second-step-passkey")
    follow(page, page.get_by_role("button", name="Use a passkey"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")
    grow_old(page, house, email)
    page.goto(f"{house.url}/settings/security")
    follow(page, page.get_by_role("link", name="Change… Work laptop"))
    inspect(page, "confirm-passkey")
    used = count_uses(house, email, 1000)  # as if a copy of it had been used
    follow(page, page.get_by_role("button", name="Use your passkey"))
    expect(page.locator(".notice.bad")).to_contain_text("Your passkey was not accepted. Nothing was changed.")
    inspect(page, "confirm-passkey-refused")
    count_uses(house, email, used)
    follow(page, page.get_by_role("button", name="Use your passkey"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Change a passkey")
    inspect(page, "passkey-change")
    follow(page, page.get_by_role("button", name="Remove this passkey"))
    expect(page.get_by_text("The passkey “Work laptop” is removed.")).to_be_visible()


def test_a_browser_that_has_none_of_them_says_so_and_a_code_does(
    named_house: BrowserHouse, open_page: OpenPage
) -> None:
    house, page = named_house, open_page(named_house, is_logged_in=False)
    email = make(house)
    with house.rows():
        make_passkey(db.session.query(User).where(User.email == email).one())
    plug_in(page)
    log_in(page, house, email)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("No passkey was used. Try again, or use a code.")).to_be_visible()
    inspect(page, "second-step-passkey-none")
    page.get_by_label("Six digits").fill(app_code())
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")


def test_without_scripts_a_code_alone_is_offered(named_house: BrowserHouse, open_page: OpenPage) -> None:
    house, page = named_house, open_page(named_house, htmx=Htmx.NO_SCRIPTS, is_logged_in=False)
    email = make(house)
    with house.rows():
        make_passkey(db.session.query(User).where(User.email == email).one())
    log_in(page, house, email)
    expect(page.get_by_role("button", name="Use a passkey")).to_be_hidden()
    page.get_by_label("Six digits").fill(app_code())
    follow(page, page.get_by_role("button", name="Log in", exact=True))
    page.goto(f"{house.url}/settings/passkeys/new")
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_hidden()
