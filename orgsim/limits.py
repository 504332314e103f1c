"""The body of /limits: what a recorded Enterprise-like org listed, in part, with the live number of API calls."""

from __future__ import annotations

from typing import Any

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
