"""What the log of calls to Salesforce says of each kind of call, and of how it ended."""

from __future__ import annotations

from collections.abc import Mapping

CALLS: Mapping[str, str] = {
    "check": "Quiet checks of an hour",
    "query": "Read records",
    "composite": "Asked several questions",
    "retrieve": "Read records by Id",
    "create": "Created records",
    "update": "Updated records",
    "list_view": "Read list views",
    "describe": "Read which fields there are",
    "limits": "Read limits",
    "token": "Got a token",
    "revoke": "Revoked a token",
    "userinfo": "Asked who the user is",
    "setup": "Checked the firm's app",
    "probe": "Tried a log-in that must be refused",
    "other": "Other",
}
CALL_OUTCOMES: Mapping[str, str] = {"good": "Good", "failed": "Failed"}
