"""A tiny campaign, which keeps the code of campaigns working. The real one is `make chaos`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools.chaos.__main__ import Campaign, read_arguments, running
from devtools.chaos.faults import at_work, flush_redis
from devtools.guard import ROOT, guard


@pytest.mark.slow
@pytest.mark.postgres
def test_a_tiny_campaign(tmp_path: Path) -> None:
    size = {"--orgs": 2, "--advisors": 2, "--contacts": 150, "--faults": 6, "--minutes": 1, "--seed": 3}
    arguments = [str(part) for pair in size.items() for part in pair]
    answer = subprocess.run(
        [sys.executable, "-m", "devtools.chaos", *arguments, "--gentle", "--folder", str(tmp_path / "chaos")],
        cwd=ROOT,
        env=guard().environ(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-6000:] + answer.stderr[-3000:]
    assert "Everything holds." in answer.stdout
    assert answer.stdout.count("  run ") >= 3


@pytest.mark.slow
@pytest.mark.postgres
def test_work_horses_are_found_after_redis_was_emptied(tmp_path: Path) -> None:
    """Otherwise the faults that kill them would hit nothing from then on."""
    size = ["--orgs", "1", "--advisors", "1", "--contacts", "3000", "--workers", "1"]
    campaign = Campaign(read_arguments([*size, "--folder", str(tmp_path / "chaos")]))
    with running(campaign):
        campaign.set_up()
        rng = campaign.rng("flush")
        campaign.start(campaign.advisors[0].live, rng)
        flush_redis(campaign.world, rng)
        assert at_work(campaign.world, rng).kind == "run"
        campaign.advisors[0].is_over.set()
