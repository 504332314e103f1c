"""What asapp does, in a process of its own: `python -m benchmarks.ours JOB '{"arguments": …}'` prints a line of JSON."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any


def peak_rss_mb() -> float:
    """Return the peak memory of this process alone; ru_maxrss would include the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM")


@contextmanager
def measured(into: dict[str, Any]) -> Any:
    cpu, began = time.process_time(), time.perf_counter()
    yield
    into["s"] = time.perf_counter() - began
    into["cpu_s"] = time.process_time() - cpu


@cache
def job_app() -> Any:
    """The application as worker.py makes it, with its context open."""
    from asapp import create_app
    from worker import COLLECT_AFTER

    app = create_app(with_pages=False)
    app.app_context().push()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    return app


def sync(runs: list[int]) -> dict[str, Any]:
    """Carry out a waiting run as a worker does: everything is imported before the job starts."""
    import asapp.jobs.worker  # noqa: F401 - what a worker process holds
    from asapp.jobs import tasks

    job_app()
    found: dict[str, Any] = {}
    with measured(found):
        tasks.run_sync(runs[0])
    found["rss_mb"] = peak_rss_mb()
    return found | how_it_ended(runs[0])


def how_it_ended(run_id: int) -> dict[str, Any]:
    from asapp.core.extensions import db
    from asapp.models import SyncRun

    with job_app().app_context():
        run = db.session.get_one(SyncRun, run_id)
        if not run.is_complete:
            raise RuntimeError(f"the run is {run.status}: {run.error_code}")
        return {"read": run.read, "created": run.created, "unchanged": run.unchanged, "calls": run.api_calls} | {
            "updated": run.updated
        }


def no_change(connections: list[int], rounds: int, **_rest: Any) -> dict[str, Any]:
    """Sync again and again: in this process, and as a worker does it, each in a process forked from a warm one."""
    from asapp.jobs import tasks

    job_app()
    here, forked, calls = [], [], []
    for _ in range(rounds):
        one: dict[str, Any] = {}
        run_id = start_run(connections[0])
        with measured(one):
            tasks.run_sync(run_id)
        here.append(one)
        calls.append(how_it_ended(run_id)["calls"])
    forked.extend(in_a_work_horse(start_run(connections[0])) for _ in range(rounds))
    return {"here": here[1:], "forked": forked, "calls": calls}


def in_a_work_horse(run_id: int) -> dict[str, Any]:
    """Fork as RQ does; return what the child measured for its job."""
    from asapp.jobs import tasks

    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        one: dict[str, Any] = {}
        tasks.leave_parents_connections()
        with measured(one):
            tasks.run_sync(run_id)
        os.write(theirs, json.dumps(one).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer: dict[str, Any] = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return answer


def start_run(connection_id: int) -> int:
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.models import Connection, RunTrigger
    from asapp.sync import runs

    with job_app().app_context(), writing():
        run_id = runs.start_run(db.session.get_one(Connection, connection_id), RunTrigger.MANUAL, lambda _ids: True).id
        db.session.commit()
        return run_id


def add_run(connections: list[int], **_rest: Any) -> dict[str, Any]:
    return {"runs": [start_run(connections[0])]}


def read_everything_again(connections: list[int], **_rest: Any) -> dict[str, Any]:
    """Let the next run be a full one, as after a change of the opt-out field."""
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.models import Connection

    with job_app().app_context(), writing():
        db.session.get_one(Connection, connections[0]).opt_out_field_read = None
        db.session.commit()
    return {"runs": [start_run(connections[0])]}


def follow_lists(connections: list[int], chosen: list[tuple[str, str]], **_rest: Any) -> dict[str, Any]:
    """Let the advisor choose these lists of Salesforce; return the run that fills them and how many people will be on them."""
    from asapp.connections.list_questions import look_inside
    from asapp.contacts import salesforce_lists
    from asapp.core.extensions import db
    from asapp.models import Connection
    from asapp.salesforce.org_lists import Look

    members = 0
    with job_app().app_context():
        access = job_app().extensions["asapp.org_access"]
        for list_id, about in chosen:
            connection = db.session.get_one(Connection, connections[0])
            look = look_inside(connection, access, list_id, about)
            if not isinstance(look, Look):
                raise TypeError(f"a list can't be read: {look}")
            salesforce_lists.follow(connection, look.found, look.filter)
            members += len(salesforce_lists.find_known(connection.id, look.ids).members)
            db.session.rollback()
    return {"runs": [start_run(connections[0])], "members": members}


def read_lists_again(connections: list[int], chosen: list[tuple[str, str]], **_rest: Any) -> dict[str, Any]:
    """As follow_lists(), but the lists are filled already."""
    facts = follow_lists(connections, chosen)
    sync(facts["runs"])
    return facts | {"runs": [start_run(connections[0])]}


def count_members(**_rest: Any) -> dict[str, Any]:
    """Return how many people are on lists."""
    from sqlalchemy import func, select

    from asapp.core.extensions import db
    from asapp.models import ListMember

    with job_app().app_context():
        return {"members": db.session.scalar(select(func.count()).select_from(ListMember))}


def enqueue_and_wait(connections: list[int], **_rest: Any) -> dict[str, Any]:
    """Start a sync for all of them and wait until the workers have finished; the time counts from the first enqueue."""
    from sqlalchemy import func, select

    from asapp.core.extensions import db
    from asapp.core.queues import Queues
    from asapp.models import RunStatus, SyncRun

    queues: Queues = job_app().extensions["asapp.queues"]
    run_ids = [start_run(connection_id) for connection_id in connections]
    began = time.perf_counter()
    if not queues.enqueue_runs(run_ids):
        raise RuntimeError("Redis took no job")
    with job_app().app_context():
        unfinished = select(func.count()).select_from(SyncRun).where(SyncRun.finished_at.is_(None))
        while db.session.scalar(unfinished):
            db.session.rollback()
            time.sleep(0.02)
        took = time.perf_counter() - began
        ended = select(func.count()).where(SyncRun.id.in_(run_ids), SyncRun.status == RunStatus.COMPLETE)
        if db.session.scalar(ended) != len(run_ids):
            raise RuntimeError("not every sync is complete")
    return {"s": took}


def deliver(connections: list[int], **_rest: Any) -> dict[str, Any]:
    """Deliver the leads that wait, as a worker does; return how many people there are and the states of their leads."""
    from sqlalchemy import func, select

    from asapp.core.extensions import db
    from asapp.jobs import tasks
    from asapp.models import ConsentEvent, Contact, Lead

    job_app()
    found: dict[str, Any] = {}
    with measured(found):
        tasks.deliver_leads(connections[0])
    with job_app().app_context():
        counts = {
            name: db.session.scalar(select(func.count()).select_from(table))
            for name, table in (("leads", Lead), ("contacts", Contact), ("consents", ConsentEvent))
        }
        rows = db.session.execute(select(Lead.state, func.count()).group_by(Lead.state)).all()
        states = {row[0]: row[1] for row in rows}
    return found | counts | {"states": states}


# What a database contains before the measurement.


def prepare(url: str, org_id: str, accounts: list[dict[str, Any]], **_rest: Any) -> dict[str, Any]:
    """Migrate; make a firm, and for each Salesforce user an advisor with a connection and a run that waits."""
    from flask_migrate import upgrade

    from asapp import create_app
    from asapp.contacts.addresses import address_key
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from devtools.makers import make_advisor, make_connection, make_partner

    app = create_app()
    with app.app_context(), writing():
        upgrade()
        partner = make_partner(url=url, key="bench-key", secret="bench-secret", api_share_percent=100)
        hashed_with = address_key(db.session(), partner, app.extensions["asapp.vault"])
        made = [
            make_connection(
                make_advisor(partner),
                org_id=org_id,
                salesforce_user_id=one["user_id"],
                instance_url=url,
                access_token=one["access_token"],
                refresh_token=one["refresh_token"],
            )
            for one in accounts
        ]
        facts = {"connections": [c.id for c in made], "users": [c.user_id for c in made]}
        db.session.commit()
    facts["runs"] = [start_run(connection_id) for connection_id in facts["connections"]]
    return facts | {"address_key": hashed_with.hex(), "url": url, "accounts": accounts}


def prepare_checks(ports: list[int], due: int, **_rest: Any) -> dict[str, Any]:
    """Make `due` connections, each synced and due, of as many firms as there are ports; their users have no contacts."""
    from flask_migrate import upgrade
    from sqlalchemy import insert

    from asapp import create_app
    from asapp.core.clock import utcnow
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.models import Connection, User
    from asapp.salesforce.fields import all_fields
    from asapp.salesforce.hosts import to_18
    from devtools.makers import make_partner

    now, app = utcnow(), create_app()
    keys = {about: all_fields(about, ["HasOptedOutOfEmail"]).key for about in ("Contact", "Lead")}
    synced_at = ("first_synced_at", "last_good_sync_at", "swept_at", "watermark", "leads_watermark", "connected_at")
    with app.app_context(), writing():
        upgrade()
        vault = app.extensions["asapp.vault"]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        partners = [make_partner(f"Firm {n}", url=url, api_share_percent=100).id for n, url in enumerate(urls)]
        people, connections = [], []
        for n in range(1, due + 1):
            firm = n % len(partners)
            person = {"id": n, "email": f"a{n}@x.example", "name": f"Advisor {n}", "role": "advisor"}
            people.append(person | {"session_nonce": str(n), "partner_id": partners[firm], "password_hash": ""})
            made = Connection(public_id=f"{n:036d}")
            made.seal(vault, "access_token_sealed", f"00Dxx!access{n}")
            made.seal(vault, "refresh_token_sealed", f"5Aep861refresh{n}")
            sealed = {name: getattr(made, name) for name in ("access_token_sealed", "refresh_token_sealed")}
            whose = {"id": n, "public_id": made.public_id, "user_id": n, "partner_id": partners[firm]}
            org = {"org_id": f"00D{firm:015d}", "instance_url": urls[firm], "username": f"a{n}@x.example"}
            user = {"salesforce_user_id": to_18(f"005{n:012d}"), "salesforce_count": 0}
            known = {"opt_outs_known_until": now + timedelta(days=7), "leads_known_until": now + timedelta(days=7)}
            fields = {"opt_out_field_read": keys["Contact"], "lead_fields_read": keys["Lead"]}
            times = dict.fromkeys((*synced_at, "lead_opt_outs_watermark"), now - timedelta(hours=1))
            is_due = {"next_sync_at": now - timedelta(seconds=60 + n * 7 % 60)}
            connections.append(sealed | whose | org | user | known | fields | times | is_due)
        db.session.execute(insert(User), people)
        for start in range(0, due, 5000):
            db.session.execute(insert(Connection), connections[start : start + 5000])
        db.session.commit()
        if db.engine.dialect.name == "postgresql":
            db.session.execute(db.text("ANALYZE"))
            db.session.commit()
    return {}


def tick_until_fresh(give_up_s: float, without_firm: int = 0, **_rest: Any) -> dict[str, Any]:
    """Tick every 15 seconds, as the scheduler does, until no connection is due; tell what it took and what it left.

    without_firm: the number of one whose connections don't count.
    """
    from sqlalchemy import func, select

    from asapp.core.clock import utcnow
    from asapp.core.extensions import db
    from asapp.jobs import tasks
    from asapp.models import ApiUsage, Connection, SyncRun

    job_app()
    before = utcnow()
    began, ticks = time.perf_counter(), 0
    cpu = time.process_time()
    with job_app().app_context():
        counts = Connection.partner_id != without_firm
        waiting = select(Connection.id).where(Connection.next_sync_at <= before, counts).limit(1)
        while db.session.scalar(waiting) is not None:
            db.session.rollback()
            if time.perf_counter() - began > give_up_s:
                raise RuntimeError("not everything was checked in time")
            if time.perf_counter() - began >= ticks * 15:
                tasks.tick()
                ticks += 1
            time.sleep(0.1)
        took_s = time.perf_counter() - began
        found = {"s": took_s, "cpu_s": time.process_time() - cpu, "ticks": ticks}
        runs = db.session.scalar(select(func.count()).select_from(SyncRun))
        usage, calls = db.session.execute(select(func.count(), func.sum(ApiUsage.calls))).one()
        failed = select(func.count()).where(Connection.failures_in_a_row > 0, counts)
        others = select(func.count()).select_from(SyncRun).join(Connection).where(counts)
        if db.session.scalar(others) or db.session.scalar(failed):
            raise RuntimeError(f"not every check was quiet: {runs} runs")
    return found | {"runs": runs, "usage": usage, "calls": int(calls or 0)}


def wait_for_page(
    contact_id: int, words: str, give_up_s: float, connections: list[int], **_rest: Any
) -> dict[str, Any]:
    """Let the connection be due now, and open the contact's page again and again until it shows these words."""
    from asapp import create_app
    from asapp.core.clock import utcnow
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.models import Connection
    from devtools.makers import session_of

    app = create_app()
    client = app.test_client()
    with app.app_context(), writing():
        connection = db.session.get_one(Connection, connections[0])
        with client.session_transaction() as session:
            session.update(session_of(connection.user))
        connection.next_sync_at = utcnow()
        db.session.commit()
    began = time.perf_counter()
    while words not in client.get(f"/contacts/{contact_id}").text:
        if time.perf_counter() - began > give_up_s:
            raise RuntimeError("the change has not arrived")
        time.sleep(0.05)
    return {"s": time.perf_counter() - began}


NO_LIMIT = 10**6  # people a day: the speed is measured, not the limit


def prepare_form(url: str, org_id: str, accounts: list[dict[str, Any]], **_rest: Any) -> dict[str, Any]:
    """As prepare(), without a run; also returns the address of the advisor's sign-up page."""
    from asapp.core.extensions import db
    from asapp.leads import sign_up_page
    from asapp.models import SyncRun, User

    facts = prepare(url, org_id, accounts)
    with job_app().app_context():
        db.session.query(SyncRun).delete()
        page = sign_up_page.ensure_page(db.session.get_one(User, facts["users"][0]))
        slug, page.daily_limit = page.slug, NO_LIMIT
        db.session.commit()
    return facts | {"slug": slug}


def prepare_pollers(url: str, org_id: str, pollers: int, **_rest: Any) -> dict[str, Any]:
    """Make advisors whose syncs are under way; return for each the cookie and the address that their browser polls."""
    from flask.sessions import SecureCookieSessionInterface
    from flask_migrate import upgrade

    from asapp import create_app
    from asapp.core.clock import utcnow
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.panel.load import find_progress
    from devtools.makers import make_advisor, make_connection, make_partner, make_run, session_of

    app = create_app()
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    if signer is None:
        raise RuntimeError("no secret key")
    now = utcnow()
    asked = []
    with app.app_context(), writing():
        upgrade()
        partner = make_partner(url=url)
        for _ in range(pollers):
            advisor = make_advisor(partner)
            connection = make_connection(advisor, org_id=org_id)
            figures = {"total": 100_000, "read": 48_000, "created": 46_000, "skipped": {"opted_out": 2000}, "also": {}}
            lease = {"lease": "x", "lease_until": now + timedelta(hours=5), "started_at": now, "heartbeat_at": now}
            make_run(connection, "running", phase="contacts", **figures, **lease)
            progress = find_progress(advisor)
            if progress is None:
                raise RuntimeError("no progress to show")
            cookie = signer.dumps(session_of(advisor))
            path = f"/settings/integrations/salesforce?seen={progress.milestone}"
            asked.append({"cookie": str(cookie), "path": path, "user_id": advisor.id})
        db.session.commit()
    return {"asked": asked}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job
    for job in (
        *(sync, no_change, add_run, read_everything_again, enqueue_and_wait, deliver),
        *(follow_lists, read_lists_again, count_members),
        *(prepare, prepare_checks, tick_until_fresh, wait_for_page, prepare_pollers, prepare_form),
    )
}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
