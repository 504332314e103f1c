"""Without containers: the handbook's own lines in a clone, and the units' commands under a supervisor that restarts them."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devtools.guard import ROOT, guard
from devtools.processes import FOREIGN, Keeper, Process
from devtools.programs import find_systemd_analyze, free_port
from devtools.servers import PostgresServer, RedisServer
from devtools.waiting import status_of, wait_for

UNITS = ROOT / "deploy/systemd"
SERVICES = ("asapp-web.service", "asapp-worker@.service", "asapp-scheduler.service")
ONCE = ("asapp-backup.service", "asapp-drill.service")  # a timer starts them
STARTED = {"asapp.target", "asapp-web.service", "asapp-worker@1.service", "asapp-worker@2.service"} | {
    *("asapp-scheduler.service", "asapp-backup.timer", "asapp-drill.timer"),
}
USERS = ("/etc/passwd", "/etc/group")
PATH_OF_ROOT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    """A folder in the place of / on a machine that has PostgreSQL and Redis.

    Where we are root, it has a user `asapp` of its own: commands see its list of users in the place of the machine's.
    """

    root: Path
    role: str  # in PostgreSQL, and its database
    postgres_folder: Path
    redis_url: str
    environ: dict[str, str]
    has_users: bool

    @property
    def database_url(self) -> str:
        return f"postgresql+psycopg://{self.role}@/{self.role}?host={self.postgres_folder}"

    def here(self, text: str) -> str:
        """Return the handbook's words with the places of this machine."""
        for there in ("/opt/asapp", "/etc/asapp", "/etc/systemd", "/var/backups"):
            text = text.replace(there, f"{self.root}{there}")
        text = re.sub(r"^DATABASE_URL=.*$", f"DATABASE_URL={self.database_url}", text, flags=re.MULTILINE)
        text = re.sub(r"^REDIS_URL=.*$", f"REDIS_URL={self.redis_url}", text, flags=re.MULTILINE)
        text = text.replace("systemctl enable --now", f"systemctl --quiet --root={self.root} enable")
        return text.replace("git clone REPOSITORY", f"git clone --quiet {ROOT}")

    def run(self, text: str, **environ: str) -> str:
        """Run lines of the handbook, up to the first that fails; return what they printed."""
        shell = ["bash", "-euo", "pipefail", "-c"]
        mount = "".join(f"mount --bind {self.root}{file} {file}; " for file in USERS)
        command = ["unshare", "--mount", *shell, f'{mount} exec {shlex.join(shell)} "$0"'] if self.has_users else shell
        answer = subprocess.run(
            [*command, self.here(text)],
            env={**self.environ, **environ},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def make_users(self, useradd: str) -> None:
        """Add the handbook's user to a copy of the machine's list of users."""
        (self.root / "etc").mkdir()
        for name in ("passwd", "group", "shadow", "gshadow", "login.defs"):
            if Path("/etc", name).exists():
                shutil.copy2(Path("/etc", name), self.root / "etc")
        subprocess.run(shlex.split(useradd.replace("useradd", f"useradd --prefix {self.root}")), check=True)

    @property
    def account(self) -> dict[str, Any]:
        """Return what Popen needs to start a process as the units' user."""
        if not self.has_users:
            return {}
        found = re.search(r"^asapp:[^:]*:(\d+):(\d+):", (self.root / "etc/passwd").read_text(), re.MULTILINE)
        assert found
        return {"user": int(found[1]), "group": int(found[2]), "extra_groups": []}

    def service(self, unit: str, port: int) -> Process:
        """Return the unit's process, with its user and the settings of its EnvironmentFile."""
        command = shlex.split(self.here(setting_of(unit, "ExecStart")).replace(":8000", f":{port}"))
        lines = Path(self.here(setting_of(unit, "EnvironmentFile"))).read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines)
        text = (UNITS / unit).read_text()
        settings |= dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))
        for name in " ".join(re.findall(r"^UnsetEnvironment=(.*)$", text, re.MULTILINE)).split():
            settings.pop(name, None)
        assert setting_of(unit, "User") == "asapp"
        folder = Path(self.here(setting_of(unit, "WorkingDirectory")))
        process = Process(unit, command, self.root / f"{unit}.log", {**self.environ, **settings}, folder)
        process.options = self.account
        return process

    def verify_units(self, *units: str) -> None:
        """Let systemd look at the units as they are installed, with the programs that they name."""
        shutil.copytree("/usr/lib/systemd/system", self.root / "usr/lib/systemd/system", symlinks=True)
        for program in (str((self.root / "opt/asapp/.venv/bin/python3").readlink()), "/usr/bin/find"):
            Path(f"{self.root}{program}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(program, f"{self.root}{program}")
        answer = subprocess.run(
            [find_systemd_analyze(), f"--root={self.root}", "verify", *units],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (answer.returncode, re.findall(r".*asapp.*", answer.stdout + answer.stderr)) == (0, [])

    def seen(self) -> set[str]:
        """Return the kinds of process that the database knows of."""
        with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
            return {name.partition(":")[0] for (name,) in connection.execute("SELECT name FROM heartbeats")}


def can_have_users() -> bool:
    """Are we root, and can other users run the Python that the handbook's lines find?"""
    fits = ["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return os.geteuid() == 0 and subprocess.run(fits, env={"PATH": PATH_OF_ROOT}, check=False).returncode == 0


@pytest.fixture
def machine(postgres_server: PostgresServer, redis_server: RedisServer) -> Iterator[Machine]:
    redis_server.flush()
    role = f"asapp_{secrets.token_hex(4)}"
    root = guard().folder / f"machine-{role}"  # pytest's own folders are closed to other users
    root.mkdir(mode=0o711)
    (root / "opt").mkdir()
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")
    environ = {
        name: value
        for name, value in guard().environ().items()
        if name not in FOREIGN and (name in kept or name.startswith(("PIP_", "ASAPP_")))
    }
    has_users = can_have_users()
    path = PATH_OF_ROOT if has_users else ":".join(part for part in environ["PATH"].split(":") if ".venv" not in part)
    environ["PATH"] = f"{Path(postgres_server.command[0]).parent}:{path}"
    environ["ASAPP_SETTINGS"] = str(root / "etc/asapp/env")
    yield Machine(root, role, postgres_server.folder, redis_server.url, environ, has_users)
    postgres_server.drop_database(role)
    shutil.rmtree(root)


def check_keys_as_files(machine: Machine, drill: str) -> None:
    """The handbook's lines take the keys out of the settings, twice; commands and the drill find them, other users don't."""
    (recipe,) = blocks_of("Settings")
    machine.run(recipe)
    machine.run(recipe)
    assert not re.search(r"^(SECRET_KEY|ENCRYPTION_KEYS)=", (machine.root / "etc/asapp/env").read_text(), re.MULTILINE)
    for name in ("secret_key", "encryption_keys"):
        found = (machine.root / "etc/asapp" / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, machine.account["group"], 0o640)
    assert "ada@example.com" in machine.run("/opt/asapp/deploy/asapp users list")
    machine.run(drill)


@pytest.mark.slow
def test_the_handbooks_lines_bring_it_up_and_a_supervisor_keeps_it_up(machine: Machine) -> None:
    system, app, services = blocks_of("On machines of your own")
    apt, useradd, backups, postgres = system.splitlines()
    assert apt.startswith("apt-get install ")
    if machine.has_users:
        machine.make_users(useradd)
        (machine.root / "var/backups").mkdir(parents=True)
        machine.run(backups)
    createdb = re.sub(r'^\(cd / && su postgres -c "(.*)"\)$', r"\1", postgres).replace("asapp", machine.role)
    machine.run(createdb, PGHOST=str(machine.postgres_folder), PGUSER="asapp")

    machine.run(app, ASAPP_PASSWORD=PASSWORD)
    assert (machine.root / "etc/asapp/env").stat().st_mode & 0o777 == 0o600
    assert "ada@example.com\tAda Lindgren\tadmin" in machine.run("/opt/asapp/deploy/asapp users list")

    install, reload, *enable, curl = services.splitlines()
    wait = "curl --fail --retry 30 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000/readyz"
    assert (reload, curl) == ("systemctl daemon-reload", wait)
    (machine.root / "etc/systemd/system").mkdir(parents=True)
    machine.run("\n".join([install, *enable]))
    started = {path.name for path in machine.root.glob("etc/systemd/system/*.wants/*")}
    assert started == STARTED
    machine.verify_units(*started)

    port = free_port()
    processes = [machine.service(unit, port) for unit in SERVICES]
    with ExitStack() as running:
        for process in processes:
            running.enter_context(process)
        keeper = Keeper(processes, first_pause_s=0.1)
        keeper.start()
        running.callback(keeper.stop)
        wait_for(lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200, "for the web process")
        wait_for(lambda: "tick" in machine.seen(), "for a tick")
        make, drill = blocks_of("Backup")[0].splitlines()
        assert make.split("  ")[0].endswith(setting_of("asapp-backup.service", "ExecStart").partition("wsgi ")[2])
        assert drill.split("  ")[0].endswith(setting_of("asapp-drill.service", "ExecStart").partition("wsgi ")[2])
        (made,) = machine.run(make).split()
        machine.run(drill)
        assert Path(made).stat().st_uid == machine.account.get("user", os.geteuid())
        if machine.has_users:
            check_keys_as_files(machine, drill)
        for process in processes:
            process.kill()
        wait_for(lambda: [len(process.deaths) for process in processes] == [1, 1, 1], "for the supervisor")
        wait_for(lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200, "for the web process")


def test_a_python_that_the_user_of_the_services_cannot_run_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    shutil.copy2(ROOT / "deploy/asapp", tmp_path / "deploy")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(tmp_path / "closed/python3")
    settings = tmp_path / "env"
    settings.touch()
    answer = subprocess.run(
        [tmp_path / "deploy/asapp", "users", "list"],
        env={"PATH": PATH_OF_ROOT, "ASAPP_SETTINGS": str(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert f"rm -rf {tmp_path}/.venv && PYTHON=/usr/bin/python3" in answer.stderr


@pytest.mark.parametrize("unit", [*SERVICES, *ONCE])
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
