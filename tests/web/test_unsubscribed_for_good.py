"""One person unsubscribes with one click. Whatever happens then, here and in Salesforce, only that person ends it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func

from asapp.connections import connect, connections
from asapp.contacts import lists, manual
from asapp.contacts.form_fields import Details
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import sign_up_page
from asapp.models import Contact
from orgsim import Running
from tests.connecting import visit
from tests.factories import org_access
from tests.listing import ListOffice
from tests.senders import Sender, make_key
from tests.signing_up import PostOffice
from tests.web.test_optin import send

ROSE, ZOE, OTHER = "rose@a.example", "zoe@a.example", "other@a.example"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


class Life(ListOffice, PostOffice):
    """What the mail engine gets about Rose, who unsubscribes, and Zoe, who doesn't."""

    def __init__(self, running: Running, client: FlaskClient) -> None:
        super().__init__(running)
        self.client, self.sender = client, Sender(client, make_key())

    def recipients(self) -> dict[str, str]:
        """Return {address: unsubscribe link} of all recipients, on whichever list."""
        [advisor] = self.sender.get("/advisors").get_json()["advisors"]
        pages = [self.sender.get(f"/lists/{each['id']}/recipients").get_json() for each in advisor["lists"]]
        return {each["email"].lower(): each["unsubscribe_url"] for page in pages for each in page["recipients"]}

    def reason(self) -> str | None:
        """Return what may-send gives as the reason."""
        asked = {"advisor_id": self.advisor.public_id, "emails": [ROSE]}
        [result] = self.sender.post("/may-send", asked).get_json()["results"]
        assert result["may_send"] == (result["reason"] is None)
        return str(result["reason"]) if result["reason"] else None

    def statuses(self) -> list[str | None]:
        """Return why each contact with Rose's address is inactive, or None."""
        db.session.rollback()
        of_rose = contact_rows(reason_of(utcnow())).where(func.lower(Contact.email) == ROSE)
        return list(db.session.scalars(of_rose.order_by(Contact.id)))

    def check(self, step: str, *reasons: str) -> None:
        """Rose is no recipient, for one of these reasons; Zoe is one while an account is connected."""
        told, statuses, recipients = self.reason(), self.statuses(), self.recipients()
        assert told in (reasons or ("unsubscribed",)), step
        assert None not in statuses, step
        is_connected = connections.find_current(self.advisor) is not None
        assert (ROSE in recipients, ZOE in recipients) == (False, is_connected), step

    def check_written_to(self) -> None:
        assert self.reason() is None
        assert None in self.statuses()
        assert {ROSE, ZOE} <= set(self.recipients())

    # What happens

    def one_click(self) -> None:
        """Press the mail program's button, with the link that she gets now."""
        link = self.recipients()[ROSE]
        answer = self.client.post(urlsplit(link).path, data=ONE_CLICK, forged=True)
        assert answer.status_code == 200

    def opt_in(self) -> None:
        page = sign_up_page.ensure_page(self.advisor)
        assert send(self.client, f"/o/{page.slug}", email=ROSE).status_code == 303
        self.deliver()
        self.sync()

    def opt_out_there(self, opted_out: bool = True) -> None:
        for each in self.org.contacts(self.user):
            if (each["Email"] or "").lower() == ROSE:
                self.org.update_contact(each["Id"], HasOptedOutOfEmail=opted_out)
        self.sync()

    def disconnect(self, *, keep: bool) -> None:
        assert connections.disconnect(self.reload(self.connection), keep, org_access())

    def reconnect(self) -> None:
        partner = self.connection.partner
        url = connect.begin(self.advisor, partner, org_access())
        assert url
        assert connect.finish(self.advisor, visit(url, self.user), org_access()) == "connected"
        db.session.expire_all()
        connection = connections.find_current(self.advisor)
        assert connection
        self.connection = connection

    def sync_later(self) -> None:
        """Sync when the last changes are older than what each sync reads again; this one also sweeps."""
        self.org.clock.advance(3600)
        self.let_a_day_pass()
        self.sync()


@pytest.fixture
def life(app: Flask, org: Running, client: FlaskClient) -> Life:
    return Life(org, client)


def deeds(life: Life) -> Iterator[tuple[str, ...]]:
    """Yield (what has happened, what may be the reason) after each step."""
    org = life.org
    life.sync()
    yield ("a sync",)
    life.sync_later()
    yield ("a full check",)
    org.opt_out(life.rose)
    life.sync()
    org.opt_in(life.rose)
    life.sync()
    yield ("opted out and in again in Salesforce",)

    life.disconnect(keep=True)
    yield ("disconnected",)
    life.reconnect()
    life.sync()
    yield ("connected again as the same user",)
    life.disconnect(keep=False)
    yield ("disconnected, and the contacts removed",)
    life.reconnect()
    life.sync()
    yield ("imported again",)

    org.delete(life.rose)
    life.sync()
    yield "deleted in Salesforce", "deleted"
    again = life.live("Rose", "Kent")
    life.sync()
    yield ("created again in Salesforce",)
    winner = life.live("Roseanne", "Hull", email=ROSE.upper())
    life.sync()
    yield ("a second record",)
    org.merge(winner, [again])
    life.sync()
    yield "merged", "merged"
    org.update_contact(winner, email=OTHER)
    life.sync()
    yield "another address", "merged", "deleted"
    org.update_contact(winner, email=ROSE)
    life.sync()
    yield ("her address again",)

    life.connection.partner.brings_in_open_leads = True
    life.save()
    lead = org.add_lead(life.user, last_name="Walk-in", email=ROSE)
    life.sync_later()
    yield ("an open lead",)
    org.convert_lead(lead)
    life.sync()
    yield ("her lead is converted",)

    life.org.update_contact(winner, MailingCity="Kent")
    followed = life.follow(life.view())
    assert winner in life.on(followed)
    yield ("imported under another list, one of Salesforce's",)
    own = life.put_on_list(winner, "Friends")
    details = Details("Rose", "By hand", ROSE)
    by_hand = manual.add_contact(life.advisor, details, org_access().vault, keep_same_address=True)
    lists.add_members(own, [by_hand.id])
    yield ("imported by hand, on a list of the advisor's own",)
    life.sync_later()
    yield ("the last sync",)


def test_one_click_holds_until_the_person_opts_in_again(life: Life) -> None:
    assert life.reason() is None
    life.one_click()
    life.check("one click")
    for step, *reasons in deeds(life):
        life.check(step, *reasons)
    life.opt_in()
    life.check_written_to()

    life.one_click()
    life.check("one click again")
    life.opt_out_there()
    life.check("opted out in Salesforce")
    life.opt_in()
    life.check("opted in again here, opted out in Salesforce", "opted_out", "twin_opted_out")
    life.opt_out_there(False)
    life.check_written_to()
