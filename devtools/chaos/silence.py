"""Whether every connection is heard of: checked or synced, well or not, within two intervals."""

from __future__ import annotations

import threading
from typing import Any

from devtools.chaos.house import INTERVAL_MINUTES
from devtools.chaos.watch import DatabaseAway, Watch

LOOK_EVERY_S = 10.0
INTERVALS = 2
# A firm that pauses, and a connection whose syncs fail one after the other, are asked about less often on purpose.
LONGEST = """
    SELECT c.id, extract(epoch FROM now() - greatest(
        c.last_good_sync_at, c.status_changed_at, p.paused_until,
        (SELECT max(coalesce(r.finished_at, now())) FROM sync_runs r WHERE r.connection_id = c.id)
    )) AS silent_s
    FROM connections c JOIN partners p ON p.id = c.partner_id
    WHERE c.status = 'connected' AND c.first_synced_at IS NOT NULL AND c.failures_in_a_row = 0
    ORDER BY silent_s DESC LIMIT 1
"""


class Silence:
    """Looks again and again at the connection that was not heard of for longest. longest_s: the longest ever."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.longest_s = 0.0
        self.is_over = threading.Event()

    def live(self) -> None:
        while not self.is_over.wait(LOOK_EVERY_S):
            try:
                self.hear(self._watch.rows(LONGEST))
            except DatabaseAway:
                continue

    def hear(self, rows: Any) -> None:
        self.longest_s = max(self.longest_s, *(float(row.silent_s) for row in rows), 0.0)

    def wrong(self) -> list[str]:
        if self.longest_s <= INTERVALS * INTERVAL_MINUTES * 60:
            return []
        return [f"a connection was not heard of for {self.longest_s:.0f} s, longer than {INTERVALS} intervals"]
