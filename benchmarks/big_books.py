"""Pages of an advisor with a big book beside those of one with a small one: `python -m benchmarks.big_books measure '{…}'`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.parts import Bench, Target, say

BIG, SMALL, LEADS, FEW_LEADS = 50_000, 50, 20_000, 20
CALLS = 9  # of each page; the median counts
PAGES = {
    "contacts": "/contacts",
    "search of 3 letters": "/contacts?q=gon",
    "no match": "/contacts?q=qqq",
    "one reason": "/contacts?state=opted_out",
    "all inactive ones": "/contacts?state=inactive",
    "everybody, page 400": "/contacts?page=400",
    "the panel": "/settings/integrations?open=salesforce",
    "a receipt": "/settings/integrations/runs/{run_id}",
    "leads": "/leads",
    "changes, all arrived today": "/changes",
}


def pages(bench: Bench) -> list[Target]:
    """CPU that pages take, in the process itself, without a network."""
    found = []
    for place in bench.house.places:
        database = place.create()
        measured = bench.house.call("big_books", "measure", database, big=BIG, small=SMALL)
        place.drop(database)
        say(
            f"\nPages with {BIG:,} contacts ({LEADS:,} leads) and with {SMALL}, {place.kind}: ms of CPU, queries, KB of HTML"
        )
        for name, (big, small) in measured["pages"].items():
            say(
                f"  {name:<22} {big['ms']:.0f} ms, {big['queries']}, {big['kb']:.0f} KB"
                f"   {small['ms']:.0f} ms, {small['queries']}, {small['kb']:.0f} KB"
            )
        sizes = [figures for both in measured["pages"].values() for figures in both]
        worst = max(big["ms"] / small["ms"] for big, small in measured["pages"].values())
        found += [
            Target(f"pages, big book of small, {place.kind}", worst, 4, 2),
            Target(f"the slowest page, {place.kind}: ms", max(each["ms"] for each in sizes), 150, 100, "{:.0f}"),
            Target(
                f"the most queries of a page, {place.kind}", max(each["queries"] for each in sizes), 12, 10, "{:.0f}"
            ),
            Target(f"the biggest page, {place.kind}: KB", max(each["kb"] for each in sizes), 100, 80, "{:.0f}"),
        ]
    return found


# ---- In a process of its own


def measure(big: int, small: int) -> dict[str, Any]:
    from flask_migrate import upgrade

    from asapp import create_app
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from devtools.makers import make_partner

    app = create_app()
    with app.app_context(), writing():
        upgrade()
        partner = make_partner()
        people = [make_book(partner, number) for number in (big, small)]
        if db.engine.dialect.name == "postgresql":
            db.session.execute(db.text("ANALYZE"))  # as autovacuum has done it long ago
        db.session.commit()
    asked = [measure_page(app, path, people) for path in PAGES.values()]
    return {"pages": dict(zip(PAGES, asked, strict=True))}


def make_book(partner: Any, contacts: int) -> dict[str, Any]:
    """Make an advisor with so many contacts, leads in proportion, and a finished run; return what the pages need."""
    from sqlalchemy import update

    from asapp.contacts import lists
    from asapp.contacts.addresses import address_key
    from asapp.core.clock import utcnow
    from asapp.core.extensions import db
    from asapp.models import Contact, ContactSource
    from benchmarks.sender_rows import add_contacts
    from devtools.makers import make_advisor, make_connection, make_run, session_of

    now = utcnow()
    advisor = make_advisor(partner)
    known = {"opt_outs_known_until": now + timedelta(days=7), "leads_known_until": now + timedelta(days=7)}
    connection = make_connection(
        advisor,
        last_good_sync_at=now,
        first_synced_at=now,
        watermark=now,
        next_sync_at=now + timedelta(hours=1),
        **known,
    )
    lists.ensure_system_lists(advisor.id)
    vault = _vault()
    add_contacts(
        connection,
        [f"person.{n}@fjord{n % 97}.example" for n in range(contacts)],
        address_key(db.session(), partner, vault),
    )
    connection.salesforce_count = contacts + contacts // 40
    add_leads(advisor, connection, LEADS if contacts == BIG else FEW_LEADS)
    run = make_run(connection, read=contacts, created=contacts, total=contacts, finished_at=now)
    arrived = (Contact.connection_id == connection.id, Contact.source == ContactSource.SALESFORCE)
    db.session.execute(update(Contact).where(*arrived).values(created_in_run_id=run.id))
    db.session.commit()
    return {"session": session_of(advisor), "run_id": run.id}


def _vault() -> Any:
    from flask import current_app

    return current_app.extensions["asapp.vault"]


def add_leads(advisor: Any, connection: Any, number: int) -> None:
    from sqlalchemy import insert

    from asapp.core.clock import utcnow
    from asapp.core.extensions import db
    from asapp.models import Contact, ContactSource, Lead, LeadState
    from asapp.models.search import search_key

    now = utcnow()
    rows = [
        {
            "user_id": advisor.id,
            "source": ContactSource.LEAD,
            "is_lead": True,
            "followed_by_id": connection.id,
            "salesforce_id": f"00Q{n:015d}",
            "first_name": "Noor",
            "last_name": f"Newcomer-{n}",
            "email": f"newcomer.{n}@fjord.example",
            "search_key": search_key("Noor", f"Newcomer-{n}", f"newcomer.{n}@fjord.example"),
            "address_hash": n.to_bytes(32, "big"),
            "created_at": now - timedelta(minutes=30 * n),
        }
        for n in range(number)
    ]
    db.session.execute(insert(Contact), rows)
    contact_ids = db.session.scalars(
        db.select(Contact.id).where(Contact.user_id == advisor.id, Contact.source == ContactSource.LEAD)
    ).all()
    leads = [
        {
            "user_id": advisor.id,
            "partner_id": advisor.partner_id,
            "contact_id": contact_id,
            "first_name": "Noor",
            "last_name": f"Newcomer-{n}",
            "email": f"newcomer.{n}@fjord.example",
            "search_key": search_key("Noor", f"Newcomer-{n}", f"newcomer.{n}@fjord.example"),
            "connection_id": connection.id,
            "state": LeadState.SENT,
            "salesforce_id": f"00Q{n:015d}",
            "signed_up_at": now - timedelta(minutes=30 * n),
            "delivered_at": now,
            "address_hash": n.to_bytes(32, "big"),
        }
        for n, contact_id in enumerate(contact_ids)
    ]
    db.session.execute(insert(Lead), leads)


def measure_page(app: Any, path: str, books: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Ask for the page of each book in turn. ms: CPU of this process and of its backend, as the machine may have other work."""
    from sqlalchemy import event

    from asapp.core.extensions import db

    with app.app_context():
        engine = db.engine
    said: list[str] = []
    backends: set[int] = set()

    def hear(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        said.append(statement)
        if engine.dialect.name == "postgresql":
            backends.add(connection.connection.dbapi_connection.info.backend_pid)

    def cpu_s() -> float:
        return time.process_time() + sum(_cpu_of(backend) for backend in backends)

    clients = [app.test_client() for _ in books]
    times: list[list[float]] = [[] for _ in books]
    found: list[dict[str, float]] = [{} for _ in books]
    for client, book in zip(clients, books, strict=True):
        with client.session_transaction() as session:
            session.update(book["session"])
    event.listen(engine, "before_cursor_execute", hear)
    try:
        for _ in range(CALLS + 1):
            for number, (client, book) in enumerate(zip(clients, books, strict=True)):
                said.clear()
                url, began = path.format(**book), cpu_s()
                answer = client.get(url)
                times[number].append(cpu_s() - began)
                if answer.status_code != 200:
                    raise RuntimeError(f"{url}: {answer.status_code}")
                found[number] = {"queries": len(list(selects(said))), "kb": len(answer.data) / 1024}
    finally:
        event.remove(engine, "before_cursor_execute", hear)
    return [each | {"ms": median(some[1:]) * 1000} for each, some in zip(found, times, strict=True)]


def _cpu_of(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def selects(statements: Iterable[str]) -> Iterable[str]:
    return (each for each in statements if not each.startswith(("BEGIN", "PRAGMA", "SAVEPOINT", "RELEASE")))


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"measure": measure}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
