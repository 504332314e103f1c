"""The demo's org: 2,500 contacts of the connected user among 6,000. Exactly the right ones come in, field by field.

The expected contacts are computed here from the org's own store, with no rule taken from asapp.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.models import Contact, ContactList, LedgerEntry
from orgsim import Running
from orgsim.seed import seed_demo
from tests.factories import make_connection
from tests.syncing import KEY, Office, contacts_here, reasons_here

TWIN_PAIRS = 4


class ImportedPerson(NamedTuple):
    salesforce_id: str | None
    first_name: str
    last_name: str
    email: str
    stamp: datetime | None
    opted_out: bool


def office_of_the_demo(org: Running) -> tuple[Office, str]:
    """Return an office whose advisor is connected as the demo's first person, and that person's Id."""
    office = Office(org)
    firm = seed_demo(office.org)
    db.session.delete(office.connection)
    db.session.commit()
    tokens = office.org.issue_tokens(firm.amara, KEY)
    office.connection = make_connection(
        office.advisor,
        org_id=office.org.id,
        salesforce_user_id=firm.amara,
        instance_url=org.url,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
    )
    return office, firm.amara


@pytest.mark.slow
def test_exactly_the_right_ones_and_a_second_sync_changes_nothing(app: Flask, org: Running) -> None:
    office, amara = office_of_the_demo(org)
    everybody = office.org.contacts()
    theirs = [each for each in everybody if each["OwnerId"] == amara]
    assert (len(everybody), len(theirs)) == (6000, 2500)
    due = {
        ImportedPerson(
            each["Id"], each["FirstName"] or "", each["LastName"], each["Email"], each["SystemModstamp"], False
        )
        for each in theirs
        if each["Email"] and not each["HasOptedOutOfEmail"]
    }
    opted_out = {each["Email"].lower() for each in theirs if each["Email"] and each["HasOptedOutOfEmail"]}

    first = office.sync()

    assert first.is_complete
    assert (first.read, first.created, first.total) == (2500, len(due), 2500)
    assert first.skipped == {"opted_out": 45, "no_email": 24}
    assert {person_of(contact) for contact in contacts_here(office.connection)} == due
    off = {each.salesforce_id: "twin_opted_out" for each in due if each.email.lower() in opted_out}
    assert len(off) == TWIN_PAIRS
    reasons = reasons_here(office.connection)
    assert reasons == {each.salesforce_id: off.get(each.salesforce_id) for each in due}
    assert ledger(office) == {each["Id"] for each in theirs}
    db.session.rollback()
    kinds = set(db.session.scalars(select(ContactList.kind).where(ContactList.user_id == office.advisor.id)))
    assert kinds == {"salesforce_contacts", "salesforce_leads"}

    before = office.snapshot()
    office.org.clock.advance(20 * 60)
    mark = office.org.calls.mark()
    second = office.sync()

    assert second.is_complete
    assert (second.read, second.created, second.updated, second.deactivated) == (0, 0, 0, 0)
    assert office.org.calls.counted(mark) == 1
    assert office.snapshot() == before


def person_of(row: Contact) -> ImportedPerson:
    return ImportedPerson(
        row.salesforce_id, row.first_name, row.last_name, row.email, row.system_modstamp, row.opted_out
    )


def ledger(office: Office) -> set[str]:
    of_ours = LedgerEntry.connection_id == office.connection.id
    return set(db.session.scalars(select(LedgerEntry.salesforce_id).where(of_ours)))
