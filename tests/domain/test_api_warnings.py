"""Salesforce warns in a header of API versions that will end: that is logged once a day for each partner."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.core.clock import utcnow
from orgsim import Running
from tests.checking import Checker, add_colleagues, let_it_be_due, runs_of, synced_office
from tests.syncing import Office

WORDS = "This API is deprecated and will be removed by Summer '28."


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Return (message, firm) of the warnings that were logged since the last call."""
    lines = [(line.getMessage(), line.partner_id) for line in caplog.records if "warns" in line.getMessage()]  # type: ignore[attr-defined]
    caplog.clear()
    return lines


def let_a_day_pass_since_the_warning(office: Office) -> None:
    office.reload(office.connection).partner.api_warned_at = utcnow() - timedelta(days=1)
    office.save()


def test_a_warning_is_logged_once_a_day_for_a_partner(
    app: Flask, org: Running, caplog: pytest.LogCaptureFixture
) -> None:
    office = Office(org)
    assert office.sync().is_complete
    assert warnings(caplog) == []
    org.org.change_settings(api_warning=WORDS)
    for _ in range(2):
        assert office.sync().is_complete
    assert warnings(caplog) == [(f'Salesforce warns: 299 - "{WORDS}"', office.connection.partner_id)]
    let_a_day_pass_since_the_warning(office)
    assert office.sync().is_complete
    assert len(warnings(caplog)) == 1


def test_quiet_checks_of_a_partner_log_it_once_a_day_too(
    app: Flask, org: Running, caplog: pytest.LogCaptureFixture
) -> None:
    office, checker = synced_office(Office(org)), Checker()
    connections = [office.connection, *add_colleagues(office, 2)]
    org.org.change_settings(api_warning=WORDS)
    said = [(f'Salesforce warns: 299 - "{WORDS}"', office.connection.partner_id)]
    for expected in (said, []):
        let_it_be_due(*connections)
        checker.go()
        assert warnings(caplog) == expected
    let_a_day_pass_since_the_warning(office)
    let_it_be_due(*connections)
    checker.go()
    assert warnings(caplog) == said
    assert (checker.enqueued, len(runs_of(office.connection))) == ([], 1)
