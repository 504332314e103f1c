"""Setting an opt-out through the API: one record, many records, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from orgsim import Org, Running
from orgsim.tests.conftest import Api

OPT_OUT = "HasOptedOutOfEmail"
QUIET = {"Sforce-Auto-Assign": "FALSE"}


@pytest.fixture
def rose(org: Org, amara: str) -> str:
    return org.add_contact(amara, first_name="Rose", last_name="Gonzalez", email="rose@edge.example")


@pytest.fixture
def lead(org: Org, amara: str) -> str:
    return org.add_lead(amara, last_name="Prospect", email="p@edge.example")


def row(kind: str, record_id: str, **more: Any) -> dict[str, Any]:
    return {"attributes": {"type": kind}, "id": record_id, OPT_OUT: True, **more}


def send(api: Api, *rows: dict[str, Any], **more: Any) -> requests.Response:
    return api.patch("/composite/sobjects", {"allOrNone": False, "records": list(rows)}, **more)


def code_of(answer: requests.Response, number: int = 0) -> str:
    assert answer.status_code == 200, answer.text
    failed = answer.json()[number]
    assert "id" not in failed
    return str(failed["errors"][0]["statusCode"])


def is_out(org: Org, record_id: str) -> bool:
    record = org.contact(record_id)
    assert record is not None
    return bool(record[OPT_OUT])


def test_a_single_update_answers_nothing(org: Org, api: Api, rose: str) -> None:
    answer = api.patch(f"/sobjects/Contact/{rose}", {OPT_OUT: True})
    assert (answer.status_code, answer.content) == (204, b"")
    assert is_out(org, rose)


def test_a_collection_answers_by_position(org: Org, api: Api, rose: str, lead: str) -> None:
    gone = org.add_contact(org.user(next(iter(org.people.users))).id, last_name="Gone")
    org.delete(gone)
    answer = send(api, row("Contact", gone), row("Contact", rose), row("Lead", lead))
    assert code_of(answer) == "ENTITY_IS_DELETED"
    assert [one["success"] for one in answer.json()] == [False, True, True]
    assert answer.json()[1] == {"id": rose, "success": True, "errors": []}
    assert is_out(org, rose)
    assert is_out(org, lead)


def test_a_change_of_a_lead_runs_the_assignment_rule_unless_told_not_to(
    org: Org, api: Api, amara: str, lead: str
) -> None:
    queue = org.add_queue("Web Leads")
    org.change_settings(lead_queue=queue)
    send(api, row("Lead", lead), headers=QUIET)
    assert org.lead(lead)["OwnerId"] == amara  # type: ignore[index]
    send(api, row("Lead", lead))
    assert org.lead(lead)["OwnerId"] == queue  # type: ignore[index]


def test_more_than_ten_runs_of_types_are_refused(org: Org, api: Api, amara: str) -> None:
    people = [
        row("Contact", org.add_contact(amara, last_name=f"C{n}"))
        if n % 2
        else row("Lead", org.add_lead(amara, last_name=f"L{n}"))
        for n in range(11)
    ]
    refused = send(api, *people)
    assert (refused.status_code, "10 chunks" in refused.json()[0]["message"]) == (400, True)
    assert not any(is_out(org, one["id"]) for one in people)
    by_kind = send(api, *sorted(people, key=lambda one: one["attributes"]["type"]))
    assert all(one["success"] for one in by_kind.json())


def test_an_id_that_comes_twice_is_refused_the_second_time(api: Api, rose: str) -> None:
    answer = send(api, row("Contact", rose), row("Contact", rose[:15]))
    assert answer.json()[0]["success"]
    assert code_of(answer, 1) == "DUPLICATE_VALUE"


def test_a_field_that_can_be_seen_and_not_changed(org: Org, api: Api, rose: str) -> None:
    org.lock_field("Contact", OPT_OUT)
    single = api.patch(f"/sobjects/Contact/{rose}", {OPT_OUT: True})
    assert (single.status_code, single.json()[0]["errorCode"], single.json()[0]["fields"]) == (
        400,
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        [OPT_OUT],
    )
    assert code_of(send(api, row("Contact", rose))) == "INVALID_FIELD_FOR_INSERT_UPDATE"
    fields = {one["name"]: one["updateable"] for one in api.get("/sobjects/Contact/describe").json()["fields"]}
    assert (fields[OPT_OUT], fields["FirstName"]) == (False, True)


def test_a_field_that_is_hidden(org: Org, api: Api, rose: str) -> None:
    org.hide_field("Contact", OPT_OUT)
    assert code_of(send(api, row("Contact", rose))) == "INVALID_FIELD"


def test_an_object_without_the_right_to_edit(org: Org, api: Api, rose: str) -> None:
    org.deny_object("Contact", "edit")
    assert api.patch(f"/sobjects/Contact/{rose}", {OPT_OUT: True}).status_code == 403
    assert code_of(send(api, row("Contact", rose))) == "INSUFFICIENT_ACCESS_OR_READONLY"


def test_locks_of_other_transactions_pass(org: Org, api: Api, rose: str) -> None:
    org.lock_record(rose, times=2)
    assert [code_of(send(api, row("Contact", rose))) for _ in range(2)] == ["UNABLE_TO_LOCK_ROW"] * 2
    assert send(api, row("Contact", rose)).json()[0]["success"]
    org.lock_record(rose)
    assert code_of(send(api, row("Contact", rose))) == "UNABLE_TO_LOCK_ROW"
    org.unlock_record(rose)
    assert send(api, row("Contact", rose)).json()[0]["success"]


def test_an_approval_process_locks_until_it_ends(org: Org, api: Api, rose: str) -> None:
    org.begin_approval(rose)
    assert code_of(send(api, row("Contact", rose))) == "ENTITY_IS_LOCKED"
    org.end_approval(rose)
    assert send(api, row("Contact", rose)).json()[0]["success"]


def test_rules_of_the_firm_hold_for_a_change_too(org: Org, api: Api, rose: str) -> None:
    org.change_settings(
        validation_rules=[{"sobject": "Contact", "field": "Phone", "when": "blank", "message": "Telefon?"}]
    )
    assert code_of(send(api, row("Contact", rose))) == "FIELD_CUSTOM_VALIDATION_EXCEPTION"
    org.change_settings(validation_rules=[])
    org.add_field("Contact", "Region__c", kind="string")
    org.change_settings(required_fields={"Contact": ["Region__c"]})
    assert code_of(send(api, row("Contact", rose))) == "REQUIRED_FIELD_MISSING"
    org.change_settings(required_fields={})
    org.change_settings(refusals=[{"sobject": "Contact", "code": "CANNOT_EXECUTE_FLOW_TRIGGER", "message": "No."}])
    assert code_of(send(api, row("Contact", rose))) == "CANNOT_EXECUTE_FLOW_TRIGGER"


@pytest.mark.parametrize(
    ("action", "allow", "saved"),
    [("Alert", "false", False), ("Alert", "true", True), ("Block", "true", False)],
)
def test_a_duplicate_rule_may_look_at_every_change(
    org: Org, api: Api, amara: str, rose: str, action: str, allow: str, saved: bool
) -> None:
    org.add_contact(amara, last_name="Twin", email="rose@edge.example")
    rule = {"sobject": "Contact", "against": "Contact", "action": action}
    org.change_settings(duplicate_rules=[rule])
    assert send(api, row("Contact", rose, **{OPT_OUT: False})).json()[0]["success"]
    org.change_settings(duplicate_rules=[{**rule, "every_update": True}])
    answer = send(api, row("Contact", rose), headers={"Sforce-Duplicate-Rule-Header": f"allowSave={allow}"})
    assert answer.json()[0]["success"] is saved
    assert saved or code_of(answer) == "DUPLICATES_DETECTED"


def test_records_that_are_deleted_or_hidden_are_refused(org: Org, api: Api, amara: str, rose: str, lead: str) -> None:
    purged, hidden, converted = (org.add_lead(amara, last_name=name) for name in ("Purged", "Hidden", "Converted"))
    org.delete(purged)
    org.purge(purged)
    org.hide_contact(hidden)
    org.convert_lead(converted)
    org.merge(lead, [org_loser := org.add_lead(amara, last_name="Loser")])
    answer = send(api, *(row("Lead", one) for one in (purged, hidden, converted, org_loser)))
    assert [code_of(answer, number) for number in range(4)] == [
        "NOT_FOUND",
        "NOT_FOUND",
        "CANNOT_UPDATE_CONVERTED_LEAD",
        "ENTITY_IS_DELETED",
    ]
    single = api.patch(f"/sobjects/Lead/{purged}", {OPT_OUT: True})
    assert (single.status_code, single.json()[0]["errorCode"]) == (404, "NOT_FOUND")


def test_a_person_is_changed_through_contact_or_account(org: Org, api: Api, amara: str) -> None:
    account, contact = org.add_person(amara, last_name="Person", email="person@edge.example")
    stamps = [org.contact(one)["SystemModstamp"] for one in (account, contact)]  # type: ignore[index]
    org.clock.advance(5)
    assert send(api, row("Contact", contact)).json()[0]["success"]
    assert org.contact(account)["PersonHasOptedOutOfEmail"] is True  # type: ignore[index]
    after = [org.contact(one)["SystemModstamp"] for one in (account, contact)]  # type: ignore[index]
    assert all(now > before for now, before in zip(after, stamps, strict=True))
    org.opt_in(contact)
    org.refuse_person_contacts()
    assert code_of(send(api, row("Contact", contact))) == "INVALID_PERSON_ACCOUNT_OPERATION"
    assert api.patch(f"/sobjects/Account/{account}", {"PersonHasOptedOutOfEmail": True}).status_code == 204
    assert is_out(org, contact)


def test_a_business_account_has_no_fields_of_persons(org: Org, api: Api, amara: str) -> None:
    org.add_person(amara, last_name="Person")
    business = org.add_account(amara, "Harbour Ltd")
    refused = api.patch(f"/sobjects/Account/{business}", {"PersonHasOptedOutOfEmail": True})
    assert refused.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    read = api.get(f"/sobjects/Account/{business}?fields=IsPersonAccount,PersonHasOptedOutOfEmail").json()
    assert (read["IsPersonAccount"], read["PersonHasOptedOutOfEmail"]) == (False, None)


def test_an_org_without_persons_does_not_know_the_field(api: Api) -> None:
    assert api.error("SELECT IsPersonAccount FROM Contact")[0] == "INVALID_FIELD"


# -- retrieve


def retrieve(api: Api, ids: list[str], *fields: str) -> requests.Response:
    return api.post("/composite/sobjects/Contact", {"ids": ids, "fields": list(fields)})


def test_contacts_are_retrieved_in_order_with_null_for_each_that_is_missing(
    org: Org, api: Api, amara: str, rose: str
) -> None:
    deleted, hidden = (org.add_contact(amara, last_name=name) for name in ("Deleted", "Hidden"))
    org.delete(deleted)
    org.hide_contact(hidden)
    answer = retrieve(api, [deleted, rose, hidden, "nonsense", "003000000000001AAA"], "Id", "Email", OPT_OUT)
    assert [one and one["Id"] for one in answer.json()] == [None, rose, None, None, None]
    assert answer.json()[1][OPT_OUT] is False


def test_one_hidden_field_fails_the_whole_retrieve(org: Org, api: Api, rose: str) -> None:
    org.hide_field("Contact", OPT_OUT)
    for ids in ([rose], ["003000000000001AAA"]):
        refused = retrieve(api, ids, "Id", OPT_OUT)
        assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "INVALID_FIELD")


def test_one_call_retrieves_up_to_two_thousand(org: Org, api: Api, amara: str) -> None:
    ids = org.add_contacts([{"owner_id": amara, "last_name": f"N{n}"} for n in range(2000)])
    mark = org.calls.mark()
    assert [one["Id"] for one in retrieve(api, ids, "Id").json()] == ids
    assert org.calls.counted(mark) == 1
    assert retrieve(api, [*ids, ids[0]], "Id").status_code >= 400


# -- the page


def test_the_front_page_shows_who_was_opted_out_through_the_api(
    org: Org, running: Running, log_in: Callable[..., Api], amara: str, jonas: str, rose: str, lead: str
) -> None:
    other = org.add_contact(amara, last_name="By hand")
    org.opt_out(other)
    send(log_in(amara), row("Contact", rose))
    send(log_in(jonas), row("Contact", rose), row("Lead", lead), headers=QUIET)
    assert [(one["Id"], one["user"]) for one in org.opted_out_by_api()] == [
        (lead, "Jonas Lindqvist"),
        (rose, "Amara Okafor"),
    ]
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{running.url}/?tab=api", timeout=20).text
    assert "Opted out by integration 2" in page
    assert "Prospect" in page
    assert "By hand" not in page


def test_what_was_rolled_back_is_not_shown(org: Org, api: Api, rose: str) -> None:
    gone = "003000000000001AAA"
    api.patch("/composite/sobjects", {"allOrNone": True, "records": [row("Contact", rose), row("Contact", gone)]})
    assert not is_out(org, rose)
    assert org.opted_out_by_api() == []
