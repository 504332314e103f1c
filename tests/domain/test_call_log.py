"""The log of calls to firms' Salesforce: each call is there once, quiet checks are counted, and nothing of their contents is."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.connections import connections
from asapp.core.extensions import db
from asapp.models import Connection, OrgCall
from asapp.salesforce.calls import CallKind, kind_of, rows_in
from orgsim import Running
from tests.checking import Checker, add_colleagues, let_it_be_due, synced_office
from tests.factories import org_access
from tests.syncing import Office

DATA = "https://acme.my.salesforce.com/services/data/v66.0"


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return synced_office(Office(org))


def logged(after: int = 0) -> list[OrgCall]:
    db.session.rollback()
    return list(db.session.scalars(select(OrgCall).where(OrgCall.id > after).order_by(OrgCall.id)))


def about(calls: list[OrgCall]) -> list[tuple[str, str]]:
    return [(call.kind, call.outcome) for call in calls]


def newest_id() -> int:
    return max((call.id for call in logged()), default=0)


def test_each_call_of_a_sync_is_logged_once_for_its_advisor(office: Office) -> None:
    mark, before = office.org.calls.mark(), newest_id()
    office.fill(3)
    assert office.sync().is_complete
    calls = logged(before)
    assert len(calls) == len(office.org.calls.since(mark)) > 0
    assert {(call.partner_id, call.user_id) for call in calls} == {
        (office.connection.partner_id, office.connection.user_id)
    }
    assert sum(call.rows for call in calls) >= 3
    assert {call.outcome for call in calls} == {"200"}


def test_quiet_checks_are_counted_by_advisor_and_hour(office: Office) -> None:
    both, before = [office.connection, *add_colleagues(office, 1)], newest_id()
    for _ in range(2):
        let_it_be_due(*both)
        Checker().go()
    by_hour: dict[int | None, int] = {}
    for call in logged(before):
        assert (call.kind, call.outcome, call.at) == ("check", "200", call.hour)
        by_hour[call.user_id] = by_hour.get(call.user_id, 0) + call.calls
    assert by_hour == {each.user_id: 2 for each in both}
    assert len(logged(before)) <= 4  # two, but for a test that runs as an hour ends


def test_a_check_that_is_refused_has_a_row_for_each_call(office: Office) -> None:
    before = newest_id()
    office.org.trouble.add("server_unavailable_html", kind="data")
    Checker().go()
    failed = about(logged(before))
    assert failed
    assert set(failed) == {("composite", "503")}


def test_a_refresh_is_logged_when_its_token_is_stored(office: Office) -> None:
    before = newest_id()
    assert org_access().tokens(office.connection).refresh_now()
    (call,) = logged(before)
    assert (call.kind, call.outcome, call.user_id) == ("token", "200", office.connection.user_id)


def test_a_revoked_permission_is_logged(office: Office) -> None:
    before, user_id = newest_id(), office.connection.user_id
    connections.disconnect(office.connection, True, org_access())
    (call,) = logged(before)
    assert (call.kind, call.outcome, call.user_id) == ("revoke", "200", user_id)


def test_a_log_that_cannot_be_written_stops_no_sync(office: Office) -> None:
    OrgCall.__table__.drop(db.engine)  # type: ignore[attr-defined]
    office.fill(2)
    assert office.sync().is_complete
    assert db.session.get_one(Connection, office.connection.id).failures_in_a_row == 0


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "query/?q=SELECT+Id+FROM+Contact+WHERE+Email='a@b.example'", CallKind.QUERY),
        ("GET", "queryAll/01gD0000002HU6KIAW-2000", CallKind.QUERY),
        ("POST", "composite", CallKind.COMPOSITE),
        ("POST", "composite/sobjects/Contact", CallKind.RETRIEVE),
        ("POST", "composite/sobjects", CallKind.CREATE),
        ("PATCH", "composite/sobjects", CallKind.UPDATE),
        ("GET", "sobjects/Lead/describe", CallKind.DESCRIBE),
        ("GET", "sobjects/Contact/listviews?limit=200", CallKind.LIST_VIEW),
        ("GET", "limits", CallKind.LIMITS),
        ("POST", "../../oauth2/token", CallKind.OTHER),
    ],
)
def test_the_kind_comes_from_method_and_path(method: str, path: str, kind: CallKind) -> None:
    assert kind_of(method, f"{DATA}/{path}") == kind


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ({"totalSize": 9, "records": [{}, {}]}, 2),
        ([{"success": True, "id": "1"}, {"success": False}], 1),
        ([None, {"Id": "1"}], 1),
        ({"compositeResponse": [{"httpStatusCode": 200, "body": {"records": [{}]}}, {"httpStatusCode": 400}]}, 1),
        ({"id": "1", "success": True}, 1),
        ({"compositeResponse": ["?"]}, 0),
        ("text", 0),
        (None, 0),
    ],
)
def test_rows_are_counted_in_any_answer(body: object, rows: int) -> None:
    assert rows_in(body) == rows
