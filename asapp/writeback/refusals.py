"""What each refusal of an opt-out means: retried, when, or left to a person. The only place that decides it.

We don't work around the firm's field security and rules; our own suppression holds whatever Salesforce answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from asapp.messages.codes import Code
from asapp.models import Untold, WriteBackState
from asapp.salesforce import errors
from asapp.salesforce.errors import SalesforceError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class RefusalRule(NamedTuple):
    """waits: before each further attempt. then: the row's state after them; WAITING: repeat the last wait."""

    why: Untold
    waits: tuple[timedelta, ...]
    then: WriteBackState

    def wait_after(self, attempts: int) -> timedelta | None:
        """Return how long to wait after this many attempts, or None to give up."""
        if attempts <= len(self.waits):
            return self.waits[max(attempts, 1) - 1] if self.waits else None
        return self.waits[-1] if self.then == WriteBackState.WAITING else None


def never(why: Untold, then: WriteBackState = WriteBackState.REFUSED) -> RefusalRule:
    return RefusalRule(why, (), then)


def every(why: Untold, wait: timedelta) -> RefusalRule:
    return RefusalRule(why, (wait,), WriteBackState.WAITING)


def _looked_at_again(why: Untold) -> RefusalRule:
    """The record changed between our look-up and the update: each attempt begins with a look-up, which decides."""
    return RefusalRule(why, (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5)), WriteBackState.GONE)


RULES: Mapping[str, RefusalRule] = {
    Code.ROW_LOCKED: RefusalRule(
        Untold.BUSY,
        (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30)),
        WriteBackState.REFUSED,
    ),
    Code.RECORD_LOCKED: RefusalRule(Untold.IN_APPROVAL, (DAY,) * 30, WriteBackState.REFUSED),
    Code.FIRMS_OWN_CODE: RefusalRule(Untold.FIRMS_CODE, (HOUR, 6 * HOUR, 16 * HOUR), WriteBackState.REFUSED),
    # the same for all of a connection's records: they are retried once the firm's admin has changed it
    Code.FIELD_NOT_WRITABLE: every(Untold.FIELD_LOCKED, 6 * HOUR),
    Code.FIELD_HIDDEN: every(Untold.FIELD_HIDDEN, 6 * HOUR),
    Code.INSUFFICIENT_ACCESS: never(Untold.NO_EDIT),
    Code.VALIDATION_RULE: never(Untold.FIRMS_RULE),
    Code.REQUIRED_FIELD: never(Untold.FIRMS_RULE),
    Code.FIELD_VALUE: never(Untold.FIRMS_RULE),
    Code.LOOKUP_FILTER: never(Untold.FIRMS_RULE),
    Code.RESTRICTED_PICKLIST: never(Untold.FIRMS_RULE),
    Code.DUPLICATE: never(Untold.DUPLICATE_RULE),
    Code.PERSON_ACCOUNT: never(Untold.PERSON),
    Code.CROSS_REFERENCE_HIDDEN: _looked_at_again(Untold.NOT_VISIBLE),
    Code.NOT_VISIBLE: _looked_at_again(Untold.NOT_VISIBLE),
    Code.DELETED: _looked_at_again(Untold.DELETED),
    Code.CONVERTED: _looked_at_again(Untold.CONVERTED),
}
# By the kind of error, if its code is not listed; the first match counts.
BY_KIND: tuple[tuple[type[SalesforceError], RefusalRule], ...] = (
    (errors.LimitReached, every(Untold.NO_CALLS, HOUR)),
    (errors.ReconnectNeeded, every(Untold.RECONNECT, HOUR)),
    (errors.Misconfigured, every(Untold.SET_UP, 6 * HOUR)),
    (errors.OurBug, every(Untold.OUR_BUG, 6 * HOUR)),
    (errors.Rejected, never(Untold.UNKNOWN_REFUSAL)),
    (errors.SalesforceError, every(Untold.NO_ANSWER, timedelta(minutes=5))),
)


def rule_for(error: SalesforceError) -> RefusalRule:
    return RULES.get(error.code) or next(rule for kind, rule in BY_KIND if isinstance(error, kind))
