"""Lists: the two that the sync fills, an advisor's own, and who is on them."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import func, select

from asapp.contacts import lists, queries
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Contact, ContactList, ContactSource, ListKind, ListMember, User
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection


def system_list(user: User, kind: ListKind = ListKind.SALESFORCE_CONTACTS) -> ContactList:
    lists.ensure_system_lists(user.id)
    db.session.commit()
    return next(each for each in lists.lists_of(user.id) if each.kind == kind)


def members(contact_list: ContactList) -> set[int]:
    return set(db.session.scalars(select(Contact.id).where(lists.is_on(contact_list))))


def test_the_system_lists_are_made_once(app: Flask) -> None:
    alice = make_advisor()
    for _ in range(2):
        lists.ensure_system_lists(alice.id)
        db.session.commit()
    assert [each.name for each in lists.lists_of(alice.id)] == ["Salesforce Contacts", "Salesforce Leads"]


def test_making_the_system_lists_joins_the_callers_transaction(app: Flask) -> None:
    alice = make_advisor()
    lists.ensure_system_lists(alice.id)
    db.session.rollback()
    assert lists.lists_of(alice.id) == []


def test_salesforce_contacts_holds_opted_out_ones_and_no_one_who_left_or_was_deleted_here(app: Flask) -> None:
    """Rules contacts 6 and 7."""
    connection = make_synced_connection()
    stays = {make_contact(connection).id, make_contact(connection, opted_out=True).id}
    for columns in ({"departed": reason} for reason in ("deleted", "merged", "reassigned", "gone", "no_email")):
        make_contact(connection, **columns)
    make_contact(connection, hidden_at=utcnow())
    make_contact(connection.user)
    assert members(system_list(connection.user)) == stays


def test_an_undeleted_contact_returns_to_the_list(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, departed="deleted")
    on_list = system_list(connection.user)
    assert members(on_list) == set()
    contact.departed = None
    db.session.commit()
    assert members(on_list) == {contact.id}


def test_salesforce_leads_holds_those_that_were_sent(app: Flask) -> None:
    alice = make_advisor()
    sent = make_contact(alice, source=ContactSource.LEAD, salesforce_id="00Q5g000001AbCdEAK")
    make_contact(alice, source=ContactSource.LEAD)
    assert members(system_list(alice, ListKind.SALESFORCE_LEADS)) == {sent.id}


def test_salesforce_contacts_may_be_on_own_lists_as_well(app: Flask) -> None:
    connection = make_synced_connection()
    contact, by_hand = make_contact(connection), make_contact(connection.user)
    letter = lists.create_list(connection.user_id, "Retirement letter")
    assert lists.add_members(letter, [contact.id, by_hand.id]) == 2
    assert lists.add_members(letter, [contact.id]) == 0
    assert members(letter) == {contact.id, by_hand.id}
    assert lists.remove_members(letter, [contact.id, 10**6]) == [contact.id]
    assert members(letter) == {by_hand.id}


def test_other_advisors_contacts_are_passed_over(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    letter = lists.create_list(alice.id, "Retirement letter")
    assert lists.add_members(letter, [make_contact(bob).id]) == 0
    theirs = lists.create_list(bob.id, "Retirement letter")
    contact = make_contact(alice)
    lists.set_lists_of(contact, [theirs.id, letter.id])
    assert members(theirs) == set()
    assert members(letter) == {contact.id}


def test_a_contact_is_put_on_exactly_the_lists_that_were_chosen(app: Flask) -> None:
    alice = make_advisor()
    contact = make_contact(alice)
    first, second = lists.create_list(alice.id, "First"), lists.create_list(alice.id, "Second")
    on_sync = system_list(alice)
    lists.set_lists_of(contact, [first.id, on_sync.id])
    lists.set_lists_of(contact, [second.id])
    assert (members(first), members(second)) == (set(), {contact.id})
    lists.set_lists_of(contact, [])
    assert db.session.scalar(select(func.count()).select_from(ListMember)) == 0


@pytest.mark.parametrize(
    "name", ["retirement LETTER", " Retirement  letter ", "salesforce contacts", "", " ", "a;b", "x" * 61]
)
def test_a_list_has_a_name_of_its_own(app: Flask, name: str) -> None:
    alice = make_advisor()
    lists.create_list(alice.id, "Retirement letter")
    with pytest.raises(InvalidFields) as refusal:
        lists.create_list(alice.id, name)
    assert list(refusal.value.errors) == ["name"]


def test_names_are_compared_without_regard_to_case_beyond_ascii_too(app: Flask) -> None:
    alice = make_advisor()
    lists.create_list(alice.id, "Österreich")
    with pytest.raises(InvalidFields):
        lists.create_list(alice.id, "ÖSTERREICH")


def test_another_advisor_may_use_the_same_name(app: Flask) -> None:
    alice = make_advisor()
    lists.create_list(alice.id, "Retirement letter")
    assert lists.create_list(make_advisor(alice.partner, "Bob Ferreira").id, "Retirement letter").id


def test_renaming_keeps_the_members(app: Flask) -> None:
    alice = make_advisor()
    letter = lists.create_list(alice.id, "Letter")
    contact = make_contact(alice)
    lists.add_members(letter, [contact.id])
    lists.rename_list(letter, "letter")  # its own name in another spelling is free
    lists.rename_list(letter, "Year-end review")
    assert members(letter) == {contact.id}
    assert letter.name == "Year-end review"


def test_renaming_to_a_taken_name_changes_nothing(app: Flask) -> None:
    alice = make_advisor()
    lists.create_list(alice.id, "First")
    second = lists.create_list(alice.id, "Second")
    with pytest.raises(InvalidFields):
        lists.rename_list(second, "first")
    assert second.name == "Second"


def test_deleting_a_list_keeps_its_contacts(app: Flask) -> None:
    alice = make_advisor()
    letter = lists.create_list(alice.id, "Letter")
    contact = make_contact(alice)
    lists.add_members(letter, [contact.id])
    lists.delete_list(letter)
    assert queries.find_contact(alice.id, contact.id, utcnow())
    assert db.session.scalar(select(func.count()).select_from(ListMember)) == 0


def test_the_lists_that_the_sync_fills_are_not_changed_by_hand(app: Flask) -> None:
    connection = make_connection()
    on_sync = system_list(connection.user)
    for change in (
        lambda: lists.rename_list(on_sync, "Mine"),
        lambda: lists.delete_list(on_sync),
        lambda: lists.add_members(on_sync, [make_contact(connection.user).id]),
        lambda: lists.remove_members(on_sync, [1]),
    ):
        with pytest.raises(ValueError, match="sync"):
            change()


def test_counts_are_of_people_and_of_those_who_may_be_written_to(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    active, out = make_contact(connection), make_contact(connection, opted_out=True)
    gone, hidden = make_contact(connection, departed="gone"), make_contact(connection, hidden_at=utcnow())
    make_contact(connection, departed="no_email")
    by_hand = make_contact(alice)
    system_list(alice)
    letter = lists.create_list(alice.id, "Letter")
    lists.create_list(alice.id, "Empty")
    lists.add_members(letter, [each.id for each in (active, out, gone, hidden, by_hand)])
    overview = queries.count_contacts(alice.id, utcnow())
    assert overview.everybody == (4, 2)
    assert overview.hidden == 1
    assert {each.contact_list.name: tuple(each.size) for each in overview.lists} == {
        "Salesforce Contacts": (2, 1),
        "Salesforce Leads": (0, 0),
        "Empty": (0, 0),
        "Letter": (4, 2),
    }
