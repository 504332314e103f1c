"""Firms whose Salesforce encrypts email addresses: they can be read, but no query can filter by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.models import LeadState, LinkedKind
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.factories import log_in
from tests.signing_up import someone_signs_up

EMAIL = "mei.chou@harbour.example"
LOST = "by address whether a person is there already"


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    made = FollowingOffice(org)
    encrypt(made, ("Contact", "Lead"))
    return made


def encrypt(office: FollowingOffice, objects: Sequence[str]) -> None:
    for name in objects:
        office.org.encrypt_field(name, "Email")


def test_leads_go_out(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)

    office.deliver()

    assert (office.lead().state, office.leads_there()) == (LeadState.SENT, [EMAIL])


@pytest.mark.parametrize("which", ["Contact", "Lead"])
def test_one_object_may_be_encrypted_and_the_other_not(office: FollowingOffice, which: str) -> None:
    office.org.decrypt_field(which, "Email")
    contact_id = office.add(email="ravi@harbour.example")
    office.sync()
    lead_id = office.org.add_lead(office.user, last_name="Chou", email=EMAIL)
    someone_signs_up(office.advisor)
    someone_signs_up(office.advisor, "ravi@harbour.example")

    office.deliver()

    assert office.lead().salesforce_id == lead_id
    assert office.lead("ravi@harbour.example").linked_contact_id == contact_id


def test_no_contact_turns_inactive_and_opt_outs_are_known_as_before(office: FollowingOffice) -> None:
    office.add(email="ravi@harbour.example")
    office.send()
    office.sync()
    known = office.connection.leads_known_until, office.connection.opt_outs_known_until

    someone_signs_up(office.advisor, "second@harbour.example")
    office.deliver()

    connection = office.reload(office.connection)
    assert (connection.leads_known_until, connection.opt_outs_known_until) == known
    assert connection.leads_trouble is None
    assert [why for _, why, _ in office.people()] == [None] * 3


def test_an_opt_out_is_seen_as_always(office: FollowingOffice) -> None:
    office.org.opt_out(office.send())

    office.sync()

    assert [why for _, why, _ in office.people()] == ["opted_out"]


# ---- People who are in Salesforce already


@pytest.mark.parametrize("opted_out", [False, True])
def test_a_contact_that_a_sync_has_met_is_linked(office: FollowingOffice, opted_out: bool) -> None:
    contact_id = office.add(email="Mei.Chou@harbour.example", opted_out=opted_out)
    office.sync()
    someone_signs_up(office.advisor)

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.linked_contact_id, lead.opted_out) == (LeadState.LINKED, contact_id, opted_out)
    assert office.org.leads() == []


def test_what_became_of_the_contact_since_is_asked(office: FollowingOffice) -> None:
    """Its opt-out of today counts, and a contact with a new owner is not linked."""
    out, given = office.add(email=EMAIL), office.add(email="ravi@harbour.example")
    office.sync()
    office.org.opt_out(out)
    office.org.give(given, office.colleague)
    someone_signs_up(office.advisor)
    someone_signs_up(office.advisor, "ravi@harbour.example")

    office.deliver()

    assert (office.lead().state, office.lead().opted_out) == (LeadState.LINKED, True)
    assert office.lead("ravi@harbour.example").state == LeadState.SENT


def test_an_open_lead_of_the_advisors_is_linked(office: FollowingOffice) -> None:
    office.org.add_lead(office.colleague, last_name="Chou", email=EMAIL)
    office.org.add_lead(office.user, last_name="Somebody else", email="else@harbour.example")
    lead_id = office.org.add_lead(office.user, last_name="Chou", email=EMAIL.upper())
    someone_signs_up(office.advisor)

    office.deliver()

    assert (office.lead().linked_kind, office.lead().salesforce_id) == (LinkedKind.LEAD, lead_id)


def test_a_lost_answer_makes_no_second_lead(office: FollowingOffice) -> None:
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
    someone_signs_up(office.advisor)
    office.deliver()
    office.org.delete(office.org.leads()[0]["Id"])  # deleted leads are searched too

    office.let_pass(60)
    office.deliver()

    assert (office.lead().state, office.lead().is_deleted) == (LeadState.SENT, True)
    assert office.leads_there() == [EMAIL]


def test_a_create_that_never_arrived_is_sent_again(office: FollowingOffice) -> None:
    office.org.trouble.add("reset", method="POST", path="/composite/sobjects", times=1)
    old = office.org.clock.now() - timedelta(days=30)
    office.org.add_lead(office.user, last_name="Chou", email="else@harbour.example", stamp=old)
    someone_signs_up(office.advisor)
    office.deliver()

    office.let_pass(14 * 60)
    office.deliver()

    assert office.lead().state == LeadState.SENT
    assert office.leads_there() == ["else@harbour.example", EMAIL]


# ---- What the pages show


def test_the_page_names_the_one_feature_that_encryption_disables(client: FlaskClient, office: FollowingOffice) -> None:
    log_in(client, office.advisor)
    office.send()
    assert LOST in client.get("/leads").text

    for name in ("Contact", "Lead"):
        office.org.decrypt_field(name, "Email")
    someone_signs_up(office.advisor, "second@harbour.example")
    office.deliver()

    assert LOST not in client.get("/leads").text


def test_why_is_asked_by_link_instead(client: FlaskClient, office: FollowingOffice) -> None:
    contact_id = office.add(email=EMAIL)
    log_in(client, office.advisor)

    by_address = client.get("/contacts/why", query_string={"person": EMAIL}, part=True).text
    by_id = client.get("/contacts/why", query_string={"person": contact_id}, part=True).text

    assert "encrypted" in by_address
    assert "paste" in by_address
    assert "On its way" in by_id


def test_a_departed_contact_is_asked_about_by_its_stored_id(client: FlaskClient, office: FollowingOffice) -> None:
    contact_id = office.add(email=EMAIL)
    office.fill(20)
    office.sync()
    office.org.give(contact_id, office.colleague)
    office.sync()
    log_in(client, office.advisor)

    answer = client.get("/contacts/why", query_string={"person": EMAIL}, part=True).text

    assert "belongs to Jonas Lindqvist" in answer


def test_the_preview_counts_all_but_those_without_an_address(client: FlaskClient, office: FollowingOffice) -> None:
    office.fill(5)
    office.add()
    office.add(email=EMAIL, opted_out=True)
    log_in(client, office.advisor)

    part = client.get("/settings/integrations/salesforce/preview", part=True).text

    assert "<b>7</b>" in part
    assert "<b>6</b>" in part
    assert "count who has none" in part
    assert "without an email address" not in part


def test_a_sync_reads_addresses_as_always(office: FollowingOffice) -> None:
    office.fill(3)

    run = office.sync()

    assert (run.is_complete, run.created) == (True, 3)
