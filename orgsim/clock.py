"""The org's own clock. No other module asks the machine for the time of day."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class OrgClock:
    """Runs with the machine's clock plus an offset, or stands still when frozen."""

    def __init__(self, start: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._offset = 0.0
        self._frozen_at: float | None = None
        if start is not None:
            self.set(start)

    def timestamp(self) -> float:
        """Return seconds since 1970, with fractions."""
        with self._lock:
            return self._frozen_at if self._frozen_at is not None else time.time() + self._offset

    def seconds(self) -> int:
        """Return whole seconds since 1970: the resolution of every stamp in an org."""
        return int(self.timestamp())

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def advance(self, seconds: float) -> datetime:
        """Move the clock by some seconds, backwards if negative."""
        with self._lock:
            if self._frozen_at is not None:
                self._frozen_at += seconds
            else:
                self._offset += seconds
        return self.now()

    def set(self, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            raise ValueError("the org's clock takes aware moments only")
        with self._lock:
            if self._frozen_at is not None:
                self._frozen_at = moment.timestamp()
            else:
                self._offset = moment.timestamp() - time.time()
        return self.now()

    def freeze(self) -> datetime:
        """Stop the clock; from now on only `advance` and `set` move it."""
        current = self.timestamp()
        with self._lock:
            self._frozen_at = current
        return self.now()

    def run(self) -> datetime:
        """Let the clock run again, from the time at which it stands."""
        current = self.timestamp()
        with self._lock:
            self._frozen_at = None
            self._offset = current - time.time()
        return self.now()


def to_salesforce(seconds: int) -> str:
    """Render a stamp as the REST API does: UTC, `.000`, offset without a colon."""
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001 (naive on purpose: rendered as UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def to_seconds(moment: datetime) -> int:
    """Return whole seconds; fractions are cut off."""
    if moment.tzinfo is None:
        raise ValueError("stamps are aware moments")
    return int(moment.timestamp() // 1)
