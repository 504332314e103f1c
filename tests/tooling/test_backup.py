"""The restore drill: a backup is made, tried, the database is broken and restored, with the handbook's commands."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from asapp.core.extensions import db
from asapp.models import Contact, User
from config import Config
from devtools.guard import ROOT
from devtools.processes import environ_of
from devtools.programs import find_postgres_bin
from devtools.servers import PostgresServer
from tests.conftest import make_config
from tests.factories import make_admin, make_contact, make_synced_connection

pytestmark = pytest.mark.slow  # each command is a process

OTHER_KEY = base64.urlsafe_b64encode(bytes(range(7, 39))).decode()


def flask(config: Config, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    db.session.remove()
    db.engine.dispose()
    return run_flask(config, *words, **environ)


def run_flask(config: Config, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = f"{find_postgres_bin()}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=ROOT,
        env=environ_of(config, **{"PATH": path, **environ}),
        capture_output=True,
        text=True,
        check=False,
    )


def printed(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def complaint(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    return line


def test_a_broken_database_is_restored_from_a_backup_that_was_tried(app: Flask, config: Config, tmp_path: Path) -> None:
    make_admin(email="ada@example.com")
    make_contact(make_synced_connection().user, email="mira@fjord.example")
    folder = tmp_path / "backups"
    file = printed(flask(config, "backup", "make", str(folder)))
    assert [str(path) for path in folder.iterdir()] == [file]
    assert Path(file).stat().st_mode & 0o777 == 0o600
    (folder / "asapp-20990101T000000Z.part").touch()  # one that is being written
    assert (
        f"{file} can be restored: 2 people, and every key is here."
        in flask(config, "backup", "drill", str(folder)).stderr
    )
    drilled = flask(config, "backup", "drill", file, ENCRYPTION_KEYS=OTHER_KEY)
    assert "sealed with a key that is not in ENCRYPTION_KEYS" in complaint(drilled)

    db.session.execute(text("DELETE FROM contacts"))
    db.session.execute(text("DROP TABLE login_sessions"))
    db.session.execute(text("CREATE TABLE of_a_later_release (id INTEGER)"))
    db.session.commit()
    assert "has tables already" in complaint(flask(config, "backup", "restore", file))
    printed(flask(config, "backup", "restore", file, "--replace"))
    printed(flask(config, "db", "upgrade"))
    assert db.session.query(Contact).one().email == "mira@fjord.example"
    assert db.session.query(User).filter_by(email="ada@example.com").one()
    assert db.session.execute(text("SELECT count(*) FROM login_sessions")).scalar() is not None
    assert app.test_client().get("/readyz").json["ready"]  # type: ignore[index]


def run_lines_of_the_handbook(first: str, folder: Path, server: PostgresServer) -> None:
    """Run the lines of a block as they stand there, with a stand-in for docker that has PostgreSQL's programs alone."""
    handbook = (ROOT / "docs/operations.md").read_text()
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", handbook, re.DOTALL) if block.startswith(first)]
    docker = folder / "docker"
    docker.write_text('#!/bin/sh\n[ "$2" = exec ] || exit 0\nshift 4\nexec "$@"\n')
    docker.chmod(0o755)
    path = f"{folder}{os.pathsep}{find_postgres_bin()}{os.pathsep}{os.environ['PATH']}"
    (folder / ".env").write_text("POSTGRES_PASSWORD=0123\n")
    subprocess.run(
        ["sh", "-euc", block], cwd=folder, env={"PATH": path, "PGHOST": str(server.folder)}, check=True, timeout=60
    )


def test_with_compose_a_dump_from_before_an_upgrade_comes_back(postgres_server: PostgresServer, tmp_path: Path) -> None:
    config = make_config(postgres_server.url(postgres_server.create_database(name="asapp")))
    try:
        printed(run_flask(config, "db", "upgrade", "0049"))
        run_lines_of_the_handbook("docker compose exec -T postgres pg_dump", tmp_path, postgres_server)
        printed(run_flask(config, "db", "upgrade"))
        run_lines_of_the_handbook("docker compose stop web worker scheduler", tmp_path, postgres_server)
        assert printed(run_flask(config, "db", "current")).startswith("0049")
        printed(run_flask(config, "db", "upgrade"))
        assert printed(run_flask(config, "users", "list")) == ""
    finally:
        postgres_server.drop_database("asapp")


def test_what_is_no_backup_is_one_line(app: Flask, config: Config, tmp_path: Path) -> None:
    assert complaint(flask(config, "backup", "drill", str(tmp_path / "none"))).startswith("Error: There is no file")
    assert complaint(flask(config, "backup", "drill", str(tmp_path))).startswith("Error: There is no backup in")
    (tmp_path / "notes.txt").write_text("no backup, but long enough to be looked at" * 100)
    assert complaint(flask(config, "backup", "drill", str(tmp_path / "notes.txt"))).startswith("Error: ")
    (tmp_path / "file").touch()
    assert "Cannot write to" in complaint(flask(config, "backup", "make", str(tmp_path / "file" / "folder")))
