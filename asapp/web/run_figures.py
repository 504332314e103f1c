"""The figures of a run in words, for the panel, the history and the receipt."""

from __future__ import annotations

from asapp.connections.panel import OFF_WITHOUT_READING
from asapp.contacts.words import REASONS
from asapp.models import RunTrigger, SyncRun

SKIPPED = {
    "opted_out": "opted out of email",
    "no_email": "without an email address",
    "deleted": "deleted in Salesforce before they came here",
    "merged": "merged in Salesforce before they came here",
    "held": "leaving, held for your approval",
    "discarded": "leaving, kept by your decision",
    "hidden_here": "deleted here by you",
    "erased_here": "erased here on the person's request",
    "not_owned": "no longer yours when they arrived",
    "unreadable": "could not be read",
}
ALSO = {
    "opted_out": "switched off, opted out of email on a record that could not be read whole",
    "deleted": "switched off, deleted in Salesforce",
    "merged": "switched off, merged in Salesforce",
    "reassigned": "switched off, belonging to somebody else now",
    "gone": "switched off, no longer visible in Salesforce",
    "twin_opted_out": "switched off, the same address opted out",
    "twin_back": "back on, the same address no longer opted out",
    "memberships_moved": "list memberships handed over by merges",
}
OFF_REASONS = {
    "bounced": "bounced in Salesforce",
    "opted_out": "opted out of email",
    "no_email": "lost the email address",
    "deleted": "deleted in Salesforce",
    "merged": "merged into another record",
    "reassigned": "belonging to somebody else now",
    "gone": "no longer visible in Salesforce",
    "twin_opted_out": "same address opted out",
}
BACK_REASONS = {
    "bounced": "No longer bounced in Salesforce",
    "opted_out": "Opted in again in Salesforce",
    "no_email": "Has an email address again",
    "deleted": "Restored in Salesforce",
    "merged": "Restored in Salesforce",
    "reassigned": "Yours again in Salesforce",
    "gone": "Visible again in Salesforce",
    "twin_opted_out": "Same address no longer opted out",
}
TRIGGERS = {
    RunTrigger.MANUAL: "You",
    RunTrigger.SCHEDULED: "Schedule",
    RunTrigger.APPROVAL: "Your approval",
}

Figure = tuple[str, int]


def figures(run: SyncRun) -> list[Figure]:
    """What a run has done so far: the three that always stand there, and the others when there are any."""
    rest = [
        ("adopted", run.adopted),
        ("back on", run.reactivated),
        ("switched off", switched_off(run)),
        *((f"left out, {SKIPPED.get(reason, reason)}", count) for reason, count in run.skipped.items()),
    ]
    always = [("added", run.created), ("updated", run.updated), ("unchanged", run.unchanged)]
    return always + [(label, count) for label, count in rest if count]


def classes(run: SyncRun, reasons: dict[str, dict[str, int]] | None = None) -> list[tuple[str, int, list[Figure]]]:
    """Return (class, rows, of which) of all rows read; the rows add up to run.read. reasons: by kind, from the receipt."""
    off = [
        (OFF_REASONS.get(reason, reason), count) for reason, count in ((reasons or {}).get("deactivated") or {}).items()
    ]
    left_out = [(SKIPPED.get(reason, reason), count) for reason, count in run.skipped.items() if count]
    rows: list[tuple[str, int, list[Figure]]] = [
        ("Added", run.created, []),
        ("Updated", run.updated, []),
        ("Unchanged", run.unchanged, []),
        ("Adopted, you had added them by hand", run.adopted, []),
        ("Back on", run.reactivated, []),
        ("Switched off", run.deactivated, off),
        ("Left out", run.skipped_total, left_out),
        ("Not decided when it ended", run.nominated, []),
    ]
    return [row for row in rows if row[1] or row[0] in ("Added", "Updated", "Unchanged")]


def also(run: SyncRun) -> list[Figure]:
    """What the run changed without reading the row."""
    return [(ALSO.get(reason, reason), count) for reason, count in run.also.items() if count]


def switched_off(run: SyncRun) -> int:
    return run.deactivated + sum(count for reason, count in run.also.items() if reason in OFF_WITHOUT_READING)


def started_by(run: SyncRun) -> str:
    return TRIGGERS.get(RunTrigger(run.trigger), run.trigger)


def why_off(reason: str | None) -> str:
    if reason == "no_email":
        return "Lost the email address in Salesforce"
    return REASONS[reason].short if reason in REASONS else ""


def why_back(reason: str | None) -> str:
    return BACK_REASONS.get(reason or "", "")


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
