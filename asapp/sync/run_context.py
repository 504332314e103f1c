"""What all phases of a run share: the context that stays the same, the locks it takes, and the rows that tell what it changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asapp.connections.org_access import OrgAccess
from asapp.contacts.suppressions import Firm
from asapp.contacts.twins import lock_advisor
from asapp.sync.runs import Enqueue, lock_run

ALSO = "also"  # changed without having been read


@dataclass(frozen=True)
class RunContext:
    """What stays the same for all pages of a run."""

    run_id: int
    lease: str
    connection_id: int
    user_id: int
    owner_id: str  # the connected Salesforce user
    address_key: bytes
    partner_id: int
    earlier_firms: Sequence[Firm]  # that the advisor was with: what people said there still counts
    window_start: datetime | None  # None: everything is read
    asked_at: datetime  # rows stamped from here on stand out of order
    sure_until: datetime  # rows stamped from here on may


def lock(context: RunContext) -> None:
    """Take the advisor's and the run's row, before the rows of contacts: the lock order. Raise LeaseLost."""
    lock_advisor(context.user_id)
    lock_run(context.run_id, context.lease)


def change_row(
    context: RunContext, contact_id: int, kind: str, reason: str | None, old: dict[str, str], new: dict[str, str]
) -> dict[str, Any]:
    return {
        "run_id": context.run_id,
        "contact_id": contact_id,
        "kind": kind,
        "reason": reason,
        "old": old or None,
        "new": new or None,
    }


def add_counts(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {key: count for key, count in (Counter(before) + Counter(more)).items() if count}


@dataclass(frozen=True)
class JobContext:
    """What a run needs of the process it runs in."""

    access: OrgAccess
    enqueue: Enqueue
    default_interval_minutes: int
    should_stop: Callable[[], bool] = lambda: False
