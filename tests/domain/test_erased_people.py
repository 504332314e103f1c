"""Rule contacts 10: people deleted here stay deleted, erased people don't come back, and a new sign-up makes a person again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.connections import connections
from asapp.contacts import removal, tombstones
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions, queries
from asapp.models import Contact, ContactSource, LeadState, Reason, Restoration, Tombstone, TombstoneKind
from asapp.panel.balance import balance
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.domain.test_leads_once import switch
from tests.domain.test_opted_out_addresses import ADDRESS, remove_and_reconnect
from tests.factories import make_advisor, save
from tests.signing_up import someone_signs_up


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def only_contact() -> Contact:
    return db.session.scalars(select(Contact)).one()


def people() -> list[tuple[str, str, str | None]]:
    """Return (source, address, why inactive) of every contact row; an erased one has no address."""
    db.session.rollback()
    query = contact_rows(Contact.source, Contact.email, reason_of(utcnow())).order_by(Contact.id)
    return [(row[0], row[1], row[2]) for row in db.session.execute(query)]


def erase(office: FollowingOffice) -> None:
    decisions.erase(office.advisor.id, only_contact())


# ---- Erased, and not stored again


HASHED = b"h" * 32


def kinds_left(end: Callable[[int], None]) -> list[str]:
    """Mark a person as deleted here and as erased, end one of it, and return the kinds of marks that are left."""
    alice = make_advisor()
    mark = {"user_id": alice.id, "address_hash": HASHED, "created_at": utcnow()}
    save(*(Tombstone(kind=kind, **mark) for kind in TombstoneKind))
    end(alice.id)
    return list(db.session.scalars(select(Tombstone.kind)))


def test_restoring_a_person_who_was_deleted_here_ends_no_erasure(app: Flask) -> None:
    assert kinds_left(lambda user_id: tombstones.restore_address(user_id, [HASHED])) == [TombstoneKind.ERASED]


def test_an_erased_person_who_signs_up_again_is_not_restored_by_it(app: Flask) -> None:
    assert kinds_left(lambda user_id: tombstones.end_erasure(user_id, HASHED)) == [TombstoneKind.HIDDEN]


def test_an_erased_person_whose_contact_has_not_come_yet(office: FollowingOffice) -> None:
    office.add(email=ADDRESS, first_name="Mei-Ling", last_name="Chou")
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.lead().state == LeadState.LINKED
    erase(office)
    run = office.sync()
    assert {address for _, address, _ in people()} == {""}
    assert (run.skipped, run.read) == ({"erased_here": 1}, 1)
    assert office.sync_after_a_day().is_complete
    assert {address for _, address, _ in people()} == {""}
    books = balance(office.connection)
    assert books is not None
    assert (books.removed_here, books.rest) == (1, 0)


def test_an_erased_person_whose_opted_out_contact_opts_in_later(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.opt_out(lead_id)
    contact_id = office.org.convert_lead(lead_id)
    office.sync()
    erase(office)
    office.org.clock.advance(3600)
    office.sync()
    office.org.opt_in(contact_id)
    office.sync()
    assert {address for _, address, _ in people()} == {""}


def test_an_erased_person_whose_create_was_never_answered_and_who_became_a_contact(office: FollowingOffice) -> None:
    office.org.trouble.add("reset_after", path="composite/sobjects")
    someone_signs_up(office.advisor)
    office.deliver()
    (made,) = office.org.leads()
    assert office.lead().salesforce_id is None
    erase(office)
    office.org.convert_lead(made["Id"])
    office.sync()
    assert {address for _, address, _ in people()} == {""}


def test_an_erased_person_stays_away_after_disconnecting_and_removing(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    erase(office)
    remove_and_reconnect(office)
    assert people() == []
    office.sync()
    assert {address for _, address, _ in people()} == {""}


def test_a_person_who_was_restored_once_leaves_no_times_of_it_when_erased(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    contact_id = only_contact().id
    removal.remove_contacts(office.advisor.id, [contact_id])
    for restored in (1, 0):  # the second press finds nothing to restore, and stores nothing
        assert removal.restore_contacts(office.advisor.id, [contact_id]) == restored
    assert db.session.scalars(select(Restoration.contact_id)).all() == [contact_id]
    erase(office)
    assert db.session.scalars(select(Restoration.contact_id)).all() == []


def test_an_erased_person_who_is_added_again_in_salesforce_stays_away(office: FollowingOffice) -> None:
    contact_id = office.add(email=ADDRESS)
    office.sync()
    erase(office)
    office.org.delete(contact_id)
    office.add(email=ADDRESS.upper())
    office.sync()
    assert {address for _, address, _ in people()} == {""}


# ---- Erased, and signed up again: a new person


def test_an_erased_contact_who_signs_up_again_is_here_and_active(office: FollowingOffice) -> None:
    office.add(email=ADDRESS, first_name="Mei", last_name="Chou-Berg")
    office.sync()
    erase(office)
    someone_signs_up(office.advisor)
    office.deliver()
    assert people() == [("salesforce", ADDRESS, None)]
    office.sync()
    contact = only_contact()
    assert (contact.first_name, contact.last_name) == ("Mei", "Chou-Berg")  # as Salesforce has it
    assert people() == [("salesforce", ADDRESS, None)]


def test_the_same_where_the_contact_was_removed_with_the_connection(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    erase(office)
    remove_and_reconnect(office)
    someone_signs_up(office.advisor)
    office.deliver()
    office.sync()
    assert people() == [("salesforce", ADDRESS, None)]


@pytest.mark.parametrize("leaves", ["given away", "deleted for good", "out of sight"])
def test_an_erased_contact_who_signs_up_again_and_leaves_before_the_next_sync(
    office: FollowingOffice, leaves: str
) -> None:
    contact_id = office.add(email=ADDRESS)
    office.sync()
    erase(office)
    someone_signs_up(office.advisor)
    office.deliver()
    if leaves == "given away":
        office.org.give(contact_id, office.colleague)
    elif leaves == "deleted for good":
        office.org.delete(contact_id)
        office.org.purge(contact_id)
    else:
        office.org.hide_contact(contact_id)
    office.sync()
    assert [(source, why) for source, _, why in people()] == [
        (ContactSource.SALESFORCE, Reason.REASSIGNED if leaves == "given away" else Reason.GONE)
    ]


def test_an_erased_lead_who_signs_up_again_and_is_converted(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    erase(office)
    office.sync()
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.lead().salesforce_id == lead_id
    office.org.convert_lead(lead_id)
    office.sync()
    office.sync()
    assert [row for row in people() if row[1]] == [("salesforce", ADDRESS, None)]


# ---- Deleted here


def test_a_person_deleted_here_comes_back_deleted_after_removing_and_can_be_restored(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    remove_and_reconnect(office)
    run = office.sync()
    assert people() == [("salesforce", ADDRESS, Reason.HIDDEN_HERE)]
    assert run.skipped == {"hidden_here": 1}
    books = balance(office.connection)
    assert books is not None
    assert books.is_balanced
    removal.restore_contacts(office.advisor.id, [only_contact().id])
    remove_and_reconnect(office)
    office.sync()
    assert people() == [("salesforce", ADDRESS, None)]
    assert db.session.scalars(select(Tombstone)).all() == []


def test_a_person_restored_under_another_address_than_the_one_deleted_stays_restored(office: FollowingOffice) -> None:
    contact_id = office.add(email=ADDRESS)
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    remove_and_reconnect(office)
    office.org.update_contact(contact_id, email="mei.chou@quay.example")
    office.sync()
    assert people() == [("salesforce", "mei.chou@quay.example", Reason.HIDDEN_HERE)]
    removal.restore_contacts(office.advisor.id, [only_contact().id])
    remove_and_reconnect(office)
    office.sync()
    assert people() == [("salesforce", "mei.chou@quay.example", None)]


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_person_deleted_here_who_signs_up_again_stays_hidden_and_the_advisor_sees_it(
    office: FollowingOffice, is_removed: bool
) -> None:
    office.add(email=ADDRESS)
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    if is_removed:
        remove_and_reconnect(office)
    someone_signs_up(office.advisor)
    assert {reason for _, _, reason in people()} == {Reason.HIDDEN_HERE}
    news = queries.find_asking_again(office.advisor.id)
    assert (news.stopped.total, news.hidden.total) == (0, 1)
    office.deliver()
    office.sync()
    assert people() == [("salesforce", ADDRESS, Reason.HIDDEN_HERE)]
    (lead,) = queries.find_asking_again(office.advisor.id).hidden.leads
    removal.restore_contacts(office.advisor.id, [lead.contact_id or 0])
    assert people() == [("salesforce", ADDRESS, None)]
    assert {news.total for news in queries.find_asking_again(office.advisor.id)} == {0}


def test_a_sign_up_restored_before_its_contact_comes_is_not_hidden_by_it(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    connections.end_connection(office.connection, keep_contacts=False)
    db.session.commit()
    someone_signs_up(office.advisor)
    removal.restore_contacts(office.advisor.id, [only_contact().id])
    remove_and_reconnect(office)
    office.deliver()
    office.sync()
    assert people() == [("salesforce", ADDRESS, None)]


def test_after_a_merge_of_leads_the_contact_has_the_winners_id(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    winner = office.org.add_lead(office.user, last_name="Chou", email=ADDRESS)
    office.org.merge(winner, [lead_id])
    office.sync()
    assert (only_contact().salesforce_id, office.lead().salesforce_id) == (winner, winner)


def test_a_sign_up_restored_while_the_contact_is_here_brings_both_back(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    someone_signs_up(office.advisor)
    removal.restore_contacts(office.advisor.id, [office.lead().contact_id or 0])
    office.deliver()
    office.sync()
    assert people() == [("salesforce", ADDRESS, None)]


def test_a_sign_up_deleted_here_before_its_contact_comes_stays_deleted(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    someone_signs_up(office.advisor)
    office.deliver()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    office.sync()
    assert people() == [("salesforce", ADDRESS, Reason.HIDDEN_HERE)]


def test_a_person_deleted_here_stays_so_when_they_start_over_in_another_account(office: FollowingOffice) -> None:
    office.org.convert_lead(office.send())
    office.sync()
    removal.remove_contacts(office.advisor.id, [only_contact().id])
    connections.end_connection(office.connection, keep_contacts=False)
    db.session.commit()
    switch(office)
    someone_signs_up(office.advisor)
    assert people() == [("lead", ADDRESS, Reason.HIDDEN_HERE)]


def test_a_contact_met_by_an_erased_address_is_known_by_its_id_from_then_on(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    erase(office)
    contact_id = office.add(email=ADDRESS)
    office.sync()
    remove_and_reconnect(office)
    office.org.update_contact(contact_id, Email="new.address@harbour.example")
    office.sync()
    assert {address for _, address, _ in people()} == {""}


def test_erasing_a_sign_up_blanks_the_contact_that_a_sync_has_not_tied_to_it_yet(office: FollowingOffice) -> None:
    office.org.hide_field("Lead", "HasOptedOutOfEmail")
    office.add(email=ADDRESS)
    someone_signs_up(office.advisor)
    office.deliver()
    office.sync()
    own = db.session.scalars(select(Contact).where(Contact.source == ContactSource.LEAD)).one()
    decisions.erase(office.advisor.id, own)
    assert {address for _, address, _ in people()} == {""}
    office.org.show_field("Lead", "HasOptedOutOfEmail")
    office.sync_after_a_day()
    assert {address for _, address, _ in people()} == {""}
