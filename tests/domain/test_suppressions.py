"""Suppressions: an address that is not written to, whichever contact has it, until the person opts in again."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import func, select

from asapp.accounts import advisors
from asapp.contacts import removal, suppressions
from asapp.contacts.addresses import address_hash, address_key, normal_form
from asapp.contacts.form_fields import Details
from asapp.contacts.manual import add_contact
from asapp.contacts.status import contact_rows, is_active, reason_of
from asapp.contacts.suppressions import Address, Happened, Held, derive
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    Connection,
    Contact,
    Partner,
    Reason,
    Suppression,
    SuppressionEvent,
    SuppressionSource,
    SuppressionStep,
    User,
)
from asapp.partners import offboarding
from asapp.writeback import unsubscribing
from tests.factories import make_advisor, make_contact, make_partner, make_synced_connection, org_access
from tests.mail_links import record
from tests.signing_up import someone_signs_up

RUTH = "ruth@river.example"
NOON = utcnow().replace(microsecond=0) - timedelta(days=3)
STARTS = (SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED, SuppressionStep.BOUNCED)


def hash_for(partner: Partner | None, email: str = RUTH) -> bytes:
    assert partner is not None
    return address_hash(email, address_key(db.session(), partner, org_access().vault))


def address_for(advisor: User, email: str = RUTH) -> Address:
    assert advisor.partner_id is not None
    return Address(advisor.partner_id, advisor.id, hash_for(advisor.partner, email))


def make_ruth(owner: User | Connection) -> Contact:
    advisor = owner if isinstance(owner, User) else db.session.get_one(User, owner.user_id)
    return make_contact(owner, email=RUTH, address_hash=hash_for(advisor.partner))


def tell(address: Address, step: SuppressionStep, minutes: float = 0, **more: object) -> int:
    happened = Happened(address, step, SuppressionSource.SENDER, NOON + timedelta(minutes=minutes))
    return len(record([happened._replace(**more)]))


def unsubscribe(address: Address, *, whole_firm: bool = False) -> None:
    vault = org_access().vault
    unsubscribing.unsubscribe(address, SuppressionSource.PAGE, whole_firm=whole_firm, vault=vault)


def reason(contact: Contact) -> str | None:
    """Return why a contact is inactive, asked in both ways, which agree."""
    now = utcnow()
    query = contact_rows(
        reason_of(now), reason_of(now, contact.user_id), is_active(now), is_active(now, contact.user_id)
    )
    alone, among, active, active_among = db.session.execute(query.where(Contact.id == contact.id)).one()
    assert alone == among
    assert bool(active) == bool(active_among) == (alone is None)
    return str(alone) if alone else None


@pytest.mark.parametrize("step", STARTS)
def test_a_suppressed_address_makes_every_contact_with_it_inactive(app: Flask, step: SuppressionStep) -> None:
    connection = make_synced_connection()
    advisor = db.session.get_one(User, connection.user_id)
    by_hand, synced, another = make_ruth(advisor), make_ruth(connection), make_contact(advisor)
    tell(address_for(advisor), step)
    assert reason(by_hand) == reason(synced) == step.value
    assert reason(another) is None


def test_a_contact_that_comes_later_is_inactive_from_its_first_moment(app: Flask) -> None:
    alice = make_advisor()
    tell(address_for(alice), SuppressionStep.COMPLAINED)
    contact = add_contact(alice, Details("Ruth", "Rivers", RUTH.upper()), org_access().vault)
    assert reason(contact) == Reason.COMPLAINED


def test_no_other_advisor_and_no_other_firm_is_concerned(app: Flask) -> None:
    alice, charlie = make_advisor(), make_advisor(partner=make_partner())
    bob = make_advisor(partner=alice.partner)
    theirs = make_ruth(bob), make_ruth(charlie)
    unsubscribe(address_for(alice))
    assert [reason(each) for each in theirs] == [None, None]


def test_a_whole_firm_is_stopped_also_for_advisors_who_come_later(app: Flask) -> None:
    alice, charlie = make_advisor(), make_advisor(partner=make_partner())
    unsubscribe(address_for(alice), whole_firm=True)
    later = make_advisor(partner=alice.partner)
    assert reason(make_ruth(alice)) == reason(make_ruth(later)) == Reason.UNSUBSCRIBED
    assert reason(make_ruth(charlie)) is None


def test_what_was_deleted_here_comes_before_a_suppression_and_an_opt_out_behind(app: Flask) -> None:
    connection = make_synced_connection()
    advisor = db.session.get_one(User, connection.user_id)
    contact = make_ruth(connection)
    contact.opted_out = True
    db.session.commit()
    assert reason(contact) == Reason.OPTED_OUT
    for step in (SuppressionStep.BOUNCED, SuppressionStep.COMPLAINED, SuppressionStep.UNSUBSCRIBED):
        tell(address_for(advisor), step)
        assert reason(contact) == step.value
    removal.remove_contacts(advisor.id, [contact.id])
    assert reason(contact) == Reason.HIDDEN_HERE


def test_salesforce_saying_yes_again_does_not_end_an_unsubscribe(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_ruth(connection)
    unsubscribe(address_for(db.session.get_one(User, connection.user_id)))
    contact.opted_out = True
    db.session.commit()
    contact.opted_out = False
    db.session.commit()
    assert reason(contact) == Reason.UNSUBSCRIBED


# Ends


def test_opting_in_again_on_the_form_ends_unsubscribed_and_complained_but_not_bounced(app: Flask) -> None:
    alice = make_advisor()
    contact = make_ruth(alice)
    for step in STARTS:
        tell(address_for(alice), step)
    someone_signs_up(alice, email=RUTH)
    assert reason(contact) == Reason.BOUNCED
    assert suppressions.try_again(address_for(alice))
    assert reason(contact) is None


def test_opting_in_with_one_advisor_leaves_the_rest_of_the_firm_stopped(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(partner=alice.partner)
    with_alice, with_bob = make_ruth(alice), make_ruth(bob)
    unsubscribe(address_for(alice), whole_firm=True)
    someone_signs_up(alice, email=RUTH)
    assert reason(with_alice) is None
    assert reason(with_bob) == Reason.UNSUBSCRIBED
    unsubscribe(address_for(bob), whole_firm=True)
    assert reason(with_alice) == Reason.UNSUBSCRIBED


def test_an_address_without_a_contact_has_the_same_reason_as_one_with(app: Flask) -> None:
    """Senders ask about addresses, and the unsubscribe page is about one."""
    alice = make_advisor()
    bob = make_advisor(partner=alice.partner)
    unsubscribe(address_for(alice), whole_firm=True)
    someone_signs_up(alice, email=RUTH)
    hashed, partner_id = hash_for(alice.partner), address_for(alice).partner_id
    assert suppressions.held_for(address_for(alice)).reason is None
    assert suppressions.held_for(address_for(bob)).reason == Reason.UNSUBSCRIBED
    assert suppressions.find_reasons(alice.id, partner_id, [hashed]) == {}
    assert suppressions.find_reasons(bob.id, partner_id, [hashed]) == {hashed: Reason.UNSUBSCRIBED}


def test_an_older_unsubscribe_that_is_reported_late_changes_nothing(app: Flask) -> None:
    alice = make_advisor()
    contact = make_ruth(alice)
    unsubscribe(address_for(alice))
    someone_signs_up(alice, email=RUTH)
    tell(address_for(alice), SuppressionStep.UNSUBSCRIBED, minutes=-60)
    assert reason(contact) is None
    tell(address_for(alice), SuppressionStep.UNSUBSCRIBED, at=utcnow() + timedelta(days=400))
    assert reason(contact) == Reason.UNSUBSCRIBED
    someone_signs_up(alice, email=RUTH)
    assert reason(contact) is None, "an event in the future is taken as now"


def test_an_older_unsubscribe_that_is_first_reported_after_the_opt_in_changes_nothing(app: Flask) -> None:
    """As when a mail engine reports for the first time what happened over the years."""
    alice = make_advisor()
    contact = make_ruth(alice)
    someone_signs_up(alice, email=RUTH)
    tell(address_for(alice), SuppressionStep.UNSUBSCRIBED)
    assert reason(contact) is None
    tell(address_for(alice), SuppressionStep.UNSUBSCRIBED, at=utcnow())
    assert reason(contact) == Reason.UNSUBSCRIBED


def test_an_event_counts_once_for_an_advisor(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(partner=alice.partner)
    assert tell(address_for(alice), SuppressionStep.BOUNCED, sender_event_id="e-1") == 1
    assert tell(address_for(alice), SuppressionStep.BOUNCED, sender_event_id="e-1") == 0
    assert tell(address_for(bob), SuppressionStep.BOUNCED, sender_event_id="e-1") == 1
    twice = Happened(address_for(alice), SuppressionStep.COMPLAINED, SuppressionSource.SENDER, NOON, "e-2")
    assert record([twice, twice]) == [twice]


def test_a_bounced_address_is_tried_again_at_most_once_in_thirty_days(app: Flask) -> None:
    alice = make_advisor()
    assert not suppressions.try_again(address_for(alice)), "nothing has bounced"
    tell(address_for(alice), SuppressionStep.BOUNCED)
    assert suppressions.try_again(address_for(alice))
    tell(address_for(alice), SuppressionStep.BOUNCED, at=utcnow())
    assert not suppressions.try_again(address_for(alice))
    assert suppressions.held_for(address_for(alice)).advisor.bounced_at


def test_an_unsubscribe_is_undone_within_ten_minutes_and_only_the_last_ones(app: Flask) -> None:
    alice = make_advisor()
    contact = make_ruth(alice)
    unsubscribe(address_for(alice))
    unsubscribe(address_for(alice), whole_firm=True)
    assert suppressions.can_undo(address_for(alice))
    assert suppressions.undo_unsubscribe(address_for(alice), org_access().vault)
    assert reason(contact) is None
    assert not suppressions.can_undo(address_for(alice))
    tell(address_for(alice), SuppressionStep.UNSUBSCRIBED)
    assert not suppressions.undo_unsubscribe(address_for(alice), org_access().vault), (
        "a sender told of it, not this page"
    )
    assert reason(contact) == Reason.UNSUBSCRIBED


def event(number: int, step: SuppressionStep, minute: int, undoes: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(id=number, step=step, at=NOON + timedelta(minutes=minute), undoes_id=undoes)


@pytest.mark.parametrize(
    ("events", "is_stopped"),
    [
        ([(SuppressionStep.UNSUBSCRIBED, 0)], True),
        ([(SuppressionStep.UNSUBSCRIBED, 0), (SuppressionStep.OPTED_IN, 1)], False),
        ([(SuppressionStep.UNSUBSCRIBED, 2), (SuppressionStep.OPTED_IN, 1)], True),
        ([(SuppressionStep.UNSUBSCRIBED, 1), (SuppressionStep.OPTED_IN, 1)], True),
        ([(SuppressionStep.UNSUBSCRIBED, 0), (SuppressionStep.OPTED_IN, 1), (SuppressionStep.UNSUBSCRIBED, 2)], True),
        ([(SuppressionStep.UNSUBSCRIBED, 0), (SuppressionStep.TRIED_AGAIN, 1)], True),
    ],
)
def test_the_newest_by_its_own_time_decides_in_whatever_order_they_come(
    events: list[tuple[SuppressionStep, int]], is_stopped: bool
) -> None:
    rows = [event(number, *each) for number, each in enumerate(events)]
    for order in permutations(rows):
        assert (derive(order).unsubscribed_at is not None) == is_stopped


def test_an_undone_unsubscribe_never_counted() -> None:
    first, second = event(1, SuppressionStep.UNSUBSCRIBED, 0), event(2, SuppressionStep.UNSUBSCRIBED, 5)
    assert derive([first, second, event(3, SuppressionStep.UNDONE, 6, 2)]) == Held(unsubscribed_at=first.at)
    assert derive([first, event(2, SuppressionStep.UNDONE, 6, 1)]) == Held()


# What suppressions survive


def test_a_suppression_outlives_the_contact_that_is_made_again(app: Flask) -> None:
    alice = make_advisor()
    contact = make_ruth(alice)
    unsubscribe(address_for(alice))
    removal.remove_contacts(alice.id, [contact.id])
    assert reason(make_ruth(alice)) == Reason.UNSUBSCRIBED


def test_an_advisor_who_moves_takes_along_what_people_said(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    by_hand = make_ruth(alice)
    unsubscribe(address_for(alice), whole_firm=True)
    advisors.move(alice, there, True, org_access())
    assert reason(by_hand) == Reason.UNSUBSCRIBED
    added = add_contact(alice, Details("Ruth", "Rivers", RUTH), org_access().vault, keep_same_address=True)
    assert reason(added) == Reason.UNSUBSCRIBED
    someone_signs_up(alice, email=RUTH)
    assert reason(added) is None


def test_a_person_who_comes_along_later_is_still_stopped_with_an_advisor_who_moved(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    unsubscribe(address_for(alice))
    advisors.move(alice, there, True, org_access())
    added = add_contact(alice, Details("Ruth", "Rivers", RUTH), org_access().vault)
    assert reason(added) == Reason.UNSUBSCRIBED


def test_what_was_told_at_a_firm_that_was_deleted_since_still_holds(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    before = alice.partner
    assert before is not None
    unsubscribe(address_for(alice))
    advisors.move(alice, there, True, org_access())
    offboarding.delete_partner(before, org_access())
    added = add_contact(alice, Details("Ruth", "Rivers", RUTH), org_access().vault)
    assert reason(added) == Reason.UNSUBSCRIBED


def test_the_key_of_a_deleted_firm_goes_where_nothing_was_told(app: Flask) -> None:
    alice = make_advisor()
    assert alice.partner is not None
    address_for(alice)
    assert alice.partner.address_key_sealed is not None
    offboarding.delete_partner(alice.partner, org_access())
    assert alice.partner.address_key_sealed is None


def test_an_opt_in_after_the_whole_firm_was_stopped_counts_after_a_move_too(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    unsubscribe(address_for(alice), whole_firm=True)
    someone_signs_up(alice, email=RUTH)
    advisors.move(alice, there, True, org_access())
    added = add_contact(alice, Details("Ruth", "Rivers", RUTH), org_access().vault, keep_same_address=True)
    assert reason(added) is None


def test_what_is_taken_along_is_told_once_however_often_the_person_comes(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    unsubscribe(address_for(alice))
    advisors.move(alice, there, True, org_access())
    for _ in range(2):
        add_contact(alice, Details("Ruth", "Rivers", RUTH), org_access().vault, keep_same_address=True)
    told = suppressions.history_of(address_for(alice))
    assert [each.source for each in told] == [SuppressionSource.EARLIER_FIRM]


def test_an_old_mails_link_stops_an_advisor_who_has_moved_since(app: Flask) -> None:
    alice, there = make_advisor(), make_partner()
    by_hand, sent_before = make_ruth(alice), address_for(alice)
    advisors.move(alice, there, True, org_access())
    unsubscribe(sent_before)
    assert reason(by_hand) == Reason.UNSUBSCRIBED


@pytest.mark.parametrize("whole_firm", [False, True])
@pytest.mark.parametrize("moves_first", [False, True])
def test_what_came_along_to_another_firm_is_undone_too(app: Flask, whole_firm: bool, moves_first: bool) -> None:
    alice, there, later = make_advisor(), make_partner(), make_partner()
    by_hand, sent_before = make_ruth(alice), address_for(alice)
    other = make_contact(alice, email="sam@river.example", address_hash=hash_for(alice.partner, "sam@river.example"))
    unsubscribe(address_for(alice, "sam@river.example"))
    if not moves_first:
        unsubscribe(sent_before, whole_firm=whole_firm)
    advisors.move(alice, there, True, org_access())
    if moves_first:
        unsubscribe(sent_before, whole_firm=whole_firm)
    advisors.move(alice, later, True, org_access())
    assert reason(by_hand) == Reason.UNSUBSCRIBED
    assert suppressions.undo_unsubscribe(sent_before, org_access().vault)
    assert reason(by_hand) is None
    assert reason(other) == Reason.UNSUBSCRIBED
    advisors.move(alice, there, True, org_access())
    assert reason(by_hand) is None
    assert not suppressions.undo_unsubscribe(sent_before, org_access().vault)


def test_what_is_repeated_makes_no_second_row(app: Flask) -> None:
    alice = make_advisor()
    for _ in range(3):
        unsubscribe(address_for(alice))
        unsubscribe(address_for(alice), whole_firm=True)
    assert db.session.scalar(select(func.count()).select_from(Suppression)) == 2
    assert db.session.scalar(select(func.count()).select_from(SuppressionEvent)) == 6


def test_addresses_are_compared_without_case_and_by_the_domain_that_mail_servers_know() -> None:
    assert normal_form(" Ruth@River.Example ") == "ruth@river.example"
    assert normal_form("rutH@MÜNCHEN.example") == normal_form("ruth@xn--mnchen-3ya.example")
    assert normal_form("rüth@münchen.example") == "rüth@xn--mnchen-3ya.example"
    assert normal_form("ruth@" + "ü" * 80) == "ruth@" + "ü" * 80
