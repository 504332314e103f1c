"""A firm writes unsubscribes back to Salesforce: set by an admin, seen in the org, and on the contact's page."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select, update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import OptOutWrite, User, WriteBackState
from asapp.writeback import outbox
from devtools.waiting import wait_for
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import follow, inspect
from tests.mail_links import path_of_link

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def undo_is_over(firm: Firm) -> None:
    """Let the ten minutes for undoing pass, and run the tick."""
    queues: Queues = firm.house.app.extensions["asapp.queues"]
    with firm.house.rows():
        db.session.execute(update(OptOutWrite).values(next_attempt_at=utcnow() - timedelta(seconds=1)))
        db.session.commit()
        outbox.enqueue_due(queues.enqueue_opt_outs)


def state_of(firm: Firm, salesforce_id: str) -> str:
    with firm.house.rows():
        return db.session.scalars(select(OptOutWrite.state).where(OptOutWrite.salesforce_id == salesforce_id)).one()


def unsubscribe(firm: Firm, page: Page, number: int) -> None:
    with firm.house.rows():
        path = path_of_link(db.session.get_one(User, firm.advisor_id), f"zoe.{number}@fjord.example")
    page.goto(firm.url(path))
    page.get_by_role("button", name="Unsubscribe").click()
    expect(page.get_by_role("main")).to_contain_text("You")


def open_contact(firm: Firm, page: Page, number: int) -> None:
    page.goto(firm.url(f"/contacts?q=lindström+{number:03}"))
    follow(page, page.get_by_role("link", name=f"Zoë Lindström {number:03}", exact=True))


def test_from_the_firms_setting_to_the_contacts_page(house: BrowserHouse, firm: Firm, open_page: OpenPage) -> None:
    firm.fill(3)
    firm.connect()
    assert firm.sync().is_complete
    admin, advisor, person = open_page(house, house.make_admin()), open_page(firm), open_page(firm, is_logged_in=False)

    admin.goto(firm.url(f"/admin/partners/{firm.slug}"))
    admin.get_by_label("Tell Salesforce when someone unsubscribes").check()
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.get_by_role("main")).to_contain_text("Email Opt Out may be set")
    expect(admin.get_by_role("main")).to_contain_text("0 told, 0 waiting, 0 refused.")

    unsubscribe(firm, person, 0)
    open_contact(firm, advisor, 0)
    expect(advisor.get_by_role("main")).to_contain_text("Salesforce will be told within minutes")
    undo_is_over(firm)
    wait_for(lambda: state_of(firm, firm.ids[0]) == WriteBackState.TOLD, "for Salesforce to be told")
    advisor.reload()
    expect(advisor.get_by_role("main")).to_contain_text("Salesforce was told on")
    inspect(advisor, "contact-told")

    person.goto(firm.running.url)
    follow(person, person.get_by_role("link", name="Opted out by integration 1"))
    expect(person.get_by_role("row", name="Zoë Lindström 000")).to_contain_text("Amara Okafor")
    inspect(person, "org-opted-out-by-integration")

    firm.org.change_settings(
        validation_rules=[
            {"sobject": "Contact", "field": "Phone", "when": "blank", "message": "Bitte Telefon angeben."}
        ]
    )
    unsubscribe(firm, person, 1)
    redis = firm.house.app.extensions["asapp.queues"].redis
    redis.flushdb()  # the next delivery of this minute
    undo_is_over(firm)
    wait_for(lambda: state_of(firm, firm.ids[1]) == WriteBackState.REFUSED, "for the refusal")
    open_contact(firm, advisor, 1)
    expect(advisor.get_by_role("main")).to_contain_text("stopped it: “Bitte Telefon angeben.”")
    inspect(advisor, "contact-not-told")
    admin.reload()
    expect(admin.get_by_role("main")).to_contain_text("Stopped by a rule of the firm: 1 record")
    inspect(admin, "partner-opt-outs")

    firm.org.change_settings(validation_rules=[])
    redis.flushdb()
    advisor.get_by_role("button", name="Tell Salesforce again").click()
    wait_for(lambda: state_of(firm, firm.ids[1]) == WriteBackState.TOLD, "for Salesforce to be told")
    advisor.reload()
    expect(advisor.get_by_role("main")).to_contain_text("Salesforce was told on")
