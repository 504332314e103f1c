"""Recursive descent over the tokens of one SOQL statement.

Like Salesforce it refuses AND mixed with OR without parentheses.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from orgsim.errors import ApiError, bad_request
from orgsim.soql.lexer import Token, fault_at, tokenize
from orgsim.soql.nodes import (
    Comparison,
    Condition,
    Junction,
    Literal,
    Membership,
    Not,
    Ordering,
    Path,
    Query,
)

MAX_LENGTH = 100_000
MAX_STRING = 4_000
_CLAUSES = frozenset({"WHERE", "USING", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "WITH", "FOR", "ALL", "UPDATE"})
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_COMPARISONS = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})
_ZONE = re.compile(r"([+-]\d{2}):?(\d{2})$")


def parse(text: str, now: datetime) -> Query:
    """Return the tree. `now` is what TODAY and the other date literals are counted from (UTC).

    ApiError 400 with Salesforce's code: MALFORMED_QUERY and a few others.
    """
    if len(text) > MAX_LENGTH:
        raise bad_request("QUERY_TOO_COMPLICATED", "SOQL statements cannot be longer than 100000 characters.")
    parser = _Parser(text, now)
    query = parser.query()
    parser.expect_end()
    return query


class _Parser:
    def __init__(self, text: str, now: datetime) -> None:
        self._text = text
        self._now = now
        self._tokens = tokenize(text)
        self._next = 0

    # -- tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _advance(self) -> Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _unexpected(self, token: Token | None = None) -> ApiError:
        token = token or self._token
        return fault_at(self._text, token.at, "MALFORMED_QUERY", f"unexpected token: '{token.shown}'")

    def _accept_word(self, *words: str) -> bool:
        """Consume the words if all of them are next, and return whether they were."""
        if all(self._peek(i).word == word for i, word in enumerate(words)):
            self._next += len(words)
            return True
        return False

    def _expect_word(self, word: str) -> None:
        if not self._accept_word(word):
            raise self._unexpected()

    def _accept_mark(self, mark: str) -> bool:
        if self._token.kind == "mark" and self._token.text == mark:
            self._next += 1
            return True
        return False

    def _expect_mark(self, mark: str) -> None:
        if not self._accept_mark(mark):
            raise self._unexpected()

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise self._unexpected()

    # -- statement

    def query(self) -> Query:
        if not self._accept_word("SELECT"):
            raise self._unexpected()
        select = self._select_list()
        self._expect_word("FROM")
        source = self._name()
        alias = self._alias()
        scope = self._name().text if self._accept_word("USING", "SCOPE") else None
        where = self._condition() if self._accept_word("WHERE") else None
        order_by = self._orderings() if self._accept_word("ORDER", "BY") else ()
        limit = self._whole_number() if self._accept_word("LIMIT") else None
        return Query(select, source.text, source.at, alias, scope, where, order_by, limit, self._text)

    def _name(self) -> Token:
        if self._token.kind != "name":
            raise self._unexpected()
        return self._advance()

    def _alias(self) -> str | None:
        self._accept_word("AS")
        if self._token.kind == "name" and self._token.word not in _CLAUSES:
            return self._advance().text
        return None

    def _select_list(self) -> tuple[Path, ...]:
        """Return the fields, or nothing for COUNT()."""
        if self._token.word == "COUNT" and self._peek().text == "(":
            self._next += 2
            self._expect_mark(")")
            return ()
        items = [self._select_item()]
        while self._accept_mark(","):
            items.append(self._select_item())
        return tuple(items)

    def _select_item(self) -> Path:
        path = self._labelled_path()
        if self._token.kind == "name" and self._token.word != "FROM":
            raise self._unexpected()
        return path

    def _labelled_path(self) -> Path:
        """Return a path, which toLabel() may enclose: in an org with one language the label is the value."""
        if self._token.word != "TOLABEL" or self._peek().text != "(":
            return self._path()
        self._next += 2
        path = self._path()
        self._expect_mark(")")
        return path

    def _path(self) -> Path:
        first = self._name()
        names = [first.text]
        while self._accept_mark("."):
            names.append(self._name().text)
        return Path(tuple(names), first.at)

    def _orderings(self) -> tuple[Ordering, ...]:
        orderings = [self._ordering()]
        while self._accept_mark(","):
            orderings.append(self._ordering())
        return tuple(orderings)

    def _ordering(self) -> Ordering:
        target = self._path()
        descending = self._accept_word("DESC")
        if not descending:
            self._accept_word("ASC")
        nulls_last = self._accept_word("NULLS", "LAST")
        if not nulls_last:
            self._accept_word("NULLS", "FIRST")
        return Ordering(target, descending, nulls_last)

    def _whole_number(self) -> int:
        if self._token.kind != "number" or not self._token.text.isdigit():
            raise self._unexpected()
        return int(self._advance().text)

    # -- conditions

    def _condition(self) -> Condition:
        conditions = [self._negatable()]
        word = self._token.word
        if word not in {"AND", "OR"}:
            return conditions[0]
        while self._accept_word(word):
            conditions.append(self._negatable())
        if self._token.word in {"AND", "OR"}:
            raise self._unexpected()
        return Junction(word, tuple(conditions))

    def _negatable(self) -> Condition:
        if self._accept_word("NOT"):
            return Not(self._negatable())
        if self._accept_mark("("):
            inner = self._condition()
            self._expect_mark(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        path = self._path()
        if self._accept_word("NOT", "IN"):
            return Membership(path, True, self._members())
        if self._accept_word("IN"):
            return Membership(path, False, self._members())
        if self._accept_word("LIKE"):
            return Comparison(path, "LIKE", self._literal())
        return Comparison(path, self._operator(), self._literal())

    def _operator(self) -> str:
        if self._token.kind != "operator" or self._token.text not in _COMPARISONS:
            raise self._unexpected()
        text = self._advance().text
        return "!=" if text == "<>" else text

    def _members(self) -> tuple[Literal, ...]:
        self._expect_mark("(")
        values = [self._literal()]
        while self._accept_mark(","):
            values.append(self._literal())
        self._expect_mark(")")
        return tuple(values)

    # -- values

    def _literal(self) -> Literal:
        token = self._advance()
        match token.kind:
            case "string":
                value, like = self._unescape(token)
                return Literal("string", value, token.at, token.text, like)
            case "number":
                number = float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
                return Literal("number", number, token.at, token.text)
            case "datetime":
                return Literal("datetime", self._seconds(token), token.at, token.text)
            case "date":
                return Literal("date", self._date(token), token.at, token.text)
            case "name":
                return self._word_literal(token)
            case _:
                raise self._unexpected(token)

    def _word_literal(self, token: Token) -> Literal:
        if token.word in {"TRUE", "FALSE"}:
            return Literal("boolean", token.word == "TRUE", token.at, token.text)
        if token.word == "NULL":
            return Literal("null", None, token.at, token.text)
        span = date_literal(token.word, self._now)
        if span is None:
            # Salesforce takes a bare word for the name of a bind variable or a field.
            raise fault_at(
                self._text,
                token.at,
                "MALFORMED_QUERY",
                "Bind variables only allowed in Apex code"
                if ":" in token.text
                else f"unexpected token: '{token.shown}'",
            )
        return Literal("literal", span, token.at, token.text)

    def _unescape(self, token: Token) -> tuple[str, str]:
        """Return the string and the same as a LIKE pattern, where \\% and \\_ mean themselves."""
        raw = token.text[1:-1]
        if len(raw) > MAX_STRING:
            raise fault_at(
                self._text,
                token.at,
                "INVALID_QUERY_FILTER_OPERATOR",
                "string literals cannot be longer than 4000 characters",
            )
        plain: list[str] = []
        like: list[str] = []
        at = 0
        while at < len(raw):
            piece, char, wild = self._character(raw, at, token)
            plain.append(char)
            like.append(char if wild or char not in "%_\\" else "\\" + char)
            at += len(piece)
        return "".join(plain), "".join(like)

    def _character(self, raw: str, at: int, token: Token) -> tuple[str, str, bool]:
        """Return the source text at a position, the character that it stands for, and whether it may be a wildcard."""
        if raw[at] != "\\":
            if raw[at] in "\r\n":
                raise fault_at(self._text, token.at, "MALFORMED_QUERY", "line breaks not allowed in string literals")
            return raw[at], raw[at], True
        escape = raw[at + 1]
        if escape in _ESCAPES:
            return raw[at : at + 2], _ESCAPES[escape], False
        if escape in "%_":
            return raw[at : at + 2], escape, False
        code = re.match(r"u([0-9A-Fa-f]{4})", raw[at + 1 :])
        if code:
            return raw[at : at + 6], chr(int(code[1], 16)), False
        raise fault_at(
            self._text,
            token.at,
            "MALFORMED_QUERY",
            f"Invalid string literal {token.text}. Illegal character sequence '\\{escape}' in string literal.",
        )

    def _seconds(self, token: Token) -> int:
        """Return whole seconds; Salesforce ignores fractions in comparisons."""
        text = re.sub(r"\.\d+", "", token.text.upper()).replace("Z", "+00:00")
        try:
            return int(datetime.fromisoformat(_ZONE.sub(r"\1:\2", text)).timestamp())
        except ValueError:
            raise fault_at(self._text, token.at, "MALFORMED_QUERY", f"Invalid datetime: {token.text}") from None

    def _date(self, token: Token) -> date:
        try:
            return date.fromisoformat(token.text)
        except ValueError:
            raise fault_at(self._text, token.at, "MALFORMED_QUERY", f"Invalid date: {token.text}") from None


def date_literal(word: str, now: datetime) -> tuple[int, int] | None:
    """Return from and before (seconds since 1970, UTC days) of a date literal, or None if it is none."""
    name, _, count_text = word.partition(":")
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    simple = {
        "YESTERDAY": (-1, 0),
        "TODAY": (0, 1),
        "TOMORROW": (1, 2),
        "LAST_90_DAYS": (-90, 1),
        "NEXT_90_DAYS": (1, 91),
    }
    if name in simple and not count_text:
        days = simple[name]
    elif count_text.isdigit() and name in {"LAST_N_DAYS", "NEXT_N_DAYS", "N_DAYS_AGO"}:
        count = int(count_text)
        days = {"LAST_N_DAYS": (-count, 1), "NEXT_N_DAYS": (1, 1 + count), "N_DAYS_AGO": (-count, 1 - count)}[name]
    else:
        return _calendar_literal(name, today) if not count_text else None
    return tuple(int((today + timedelta(days=d)).timestamp()) for d in days)  # type: ignore[return-value]


def _calendar_literal(name: str, today: datetime) -> tuple[int, int] | None:
    """THIS_WEEK, LAST_MONTH and the like. Weeks begin on Sunday, as in an org with the US locale."""
    week = today - timedelta(days=(today.weekday() + 1) % 7)
    month = today.replace(day=1)
    year = month.replace(month=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    spans = {
        "THIS_WEEK": (week, week + timedelta(days=7)),
        "LAST_WEEK": (week - timedelta(days=7), week),
        "THIS_MONTH": (month, next_month),
        "LAST_MONTH": (last_month, month),
        "THIS_YEAR": (year, year.replace(year=year.year + 1)),
        "LAST_YEAR": (year.replace(year=year.year - 1), year),
    }
    span = spans.get(name)
    return (int(span[0].timestamp()), int(span[1].timestamp())) if span else None
