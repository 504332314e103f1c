"""The unmodified simple-salesforce library, over TLS, works with the simulated org as with a real one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import trustme
from simple_salesforce import Salesforce, format_soql
from simple_salesforce.exceptions import (
    SalesforceExpiredSession,
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

from orgsim import Org, start


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Salesforce, Org, str]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = Path(tmp_path_factory.mktemp("tls")) / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))
    org = Org(seed=11)
    org.register_app("key", "secret", ["http://localhost/"])
    amara = org.add_user(name="Amara Okafor")
    org.add_contacts(
        [{"owner_id": amara, "last_name": f"Person {n:04}", "email": f"p{n}@many.example"} for n in range(4500)]
    )
    with start(org, tls=context) as running, requests.Session() as session:
        session.trust_env, session.verify = False, str(pem)
        yield _client(org, amara, running.url, session), org, amara


def _client(org: Org, user_id: str, url: str, session: requests.Session) -> Salesforce:
    token = org.issue_tokens(user_id, "key")["access_token"]
    return Salesforce(instance_url=url, session_id=token, session=session, version="66.0")


def test_query(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, _, amara = office
    answer = salesforce.query(
        format_soql("SELECT Id, Email FROM Contact WHERE OwnerId = {} AND Email = {}", amara, "P7@many.example")
    )
    assert (answer["totalSize"], answer["done"]) == (1, True)
    assert answer["records"][0]["Email"] == "p7@many.example"
    assert salesforce.api_usage["api-usage"].total == 100_000


def test_a_stamp_passed_as_a_datetime(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, org, _ = office
    soql = format_soql("SELECT COUNT() FROM Contact WHERE SystemModstamp >= {}", org.clock.now() - timedelta(hours=1))
    assert salesforce.query(soql)["totalSize"] >= 4500


def test_query_all_and_its_iterator_follow_the_pages(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, org, _ = office
    soql = "SELECT Id FROM Contact WHERE Email LIKE '%many.example' ORDER BY SystemModstamp, Id"
    mark = org.calls.mark()
    whole = salesforce.query_all(soql)
    assert (whole["totalSize"], whole["done"], len(whole["records"])) == (4500, True, 4500)
    assert org.calls.counted(mark) == 3
    options = {"Sforce-Query-Options": "batchSize=500"}
    assert len({r["Id"] for r in salesforce.query_all_iter(soql, headers=options)}) == 4500
    assert org.calls.counted(mark) == 3 + 9


def test_deleted_records_come_with_include_deleted(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, org, amara = office
    gone = org.add_contact(amara, last_name="Gone")
    org.delete(gone)
    soql = "SELECT Id, IsDeleted FROM Contact WHERE LastName = 'Gone'"
    assert salesforce.query_all(soql)["totalSize"] == 0
    assert salesforce.query_all(soql, include_deleted=True)["records"][0]["IsDeleted"] is True


def test_create_read_update_delete(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, org, amara = office
    made = salesforce.Contact.create({"LastName": "Neu", "Email": "Frieda.NEU@example.com"})
    assert (made["success"], made["errors"]) == (True, [])
    assert salesforce.Contact.update(made["id"], {"FirstName": "Frieda", "HasOptedOutOfEmail": True}) == 204
    read = salesforce.Contact.get(made["id"])
    assert (read["Name"], read["Email"], read["OwnerId"]) == ("Frieda Neu", "frieda.neu@example.com", amara)
    assert read["HasOptedOutOfEmail"] is True
    assert salesforce.Contact.delete(made["id"]) == 204
    record = org.contact(made["id"])
    assert record is not None
    assert record["IsDeleted"] is True


def test_upsert_by_email(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, _, _ = office
    lead = {"LastName": "Ups", "Company": "[not provided]"}
    assert salesforce.Lead.upsert("Email/ups@example.com", lead) == 201
    assert salesforce.Lead.upsert("Email/ups@example.com", lead) == 200
    salesforce.Lead.create({**lead, "Email": "ups@example.com"})
    with pytest.raises(SalesforceMoreThanOneRecord) as caught:
        salesforce.Lead.upsert("Email/ups@example.com", lead)
    assert len(caught.value.content) == 2


def test_describe_limits_and_the_list_of_objects(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, _, _ = office
    fields = {f["name"]: f for f in salesforce.Contact.describe()["fields"]}
    assert fields["HasOptedOutOfEmail"]["type"] == "boolean"
    assert fields["Email"]["idLookup"] is True
    assert fields["LastName"]["nillable"] is False
    assert "HasEmailOptOut" not in fields
    assert {o["name"] for o in salesforce.describe()["sobjects"]} >= {"Contact", "Lead", "User"}
    assert salesforce.limits()["DailyApiRequests"]["Max"] == 100_000
    assert salesforce.Contact.metadata()["objectDescribe"]["keyPrefix"] == "003"


def test_collections(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, _, _ = office
    body = {
        "allOrNone": False,
        "records": [
            {"attributes": {"type": "Lead"}, "LastName": "A", "Company": "C"},
            {"attributes": {"type": "Lead"}, "LastName": "B"},
        ],
    }
    good, bad = salesforce.restful("composite/sobjects", method="POST", json=body)
    assert good["success"] is True
    assert bad == {
        "success": False,
        "errors": [
            {
                "statusCode": "REQUIRED_FIELD_MISSING",
                "fields": ["Company"],
                "message": "Required fields are missing: [Company]",
            }
        ],
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("malformed_query", SalesforceMalformedRequest),
        ("session_expired", SalesforceExpiredSession),
        ("request_limit", SalesforceRefusedRequest),
        ("not_found", SalesforceResourceNotFound),
        ("more_than_one", SalesforceMoreThanOneRecord),
        ("server_unavailable_html", SalesforceGeneralError),
        ("edge_420", SalesforceGeneralError),
        ("xml_401", SalesforceExpiredSession),
    ],
)
def test_error_classes(office: tuple[Salesforce, Org, str], answer: str, error: type[Exception]) -> None:
    salesforce, org, _ = office
    org.trouble.add(answer, kind="query", times=1)
    with pytest.raises(error):
        salesforce.query("SELECT Id FROM Contact LIMIT 1")
    assert salesforce.query("SELECT Id FROM Contact LIMIT 1")["totalSize"] == 1


def test_an_expired_session_says_so(office: tuple[Salesforce, Org, str]) -> None:
    salesforce, org, amara = office
    fresh = _client(org, amara, org.served_at, salesforce.session)
    org.expire_sessions()
    with pytest.raises(SalesforceExpiredSession) as caught:
        fresh.query("SELECT Id FROM Contact")
    assert caught.value.content == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    salesforce.headers["Authorization"] = "Bearer " + org.issue_tokens(amara, "key")["access_token"]
