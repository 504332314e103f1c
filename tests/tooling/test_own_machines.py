"""Without containers: the handbook's own lines in a clone, and the units' commands under a supervisor that restarts them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from devtools.guard import ROOT, guard
from devtools.processes import FOREIGN, Keeper, Process
from devtools.programs import find_systemd_analyze, free_port
from devtools.servers import PostgresServer, RedisServer
from devtools.waiting import status_of, wait_for

UNITS = ROOT / "deploy/systemd"
SERVICES = ("asapp-web.service", "asapp-worker@.service", "asapp-scheduler.service")
PASSWORD = "harbour-lamp-orchid"
MOST_EXPOSED = 2.0  # of 10, by `systemd-analyze security`


def blocks_of(section: str) -> list[str]:
    """Return the shell commands of a section of the handbook, block by block."""
    handbook = (ROOT / "docs/operations.md").read_text()
    found = re.search(rf"^## {section}\n(.*?)^## ", handbook, re.MULTILINE | re.DOTALL)
    assert found
    return re.findall(r"```sh\n(.*?)```", found[1], re.DOTALL)


def setting_of(unit: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert found, f"{unit} has no {name}"
    return found[1]


@dataclass
class Machine:
    """A folder in the place of / on a machine that has PostgreSQL and Redis."""

    root: Path
    database_url: str
    redis_url: str
    environ: dict[str, str]

    def here(self, text: str) -> str:
        """Return the handbook's words with the places of this machine."""
        for there in ("/opt/asapp", "/etc/asapp"):
            text = text.replace(there, f"{self.root}{there}")
        text = re.sub(r"^DATABASE_URL=.*$", f"DATABASE_URL={self.database_url}", text, flags=re.MULTILINE)
        text = re.sub(r"^REDIS_URL=.*$", f"REDIS_URL={self.redis_url}", text, flags=re.MULTILINE)
        return text.replace("git clone REPOSITORY", f"git clone --quiet {ROOT}")

    def run(self, text: str, **environ: str) -> str:
        """Run lines of the handbook, up to the first that fails; return what they printed."""
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(text)],
            env={**self.environ, **environ},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def service(self, unit: str, port: int) -> Process:
        """Return the unit's process, with the settings of its EnvironmentFile."""
        command = shlex.split(self.here(setting_of(unit, "ExecStart")).replace(":8000", f":{port}"))
        lines = Path(self.here(setting_of(unit, "EnvironmentFile"))).read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines)
        log = self.root / f"{unit}.log"
        return Process(
            unit, command, log, {**self.environ, **settings}, Path(self.here(setting_of(unit, "WorkingDirectory")))
        )

    def seen(self) -> set[str]:
        """Return the kinds of process that the database knows of."""
        with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
            return {name.partition(":")[0] for (name,) in connection.execute("SELECT name FROM heartbeats")}


@pytest.fixture
def machine(tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer) -> Machine:
    redis_server.flush()
    (tmp_path / "opt").mkdir()
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")
    environ = {
        name: value
        for name, value in guard().environ().items()
        if name not in FOREIGN and (name in kept or name.startswith(("PIP_", "ASAPP_")))
    }
    environ["PATH"] = ":".join(part for part in os.environ["PATH"].split(":") if ".venv" not in part)
    database_url = postgres_server.url(postgres_server.create_database())
    return Machine(
        tmp_path, database_url, redis_server.url, {**environ, "ASAPP_SETTINGS": str(tmp_path / "etc/asapp/env")}
    )


@pytest.mark.slow
def test_the_handbooks_lines_bring_it_up_and_a_supervisor_keeps_it_up(machine: Machine) -> None:
    _system, app, _services = blocks_of("On machines of your own")
    machine.run(app, ASAPP_PASSWORD=PASSWORD)
    assert (machine.root / "etc/asapp/env").stat().st_mode & 0o777 == 0o600
    assert "ada@example.com\tAda Lindgren\tadmin" in machine.run("/opt/asapp/deploy/asapp users list")

    port = free_port()
    services = [machine.service(unit, port) for unit in SERVICES]
    with ExitStack() as running:
        for service in services:
            running.enter_context(service)
        keeper = Keeper(services, first_pause_s=0.1)
        keeper.start()
        running.callback(keeper.stop)
        wait_for(lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200, "for the web process")
        wait_for(lambda: "tick" in machine.seen(), "for a tick")
        for service in services:
            service.kill()
        wait_for(lambda: [len(service.deaths) for service in services] == [1, 1, 1], "for the supervisor")
        wait_for(lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200, "for the web process")


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_is_valid_and_confined(unit: str, tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / unit).read_text(), flags=re.MULTILINE)
    place = tmp_path / unit.replace("@.", "@1.")
    place.write_text(text.replace("/opt/asapp", "/"))  # verify wants programs and folders that are here
    for words in (
        ["verify", str(place)],
        ["security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", str(place)],
    ):
        answer = subprocess.run([find_systemd_analyze(), *words], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert str(place) not in answer.stderr


def test_units_and_compose_give_a_process_the_same_time_to_end() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    for unit, name in zip(SERVICES, ("web", "worker", "scheduler"), strict=True):
        found = re.search(rf"^  {name}:\n(?:    .*\n)*?    stop_grace_period: (\d+)s", compose, re.MULTILINE)
        assert found
        assert setting_of(unit, "TimeoutStopSec") == found[1]


def test_the_target_wants_every_service() -> None:
    target = (UNITS / "asapp.target").read_text()
    assert all(unit.replace("@.", "@1.") in target for unit in SERVICES)
