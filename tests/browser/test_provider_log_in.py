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

from config import IdentityProvider
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, inspect
from tests.conftest import make_config
from tests.factories import make_advisor

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


def advisor(house: BrowserHouse, provider_url: str, subject: str) -> None:
    with house.rows():
        told = {"email": make_advisor().email, "email_verified": True}
    requests.put(f"{provider_url}/users/{subject}", json=told, timeout=5)


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
