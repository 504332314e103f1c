"""The API calls of the last 24 hours, and the body of /limits.

The body is a part of what a recorded Enterprise-like org listed, with the live number of API calls.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from orgsim.clock import OrgClock

DAY = 24 * 3600
_BUCKET = 60
_FIXED = {
    "ConcurrentAsyncGetReportInstances": 200,
    "ConcurrentSyncReportRuns": 20,
    "DailyAsyncApexExecutions": 250000,
    "DailyBulkApiBatches": 15000,
    "DailyBulkV2QueryFileStorageMB": 976562,
    "DailyBulkV2QueryJobs": 10000,
    "DailyDeliveredPlatformEvents": 10000,
    "DailyGenericStreamingApiEvents": 10000,
    "DailyStreamingApiEvents": 10000,
    "DailyWorkflowEmails": 8040,
    "DataStorageMB": 10240,
    "FileStorageMB": 10240,
    "HourlyAsyncReportRuns": 1200,
    "HourlyDashboardRefreshes": 200,
    "HourlySyncReportRuns": 500,
    "HourlyTimeBasedWorkflow": 1000,
    "MassEmail": 5000,
    "SingleEmail": 5000,
    "StreamingApiConcurrentClients": 1000,
}


def limits(total: int, used: int) -> dict[str, Any]:
    calls = {"DailyApiRequests": {"Max": total, "Remaining": max(0, total - used)}}
    return dict(sorted({**calls, **{name: {"Max": n, "Remaining": n} for name, n in _FIXED.items()}}.items()))


class Allowance:
    """The number of API calls of the last 24 hours, kept by the minute. `others` are calls that were not made here."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: deque[list[int]] = deque()
        self._sum = 0
        self.others = 0

    def spend(self, calls: int = 1) -> None:
        minute = self._clock.seconds() // _BUCKET
        with self._lock:
            self._forget(minute)
            if self._buckets and self._buckets[-1][0] == minute:
                self._buckets[-1][1] += calls
            else:
                self._buckets.append([minute, calls])
            self._sum += calls

    def used(self) -> int:
        with self._lock:
            self._forget(self._clock.seconds() // _BUCKET)
            return self._sum + self.others

    def _forget(self, minute: int) -> None:
        while self._buckets and self._buckets[0][0] <= minute - DAY // _BUCKET:
            self._sum -= self._buckets.popleft()[1]
