"""What runs in production: the Procfile's commands, gunicorn's own settings, and the contents of the image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml
from flask import Flask

from asapp.core.extensions import db
from asapp.core.version import VERSION
from asapp.health.heartbeats import WORKER, Heart
from config import IN_FILES, Config
from devtools.guard import ROOT
from devtools.processes import Process, environ_of
from devtools.programs import free_port
from devtools.waiting import status_of, wait_for
from tests.conftest import make_config

BIN = Path(sys.executable).parent


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


def test_the_processes_are_those_of_the_contract() -> None:
    commands = procfile()
    assert list(commands) == ["release", "web", "worker", "scheduler"]
    assert commands["web"].startswith("gunicorn wsgi:app ")
    assert commands["worker"] == "python worker.py"
    assert commands["scheduler"] == "flask --app wsgi scheduler"


@pytest.mark.slow
def test_web_as_in_the_procfile_logs_json_and_ends_in_order(app: Flask, config: Config, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environ = environ_of(config, PORT=str(port), HOME=str(tmp_path), PATH=f"{BIN}:/usr/bin:/bin", WEB_CONCURRENCY="2")
    command = ["/bin/sh", "-c", f"exec {procfile()['web']}"]
    with Process("web", command, tmp_path / "web.log", environ) as web:
        wait_for(lambda: status_of(f"{url}/readyz") == 200, "for the web process")
        assert status_of(f"{url}/login?email=zoe@fjord.example", "POST") == 400
        told = {refused_logins(port) for _ in range(8)}  # by either process
        assert told == {"1.0"}
        web.stop()
        assert web.exit_code == 0
    text = (tmp_path / "web.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"gunicorn.error", "asapp.web.request_log", "asapp.health.watch"} <= {line["logger"] for line in lines}
    assert any(line["message"].startswith(f"Listening at: http://0.0.0.0:{port}") for line in lines)
    assert "zoe" not in text
    assert not (tmp_path / ".gunicorn").exists()


def refused_logins(port: int) -> str:
    """Return how many log-ins were answered with 400, as one of the web processes reports it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    name = 'asapp_http_requests_total{endpoint="auth.try_login",method="POST",status="400"}'
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return found[1] if found else "none"


def test_a_containers_health_check(app: Flask) -> None:
    runner = app.test_cli_runner()
    heart = Heart(db.engine, WORKER)
    heart.beat()
    assert runner.invoke(args=["seen", "worker"]).exit_code == 0
    missing = runner.invoke(args=["seen", "scheduler"])
    assert missing.exit_code == 1
    assert "No scheduler was seen here" in missing.output
    db.session.rollback()
    heart.stop()
    assert runner.invoke(args=["seen", "worker"]).exit_code == 1


def test_the_image_copies_files_that_exist_and_runs_without_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for arguments in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE):
        copied |= set(arguments.split())
    assert copied == let_in
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "\nUSER asapp\n" in dockerfile
    assert "--require-hashes" in dockerfile


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_images_come_from_the_registry_that_docker_is_set_to(name: str) -> None:
    images = re.findall(r"^(?:FROM|\s+image:) (\S+)", (ROOT / name).read_text(), re.MULTILINE)
    assert images
    assert [image for image in images if "/" in image] == []


def test_every_setting_is_in_the_handbook_and_handed_to_the_containers() -> None:
    named = set(re.findall(r'_read\(environ, "(\w+)"', (ROOT / "config.py").read_text()))
    handbook = (ROOT / "docs" / "operations.md").read_text()
    assert sorted(name for name in named if f"`{name}`" not in handbook) == []
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("web", "worker"):
        kept_back = {"SALESFORCE_ALLOW_LOOPBACK", "WITHOUT_KEYS"}  # demo and tests only; what has no keys
        assert named - set(services[name]["environment"]) == kept_back


def test_the_scheduler_migrations_and_backups_get_no_keys() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("scheduler", "migrate"):
        handed = services[name]["environment"]
        assert set(handed) == {"WITHOUT_KEYS", "PUBLIC_URL", "DATABASE_URL", "REDIS_URL"}
        Config.from_environment({**handed, "PUBLIC_URL": "https://my.example.com"})
    assert "PASSWORD" not in services["migrate"]["environment"]["REDIS_URL"]
    for unit in ("scheduler", "backup"):
        text = (ROOT / f"deploy/systemd/asapp-{unit}.service").read_text()
        kept_back = " ".join(re.findall(r"^UnsetEnvironment=(.*)$", text, re.MULTILINE)).split()
        assert set(IN_FILES) - set(kept_back) == {"DATABASE_URL", "REDIS_URL"}
        assert {f"{name}_FILE" for name in IN_FILES} - set(kept_back) == {"DATABASE_URL_FILE", "REDIS_URL_FILE"}


def test_a_setting_that_is_left_out_is_the_same_in_containers() -> None:
    found = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "compose.yaml").read_text()))
    in_file = {name: value for name, value in found.items() if value}
    for images_or_gunicorns in ("PYTHON_IMAGE", "REDIS_IMAGE", "POSTGRES_IMAGE", "WEB_CONCURRENCY"):
        del in_file[images_or_gunicorns]
    assert in_file.pop("TRUSTED_PROXIES") == "1"  # web is reached by a proxy on the host alone
    defaults = dict(re.findall(r'_read\(environ, "(\w+)",.* default="(\w+)"\)', (ROOT / "config.py").read_text()))
    assert in_file == {name: defaults[name] for name in in_file}
    assert set(defaults) - set(in_file) == {"SALESFORCE_ALLOW_LOOPBACK", "TRUSTED_PROXIES", "WITHOUT_KEYS"}


def test_every_container_is_confined() -> None:
    for name, service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 200, name
        assert service["mem_limit"], name
        assert "cap_add" not in service, name
        assert "build" in service or service["user"] != "root", name  # the image names its own user


def test_redis_and_postgres_can_be_reached_only_by_the_services_that_use_them() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    parts = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", compose, re.MULTILINE))
    assert "REDISCLI_AUTH: ${REDIS_PASSWORD:?" in parts["redis"]
    assert "requirepass" in parts["redis"]
    assert "redis://:${REDIS_PASSWORD:?" in compose
    networks = {name: re.findall(r"networks: \[(.+)\]", part) for name, part in parts.items()}
    assert (networks["redis"], networks["postgres"], networks["migrate"]) == (["jobs"], ["database"], ["database"])
    assert [parts[name].strip() for name in ("jobs", "database")] == ["internal: true"] * 2
    assert [name for name, part in parts.items() if "ports:" in part] == ["web"]


def test_the_release_is_the_projects() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def run_flask(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    config = make_config("sqlite:///:memory:")
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=ROOT,
        env=environ_of(config, **environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_command_prints_nothing_but_its_answer() -> None:
    answer = run_flask("--help")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.slow
def test_a_database_that_is_away_is_one_line_of_db_upgrade() -> None:
    answer = run_flask("db", "upgrade", DATABASE_URL="postgresql+psycopg://asapp:secret-word@127.0.0.1:1/asapp")
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: The database can't do that: connection failed")
    assert "secret-word" not in line


@pytest.mark.slow
def test_each_migration_is_one_line_of_db_upgrade(tmp_path: Path) -> None:
    answer = run_flask("db", "upgrade", DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
    lines = [json.loads(line) for line in answer.stderr.splitlines()]
    assert {line["message"] for line in lines} == {"migration"}
    steps = list((ROOT / "migrations" / "versions").glob("*.py"))
    assert len({line["revision"] for line in lines}) == len(steps)


def test_every_figure_is_explained() -> None:
    metrics = (ROOT / "asapp" / "health" / "metrics.py").read_text()
    names = set(re.findall(r'gauges?\(\s*"(\w+)"', metrics))
    names |= {"run_duration_seconds", "build_info", "http_requests_total", "http_request_duration_seconds"}
    handbook = (ROOT / "docs" / "operations.md").read_text()
    assert len(names) > 15
    assert sorted(name for name in names if f"asapp_{name}" not in handbook) == []
