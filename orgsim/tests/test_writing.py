"""Creating and changing records: Salesforce's checks and texts; composites; the firm's own rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from orgsim import Org
from orgsim.tests.conftest import Api

Login = Callable[..., Api]
UNWRITABLE = (
    "Unable to create/update fields: MasterRecordId. Please check the security settings of this field and verify that "
    "it is read/write for your profile or permission set."
)
LEAD = {"LastName": "Prospect", "Company": "[not provided]", "Email": "p@x.example"}


def lead_with(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**LEAD, **changes}.items() if v is not None}


def test_a_create_answers_201_with_a_location(org: Org, api: Api, amara: str) -> None:
    answer = api.post("/sobjects/Lead/", lead_with(FirstName="  Ann ", Email="Ann@X.example"))
    assert answer.status_code == 201
    made = answer.json()["id"]
    assert answer.json() == {"id": made, "success": True, "errors": []}
    assert answer.headers["Location"] == f"/services/data/v66.0/sobjects/Lead/{made}"
    lead = org.lead(made)
    assert lead is not None
    assert (lead["FirstName"], lead["Email"], lead["Status"]) == ("Ann", "ann@x.example", "Open - Not Contacted")
    assert (lead["OwnerId"], lead["CreatedById"]) == (amara, amara)


@pytest.mark.parametrize(
    ("changes", "code", "message", "fields"),
    [
        ({"LastName": None}, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]", ["LastName"]),
        (
            {"LastName": "  ", "Company": ""},
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [LastName, Company]",
            ["LastName", "Company"],
        ),
        (
            {"Email": "Not a real email address"},
            "INVALID_EMAIL_ADDRESS",
            "Email: invalid email address: Not a real email address",
            ["Email"],
        ),
        (
            {"FirstName": "x" * 41},
            "STRING_TOO_LONG",
            f"First Name: data value too large: {'x' * 41} (max length=40)",
            ["FirstName"],
        ),
        ({"OwnerId": "005000000000001AAA"}, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", []),
        ({"MasterRecordId": "00Q000000000001AAA"}, "INVALID_FIELD_FOR_INSERT_UPDATE", UNWRITABLE, ["MasterRecordId"]),
        ({"HasOptedOutOfEmail": "perhaps"}, "JSON_PARSER_ERROR", None, None),
        ({"AccountNumer": "1"}, "INVALID_FIELD", "No such column 'AccountNumer' on sobject of type Lead", None),
    ],
)
def test_a_wrong_lead_is_refused(
    api: Api, changes: dict[str, Any], code: str, message: str | None, fields: list[str] | None
) -> None:
    answer = api.post("/sobjects/Lead", lead_with(**changes))
    error = answer.json()[0]
    assert (answer.status_code, error["errorCode"], error.get("fields")) == (400, code, fields)
    assert message is None or error["message"] == message


def test_which_addresses_salesforce_accepts(api: Api) -> None:
    assert api.post("/sobjects/Lead", lead_with(Email="b.levy@expressl&t.net")).status_code == 201


def test_null_clears_and_leaving_out_keeps(org: Org, api: Api, amara: str) -> None:
    rose = org.add_contact(amara, first_name="Rose", last_name="G", email="r@x.example")
    assert api.patch(f"/sobjects/Contact/{rose}", {"FirstName": None}).status_code == 204
    record = org.contact(rose)
    assert record is not None
    assert (record["FirstName"], record["Email"]) == (None, "r@x.example")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/sobjects/Contact/003000000000001AAA", 404, "NOT_FOUND"),
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/services/data/v30.0/limits", 410, "UNSUPPORTED_API_VERSION"),
        ("GET", "/services/data/v99.0/limits", 404, "NOT_FOUND"),
        ("PUT", "/sobjects/Contact", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/sobjects/Contact/003000000000001AAA", 404, "INVALID_CROSS_REFERENCE_KEY"),
        ("DELETE", "/sobjects/Contact/nonsense", 400, "MALFORMED_ID"),
    ],
)
def test_what_does_not_exist_is_404(api: Api, method: str, path: str, status: int, code: str) -> None:
    answer = api.call(method, path)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, code)


def test_bodies_that_are_no_json(api: Api) -> None:
    broken = api.call("POST", "/sobjects/Lead", data="{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()[0]["errorCode"]) == (400, "JSON_PARSER_ERROR")
    assert api.call("POST", "/sobjects/Lead", data="{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_only_the_owner_deletes_or_gives_a_record_away(org: Org, api: Api, jonas: str, amara: str) -> None:
    theirs = org.add_contact(jonas, last_name="Theirs")
    refused = api.call("DELETE", f"/sobjects/Contact/{theirs}")
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (403, "INSUFFICIENT_ACCESS_OR_READONLY")
    assert api.patch(f"/sobjects/Contact/{theirs}", {"OwnerId": amara}).status_code == 403
    assert api.patch(f"/sobjects/Contact/{theirs}", {"FirstName": "x"}).status_code == 204


def test_an_inactive_owner_is_refused(org: Org, api: Api, jonas: str) -> None:
    org.change_user(jonas, active=False)
    assert api.post("/sobjects/Lead", lead_with(OwnerId=jonas)).json()[0]["errorCode"] == "INACTIVE_OWNER_OR_USER"


def test_without_the_right_to_create(org: Org, api: Api) -> None:
    org.deny_object("Lead", "create")
    assert api.post("/sobjects/Lead", LEAD).json()[0]["errorCode"] == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"


# -- the firm's rules


def test_assignment_rules_run_unless_told_not_to(org: Org, api: Api, amara: str) -> None:
    queue = org.add_queue("Web Leads")
    org.change_settings(lead_queue=queue)
    assigned = org.lead(api.post("/sobjects/Lead", LEAD).json()["id"])
    kept = org.lead(api.post("/sobjects/Lead", LEAD, headers={"Sforce-Auto-Assign": "FALSE"}).json()["id"])
    assert assigned is not None
    assert kept is not None
    assert (assigned["OwnerId"], kept["OwnerId"]) == (queue, amara)


def test_validation_rules_speak_any_language(org: Org, api: Api) -> None:
    org.change_settings(
        validation_rules=[
            {
                "sobject": "Lead",
                "field": "Phone",
                "when": "blank",
                "message": "Bitte eine Telefonnummer angeben.",
                "on": "Phone",
            }
        ]
    )
    assert api.post("/sobjects/Lead", LEAD).json() == [
        {
            "message": "Bitte eine Telefonnummer angeben.",
            "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "fields": ["Phone"],
        }
    ]
    assert api.post("/sobjects/Lead", lead_with(Phone="1")).status_code == 201


def test_required_custom_fields(org: Org, api: Api) -> None:
    org.add_field("Lead", "Region__c", kind="string")
    org.change_settings(required_fields={"Lead": ["Region__c"]})
    assert api.post("/sobjects/Lead", LEAD).json()[0]["message"] == "Required fields are missing: [Region__c]"
    assert api.post("/sobjects/Lead", lead_with(Region__c="North")).status_code == 201


@pytest.mark.parametrize(
    ("action", "headers", "status"),
    [
        ("Alert", {}, 400),
        ("Alert", {"Sforce-Duplicate-Rule-Header": "allowSave=true"}, 201),
        ("Block", {}, 400),
        ("Block", {"Sforce-Duplicate-Rule-Header": "allowSave=true"}, 400),
    ],
)
def test_duplicate_rules(org: Org, api: Api, amara: str, action: str, headers: dict[str, str], status: int) -> None:
    rose = org.add_contact(amara, last_name="Rose", email="p@x.example")
    org.change_settings(duplicate_rules=[{"sobject": "Lead", "against": "Contact", "action": action}])
    answer = api.post("/sobjects/Lead", LEAD, headers=headers)
    assert answer.status_code == status
    if status == 400:
        error = answer.json()[0]
        assert (error["errorCode"], "fields" in error) == ("DUPLICATES_DETECTED", False)
        matched = error["duplicateResult"]["matchResults"][0]["matchRecords"][0]["record"]["Id"]
        assert (matched, error["duplicateResult"]["allowSave"]) == (rose, action == "Alert")


def test_restricted_picklists(org: Org, api: Api) -> None:
    assert api.post("/sobjects/Lead", lead_with(LeadSource="AdvisorStream")).status_code == 201
    org.change_settings(restricted_picklists=True)
    error = api.post("/sobjects/Lead", lead_with(LeadSource="AdvisorStream")).json()[0]
    assert error["message"] == "Lead Source: bad value for restricted picklist field: AdvisorStream"


# -- collections


def rows(*records: dict[str, Any], all_or_none: bool = False) -> dict[str, Any]:
    return {"allOrNone": all_or_none, "records": [{"attributes": {"type": "Lead"}, **r} for r in records]}


def test_a_collection_answers_row_by_row(org: Org, api: Api) -> None:
    answer = api.post(
        "/composite/sobjects", rows(LEAD, {"LastName": "No company"}, lead_with(OwnerId="005000000000001AAA"))
    )
    good, missing, crossed = answer.json()
    assert (answer.status_code, good["success"], good["errors"]) == (200, True, [])
    assert "id" not in missing
    assert missing["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"
    assert crossed == {
        "success": False,
        "errors": [
            {"statusCode": "INVALID_CROSS_REFERENCE_KEY", "fields": [], "message": "invalid cross reference id"}
        ],
    }
    assert org.count("Lead") == 1


def test_all_or_none(org: Org, api: Api) -> None:
    good, bad = api.post("/composite/sobjects", rows(LEAD, {"Company": "x"}, all_or_none=True)).json()
    assert bad["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"
    assert good["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"
    assert org.count("Lead") == 0


def test_a_collection_of_nothing_or_too_much(api: Api) -> None:
    empty = api.post("/composite/sobjects", {"records": []})
    assert (empty.status_code, empty.json()) == (
        400,
        [{"message": "At least 1 record is required", "errorCode": "REQUIRED_FIELD_MISSING"}],
    )
    assert api.post("/composite/sobjects", rows(*[LEAD] * 201)).status_code == 400


def test_changing_deleting_and_reading_collections(org: Org, api: Api, amara: str) -> None:
    first, second = (org.add_lead(amara, last_name=n) for n in ("One", "Two"))
    changed = api.patch(
        "/composite/sobjects", rows({"Id": first, "FirstName": "A"}, {"Id": "00Q000000000001AAA"})
    ).json()
    assert [r["success"] for r in changed] == [True, False]
    read = api.post("/composite/sobjects/Lead", {"ids": [first, "00Q000000000001AAA"], "fields": ["FirstName"]}).json()
    assert (read[0]["FirstName"], read[1]) == ("A", None)
    gone = api.call("DELETE", f"/composite/sobjects?ids={first},{second}").json()
    assert [r["success"] for r in gone] == [True, True]
    assert org.count("Lead") == 0


# -- composite


def part(reference: str, url: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    return {"method": method, "url": f"/services/data/v66.0{url}", "referenceId": reference, **more}


def composite(api: Api, *parts: dict[str, Any], all_or_none: bool = False) -> list[dict[str, Any]]:
    answer = api.post("/composite", {"allOrNone": all_or_none, "compositeRequest": list(parts)})
    assert answer.status_code == 200, answer.text
    return answer.json()["compositeResponse"]


def test_a_composite_is_one_call(org: Org, api: Api, amara: str) -> None:
    org.add_contact(amara, last_name="Rose")
    mark = org.calls.mark()
    query = quote("SELECT Id FROM Contact WHERE SystemModstamp >= 2020-01-01T00:00:00Z")
    rows_, count, wrong = composite(
        api,
        part("rows", f"/queryAll?q={query}"),
        part("count", f"/query?q={quote('SELECT COUNT() FROM Contact')}"),
        part("wrong", f"/query?q={quote('SELECT Id FROM XYZZY')}"),
    )
    assert rows_["body"]["totalSize"] == count["body"]["totalSize"] == 1
    assert (wrong["httpStatusCode"], wrong["body"][0]["errorCode"]) == (400, "INVALID_TYPE")
    assert org.calls.counted(mark) == 1
    assert len(org.calls.since(mark)[0].soql) == 3


def test_later_parts_refer_to_earlier_ones(org: Org, api: Api) -> None:
    made, read, lost = composite(
        api,
        part("made", "/sobjects/Lead", "POST", body=LEAD),
        part("read", "/sobjects/Lead/@{made.id}?fields=LastName"),
        part("lost", "/sobjects/Lead/@{made.nothing}"),
    )
    assert (made["httpStatusCode"], read["body"]["LastName"]) == (201, "Prospect")
    assert made["httpHeaders"]["Location"].endswith(made["body"]["id"])
    assert lost["body"][0]["errorCode"] == "PROCESSING_HALTED"
    # References are replaced in every text of a body, also in a person's name.
    named = composite(
        api,
        part("a", "/sobjects/Lead", "POST", body=LEAD),
        part("b", "/sobjects/Lead", "POST", body=lead_with(FirstName="@{a.id}")),
    )[1]
    lead = org.lead(named["body"]["id"])
    assert lead is not None
    assert lead["FirstName"].startswith("00Q")


def test_a_composite_rolls_all_parts_back(org: Org, api: Api) -> None:
    good, bad = composite(
        api,
        part("good", "/sobjects/Lead", "POST", body=LEAD),
        part("bad", "/sobjects/Lead", "POST", body={}),
        all_or_none=True,
    )
    assert good["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert bad["body"][0]["errorCode"] == "REQUIRED_FIELD_MISSING"
    assert org.count("Lead") == 0


def test_a_composite_has_25_parts_at_most_and_5_queries(api: Api) -> None:
    query = f"/query?q={quote('SELECT COUNT() FROM Contact')}"
    assert api.post("/composite", {"compositeRequest": [part(f"r{n}", query) for n in range(6)]}).status_code == 400
    assert (
        api.post("/composite", {"compositeRequest": [part(f"r{n}", "/limits") for n in range(26)]}).status_code == 400
    )


def test_a_part_can_have_trouble_of_its_own(org: Org, api: Api) -> None:
    org.trouble.add("query_timeout", kind="subrequest", soql="COUNT()", times=1)
    query, count = composite(
        api,
        part("rows", f"/query?q={quote('SELECT Id FROM Contact')}"),
        part("count", f"/query?q={quote('SELECT COUNT() FROM Contact')}"),
    )
    assert (query["httpStatusCode"], count["httpStatusCode"]) == (200, 400)
    assert count["body"][0]["errorCode"] == "QUERY_TIMEOUT"


def test_a_row_can_have_trouble_of_its_own(org: Org, api: Api) -> None:
    org.trouble.add("unable_to_lock_row", kind="row", after=1, times=1)
    answers = api.post("/composite/sobjects", rows(LEAD, LEAD, LEAD)).json()
    assert [r["success"] for r in answers] == [True, False, True]
    assert answers[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
