"""Rule contacts 2 across syncs: a blocked address is not written to, whichever record opted out and whatever happens later."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.connections import connections
from asapp.contacts import manual
from asapp.contacts.form_fields import Details
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions
from asapp.models import BlockedAddress, Contact, ContactSource, LeadState, LedgerEntry, Reason, RunStatus
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.domain.test_leads_once import switch
from tests.domain.test_moving import move
from tests.factories import make_partner
from tests.signing_up import someone_signs_up
from tests.syncing import KEY

ADDRESS = "mei.chou@harbour.example"
OTHER_ADDRESS = "zoe.lindstrom@harbour.example"


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def reasons(source: str) -> list[str | None]:
    db.session.rollback()
    query = contact_rows(reason_of(utcnow())).where(Contact.source == source).order_by(Contact.email)
    return list(db.session.scalars(query))


def remove_and_reconnect(office: FollowingOffice) -> None:
    connections.end_connection(office.connection, keep_contacts=False)
    db.session.commit()
    tokens = office.org.issue_tokens(office.user, KEY)
    vault = current_app.extensions["asapp.vault"]
    for name in ("access_token", "refresh_token"):
        office.connection.seal(vault, f"{name}_sealed", tokens[name])
    office.connection.status = "connected"
    db.session.commit()


def opted_out_sign_up(office: FollowingOffice) -> str:
    """A person signed up, went to Salesforce as a Lead, and opted out there; return the Lead's Id."""
    lead_id = office.send()
    office.sync()
    office.org.opt_out(lead_id)
    office.sync()
    return lead_id


def test_a_new_contact_with_the_address_of_a_lead_that_was_sent_and_opted_out(office: FollowingOffice) -> None:
    opted_out_sign_up(office)
    office.add(email=ADDRESS)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]


def test_the_same_after_the_contacts_were_removed_and_came_again(office: FollowingOffice) -> None:
    opted_out_sign_up(office)
    office.add(email=ADDRESS)
    office.sync()
    remove_and_reconnect(office)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]


def test_erasing_a_person_who_opted_out_keeps_the_address_blocked(office: FollowingOffice) -> None:
    lead_id = opted_out_sign_up(office)
    office.add(email=ADDRESS)
    office.sync()
    decisions.erase(office.advisor.id, db.session.scalars(select(Contact).where(Contact.source == "lead")).one())
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    office.sync_after_a_day()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    office.org.opt_in(lead_id)
    office.sync()
    assert reasons("salesforce") == [None]


def test_an_opted_out_lead_of_the_user_that_never_came_from_here_counts(office: FollowingOffice) -> None:
    """Its address is kept as a hash alone, and a Lead that has nothing to do with us leaves no other trace."""
    office.add(email=ADDRESS)
    lead_id = office.org.add_lead(office.user, last_name="Chou", email=ADDRESS.upper(), opted_out=True)
    office.org.add_lead(office.colleague, last_name="Abreu", email=OTHER_ADDRESS, opted_out=True)
    office.add(email=OTHER_ADDRESS)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT, None]
    assert db.session.scalars(select(BlockedAddress.salesforce_id)).all() == [lead_id]


def test_a_lead_that_opts_out_between_two_syncs_is_counted_under_also_and_costs_no_further_call(
    office: FollowingOffice,
) -> None:
    office.add(email=ADDRESS)
    lead_id = office.org.add_lead(office.user, last_name="Chou", email=ADDRESS)
    office.sync()
    office.org.opt_out(lead_id)
    run = office.sync()
    assert (run.also, run.api_calls) == ({"twin_opted_out": 1}, 1)
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    office.org.opt_in(lead_id)
    assert office.sync().also == {"twin_back": 1}
    assert reasons("salesforce") == [None]


@pytest.mark.parametrize("end", ["convert", "delete", "purge", "give away", "another address", "no address"])
def test_a_lead_that_no_longer_is_an_open_opted_out_record_of_the_user_frees_its_address(
    office: FollowingOffice, end: str
) -> None:
    office.add(email=ADDRESS)
    lead_id = office.org.add_lead(office.user, last_name="Chou", email=ADDRESS, opted_out=True)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    match end:
        case "convert":
            office.org.opt_in(office.org.convert_lead(lead_id))
        case "delete":
            office.org.delete(lead_id)
        case "purge":
            office.org.purge(lead_id)
        case "give away":
            office.org.give(lead_id, office.colleague)
        case "another address":
            office.org.update_lead(lead_id, Email=OTHER_ADDRESS)
        case "no address":
            office.org.update_lead(lead_id, Email=None)
    office.sync_after_a_day()  # a sync reads no row of a lead that is gone or has another owner
    assert reasons("salesforce")[0] is None


def test_a_lead_that_a_colleague_made_and_has_back_frees_its_address_with_the_daily_sweep(
    office: FollowingOffice,
) -> None:
    office.add(email=ADDRESS)
    lead_id = office.org.add_lead(office.colleague, last_name="Chou", email=ADDRESS, opted_out=True)
    office.org.give(lead_id, office.user)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    office.org.give(lead_id, office.colleague)
    office.sync_after_a_day()
    assert reasons("salesforce") == [None]


def test_the_daily_sweep_finds_an_opted_out_lead_that_became_visible_without_a_stamp(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.org.add_lead(office.user, last_name="Chou", email=ADDRESS, opted_out=True)
    for _ in range(2):
        office.sync()
        office.org.clock.advance(3600)
    db.session.query(BlockedAddress).delete()
    db.session.commit()
    office.sync()
    assert reasons("salesforce") == [None]  # nothing was changed, so nothing was read
    office.sync_after_a_day()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]


def test_where_leads_cannot_be_read_contacts_are_synced_and_what_was_known_holds(office: FollowingOffice) -> None:
    office.add(email=ADDRESS)
    office.org.add_lead(office.user, last_name="Chou", email=ADDRESS, opted_out=True)
    office.sync()
    office.org.hide_field("Lead", "HasOptedOutOfEmail")
    assert office.sync().is_complete
    assert office.connection.leads_trouble
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]


def test_an_opted_out_lead_merged_into_another_sign_ups_lead_frees_its_address(office: FollowingOffice) -> None:
    first = opted_out_sign_up(office)
    office.add(email=ADDRESS)
    office.sync()
    someone_signs_up(office.advisor, first_name="Tomás", last_name="Calle", email="tomas@calle.example")
    office.deliver()
    office.sync()
    other = next(lead["Id"] for lead in office.org.leads() if lead["Email"] == "tomas@calle.example")
    office.org.merge(other, [first])
    office.sync()
    office.sync()
    assert reasons("salesforce") == [None]


def test_a_moved_advisor_who_comes_back_has_no_active_contact_who_opted_out_there(
    app: Flask, office: FollowingOffice
) -> None:
    office.add(email=ADDRESS, opted_out=True)
    office.sync()
    home, away = office.advisor.partner, make_partner("Fjord Advisors", "https://fjord.my.salesforce.com")
    assert home is not None
    move(app, office.advisor, away, keep_contacts=True)
    vault = current_app.extensions["asapp.vault"]
    manual.add_contact(office.advisor, Details("Mei-Ling", "Chou", ADDRESS), vault)
    assert reasons("manual") == [None]  # no one opted out at this firm
    move(app, office.advisor, home, keep_contacts=True)
    assert reasons("manual") == [Reason.TWIN_OPTED_OUT]


def test_blocked_addresses_follow_the_ledger_in_every_full_read(office: FollowingOffice) -> None:
    """Contacts removed on disconnecting take the ledger along; what opted in meanwhile is free again, what didn't isn't."""
    back_in, still_out = office.add(email=ADDRESS, opted_out=True), office.add(email=OTHER_ADDRESS, opted_out=True)
    office.sync()
    vault = current_app.extensions["asapp.vault"]
    for address in (ADDRESS, OTHER_ADDRESS):
        manual.add_contact(office.advisor, Details("By", "Hand", address), vault)
    remove_and_reconnect(office)
    assert reasons("manual") == [Reason.TWIN_OPTED_OUT] * 2
    office.org.delete(back_in)
    run = office.sync()
    assert run.status == RunStatus.COMPLETE
    assert reasons("manual") == [None, Reason.TWIN_OPTED_OUT]
    assert run.also == {"twin_back": 1}
    assert db.session.scalars(select(BlockedAddress.salesforce_id)).all() == [still_out]
    assert db.session.scalars(select(LedgerEntry.salesforce_id)).all() == [still_out]
    assert {each.source for each in db.session.scalars(select(Contact))} == {ContactSource.MANUAL}
    assert office.connection.last_good_sync_at > utcnow() - timedelta(minutes=1)


def test_a_full_read_corrects_a_blocked_address_that_is_not_the_ledgers(office: FollowingOffice) -> None:
    office.add(email=ADDRESS, opted_out=True)
    office.sync()
    right = db.session.scalars(select(BlockedAddress.address_hash)).one()
    db.session.query(BlockedAddress).update({"address_hash": b"w" * 32})
    db.session.commit()
    office.sync_after_a_day()
    assert db.session.scalars(select(BlockedAddress.address_hash)).all() == [right]


def test_what_cannot_be_seen_of_a_lead_takes_nothing_back(office: FollowingOffice) -> None:
    """The person signs up and is linked to their opted-out Lead while its opt-out field is hidden."""
    office.org.add_lead(office.user, last_name="Chou", email=ADDRESS, opted_out=True)
    office.sync()
    manual.add_contact(office.advisor, Details("By", "Hand", ADDRESS), current_app.extensions["asapp.vault"])
    office.org.clock.advance(3600)
    office.sync()
    office.org.hide_field("Lead", "HasOptedOutOfEmail")
    office.sync()
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.lead().state == LeadState.LINKED
    assert reasons("manual") == [Reason.TWIN_OPTED_OUT]
    office.org.show_field("Lead", "HasOptedOutOfEmail")
    office.org.clock.advance(3600)
    office.sync()
    assert reasons("manual") == [Reason.TWIN_OPTED_OUT]
    assert reasons("lead")[0] is not None


def test_an_opted_out_row_that_cannot_be_read_whole_stops_its_twins(office: FollowingOffice) -> None:
    manual.add_contact(office.advisor, Details("By", "Hand", ADDRESS), current_app.extensions["asapp.vault"])
    office.add(email=OTHER_ADDRESS)
    office.add(last_name="x" * 300, email=ADDRESS, opted_out=True)
    office.sync()
    assert reasons("manual") == [Reason.TWIN_OPTED_OUT]


def test_what_an_earlier_connection_heard_of_a_record_ends_when_this_one_reads_it(office: FollowingOffice) -> None:
    contact_id = office.add(email=ADDRESS, opted_out=True)
    office.sync()
    switch(office)
    office.org.give(contact_id, office.colleague)
    office.org.opt_in(contact_id)
    office.sync()
    assert reasons("salesforce") == [None]


def test_a_leads_address_in_salesforce_counts_and_reading_it_again_changes_nothing(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.add(email=OTHER_ADDRESS)
    office.sync()
    office.org.update_lead(lead_id, Email=OTHER_ADDRESS)
    office.org.opt_out(lead_id)
    office.sync()
    assert reasons("salesforce") == [Reason.TWIN_OPTED_OUT]
    assert office.sync().also == {}
