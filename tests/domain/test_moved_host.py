"""A firm's org moves to another host: the stored one fails, a refresh names the new one, and the work goes on there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from flask import Flask
from simple_salesforce import Salesforce

from asapp.connections.org_access import BeforeCall
from asapp.models import Connection
from asapp.partners.checks import check_connection
from asapp.salesforce.client import OrgClient
from asapp.salesforce.session import OrgSession
from asapp.sync.run_context import JobContext
from orgsim import Running
from tests.factories import org_access
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import WatchedAccess, reasons_here

PATIENCE_S = 0.2


class ImpatientClient(OrgClient):
    """Waits a moment for the host that was stored, and as long as ever for the one that the org has moved to."""

    stored_host = ""

    def _api(self) -> Salesforce:
        api = super()._api()
        if self._session is not None:
            self._session.total_timeout_s = PATIENCE_S if self._session.origin == self.stored_host else None
        return api


class ImpatientAccess(WatchedAccess):
    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        partner = connection.partner
        client = ImpatientClient(
            self.tokens(connection),
            partner.api_version,
            partner.opt_out_fields,
            allow_loopback=True,
            before_call=before_call,
            wait=lambda state: 0.0,
        )
        client.stored_host = connection.instance_url
        return client


class MovingOffice(PostOffice):
    def host(self) -> str:
        return self.reload(self.connection).instance_url

    def refreshes(self) -> int:
        return sum("token_refresh" in call.tags for call in self.org.calls.since(0))


class ImpatientOffice(MovingOffice):
    def workplace(self, between_pages: Callable[[], None] = lambda: None) -> JobContext:
        access = org_access(ImpatientAccess, between_pages=between_pages)
        return replace(super().workplace(), access=access)


@pytest.fixture
def office(app: Flask, org: Running) -> MovingOffice:
    return MovingOffice(org)


@pytest.mark.parametrize("old_host", ["404", "420", "redirect", "reset"])
def test_a_sync_goes_on_at_the_new_host(office: MovingOffice, old_host: str) -> None:
    rose = office.add(email="rose@edge.example")
    there = office.org.move(old_host)
    run = office.sync()
    assert run.is_complete
    assert reasons_here(office.connection) == {rose: None}
    assert (office.host(), run.api_calls, office.refreshes()) == (there, 2, 1)
    assert office.sync().api_calls == 1
    assert office.refreshes() == 1


def test_a_sync_goes_on_where_nothing_answers_at_the_stored_host_any_more(office: MovingOffice) -> None:
    office.reload(office.connection).instance_url = "http://127.0.0.1:1"
    office.save()
    assert office.sync().is_complete
    assert office.host() == office.url


def test_a_sync_goes_on_at_the_new_host_where_the_stored_one_never_answers(app: Flask, org: Running) -> None:
    office = ImpatientOffice(org)
    rose = office.add(email="rose@edge.example")
    there = office.org.move("hang")
    run = office.sync()
    assert run.is_complete
    assert reasons_here(office.connection) == {rose: None}
    assert (office.host(), run.api_calls, office.refreshes()) == (there, 2, 1)


def test_a_lead_is_created_once_at_the_new_host(office: MovingOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.move("420")
    office.deliver()
    assert len(office.leads_there()) == 1
    assert office.lead().state == "sent"


def test_an_outage_costs_one_refresh_a_sync_and_no_other_host_is_made_up(office: MovingOffice) -> None:
    office.org.trouble.add("edge_420", kind="data")
    run = office.sync()
    assert (run.is_failed, run.error_code, office.host(), office.refreshes()) == (True, "edge_busy", office.url, 1)


def test_an_org_that_names_a_host_outside_salesforce_is_not_followed(office: MovingOffice) -> None:
    office.org.change_settings(instance_url="https://evil.example", old_host="404")
    run = office.sync()
    assert (run.is_failed, office.host()) == (True, office.url)


def test_the_checks_of_a_firm_follow_it_too(office: MovingOffice) -> None:
    access = office.workplace().access
    there = office.org.move("redirect")
    with closing(OrgSession(access.tokens(office.connection), allow_loopback=True)) as session:
        office.save()
        assert session.get(f"{office.url}/services/data/v66.0/sobjects/Contact/describe").json()["name"] == "Contact"
    check_connection(office.reload(office.connection), access)
    assert office.host() == there
