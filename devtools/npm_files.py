"""What comes from npm, so that we keep no copies: htmx and the headings' font for pages, axe for tests.

`python -m devtools.npm_files` fetches what is not here yet and checks it against the hash below. Without npm
it says so and, unless called with --optional, fails: pages work without htmx and the font, tests don't.
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


def _of_the_font(member: str, place: str, sha384: str) -> NpmFile:
    return NpmFile(
        "@fontsource/source-serif-4", "5.3.1", f"package/{member}", ROOT / "static/vendor/fonts" / place, sha384
    )


# Source Serif 4 by Adobe, SIL Open Font License 1.1; static/fonts.css names the files with their fingerprints.
FONT = (
    _of_the_font(
        "files/source-serif-4-latin-600-normal.woff2",
        "source-serif-4-latin-600.woff2",
        "L5iHvialTpQ6MhRxJDObkEDLET6CRM/vQVbheXGrcJToX7+VHK4ZkWkqpCtB60yj",
    ),
    _of_the_font(
        "files/source-serif-4-latin-ext-600-normal.woff2",
        "source-serif-4-latin-ext-600.woff2",
        "W9ISUcR51mgZz7yV0Pve/FrlFu2a8tocEgoyzo2+4UcSw4PS9M9ZhpngBmYQ5gRF",
    ),
    _of_the_font("LICENSE", "LICENSE", "SBZx/9BZ16w4UhHNp8yeyXPgeNVjp2LKgIb2rzyiLzPl3Q+h+9ongbnHA+Hsrdtq"),
)
PACKAGES: tuple[tuple[NpmFile, ...], ...] = ((HTMX,), FONT)  # what pages use
FOR_TESTS: tuple[tuple[NpmFile, ...], ...] = ((AXE,),)


def fetch(*files: NpmFile) -> None:
    """Put the files of one package in their places unless they are there; raise FetchError or MissingProgramError."""
    missing = [file for file in files if not file.is_here()]
    if not missing:
        return
    npm, of = find_npm(), missing[0]
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [npm, "pack", f"{of.package}@{of.version}", "--silent", "--ignore-scripts"],
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
            raise FetchError(f"npm could not fetch {of.package}@{of.version}: {reason}")
        with tarfile.open(tarballs[0]) as archive:
            contents = {file: _read_member(archive, file.member) for file in missing}
    for file, content in contents.items():
        _place(file, content)


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    return member.read() if member else b""


def _place(file: NpmFile, content: bytes) -> None:
    """Write a file whose hash is the one that we know; raise FetchError for another."""
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
    for files in PACKAGES if optional else PACKAGES + FOR_TESTS:
        try:
            fetch(*files)
        except (FetchError, MissingProgramError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{error}{'; going on without' if optional else ''}", file=sys.stderr)
            if not optional:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
