"""Person accounts: two records that are one person."""

from __future__ import annotations

import pytest

from orgsim import Org
from orgsim.tests.conftest import Api

HALVES = "SELECT Id, IsDeleted, MasterRecordId, SystemModstamp FROM {}"
ACCOUNTS = (
    "SELECT Id, IsDeleted, MasterRecordId, MasterRecord.PersonContactId FROM Account WHERE IsPersonAccount = true"
)


@pytest.fixture
def pair(org: Org, amara: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return org.add_person(amara, last_name="Gonzalez"), org.add_person(amara, last_name="Gonzales")


@pytest.mark.parametrize("is_named", [False, True])
def test_a_merge_of_accounts_takes_the_contacts_with_it(
    org: Org, api: Api, pair: tuple[tuple[str, str], tuple[str, str]], is_named: bool
) -> None:
    (winner, survivor), (loser, lost) = pair
    org.name_survivors(is_named)
    org.clock.advance(60)
    org.merge(winner, [loser])
    accounts = {row["Id"]: row for row in api.query(ACCOUNTS, everything=True)["records"]}
    assert accounts[loser]["IsDeleted"]
    assert accounts[loser]["MasterRecord"]["PersonContactId"] == survivor
    contacts = {row["Id"]: row for row in api.query(HALVES.format("Contact"), everything=True)["records"]}
    assert (contacts[lost]["IsDeleted"], contacts[lost]["MasterRecordId"]) == (True, survivor if is_named else None)
    assert contacts[survivor]["SystemModstamp"] == contacts[lost]["SystemModstamp"]


def test_an_account_is_deleted_and_restored_with_its_contact_which_can_not_be_deleted_alone(
    org: Org, api: Api, pair: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    account, contact = pair[0]
    answer = api.call("DELETE", f"/sobjects/Contact/{contact}")
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_PERSON_ACCOUNT_OPERATION")
    with pytest.raises(ValueError, match="use its account"):
        org.delete(contact)
    assert api.call("DELETE", f"/sobjects/Account/{account}").status_code == 204
    assert not {account, contact} & set(api.ids("SELECT Id FROM Contact") + api.ids("SELECT Id FROM Account"))
    org.undelete(account)
    assert contact in api.ids("SELECT Id FROM Contact")


def test_a_lead_without_company_becomes_a_person_and_one_with_company_a_business_contact(
    org: Org, api: Api, amara: str
) -> None:
    def company() -> bool:
        fields = api.get("/sobjects/Lead/describe").json()["fields"]
        return bool(next(one for one in fields if one["name"] == "Company")["nillable"])

    assert not company()
    org.use_person_accounts()
    assert company()
    made = api.post("/sobjects/Lead", {"LastName": "Chou"}).json()["id"]
    persons = {
        name: org.contact(org.convert_lead(lead))["IsPersonAccount"]
        for name, lead in (("blank", made), ("firm", org.add_lead(amara, last_name="Chou", company="Chou & Co.")))
    }
    assert persons == {"blank": True, "firm": False}


def test_a_flip_keeps_the_id_and_moves_the_stamp(org: Org, api: Api, amara: str) -> None:
    _account, contact = org.add_person(amara, last_name="Gonzalez")
    before = org.contact(contact)["SystemModstamp"]
    org.clock.advance(60)
    org.flip_person(contact, org.account_id)
    row = api.query("SELECT Id, AccountId, IsPersonAccount FROM Contact")["records"][0]
    assert (row["Id"], row["AccountId"], row["IsPersonAccount"]) == (contact, org.account_id, False)
    assert org.contact(contact)["SystemModstamp"] > before
    org.flip_person(contact)
    assert api.query("SELECT IsPersonAccount FROM Contact")["records"][0]["IsPersonAccount"] is True


def test_both_halves_have_one_owner_and_one_opt_out(org: Org, api: Api, amara: str, jonas: str) -> None:
    account, contact = org.add_person(amara, last_name="Gonzalez")
    org.opt_out(contact)
    org.give(account, jonas)
    row = api.query(f"SELECT OwnerId, PersonHasOptedOutOfEmail FROM Account WHERE Id = '{account}'")["records"][0]
    assert (row["OwnerId"], row["PersonHasOptedOutOfEmail"], org.contact(contact)["OwnerId"]) == (jonas, True, jonas)
