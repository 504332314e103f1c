"""The figures in Prometheus' text format. docs/operations.md says what each means and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from asapp.core.version import COMMIT, VERSION
from asapp.health import request_figures
from asapp.health.figures import Figures, SenderFigures
from asapp.health.heartbeats import SCHEDULER, WORKER
from asapp.sync.interval import SyncInterval

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS_S = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
NEVER = float("inf")


@dataclass(frozen=True)
class Snapshot:
    """figures: None if the database doesn't answer; jobs: {queue: jobs}, None if Redis doesn't."""

    figures: Figures | None
    jobs: Mapping[str, int] | None
    ended: Mapping[str, int] = field(default_factory=dict)
    durations: Iterable[float] = ()
    senders: SenderFigures | None = None
    intervals: Mapping[str, SyncInterval] = field(default_factory=dict)  # by the firm's slug
    without_key: int = 0


class Once:
    """A collector for one scrape."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot
        build = {"version": VERSION, "commit": COMMIT, "python": platform.python_version()}
        yield InfoMetricFamily("asapp_build", "The release that answered this scrape", build)
        yield gauge("database_up", "1 if the database answered this scrape", snapshot.figures is not None)
        yield gauge("redis_up", "1 if Redis answered this scrape", snapshot.jobs is not None)
        if snapshot.jobs is not None:
            yield gauges("queue_jobs", "Jobs that wait in Redis", "queue", snapshot.jobs)
        if snapshot.figures is not None:
            yield gauges("runs_ended", "Runs that ended within the last hour", "outcome", snapshot.ended)
            yield durations(snapshot.durations)
            yield from now_and_then(snapshot.figures)
            yield from by_partner(snapshot.figures)
            yield from of_intervals(snapshot.intervals)
            words = "Secrets and tokens that no key of ENCRYPTION_KEYS opens"
            yield gauge("sealed_values_without_key", words, snapshot.without_key)
        if snapshot.senders is not None:
            yield from of_senders(snapshot.senders)


def render(snapshot: Snapshot) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once(snapshot))
    return generate_latest(registry) + generate_latest(request_figures.registry())


def now_and_then(figures: Figures) -> Iterator[Metric]:
    now = figures.now
    active = {"queued": figures.queued.count, "running": figures.running}
    yield gauges("runs_active", "Runs that are not over", "status", active)
    yield gauge("oldest_queued_run_seconds", "Age of the oldest queued run", figures.queued.age(now).total_seconds())
    yield gauge("connections_due", "Connections that are due and not yet dispatched", figures.due.count)
    yield gauge(
        "oldest_due_seconds", "How late the connection is that waits longest", figures.due.age(now).total_seconds()
    )
    yield gauge("leads_due", "Leads that could be on their way to Salesforce now", figures.leads.count)
    yield gauge(
        "oldest_lead_due_seconds", "How late the lead is that waits longest", figures.leads.age(now).total_seconds()
    )
    yield gauge("opt_outs_due", "Records that Salesforce could be told to opt out now", figures.opt_outs.count)
    yield gauge(
        "oldest_opt_out_due_seconds",
        "How late the record is that waits longest to be opted out in Salesforce",
        figures.opt_outs.age(now).total_seconds(),
    )
    yield gauges("connections", "Connections", "status", figures.connections)
    yield gauge("tokens_near_expiry", "Connected, and their token unused for 25 days", figures.tokens_near_expiry)
    yield gauge(
        "opt_outs_unknown_soon",
        "Not disconnected, and without a good sync their contacts become inactive within a day",
        figures.opt_outs_unknown_soon,
    )
    yield gauges("alerts_open", "Alerts that are not over", "kind", figures.alerts)
    yield gauge("alert_mails_waiting", "Mails about them that no mail server has taken yet", figures.mails_waiting)
    yield gauge(
        "page_mails_waiting", "Mails that pages asked for and no mail server has taken yet", figures.page_mails_waiting
    )
    ticked_at = figures.ticked_at
    yield gauge(
        "tick_age_seconds",
        "Since the dispatch tick last ended",
        (now - ticked_at).total_seconds() if ticked_at else NEVER,
    )
    yield gauge("schedulers_alive", "Schedulers seen within two minutes", figures.alive(SCHEDULER))
    yield gauge("workers_alive", "Workers seen within two minutes", figures.alive(WORKER))


def of_senders(figures: SenderFigures) -> Iterator[Metric]:
    yield gauges("suppressions", "Addresses that a suppression holds for", "kind", figures.suppressions)
    yield gauges("events_told", "Events that senders told within the last hour", "kind", figures.events)
    yield gauges("opt_out_writes", "Records that Salesforce is to be opted out on", "state", figures.write_backs)
    yield gauges("sends", "Sends that were asked for within the last 24 hours", "state", figures.sends)


def by_partner(figures: Figures) -> Iterator[Metric]:
    partners = figures.partners
    calls = {slug: allowance.ours for slug, allowance in partners.items()}
    yield gauges("api_calls", "Our own calls of the last 24 hours", "partner", calls)
    shares = {slug: allowance.share for slug, allowance in partners.items() if allowance.share is not None}
    yield gauges("api_calls_share", "How many of them are ours to make", "partner", shares)
    used = {
        slug: allowance.org_used / allowance.org_allowed
        for slug, allowance in partners.items()
        if allowance.org_used is not None and allowance.org_allowed
    }
    yield gauges("org_api_used_ratio", "Part of the org's calls used by everybody", "partner", used)
    paused = {slug: slug in figures.paused for slug in partners}
    yield gauges("partner_paused", "1 while scheduled syncs of this firm pause", "partner", paused)


def of_intervals(intervals: Mapping[str, SyncInterval]) -> Iterator[Metric]:
    holding = {slug: each.minutes for slug, each in intervals.items()}
    yield gauges("sync_interval_minutes", "How often the firm's connections are checked", "partner", holding)
    stretched = {slug: each.is_stretched for slug, each in intervals.items()}
    why = "1 while that is less often than set, so that its share of calls lasts"
    yield gauges("sync_interval_stretched", why, "partner", stretched)


def gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"asapp_{name}", what, value=float(value))


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"asapp_{name}", what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family


def durations(seconds: Iterable[float]) -> Metric:
    """Return a histogram of the last hour: read its buckets as they are, without rate()."""
    taken = list(seconds)
    bounds = (*DURATION_BUCKETS_S, NEVER)
    buckets = [
        ("+Inf" if bound == NEVER else str(float(bound)), float(sum(s <= bound for s in taken))) for bound in bounds
    ]
    return HistogramMetricFamily(
        "asapp_run_duration_seconds",
        "How long the runs took that ended within the last hour (not cumulative)",
        buckets=buckets,
        sum_value=sum(taken),
    )
