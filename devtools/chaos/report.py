"""The table of faults and outcomes, from the records of the campaign; no line of it is typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from devtools.chaos.faults import LANES, Hit
from devtools.chaos.mail_memory import STOPS
from devtools.chaos.watch import Watch

OUTCOMES = ("went on", "taken up", "failed+", "failed", "cancelled", "other")
AFTER = "SELECT 1 FROM sync_runs WHERE connection_id = %s AND id > %s AND status IN ('complete', 'held') LIMIT 1"


@dataclass(frozen=True)
class Record:
    """One fault. hit: None where it missed."""

    lane: str
    kind: str
    at_s: float
    hit: Hit | None
    tries: dict[int, int]  # of the runs that were hit, when it struck
    note: str = ""


def print_table(records: Sequence[Record], watch: Watch) -> None:
    columns = f"{'counted':>8}{'missed':>8}{'runs hit':>10}" + "".join(f"{name:>11}" for name in OUTCOMES)
    print(f"\n{'fault':<34}{columns}{'leads hit':>11}{'delivered':>11}")
    total: Counter[str] = Counter()
    for lane, kinds in LANES.items():
        print(lane)
        for kind in kinds:
            counts = count([record for record in records if record.lane == lane and record.kind == kind], watch)
            total.update(counts)
            print_row(f"  {kind}", counts)
    print_row("all", total)
    print(
        "runs hit: queued or being worked on when it struck. went on: the same run ended well, in its own process or "
        "handed on.\ntaken up: its process was lost, and the same run ended well from its checkpoint. failed+: it ended "
        "with a reason, and a later run\nof the connection ended well."
    )
    notes = Counter((record.kind, record.note) for record in records if record.note)
    print("\nnotes" if notes else "")
    for (kind, note), number in sorted(notes.items()):
        print(f"  {number:>3} x {kind}: {note}")


def print_row(name: str, counts: Counter[str]) -> None:
    cells = f"{counts['counted']:>8}{counts['missed']:>8}{counts['runs']:>10}"
    cells += "".join(f"{counts[outcome] or '':>11}" for outcome in OUTCOMES)
    print(f"{name:<34}{cells}{counts['leads'] or '':>11}{counts['delivered'] or '':>11}")


def count(records: Sequence[Record], watch: Watch) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in records:
        if record.hit is None:
            counts["missed"] += 1
            continue
        counts["counted"] += 1
        for run_id in record.hit.runs:
            counts["runs"] += 1
            counts[outcome_of(run_id, record.tries.get(run_id, 0), watch)] += 1
        for lead_id in record.hit.leads:
            counts["leads"] += 1
            state = watch.patiently("SELECT state FROM leads WHERE id = %s", lead_id)[0].state
            counts["delivered"] += state in ("sent", "linked", "converted")
    return counts


def outcome_of(run_id: int, tries: int, watch: Watch) -> str:
    run = watch.run(run_id)
    if run.status in ("complete", "held"):
        return "taken up" if run.tries > tries else "went on"
    if run.status == "failed":
        return "failed+" if watch.patiently(AFTER, run.connection_id, run.id) else "failed"
    return "cancelled" if run.status == "cancelled" else "other"


def print_mail(figures: Counter[str], told: Counter[str]) -> None:
    """figures: of the senders. told: what people said of mails, from the campaign's memory."""
    states = ", ".join(f"{figures[f'sends {state}']:,} {state}" for state in ("ready", "stale", "refused"))
    older = figures["sends ready on older data"]
    print(f"\nsends asked for: {figures['sends asked for']:,}: {states}; ready on older data: {older}")
    print(f"recipients fetched: {figures['recipients fetched']:,}")
    reasons = ", ".join(f"{told[reason]:,} {reason}" for reason in STOPS)
    print(
        f"events told: {figures['events told']:,}; clicks on the link: {figures['clicks on the link']:,}; stored: {reasons}"
    )
    print(
        f"on the page: {figures['advisors stopped on the page']:,} stopped an advisor, "
        f"{figures['firms stopped on the page']:,} the whole firm; taken back: {figures['undone on the page']:,}"
    )
    twice = f"twice at once {figures['events told twice at once']:,}"
    after = f"after an answer {figures['events repeated after an answer']:,}"
    print(
        f"answers to events told before: {told['repeated']:,} ({twice}, {after}); opted in again: {told['opted_in']:,}"
    )
    print(
        f"opt-outs written back: {figures['opt-outs written back']:,}; recipients' records: {figures['to write back']:,}"
    )
    answers = {name.removeprefix("answers "): figures[name] for name in sorted(figures) if name.startswith("answers ")}
    print(f"answers to senders: {', '.join(f'{status}: {count:,}' for status, count in answers.items())}")
    print(f"calls made again: {figures['calls made again']:,}; mailings given up: {figures['mailings given up']:,}")


def reasons(watch: Watch) -> str:
    rows = watch.patiently(
        "SELECT error_code, count(*) AS runs FROM sync_runs WHERE status = 'failed' GROUP BY 1 ORDER BY 2 DESC"
    )
    return ", ".join(f"{row.error_code} {row.runs}" for row in rows) or "none"
