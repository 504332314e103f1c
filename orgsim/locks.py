"""Records that can't be changed for a while: another transaction or an approval process has locked them."""

from __future__ import annotations

from orgsim.errors import bad_request


class Locks:
    """Locks of one org, by Ids of records."""

    def __init__(self) -> None:
        self._busy: dict[str, int | None] = {}  # how many more saves fail; None: all, until the record is unlocked
        self.in_approval: set[str] = set()

    def keep_busy(self, record_id: str, times: int | None) -> None:
        self._busy[record_id] = times

    def free(self, record_id: str) -> None:
        self._busy.pop(record_id, None)

    def check(self, record_id: str) -> None:
        """Raise ApiError where the record can't be saved now; a save that fails counts."""
        if record_id in self.in_approval:
            raise bad_request("ENTITY_IS_LOCKED", "the entity is locked for editing", [])
        if record_id not in self._busy:
            return
        left = self._busy[record_id]
        if left is not None:
            left -= 1
            self._busy[record_id] = left
            if left <= 0:
                del self._busy[record_id]
        raise bad_request(
            "UNABLE_TO_LOCK_ROW", f"unable to obtain exclusive access to this record or 1 records: {record_id}", []
        )
