"""kill -9 of a real worker after Salesforce has made a lead and before we know: it is found, not made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from asapp.jobs.queues import Queues
from asapp.leads import outbox
from asapp.models import LeadState
from asapp.simulator import Running
from config import Config
from tests.processes import WorkerProcess, wait_for, worker_process
from tests.signing_up import PostOffice, someone_signs_up


@pytest.mark.parametrize("deed", [WorkerProcess.kill_horse, WorkerProcess.kill_both], ids=["work-horse", "worker"])
def test_kill_9_after_the_create(app: Flask, config: Config, org: Running, tmp_path: Path, deed: object) -> None:
    office = PostOffice(org)
    queues: Queues = app.extensions["asapp.queues"]
    someone_signs_up(office.advisor)
    office.org.trouble.add("slow_after", method="POST", path="/composite/sobjects", seconds=30, times=1)
    outbox.ring_for(office.advisor.id, queues.ring_for_leads)
    with worker_process(config, tmp_path / "first.log") as worker:
        wait_for(lambda: office.org.leads(), "for the create")
        deed(worker)  # type: ignore[operator]
    assert office.lead().state == LeadState.SENDING
    assert office.lead().lease is not None

    office.let_pass(60)
    assert outbox.ring_for_due(queues.ring_for_leads) == 1
    with worker_process(config, tmp_path / "second.log"):
        wait_for(lambda: office.lead().state == LeadState.SENT, "for the lead")

    assert len(office.org.leads()) == 1
    assert office.lead().salesforce_id == office.org.leads()[0]["Id"]
