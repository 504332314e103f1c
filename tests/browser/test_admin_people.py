"""What admins do with people: deactivate, erase, move; failed checks; setup links that have ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from asapp.audit import entries
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, Partner, User
from asapp.partners import setup_link
from asapp.partners.setup_link import Recipient
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import Htmx, follow, inspect
from tests.factories import make_admin, make_partner
from tests.signing_up import someone_signs_up

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["with scripts", "without scripts"])
def test_an_advisor_is_deactivated_and_erased(htmx: Htmx, firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    looks = htmx is Htmx.CDN
    with firm.house.rows():
        alice = db.session.get_one(User, firm.advisor_id)
        alice.name = "Aurelia Deactivated"
        db.session.commit()
        someone_signs_up(alice)
    page = open_page(firm.house, firm.house.make_admin(), htmx)
    page.goto(firm.url(f"/admin/partners/{firm.slug}/advisors"))
    follow(page, page.get_by_role("link", name="Deactivate…"))
    if looks:
        inspect(page, "advisor-deactivate")
    expect(page.get_by_role("main")).to_contain_text("disconnected from Salesforce")
    expect(page.get_by_role("main")).to_contain_text("1 lead that is not in Salesforce yet waits here")
    follow(page, page.get_by_role("link", name="Cancel"))
    follow(page, page.get_by_role("link", name="Deactivate…"))
    follow(page, page.get_by_role("button", name="Deactivate Aurelia"))
    expect(page.get_by_role("main")).to_contain_text("Aurelia Deactivated is deactivated, logged out everywhere")
    if looks:
        inspect(page, "advisor-deactivated")
    follow(page, page.get_by_role("link", name="Erase…"))
    page.get_by_label("Type the advisor's name").fill("somebody")
    follow(page, page.get_by_role("button", name="Erase Aurelia"))
    expect(page.get_by_label("Type the advisor's name")).to_have_attribute("aria-invalid", "true")
    if looks:
        inspect(page, "advisor-erase")
    page.get_by_label("Type the advisor's name").fill("Aurelia Deactivated")
    follow(page, page.get_by_role("button", name="Erase Aurelia"))
    expect(page.get_by_role("main")).to_contain_text("Erased.")
    expect(page.get_by_role("main")).not_to_contain_text("Aurelia")
    page.goto(firm.url(f"/admin/audit?firm={firm.slug}"))
    expect(page.get_by_role("main")).to_contain_text("Erased advisor")
    expect(page.get_by_role("main")).not_to_contain_text("Aurelia")
    if looks:
        inspect(page, "audit-after-erasing")


def test_an_advisor_is_moved(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    with firm.house.rows():
        someone_signs_up(db.session.get_one(User, firm.advisor_id))
        name = make_partner("Harbour Partners").name
    page = open_page(firm.house, firm.house.make_admin())
    page.goto(firm.url(f"/admin/partners/{firm.slug}/advisors/{firm.advisor_id}/move"))
    inspect(page, "advisor-move")
    expect(page.get_by_role("main")).to_contain_text("never goes to another firm's")
    follow(page, page.get_by_role("button", name="Move"))
    expect(page.get_by_label("To", exact=True)).to_have_attribute("aria-invalid", "true")
    inspect(page, "advisor-move-refused")
    page.get_by_label("To", exact=True).select_option(label=name)
    follow(page, page.get_by_role("button", name="Move"))
    expect(page.get_by_role("main")).to_contain_text(f"is an advisor of {name} now")
    advisor = open_page(firm)  # the session of before has ended, so this is a new one
    advisor.goto(firm.url())
    expect(advisor.get_by_role("main")).not_to_contain_text("amara@northgate.example")
    expect(advisor.get_by_role("button", name="Connect Account")).to_be_visible()
    inspect(advisor, "panel-after-a-move")
    advisor.goto(firm.url("/leads"))
    expect(advisor.get_by_role("main")).not_to_contain_text("Mei-Ling")


def test_checks_that_are_red(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    firm.org.change_app("house-key", callback_urls=["https://elsewhere.example/"], secret="another")
    firm.org.hide_field("Contact", "HasOptedOutOfEmail")
    firm.org.deny_object("Lead", "create")
    page = open_page(firm.house, firm.house.make_admin())
    page.goto(firm.url(f"/admin/partners/{firm.slug}"))
    follow(page, page.get_by_role("button", name="Check again"))
    for code, path in (
        ("secret", "OAuth Settings › Consumer Key and Secret"),
        ("callback", "OAuth Settings › Callback URL"),
        ("opt_out", "Setup › Object Manager › Contact"),
        ("lead", "Object Settings › Leads › Create"),
    ):
        expect(page.locator(f"[data-check={code}]")).to_have_class("bad")
        expect(page.locator(f"[data-check={code}] .path")).to_contain_text(path)
    expect(page.get_by_role("link", name="4 checks to fix")).to_be_visible()
    inspect(page, "partner-red")


def test_links_that_have_ended_say_so_and_nothing_more(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        partner, ada = make_partner("Lapsed Links"), make_admin()
        revoked = setup_link.make_link(partner, Recipient("Sam", "sam@firm.example"), ada)[1]
        link, expired = setup_link.make_link(partner, Recipient("Sam", "sam@firm.example"), ada)
        link.expires_at = utcnow() - timedelta(minutes=1)
        db.session.commit()
    page = open_page(house, is_logged_in=False)
    ended = (
        ("revoked", revoked, 410, "It was revoked."),
        ("expired", expired, 410, "It has expired."),
        ("never-was", "no-such", 404, "Perhaps a part of the address is missing."),
    )
    for name, token, status, words in ended:
        for end in ("", "/keys"):
            answer = page.goto(f"{house.url}/partner-setup/{token}{end}")
            assert answer
            assert answer.status == status
            expect(page.get_by_role("heading", level=1)).to_have_text("This link no longer works")
            expect(page.get_by_role("main")).to_contain_text(words)
            expect(page.get_by_role("main")).not_to_contain_text("Lapsed")
        inspect(page, f"setup-link-{name}")


def test_a_salesforce_admin_is_erased_from_the_audit_log(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        partner: Partner = make_partner("Guest House")
        entries.record_export(
            Action.SECRET_REPLACED, entries.by_link(partner, "Sam Gast", "sam@gast.example", "192.0.2.5"), partner
        )
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/audit?q=gast.example")
    inspect(page, "audit-guest")
    follow(page, page.get_by_role("link", name="Erase…"))
    inspect(page, "audit-erase")
    follow(page, page.get_by_role("button", name="Erase for good"))
    page.goto(f"{house.url}/admin/audit?q=guest+house")
    expect(page.get_by_role("main")).not_to_contain_text("Sam Gast")
    expect(page.get_by_role("main")).to_contain_text("Replaced the secret")
