"""Installs or finds programs from outside Python: `python -m devtools.system redis chromium`.

As root on Debian it installs what is missing; otherwise one line says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from devtools import programs
from devtools.programs import MissingProgramError

PROGRAMS: dict[str, tuple[Callable[[], Path], str]] = {
    "redis": (programs.find_redis_server, "redis-server"),
    "postgres": (programs.find_postgres_bin, "postgresql"),
    "chromium": (programs.find_chromium, "chromium"),
    "npm": (programs.find_npm, "npm"),
    "buildah": (programs.find_buildah, "buildah"),
    "debootstrap": (programs.find_debootstrap, "debootstrap"),
    "promtool": (programs.find_promtool, "prometheus"),
    "systemd": (programs.find_systemd_analyze, "systemd"),
    "nginx": (programs.find_nginx, "nginx-light"),
}
APT = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]


def ensure(names: list[str]) -> None:
    """Find or install each; raise MissingProgramError for the first one that can't be had."""
    absent = [name for name in names if not _is_here(name)]
    if absent and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [PROGRAMS[name][1] for name in absent]
        print(f"Installing Debian packages: {' '.join(packages)}", file=sys.stderr)
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *packages)
    for name in names:
        PROGRAMS[name][0]()


def _is_here(name: str) -> bool:
    try:
        PROGRAMS[name][0]()
    except MissingProgramError:
        return False
    return True


def _apt(*arguments: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*APT, *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def main(names: list[str]) -> int:
    try:
        ensure(names)
    except MissingProgramError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
