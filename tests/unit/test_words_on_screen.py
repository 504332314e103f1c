"""The words on screen are those of one glossary: firm, advisor, active and inactive, deleted here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from devtools.guard import ROOT

NOT_SAID = {
    r"(?<!/)\bpartners?\b": "firm",
    r"\bback on\b": "active again",
    r"\bswitched off, |\bare switched off\b|\bis switched off \d": "made inactive",
    r"\bremoved by you\b": "deleted here",
    r"\bwritten to\b": "emailed",
    r"\bwhoever\b|\bnobody\b|\bsomebody\b": "no one, someone",
    r"\bmend": "fix",
    r"\btombstone": "deleted here",
}
# A sender's program is told in its own terms; "written to the audit log" is another verb.
EXCEPT = re.compile(r"written to the audit log|who may be written to|are not written to")

# What refuses an input, and the fields that say it.
REFUSALS = (
    *(
        "InvalidFields",
        "ValidationError",
        "NotSalesforce",
        "NotAQuestion",
        "UnfitPassword",
        "StillNeeded",
        "name_problem",
    ),
    *("Text", "PersonName", "Number", "Tick"),
)


def texts_of_templates() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "templates").rglob("*.html")):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        written = re.sub(r"\{\{(.*?)\}\}", spoken, text, flags=re.DOTALL)
        yield str(path.relative_to(ROOT)), re.sub(r"<[^>]*>", " ", written, flags=re.DOTALL)


def spoken(expression: re.Match[str]) -> str:
    """Return the sentences in an expression of a template: its strings that have a space."""
    return " ".join(each for each in re.findall(r'"([^"]*)"', expression[1]) if " " in each)


def texts_of_code() -> Iterator[tuple[str, str]]:
    for folder in ("messages", "panel", "web"):
        for path in sorted((ROOT / "asapp" / folder).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
                if is_text and " " in node.value:  # type: ignore[attr-defined]
                    yield f"asapp/{folder}/{path.name}:{node.lineno}", node.value  # type: ignore[attr-defined]


def texts_of_refusals() -> Iterator[tuple[str, str]]:
    """Yield what is said beside a field, wherever it is written."""
    for path in sorted((ROOT / "asapp").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in REFUSALS:
                for node in ast.walk(call):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


@pytest.mark.parametrize("word", NOT_SAID)
def test_people_read_the_words_of_the_glossary(word: str) -> None:
    found = [
        f"{place}: {match[0]}"
        for texts in (texts_of_templates(), texts_of_code(), texts_of_refusals())
        for place, text in texts
        for match in re.finditer(word, EXCEPT.sub(" ", text), re.IGNORECASE)
    ]
    assert not found, f"say “{NOT_SAID[word]}”: {found}"
