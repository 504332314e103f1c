"""The two scripts that come from npm, so that we keep no copies: htmx for pages, axe for tests.

`python -m devtools.npm_files` fetches what is not here yet and checks it against the hash below. Without npm
it says so and, unless called with --optional, fails: pages work without htmx, tests don't.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devtools.programs import MissingProgramError, find_npm

ROOT = Path(__file__).resolve().parent.parent


class FetchError(Exception):
    """A file could not be fetched; the text is one line that says why."""


@dataclass(frozen=True)
class NpmFile:
    package: str
    version: str
    member: str
    place: Path
    sha384: str

    def is_here(self) -> bool:
        return self.place.is_file() and _sha384(self.place.read_bytes()) == self.sha384

    def read(self) -> str:
        if not self.is_here():
            raise FetchError(f"{self.place.relative_to(ROOT)} is not here; `make test` fetches it from npm")
        return self.place.read_text(encoding="utf-8")


HTMX = NpmFile(
    package="htmx.org",
    version="2.0.11",
    member="package/dist/htmx.min.js",
    place=ROOT / "static/vendor/htmx.min.js",
    sha384="2OatzQy1H+Zd/IIrjr1TcuDGqLXeHhbooAyJY1KdQMKnr4LZ22k31GBLdYKHmVjg",
)
AXE = NpmFile(
    package="axe-core",
    version="4.14.1",
    member="package/axe.min.js",
    place=ROOT / ".cache/npm/axe.min.js",
    sha384="xt1SFg49QaDwsyt0Xfs2XAyBtYPClXl3X2q5OOLeGAUmq9jZTYIMdztpF99WdhiH",
)


def fetch(file: NpmFile) -> None:
    """Put the file in its place unless it is there; raise FetchError or MissingProgramError."""
    if file.is_here():
        return
    npm = find_npm()
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [npm, "pack", f"{file.package}@{file.version}", "--silent", "--ignore-scripts"],
            cwd=folder,
            # a cache of its own, since the home folder may not be ours to write
            env={**os.environ, "npm_config_cache": f"{folder}/cache"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        tarballs = list(Path(folder).glob("*.tgz"))
        if answer.returncode != 0 or not tarballs:
            reason = (answer.stderr.strip().splitlines() or ["no answer"])[-1]
            raise FetchError(f"npm could not fetch {file.package}@{file.version}: {reason}")
        with tarfile.open(tarballs[0]) as archive:
            member = archive.extractfile(file.member)
            content = member.read() if member else b""
    if _sha384(content) != file.sha384:
        raise FetchError(f"{file.package}@{file.version} from npm is not the file we know: its hash differs")
    file.place.parent.mkdir(parents=True, exist_ok=True)
    part = file.place.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(file.place)


def _sha384(content: bytes) -> str:
    return base64.b64encode(hashlib.sha384(content).digest()).decode()


def main(arguments: list[str]) -> int:
    optional = "--optional" in arguments
    for file in (HTMX,) if optional else (HTMX, AXE):
        try:
            fetch(file)
        except (FetchError, MissingProgramError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{error}{'; going on without' if optional else ''}", file=sys.stderr)
            return 0 if optional else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
