"""Contacts made by hand, and that nothing here changes a Salesforce contact's fields."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, current_app

from asapp.contacts import lists, manual, queries, removal
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.form_fields import Details
from asapp.contacts.queries import ContactQuery
from asapp.contacts.status import contact_rows, reason_of
from asapp.contacts.twins import block
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields, email_problem
from asapp.models import BlockedBy, Contact, ContactSource, Partner, Reason, User
from asapp.salesforce.hosts import to_18
from tests.factories import make_advisor, make_contact, make_partner, make_synced_connection

TOMAS = Details("Tomás", "Herrera", "tomas@calle.example")


def add(advisor: User, details: Details = TOMAS, **options: Any) -> Contact:
    return manual.add_contact(advisor, details, current_app.extensions["asapp.vault"], **options)


def edit(advisor: User, contact: Contact, details: Details, **options: Any) -> None:
    manual.edit_contact(advisor, contact, details, current_app.extensions["asapp.vault"], **options)


def reason_here(contact: Contact) -> str | None:
    return db.session.scalar(contact_rows(reason_of(utcnow())).where(Contact.id == contact.id))


def hash_of(advisor: User, email: str) -> bytes:
    assert advisor.partner
    return address_hash(email, address_key(db.session(), advisor.partner, current_app.extensions["asapp.vault"]))


def test_an_added_contact_is_active_found_and_ready_to_be_adopted(app: Flask) -> None:
    alice = make_advisor()
    contact = add(alice, Details("  Tomás ", "Herrera\n", "Tomas@Calle.example "))
    assert (contact.first_name, contact.last_name, contact.email) == ("Tomás", "Herrera", "Tomas@Calle.example")
    assert (contact.source, contact.connection_id, contact.salesforce_id) == (ContactSource.MANUAL, None, None)
    assert contact.address_hash == hash_of(alice, "tomas@calle.example")
    page = queries.find_page(alice.id, ContactQuery(search="tomas herrera"), utcnow())
    assert [(line.contact.id, line.is_active) for line in page.lines] == [(contact.id, True)]


def test_an_edited_contact_is_found_under_its_new_name_and_address(app: Flask) -> None:
    alice = make_advisor()
    contact = add(alice)
    edit(alice, contact, Details("Tomás", "Vega", "vega@calle.example"))
    assert contact.address_hash == hash_of(alice, "vega@calle.example")
    assert queries.find_page(alice.id, ContactQuery(search="vega"), utcnow()).total == 1
    assert queries.find_page(alice.id, ContactQuery(search="herrera"), utcnow()).total == 0


@pytest.mark.parametrize(
    ("details", "fields"),
    [
        (Details("", "", ""), {"last_name", "email"}),
        (Details("x" * 41, "y" * 81, "a@b.example"), {"first_name", "last_name"}),
        (Details("A", "B", "nowhere"), {"email"}),
    ],
)
def test_invalid_contact_details_are_explained_beside_their_fields(
    app: Flask, details: Details, fields: set[str]
) -> None:
    with pytest.raises(InvalidFields) as refusal:
        add(make_advisor(), details)
    assert set(refusal.value.errors) == fields


@pytest.mark.parametrize(
    "email", ["a@b.co", "o'brien+news@mail.example.com", "b.levy@expressl&t.net", "jörg@bücher.example", "a@b-c.museum"]
)
def test_addresses_that_mail_could_go_to(email: str) -> None:
    assert email_problem(email) is None


@pytest.mark.parametrize(
    "email",
    ["a", "a@b", "@b.example", "a@", "a b@c.example", "a@b@c.example", "a@b.example,c@d.example", "<a@b.example>",
     "a..b@c.example", ".a@b.example", "a.@b.example", "a@-b.example", "a@b.example.", f"{'x' * 65}@b.example"],
)  # fmt: skip
def test_addresses_that_no_mail_could_go_to(email: str) -> None:
    assert email_problem(email)


def test_an_address_that_is_here_already_is_reported(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    holder = make_contact(connection, first_name="Ewa", last_name="Nowak", address_hash=hash_of(alice, TOMAS.email))
    with pytest.raises(manual.AddressTaken, match="email") as refusal:
        add(alice)
    assert refusal.value.errors == {"email": "Ewa Nowak already has this address."}
    assert refusal.value.holder_id == holder.id
    assert add(alice, keep_same_address=True).id


def test_an_address_of_a_departed_or_another_advisors_contact_is_free(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    bob = make_advisor(alice.partner, "Bob Ferreira")
    add(bob)
    make_contact(connection, address_hash=hash_of(alice, TOMAS.email), departed="deleted")
    assert add(alice).id


def test_saving_with_the_address_unchanged_asks_nothing(app: Flask) -> None:
    alice = make_advisor()
    first = add(alice)
    add(alice, keep_same_address=True)
    edit(alice, first, TOMAS._replace(last_name="Vega"))
    assert first.last_name == "Vega"


def test_an_address_that_opted_out_in_salesforce_is_not_written_to_under_a_new_name(app: Flask) -> None:
    """Rule contacts 2, for a contact made by hand; the opted-out record was never imported."""
    connection = make_synced_connection()
    alice = connection.user
    opted_out = {to_18("0035g00000TWIN1"): hash_of(alice, "tomas@calle.example")}
    block(connection.id, alice.id, BlockedBy.CONTACT, opted_out)
    contact = add(alice, TOMAS._replace(email="TOMAS@calle.example"))
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT
    edit(alice, contact, TOMAS._replace(email="other@calle.example"))
    assert reason_here(contact) is None
    edit(alice, contact, TOMAS)
    assert reason_here(contact) == Reason.TWIN_OPTED_OUT


def test_salesforce_contacts_are_read_only_here(app: Flask) -> None:
    """Rule contacts 6, in the function that makes every change."""
    connection = make_synced_connection()
    contact = make_contact(connection, first_name="Ewa")
    with pytest.raises(manual.ReadOnly):
        edit(connection.user, contact, TOMAS)
    lead = make_contact(connection.user, source=ContactSource.LEAD)
    with pytest.raises(manual.ReadOnly):
        edit(connection.user, lead, TOMAS)
    assert contact.first_name == "Ewa"


def test_a_contact_that_a_sync_adopted_while_it_was_edited_stays_as_salesforce_has_it(app: Flask) -> None:
    from sqlalchemy.orm import Session

    connection = make_synced_connection()
    contact = add(connection.user)
    db.session.commit()
    assert contact.source == ContactSource.MANUAL  # as the form read it a moment ago
    db.session.rollback()
    stale = db.session.get_one(Contact, contact.id)
    db.session.expunge(stale)
    db.session.rollback()
    with Session(db.engine) as other:
        row = other.get_one(Contact, contact.id)
        row.source, row.connection_id, row.salesforce_id = "salesforce", connection.id, to_18("0035g00000ADOPT")
        other.commit()
    db.session.rollback()
    db.session.add(stale)
    with pytest.raises(manual.ReadOnly):
        edit(connection.user, stale, TOMAS._replace(last_name="Vega"))
    db.session.rollback()
    assert db.session.get_one(Contact, contact.id).last_name == "Herrera"


def test_a_contact_added_while_the_advisor_moves_has_the_hash_of_the_new_firm(app: Flask) -> None:
    from sqlalchemy.orm import Session

    advisor, new_firm = make_advisor(), make_partner("Harbour Bank")
    advisor_id, new_firm_id = advisor.id, new_firm.id
    assert advisor.partner_id != new_firm_id  # read before the move
    db.session.expunge(advisor)
    db.session.rollback()
    with Session(db.engine) as other:
        other.get_one(User, advisor_id).partner_id = new_firm_id
        other.commit()
    db.session.add(advisor)
    contact = add(advisor)
    vault = current_app.extensions["asapp.vault"]
    key = address_key(db.session(), db.session.get_one(Partner, new_firm_id), vault)
    assert contact.address_hash == address_hash(contact.email, key)


def test_deleting_a_salesforce_contact_leaves_a_tombstone_and_restoring_takes_it_away(app: Flask) -> None:
    """Rule contacts 10."""
    connection = make_synced_connection()
    contact = make_contact(connection)
    letter = lists.create_list(connection.user_id, "Letter")
    lists.add_members(letter, [contact.id])
    assert removal.remove_contacts(connection.user_id, [contact.id]) == (0, [contact.id])
    db.session.expire_all()
    assert contact.is_hidden
    assert queries.find_page(connection.user_id, ContactQuery(contact_list=letter), utcnow()).total == 0
    assert removal.restore_contacts(connection.user_id, [contact.id]) == 1
    db.session.expire_all()
    assert not contact.is_hidden
    assert queries.find_page(connection.user_id, ContactQuery(contact_list=letter), utcnow()).total == 1


def test_deleting_twice_keeps_the_first_moment(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection)
    removal.remove_contacts(connection.user_id, [contact.id])
    db.session.expire_all()
    first = contact.hidden_at
    assert removal.remove_contacts(connection.user_id, [contact.id]) == (0, [])
    db.session.expire_all()
    assert contact.hidden_at == first


def test_deleting_a_contact_made_by_hand_deletes_it(app: Flask) -> None:
    alice = make_advisor()
    contact = add(alice)
    letter = lists.create_list(alice.id, "Letter")
    contact_id = contact.id
    lists.add_members(letter, [contact_id])
    assert removal.remove_contacts(alice.id, [contact_id]) == (1, [])
    assert queries.find_contact(alice.id, contact_id, utcnow()) is None


def test_no_advisor_deletes_or_restores_anothers_contacts(app: Flask) -> None:
    connection = make_synced_connection()
    bob = make_advisor(connection.user.partner, "Bob Ferreira")
    here, hidden = make_contact(connection), make_contact(connection, hidden_at=utcnow())
    by_hand = make_contact(connection.user)
    assert removal.remove_contacts(bob.id, [here.id, by_hand.id]) == (0, [])
    assert removal.restore_contacts(bob.id, [hidden.id]) == 0
    assert queries.count_contacts(connection.user_id, utcnow()).everybody.people == 2
