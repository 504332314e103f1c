"""What all phases of a run share: the context that stays the same, the locks it takes, and rows that say what it changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asapp.connections.org_access import OrgAccess
from asapp.contacts.suppressions import Firm
from asapp.contacts.twins import lock_advisor
from asapp.salesforce.records import RecordKind
from asapp.sync.runs import Enqueue, LeasedRun

PAGES_AHEAD = 3  # that may be read while rows are stored: more would take memory, and save little
ALSO = "also"  # the kind of a change to a contact whose row was not read


@dataclass(frozen=True)
class JobContext:
    """What a run needs of the process it runs in."""

    access: OrgAccess
    enqueue: Enqueue
    default_interval_minutes: int
    should_stop: Callable[[], bool] = lambda: False
    pages_ahead: int = PAGES_AHEAD


@dataclass(frozen=True)
class RunContext:
    """What stays the same for all pages of a run once its window is open."""

    run: LeasedRun
    connection_id: int
    user_id: int
    owner_id: str  # the connected Salesforce user
    partner_id: int
    address_key: bytes
    earlier_firms: Sequence[Firm]  # that the advisor was with: unsubscribing there still counts
    window_start: datetime | None  # None: everything is read
    asked_at: datetime  # rows stamped at or after this are out of order
    sure_until: datetime  # rows stamped at or after this may be out of order
    kind: RecordKind = RecordKind.CONTACT  # what is read

    @property
    def run_id(self) -> int:
        return self.run.id

    def lock(self) -> None:
        """Lock the advisor's and the run's row, before rows of contacts or leads (the lock order). Raises LeaseLost."""
        lock_advisor(self.user_id)
        self.run.lock()


def change_row(
    context: RunContext,
    contact_id: int,
    kind: str,
    reason: str | None = None,
    old: Mapping[str, str] | None = None,
    new: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a row of run_changes. old, new: the fields that changed."""
    return {
        "run_id": context.run_id,
        "contact_id": contact_id,
        "kind": kind,
        "reason": reason,
        "old": old or None,
        "new": new or None,
    }


def add_counts(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return the sums by key, without those that are 0."""
    return {key: count for key, count in (Counter(before) + Counter(more)).items() if count}
