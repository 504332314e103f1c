"""Logging in with an identity provider in a browser: there and back, without a redirect of a form; with scripts and without."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import oidc_provider_mock
import pytest
import requests
from playwright.sync_api import Page, expect

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import User
from config import IdentityProvider
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect
from tests.conftest import make_config
from tests.factories import PASSWORD, make_admin, make_advisor

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    with oidc_provider_mock.run_server_in_thread(require_nonce=True) as server:
        # by its address, as the browser has no names
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, provider_url: str) -> Iterator[BrowserHouse]:
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(sqlite_template, folder / "asapp.db")
    known_as = IdentityProvider(provider_url, "any", "any")
    config = replace(make_config(f"sqlite:///{folder / 'asapp.db'}"), identity_provider=known_as)
    made = BrowserHouse(config, folder / "web.log")
    yield made
    made.close()


def advisor(house: BrowserHouse, provider_url: str, *subjects: str) -> int:
    """Add an advisor, whose address these people at the provider have; return the id."""
    with house.rows():
        made = make_advisor()
        user_id, told = made.id, {"email": made.email, "email_verified": True}
    for subject in subjects:
        requests.put(f"{provider_url}/users/{subject}", json=told, timeout=5)
    return user_id


def log_in_there(page: Page, subject: str) -> None:
    page.get_by_role("button", name="Continue with AdvisorStream").click()
    page.wait_for_url("**/oauth2/authorize?**")
    page.locator("input[name=sub]").first.fill(subject)
    page.get_by_role("button", name="Authorize").first.click()


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS])
def test_in_and_out_again(htmx: Htmx, house: BrowserHouse, open_page: OpenPage, provider_url: str) -> None:
    advisor(house, provider_url, htmx.name)
    page = open_page(house, htmx=htmx, is_logged_in=False)
    page.goto(f"{house.url}/leads")
    if htmx is Htmx.CDN:
        inspect(page, "login-provider")
    log_in_there(page, htmx.name)
    expect(page.get_by_role("heading", level=1)).to_have_text("Leads")
    page.goto(f"{house.url}/settings/security")
    if htmx is Htmx.CDN:
        inspect(page, "security-provider")
    page.get_by_role("button", name="Log out", exact=True).click()
    page.wait_for_url("**/oauth2/end_session?**")
    page.locator("form button, form input[type=submit]").first.click()
    page.wait_for_url("**/login*")
    expect(page.get_by_role("button", name="Continue with AdvisorStream")).to_be_visible()


def test_an_address_that_was_not_invited(house: BrowserHouse, open_page: OpenPage, provider_url: str) -> None:
    told = {"email": "amara@okafor.example", "email_verified": True}
    requests.put(f"{provider_url}/users/stranger", json=told, timeout=5)
    page = open_page(house, is_logged_in=False)
    page.goto(f"{house.url}/login")
    log_in_there(page, "stranger")
    expect(page.get_by_role("alert")).to_contain_text("We don't know an account for amara@okafor.example.")
    inspect(page, "login-provider-refused")


def test_another_persons_log_in_with_the_same_address_and_an_account_that_is_closed(
    house: BrowserHouse, open_page: OpenPage, provider_url: str
) -> None:
    alice_id = advisor(house, provider_url, "the-first", "the-second")
    go_in(house, open_page, "the-first", "Contacts")
    page = go_in(house, open_page, "the-second", "Log in")
    expect(page.get_by_role("alert")).to_contain_text("belongs to another log-in.")
    inspect(page, "login-provider-other-subject")
    with house.rows():
        db.session.get_one(User, alice_id).deactivated_at = utcnow()
        db.session.commit()
    page = go_in(house, open_page, "the-first", "Log in")
    expect(page.get_by_role("alert")).to_contain_text("Your account is deactivated.")
    inspect(page, "login-provider-deactivated")
    page.goto(f"{house.url}/contacts")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def go_in(house: BrowserHouse, open_page: OpenPage, subject: str, leads_to: str) -> Page:
    """Log in as a person at the provider, in a browser of its own; return its page, which has this heading."""
    page = open_page(house, is_logged_in=False)
    page.goto(f"{house.url}/login")
    log_in_there(page, subject)
    page.wait_for_url(f"{house.url}/**")
    expect(page.get_by_role("heading", level=1)).to_have_text(leads_to)
    page.wait_for_load_state()
    return page


def test_a_provider_that_is_away(tmp_path: Path, sqlite_template: Path, open_page: OpenPage) -> None:
    shutil.copy(sqlite_template, tmp_path / "asapp.db")
    nowhere = IdentityProvider("http://127.0.0.1:9", "any", "any")
    away = BrowserHouse(
        replace(make_config(f"sqlite:///{tmp_path / 'asapp.db'}"), identity_provider=nowhere), tmp_path / "web.log"
    )
    try:
        with away.rows():
            ada = make_admin(is_password_allowed=True)
            email = ada.email
        page = open_page(away, is_logged_in=False)
        page.goto(f"{away.url}/login")
        follow(page, page.get_by_role("button", name="Continue with AdvisorStream"))
        expect(page.get_by_role("alert")).to_contain_text("The AdvisorStream log-in doesn't answer.")
        inspect(page, "login-provider-away")
        follow(page, page.get_by_role("link", name="Back to the log-in"))
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        page.get_by_text("Log in with a password").click()
        page.get_by_label("Email").fill(email)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        follow(page, page.get_by_role("button", name="Log in", exact=True))
        expect(page.get_by_role("heading", level=1)).to_have_text("One more step")
    finally:
        away.close()
