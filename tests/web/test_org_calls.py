"""The log of calls as admins read it: filtered, page by page, and as a file whose export is recorded."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.calls import CALLS
from asapp.models import Action, AuditEntry, Connection, OrgCall
from asapp.partners import checks
from asapp.salesforce.calls import CallKind
from orgsim import Running
from tests.connecting import ConnectingDesk
from tests.factories import log_in, make_admin, make_connection, save


@pytest.fixture
def connections(app: Flask, client: FlaskClient) -> list[Connection]:
    """Two advisors of two firms: a good call of the first yesterday, a failed one of the second now."""
    made = [make_connection(), make_connection()]
    now = utcnow()
    for connection, outcome, at in zip(made, ("200", "no_answer"), (now - timedelta(days=1), now), strict=True):
        save(call_of(connection, outcome=outcome, at=at))
    log_in(client, make_admin())
    return made


def call_of(connection: Connection, **values: object) -> OrgCall:
    columns = {"kind": "query", "rows": 1234, "outcome": "200", "took_ms": 87, "at": utcnow()} | values
    return OrgCall(partner_id=connection.user.partner_id, user_id=connection.user_id, **columns)


def test_every_kind_has_words() -> None:
    assert set(CALLS) == {*(kind.value for kind in CallKind), "check"}


def test_a_log_in_that_a_check_tries_to_see_it_refused_has_not_failed(
    client: FlaskClient, app: Flask, org: Running
) -> None:
    desk = ConnectingDesk(org)
    checks.run_checks(desk.partner, desk.access)
    db.session.rollback()
    outcomes = {call.outcome for call in db.session.scalars(select(OrgCall))}
    assert outcomes & {"302", "400"}, "the check asks for refusals"
    log_in(client, make_admin())
    page = client.get("/admin/calls").text
    assert "As expected" in page
    assert "Failed<span" not in page
    assert "No call matches that." in client.get("/admin/calls?outcome=failed").text
    db.session.execute(update(OrgCall).where(OrgCall.kind == "probe").values(outcome="503"))
    db.session.commit()
    assert "Failed<span" in client.get("/admin/calls?outcome=failed").text


def test_the_log_is_filtered_by_firm_advisor_day_and_outcome(
    client: FlaskClient, connections: list[Connection]
) -> None:
    first = connections[0]
    everything = client.get("/admin/calls").text
    assert "1,234" in everything
    assert "no_answer" in everything
    slug, today = first.user.partner.slug, f"{utcnow():%Y-%m-%d}"
    for query in (f"firm={slug}", f"advisor={first.user_id}", "outcome=good"):
        shown = client.get(f"/admin/calls?{query}").text
        assert "Good<span" in shown
        assert "no_answer" not in shown
    for query in (f"day={today}", "outcome=failed"):
        shown = client.get(f"/admin/calls?{query}").text
        assert "no_answer" in shown
        assert "Good<span" not in shown
    assert "No call matches that." in client.get(f"/admin/calls?firm={slug}&outcome=failed").text
    assert client.get("/admin/calls?day=never&advisor=x&outcome=?&before=-1&firm=%00").status_code == 200


def test_older_calls_are_on_further_pages(client: FlaskClient, connections: list[Connection]) -> None:
    for _ in range(60):
        db.session.add(call_of(connections[0]))
    db.session.commit()
    page = client.get("/admin/calls")
    assert page.text.count('<th scope="row">') == 50
    oldest = page.text.split("before=")[1].split('"')[0]
    assert client.get(f"/admin/calls?before={oldest}").text.count('<th scope="row">') == 12


def test_the_file_has_utc_times_and_its_export_is_recorded(client: FlaskClient, connections: list[Connection]) -> None:
    response = client.get("/admin/calls/export.csv?outcome=failed")
    (row,) = csv.DictReader(io.StringIO(response.text))
    user = connections[1].user
    assert row["at"].endswith("+00:00")
    assert (row["advisor"], row["firm"]) == (user.name, user.partner.name)
    assert (row["kind"], row["calls"], row["rows"], row["outcome"]) == ("query", "1", "1234", "no_answer")
    newest = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)).one()
    assert (newest.action, newest.details) == (Action.EXPORTED, {"file": "log of calls"})


def test_calls_of_a_person_or_firm_that_is_gone_stay(client: FlaskClient, connections: list[Connection]) -> None:
    save(OrgCall(partner_id=10**6, user_id=10**6, kind="revoke", outcome="200", at=utcnow()))
    assert "Revoked a token" in client.get("/admin/calls").text
