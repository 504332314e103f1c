"""Who may be written to, and why not: contacts/status.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from asapp.contacts.status import contact_rows, is_active, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions, sign_up_page
from asapp.models import ConnectionStatus, Contact, ContactSource, Reason
from asapp.salesforce.hosts import to_18
from tests.factories import (
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_synced_connection,
    make_twin,
    save,
)
from tests.signing_up import ask_no_one, someone_signs_up


def state_of(contact: Contact) -> tuple[str | None, bool]:
    """Return the reason, and whether the contact is active: the two must always agree."""
    now = utcnow()
    query = contact_rows(reason_of(now), is_active(now)).where(Contact.id == contact.id)
    reason, active = db.session.execute(query).one()
    of_owner = contact_rows(reason_of(now, contact.user_id), is_active(now, contact.user_id))
    assert tuple(db.session.execute(of_owner.where(Contact.id == contact.id)).one()) == (reason, active)
    db.session.rollback()
    assert bool(active) is (reason is None)
    return reason, bool(active)


def test_a_contact_of_a_connection_that_syncs_is_active(app: Flask) -> None:
    assert state_of(make_contact(make_synced_connection())) == (None, True)


def test_a_manual_contact_is_active_without_any_connection(app: Flask) -> None:
    assert state_of(make_contact(make_advisor())) == (None, True)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"opted_out": True}, Reason.OPTED_OUT),
        ({"is_twin": True}, Reason.TWIN_OPTED_OUT),
        ({"hidden_at": utcnow()}, Reason.HIDDEN_HERE),
        ({"departed": "deleted"}, Reason.DELETED),
        ({"departed": "merged"}, Reason.MERGED),
        ({"departed": "reassigned"}, Reason.REASSIGNED),
        ({"departed": "gone"}, Reason.GONE),
    ],
)
def test_what_is_stored_about_a_contact_is_its_reason(app: Flask, columns: dict[str, Any], reason: Reason) -> None:
    assert state_of(make_contact(make_synced_connection(), **columns)) == (reason, False)


def test_contacts_of_a_disconnected_connection_are_inactive(app: Flask) -> None:
    connection = make_synced_connection(status=ConnectionStatus.DISCONNECTED)
    assert state_of(make_contact(connection)) == (Reason.DISCONNECTED, False)


def test_no_one_of_a_disabled_firm_is_active(app: Flask) -> None:
    firm, elsewhere = make_partner(), make_advisor(make_partner())
    alice = make_advisor(firm)
    theirs, own, suppressed = make_contact(make_synced_connection(alice)), make_contact(alice), make_contact(alice)
    suppressed.opted_out = True
    firm.is_enabled = False
    db.session.commit()
    assert [state_of(each)[0] for each in (theirs, own)] == [Reason.DISCONNECTED] * 2
    assert state_of(suppressed) == (Reason.OPTED_OUT, False)
    assert state_of(make_contact(elsewhere)) == (None, True)
    firm.is_enabled = True
    db.session.commit()
    assert [state_of(each) for each in (theirs, own)] == [(None, True)] * 2


def test_unknown_never_counts_as_may_be_written_to(app: Flask) -> None:
    """Rule contacts 3: before the first answer about opt-outs, and when the last good sync is too long ago."""
    never_asked = make_connection(opt_outs_known_until=None)
    assert state_of(make_contact(never_asked)) == (Reason.OPT_OUT_UNKNOWN, False)
    run_out = make_connection(opt_outs_known_until=utcnow() - timedelta(seconds=1))
    assert state_of(make_contact(run_out)) == (Reason.OPT_OUT_UNKNOWN, False)


def test_a_sign_up_that_waits_for_the_advisor_is_inactive_until_it_is_sent(app: Flask) -> None:
    """A robot may have invented the address: unknown never counts as a yes."""
    advisor = make_synced_connection().user
    first = someone_signs_up(advisor, "p0@example.com").contact_id
    sign_up_page.pause(sign_up_page.ensure_page(advisor))
    waiting = someone_signs_up(advisor, "p1@example.com").contact_id

    assert state_of(db.session.get_one(Contact, first)) == (None, True)
    assert state_of(db.session.get_one(Contact, waiting)) == (Reason.OPT_OUT_UNKNOWN, False)
    assert state_of(make_contact(advisor)) == (None, True)
    decisions.send_reviewed(advisor, ask_no_one)
    assert state_of(db.session.get_one(Contact, waiting)) == (None, True)


def test_a_waiting_sign_up_without_a_contact_makes_no_other_person_unknown(app: Flask) -> None:
    advisor = make_synced_connection().user
    sent = someone_signs_up(advisor, "p0@example.com").contact_id
    sign_up_page.pause(sign_up_page.ensure_page(advisor))
    someone_signs_up(advisor, "p1@example.com").contact_id = None
    db.session.commit()
    active = contact_rows(Contact.id).where(Contact.id == sent, is_active(utcnow(), advisor.id))
    assert db.session.scalars(active).all() == [sent]


def test_a_sign_up_whose_record_in_salesforce_has_not_come_yet_is_unknown(app: Flask) -> None:
    """It was linked to a Salesforce contact, and no sync would bring that contact's opt-out; leads have their own."""
    connection = make_synced_connection(leads_known_until=utcnow() + timedelta(days=3))
    followed = {"source": ContactSource.LEAD, "followed_by_id": connection.id, "is_lead": True}
    assert state_of(make_contact(connection.user, **followed)) == (Reason.OPT_OUT_UNKNOWN, False)
    assert state_of(make_contact(connection.user, salesforce_id=to_18("00Q5g0000000001"), **followed)) == (None, True)


@pytest.mark.parametrize("known_until", [None, utcnow() - timedelta(days=1)], ids=["never", "too long ago"])
def test_a_sign_up_that_became_a_lead_is_unknown_where_leads_are(app: Flask, known_until: datetime | None) -> None:
    connection = make_synced_connection(leads_known_until=known_until)
    columns = {"source": ContactSource.LEAD, "followed_by_id": connection.id, "salesforce_id": to_18("00Q5g0000000001")}
    assert state_of(make_contact(connection.user, **columns)) == (Reason.OPT_OUT_UNKNOWN, False)


def test_a_contact_out_of_sight_is_known_until_a_moment_of_its_own(app: Flask) -> None:
    connection, now = make_synced_connection(), utcnow()
    assert state_of(make_contact(connection, opt_out_known_until=now + timedelta(hours=1))) == (None, True)
    run_out = make_contact(connection, opt_out_known_until=now - timedelta(seconds=1))
    assert state_of(run_out) == (Reason.OPT_OUT_UNKNOWN, False)


STEPS: list[tuple[Reason, Callable[[Contact], None]]] = [
    (Reason.OPT_OUT_UNKNOWN, lambda contact: None),
    (Reason.DISCONNECTED, lambda contact: set_status(contact, ConnectionStatus.DISCONNECTED)),
    (Reason.TWIN_OPTED_OUT, make_twin),
    (Reason.OPTED_OUT, lambda contact: setattr(contact, "opted_out", True)),
    (Reason.HIDDEN_HERE, lambda contact: setattr(contact, "hidden_at", utcnow())),
    (Reason.MERGED, lambda contact: setattr(contact, "departed", "merged")),
]


def set_status(contact: Contact, status: ConnectionStatus) -> None:
    from asapp.models import Connection

    db.session.get_one(Connection, contact.connection_id).status = status


def test_the_reason_given_is_the_first_that_is_true(app: Flask) -> None:
    """Each step adds a stronger reason to a contact that keeps the weaker ones."""
    contact = make_contact(make_connection(opt_outs_known_until=None))
    for reason, add in STEPS:
        add(contact)
        save(contact)
        assert state_of(contact) == (reason, False)
