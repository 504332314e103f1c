"""What has to do with senders: keys, the documentation of the API, and what they tell on a contact's page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.models import SuppressionSource, SuppressionStep
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import follow, inspect
from tests.factories import make_advisor, make_partner
from tests.mail_links import path_of_link, record
from tests.senders import make_person

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RUTH = "ruth.abernathy@abernathy.example"


def test_keys_and_the_documentation_of_the_api(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/api-keys")
    inspect(page, "api-keys")
    page.get_by_label("Label").fill("Mail engine")
    page.get_by_label("Read who may be written to").check()
    follow(page, page.get_by_role("button", name="Make the key"))
    expect(page.get_by_role("heading", level=1)).to_have_text("The key is ready")
    inspect(page, "api-key-made")
    page.goto(f"{house.url}/admin/api-keys")
    inspect(page, "api-keys-with-one")
    page.goto(f"{house.url}/api/docs")
    inspect(page, "api-docs")


def test_what_senders_tell_stands_on_the_contacts_page(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        advisor = make_advisor(make_partner("Senders & Sons"), "Amara Okafor")
        contact = make_person(advisor, RUTH, first_name="Ruth", last_name="Abernathy")
        address = Address(advisor.partner_id or 0, advisor.id, contact.address_hash or b"")
        reply = f"550 5.1.1 <{RUTH}>: Recipient address rejected: " + "undeliverable" * 12
        for step, words in (
            (SuppressionStep.BOUNCED, "550 5.1.1 " + reply),
            (SuppressionStep.COMPLAINED, ""),
            (SuppressionStep.UNSUBSCRIBED, "<b>by telephone</b>"),
        ):
            record([Happened(address, step, SuppressionSource.SENDER, utcnow(), step, words=words)])
        contact_id, advisor_id, path = contact.id, advisor.id, path_of_link(advisor, RUTH)
    page = open_page(house, advisor_id)
    page.goto(f"{house.url}/contacts/{contact_id}")
    story = page.get_by_role("region", name="Ruth Abernathy's story")
    expect(story).to_contain_text("“<b>by telephone</b>”")
    assert story.locator(".hush").count() == 3
    inspect(page, "contact-unsubscribed")
    page.goto(f"{house.url}{path}")
    inspect(page, "unsubscribe-done")
