"""A person signs up, becomes a lead within seconds, and the advisor follows the lead; all with and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Thread

import pytest
from playwright.sync_api import Page, expect
from werkzeug.serving import make_server

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import consent, sign_up_page
from asapp.models import ConsentKind, ConsentSource, Contact, Lead, LeadState, Unfollowed, User
from asapp.models.lead import UNDELIVERED
from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import PHONE, WIDE, Htmx, follow, inspect, take_picture
from tests.signing_up import make_page, someone_signs_up

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BLINK_MS = 2100  # what a person needs at least; a form that is faster is asked to look again


def address_of(page: Page, firm: Firm) -> str:
    page.goto(firm.url("/leads"))
    link = page.get_by_role("main").get_by_role("link", name="/o/").get_attribute("href")
    assert link
    return link


def sign_up(page: Page, address: str, first_name: str, last_name: str, email: str) -> None:
    page.goto(address)
    page.get_by_label("First name").fill(first_name)
    page.get_by_label("Last name").fill(last_name)
    page.get_by_label("Email").fill(email)
    page.get_by_role("checkbox").check()
    page.wait_for_timeout(BLINK_MS)
    follow(page, page.get_by_role("button", name="Sign up"))


def leads_of(firm: Firm) -> list[Lead]:
    with firm.house.rows():
        leads = db.session.query(Lead).filter_by(user_id=firm.advisor_id).all()
        db.session.expunge_all()
        return leads


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["htmx", "no scripts"])
def test_from_the_sign_up_page_to_salesforce(firm: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    firm.connect()
    page, visitor = open_page(firm, htmx=htmx), open_page(firm, htmx=htmx, is_logged_in=False)
    address = address_of(page, firm)

    visitor.goto(address)
    if htmx.loads:
        inspect(visitor, "sign-up")
    visitor.get_by_label("First name").fill("Mei-Ling")
    visitor.get_by_label("Email").fill("mei.chou@")
    visitor.wait_for_timeout(BLINK_MS)
    follow(visitor, visitor.get_by_role("button", name="Sign up"))
    expect(visitor.get_by_role("alert")).to_contain_text("3 things need another look")
    expect(visitor.get_by_label("First name")).to_have_value("Mei-Ling")
    if htmx.loads:
        inspect(visitor, "sign-up-refused")
    sign_up(visitor, address, "Mei-Ling", "Chou", "mei.chou@harbour.example")
    expect(visitor.get_by_role("heading", level=1)).to_have_text("Thank you")
    if htmx.loads:
        inspect(visitor, "sign-up-thanks")
    assert visitor.context.cookies() == []

    for _ in range(40):
        if [lead.state for lead in leads_of(firm)] == [LeadState.SENT]:  # a page without scripts stays as it was loaded
            break
        page.wait_for_timeout(250)
    assert [lead["Email"] for lead in firm.org.leads(firm.amara)] == ["mei.chou@harbour.example"]
    page.goto(firm.url("/leads"))
    expect(page.locator("#people tbody tr")).to_contain_text("Sent")
    follow(page, page.get_by_role("link", name="Mei-Ling Chou", exact=True))
    expect(page.get_by_role("main")).to_contain_text("Download consent history")
    if htmx.loads:
        inspect(page, "contact-with-consent")


def test_what_became_of_the_leads(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    page, visitor = open_page(firm), open_page(firm, is_logged_in=False)
    page.goto(firm.url("/leads"))
    inspect(page, "leads-empty")
    address = address_of(page, firm)
    firm.org.change_settings(required_fields={"Lead": ["Phone"]})
    sign_up(visitor, address, "Daniel", "Abubakar", "d.abubakar@savanna.example")
    contact = firm.org.add_contact(firm.amara, first_name="Karim", last_name="Benali", email="karim@poste.example")
    sign_up(visitor, address, "Karim", "B.", "karim@poste.example")
    sign_up(visitor, address, "W" * 40, "X" * 80, f"{'long' * 12}@household.example")
    for _ in range(40):
        if all(lead.state not in UNDELIVERED for lead in leads_of(firm)):
            break
        page.wait_for_timeout(250)
    assert contact

    page.goto(firm.url("/leads"))
    expect(page.get_by_role("main")).to_contain_text("Your firm requires “Phone” on every lead")
    page.locator("details", has_text="Put it on your own site").locator("summary").click()
    inspect(page, "leads")
    page.get_by_label("What became of it").select_option("linked")
    expect(page.locator("#people tbody tr")).to_have_count(1)
    expect(page.locator("#people tbody tr")).to_contain_text("Karim")
    firm.org.change_settings(required_fields={})
    page.goto(firm.url("/leads"))
    follow(page, page.get_by_role("button", name="Retry all 2 refused"))
    expect(page.get_by_role("main")).to_contain_text("2 leads on the way again.")
    for _ in range(40):
        if len(firm.org.leads()) == 2:
            break
        page.wait_for_timeout(250)
    assert len(firm.org.leads()) == 2

    follow(page, page.get_by_role("link", name="Change its words"))
    page.get_by_label("Heading").fill("")
    follow(page, page.get_by_role("button", name="Save"))
    inspect(page, "leads-words-refused")
    page.get_by_label("Heading").fill("Money matters, twice a month")
    follow(page, page.get_by_role("button", name="Save"))
    expect(page.get_by_role("main")).to_contain_text("version 2")

    page.goto(firm.url("/leads?q=karim"))
    follow(page, page.locator("#people").get_by_role("link", name="Karim B.", exact=True))
    follow(page, page.get_by_role("link", name="Erase…"))
    inspect(page, "erase")
    follow(page, page.get_by_role("button", name="Erase for good"))
    expect(page.get_by_role("main")).to_contain_text("Erased.")


@pytest.fixture
def own_site() -> Iterator[tuple[str, list[bytes]]]:
    """An advisor's own site: its address, and the page that it shows."""
    shown: list[bytes] = []

    def answer(_environ: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return shown

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}", shown
    finally:
        server.shutdown()


def test_the_form_works_in_a_frame_of_a_site_that_the_advisor_named(
    firm: Firm, open_page: OpenPage, own_site: tuple[str, list[bytes]]
) -> None:
    address, shown = own_site
    with firm.house.rows():
        page_of = make_page(db.session.get_one(User, firm.advisor_id))
        sign_up_page.save_page(page_of, "Money matters", "Yes, write to me.", address)
    page, visitor = open_page(firm), open_page(firm, is_logged_in=False)
    page.goto(firm.url("/leads"))
    snippet = page.locator("#snippet").input_value()
    assert snippet.startswith("<iframe ")
    shown.append(f"<!doctype html><html lang=en><title>Our site</title><h1>Our site</h1>{snippet}".encode())

    visitor.goto(address)
    form = visitor.frame_locator("iframe")
    form.get_by_label("First name").fill("Mei-Ling")
    form.get_by_label("Last name").fill("Chou")
    form.get_by_label("Email").fill("mei.chou@harbour.example")
    form.get_by_role("checkbox").check()
    for size, name in ((WIDE, "wide"), (PHONE, "phone")):
        visitor.set_viewport_size(size)  # type: ignore[arg-type]
        take_picture(visitor, f"sign-up-framed-{name}")
    visitor.wait_for_timeout(BLINK_MS)
    form.get_by_role("button", name="Sign up").click()

    expect(form.get_by_role("heading", level=1)).to_have_text("Thank you")
    assert [lead.email for lead in leads_of(firm)] == ["mei.chou@harbour.example"]


def test_every_state_and_the_history_of_consent(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    with firm.house.rows():
        advisor = db.session.get_one(User, firm.advisor_id)
        for number, (state, columns) in enumerate(STATES):
            lead = someone_signs_up(advisor, f"person.{number}@household.example", "Mei-Ling", f"Chou {number}")
            far_off = utcnow() + timedelta(days=1)
            for name, value in {"state": state, "next_attempt_at": far_off, **columns}.items():
                setattr(lead, name, value)
        for kind in ("opted_out", "back_in", "deleted", "restored"):
            consent.record(lead.id, ConsentKind(kind), ConsentSource.SALESFORCE, utcnow())
        someone_signs_up(advisor, lead.email, "M.")
        contact_id = lead.contact_id
        lead = someone_signs_up(advisor, "removed@household.example", "Rosa", "Removed")
        lead.state, contact, lead.contact_id = LeadState.CONVERTED, db.session.get(Contact, lead.contact_id), None
        db.session.delete(contact)
        hidden = someone_signs_up(advisor, "hidden@household.example", "Ines", "Hidden")
        db.session.get_one(Contact, hidden.contact_id).hidden_at = utcnow()
        someone_signs_up(advisor, hidden.email)
        db.session.commit()
    page = open_page(firm)

    page.goto(firm.url("/leads"))
    expect(page.locator("#people tbody tr")).to_have_count(len(STATES) + 2)
    expect(page.get_by_role("button", name="Restore Ines Hidden")).to_be_visible()
    expect(page.get_by_role("button", name="Send them")).to_be_visible()
    inspect(page, "leads-every-state")
    page.goto(firm.url(f"/contacts/{contact_id}"))
    expect(page.locator(".history li")).to_have_count(6)
    inspect(page, "consent-history")
    page.goto(firm.url("/leads?q=rosa"))
    follow(page, page.locator("#people").get_by_role("link", name="Rosa Removed", exact=True))
    inspect(page, "lead-without-contact")


IN_SALESFORCE = {"salesforce_id": "00Q5g00000AbCdEFGH"}
STATES: tuple[tuple[LeadState, dict[str, object]], ...] = (
    (LeadState.WAITING, {"why": "no_connection"}),
    (LeadState.SENDING, {"why": "no_answer"}),
    (LeadState.REFUSED, {"why": "required_field", "why_detail": "Region__c"}),
    (LeadState.PLEASE_CHECK, {"why": "out_of_sight"}),
    (LeadState.PLEASE_CHECK, {"why": "tried_elsewhere"}),
    (LeadState.SENT, {**IN_SALESFORCE, "owner_id": "00G5g00000AbCdEFGH"}),
    (LeadState.LINKED, {**IN_SALESFORCE, "linked_kind": "Lead", "why": Unfollowed.REASSIGNED}),
    (LeadState.SENT, {**IN_SALESFORCE, "why": Unfollowed.GONE}),
    (LeadState.SENT, {**IN_SALESFORCE, "opted_out": True}),
    (LeadState.SENT, {**IN_SALESFORCE, "is_deleted": True}),
    (LeadState.CONVERTED, IN_SALESFORCE),
    (LeadState.FOR_REVIEW, {"why": "over_limit"}),
    (LeadState.SENT, {**IN_SALESFORCE, "opted_out": True}),
)
