"""Our clock: aware UTC everywhere. What Salesforce dates, Salesforce's clock dates; see salesforce/client.py."""

from __future__ import annotations

from datetime import UTC, datetime


def utcnow() -> datetime:
    return datetime.now(UTC)
