"""The tick does what a process left undone when it died."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask

from asapp.core.clock import utcnow
from asapp.jobs import tasks
from orgsim import Running
from tests.syncing import Office


def test_the_tick_finishes_a_stop_of_a_firm_whose_process_died(app: Flask, org: Running) -> None:
    office = Office(org)
    partner = office.connection.partner
    partner.is_enabled, partner.stop_began_at = False, utcnow() - timedelta(minutes=5)
    office.save()
    tasks.tick()
    assert office.reload(office.connection).is_disconnected
    assert office.reload(partner).stop_began_at is None
