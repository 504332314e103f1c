"""Taking back the last act: what was deleted here is restored, what was taken off a list is put back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from asapp.contacts import lists, removal, undo
from asapp.contacts.queries import lists_by_contact
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Contact, ListMember, Undo
from tests.factories import make_advisor, make_contact, make_synced_connection


@pytest.fixture
def connection(app: Flask) -> Connection:
    return make_synced_connection()


def deleted_here() -> int:
    return db.session.scalar(select(func.count()).where(Contact.hidden_at.is_not(None))) or 0


def test_a_delete_is_taken_back_once_and_lists_come_back_as_they_were(connection: Connection) -> None:
    user_id, now = connection.user_id, utcnow()
    own, contacts = lists.create_list(user_id, "Letter"), [make_contact(connection) for _ in range(3)]
    lists.add_members(own, [contacts[0].id])
    removed = removal.remove_contacts(user_id, [each.id for each in contacts[:2]])
    token = undo.offer_restore(user_id, removed.hidden, now)
    assert deleted_here() == 2
    assert undo.undo(user_id, token, now) == (2, None)
    assert (deleted_here(), lists_by_contact([contacts[0].id])[contacts[0].id]) == (0, [own.name])
    removal.remove_contacts(user_id, [contacts[0].id])
    assert undo.undo(user_id, token, now) is None
    assert deleted_here() == 1


def test_contacts_taken_off_a_list_are_put_back_but_those_who_were_not_on_it(connection: Connection) -> None:
    own, contacts = lists.create_list(connection.user_id, "Letter"), [make_contact(connection) for _ in range(3)]
    lists.add_members(own, [each.id for each in contacts[:2]])
    taken_off = lists.remove_members(own, [each.id for each in contacts])
    assert sorted(taken_off) == [each.id for each in contacts[:2]]
    token = undo.offer_put_back(own, taken_off, utcnow())
    assert undo.undo(connection.user_id, token, utcnow()) == (2, own)
    assert sorted(db.session.scalars(select(ListMember.contact_id))) == sorted(taken_off)


def test_only_the_last_act_can_be_taken_back_for_ten_minutes_and_by_its_advisor(connection: Connection) -> None:
    user_id, now = connection.user_id, utcnow()
    first, second = make_contact(connection), make_contact(connection)
    tokens = []
    for contact in (first, second):
        removed = removal.remove_contacts(user_id, [contact.id])
        tokens.append(undo.offer_restore(user_id, removed.hidden, now))
    assert undo.undo(user_id, tokens[0], now) is None
    assert undo.undo(make_advisor(connection.partner).id, tokens[1], now) is None
    assert undo.undo(user_id, "", now) is None
    assert undo.undo(user_id, tokens[1], now + undo.LASTS) is None
    assert deleted_here() == 2
    assert undo.undo(user_id, tokens[1], now + undo.LASTS - timedelta(seconds=1)) == (1, None)


def test_a_person_who_was_erased_meanwhile_stays_away(connection: Connection) -> None:
    own, contact = lists.create_list(connection.user_id, "Letter"), make_contact(connection)
    lists.add_members(own, [contact.id])
    token = undo.offer_put_back(own, lists.remove_members(own, [contact.id]), utcnow())
    contact.erased_at = utcnow()
    db.session.commit()
    assert undo.undo(connection.user_id, token, utcnow()) == (0, own)


def test_the_offer_goes_with_its_list(connection: Connection) -> None:
    own, contact = lists.create_list(connection.user_id, "Letter"), make_contact(connection)
    lists.add_members(own, [contact.id])
    token = undo.offer_put_back(own, lists.remove_members(own, [contact.id]), utcnow())
    lists.delete_list(own)
    assert db.session.scalar(select(func.count()).select_from(Undo)) == 0
    assert undo.undo(connection.user_id, token, utcnow()) is None
