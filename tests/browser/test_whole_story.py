"""The whole story, as its people live it, in their browsers and mailboxes; with scripts and without.

An admin sets a firm up, its Salesforce admin completes that, an invited advisor connects and syncs. Then contacts are given away
and the advisor decides; someone signs up and confirms; someone opts out, someone unsubscribes; the permission is revoked and
given again; and in the morning a digest tells of it.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_string, policy
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from asapp.accounts import api_keys, mail_choices
from asapp.alerts import due_mails
from asapp.alerts.digest import DIGESTS
from asapp.audit.entries import ITSELF
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import MailChoice, Scope, User
from devtools.processes import Worker
from devtools.sample_sender import Sender, send_mails
from devtools.servers import RedisServer
from devtools.smtp_sink import MailServer, running_mail_server
from devtools.waiting import wait_for
from orgsim import Org, Running, start
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow
from tests.conftest import make_config

pytestmark = [pytest.mark.browser, pytest.mark.slow]

KEY, SECRET, PASSWORD = "3MVG9story", "C0FFEE5ECRET0123456789", "seven quiet harbours"
FIRM, CONTACTS, GIVEN_AWAY = "Harbour & Vine Advisory", 240, 100
PATIENCE_MS = 30_000
BLINK_MS = 2100  # a form that is filled in faster is asked about once more
SEEDS = itertools.count(9001)


@dataclass
class Story:
    house: BrowserHouse
    org: Running
    mails: MailServer
    amara: str  # Ids of Salesforce users
    jonas: str
    contacts: list[str]
    email: str

    @property
    def queues(self) -> Queues:
        found: Queues = self.house.app.extensions["asapp.queues"]
        return found

    def mail_to(self, address: str, words: str) -> str:
        """Wait for a mail to this address with these words in its subject or text; return its text."""

        def find() -> str | None:
            for raw in self.mails.taken:
                mail = message_from_string(raw, policy=policy.default)
                body = mail.get_body(("plain",))
                text = body.get_content() if body else ""
                if mail["To"] == address and words in f"{mail['Subject']}\n{text}":
                    return text
            return None

        return wait_for(find, f"for the mail with “{words}”")

    def link_in(self, address: str, words: str) -> str:
        found = re.search(rf"{re.escape(self.house.url)}\S+", self.mail_to(address, words))
        assert found
        return found.group()


@pytest.fixture(scope="module")
def posting_house(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> Iterator[tuple[BrowserHouse, MailServer]]:
    """A house of its own that sends mails."""
    folder = tmp_path_factory.mktemp("posting")
    shutil.copy(sqlite_template, folder / "asapp.db")
    with RedisServer() as redis, running_mail_server() as mails:
        config = make_config(f"sqlite:///{folder / 'asapp.db'}", redis.url, mail_url=mails.url)
        made = BrowserHouse(config, folder / "web.log")
        with Worker(made.config, folder / "worker.log"):
            yield made, mails
            made.close()


@pytest.fixture(params=[Htmx.CDN, Htmx.NO_SCRIPTS], ids=["with scripts", "without scripts"])
def htmx(request: pytest.FixtureRequest) -> Htmx:
    chosen: Htmx = request.param
    return chosen


@pytest.fixture
def story(posting_house: tuple[BrowserHouse, MailServer], htmx: Htmx) -> Iterator[Story]:
    house, mails = posting_house
    mails.taken.clear()  # those of another story
    org = Org(name="Harbour & Vine", seed=next(SEEDS))
    org.register_app(KEY, SECRET, [house.config.callback_url])
    amara, jonas = (org.add_user(name=name) for name in ("Amara Okafor", "Jonas Lindqvist"))
    rows = [
        {"owner_id": amara, "first_name": "Zoë", "last_name": f"Lindström {n:03}", "email": f"zoe.{n}@fjord.example"}
        for n in range(CONTACTS)
    ]
    with start(org) as running:
        yield Story(
            house, running, mails, amara, jonas, org.add_contacts(rows), f"amara.{htmx.name.lower()}@harbour.example"
        )


def test_the_whole_story(story: Story, open_page: OpenPage, htmx: Htmx) -> None:
    def someone() -> Page:
        return open_page(story.house, htmx=htmx, is_logged_in=False)

    admin = open_page(story.house, story.house.make_admin(), htmx)
    setup_link = an_admin_sets_the_firm_up(story, admin)
    the_salesforce_admin_completes_it(story, someone(), setup_link)
    an_advisor_is_invited(story, admin)

    advisor = someone()
    the_advisor_connects_and_syncs(story, advisor, htmx)
    a_hundred_contacts_are_given_away(story, advisor)
    the_advisor_keeps_them_and_decides_again(advisor)
    someone_signs_up_and_confirms(story, advisor, someone())
    someone_opts_out_in_salesforce(story, advisor)
    someone_unsubscribes_from_a_mailing(story, advisor, someone())
    the_permission_is_revoked_and_given_again(story, advisor)
    a_digest_tells_what_happened(story)


def an_admin_sets_the_firm_up(story: Story, admin: Page) -> str:
    """Return the setup link."""
    admin.goto(f"{story.house.url}/admin/partners/new")
    admin.get_by_label("Firm name").fill(FIRM)
    follow(admin, admin.get_by_role("button", name="Save"))
    admin.get_by_label("Confirm sign-ups by email").check()
    follow(admin, admin.get_by_role("button", name="Save"))
    admin.get_by_label("Name of the firm's Salesforce admin").fill("Henrik Sørensen")
    admin.get_by_label("Their email").fill(f"henrik.{story.email}")
    follow(admin, admin.get_by_role("button", name="Send setup link"))
    follow(admin, admin.get_by_role("link", name="Done"))
    return story.link_in(f"henrik.{story.email}", "Salesforce")


def the_salesforce_admin_completes_it(story: Story, henrik: Page, setup_link: str) -> None:
    henrik.goto(setup_link)
    follow(henrik, henrik.get_by_role("link", name="Next: enter key and secret"))
    henrik.get_by_label("Salesforce URL").fill(story.org.url)
    henrik.get_by_label("Consumer Key").fill(KEY)
    henrik.get_by_label("Consumer Secret").fill(SECRET)
    follow(henrik, henrik.get_by_role("button", name="Check and save"))
    expect(henrik.get_by_role("heading", name="Your org is ready")).to_be_visible()


def an_advisor_is_invited(story: Story, admin: Page) -> None:
    admin.reload()
    follow(admin, admin.get_by_role("link", name="Advisors (0)"))
    admin.get_by_label("Name").fill("Amara Okafor")
    admin.get_by_label("Email").fill(story.email)
    follow(admin, admin.get_by_role("button", name="Invite"))


def the_advisor_connects_and_syncs(story: Story, advisor: Page, htmx: Htmx) -> None:
    advisor.goto(story.link_in(story.email, "invited"))
    advisor.get_by_label("Password", exact=True).fill(PASSWORD)
    follow(advisor, advisor.get_by_role("button", name="Set password and log in"))
    advisor.get_by_role("button", name="Connect Account").click()
    advisor.get_by_role("button", name="Log in as Amara Okafor").click(timeout=PATIENCE_MS)
    allow(advisor)
    see(advisor, "Is this you?")
    if not htmx.loads:
        follow(advisor, advisor.get_by_role("link", name="Ask Salesforce how many contacts are yours"))
    expect(advisor.locator("#preview")).to_contain_text(f"{CONTACTS} ready to be emailed", timeout=PATIENCE_MS)
    sync(advisor, "Sync complete")
    expect(advisor.get_by_role("status")).to_contain_text(f"{CONTACTS} added")


def a_hundred_contacts_are_given_away(story: Story, advisor: Page) -> None:
    for salesforce_id in story.contacts[:GIVEN_AWAY]:
        story.org.org.give(salesforce_id, story.jonas)
    sync(advisor, "Sync held")
    see(advisor, "Jonas Lindqvist owns them now")
    follow(advisor, advisor.get_by_role("link", name="Contacts", exact=True))
    see(advisor, f"You can email {CONTACTS - GIVEN_AWAY} of them; {GIVEN_AWAY} wait for your decision")
    expect(advisor.get_by_role("link", name="Review")).to_be_visible()
    expect(advisor.locator(".banner")).to_contain_text(f"{GIVEN_AWAY} contacts")


def the_advisor_keeps_them_and_decides_again(advisor: Page) -> None:
    follow(advisor, advisor.get_by_role("link", name="Review"))
    advisor.get_by_role("button", name=f"Discard: keep {GIVEN_AWAY}").click()
    expect(advisor.get_by_role("status")).to_contain_text(f"You kept {GIVEN_AWAY} contacts")
    advisor.get_by_role("button", name="Change this decision").click()
    advisor.get_by_role("button", name=f"Approve: switch off {GIVEN_AWAY}").click()
    expect(advisor.get_by_role("status")).to_contain_text("Sync complete", timeout=PATIENCE_MS)
    expect(advisor.get_by_role("status")).to_contain_text(f"{GIVEN_AWAY} made inactive")


def someone_signs_up_and_confirms(story: Story, advisor: Page, visitor: Page) -> None:
    follow(advisor, advisor.get_by_role("link", name="Leads", exact=True))
    visitor.goto(advisor.get_by_label("Link", exact=True).input_value())
    visitor.get_by_label("First name").fill("Mei-Ling")
    visitor.get_by_label("Last name").fill("Chou")
    visitor.get_by_label("Email").fill("mei.chou@clients.example")
    visitor.get_by_role("checkbox").check()
    visitor.wait_for_timeout(BLINK_MS)
    follow(visitor, visitor.get_by_role("button", name="Sign up"))
    advisor.reload()
    expect(advisor.get_by_role("row", name="Mei-Ling Chou")).to_contain_text("Not confirmed")
    assert story.org.org.leads() == []
    visitor.goto(story.link_in("mei.chou@clients.example", "Amara Okafor"))
    follow(visitor, visitor.get_by_role("button", name="Yes, sign me up"))
    wait_for(lambda: [lead["Email"] for lead in story.org.org.leads()] == ["mei.chou@clients.example"], "for the lead")


def someone_opts_out_in_salesforce(story: Story, advisor: Page) -> None:
    story.org.org.opt_out(story.contacts[GIVEN_AWAY])
    sync(advisor, "Sync complete")
    advisor.goto(f"{story.house.url}/contacts?q=lindström+{GIVEN_AWAY:03}")
    see(advisor, "Opted out of email in Salesforce")


def someone_unsubscribes_from_a_mailing(story: Story, advisor: Page, reader: Page) -> None:
    with story.house.rows():
        key = api_keys.make_key("Mail engine", [Scope.AUDIENCE_READ, Scope.EVENTS_WRITE], None, None, ITSELF)
    engine, address = Sender(story.house.url, key), f"zoe.{GIVEN_AWAY + 1}@fjord.example"
    account = next(each for each in engine.advisors() if each["email"] == story.email)
    chosen = next(each for each in account["lists"] if each["name"] == "Salesforce Contacts")
    recipients = list(engine.recipients(engine.prepare(chosen["id"])))
    assert len(recipients) == CONTACTS - GIVEN_AWAY - 1
    send_mails([each for each in recipients if each["email"] == address], "Amara Okafor", story.mails.url)
    reader.goto(story.link_in(address, "Unsubscribe"))
    follow(reader, reader.get_by_role("button", name="Unsubscribe"))
    see(reader, "unsubscribed")
    assert engine.may_send(account["id"], [address]) == {address: "unsubscribed"}
    advisor.goto(f"{story.house.url}/contacts?q=lindström+{GIVEN_AWAY + 1:03}")
    see(advisor, "Unsubscribed from your emails")


def the_permission_is_revoked_and_given_again(story: Story, advisor: Page) -> None:
    story.org.org.revoke_approvals(story.amara)
    story.org.org.expire_sessions(story.amara)
    sync(advisor, "Needs reconnecting")
    follow(advisor, advisor.get_by_role("link", name="Contacts", exact=True))
    advisor.get_by_role("button", name="Connect Account").click()  # in the banner
    allow(advisor)  # still logged in at Salesforce
    expect(advisor.get_by_role("status")).to_contain_text("Connected", timeout=PATIENCE_MS)
    sync(advisor, "Sync complete")


def a_digest_tells_what_happened(story: Story) -> None:
    with story.house.rows():
        mail_choices.plan()
        user_id = db.session.scalars(select(User.id).where(User.email == story.email)).one()
        choice = db.session.get_one(MailChoice, user_id, populate_existing=True)
        choice.digest_due_at = choice.digest_until = utcnow() - timedelta(hours=1)
        db.session.commit()
        assert due_mails.write_due(DIGESTS, story.house.app.extensions["asapp.vault"], story.house.url) == 1
    story.queues.enqueue_letters()
    digest = story.mail_to(story.email, f"{GIVEN_AWAY} left")
    assert "who belongs to Jonas Lindqvist now" in digest
    assert "Mei-Ling Chou" in digest


def allow(page: Page) -> None:
    """On the org's own page, to which the page in between leads by itself."""
    page.get_by_role("button", name="Allow").click(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Sync Account").wait_for(timeout=PATIENCE_MS)


def sync(page: Page, ending: str) -> None:
    """Open the panel, press Sync Account, and wait for the end."""
    follow(page, page.get_by_role("link", name="Account Settings"))
    follow(page, page.get_by_role("link", name="Integrations"))
    panel = page.locator("#salesforce")
    before = panel.get_attribute("data-run")
    page.get_by_role("button", name="Sync Account").click()
    expect(panel).not_to_have_attribute("data-run", before or "", timeout=PATIENCE_MS)
    expect(page.get_by_role("status")).to_contain_text(ending, timeout=PATIENCE_MS)


def see(page: Page, words: str) -> None:
    expect(page.get_by_role("main")).to_contain_text(words, timeout=PATIENCE_MS)
