"""Our clock: aware UTC everywhere. Salesforce's times are by Salesforce's clock; see salesforce/client.py."""

from __future__ import annotations

from datetime import UTC, datetime


def utcnow() -> datetime:
    return datetime.now(UTC)
