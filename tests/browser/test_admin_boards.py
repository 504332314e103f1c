"""The firm board and the audit log, as an admin sees them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from asapp.alerts import alerts
from asapp.audit import entries
from asapp.audit.entries import person
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, ApiUsage
from asapp.partners import checks
from asapp.salesforce.probe import Finding
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import follow, inspect
from tests.factories import make_advisor, make_contact, make_partner, make_synced_connection, save

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_firm_board(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        firm = make_partner("Board & Sons Wealth Partners", api_share_percent=15)
        firm.org_calls_used, firm.org_calls_allowed, firm.org_calls_seen_at = 48310, 100_000, utcnow()
        save(ApiUsage(partner_id=firm.id, hour=utcnow().replace(minute=0, second=0, microsecond=0), calls=6180))
        make_contact(make_synced_connection(make_advisor(firm, "Amara Okafor")))
        long_ago = utcnow() - timedelta(days=9)
        broken = make_advisor(firm, "Daniel Abubakar", email="daniel.abubakar@northgate-wealth.example")
        make_synced_connection(
            broken, status="needs_reconnect", last_good_sync_at=long_ago, opt_outs_known_until=long_ago
        )
        make_synced_connection(make_advisor(firm, "Siobhán Ní Bhriain"), failures_in_a_row=3)
        make_advisor(firm, "Tomás Herrera")
        firm.paused_until, firm.paused_why = utcnow() + timedelta(hours=2), "share_used_up"
        db.session.commit()
        alerts.update_alerts(utcnow() - timedelta(minutes=40))
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/board")
    pause = page.get_by_role("region", name="Open alerts").get_by_role("row", name="Board & Sons").first
    expect(pause).to_contain_text("Syncs pause: the API allowance is used up")
    expect(pause).to_contain_text("40 minutes ago")
    inspect(page, "board-firms")
    follow(page, page.get_by_role("main").get_by_role("link", name="Health").first)
    expect(page.get_by_role("row").filter(has_text="None seen").first).to_be_visible()
    inspect(page, "health-no-scheduler")
    page.go_back()
    follow(page, page.get_by_role("region", name="Firms").get_by_role("link", name="Board & Sons").first)
    expect(page.get_by_role("row", name="Daniel Abubakar")).to_contain_text("Needs reconnecting")
    inspect(page, "board-firm")
    wrap = page.get_by_role("region", name="Advisors, table")
    assert wrap.evaluate("it => it.scrollWidth - it.clientWidth") <= 0  # no column is cut off
    page.get_by_label("Show").select_option("attention")
    follow(page, page.get_by_role("button", name="Show"))
    expect(page.get_by_role("row", name="Tomás Herrera")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    assert "Daniel Abubakar" in download.value.path().read_text()


def test_the_audit_log(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        firm = make_partner("Logged Wealth")
        alice = make_advisor(firm, "Alice Logged")
        for number in range(60):
            entries.record_export(Action.EXPORTED, person(alice, f"203.0.113.{number}"), firm, file="contacts")
        entries.record(Action.PARTNER_CHANGED, person(alice, "2001:db8::7"), firm, sync_interval_minutes=[120, 60])
        db.session.commit()
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/audit")
    page.get_by_label("Firm", exact=True).select_option(label="Logged Wealth")
    follow(page, page.get_by_role("button", name="Search"))
    expect(page.get_by_role("main")).to_contain_text("120, then 60")
    inspect(page, "audit")
    follow(page, page.get_by_role("link", name="Older"))
    expect(page.get_by_role("main")).to_contain_text("203.0.113.0")


def test_the_page_of_a_firm_whose_salesforce_does_not_answer(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        firm = make_partner("Away Wealth Partners")
        make_synced_connection(make_advisor(firm, "Daniel Abubakar"), status="needs_reconnect")
        findings = [
            Finding("host", None, "error_status", "503"),
            *(Finding(code, True, "known") for code in ("key", "secret")),
            *(Finding(code, None, "nobody_connected") for code in ("scopes", "opt_out", "lead")),
            Finding("api", None, "no_answer"),
            Finding("allowance", None, "used_up"),
        ]
        checks.store(firm.id, findings, is_whole=True)
        path = f"/admin/partners/{firm.slug}"
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}{path}")
    expect(page.get_by_text("Salesforce doesn't answer", exact=True)).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Host is a Salesforce org")).to_contain_text("Waits")
    inspect(page, "firm-away")
    follow(page, page.get_by_role("link", name="1 advisor needs reconnecting"))
    expect(page.get_by_role("row", name="Daniel Abubakar")).to_contain_text("Needs reconnecting")
