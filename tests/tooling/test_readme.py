"""The README matches the code: its links exist, and every job and setting is in it."""

from __future__ import annotations

import ast
import re
from textwrap import indent

import pytest

from devtools.guard import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_JOBS = {
    "_app",
    "_queues",
    "job_context",
    "sync_job_context",
    "org_access",
    "worker_heart",
    "leave_parents_connections",
}
JOBS = [
    node.name
    for node in ast.parse((ROOT / "asapp/jobs/tasks.py").read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name not in NOT_JOBS
]
SETTINGS = re.findall(r'_read\(environ, "([A-Z_]+)"', (ROOT / "config.py").read_text())


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "orgsim/README.md",
        *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    place = ROOT / page
    targets = re.findall(r"\]\(([^)#]+)", place.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (place.parent / t).exists()] == []


@pytest.mark.parametrize("job", JOBS)
def test_each_job_is_in_the_table(job: str) -> None:
    assert re.search(rf"^\| `{job}\b", README, re.MULTILINE)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_is_in_the_table(setting: str) -> None:
    assert f"| `{setting}` |" in README


def test_the_code_in_the_guide_for_senders_is_the_sample_senders() -> None:
    guide = (ROOT / "docs/senders.md").read_text(encoding="utf-8")
    sample = (ROOT / "devtools/sample_sender.py").read_text(encoding="utf-8")
    pieces = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(pieces) == 7
    for piece in pieces:
        assert any(indent(piece, " " * depth) in sample for depth in (0, 4, 8)), piece


def test_every_picture_is_there_and_small() -> None:
    pictures = re.findall(r"\((docs/pictures/\S+)\)", README)
    assert len(pictures) == 4
    for picture in pictures:
        assert (ROOT / picture).stat().st_size <= 150_000, picture
