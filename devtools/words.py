"""Words that we don't write in comments, docstrings, pages and documents: `make lint` runs `python -m devtools.words`.

They make a sentence harder to read than it has to be. Say "the advisor", "a person" or "no one", "fix", "again", and
write the sentence with its subject first. Names in Python code are checked too: `enqueue` says more than `ring`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

# Files and folders, from the root of the project; folders with everything in them.
PLACES = (
    *("asapp", "orgsim", "devtools", "benchmarks", "tests", "migrations", "templates", "static", "docs"),
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    *("config.py", "gunicorn.conf.py", "worker.py", "wsgi.py"),
)

BANNED = re.compile(
    r"\b(?:(?i:whoever|whom|anew|mend(?:s|ed|ing|er|ers)?|of\s+which|(?:is|are)\s+to\s+be|(?:some|no)body)|Meanwhile)\b"
)
BANNED_IN_NAMES = frozenset({"ring", "rings", "bell", "bells", "door", "doors", "parcel", "parcels", "mender"})

MARKUP = {".html", ".txt", ".md"}  # all of the file is read
SCRIPTS = {".js": re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL), ".css": re.compile(r"/\*.*?\*/", re.DOTALL)}
NOT_OURS = {"vendor", "__pycache__", "node_modules"}


class Finding(NamedTuple):
    line: int
    word: str


def find_words(name: str, text: str) -> list[Finding]:
    """Return the banned words of a file, by its name and text, in their order; nothing for a kind that we don't know."""
    return sorted(_findings(Path(name).suffix, text))


def _findings(kind: str, text: str) -> Iterator[Finding]:
    for match in BANNED.finditer(_prose(kind, text)):
        yield Finding(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()))
    if kind == ".py":
        yield from _names(text)


def _prose(kind: str, text: str) -> str:
    """Return the text with a blank for every character that isn't prose; lines stay where they are."""
    if kind == ".py":
        return _keep(text, _spans_in_python(text)).replace("#", " ")
    if kind in SCRIPTS:
        return _keep(text, (match.span() for match in SCRIPTS[kind].finditer(text)))
    return text if kind in MARKUP else ""


def _keep(text: str, spans: Iterable[tuple[int, int]]) -> str:
    kept = [character if character == "\n" else " " for character in text]
    for start, end in spans:
        kept[start:end] = text[start:end]
    return "".join(kept)


def _spans_in_python(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each comment and each string that stands alone, as docstrings do."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    documented = {
        node.value.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_documentation = token.type == tokenize.STRING and token.start[0] in documented
        if token.type == tokenize.COMMENT or is_documentation:
            yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]


def _names(text: str) -> Iterator[Finding]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            parts = re.findall(r"[A-Z]?[a-z]+", token.string)
            if any(part.lower() in BANNED_IN_NAMES for part in parts):
                yield Finding(token.start[0], token.string)


def files_in(places: Iterable[str], root: Path = ROOT) -> Iterator[Path]:
    """Yield our files in these places, sorted; nothing that was installed or made."""
    for place in places:
        found = [root / place] if (root / place).is_file() else sorted(path for path in (root / place).rglob("*"))
        yield from (path for path in found if path.is_file() and not NOT_OURS & set(path.relative_to(root).parts))


def main(places: Iterable[str] = PLACES, root: Path = ROOT) -> int:
    """Print each banned word with its place and line; return 1 if there is one."""
    failed = 0
    for path in files_in(places, root):
        if path.suffix not in {".py", *MARKUP, *SCRIPTS}:
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for number, word in find_words(path.name, text):
            failed = 1
            print(f"{path.relative_to(root)}:{number}: {word}: {lines[number - 1].strip()}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
