"""Contacts that a run makes active or inactive through their address, without having read their rows.

A twin shares its address with a record that opted out. Which contacts are twins, or have a suppressed address, is compared before
and after a transaction, and what flipped is counted and recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from asapp.contacts.suppressions import find_suppressed, has_any
from asapp.contacts.twins import find_twins
from asapp.models.run import Also
from asapp.sync import store
from asapp.sync.run_context import ALSO, RunContext, change_row


class InactiveByAddress(NamedTuple):
    """Ids of contacts that are inactive because of their address: another record opted out, or it is suppressed."""

    twins: set[int]
    suppressed: set[int]

    @property
    def all(self) -> set[int]:
        return self.twins | self.suppressed

    def why_inactive(self, contact_id: int) -> Also:
        return Also.SUPPRESSED if contact_id in self.suppressed else Also.TWIN_OPTED_OUT

    def why_active_again(self, contact_id: int) -> Also:
        return Also.UNSUPPRESSED if contact_id in self.suppressed else Also.TWIN_BACK


class TwinChanges:
    """What a transaction changes about twins and suppressed addresses. Made before it writes, recorded after.

    hashes: every address that the transaction blocks, unblocks, brings or takes away. are_moving: whether contacts from before
    this run may get one of these addresses.
    """

    def __init__(self, context: RunContext, hashes: Collection[bytes], *, are_moving: bool = False) -> None:
        self._context = context
        self._hashes = set(hashes)
        # In a first sync no contact is from before the run, and two queries for every page are saved.
        self._can_flip = are_moving or store.has_older_contact(context.user_id, self._hashes, context.run_id)
        self._before = self._find() if self._can_flip else InactiveByAddress(set(), set())

    def record(self) -> Counter[str]:
        """Record what flipped for contacts from before this run, in the caller's transaction; return the counts by reason."""
        if not self._can_flip:
            return Counter()
        before, after = self._before, self._find()
        flipped = before.all ^ after.all
        counted = store.find_otherwise_active(self._context.run_id, flipped) if flipped else set()
        reasons = {
            contact_id: after.why_inactive(contact_id)
            if contact_id in after.all
            else before.why_active_again(contact_id)
            for contact_id in sorted(counted)
        }
        store.insert_changes(
            [change_row(self._context, contact_id, ALSO, reason) for contact_id, reason in reasons.items()]
        )
        return Counter(map(str, reasons.values()))

    def _find(self) -> InactiveByAddress:
        user_id = self._context.user_id
        suppressed = find_suppressed(user_id, self._hashes) if has_any(user_id) else set()
        return InactiveByAddress(find_twins(user_id, self._hashes), suppressed)
