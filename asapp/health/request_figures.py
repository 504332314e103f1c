"""How many requests web answered and how long that took, by the name of the view, never by an address.

Unlike the other figures these are counted in memory. The processes of one gunicorn share a folder (gunicorn.conf.py), so
that each of them reports the sum of all; instances on other machines are scraped by themselves.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from config import shared_figures_folder

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # a client may send any word
BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_registry = CollectorRegistry()
_answered = Counter(
    "asapp_http_requests",
    "Requests that web answered, since it started",
    ["endpoint", "method", "status"],
    registry=_registry,
)
_took = Histogram(
    "asapp_http_request_duration_seconds",
    "Until the answer began",
    ["endpoint"],
    buckets=BUCKETS_S,
    registry=_registry,
)


def count(endpoint: str | None, method: str, status: int, took_s: float) -> None:
    """Count an answered request. endpoint: the view's name; None: there is no such address."""
    name = endpoint or "none"
    _answered.labels(name, method if method in METHODS else "other", str(status)).inc()
    _took.labels(name).observe(took_s)


def registry() -> CollectorRegistry:
    """Return what has been counted, by all processes of this gunicorn."""
    if shared_figures_folder() is None:
        return _registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared
