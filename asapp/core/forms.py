"""What people type: a refusal that knows its fields, one line of text, a person's name, and an e-mail address.

What can't be seen is taken out, so that two texts that look alike are alike, and none turns round what stands beside it. This is
for what is entered here. What Salesforce accepted is taken as it is and never comes through here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

EMAIL_MAX = 254
LOCAL_PART_MAX = 64

# One @, something on both sides, a dot in the domain, nothing that separates or quotes addresses.
ADDRESS = re.compile(
    r"""[^\s@<>()\[\]",;:\\]+@[^\s@<>()\[\]",;:\\._-][^\s@<>()\[\]",;:\\]*\.[^\s@<>()\[\]",;:\\.]{2,}"""
)
# In a greeting it would become a link: for mail programs one of these endings is enough. Two letters before it, since "B.Com" and
# "J.Co" stand in real names.
ENDINGS = "com|net|org|info|biz|io|co|app|dev|xyz|site|online|shop|store|club|live|link|click|top|win|vip"
WEB_ADDRESS = re.compile(
    rf"""://
    | \b(?:https?|ftp|mailto|javascript|data):
    | \bwww\.
    | \w\.\w{{2,}}[/?\#:]
    | [\w-]{{2,}}\.(?:{ENDINGS})(?:\.[a-z]{{2}})?(?![\w-])""",
    re.IGNORECASE | re.VERBOSE,
)
DOTS = str.maketrans("\u3002", ".")  # an address may be written with the full stop of Chinese

JOINERS = "\u200c\u200d"  # between letters they are part of Persian and Indic words, between pictures of one picture
VARIANTS = "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))  # which form of the character before
JOINED = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Format characters (Cf) are invisible, but for the signs that enclose Arabic and Kaithi numbers; these are invisible too.
ENCLOSING = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
BLANKS = "\u2800"  # a braille cell without a dot


class InvalidFields(Exception):
    """Something typed will not do. errors: field -> what to say beside it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


def clean_line(text: str) -> str:
    """Return text on one line: composed, only what can be seen, spaces single and none at the ends."""
    composed = unicodedata.normalize("NFC", text)
    # Each character is looked at once, however long the text is.
    changes = {ord(c): " " if _is_blank(c) else None for c in set(composed) if _is_blank(c) or _is_invisible(c)}
    seen = composed.translate(changes)
    joined = JOINED.sub(lambda found: found[0] if _fits(seen, found.start()) else "", seen)
    # what was taken out may have stood between a letter and its accent
    return " ".join(unicodedata.normalize("NFC", joined).split())


def clean_address(text: str) -> str:
    """Return an e-mail address as it looks: an address has no use for joiners and variants."""
    return clean_line(JOINED.sub("", text))


def name_problem(name: str, most: int, when_missing: str = "Enter a name.") -> str | None:
    """Return what is wrong with a person's name that was cleaned; None if we could greet with it."""
    if not name:
        return when_missing
    if len(name) > most:
        return f"Use {most} characters or fewer; this has {len(name)}."
    if not any(unicodedata.category(character)[0] in "LN" for character in name):
        return f"This has no letter in it. {when_missing}"
    if WEB_ADDRESS.search(unicodedata.normalize("NFKC", name).translate(DOTS)):  # as a mail program may read it
        return "This looks like a web address. Enter a name."
    return None


def email_problem(email: str) -> str | None:
    """Return what is wrong with an address that was cleaned; None if mail could go there."""
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
    """Zero-width characters, marks that turn the direction of the text, tags, fillers; joiners and variants have _fits()."""
    if character in JOINERS or character in ENCLOSING:
        return False
    return character in FILLERS or unicodedata.category(character) in ("Cf", "Cs")


def _fits(text: str, place: int) -> bool:
    """Is the character there, if it is a joiner or a variant, one that changes how its neighbours look?"""
    if text[place] in VARIANTS:
        return place > 0 and _is_joined(text[place - 1])
    if text[place] in JOINERS:
        return 0 < place < len(text) - 1 and _is_joined(text[place - 1], VARIANTS) and _is_joined(text[place + 1])
    return True


def _is_joined(character: str, others: str = "") -> bool:
    return character in others or (
        not character.isascii() and unicodedata.category(character)[0] in "LMS" and character not in VARIANTS
    )
