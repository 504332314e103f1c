"""What happened to an advisor's contacts, day by day, from what syncs, sign-ups and unsubscribes leave."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from flask import Flask, current_app

from asapp.accounts import visits
from asapp.contacts import removal, suppressions
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.suppressions import Address, Happened
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.changes import ChangeKind
from asapp.models import SuppressionSource, SuppressionStep, User
from asapp.panel import changes
from asapp.panel.changes import Account, Day, Entry, Wanted
from orgsim import Running
from tests.factories import make_advisor, make_contact, make_run, make_synced_connection, save
from tests.signing_up import someone_signs_up
from tests.syncing import Office


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


def lately(kind: str = "", search: str = "") -> Wanted:
    return Wanted(utcnow() - timedelta(hours=1), utcnow() + timedelta(hours=1), kind, search)


def days_of(account: Account, first: date, last: date) -> list[Day]:
    return changes.find_days(account, first, last, changes.find_counts(account, changes.between(first, last)))


def told(entries: list[Entry]) -> set[tuple[str, str, str]]:
    return {(entry.what, entry.name, entry.details) for entry in entries}


def test_two_syncs_leave_a_day_that_tells_everything(office: Office) -> None:
    rose = office.add(first_name="Rose", email="rose@fjord.example")
    ravi = office.add(first_name="Ravi", email="ravi@fjord.example")
    henk = office.add(first_name="Henk", email="henk@fjord.example")
    office.sync()
    account = Account.of(office.advisor)
    assert changes.tally(account, lately()) == {ChangeKind.ADDED: 3}

    office.org.clock.advance(3600)
    office.org.opt_out(rose)
    office.org.give(ravi, office.colleague)
    office.org.update_contact(henk, last_name="de Vries")
    office.org.clock.advance(60)
    run = office.sync()
    counts = changes.tally(account, lately())
    assert counts == {ChangeKind.OPTED_OUT: 1, ChangeKind.LEFT: 1, ChangeKind.ADDED: 3, ChangeKind.CHANGED: 1}
    assert list(counts) == [ChangeKind.OPTED_OUT, ChangeKind.LEFT, ChangeKind.ADDED, ChangeKind.CHANGED]
    today = formats.day_of(utcnow())
    day, before = days_of(account, today - timedelta(days=1), today)
    assert (day.date, day.tally, before.tally, list(before.entries)) == (today, counts, {}, [])
    assert told(list(day.entries)[:2]) == {
        ("Opted out", "Rose Gonzalez", "Opted out of email in Salesforce."),
        ("Left", "Ravi Gonzalez", "Belongs to Jonas Lindqvist in Salesforce now."),
    }
    [changed] = changes.find_entries(account, lately(ChangeKind.CHANGED))
    assert (changed.fields, changed.run_id, changed.at) == (
        [("Last name", "Gonzalez", "de Vries")],
        run.id,
        run.finished_at,
    )

    office.org.clock.advance(3600)
    office.org.opt_in(rose)
    office.org.give(ravi, office.user)
    office.sync()
    assert told(changes.find_entries(account, lately(ChangeKind.BACK))) == {
        ("Active again", "Rose Gonzalez", "Opted in again in Salesforce."),
        ("Active again", "Ravi Gonzalez", "Yours again in Salesforce."),
    }
    assert [each.name for each in changes.find_entries(account, lately(search="VRIES henk"))] == ["Henk de Vries"] * 2


def test_what_happens_here_is_told_too_and_no_one_else_is(app: Flask) -> None:
    advisor, vault = make_advisor(), current_app.extensions["asapp.vault"]
    by_hand = make_contact(advisor, first_name="Ruth", last_name="Abernathy", email="ruth@fjord.example")
    by_hand.address_hash = address_hash(by_hand.email, address_key(db.session(), advisor.partner, vault))
    hidden = make_contact(make_synced_connection(advisor), last_name="Gone")
    save(by_hand)
    someone_signs_up(advisor)
    removal.remove_contacts(advisor.id, [hidden.id])
    where = Address(advisor.partner.id, advisor.id, by_hand.address_hash)
    suppressions.store([Happened(where, SuppressionStep.UNSUBSCRIBED, SuppressionSource.PAGE, utcnow())])
    db.session.commit()
    make_contact(make_advisor(advisor.partner), first_name="Other", last_name="Advisor's")
    entries = changes.find_entries(Account.of(advisor), lately())
    assert told(entries) == {
        ("Unsubscribed", "Ruth Abernathy", "By the link in an email."),
        ("Added", "Ruth Abernathy", "You added this contact by hand."),
        ("Added", "Mei-Ling Chou", "Signed up on your page."),
        ("Added", "Zoë Gone", "You added this contact by hand."),
        ("Left", "Zoë Gone", "You deleted this contact here."),
    }
    by_hand.erased_at = utcnow()
    save(by_hand)
    assert "Ruth Abernathy" not in {each.name for each in changes.find_entries(Account.of(advisor), lately())}


def test_pages_follow_each_other_by_key_and_lose_and_repeat_no_one(app: Flask) -> None:
    connection = make_synced_connection()
    run = make_run(connection, finished_at=utcnow(), created=7)
    for _ in range(7):
        make_contact(connection, created_in_run_id=run.id)
    account, found, after = Account.of(connection.user), [], None
    while page := changes.find_entries(account, lately(), after, 3):
        found += [each.contact_id for each in page]
        after = changes.Key.read(str(page[-1].key))
        assert after == page[-1].key
    assert len(found) == len(set(found)) == 7
    today = formats.day_of(utcnow())
    [day] = days_of(account, today, today)
    assert (len(day.entries), day.tally) == (changes.OF_A_KIND, {ChangeKind.ADDED: 7})


@pytest.mark.parametrize(
    "text",
    ["", "x", "2026-11-28~1~2", "2026-11-28T00:00:00+00:00~9~1", "x~0~1", "2026-11-28T00:00:00+00:00~0~" + "9" * 30],
)
def test_a_key_that_is_none_begins_at_the_newest(text: str) -> None:
    assert changes.Key.read(text) is None


def test_days_are_those_of_the_readers_zone(app: Flask) -> None:
    connection = make_synced_connection()
    late = formats.start_of(date(2026, 11, 23)) + timedelta(hours=23, minutes=30)  # 08:30 of the 24th in Tokyo
    run = make_run(connection, finished_at=late, created=1)
    make_contact(connection, created_in_run_id=run.id)
    account, wanted = Account.of(connection.user), Wanted(late - timedelta(days=2), late + timedelta(days=2))
    assert list(changes.tally_by_day(changes.find_counts(account, wanted))) == [date(2026, 11, 23)]
    with formats.read_in_zone_of("Asia/Tokyo"):
        assert list(changes.tally_by_day(changes.find_counts(account, wanted))) == [date(2026, 11, 24)]
        assert changes.find_last_day(account, late + timedelta(seconds=1)) == date(2026, 11, 24)
        assert changes.find_last_day(account, late) is None


def test_a_visit_ends_after_half_an_hour_without_a_page(app: Flask) -> None:
    advisor, at = make_advisor(), utcnow()

    def come(minutes: int) -> int | None:
        visits.record(advisor.id, at + timedelta(minutes=minutes))
        before = visits.find_last(advisor.id)
        return None if before is None else round((before - at).total_seconds() / 60)

    assert [come(0), come(10), come(39), come(90), come(92), come(500)] == [None, None, None, 39, 39, 92]


def test_a_moved_advisor_is_not_told_of_the_earlier_firms_syncs(app: Flask) -> None:
    connection = make_synced_connection()
    user: User = connection.user
    run = make_run(connection, finished_at=utcnow(), created=1)
    make_contact(connection, created_in_run_id=run.id)
    user.partner_id = make_advisor().partner_id
    save(user)
    assert changes.find_entries(Account.of(user), lately()) == []
