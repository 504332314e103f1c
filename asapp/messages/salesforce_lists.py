"""What people read about lists from Salesforce: why one can't be read, and who is on it there and not here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asapp.core.formats import number
from asapp.salesforce.org_lists import ListTrouble


class TroubleWords(NamedTuple):
    """headline: after the list's name. forward: a text for the firm's Salesforce admin, with {list} and {user}; may be empty."""

    headline: str
    happened: str
    remedy: str
    forward: str = ""


GONE_TEXT = (
    "Hello, AdvisorStream can no longer read {list} as {user}. Was it deleted, or is it no longer shared with me? "
    "If it still exists, please share it with me again."
)
ACCESS_TEXT = (
    "Hello, AdvisorStream can't read {list} as {user}. My profile needs Read on this object: for a list view on the object "
    "that it lists, for a campaign on Campaigns."
)
FIELD_TEXT = (
    "Hello, AdvisorStream can't read {list} as {user}: its filter uses a field that I can't see, or one that is encrypted. "
    "Please let my profile see the field, or use another one in the filter."
)

TROUBLES: Mapping[ListTrouble, TroubleWords] = {
    ListTrouble.GONE: TroubleWords(
        "can't be found in Salesforce any more",
        "It was deleted there, or is no longer shared with you; Salesforce doesn't say which.",
        "Ask your Salesforce admin. If the list comes back, this one follows it again by itself.",
        GONE_TEXT,
    ),
    ListTrouble.NO_ACCESS: TroubleWords(
        "can't be read in Salesforce",
        "Your Salesforce user isn't allowed to read what this list is made of.",
        "Ask your Salesforce admin to allow it. Then the list follows Salesforce again by itself.",
        ACCESS_TEXT,
    ),
    ListTrouble.FIELD_HIDDEN: TroubleWords(
        "uses a field that can't be read",
        "Its filter uses a field that your Salesforce user can't see, or that Salesforce doesn't filter by.",
        "Ask your Salesforce admin. Then the list follows Salesforce again by itself.",
        FIELD_TEXT,
    ),
    ListTrouble.NOT_COMPATIBLE: TroubleWords(
        "isn't open to other programs",
        "Salesforce doesn't let other programs read this list view.",
        "Make a list view in Salesforce with a simpler filter, and use that one here.",
    ),
    ListTrouble.NO_ANSWER: TroubleWords(
        "got no answer from Salesforce",
        "Salesforce didn't answer when we asked about this list.",
        "Nothing: the next sync asks again.",
    ),
}
NOT_HERE: Mapping[str, str] = {
    "others": "of other advisors",
    "opted_out": "opted out",
    "consent_hidden": "whose consent record can't be seen",
    "no_email": "without an email address",
    "hidden_here": "deleted here",
    "leads": "Leads that don't come in",
    "not_yet": "coming with the next sync",
}


def tell_not_here(counts: Mapping[str, int]) -> str:
    """Return `23 of other advisors, 2 opted out`; empty if everyone is here."""
    return ", ".join(f"{number(counts[why])} {words}" for why, words in NOT_HERE.items() if counts.get(why))
