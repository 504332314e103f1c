"""A mailing from the list to the inbox: the mail engine prepares and sends, a person unsubscribes and stays unsubscribed."""

from __future__ import annotations

import re
from email import message_from_string
from email.message import Message

import pytest
from playwright.sync_api import Page, expect

from asapp.accounts import api_keys
from asapp.audit.entries import ITSELF
from asapp.models import Scope
from devtools.sample_sender import Sender, send_mails
from devtools.smtp_sink import MailServer, running_mail_server
from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import Htmx, follow, inspect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WITH_AND_WITHOUT = pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["htmx", "no scripts"])


def engine_of(firm: Firm) -> Sender:
    with firm.house.rows():
        key = api_keys.make_key("Mail engine", [Scope.AUDIENCE_READ, Scope.EVENTS_WRITE], None, None, ITSELF)
    return Sender(firm.house.url, key)


def send_to(firm: Firm, engine: Sender, mails: MailServer) -> list[Message]:
    """Prepare a send to all contacts from Salesforce, and return the mails that arrive, by address."""
    advisor = next(each for each in engine.advisors() if each["email"] == firm.email)
    chosen = next(each for each in advisor["lists"] if each["name"] == "Salesforce Contacts")
    send_mails(engine.recipients(engine.prepare(chosen["id"])), advisor["name"], mails.url)
    arrived = [message_from_string(text) for text in mails.taken]
    mails.taken.clear()
    return sorted(arrived, key=lambda mail: str(mail["To"]))


def link_in(mail: Message) -> str:
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    found = re.fullmatch(r"<(http\S+)>", re.sub(r"\s+", "", str(mail["List-Unsubscribe"])))
    assert found
    return found.group(1)


def state_of(page: Page, firm: Firm, email: str) -> str:
    page.goto(firm.url(f"/contacts?q={email}"))
    return page.get_by_role("main").inner_text()


@WITH_AND_WITHOUT
def test_a_person_unsubscribes_from_a_mailing(firm: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    firm.fill(3)
    firm.connect()
    firm.sync()
    engine = engine_of(firm)
    advisor, reader = open_page(firm, htmx=htmx), open_page(firm, htmx=htmx, is_logged_in=False)
    with running_mail_server() as mails:
        arrived = send_to(firm, engine, mails)
        assert [str(mail["To"]) for mail in arrived] == [f"zoe.{n}@fjord.example" for n in range(3)]

        # Opening the link changes nothing yet.
        reader.goto(link_in(arrived[0]))
        expect(reader.get_by_role("heading", level=1)).to_have_text("Stop these emails?")
        expect(reader.get_by_role("main")).to_contain_text("z•••@f•••.example")
        if htmx.loads:
            inspect(reader, "unsubscribe-ask")
        follow(reader, reader.get_by_role("button", name="Unsubscribe"))
        expect(reader.get_by_role("status")).to_contain_text("any more")
        if htmx.loads:
            inspect(reader, "unsubscribe-done")
        assert "Unsubscribed" in state_of(advisor, firm, "zoe.0@fjord.example")

        # The person undoes it.
        follow(reader, reader.get_by_role("button", name="Undo"))
        expect(reader.get_by_role("heading", level=1)).to_have_text("You're still subscribed")
        if htmx.loads:
            inspect(reader, "unsubscribe-undone")
        assert "Active" in state_of(advisor, firm, "zoe.0@fjord.example")

        # The person unsubscribes from the whole firm; another person uses the one-click button of their mail program.
        reader.goto(link_in(arrived[0]))
        reader.get_by_label("Everyone at").check()
        follow(reader, reader.get_by_role("button", name="Unsubscribe"))
        expect(reader.get_by_role("status")).to_contain_text("No one at")
        answer = reader.request.post(link_in(arrived[1]), form={"List-Unsubscribe": "One-Click"})
        assert answer.status == 200

        # In Salesforce the person has not opted out, but a sync does not make the contact active again.
        firm.sync()
        assert [str(mail["To"]) for mail in send_to(firm, engine, mails)] == ["zoe.2@fjord.example"]

    advisor.goto(firm.url("/contacts?state=unsubscribed"))
    follow(advisor, advisor.get_by_role("link", name="Zoë Lindström 000", exact=True))
    expect(advisor.get_by_role("main")).to_contain_text("Unsubscribed from your emails")
    expect(advisor.get_by_role("main")).to_contain_text("for everyone at your firm")
    if htmx.loads:
        inspect(advisor, "contact-unsubscribed")


def test_a_link_that_was_cut_short_says_what_to_do(firm: Firm, open_page: OpenPage) -> None:
    reader = open_page(firm, is_logged_in=False)
    reader.goto(firm.url("/u/AbC"))
    expect(reader.get_by_role("heading", level=1)).to_have_text("This link is incomplete")
    inspect(reader, "unsubscribe-invalid")
