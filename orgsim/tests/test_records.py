"""Changes of records that a client did not make, and what it sees of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from orgsim import Org
from orgsim.tests.conftest import KEY, Api

Login = Callable[..., Api]
ALL = "SELECT Id, IsDeleted, MasterRecordId, OwnerId, SystemModstamp FROM Contact"


@pytest.fixture
def rose(org: Org, amara: str) -> str:
    made = org.add_contact(amara, first_name="Rose", last_name="Gonzalez", email="Rose@Edge.com")
    org.clock.freeze()
    org.clock.advance(600)
    return made


def stamp_of(org: Org, record_id: str) -> object:
    record = org.contact(record_id)
    assert record is not None
    return record["SystemModstamp"]


def test_stamps_are_whole_seconds_of_the_orgs_clock(org: Org, api: Api, rose: str) -> None:
    org.update_contact(rose, first_name="Rosa")
    found = api.query("SELECT SystemModstamp, LastModifiedDate, CreatedDate FROM Contact")["records"][0]
    assert (
        found["SystemModstamp"] == found["LastModifiedDate"] == org.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    )
    assert found["CreatedDate"] < found["SystemModstamp"]


def test_addresses_are_stored_in_lower_case(org: Org, rose: str) -> None:
    record = org.contact(rose)
    assert record is not None
    assert record["Email"] == "rose@edge.com"


@pytest.mark.parametrize("verb", ["opt_out", "opt_in", "delete"])
def test_changes_move_the_stamp(org: Org, rose: str, verb: str) -> None:
    before = stamp_of(org, rose)
    getattr(org, verb)(rose)
    assert stamp_of(org, rose) > before


def test_the_bin_is_seen_by_query_all_alone_and_undelete_brings_the_same_id_back(org: Org, api: Api, rose: str) -> None:
    org.delete(rose)
    assert api.ids(ALL) == []
    assert api.ids(ALL, everything=True) == [rose]
    assert api.query(ALL, everything=True)["records"][0]["IsDeleted"] is True
    org.undelete(rose)
    assert api.ids(ALL) == [rose]


def test_a_purged_record_is_gone_for_every_query(org: Org, api: Api, rose: str) -> None:
    org.delete(rose)
    org.purge(rose)
    assert api.ids(ALL, everything=True) == []
    assert org.contact(rose) is None
    assert api.patch(f"/sobjects/Contact/{rose}", {"FirstName": "x"}).json()[0]["errorCode"] == "NOT_FOUND"


def test_the_bin_empties_itself_after_fifteen_days(org: Org, log_in: Login, amara: str, rose: str) -> None:
    org.delete(rose)
    org.clock.advance(14 * 86400)
    assert log_in(amara).ids(ALL, everything=True) == [rose]
    org.clock.advance(2 * 86400)
    assert log_in(amara).ids(ALL, everything=True) == []


def test_a_merge_stamps_the_winner_and_marks_the_loser(org: Org, api: Api, amara: str, rose: str) -> None:
    loser = org.add_contact(amara, last_name="Gonzales", stamp=org.clock.now() - timedelta(days=1))
    before = stamp_of(org, rose)
    org.merge(rose, [loser])
    assert stamp_of(org, rose) > before
    found = {r["Id"]: r for r in api.query(ALL, everything=True)["records"]}
    assert (found[loser]["IsDeleted"], found[loser]["MasterRecordId"]) == (True, rose)
    assert found[rose]["IsDeleted"] is False


def test_a_record_with_a_new_owner_no_longer_matches_the_old_one(org: Org, api: Api, jonas: str, rose: str) -> None:
    org.give(rose, jonas)
    assert api.ids(f"{ALL} WHERE OwnerId = '{org.users()[0]['id']}'") == []
    assert api.query(f"{ALL} WHERE Id = '{rose}'")["records"][0]["OwnerId"] == jonas


def test_private_sharing_hides_what_others_own(
    org: Org, api: Api, log_in: Login, jonas: str, admin: str, rose: str
) -> None:
    org.give(rose, jonas)
    org.change_settings(contact_access="Private")
    assert api.ids(ALL) == []
    assert api.get(f"/sobjects/Contact/{rose}").status_code == 404
    assert log_in(jonas).ids(ALL) == [rose]
    assert log_in(admin).ids(ALL) == [rose]


def test_a_contact_without_an_account_is_private(org: Org, api: Api, log_in: Login, jonas: str, admin: str) -> None:
    alone = org.add_contact(jonas, last_name="Alone", account_id=None)
    assert api.ids(ALL) == []
    assert log_in(jonas).ids(ALL) == log_in(admin).ids(ALL) == [alone]


def test_visibility_changes_without_a_stamp(org: Org, api: Api, rose: str) -> None:
    before = stamp_of(org, rose)
    org.hide_contact(rose)
    assert api.ids(ALL, everything=True) == []
    org.show_contact(rose)
    assert api.ids(ALL) == [rose]
    assert stamp_of(org, rose) == before


def test_formulas_change_without_a_stamp(org: Org, api: Api, rose: str) -> None:
    org.add_field("Contact", "Newsletter_Opt_Out__c")
    before = stamp_of(org, rose)
    org.change_without_stamp(rose, Newsletter_Opt_Out__c=True)
    assert api.query("SELECT Newsletter_Opt_Out__c FROM Contact")["records"][0]["Newsletter_Opt_Out__c"] is True
    assert stamp_of(org, rose) == before


# -- fields and objects that are hidden from a user


def test_a_hidden_field_is_as_unknown_as_a_misspelt_one(
    org: Org, api: Api, log_in: Login, admin: str, rose: str
) -> None:
    org.hide_field("Contact", "HasOptedOutOfEmail")
    assert api.error("SELECT HasOptedOutOfEmail FROM Contact")[0] == "INVALID_FIELD"
    assert (
        "No such column 'HasOptedOutOfEmail' on entity 'Contact'."
        in api.error("SELECT Id FROM Contact WHERE HasOptedOutOfEmail = false")[1]
    )
    fields = {f["name"] for f in api.get("/sobjects/Contact/describe").json()["fields"]}
    assert "HasOptedOutOfEmail" not in fields
    assert "HasOptedOutOfEmail" not in api.get(f"/sobjects/Contact/{rose}").json()
    refused = api.patch(f"/sobjects/Contact/{rose}", {"HasOptedOutOfEmail": True}).json()
    assert refused == [
        {"errorCode": "INVALID_FIELD", "message": "No such column 'HasOptedOutOfEmail' on sobject of type Contact"}
    ]
    assert log_in(admin).query("SELECT HasOptedOutOfEmail FROM Contact")["totalSize"] == 1
    org.show_field("Contact", "HasOptedOutOfEmail")
    assert api.query("SELECT HasOptedOutOfEmail FROM Contact")["totalSize"] == 1


def test_a_field_can_be_hidden_from_one_user(org: Org, api: Api, log_in: Login, amara: str, jonas: str) -> None:
    org.hide_field("Contact", "HasOptedOutOfEmail", user_id=amara)
    assert api.error("SELECT HasOptedOutOfEmail FROM Contact")[0] == "INVALID_FIELD"
    assert log_in(jonas).query("SELECT HasOptedOutOfEmail FROM Contact")["done"] is True


def test_a_locked_field_is_visible_and_not_writable(org: Org, api: Api, rose: str) -> None:
    org.lock_field("Contact", "LeadSource")
    field = next(f for f in api.get("/sobjects/Contact/describe").json()["fields"] if f["name"] == "LeadSource")
    assert (field["createable"], field["updateable"]) == (False, False)
    error = api.patch(f"/sobjects/Contact/{rose}", {"LeadSource": "Web"}).json()[0]
    assert (error["errorCode"], error["fields"]) == ("INVALID_FIELD_FOR_INSERT_UPDATE", ["LeadSource"])


def test_an_encrypted_field_can_be_read_and_written_but_not_filtered_by(org: Org, api: Api, rose: str) -> None:
    org.encrypt_field("Contact", "Email")
    assert api.query("SELECT Email FROM Contact")["records"][0]["Email"]
    for where in ("WHERE Email = 'rose@edge.com'", "WHERE Email IN ('a@b.example')", "WHERE Email = null"):
        code, message = api.error(f"SELECT Id FROM Contact {where}")
        assert code == "INVALID_FIELD"
        assert message.endswith("field 'Email' can not be filtered in a query call")
    assert api.error("SELECT Id FROM Contact ORDER BY Email")[1].endswith("can not be sorted in a query call")
    assert api.patch(f"/sobjects/Contact/{rose}", {"Email": "new@edge.example"}).status_code == 204
    field = next(f for f in api.get("/sobjects/Contact/describe").json()["fields"] if f["name"] == "Email")
    assert (field["filterable"], field["sortable"], field["groupable"], field["encrypted"]) == (False,) * 3 + (True,)
    assert api.query("SELECT Id FROM Lead WHERE Email = 'rose@edge.com'")["totalSize"] == 0
    org.decrypt_field("Contact", "Email")
    assert api.query("SELECT Id FROM Contact WHERE Email = 'new@edge.example'")["totalSize"] == 1


def test_an_object_without_the_right_to_read_does_not_exist(org: Org, api: Api) -> None:
    org.deny_object("Lead", "read")
    assert api.error("SELECT Id FROM Lead")[0] == "INVALID_TYPE"
    assert api.get("/sobjects/Lead/describe").status_code == 404
    org.allow_object("Lead", "read")
    assert api.query("SELECT Id FROM Lead")["totalSize"] == 0


def test_describe_is_not_modified_until_something_is_hidden(org: Org, api: Api) -> None:
    org.clock.advance(3600)
    since = api.get("/sobjects/Contact/describe").headers["Date"]
    assert api.get("/sobjects/Contact/describe", headers={"If-Modified-Since": since}).status_code == 304
    org.clock.advance(60)
    org.hide_field("Contact", "HasOptedOutOfEmail")
    assert api.get("/sobjects/Contact/describe", headers={"If-Modified-Since": since}).status_code == 200


# -- late commits


def test_a_late_record_shows_after_newer_ones_with_an_older_stamp(org: Org, api: Api, amara: str, rose: str) -> None:
    late = org.begin_late("add_contact", amara, last_name="Late")
    org.clock.advance(300)
    newer = org.add_contact(amara, last_name="Newer")
    assert set(api.ids(ALL)) == {rose, newer}
    org.commit_late(late.handle)
    found = {r["Id"]: r["SystemModstamp"] for r in api.query(ALL)["records"]}
    assert found[late.id] < found[newer]


def test_a_late_change_commits_by_itself_when_it_is_due(org: Org, api: Api, rose: str) -> None:
    began = org.clock.now().replace(microsecond=0)
    org.begin_late("opt_out", rose, visible_in=120)
    org.clock.advance(119)
    assert api.query("SELECT Id FROM Contact WHERE HasOptedOutOfEmail = true")["totalSize"] == 0
    org.clock.advance(2)
    assert api.query("SELECT Id FROM Contact WHERE HasOptedOutOfEmail = true")["totalSize"] == 1
    assert stamp_of(org, rose) == began


def test_a_change_of_a_locked_record_waits_for_the_commit(org: Org, rose: str) -> None:
    org.begin_late("update_contact", rose, email="late@edge.com")
    org.clock.advance(60)
    org.update_contact(rose, first_name="Rosa")
    record = org.contact(rose)
    assert record is not None
    assert (record["Email"], record["FirstName"]) == ("late@edge.com", "Rosa")


def test_a_late_change_that_cannot_work_fails_at_once_and_changes_nothing(org: Org, rose: str) -> None:
    org.delete(rose)
    with pytest.raises(ValueError, match="deleted"):
        org.begin_late("opt_out", rose)
    assert len(org.late) == 0


# -- leads


def test_conversion_keeps_the_lead_and_makes_a_contact(org: Org, api: Api, amara: str) -> None:
    lead = org.add_lead(amara, last_name="Prospect", email="p@x.example", company="Acme", opted_out=True)
    contact = org.convert_lead(lead)
    found = api.query(f"SELECT IsConverted, ConvertedContactId, ConvertedDate FROM Lead WHERE Id = '{lead}'")[
        "records"
    ][0]
    assert (found["IsConverted"], found["ConvertedContactId"]) == (True, contact)
    assert found["ConvertedDate"] == org.clock.now().date().isoformat()
    assert (
        api.query(f"SELECT HasOptedOutOfEmail FROM Contact WHERE Id = '{contact}'")["records"][0]["HasOptedOutOfEmail"]
        is True
    )
    error = api.patch(f"/sobjects/Lead/{lead}", {"FirstName": "x"}).json()[0]
    assert error["errorCode"] == "CANNOT_UPDATE_CONVERTED_LEAD"


def test_many_contacts_are_added_at_once(org: Org, amara: str) -> None:
    made = org.add_contacts({"owner_id": amara, "last_name": f"N{n}", "opted_out": n % 2 == 0} for n in range(5000))
    assert len(set(made)) == 5000
    assert sum(c["HasOptedOutOfEmail"] for c in org.contacts(amara)) == 2500
    assert org.issue_tokens(amara, KEY)["token_type"] == "Bearer"


def test_a_late_commit_inside_a_transaction_that_is_rolled_back_is_not_lost(org: Org, api: Api, rose: str) -> None:
    org.begin_late("update_contact", rose, email="late@edge.com")
    answer = api.patch(
        "/composite/sobjects",
        {
            "allOrNone": True,
            "records": [
                {"attributes": {"type": "Contact"}, "Id": rose, "FirstName": "x"},
                {"attributes": {"type": "Contact"}, "Id": rose, "LastName": None},
            ],
        },
    )
    assert [row["success"] for row in answer.json()] == [False, False]
    assert len(org.late) == 1
    org.opt_out(rose)
    record = org.contact(rose)
    assert record is not None
    assert (record["Email"], record["FirstName"]) == ("late@edge.com", "Rose")
