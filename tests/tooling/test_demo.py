"""`make demo`: how it starts, ends and fails. test_demo_drive.py tests the way through the whole app."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.guard import ROOT, guard
from devtools.programs import free_port


def run_demo(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    ports = {"PORT": str(free_port()), "ORG_PORT": str(free_port())}
    return subprocess.run(
        [sys.executable, "-m", "devtools.demo", "--once", "--folder", str(folder)],
        cwd=ROOT,
        env=guard().environ(**{**ports, **environ}),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def assert_one_line(answer: subprocess.CompletedProcess[str], words: str) -> None:
    assert answer.returncode not in (0, None)
    assert answer.stdout == ""
    assert words in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PORT", "ORG_PORT"])
def test_a_port_in_use_is_named(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert_one_line(run_demo(tmp_path / "demo", **{name: port}), f"Port {port} is not free")


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    assert_one_line(run_demo(tmp_path / "demo", PORT="eighty"), "PORT must be a port number, not 'eighty'")


@pytest.mark.slow
def test_a_second_demo_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "demo")],
        cwd=ROOT,
        env=guard().environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert_one_line(run_demo(tmp_path / "demo"), f"A demo is already running in this folder (process {holder.pid})")
    holder.communicate("\n")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # stands for any error; root may write anywhere
    assert_one_line(run_demo(tmp_path / "file" / "demo"), "Cannot write to")


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    assert_one_line(run_demo(tmp_path), "holds something else")
    assert (tmp_path / "letters").exists()


HOLD = """
import sys
from pathlib import Path
from devtools.demo import own_folder
with own_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
