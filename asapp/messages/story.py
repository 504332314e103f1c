"""The words of a contact's story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asapp.messages.changes import ADOPTED
from asapp.messages.runs import why_back, why_off
from asapp.models import ContactSource, Reason
from asapp.models.run import SWITCHED_ON, Also


class StoryWords(NamedTuple):
    title: str
    text: str = ""


ARRIVED: Mapping[str, StoryWords] = {
    ContactSource.SALESFORCE: StoryWords("Arrived from Salesforce"),
    ContactSource.SALESFORCE_LEAD: StoryWords("Arrived from Salesforce", "As an open lead."),
    ContactSource.LEAD: StoryWords("Came from your sign-up page"),
    ContactSource.MANUAL: StoryWords("Added by you"),
}
HIDDEN = StoryWords("Deleted here", "By you. Nothing was deleted in Salesforce.")
RESTORED = StoryWords("Restored", "By you, with all lists.")
WENT_BY_HAND = StoryWords("Added by you")
BOUNCED = "Mail bounced in Salesforce"
TOLD_SALESFORCE = StoryWords("Salesforce was told", "We ticked “Email Opt Out” there.")
OPT_OUTS = (Reason.OPTED_OUT, Reason.TWIN_OPTED_OUT, Also.SUPPRESSED, Also.OPTED_OUT)


def put_on(name: str) -> StoryWords:
    return StoryWords(f"Put on “{name}”")


def of_change(kind: str, reason: str | None, owner: str = "") -> StoryWords:
    """Return what a sync changed about a contact. kind, reason and the new owner's name: as in run_changes."""
    if kind == "adopted":
        return StoryWords("Found in Salesforce", ADOPTED)
    if kind == "reactivated" or (kind == "also" and reason in SWITCHED_ON):
        words = why_back(reason)
        return StoryWords("Active again", f"{words}." if words else "")
    if kind == "updated":
        words = why_off(reason)
        return StoryWords("Changed in Salesforce", f"{words}." if words else "")
    return StoryWords(why_off(reason, owner) or "Made inactive")
