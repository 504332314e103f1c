"""List views and campaigns: what they answer, and how they mislead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orgsim import Org
from orgsim.tests.conftest import Api

Login = Callable[..., Api]
IN_KENT = {"field": "MailingCity", "operator": "equals", "values": ["'Kent'"]}
NEW = {"field": "CreatedDate", "operator": "equals", "values": ["LAST_N_DAYS:30"]}
COLUMNS = ("Name", "LeadSource", "Owner.Name")


def views(api: Api, sobject: str = "Contact", **params: object) -> dict[str, object]:
    answer = api.get(f"/sobjects/{sobject}/listviews", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def describe(api: Api, view: str, sobject: str = "Contact") -> dict[str, object]:
    answer = api.get(f"/sobjects/{sobject}/listviews/{view}/describe")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_list_of_views_ends_with_a_next_address_of_null(api: Api, org: Org, jonas: str) -> None:
    view = org.add_list_view("Contact", "My Contacts", scope="mine")
    org.add_list_view("Contact", "Jonas only", only_for=[jonas])
    org.add_list_view("Lead", "My Leads")
    root = f"/services/data/v66.0/sobjects/Contact/listviews/{view}"
    assert views(api) == {
        "done": True,
        "listviews": [
            {
                "describeUrl": f"{root}/describe",
                "developerName": "MyContacts",
                "id": view,
                "label": "My Contacts",
                "resultsUrl": f"{root}/results",
                "soqlCompatible": True,
                "url": root,
            }
        ],
        "nextRecordsUrl": None,
        "size": 1,
        "sobjectType": "Contact",
    }


def test_views_come_in_pages(api: Api, org: Org) -> None:
    for number in range(5):
        org.add_list_view("Contact", f"View {number}")
    found, answer = [], views(api, pageSize=2)
    found += answer["listviews"]
    while answer["nextRecordsUrl"]:
        answer = api.get(answer["nextRecordsUrl"]).json()
        found += answer["listviews"]
    assert [one["label"] for one in found] == [f"View {number}" for number in range(5)]


def test_a_description_holds_the_query_the_scope_and_a_short_id(api: Api, org: Org) -> None:
    where = {"conditions": [IN_KENT, NEW], "conjunction": "or"}
    view = org.add_list_view("Contact", "New in Kent", columns=COLUMNS, scope="mine", where=where)
    told = describe(api, view)
    assert told["id"] == view[:15]
    assert told["scope"] == "mine"
    assert told["query"] == (
        "SELECT Name, toLabel(LeadSource), Owner.Name, Id, CreatedDate, LastModifiedDate, SystemModstamp, Owner.Id, OwnerId "
        "FROM Contact USING SCOPE mine WHERE MailingCity = 'Kent' OR CreatedDate = LAST_N_DAYS:30 "
        "ORDER BY Name ASC NULLS FIRST, Id ASC NULLS FIRST"
    )
    assert told["whereCondition"]["conjunction"] == "or"
    assert [c["fieldNameOrPath"] for c in told["columns"] if c["hidden"]] == [
        "Id",
        "CreatedDate",
        "LastModifiedDate",
        "SystemModstamp",
        "Owner.Id",
        "OwnerId",
    ]


def test_the_query_of_a_view_can_be_run_as_it_is(api: Api, org: Org, amara: str, jonas: str) -> None:
    mine = org.add_contact(amara, last_name="Ashdown", MailingCity="Kent", LeadSource="Web")
    org.add_contact(amara, last_name="Elsewhere", MailingCity="Hull")
    org.add_contact(jonas, last_name="Hers", MailingCity="Kent")
    view = org.add_list_view("Contact", "My people in Kent", columns=COLUMNS, scope="mine", where=IN_KENT)
    answer = api.query(str(describe(api, view)["query"]))
    assert [(r["Id"], r["LeadSource"], r["Owner"]["Name"]) for r in answer["records"]] == [
        (mine, "Web", "Amara Okafor")
    ]


@pytest.mark.parametrize("operator", ["notLike", "notIn", "in", "greaterThan"])
def test_operators_become_soql(api: Api, org: Org, amara: str, operator: str) -> None:
    for city in ("Hull", "Kent"):
        org.add_contact(amara, last_name=city, MailingCity=city)
    value = {"notLike": "'H%'", "notIn": "'Hull'", "in": "'Kent'", "greaterThan": "'I'"}[operator]
    view = org.add_list_view("Contact", "V", where={"field": "MailingCity", "operator": operator, "values": [value]})
    assert [r["Name"] for r in api.query(str(describe(api, view)["query"]))["records"]] == ["Kent"]


def test_a_view_over_a_field_that_the_user_may_not_see_reads_as_everybody(api: Api, org: Org, amara: str) -> None:
    for city in ("Hull", "Kent"):
        org.add_contact(amara, last_name=city, MailingCity=city)
    view = org.add_list_view("Contact", "In Kent", columns=("Name", "MailingCity"), where=IN_KENT)
    org.hide_field("Contact", "MailingCity")
    told = describe(api, view)
    assert told["whereCondition"] == {"conditions": [], "conjunction": "and"}
    assert " WHERE " not in told["query"]
    assert api.query(str(told["query"]))["totalSize"] == 2


def test_an_edited_view_keeps_its_id(api: Api, org: Org) -> None:
    view = org.add_list_view("Contact", "In Kent", where=IN_KENT)
    before = describe(api, view)["query"]
    org.change_list_view(view, label="Renamed", where=NEW)
    assert describe(api, view)["query"] != before
    assert [(v["id"], v["label"]) for v in views(api)["listviews"]] == [(view, "Renamed")]


def test_deleted_and_unshared_views_are_not_found(api: Api, org: Org, jonas: str) -> None:
    gone, unshared = org.add_list_view("Contact", "Gone"), org.add_list_view("Contact", "Unshared")
    org.delete_list_view(gone)
    org.change_list_view(unshared, only_for=[jonas])
    for view in (gone, unshared):
        answer = api.get(f"/sobjects/Contact/listviews/{view}/describe")
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    assert api.get(f"/sobjects/Lead/listviews/{gone}").status_code == 404


def test_a_view_that_soql_cannot_draw_says_so_and_has_no_query(api: Api, org: Org) -> None:
    view = org.add_list_view("Lead", "Queue: unassigned", soql_compatible=False)
    assert [v["soqlCompatible"] for v in views(api, "Lead")["listviews"]] == [False]
    assert describe(api, view, "Lead")["query"] is None


def test_results_are_what_a_screen_shows(api: Api, org: Org, amara: str) -> None:
    org.clock.freeze()
    person = org.add_contact(amara, last_name="Ashdown", opted_out=True)
    view = org.add_list_view("Contact", "All", columns=("Name", "HasOptedOutOfEmail"))
    answer = api.get(f"/sobjects/Contact/listviews/{view}/results", params={"limit": 1}).json()
    shown = {c["fieldNameOrPath"]: c["value"] for c in answer["records"][0]["columns"]}
    assert (answer["size"], shown["Id"], shown["HasOptedOutOfEmail"]) == (1, person, "true")
    assert shown["CreatedDate"] == org.clock.now().strftime("%a %b %d %H:%M:%S GMT %Y")


def test_a_description_may_be_a_part_of_a_composite(api: Api, org: Org) -> None:
    view = org.add_list_view("Contact", "All")
    url = f"/services/data/v66.0/sobjects/Contact/listviews/{view}/describe"
    body = {"compositeRequest": [{"method": "GET", "url": url, "referenceId": "one"}]}
    part = api.post("/composite", body).json()["compositeResponse"][0]
    assert (part["httpStatusCode"], part["body"]["id"]) == (200, view[:15])


MEMBERS = "SELECT Id, ContactId, LeadId, Type, Email, HasOptedOutOfEmail FROM CampaignMember WHERE CampaignId = '{}'"


def test_members_show_their_person_as_it_is_now_without_a_stamp(api: Api, org: Org, amara: str, jonas: str) -> None:
    campaign = org.add_campaign(amara, "Seminar")
    contact = org.add_contact(amara, last_name="A", email="a@a.example")
    lead = org.add_lead(jonas, last_name="L")
    org.add_members(campaign, [contact, lead])
    stamp = "SELECT SystemModstamp FROM CampaignMember WHERE ContactId != null"
    before = api.query(stamp)["records"]
    org.clock.advance(60)
    org.opt_out(contact)
    rows = api.query(MEMBERS.format(campaign) + f" AND LeadOrContactOwnerId = '{amara}'")["records"]
    assert [(r["ContactId"], r["LeadId"], r["Type"], r["HasOptedOutOfEmail"]) for r in rows] == [
        (contact, None, "Contact", True)
    ]
    assert api.query(stamp)["records"] == before
    counts = api.query(f"SELECT NumberOfContacts, NumberOfLeads FROM Campaign WHERE Id = '{campaign}'")["records"][0]
    assert (counts["NumberOfContacts"], counts["NumberOfLeads"]) == (1, 1)


def test_a_converted_leads_member_has_both_ids_and_an_account_is_a_third_kind(api: Api, org: Org, amara: str) -> None:
    campaign = org.add_campaign(amara, "Seminar")
    lead, account = org.add_lead(amara, last_name="L"), org.add_account(amara, "Household")
    org.add_members(campaign, [lead, account])
    contact = org.convert_lead(lead)
    rows = {r["Type"]: r for r in api.query(MEMBERS.format(campaign))["records"]}
    assert (rows["Contact"]["ContactId"], rows["Contact"]["LeadId"]) == (contact, lead)
    assert (rows["Account"]["ContactId"], rows["Account"]["LeadId"]) == (None, None)


def test_removing_a_member_is_for_good(api: Api, org: Org, amara: str) -> None:
    campaign, contact = org.add_campaign(amara, "Seminar"), org.add_contact(amara, last_name="A")
    first = org.add_members(campaign, [contact])
    org.remove_member(campaign, contact)
    assert api.query(MEMBERS.format(campaign), everything=True)["totalSize"] == 0
    assert org.add_members(campaign, [contact]) != first
    with pytest.raises(ValueError, match="no member"):
        org.remove_member(campaign, org.add_contact(amara, last_name="B"))


def test_a_merged_persons_membership_goes_to_the_winner_and_a_deleted_one_ends(api: Api, org: Org, amara: str) -> None:
    campaign = org.add_campaign(amara, "Seminar")
    winner, loser, deleted = (org.add_contact(amara, last_name=name) for name in "WLD")
    org.add_members(campaign, [loser, deleted])
    org.merge(winner, [loser])
    org.delete(deleted)
    assert [r["ContactId"] for r in api.query(MEMBERS.format(campaign))["records"]] == [winner]


def test_a_campaign_without_access_shows_no_members(api: Api, org: Org, amara: str, jonas: str) -> None:
    campaign, contact = org.add_campaign(jonas, "His"), org.add_contact(amara, last_name="A")
    org.add_members(campaign, [contact])
    org.change_settings(campaign_access="Private")
    assert api.query("SELECT Id FROM Campaign")["totalSize"] == 0
    assert api.get(f"/sobjects/Campaign/{campaign}").status_code == 404
    assert api.query(MEMBERS.format(campaign))["totalSize"] == 0
    org.change_settings(members_follow="person")
    assert api.query(MEMBERS.format(campaign))["totalSize"] == 1
    org.deny_object("CampaignMember")
    assert api.error(MEMBERS.format(campaign))[0] == "INVALID_TYPE"
