"""`make demo ARGS=--once`, in a copy of the source as after a clone: it works, with a provider too, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devtools.guard import ROOT, guard, guarded
from devtools.programs import free_port, is_free

NOT_CLONED = (".*", "__pycache__", "*.pyc", "instance", "vendor", "var", "node_modules", "*.sqlite3", "*.db")


@pytest.mark.slow
def test_the_demo_drives_one_advisor_through_and_leaves_nothing_twice(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NOT_CLONED))
    ports = {"PORT": str(free_port()), "ORG_PORT": str(free_port())}
    for options in ([], ["--provider"]):
        demo = subprocess.run(
            [sys.executable, "-m", "devtools.demo", "--once", *options],
            cwd=clone,
            env=guard().environ(**ports),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert "Sync complete" in demo.stdout
        assert "2,500 contacts are this user's, 45 opted out, 24 without email; 2,431 belong here" in demo.stdout
        assert "Exactly those 2,431 are here." in demo.stdout
        assert ("at the identity provider" in demo.stdout) == bool(options)
        started = [int(port) for port in re.findall(r"redis-server on port (\d+)", demo.stdout)]
        assert len(started) == 1
        assert [port for port in (*started, *map(int, ports.values())) if not is_free(port)] == []
        assert [process for process in guarded(guard().mark, clone) if is_below(process, clone)] == []


def is_below(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
