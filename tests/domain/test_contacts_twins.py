"""Rule contacts 2: a contact whose address belongs to another opted-out record of the connected user is inactive too."""

from __future__ import annotations

import hashlib

from flask import Flask

from asapp.contacts.status import contact_rows, is_active, reason_of
from asapp.contacts.twins import (
    block,
    blocked_by,
    blocked_earlier,
    blocked_leads,
    find_twins,
    unblock,
    unblock_earlier,
    unlike_ledger,
)
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    BlockedAddress,
    BlockedBy,
    Connection,
    ConnectionStatus,
    Contact,
    LedgerEntry,
    LedgerOutcome,
    Reason,
    User,
)
from asapp.salesforce.hosts import to_18
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection, save

HASH = hashlib.sha256(b"karim@benali.example").digest()
OTHER = to_18("0035g00000TWIN1")


def reason_here(contact: Contact, user_id: int | None = None) -> str | None:
    """Return why it is inactive, by both implementations: the reason, and the rule that counts."""
    now = utcnow()
    columns = (reason_of(now, user_id), is_active(now, user_id))
    reason, active = db.session.execute(contact_rows(*columns).where(Contact.id == contact.id)).one()
    assert active == (reason is None)
    return reason


def remember(connection: Connection, salesforce_id: str = OTHER, kind: BlockedBy = BlockedBy.CONTACT) -> None:
    block(connection.id, connection.user_id, kind, {salesforce_id: HASH})
    db.session.commit()


def twins_of(owner: User, *hashes: bytes) -> set[int]:
    return find_twins(owner.id, hashes or (HASH,))


def test_an_opted_out_record_switches_its_twin_off_and_on_again_when_it_goes(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH)
    remember(connection)
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT
    assert reason_here(contact, connection.user_id) == Reason.TWIN_OPTED_OUT
    unblock(connection.id, [OTHER])
    assert reason_here(contact) is None
    assert reason_here(contact, connection.user_id) is None


def test_an_opted_out_lead_switches_off_like_a_contact(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH)
    remember(connection, to_18("00Q5g00000TWIN1"), BlockedBy.LEAD)
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT


def test_a_record_is_not_its_own_twin(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH, opted_out=True)
    remember(connection, contact.salesforce_id or "")
    assert twins_of(connection.user) == set()
    assert reason_here(contact) == Reason.OPTED_OUT


def test_two_opted_out_records_are_each_others_twins(app: Flask) -> None:
    connection = make_synced_connection()
    contacts = [make_contact(connection, address_hash=HASH, opted_out=True) for _ in range(2)]
    for contact in contacts:
        remember(connection, contact.salesforce_id or "")
    assert twins_of(connection.user) == {contact.id for contact in contacts}


def test_any_opted_out_record_is_a_twin_of_a_contact_made_by_hand(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection.user, address_hash=HASH)
    remember(connection)
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT
    assert twins_of(connection.user) == {contact.id}


def test_what_a_disconnected_connection_last_heard_still_counts(app: Flask) -> None:
    alice = make_advisor()
    former = make_connection(alice, status=ConnectionStatus.DISCONNECTED)
    contact = make_contact(make_synced_connection(alice), address_hash=HASH)
    remember(former)
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT


def test_another_advisors_opted_out_records_have_no_say(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    remember(make_synced_connection(bob))
    alices, bobs = make_contact(alice, address_hash=HASH), make_contact(bob, address_hash=HASH)
    for user_id in (None, alice.id):
        assert reason_here(alices, user_id) is None
    for user_id in (None, bob.id):
        assert reason_here(bobs, user_id) == Reason.TWIN_OPTED_OUT


def test_twins_are_looked_for_among_the_advisors_own_records_and_contacts(app: Flask) -> None:
    """A firm's advisors share the key that addresses are hashed with."""
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    remember(make_synced_connection(bob))
    make_contact(alice, address_hash=HASH)
    bobs = make_contact(bob, address_hash=HASH)
    assert twins_of(alice) == set()
    assert twins_of(bob) == {bobs.id}


def test_a_contact_without_an_address_hash_is_no_twin(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=None)
    remember(connection)
    assert reason_here(contact) is None
    assert reason_here(contact, connection.user_id) is None


def test_more_addresses_than_one_statement_takes(app: Flask) -> None:
    connection = make_synced_connection()
    hashes = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(2500)]
    twins = [make_contact(connection, address_hash=hashes[i]) for i in (0, 1200, 2499)]
    block(
        connection.id,
        connection.user_id,
        BlockedBy.CONTACT,
        {to_18(f"0035g00000W{i:04d}"): hashes[i] for i in (0, 1200, 2499)},
    )
    assert find_twins(connection.user_id, hashes) == {contact.id for contact in twins}


def test_it_joins_the_callers_transaction(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH)
    block(connection.id, connection.user_id, BlockedBy.CONTACT, {OTHER: HASH})
    db.session.rollback()
    assert reason_here(contact) is None


def test_a_record_blocks_the_address_that_it_has_now(app: Flask) -> None:
    connection = make_synced_connection()
    remember(connection)
    another = hashlib.sha256(b"karim@new.example").digest()
    block(connection.id, connection.user_id, BlockedBy.CONTACT, {OTHER: another})
    assert blocked_by(connection.id, [OTHER]) == {OTHER: another}


def test_a_record_that_passed_to_a_colleague_stays_blocked_there(app: Flask) -> None:
    """It opted out, was given to Bob, and Bob's sync came first: what Alice's sync takes away is Alice's alone."""
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    hers, his = make_synced_connection(alice), make_synced_connection(bob)
    for connection in (hers, his):
        remember(connection)
    unblock(hers.id, [OTHER])
    assert (blocked_by(hers.id, [OTHER]), blocked_by(his.id, [OTHER])) == ({}, {OTHER: HASH})


def test_a_colleagues_connection_is_no_earlier_one(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    hers, his = make_synced_connection(alice), make_synced_connection(bob)
    remember(his)
    save(LedgerEntry(connection_id=hers.id, salesforce_id=OTHER, outcome=LedgerOutcome.SYNCED))
    assert blocked_earlier(hers.id, alice.id) == {}
    unblock_earlier(hers.id, alice.id, [OTHER])
    assert blocked_by(his.id, [OTHER]) == {OTHER: HASH}


def test_addresses_of_leads_are_kept_apart_from_those_of_contacts(app: Flask) -> None:
    """The ledger holds contacts alone, and what is looked up as a Lead must be one."""
    connection, lead_id = make_synced_connection(), to_18("00Q5g00000TWIN1")
    remember(connection)
    remember(connection, lead_id, BlockedBy.LEAD)
    assert blocked_leads(connection.id) == {lead_id: HASH}
    assert unlike_ledger(connection.id) == ({OTHER: HASH}, {})


def test_blocked_addresses_are_compared_with_the_ledger_both_ways(app: Flask) -> None:
    connection = make_synced_connection()
    remember(connection)
    missing = to_18("0035g00000MISS1")
    save(
        LedgerEntry(
            connection_id=connection.id, salesforce_id=missing, outcome=LedgerOutcome.OPTED_OUT, address_hash=HASH
        ),
        LedgerEntry(connection_id=connection.id, salesforce_id=to_18("0035g00000SYNC1"), outcome=LedgerOutcome.SYNCED),
    )
    assert unlike_ledger(connection.id) == ({OTHER: HASH}, {missing: HASH})
    remember(connection, missing)
    unblock(connection.id, [OTHER])
    assert unlike_ledger(connection.id) == ({}, {})
    assert db.session.query(BlockedAddress).count() == 1
