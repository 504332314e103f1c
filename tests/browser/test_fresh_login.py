"""A log-in that is no longer fresh: what a browser does between the form and the answer, with scripts and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.models import ApiKey, Partner
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect
from tests.factories import PASSWORD, app_code, make_partner

pytestmark = pytest.mark.browser
NEW_SECRET = "A-new-secret-0123456789"


@pytest.fixture(params=[Htmx.CDN, Htmx.NO_SCRIPTS])
def page(request: pytest.FixtureRequest, house: BrowserHouse, open_page: OpenPage) -> Page:
    """An admin who logged in 20 minutes ago."""
    admin_id = house.make_admin()
    page = open_page(house, admin_id, htmx=request.param)
    page.context.add_cookies([house.cookie_of(admin_id, minutes_ago=20)])  # type: ignore[list-item]
    return page


def test_a_key_is_made_after_the_code_with_what_was_typed_before(house: BrowserHouse, page: Page) -> None:
    page.goto(f"{house.url}/admin/api-keys")
    label = f"Mail engine of {page.url}{id(page)}"
    page.get_by_label("Label").fill(label)
    page.get_by_label("Read who may be written to").check()
    follow(page, page.get_by_role("button", name="Make the key"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm it's you")
    page.get_by_label("Six digits from your app").fill("000000")
    follow(page, page.get_by_role("button", name="Confirm").first)
    expect(page.get_by_text("That is not right. Nothing was changed.")).to_be_visible()
    page.get_by_label("Six digits from your app").fill(app_code())
    follow(page, page.get_by_role("button", name="Confirm").first)
    expect(page.get_by_role("heading", level=1)).to_have_text("The key is ready")
    with house.rows():
        assert db.session.scalars(select(ApiKey).where(ApiKey.label == label)).one()


def test_a_secret_is_stored_after_the_password(house: BrowserHouse, page: Page) -> None:
    with house.rows():
        slug = make_partner(url="http://127.0.0.1:9", key="key", secret="the first secret").slug
    page.goto(f"{house.url}/admin/partners/{slug}")
    page.get_by_label("Consumer Secret").fill(NEW_SECRET)
    follow(page, page.get_by_role("button", name="Save").first)
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm it's you")
    assert NEW_SECRET not in page.content()
    page.get_by_text("Use your password instead").click()
    page.get_by_label("Password of").fill(PASSWORD)
    follow(page, page.get_by_role("button", name="Confirm").last)
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Confirm it's you")
    with house.rows():
        partner = db.session.scalars(select(Partner).where(Partner.slug == slug)).one()
        assert partner.unseal(house.app.extensions["asapp.vault"], "pending_secret_sealed") == NEW_SECRET


def test_how_the_question_looks(house: BrowserHouse, open_page: OpenPage) -> None:
    admin_id = house.make_admin()
    page = open_page(house, admin_id)
    page.context.add_cookies([house.cookie_of(admin_id, minutes_ago=20)])  # type: ignore[list-item]
    page.goto(f"{house.url}/settings/second-factor")
    inspect(page, "fresh-login")
    page.get_by_text("Use your password instead").click()
    inspect(page, "fresh-login-password")
