"""From the outbox to Salesforce, each person once."""

from __future__ import annotations

import pytest
from flask import Flask

from asapp.models import LeadState
from asapp.simulator.server import Running
from tests.signing_up import PostOffice, someone_signs_up


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    return PostOffice(org)


def test_a_person_who_signs_up_becomes_a_lead_of_the_advisors(office: PostOffice) -> None:
    someone_signs_up(office.advisor)

    office.deliver()

    (lead,) = office.org.leads(office.user)
    assert (lead["FirstName"], lead["LastName"], lead["Email"]) == ("Mei-Ling", "Chou", "mei.chou@harbour.example")
    assert (lead["Company"], lead["LeadSource"]) == ("[not provided]", "AdvisorStream")
    assert office.lead().state == LeadState.SENT
    assert office.lead().salesforce_id == lead["Id"]
