"""Preparing a send: Salesforce is asked about the changes and each recipient; the send is ready, or stale with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from asapp.contacts import lists, recipients, removal
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    ConnectionStatus,
    Contact,
    ContactList,
    ContactSource,
    ListKind,
    Partner,
    RunStatus,
    RunTrigger,
    Send,
    SendReason,
    SendState,
    SyncRun,
    User,
)
from asapp.salesforce.hosts import to_18
from asapp.sends import prepare, sends
from asapp.sync import runs
from asapp.sync.run_context import JobContext
from orgsim import Running
from tests.factories import make_advisor, make_contact, org_access
from tests.listing import ListOffice
from tests.syncing import MeetingAccess, Office

ROSE, RAVI, MEI = "rose@fjord.example", "ravi@fjord.example", "mei@fjord.example"
BY_HAND = "hand@a.example"
RETRIEVE = 2  # the call that asks about the recipients, after the one for the changes


class SendingOffice(Office):
    """An office with a mail engine; its sends are carried out here, job by job."""

    while_asked: Callable[[], None] | None = None  # called once, after the changes were read

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.enqueued: list[int] = []

    def workplace(self, between_pages: Callable[[], None] = lambda: None) -> JobContext:
        numbers = count(1)

        def meet() -> None:
            deed = self.while_asked
            if next(numbers) == RETRIEVE and deed:
                self.while_asked = None
                deed()

        access = org_access(MeetingAccess, between_pages=between_pages, meet=meet)
        return replace(super().workplace(), access=access)

    def enqueue(self, run_ids: Sequence[int]) -> bool:
        self.enqueued += run_ids
        return True

    def list_of_contacts(self) -> ContactList:
        found = select(ContactList).where(
            ContactList.user_id == self.advisor.id, ContactList.kind == ListKind.SALESFORCE_CONTACTS
        )
        return db.session.scalars(found).one()

    def begin(self, send_id: str = "s-1", *, on: ContactList | None = None, max_age_minutes: int = 60) -> Send:
        send = sends.start_send(0, send_id, on or self.list_of_contacts(), max_age_minutes)
        prepare.advance(send.id, self.enqueue)
        return self.reload(send)

    def carry_out(self, send: Send) -> Send:
        """Run the sync that the send waits for, and move the send on."""
        run = db.session.get_one(SyncRun, self.reload(send).run_id)
        self.resume(run)
        prepare.advance_sends_of(run.id, self.enqueue)
        return self.reload(send)

    def prepare(self, send_id: str = "s-1", **more: Any) -> Send:
        return self.carry_out(self.begin(send_id, **more))

    def recipients(self, send: Send) -> list[str]:
        contact_list = db.session.get_one(ContactList, self.reload(send).list_id)
        vault, asked_at = org_access().vault, self.reload(send).asked_at
        audience = recipients.prepare(contact_list, utcnow(), vault, "http://asapp.example", asked_at)
        return sorted(each["email"] for each in recipients.iter_recipients(audience))

    def let_send_age(self, send: Send, by: timedelta) -> None:
        send.deadline_at -= by
        self.save()


@pytest.fixture
def office(app: Flask, org: Running) -> SendingOffice:
    return SendingOffice(org)


@pytest.fixture
def synced(office: SendingOffice) -> SendingOffice:
    office.ids = {email: office.add(email=email) for email in (ROSE, RAVI, MEI)}  # type: ignore[attr-defined]
    office.sync()
    return office


def test_a_send_starts_a_sync_of_its_own_and_is_ready_for_an_hour(synced: SendingOffice) -> None:
    send = synced.begin()
    assert (send.state, synced.enqueued) == (SendState.PREPARING, [send.run_id])
    run = db.session.get_one(SyncRun, send.run_id)
    assert run.trigger == RunTrigger.SEND
    before = utcnow()
    send = synced.carry_out(send)
    assert (send.state, send.reason) == (SendState.READY, None)
    assert send.as_of is not None
    assert send.as_of >= before - timedelta(seconds=5)
    assert send.expires_at is not None
    assert timedelta(minutes=59) < send.expires_at - utcnow() <= timedelta(minutes=60)
    assert synced.recipients(send) == [MEI, RAVI, ROSE]


def test_it_joins_the_sync_that_is_going_on(synced: SendingOffice) -> None:
    run = synced.start()
    send = synced.begin()
    assert send.run_id == run.id
    assert synced.carry_out(send).state == SendState.READY


def test_changes_without_a_stamp_are_found_before_a_send(synced: SendingOffice) -> None:
    """An opt-out by a formula, an owner set by a territory, a record that is hidden: none of these moves a stamp."""
    ids = synced.ids  # type: ignore[attr-defined]
    synced.org.change_without_stamp(ids[ROSE], HasOptedOutOfEmail=True)
    synced.org.hide_contact(ids[RAVI])
    send = synced.prepare()
    assert send.state == SendState.READY
    assert synced.recipients(send) == [MEI]


def test_a_contact_that_was_given_away_without_a_stamp_is_no_recipient(synced: SendingOffice) -> None:
    """One came in exchange, so the counts are equal and only the look by Id can tell."""
    ids = synced.ids  # type: ignore[attr-defined]
    long_ago = synced.org.clock.now() - timedelta(days=30)
    theirs = synced.org.add_contact(synced.colleague, last_name="Theirs", email="t@edge.example", stamp=long_ago)
    synced.org.change_without_stamp(theirs, OwnerId=synced.user)
    synced.org.change_without_stamp(ids[RAVI], OwnerId=synced.colleague)
    send = synced.prepare()
    assert send.state == SendState.READY
    assert synced.recipients(send) == [MEI, ROSE]


def test_a_changed_address_is_written_to_under_the_new_one(synced: SendingOffice) -> None:
    ids = synced.ids  # type: ignore[attr-defined]
    synced.org.change_without_stamp(ids[ROSE], Email="rose@new.example")
    assert synced.recipients(synced.prepare()) == [MEI, RAVI, "rose@new.example"]


def test_people_in_a_held_proposal_are_left_out(office: SendingOffice) -> None:
    ids = office.fill(40)
    office.sync()
    for each in ids[:20]:
        office.org.hide_contact(each)
    send = office.prepare()
    assert send.state == SendState.READY
    assert db.session.get_one(SyncRun, send.run_id).status == RunStatus.HELD
    assert len(office.recipients(send)) == 20


def test_a_send_that_comes_after_the_look_at_recipients_gets_another_sync(synced: SendingOffice) -> None:
    run = synced.start()
    synced.resume(run)
    db.session.rollback()
    send = sends.start_send(0, "late", synced.list_of_contacts(), 60)
    db.session.execute(update(Send).where(Send.id == send.id).values(run_id=run.id))
    db.session.commit()
    prepare.advance_sends_of(run.id, synced.enqueue)
    send = synced.reload(send)
    assert send.state == SendState.PREPARING
    assert send.run_id != run.id
    assert synced.carry_out(send).state == SendState.READY


def test_a_list_without_anyone_from_salesforce_asks_no_one(app: Flask) -> None:
    alice = make_advisor()
    make_contact(alice)
    mine = ContactList(user_id=alice.id, name="Mine", name_key="mine")
    db.session.add(mine)
    db.session.commit()
    send = sends.start_send(0, "s-1", mine, 60)
    prepare.advance(send.id, lambda _ids: pytest.fail("no sync is needed"))
    assert db.session.get_one(Send, send.id, populate_existing=True).state == SendState.READY


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("needs_reconnect", SendReason.NEEDS_RECONNECT),
        ("paused", SendReason.API_ALLOWANCE),
        ("disconnected", SendReason.DISCONNECTED),
        ("disabled", SendReason.NOT_SET_UP),
        ("inactive", SendReason.ADVISOR_INACTIVE),
    ],
)
def test_the_reason_why_salesforce_can_not_be_asked_is_given(
    synced: SendingOffice, trouble: str, reason: SendReason
) -> None:
    contact_list = synced.list_of_contacts()
    if trouble in ("needs_reconnect", "disconnected"):
        synced.connection.status = ConnectionStatus(trouble)
    elif trouble == "paused":
        synced.connection.partner.paused_until = utcnow() + timedelta(hours=1)
    elif trouble == "disabled":
        synced.connection.partner.is_enabled = False
    else:
        synced.advisor.deactivated_at = utcnow()
    synced.save()
    send = synced.begin(on=contact_list)
    is_refusal = trouble in ("disconnected", "disabled", "inactive")
    assert (send.state, send.reason) == (SendState.REFUSED if is_refusal else SendState.STALE, reason)
    assert send.ended_at is not None


@pytest.mark.parametrize(
    ("hours", "max_age", "age", "state"),
    [
        (None, 10_000, 1, SendState.STALE),
        (12, 10_000, 1, SendState.READY),
        (12, 10_000, 13, SendState.STALE),
        (12, 30, 1, SendState.STALE),
    ],
)
def test_older_data_is_good_enough_only_where_firm_and_sender_say_so(
    synced: SendingOffice, hours: int | None, max_age: int, age: int, state: SendState
) -> None:
    partner = db.session.get_one(Partner, synced.connection.partner_id)
    partner.sends_on_data_of_hours, partner.paused_until = hours, utcnow() + timedelta(hours=1)
    known_at = synced.connection.last_good_sync_at = utcnow() - timedelta(hours=age)
    synced.save()
    send = synced.begin(max_age_minutes=max_age)
    assert send.state == state
    assert send.as_of == known_at


def test_a_sync_that_fails_makes_the_send_stale(synced: SendingOffice) -> None:
    send = synced.begin()
    synced.org.trouble.add("server_unavailable_html", kind="composite", times=10)
    send = synced.carry_out(send)
    assert (send.state, send.reason) == (SendState.STALE, SendReason.SALESFORCE_AWAY)
    assert send.expires_at is None


def test_a_firms_admin_who_hides_the_field_makes_the_send_stale(synced: SendingOffice) -> None:
    send = synced.begin()
    synced.org.hide_field("Contact", "HasOptedOutOfEmail")
    send = synced.carry_out(send)
    assert (send.state, send.reason) == (SendState.STALE, SendReason.WAITING_FOR_ADMIN)


def test_no_send_is_prepared_for_ever(synced: SendingOffice) -> None:
    send = synced.begin()
    synced.let_send_age(send, timedelta(minutes=6))
    assert synced.reload(send).outcome(utcnow()) == (SendState.STALE, SendReason.TOOK_TOO_LONG)
    prepare.advance_all(synced.enqueue)
    send = synced.reload(send)
    assert (send.state, send.reason) == (SendState.STALE, SendReason.TOOK_TOO_LONG)


def test_a_send_that_was_reported_as_stale_stays_stale(synced: SendingOffice) -> None:
    """Its sender has read that it took too long, by the clock alone; a sync that ends well after that changes nothing."""
    send = synced.begin()
    synced.let_send_age(send, timedelta(minutes=6))
    assert synced.reload(send).outcome(utcnow()) == (SendState.STALE, SendReason.TOOK_TOO_LONG)
    send = synced.carry_out(send)
    assert (send.state, send.reason) == (SendState.STALE, SendReason.TOOK_TOO_LONG)


@pytest.mark.parametrize(("hours", "state"), [(None, SendState.STALE), (12, SendState.READY)])
def test_older_data_is_taken_before_the_time_is_over(
    synced: SendingOffice, hours: int | None, state: SendState
) -> None:
    db.session.get_one(Partner, synced.connection.partner_id).sends_on_data_of_hours = hours
    synced.save()
    send = synced.begin()
    synced.let_send_age(send, timedelta(minutes=4))
    prepare.advance_all(synced.enqueue)
    assert synced.reload(send).state == SendState.PREPARING
    synced.let_send_age(send, timedelta(seconds=40))
    prepare.advance_all(synced.enqueue)
    send = synced.reload(send)
    assert (send.state, send.deadline_at > utcnow()) == (state, True)


def test_a_sync_that_had_begun_before_the_send_is_followed_by_another(synced: SendingOffice) -> None:
    """Its changes were asked for before the send was: a record that came since, opted out and with Rose's address, is in none."""
    synced.org.change_settings(page_sizes=200)
    synced.org.add_contacts(
        [{"owner_id": synced.user, "last_name": f"Śliwa {n}", "email": f"c{n}@fjord.example"} for n in range(450)]
    )
    begun: list[Send] = []

    def ask_for_a_send(_run: SyncRun) -> None:
        if not begun:
            synced.add(email=ROSE.upper(), opted_out=True)
            begun.append(synced.begin())

    run = synced.sync(on_page=ask_for_a_send)
    send = synced.reload(begun[0])
    assert (run.status, send.run_id) == (RunStatus.COMPLETE, run.id)
    prepare.advance_sends_of(run.id, synced.enqueue)
    send = synced.reload(send)
    assert (send.state, synced.enqueued) == (SendState.PREPARING, [send.run_id])
    send = synced.carry_out(send)
    assert send.state == SendState.READY
    assert ROSE not in synced.recipients(send)


def test_what_a_dead_process_left_is_moved_on_by_the_tick(synced: SendingOffice) -> None:
    send = sends.start_send(0, "s-1", synced.list_of_contacts(), 60)  # and no job came
    prepare.advance_all(synced.enqueue)
    send = synced.reload(send)
    synced.resume(db.session.get_one(SyncRun, send.run_id))  # and its process died before the send was moved on
    prepare.advance_all(synced.enqueue)
    assert synced.reload(send).state == SendState.READY


def test_the_same_send_is_prepared_once(synced: SendingOffice) -> None:
    first = synced.begin()
    second = synced.begin()
    assert (first.id, first.run_id) == (second.id, second.run_id)
    with pytest.raises(sends.SendDiffers):
        sends.start_send(0, "s-1", synced.list_of_contacts(), 61)


def test_a_send_that_has_ended_stays_as_it_is(synced: SendingOffice) -> None:
    send = synced.prepare()
    before = (send.state, send.as_of, send.ended_at, send.expires_at)
    prepare.advance(send.id, synced.enqueue)
    send = synced.reload(send)
    assert (send.state, send.as_of, send.ended_at, send.expires_at) == before


def test_a_list_of_people_from_leads_asks_salesforce_too(synced: SendingOffice) -> None:
    followed = {"source": ContactSource.LEAD, "followed_by_id": synced.connection.id, "is_lead": True}
    make_contact(synced.advisor, salesforce_id=to_18("00Q5g0000000001"), **followed)
    leads = select(ContactList).where(
        ContactList.user_id == synced.advisor.id, ContactList.kind == ListKind.SALESFORCE_LEADS
    )
    send = synced.begin(on=db.session.scalars(leads).one())
    assert (send.state, synced.enqueued) == (SendState.PREPARING, [send.run_id])


def test_many_recipients_are_asked_about_side_by_side(office: SendingOffice) -> None:
    ids = office.fill(4500)
    office.sync()
    office.org.change_without_stamp(ids[4400], HasOptedOutOfEmail=True)
    send = office.prepare()
    assert send.state == SendState.READY
    run = db.session.get_one(SyncRun, send.run_id)
    assert run.api_calls <= 8
    contact_list = office.list_of_contacts()
    audience = recipients.prepare(contact_list, utcnow(), org_access().vault, "http://asapp.example")
    assert sum(1 for _ in recipients.iter_recipients(audience)) == 4499


def test_open_leads_are_asked_about_by_id_too(synced: SendingOffice) -> None:
    synced.connection.partner.brings_in_open_leads = True
    synced.save()
    leads = {name: synced.org.add_lead(synced.user, last_name=name, email=f"{name}@lead.example") for name in "abcd"}
    synced.sync()
    open_leads = select(ContactList).where(ContactList.kind == ListKind.OPEN_LEADS)
    synced.org.change_without_stamp(leads["a"], HasOptedOutOfEmail=True)
    synced.org.hide_contact(leads["b"])
    synced.org.convert_lead(leads["c"])
    send = synced.prepare(on=db.session.scalars(open_leads).one())
    assert send.state == SendState.READY
    assert synced.recipients(send) == ["d@lead.example"]
    synced.org.trouble.add("server_unavailable", kind="collections", times=9)
    send = synced.prepare("s-2", on=db.session.scalars(open_leads).one())
    assert send.state == SendState.PREPARING  # another sync asks again; after five minutes it is stale


# ---- Opt-outs that move no stamp, as of a formula or a related record: only asking by Id finds them


class SendingListOffice(SendingOffice, ListOffice):
    """A mail engine, and lists that follow Salesforce."""


@pytest.fixture
def listing(app: Flask, org: Running) -> SendingListOffice:
    return SendingListOffice(org)


def contact_of(salesforce_id: str) -> Contact:
    return db.session.query(Contact).filter_by(salesforce_id=to_18(salesforce_id)).one()


def made_by_hand(office: Office, advisor: User) -> Contact:
    return make_contact(advisor, email=BY_HAND, address_hash=office.hash(BY_HAND))


def test_who_joins_the_list_while_it_is_prepared_is_asked_about_too(listing: SendingListOffice) -> None:
    made = listing.follow(listing.view())
    listing.org.clock.advance(3600)
    listing.sync()
    listing.state(made).asked_at = utcnow() - timedelta(minutes=20)
    listing.save()
    listing.org.change_without_stamp(listing.hal, MailingCity="Kent", HasOptedOutOfEmail=True)
    send = listing.begin(on=made)
    first = send.run_id
    send = listing.carry_out(send)
    assert send.is_preparing  # Hal has come with that run, after it had asked
    assert send.run_id != first
    send = listing.carry_out(send)
    assert (send.state, listing.recipients(send)) == (SendState.READY, ["rose@a.example", "zoe@a.example"])


@pytest.mark.parametrize(("joins", "is_asked_again"), [("hal", True), ("by hand", False)])
def test_only_who_is_in_salesforce_is_asked_about_after_joining_meanwhile(
    listing: SendingListOffice, joins: str, is_asked_again: bool
) -> None:
    own = lists.create_list(listing.advisor.id, "Mine")
    lists.add_members(own, [contact_of(listing.rose).id])
    advisor_id, list_id, hal = listing.advisor.id, own.id, contact_of(listing.hal).id

    def join() -> None:
        db.session.rollback()
        joining = hal if joins == "hal" else made_by_hand(listing, db.session.get_one(User, advisor_id)).id
        lists.add_members(db.session.get_one(ContactList, list_id), [joining])

    listing.while_asked = join
    send = listing.prepare(on=own)
    assert send.is_preparing == is_asked_again
    if is_asked_again:
        send = listing.carry_out(send)
    expected = ["hal@a.example" if joins == "hal" else BY_HAND, "rose@a.example"]
    assert (send.state, listing.recipients(send)) == (SendState.READY, expected)


def test_who_is_in_salesforce_and_is_put_on_the_list_after_it_was_prepared_is_left_out(
    listing: SendingListOffice,
) -> None:
    own = lists.create_list(listing.advisor.id, "Mine")
    lists.add_members(own, [contact_of(listing.rose).id])
    send = listing.prepare(on=own)
    listing.org.change_without_stamp(listing.hal, HasOptedOutOfEmail=True)
    by_hand = made_by_hand(listing, listing.advisor)
    lists.add_members(own, [contact_of(listing.hal).id, by_hand.id])
    assert listing.recipients(send) == [BY_HAND, "rose@a.example"]
    assert listing.recipients(listing.prepare("s-2", on=own)) == [BY_HAND, "rose@a.example"]  # Hal has opted out


def test_who_was_deleted_here_and_is_restored_was_asked_about_as_well(synced: SendingOffice) -> None:
    synced.org.clock.advance(3600)  # so that the next sync doesn't read her row again
    synced.sync()
    contact = contact_of(synced.ids[ROSE])  # type: ignore[attr-defined]
    removal.remove_contacts(synced.advisor.id, [contact.id])
    synced.org.change_without_stamp(synced.ids[ROSE], HasOptedOutOfEmail=True)  # type: ignore[attr-defined]
    send = synced.prepare()
    removal.restore_contacts(synced.advisor.id, [contact.id])
    assert synced.recipients(send) == [MEI, RAVI]


def test_a_send_on_older_data_leaves_no_one_out_for_joining_later(listing: SendingListOffice) -> None:
    """The age that the firm allows holds for everyone alike."""
    listing.connection.partner.sends_on_data_of_hours = 24
    listing.save()
    own = lists.create_list(listing.advisor.id, "Mine")
    lists.add_members(own, [contact_of(listing.rose).id, contact_of(listing.zoe).id])
    listing.org.trouble.add("server_unavailable")
    send = listing.prepare(on=own)
    assert (send.state, send.asked_at) == (SendState.READY, None)
    assert listing.recipients(send) == ["rose@a.example", "zoe@a.example"]


def test_a_send_that_joins_a_waiting_scheduled_sync_moves_it_ahead(synced: SendingOffice) -> None:
    run = runs.start_run(synced.connection, RunTrigger.SCHEDULED, lambda ids: True)
    assert run is not None
    send = synced.begin()
    assert (send.run_id, synced.enqueued) == (run.id, [run.id])
    assert synced.carry_out(send).state == SendState.READY
