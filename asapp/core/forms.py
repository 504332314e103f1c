"""Forms, their fields, and checks of what people type: a line of text, a person's name, an e-mail address, a number.

Invisible characters are removed, so that two texts that look alike are equal, and none changes the direction of the text
beside it. This is for what is typed here. What Salesforce accepted is used as it is and never passes through here.

A form class holds its fields, their limits and their messages. The domain checks it, so that a page and a command give
the same answers; the page shows it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Self

import wtforms
from werkzeug.datastructures import MultiDict
from wtforms.validators import StopValidation

LARGEST_ID = 2**31 - 1  # of a row; no row has a larger one
MOST_DIGITS = 20
EMAIL_MAX = 254
LOCAL_PART_MAX = 64

# One @, something on both sides, a dot in the domain, nothing that separates or quotes addresses.
ADDRESS = re.compile(
    r"""[^\s@<>()\[\]",;:\\]+@[^\s@<>()\[\]",;:\\._-][^\s@<>()\[\]",;:\\]*\.[^\s@<>()\[\]",;:\\.]{2,}"""
)
# A mail program would make a link of it in a greeting, for which one of these endings is enough. At least two letters
# before it, since "B.Com" and "J.Co" occur in real names.
ENDINGS = "com|net|org|info|biz|io|co|app|dev|xyz|site|online|shop|store|club|live|link|click|top|win|vip"
WEB_ADDRESS = re.compile(
    rf"""://
    | \b(?:https?|ftp|mailto|javascript|data):
    | \bwww\.
    | \w\.\w{{2,}}[/?\#:]
    | [\w-]{{2,}}\.(?:{ENDINGS})(?:\.[a-z]{{2}})?(?![\w-])""",
    re.IGNORECASE | re.VERBOSE,
)
DOTS = str.maketrans("\u3002", ".")  # an address may be typed with the Chinese full stop

JOINERS = "\u200c\u200d"  # they belong in Persian and Indic words, and join several emoji into one
VARIANTS = "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))  # they choose a glyph
JOINED = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Format characters (Cf) are invisible, except the signs that enclose Arabic and Kaithi numbers; these are invisible too.
ENCLOSING = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
BLANKS = "\u2800"  # a braille cell without a dot


class InvalidFields(Exception):
    """Something typed is not acceptable. errors: field -> the message beside it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


def clean_line(text: str) -> str:
    """Return text on one line: composed (NFC), visible characters only, single spaces, none at the ends."""
    composed = unicodedata.normalize("NFC", text)
    # One pass, however long the text is.
    changes = {ord(c): " " if _is_blank(c) else None for c in set(composed) if _is_blank(c) or _is_invisible(c)}
    seen = composed.translate(changes)
    joined = JOINED.sub(lambda found: found[0] if _fits(seen, found.start()) else "", seen)
    # the removed character may have stood between a letter and its accent
    return " ".join(unicodedata.normalize("NFC", joined).split())


def clean_address(text: str) -> str:
    """Return an e-mail address as it looks: joiners and variation selectors are removed."""
    return clean_line(JOINED.sub("", text))


def length_problem(text: str, most: int, when_missing: str = "") -> str | None:
    """Return what is wrong with the length of a text; when_missing: the message for an empty one, "" if it may be empty."""
    if not text:
        return when_missing or None
    return f"Use {most} characters or fewer; this has {len(text)}." if len(text) > most else None


def whole_number(text: str | None, most: int = LARGEST_ID, least: int = 0) -> int | None:
    """Return the number in a text of ASCII digits; None for any other text, and for numbers out of range."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        return None
    return int(text) if least <= int(text) <= most else None


def name_problem(name: str, most: int, when_missing: str = "Enter a name.") -> str | None:
    """Return what is wrong with a cleaned name of a person; None if we could greet with it."""
    if not name:
        return when_missing
    if problem := length_problem(name, most):
        return problem
    if not any(unicodedata.category(character)[0] in "LN" for character in name):
        return f"This has no letter in it. {when_missing}"
    if WEB_ADDRESS.search(unicodedata.normalize("NFKC", name).translate(DOTS)):  # as a mail program may read it
        return "This looks like a web address. Enter a name."
    return None


def email_problem(email: str) -> str | None:
    """Return what is wrong with a cleaned address; None if mail could be sent to it."""
    if not email:
        return "Enter an email address."
    if len(email) > EMAIL_MAX or len(email.partition("@")[0]) > LOCAL_PART_MAX:
        return "This is longer than an email address can be."
    if " " in email or email.count("@") != 1:
        return "Enter one email address, such as name@example.com."
    if not ADDRESS.fullmatch(email) or ".." in email or email.startswith(".") or ".@" in email:
        return "Check the address: it looks like name@example.com."
    return None


def _is_blank(character: str) -> bool:
    return character in BLANKS or unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _is_invisible(character: str) -> bool:
    """Zero-width characters, direction marks, tags, fillers; joiners and variation selectors are for _fits()."""
    if character in JOINERS or character in ENCLOSING:
        return False
    return character in FILLERS or unicodedata.category(character) in ("Cf", "Cs")


def _fits(text: str, place: int) -> bool:
    """Does a joiner or variation selector here change how its neighbours look? True for any other character."""
    if text[place] in VARIANTS:
        return place > 0 and _is_joined(text[place - 1])
    if text[place] in JOINERS:
        return 0 < place < len(text) - 1 and _is_joined(text[place - 1], VARIANTS) and _is_joined(text[place + 1])
    return True


def _is_joined(character: str, others: str = "") -> bool:
    return character in others or (
        not character.isascii() and unicodedata.category(character)[0] in "LMS" and character not in VARIANTS
    )


class Form(wtforms.Form):  # type: ignore[misc]  # WTForms has no types
    """The fields of a page, filled from a request's form, or from plain values with entered()."""

    @classmethod
    def entered(cls, **typed: str) -> Self:
        return cls(MultiDict(typed))

    def checked(self) -> dict[str, Any]:
        """Return {field: value}, cleaned; raise InvalidFields."""
        if problems := self.problems():
            raise InvalidFields(problems)
        return dict(self.data)

    def problems(self) -> dict[str, str]:
        """Return {field: what is wrong with it}."""
        self.validate()
        return {name: problems[0] for name, problems in self.errors.items()}

    @property
    def typed(self) -> dict[str, str]:
        """Return what the fields show."""
        return {field.name: field.typed for field in self if isinstance(field, Text)}

    def show(self, errors: Mapping[str, str]) -> Self:
        """Show these messages beside the fields; return the form."""
        for field in self:
            field.errors = [errors[field.name]] if field.name in errors else []
        return self


class Text(wtforms.StringField):  # type: ignore[misc]
    """A line of text. most: its length in characters; when_missing: the message for an empty one, "" if it may be empty.

    A field that neither the request nor the caller gave is empty; if it has a column, the stored value stays.
    """

    data: Any

    def __init__(
        self,
        label: str,
        most: int | None = None,
        when_missing: str = "",
        *,
        clean: Callable[[str], str] = clean_line,
        column: str = "",
        **options: Any,
    ) -> None:
        super().__init__(label, **options)
        self.most, self.when_missing, self.clean, self.column = most, when_missing, clean, column

    @property
    def is_asked(self) -> bool:
        return bool(self.raw_data) or not self.column

    @property
    def typed(self) -> str:
        """Return what the field shows: what was typed, or else what is stored."""
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else str(self.data)

    def process_formdata(self, sent: list[str]) -> None:
        if self.is_asked:
            self.data = self.clean(sent[0]) if sent else ""

    def pre_validate(self, _form: wtforms.Form) -> None:
        if not self.is_asked:
            raise StopValidation
        if problem := self.problem():
            raise StopValidation(problem)

    def problem(self) -> str | None:
        return None if self.most is None else length_problem(self.data, self.most, self.when_missing)


class Secret(Text):
    """A field whose value is never sent back to the page."""

    @property
    def typed(self) -> str:
        return ""


class PersonName(Text):
    """A name that we can greet with; when_missing is the message also if it may be empty."""

    def __init__(
        self, label: str, most: int, when_missing: str = "Enter a name.", *, may_be_empty: bool = False, **options: Any
    ) -> None:
        super().__init__(label, most, when_missing, **options)
        self.may_be_empty = may_be_empty

    def problem(self) -> str | None:
        is_left_out = self.may_be_empty and not self.data
        return None if is_left_out else name_problem(self.data, self.most or 0, self.when_missing)


class EmailAddress(Text):
    def __init__(self, label: str, **options: Any) -> None:
        super().__init__(label, EMAIL_MAX, clean=clean_address, **options)

    def problem(self) -> str | None:
        return email_problem(self.data)


class Number(Text):
    """A whole number; None if it is empty and may be."""

    def __init__(self, label: str, least: int, largest: int, *, may_be_empty: bool = False, **options: Any) -> None:
        super().__init__(label, **options)
        self.least, self.largest, self.may_be_empty = least, largest, may_be_empty

    def process_formdata(self, sent: list[str]) -> None:
        super().process_formdata(sent)
        if self.is_asked:
            self.is_left_out = self.may_be_empty and not self.data
            self.data = whole_number(self.data, self.largest, self.least)

    def problem(self) -> str | None:
        is_good = self.is_left_out or self.data is not None
        return None if is_good else f"Enter a whole number from {self.least:,} to {self.largest:,}."


class Tick(wtforms.BooleanField):  # type: ignore[misc]
    """A checkbox. Browsers send it only if it is ticked: the field `has_settings` says that the form had it."""

    def __init__(self, label: str, *, column: str = "", **options: Any) -> None:
        super().__init__(label, **options)
        self.column, self.is_asked = column, False

    def process(self, sent: Any, *stored: Any, **options: Any) -> None:
        self.is_asked = sent is not None and (self.name in sent or "has_settings" in sent)
        super().process(sent if self.is_asked else None, *stored, **options)
