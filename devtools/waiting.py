"""Waits for what another process does, and asks whether it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
PATIENCE_S = 60.0


def wait_for(look: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S, pause_s: float = 0.02) -> T:
    """Return the first true answer; raise TimeoutError."""
    give_up_at = time.monotonic() + patience_s
    while not (found := look()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain {what}")
        time.sleep(pause_s)
    return found


def status_of(url: str, method: str = "GET") -> int | None:
    """Return the status of the answer, or None where nothing answers.

    It uses http.client, because tests block the library that the app uses.
    """
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
