"""Rule contacts 2: a contact whose address belongs to another opted-out record of the connected user is inactive too."""

from __future__ import annotations

import hashlib

from flask import Flask

from asapp.contacts.twins import TwinChanges, refresh_twins
from asapp.extensions import db
from asapp.models import Connection, ConnectionStatus, Contact, LedgerEntry, Outcome, User
from asapp.salesforce.hosts import to_18
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection, save

HASH = hashlib.sha256(b"karim@benali.example").digest()
OTHER = to_18("0035g00000TWIN1")


def refresh(owner: User, connection: Connection | None = None, *hashes: bytes) -> TwinChanges:
    changes = refresh_twins(owner.id, connection.id if connection else None, hashes or (HASH,))
    db.session.commit()
    db.session.expire_all()
    return changes


def remember(connection: Connection, salesforce_id: str = OTHER, outcome: str = Outcome.OPTED_OUT) -> LedgerEntry:
    entry = LedgerEntry(connection_id=connection.id, salesforce_id=salesforce_id, outcome=outcome, address_hash=HASH)
    save(entry)
    return entry


def test_an_opted_out_record_switches_its_twin_off_and_on_again_when_it_goes(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH)
    entry = remember(connection)
    assert refresh(connection.user, connection) == (1, 0, (contact.id,), ())
    assert contact.twin_opted_out
    assert refresh(connection.user, connection) == (0, 0, (), ())
    db.session.delete(entry)
    assert refresh(connection.user, connection) == (0, 1, (), (contact.id,))
    assert not contact.twin_opted_out


def test_a_record_is_not_its_own_twin(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH, opted_out=True)
    remember(connection, contact.salesforce_id or "")
    assert refresh(connection.user, connection).switched_off == 0


def test_two_opted_out_records_are_each_others_twins(app: Flask) -> None:
    connection = make_synced_connection()
    contacts = [make_contact(connection, address_hash=HASH, opted_out=True) for _ in range(2)]
    for contact in contacts:
        remember(connection, contact.salesforce_id or "")
    assert refresh(connection.user, connection).off_ids == tuple(contact.id for contact in contacts)


def test_any_opted_out_record_is_a_twin_of_a_contact_made_by_hand(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection.user, address_hash=HASH)
    remember(connection)
    assert refresh(connection.user).off_ids == (contact.id,)


def test_what_a_disconnected_connection_last_heard_still_counts(app: Flask) -> None:
    alice = make_advisor()
    former = make_connection(alice, status=ConnectionStatus.DISCONNECTED)
    contact = make_contact(make_synced_connection(alice), address_hash=HASH)
    remember(former)
    refresh(alice)
    assert contact.twin_opted_out


def test_another_advisors_ledger_has_no_say(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    remember(make_synced_connection(bob))
    alices, bobs = make_contact(alice, address_hash=HASH), make_contact(bob, address_hash=HASH)
    assert refresh(alice).switched_off == 0
    assert refresh(bob).off_ids == (bobs.id,)
    assert not alices.twin_opted_out


def test_only_opted_out_records_count(app: Flask) -> None:
    connection = make_synced_connection()
    make_contact(connection, address_hash=HASH)
    remember(connection, outcome=Outcome.SYNCED)
    assert refresh(connection.user, connection).switched_off == 0


def test_more_addresses_than_one_statement_takes(app: Flask) -> None:
    connection = make_synced_connection()
    hashes = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(2500)]
    twins = [make_contact(connection, address_hash=hashes[i]) for i in (0, 1200, 2499)]
    save(
        *(
            LedgerEntry(
                connection_id=connection.id,
                salesforce_id=to_18(f"0035g00000W{i:04d}"),
                outcome=Outcome.OPTED_OUT,
                address_hash=hashes[i],
            )
            for i in (0, 1200, 2499)
        )
    )
    changes = refresh_twins(connection.user_id, connection.id, hashes)
    assert set(changes.off_ids) == {contact.id for contact in twins}


def test_it_joins_the_callers_transaction(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, address_hash=HASH)
    remember(connection)
    refresh_twins(connection.user_id, connection.id, {HASH})
    db.session.rollback()
    assert not db.session.get_one(Contact, contact.id).twin_opted_out
