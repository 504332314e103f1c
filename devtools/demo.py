"""`make demo`: everything on this machine, with a simulated Salesforce org, and one advisor driven through it.

Starts redis-server, the org, web, worker and scheduler as in production, drives one advisor through connect and sync
over HTTP, prints addresses and log-ins, and runs until Ctrl-C. With --once it ends after the drive: 0 if that worked.
With --provider people log in with an identity provider (oidc-provider-mock) instead of passwords. PORT and ORG_PORT change
the ports. Each start deletes instance/demo and fills it again; the logs stay there afterwards.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import NoReturn

import requests

from config import Config, IdentityProvider
from devtools.drive import BY_PROVIDER, DriveError, Way, drive
from devtools.guard import ROOT, guard
from devtools.processes import (
    FLASK,
    Keeper,
    Process,
    Scheduler,
    SimulatedOrg,
    Site,
    StartError,
    Web,
    Worker,
    end_all,
    environ_of,
)
from devtools.programs import MissingProgramError, free_port, is_free
from devtools.sample_sender import Sender, SenderError, tell_story
from devtools.servers import RedisServer
from devtools.smtp_sink import running_mail_server
from devtools.visitor import LostError, Visitor

FIRM = "Northgate Wealth"
ADVISOR = ("amara@advisor.example", "Amara Okafor")
BEGINNER = ("jonas@advisor.example", "Jonas Lindqvist")  # this account is left for the visitor to connect
ADMIN = ("ada@advisorstream.example", "Ada Admin")
PASSWORD = "harbour-lamp-orchid"
ORG_USER = ("Amara Okafor", "practice1")
STOP_S = 12.0  # a worker ends within 10 s


class DemoError(Exception):
    """The demo can't go on; the text is one line."""


class DemoStopped(BaseException):
    """Ctrl-C or another signal has ended the demo."""


@dataclass(frozen=True)
class Ports:
    web: int
    org: int

    @classmethod
    def from_environment(cls) -> Ports:
        web, org = cls._read("PORT", 8000), cls._read("ORG_PORT", 8001)
        if web == org:
            raise DemoError(f"PORT and ORG_PORT are both {web}; they must differ.")
        for name, port in (("PORT", web), ("ORG_PORT", org)):
            if not is_free(port):
                raise DemoError(f"Port {port} is not free; choose another: make demo {name}={port + 10}")
        return cls(web, org)

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
    """Print a line; the reader may be gone."""
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


class Provider(Site):
    """An OpenID Connect provider that knows these people by their addresses and asks for no password."""

    ready_path = "/.well-known/openid-configuration"

    def __init__(self, log: Path, people: Sequence[tuple[str, str]]) -> None:
        port = free_port()
        claims = [{"sub": email, "email": email, "email_verified": True, "name": name} for email, name in people]
        options = [part for each in claims for part in ("--user-claims", json.dumps(each))]
        command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true", *options]
        super().__init__("provider", command, log, environ_of(), port)


class Demo:
    """mail_url: where mails are sent; without it none are."""

    def __init__(self, ports: Ports, folder: Path, mail_url: str | None = None, *, with_provider: bool = False) -> None:
        self.ports = ports
        self.folder = folder
        self.mail_url = mail_url
        self.consumer_key = f"3MVG9{secrets.token_urlsafe(30)}"
        self.consumer_secret = secrets.token_hex(32).upper()
        self.provider = Provider(folder / "provider.log", [ADVISOR, BEGINNER, ADMIN]) if with_provider else None
        self.processes: list[Process] = []
        self.keeper = Keeper(self.processes, on_death=report_exit)
        self.hurry = threading.Event()

    def start(self) -> None:
        """Start everything and make the firm and its people; raise StartError or DemoError."""
        self.redis = RedisServer(self.folder / "redis.log")
        say(f"Starting redis-server on port {self.redis.port}")
        self._start(self.redis)
        self._start_org()
        if self.provider:
            say(f"Starting an identity provider at {self.provider.url}")
            self._start(self.provider)
        self._flask("db", "upgrade")
        slug = self._make_firm()
        self._make_person(*ADVISOR, "--role", "advisor", "--partner", slug)
        self._make_person(*BEGINNER, "--role", "advisor", "--partner", slug)
        self._make_person(*ADMIN, "--role", "admin")
        say(f"Starting web at {self.ports.web_url}, a worker and the scheduler")
        self._start(Web(self.config, self.folder / "web.log", port=self.ports.web, workers=2, threads=4))
        self._start(Worker(self.config, self.folder / "worker.log"))
        self._start(Scheduler(self.config, self.folder / "scheduler.log"))
        self.keeper.start()

    def stop(self) -> None:
        """End all processes, Redis and the org after those that use them."""
        self.keeper.stop()
        used = [process for process in self.processes if isinstance(process, RedisServer | SimulatedOrg | Provider)]
        for group in ([process for process in self.processes if process not in used], used):
            end_all(group, STOP_S, self.hurry)
        if killed := guard().sweep(grace_s=0.5):
            say(f"{killed} that would not end were killed.")

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

    def send(self) -> None:
        """Let the sample mail engine send one mailing to the advisor's contacts; raise DemoError."""
        sender = Sender(self.ports.web_url, self.make_key("Sample sender"))
        try:
            with running_mail_server() as mails:
                tell_story(sender, ADVISOR[0], "Salesforce Contacts", mails.url, lambda text: say(f"  {text}"))
        except (SenderError, requests.RequestException, OSError) as error:
            raise DemoError(f"The mailing failed: {error}\nLogs: {self.folder}/*.log") from error

    def make_key(self, name: str) -> str:
        """Return a new key to the API."""
        return self._flask("api-keys", "create", name, "--scope", "audience:read", "--scope", "events:write")

    def show_addresses(self) -> None:
        how = f"the button “{BY_PROVIDER}”, then choose one" if self.provider else "with these passwords"
        say(f"""
Open       {self.ports.web_url}   ({how})
  advisor  {ADVISOR[0]} / {PASSWORD}   (connected and synced just now)
  advisor  {BEGINNER[0]} / {PASSWORD}   (nothing connected yet: Account Settings, Integrations)
  admin    {ADMIN[0]} / {PASSWORD}
The org    {self.ports.org_url}   (change contacts there, then sync again)
  user     {self._org_username()} / {ORG_USER[1]}   (its log-in page offers its other people as well)
Logs       {self.folder}/*.log
Ctrl-C ends everything.
""")

    def _start(self, process: Process) -> None:
        self.processes.append(process)
        process.start()

    def _start_org(self) -> None:
        say(f"Starting the simulated Salesforce org at {self.ports.org_url}")
        options = ["--seed", "demo", "--callback", self.config.callback_url]
        log, key, secret = self.folder / "org.log", self.consumer_key, self.consumer_secret
        self._start(SimulatedOrg(log, key, secret, *options, port=self.ports.org))

    @cached_property
    def config(self) -> Config:
        return Config(
            secret_key=secrets.token_urlsafe(48),
            encryption_keys=(secrets.token_bytes(32),),
            database_url=f"sqlite:///{self.folder}/asapp.sqlite3",
            redis_url=self.redis.url,
            public_url=self.ports.web_url,
            salesforce_allow_loopback=True,
            sync_interval_minutes=5,
            mail_url=self.mail_url,
            require_second_factor=False,  # no phone is needed to look around
            identity_provider=IdentityProvider(self.provider.url, "asapp", "demo") if self.provider else None,
        )

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
            [sys.executable, *FLASK, *arguments],
            env=environ_of(self.config, ASAPP_PASSWORD=PASSWORD, ASAPP_CONSUMER_SECRET=self.consumer_secret),
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


def report_exit(process: Process) -> None:
    code = process.deaths[-1]
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    say(f"{process.name} (process {process.pid}) ended with {how}; starting it again.")


def run(folder: Path, *, once: bool, with_provider: bool) -> None:
    with own_folder(folder):
        ports = Ports.from_environment()
        empty_folder(folder)
        demo = Demo(ports, folder, with_provider=with_provider)
        with stopping(demo):
            demo.start()
            say("Driving one advisor through it:")
            demo.drive()
            say("Sending one mailing to the advisor's contacts:")
            demo.send()
            if not once:
                demo.show_addresses()
                threading.Event().wait()


@contextmanager
def stopping(demo: Demo) -> Iterator[None]:
    """End everything when the block ends, in any way; a second Ctrl-C doesn't wait."""
    is_ending = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        if is_ending:
            demo.hurry.set()
        else:
            raise DemoStopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores the signal
            signal.signal(number, stop)
    try:
        yield
    finally:
        is_ending = True
        say("Ending all processes")
        demo.stop()


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="leave after the drive; exit 0 only if it worked")
    parser.add_argument("--provider", action="store_true", help="people log in with an identity provider")
    place = ROOT / "instance" / "demo"
    parser.add_argument("--folder", type=Path, default=place, help="emptied, then used for data and logs")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    try:
        run(arguments.folder.absolute(), once=arguments.once, with_provider=arguments.provider)
    except (DemoError, StartError, MissingProgramError) as error:
        sys.exit(f"demo: {error}")
    except (DemoStopped, KeyboardInterrupt):
        sys.exit(130 if arguments.once else 0)
    sys.exit(0)


if __name__ == "__main__":
    main()
