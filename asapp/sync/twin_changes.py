"""Contacts that become twins, or stop being twins, by what a run writes: counted and recorded as changed without being read."""

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
    """The ids of contacts that are not written to because of their address: another record opted out, or it is suppressed."""

    twins: set[int]
    suppressed: set[int]

    @property
    def all(self) -> set[int]:
        return self.twins | self.suppressed

    def why_inactive(self, contact_id: int) -> Also:
        return Also.SUPPRESSED if contact_id in self.suppressed else Also.TWIN_OPTED_OUT

    def why_active(self, contact_id: int) -> Also:
        return Also.UNSUPPRESSED if contact_id in self.suppressed else Also.TWIN_BACK


class TwinWatch:
    """Which contacts become twins, or stop being twins, while a transaction changes what is blocked or who has which address.

    Made before the changes; hashes: every address that they block, unblock, bring or take away. are_moving: whether contacts
    from before this run may come to one of these addresses.
    """

    def __init__(self, context: RunContext, hashes: Collection[bytes], *, are_moving: bool = False) -> None:
        self._context = context
        self._hashes = set(hashes)
        # In a first sync nobody is from before the run, and then two questions about every page are saved.
        self._can_flip = are_moving or store.has_older_contact(context.user_id, self._hashes, context.run_id)
        self._before = self._find() if self._can_flip else InactiveByAddress(set(), set())

    def record_changes(self) -> Counter[str]:
        """Write down what changed for contacts from before this run, and count it. Joins the caller's transaction."""
        if not self._can_flip:
            return Counter()
        before, after = self._before, self._find()
        flipped = before.all ^ after.all
        counted = store.find_otherwise_active(self._context.run_id, flipped) if flipped else set()
        kinds = {
            contact_id: after.why_inactive(contact_id) if contact_id in after.all else before.why_active(contact_id)
            for contact_id in sorted(counted)
        }
        store.insert_changes(
            [change_row(self._context, contact_id, ALSO, kind, {}, {}) for contact_id, kind in kinds.items()]
        )
        return Counter(map(str, kinds.values()))

    def _find(self) -> InactiveByAddress:
        user_id = self._context.user_id
        suppressed = find_suppressed(user_id, self._hashes) if has_any(user_id) else set()
        return InactiveByAddress(find_twins(user_id, self._hashes), suppressed)
