"""Splits SOQL text into tokens, each with its position."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orgsim.errors import ApiError, bad_request

_PATTERN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<datetime>\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:?\d{2}))
  | (?P<date>\d{4}-\d{2}-\d{2}(?![\dTt:]))
  | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z_]))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?::[A-Za-z0-9]+)?)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<operator><=|>=|!=|<>|[=<>])
  | (?P<mark>[(),.])
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE, _AFTER = 34, 36


@dataclass(frozen=True)
class Token:
    """`kind` is a group of the pattern or "end"; `at` counts characters from 0."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else ""

    @property
    def shown(self) -> str:
        return "<EOF>" if self.kind == "end" else self.text


def point_at(query: str, at: int) -> str:
    """Return the first lines of Salesforce's message: an excerpt, a caret below the position, row and column."""
    start = max(0, at - _BEFORE)
    if start:
        following = re.search(r"[\s,(]", query[start - 1 : at])
        start = start - 1 + following.end() if following else at
    end = min(len(query), at + _AFTER)
    if end < len(query) and not re.match(r"[\s,()]", query[end]):
        cut = re.search(r"[\s,()](?=[^\s,()]*$)", query[at:end])
        end = at + cut.start() if cut and cut.start() else end
    excerpt = re.sub(r"[\r\n\t]", " ", query[start:end].rstrip())
    row = query.count("\n", 0, at) + 1
    column = at - (query.rfind("\n", 0, at) + 1) + 1
    return f"\n{excerpt}\n{' ' * (at - start)}^\nERROR at Row:{row}:Column:{column}\n"


def fault_at(query: str, at: int, code: str, message: str) -> ApiError:
    return bad_request(code, point_at(query, at) + message)


def tokenize(query: str) -> list[Token]:
    """Return all tokens, the last one of kind "end"; MALFORMED_QUERY for text that is no token."""
    tokens: list[Token] = []
    at = 0
    while at < len(query):
        found = _PATTERN.match(query, at)
        if found is None:
            raise _unreadable(query, at)
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup or "", found.group(), at))
        at = found.end()
    tokens.append(Token("end", "", len(query)))
    return tokens


def _unreadable(query: str, at: int) -> ApiError:
    if query[at] == "'":
        return fault_at(query, at, "MALFORMED_QUERY", "unexpected token: '<EOF>'")
    column = at - (query.rfind("\n", 0, at) + 1)
    row = query.count("\n", 0, at) + 1
    if query[at] in "0123456789+-":
        word = re.split(r"[\s,()]", query[at:])[0]
        return fault_at(query, at, "MALFORMED_QUERY", f"unexpected token: '{word}'")
    return bad_request("MALFORMED_QUERY", f"line {row}:{column} no viable alternative at character '{query[at]}'")
