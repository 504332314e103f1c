"""The release; pyproject.toml and CHANGELOG.md name the same. Where it is known, also the commit: of a clone, or of an image."""

from __future__ import annotations

import re
from pathlib import Path

VERSION = "0.2.0"
DIGITS = 12  # of a commit's name
OF_AN_IMAGE = "commit"  # the file that the Dockerfile writes


def find_commit(root: Path) -> str:
    """Return the first digits of the commit that the clone in this folder is at, or the image was built from; "" if unknown."""
    is_clone = (root / ".git").exists()
    try:
        commit = _find_head(root / ".git") if is_clone else (root / OF_AN_IMAGE).read_text().strip()
    except (OSError, ValueError):
        return ""
    return commit[:DIGITS] if re.fullmatch(r"[0-9a-f]{40,64}", commit) else ""


def _find_head(folder: Path) -> str:
    """git's own files are read, because git refuses to read a clone of another user's."""
    head = (folder / "HEAD").read_text().strip()
    name = head.removeprefix("ref: ")
    return head if name == head else _find_ref(folder, name)


def _find_ref(folder: Path, name: str) -> str:
    if (folder / name).exists():
        return (folder / name).read_text().strip()
    found = re.search(rf"^(\S+) {re.escape(name)}$", (folder / "packed-refs").read_text(), re.MULTILINE)
    return found[1] if found else ""


COMMIT = find_commit(Path(__file__).resolve().parents[2])
RELEASE = f"{VERSION} (commit {COMMIT})" if COMMIT else VERSION
