"""`make demo`: everything on this machine, with a simulated Salesforce org, and one advisor driven through it.

Starts redis-server, the org, web, worker and scheduler as in production, drives one advisor through connect and sync
over HTTP, prints addresses and log-ins, and stays until Ctrl-C. With --once it leaves after the drive: 0 if it worked.
PORT and ORG_PORT move it. Each start begins afresh in instance/demo, where the logs stay for a look afterwards.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import requests

from devtools.drive import DriveError, Way, drive
from devtools.guard import ROOT, Guard
from devtools.programs import MissingProgramError, find_redis_server, free_port, is_free
from devtools.supervisor import StartError, Supervisor
from devtools.visitor import LostError, Visitor

FIRM = "Northgate Wealth"
ADVISOR = ("amara@advisor.example", "Amara Okafor")
BEGINNER = ("jonas@advisor.example", "Jonas Lindqvist")  # whose account is left for the visitor to connect
ADMIN = ("ada@advisorstream.example", "Ada Admin")
PASSWORD = "harbour-lamp-orchid"
ORG_USER = ("Amara Okafor", "practice1")
# What a developer's shell may hold and the demo must not take over
SETTINGS = (
    *("DATABASE_URL", "ENCRYPTION_KEYS", "HTMX_URL", "MAIL_URL", "PUBLIC_URL", "REDIS_URL", "SECRET_KEY"),
    *("SALESFORCE_ALLOW_LOOPBACK", "SYNC_INTERVAL_MINUTES", "TRUSTED_PROXIES"),
    *("FLASK_APP", "FLASK_DEBUG", "FLASK_ENV", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PYTHONPATH"),
)


class DemoError(Exception):
    """The demo can't go on; the text is one line."""


class Stopped(BaseException):
    """Somebody pressed Ctrl-C or ended us otherwise."""


@dataclass(frozen=True)
class Ports:
    web: int
    org: int
    redis: int

    @classmethod
    def from_environment(cls) -> Ports:
        web, org = cls._read("PORT", 8000), cls._read("ORG_PORT", 8001)
        if web == org:
            raise DemoError(f"PORT and ORG_PORT are both {web}; they must differ.")
        for name, port in (("PORT", web), ("ORG_PORT", org)):
            if not is_free(port):
                raise DemoError(f"Port {port} is not free; choose another: make demo {name}={port + 10}")
        return cls(web, org, free_port())

    @staticmethod
    def _read(name: str, default: int) -> int:
        raw = os.environ.get(name) or str(default)
        if not raw.isdecimal() or not 1 <= int(raw) <= 65535:
            raise DemoError(f"{name} must be a port number, not {raw!r}.")
        return int(raw)

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web}"

    @property
    def org_url(self) -> str:
        return f"http://127.0.0.1:{self.org}"


def say(text: str) -> None:
    """Print a line; who listens may have gone."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Keep other demos out of the demo's folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not folder.with_suffix(".lock").exists():
            raise DemoError(f"{folder} holds something else; the demo would empty it.")
        lock = folder.with_suffix(".lock").open("a+")
    except OSError as error:
        raise DemoError(f"Cannot write to {folder}: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise DemoError(f"A demo is already running in this folder ({lock.read().strip()}).") from error
        lock.truncate(0)
        print(f"process {os.getpid()}", file=lock, flush=True)
        yield


def empty_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
        folder.mkdir()
    except OSError as error:
        raise DemoError(f"Cannot empty {folder}: {error.strerror}.") from error


class Demo:
    def __init__(self, ports: Ports, folder: Path, guard: Guard) -> None:
        self.ports = ports
        self.folder = folder
        self.guard = guard
        self.supervisor = Supervisor(guard, folder, say)
        self.consumer_key = f"3MVG9{secrets.token_urlsafe(30)}"
        self.consumer_secret = secrets.token_hex(32).upper()
        self.environ = self._environ()

    def start(self) -> None:
        """Start everything and make the firm and its people; raise StartError or DemoError."""
        self._start_redis()
        self._start_org()
        self._flask("db", "upgrade")
        slug = self._make_firm()
        self._make_person(*ADVISOR, "--role", "advisor", "--partner", slug)
        self._make_person(*BEGINNER, "--role", "advisor", "--partner", slug)
        self._make_person(*ADMIN, "--role", "admin")
        self._start_web()
        start = self.supervisor.start
        start("worker", [sys.executable, "worker.py"], self.environ)
        start("scheduler", [sys.executable, "-m", "flask", "--app", "wsgi", "scheduler"], self.environ)
        self.supervisor.watch()

    def drive(self) -> None:
        """Drive the advisor; raise DemoError."""
        way = Way(
            web=self.ports.web_url,
            org=self.ports.org_url,
            email=ADVISOR[0],
            password=PASSWORD,
            org_username=self._org_username(),
            org_password=ORG_USER[1],
        )
        try:
            drive(way, lambda text: say(f"  {text}"))
        except (DriveError, LostError, requests.RequestException) as error:
            raise DemoError(f"The drive failed: {error}\nLogs: {self.folder}/*.log") from error

    def show_addresses(self) -> None:
        say(f"""
Open       {self.ports.web_url}
  advisor  {ADVISOR[0]} / {PASSWORD}   (connected and synced just now)
  advisor  {BEGINNER[0]} / {PASSWORD}   (nothing connected yet: Account Settings, Integrations)
  admin    {ADMIN[0]} / {PASSWORD}
The org    {self.ports.org_url}   (change contacts there, then sync again)
  user     {self._org_username()} / {ORG_USER[1]}   (its log-in page offers its other people as well)
Logs       {self.folder}/*.log
Ctrl-C ends everything.
""")

    def _environ(self) -> dict[str, str]:
        environ = self.guard.environ(
            SECRET_KEY=secrets.token_urlsafe(48),
            ENCRYPTION_KEYS=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            DATABASE_URL=f"sqlite:///{self.folder}/asapp.sqlite3",
            REDIS_URL=f"redis://127.0.0.1:{self.ports.redis}/0",
            PUBLIC_URL=self.ports.web_url,
            SALESFORCE_ALLOW_LOOPBACK="1",
            SYNC_INTERVAL_MINUTES="5",
            ASAPP_PASSWORD=PASSWORD,
            ASAPP_CONSUMER_SECRET=self.consumer_secret,
            PYTHONUNBUFFERED="1",
        )
        ours = {"DATABASE_URL", "ENCRYPTION_KEYS", "PUBLIC_URL", "REDIS_URL", "SECRET_KEY"}
        ours |= {"SALESFORCE_ALLOW_LOOPBACK", "SYNC_INTERVAL_MINUTES"}
        return {name: value for name, value in environ.items() if name in ours or name not in SETTINGS}

    def _start_redis(self) -> None:
        port = self.ports.redis
        data = self.guard.folder / "redis"
        data.mkdir()
        say(f"Starting redis-server on port {port}")
        command = [str(find_redis_server()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)]
        self.supervisor.start(
            "redis",
            [*command, "--save", "", "--appendonly", "no"],
            self.environ,
            lambda: _answers_ping(port),
            is_base=True,
        )

    def _start_org(self) -> None:
        say(f"Starting the simulated Salesforce org at {self.ports.org_url}")
        command = [sys.executable, "-m", "orgsim", "--port", str(self.ports.org), "--seed", "demo"]
        command += ["--key", self.consumer_key, "--secret", self.consumer_secret]
        command += ["--callback", f"{self.ports.web_url}/salesforce/salesforce_as/login/callback/"]
        url = f"{self.ports.org_url}/practice/api/state"
        self.supervisor.start("org", command, self.environ, lambda: _answers(url), is_base=True)

    def _start_web(self) -> None:
        say(f"Starting web at {self.ports.web_url}, a worker and the scheduler")
        command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{self.ports.web}"]
        command += ["--workers", "2", "--threads", "4", "--no-control-socket"]
        url = f"{self.ports.web_url}/healthz"
        self.supervisor.start("web", command, self.environ, lambda: _answers(url))

    def _make_firm(self) -> str:
        options = ["--url", self.ports.org_url, "--key", self.consumer_key]
        slug = self._flask("partners", "create", FIRM, *options)
        say(f"Made the firm {FIRM} ({slug})")
        return slug

    def _make_person(self, email: str, name: str, *options: str) -> None:
        self._flask("users", "create", email, "--name", name, *options)

    def _flask(self, *arguments: str) -> str:
        """Run a command of the app and return what it printed; raise DemoError."""
        answer = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
            env=self.environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"flask {' '.join(arguments)}\n{answer.stdout}{answer.stderr}\n")
        if answer.returncode != 0:
            last = (answer.stderr.strip() or "nothing").splitlines()[-1]
            raise DemoError(f"flask {' '.join(arguments[:2])} failed: {last} ({self.folder}/commands.log)")
        return answer.stdout.strip()

    def _org_username(self) -> str:
        users = Visitor().get_json(f"{self.ports.org_url}/practice/api/state")["users"]
        return next(str(user["username"]) for user in users if user["name"] == ORG_USER[0])


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def run(folder: Path, *, once: bool) -> None:
    with own_folder(folder):
        ports = Ports.from_environment()
        empty_folder(folder)
        with Guard() as guard:
            demo = Demo(ports, folder, guard)
            with stopping(demo):
                demo.start()
                say("Driving one advisor through it:")
                demo.drive()
                if not once:
                    demo.show_addresses()
                    threading.Event().wait()


@contextmanager
def stopping(demo: Demo) -> Iterator[None]:
    """End everything however the block ends; a second Ctrl-C makes short work of it."""
    is_ending = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        if is_ending:
            demo.supervisor.hurry.set()
        else:
            raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        yield
    finally:
        is_ending = True
        say("Ending all processes")
        demo.supervisor.stop()


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="leave after the drive; exit 0 only if it worked")
    place = ROOT / "instance" / "demo"
    parser.add_argument("--folder", type=Path, default=place, help="emptied, then used for data and logs")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    try:
        run(arguments.folder.absolute(), once=arguments.once)
    except (DemoError, StartError, MissingProgramError) as error:
        sys.exit(f"demo: {error}")
    except (Stopped, KeyboardInterrupt):
        sys.exit(130 if arguments.once else 0)
    sys.exit(0)


if __name__ == "__main__":
    main()
