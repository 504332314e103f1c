"""Salesforce warns in a header of API versions that will end: that is logged once a day for each partner."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.core.clock import utcnow
from orgsim import Running
from tests.syncing import Office

WORDS = "This API is deprecated and will be removed by Summer '28."


def test_a_warning_is_logged_once_a_day_for_a_partner(
    app: Flask, org: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[tuple[str, int]]:
        lines = [(line.getMessage(), line.partner_id) for line in caplog.records if "warns" in line.getMessage()]  # type: ignore[attr-defined]
        caplog.clear()
        return lines

    office = Office(org)
    assert office.sync().is_complete
    assert warnings() == []
    org.org.change_settings(api_warning=WORDS)
    for _ in range(2):
        assert office.sync().is_complete
    partner = office.reload(office.connection).partner
    assert warnings() == [(f'Salesforce warns: 299 - "{WORDS}"', partner.id)]
    partner.api_warned_at = utcnow() - timedelta(days=1)
    office.save()
    assert office.sync().is_complete
    assert len(warnings()) == 1
