"""The commit that a clone is at, as the page Health and the figures tell it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from asapp.core.version import DIGITS, find_commit


def test_the_commit_of_a_clone_is_known_on_a_branch_in_packed_refs_and_detached(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *person, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert find_commit(tmp_path) == ""
    git("init", "--quiet")
    assert find_commit(tmp_path) == ""  # nothing is committed yet
    git("commit", "--quiet", "--allow-empty", "--message", "The first")
    commit = git("rev-parse", "HEAD")[:DIGITS]
    assert find_commit(tmp_path) == commit
    git("pack-refs", "--all")
    assert find_commit(tmp_path) == commit
    git("checkout", "--quiet", "--detach")
    assert find_commit(tmp_path) == commit


def test_the_commit_of_an_image_is_what_it_was_built_with(tmp_path: Path) -> None:
    (tmp_path / "commit").write_text("\n")
    assert find_commit(tmp_path) == ""  # built without it
    (tmp_path / "commit").write_text("0f3c" * 10 + "\n")
    assert find_commit(tmp_path) == "0f3c0f3c0f3c"
    (tmp_path / "commit").write_text("main\n")
    assert find_commit(tmp_path) == "", "a branch is no commit"
