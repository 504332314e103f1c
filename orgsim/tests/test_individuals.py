"""Consent records: an object that an org may have, with an owner and sharing of its own."""

from __future__ import annotations

from orgsim import Org
from orgsim.tests.conftest import Api

QUERY = "SELECT Id, IndividualId, Individual.HasOptedOutSolicit FROM Contact"


def test_an_org_without_the_feature_does_not_know_the_relationship(api: Api) -> None:
    code, message = api.error(QUERY)
    assert code == "INVALID_FIELD"
    assert "Didn't understand relationship 'Individual' in field path" in message


def test_a_consent_record_that_is_not_shared_nests_as_null_beside_its_id(
    org: Org, api: Api, amara: str, jonas: str
) -> None:
    org.change_settings(individual_access="Private")
    mine, another = (
        org.add_individual(owner, last_name="Gonzalez", HasOptedOutSolicit=True) for owner in (amara, jonas)
    )
    for individual_id in (mine, another, None):
        org.give_individual(org.add_contact(amara, last_name="Gonzalez"), individual_id)
    rows = {row["IndividualId"]: row["Individual"] for row in api.query(QUERY)["records"]}
    assert rows.keys() == {mine, another, None}
    assert rows[mine]["HasOptedOutSolicit"] is True
    assert rows[another] is rows[None] is None
    org.change_settings(individual_access="ReadWrite")
    assert all(row["Individual"] for row in api.query(QUERY)["records"] if row["IndividualId"])


def test_a_change_of_the_consent_record_moves_no_stamp_of_the_contact(org: Org, api: Api, amara: str) -> None:
    individual_id, contact_id = org.add_individual(amara, last_name="Barr"), org.add_contact(amara, last_name="Barr")
    org.give_individual(contact_id, individual_id)
    before = org.contact(contact_id)["SystemModstamp"]
    org.clock.advance(60)
    org.update_individual(individual_id, HasOptedOutSolicit=True)
    assert org.contact(contact_id)["SystemModstamp"] == before
    assert api.query(QUERY)["records"][0]["Individual"]["HasOptedOutSolicit"] is True


def test_describe_shows_the_object_and_where_it_leads(org: Org, api: Api) -> None:
    assert api.get("/sobjects/Individual/describe").status_code == 404
    org.use_individuals()
    fields = {one["name"]: one for one in api.get("/sobjects/Individual/describe").json()["fields"]}
    assert fields["HasOptedOutSolicit"]["type"] == "boolean"
    reference = next(
        one for one in api.get("/sobjects/Contact/describe").json()["fields"] if one["name"] == "IndividualId"
    )
    assert (reference["relationshipName"], reference["referenceTo"]) == ("Individual", ["Individual"])
