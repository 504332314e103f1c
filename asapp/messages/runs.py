"""The messages about a sync run: its figures and its reasons. Why one failed is in messages/failures.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from asapp.core import formats
from asapp.messages.contacts import REASONS
from asapp.models import Action, Reason, RunTrigger, SyncRun
from asapp.models.run import SWITCHED_OFF, SWITCHED_ON, Also, Skipped, StopReason, count_off

SKIPPED: Mapping[str, str] = {
    Skipped.OPTED_OUT: "opted out of email",
    Skipped.CONSENT_HIDDEN: "consent record not visible",
    Skipped.NO_EMAIL: "without an email address",
    Skipped.DELETED: "deleted in Salesforce before they came here",
    Skipped.MERGED: "merged in Salesforce before they came here",
    Skipped.HELD: "leaving, held for your approval",
    Skipped.DISCARDED: "leaving, kept by your decision",
    Skipped.NOT_YOURS: "no longer yours when they arrived",
    Skipped.HIDDEN_HERE: "deleted here by you",
    Skipped.ERASED_HERE: "erased here on the person's request",
    Skipped.SIGNED_UP: "leads of people from your sign-up page, listed there",
    Skipped.UNREADABLE: "could not be read",
}
ALSO: Mapping[str, str] = {
    Also.DELETED: "deleted in Salesforce",
    Also.MERGED: "merged into another record",
    Also.REASSIGNED: "belonging to someone else now",
    Also.GONE: "no longer visible in Salesforce",
    Also.TWIN_OPTED_OUT: "the same address opted out",
    Also.TWIN_BACK: "the same address no longer opted out",
    Also.SUPPRESSED: "the new address unsubscribed, complained or bounced",
    Also.UNSUPPRESSED: "the old address had unsubscribed, complained or bounced",
    Also.OPTED_OUT: "opted out of email",
    Also.OPTED_IN: "opted in again while held or kept",
    Also.MEMBERSHIPS_MOVED: "list memberships handed over by merges and conversions",
    Also.CONVERTED: "leads converted, handed to their contacts",
    Also.LEFT_INACTIVE: "inactive already when they left",
}
OFF_REASONS: Mapping[str, str] = {
    Reason.BOUNCED: "bounced in Salesforce",
    Reason.OPTED_OUT: "opted out of email",
    Skipped.CONSENT_HIDDEN: "consent record not visible",
    Skipped.NO_EMAIL: "lost the email address",
    Reason.DELETED: "deleted in Salesforce",
    Reason.MERGED: "merged into another record",
}
BACK_REASONS: Mapping[str, str] = {
    Reason.BOUNCED: "No longer bounced in Salesforce",
    Reason.OPTED_OUT: "Opted in again in Salesforce",
    Skipped.NO_EMAIL: "Has an email address again",
    Reason.DELETED: "Restored in Salesforce",
    Reason.MERGED: "Restored in Salesforce",
    Reason.REASSIGNED: "Yours again in Salesforce",
    Reason.GONE: "Visible again in Salesforce",
    Also.TWIN_BACK: "Same address no longer opted out",
    Also.UNSUPPRESSED: "Has another address now",
    Also.OPTED_IN: "Opted in again in Salesforce",
}
BACK_PARTS = {reason: words[0].lower() + words[1:] for reason, words in BACK_REASONS.items()}
TRIGGERS: Mapping[str, str] = {
    RunTrigger.MANUAL: "You",
    RunTrigger.SCHEDULED: "Schedule",
    RunTrigger.APPROVAL: "Your approval",
    RunTrigger.SEND: "Before a send",
}
STOPPED: Mapping[str, str] = {
    StopReason.DISCONNECTED: "Your account was disconnected while it was going on. What had been read stays.",
    StopReason.FIRM_DISABLED: "Salesforce was switched off for {firm} while it was going on. What had been read stays. The next "
    "sync, once it is on again, reads the rest.",
    StopReason.ADVISOR_INACTIVE: "Your account here was switched off while it was going on. What had been read stays.",
}

OTHER_REASONS = "for other reasons, or no longer here"

Figure = tuple[str, int]


def figures(run: SyncRun) -> list[Figure]:
    """Return what a run has done so far: three figures always, and the others if they are not zero."""
    rest = [
        ("adopted", run.adopted),
        ("active again", run.reactivated),
        ("made inactive", count_off(run)),
        *((f"left out, {SKIPPED.get(reason, reason)}", count) for reason, count in run.skipped.items()),
    ]
    always = [("added", run.created), ("updated", run.updated), ("unchanged", run.unchanged)]
    return always + [(label, count) for label, count in rest if count]


class SumLine(NamedTuple):
    """A line of a run's account: rows that were read, and contacts that were found without reading their row."""

    label: str
    read: int
    found: int = 0
    parts: Sequence[SumLine] = ()

    @property
    def total(self) -> int:
        return self.read + self.found


def account_of(run: SyncRun, reasons: Mapping[str, Mapping[str, int]] | None = None) -> list[SumLine]:
    """Return what became of every row read, so that the lines add up to run.read, and beside it what was found otherwise.

    reasons: rows by kind and reason (receipts.find_reasons); where contacts are gone for good, so are theirs.
    """
    read = reasons or {}
    skipped = [SumLine(SKIPPED.get(why, why), count) for why, count in run.skipped.items() if count]
    always = [
        SumLine("Added", run.created),
        SumLine("Updated", run.updated),
        SumLine("Looked at again, unchanged", run.unchanged),
    ]
    rest = [
        SumLine("Adopted, you had added them by hand", run.adopted),
        _with_parts("Active again", run.reactivated, run, read.get("reactivated", {}), SWITCHED_ON, BACK_PARTS),
        _with_parts("Made inactive", run.deactivated, run, read.get("deactivated", {}), SWITCHED_OFF, OFF_REASONS),
        SumLine("Inactive already when they left you", 0, run.also.get(Also.LEFT_INACTIVE, 0)),
        SumLine("Left out", run.skipped_total, parts=skipped),
        SumLine("Not decided when it ended", run.nominated),
    ]
    return always + [line for line in rest if line.total]


def _with_parts(
    label: str, number_read: int, run: SyncRun, read: Mapping[str, int], also: Collection[str], words: Mapping[str, str]
) -> SumLine:
    """Return a line with its parts, which add up to it, by what they are called, the largest first.

    read: rows by reason. also: which of run.also belong to the line.
    """
    rows: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for reason, count in read.items():
        rows[words.get(reason) or ALSO.get(reason) or OTHER_REASONS] += count
    for reason, count in run.also.items():
        if reason in also:
            found[ALSO[reason]] += count
    if rows or found:
        rows[OTHER_REASONS] += number_read - rows.total()
    parts = [SumLine(each, rows[each], found[each]) for each in {*rows, *found} if rows[each] or found[each]]
    parts.sort(key=lambda part: (part.label == OTHER_REASONS, -part.total, part.label))
    return SumLine(label, number_read, found.total(), parts)


def memberships_moved(run: SyncRun) -> int:
    """Return how many list memberships merges and conversions handed over; they belong to no sum."""
    return run.also.get(Also.MEMBERSHIPS_MOVED, 0)


def leads_converted(run: SyncRun) -> int:
    """Return how many open Leads a run handed to the contacts that they became."""
    return run.also.get(Also.CONVERTED, 0)


def started_by(run: SyncRun) -> str:
    return TRIGGERS[run.trigger]


def why_off(reason: str | None, owner: str = "") -> str:
    """Return why a contact became inactive. owner: the name of the one who owns it now, if it is known."""
    if reason == Reason.REASSIGNED and owner:
        return f"Belongs to {owner} in Salesforce now"
    if reason == Skipped.NO_EMAIL:
        return "Lost the email address in Salesforce"
    if reason == Also.CONVERTED:
        return "Has taken over from the lead that it was"
    if reason == Also.SUPPRESSED:
        return "The new address had unsubscribed, complained or bounced"
    return REASONS[reason].short if reason and reason in REASONS else ""


class GroupWords(NamedTuple):
    """How a group of contacts that left is called: a name that stands out, the rest of the line, and what it means."""

    name: str
    rest: str
    meaning: str


OWNED_BY_ANOTHER = "In your firm's Salesforce"
GROUPS: Mapping[str | None, GroupWords] = {
    Reason.REASSIGNED: GroupWords("", "Another user owns them now", OWNED_BY_ANOTHER),
    Reason.GONE: GroupWords(
        "", "No longer visible to you", "Deleted for good, or hidden from your user. Salesforce doesn't say which."
    ),
    Reason.DELETED: GroupWords("", "Deleted in Salesforce", "In the Recycle Bin there"),
    Reason.MERGED: GroupWords("", "Merged into other records", "The surviving records stay."),
    None: GroupWords("", "In smaller groups", "Other owners and other reasons; the file names them"),
}


def group_words(reason: str | None, owner_name: str) -> GroupWords:
    """Return what to call a group. owner_name: of the new owner; empty if there is none, or Salesforce hides it."""
    if owner_name:
        return GroupWords(owner_name, "owns them now", OWNED_BY_ANOTHER)
    return GROUPS[reason]


KEPT_AS: Mapping[str | None, str] = {
    Reason.REASSIGNED: "{number} {belong} to another user now",
    Reason.GONE: "{number} {are} no longer visible to {you}",
    Reason.DELETED: "{number} {were} deleted",
    Reason.MERGED: "{number} {were} merged into other records",
    None: "{number} left in other ways",
}


def kept_as(reason: str | None, owner_name: str, number: int, you: str = "you") -> str:
    """Return what became of a group of contacts that left: `571 belong to Jonas Lindqvist now`. you: the advisor, or `me`."""
    is_one = number == 1
    words = "{number} {belong} to {owner} now" if owner_name else KEPT_AS[reason]
    return words.format(
        number=formats.number(number),
        owner=owner_name,
        you=you,
        belong="belongs" if is_one else "belong",
        are="is" if is_one else "are",
        were="was" if is_one else "were",
    )


def text_about_leaving(parts: Sequence[str], number: int, name: str) -> str:
    """Return a text to the firm's Salesforce admin. parts: as kept_as() returns them, as said by the advisor."""
    return (
        f"Hello, of my contacts in Salesforce {formats.number(number)} left me: {', '.join(parts)}. Was that intended? "
        f"Until I know, AdvisorStream keeps them as they were. Thank you, {name}"
    )


def decided_words(action: str, number: int, name: str) -> str:
    """Return what a person decided about a held sync: `Jonas Lindqvist kept 435 contacts`."""
    contacts = formats.counted(number, "contact")
    if action == Action.APPROVED:
        return f"{name} approved switching off {contacts}"
    return f"{name} kept {contacts}" if action == Action.DISCARDED else f"{name} took the decision back"


def explain_not_waiting(action: str | None, number: int, when: str, waiting: int) -> str:
    """Return why Approve or Discard changed nothing.

    action: the decision that was made before, about so many contacts, when (`just now`); None if there was none. waiting: how
    many contacts wait now.
    """
    if waiting:
        return (
            "Nothing was changed: what waits is no longer what that page showed. "
            f"{formats.counted(waiting, 'contact waits', 'contacts wait')} for your decision now. Look at it below, then decide."
        )
    these = f"these {formats.number(number)} contacts" if number != 1 else "this contact"
    if action == Action.DISCARDED:
        return f"You already kept {these} {when}, so nothing was changed. To decide otherwise, press Change this decision below."
    if action == Action.APPROVED:
        return (
            f"You already approved switching off {these} {when}, so nothing was changed. "
            "Any that is given back to you in Salesforce becomes active here again."
        )
    return "Nothing waits for your decision any more, so nothing was changed."


def why_back(reason: str | None) -> str:
    return BACK_REASONS.get(reason or "", "")


def explain_stop(code: str | None, firm: str) -> str:
    """Return why a run was cancelled. code: a key of STOPPED; None: the advisor pressed Cancel."""
    return STOPPED.get(code or "", "What had been read stays. The next sync reads the rest.").format(firm=firm)


def every(minutes: int) -> str:
    if minutes % 60:
        return f"every {minutes} minutes"
    return "every hour" if minutes == 60 else f"every {minutes // 60} hours"


def lasting(seconds: float) -> str:
    """Return a duration in words: `1 second`, `20 seconds`, `3 minutes`."""
    whole = max(1, round(seconds))
    if whole < 120:
        return f"{whole} second{'s' if whole != 1 else ''}"
    minutes = round(whole / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
