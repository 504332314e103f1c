"""What stands in a database before a firm is stopped: `python -m benchmarks.stop_rows JOB '{…}'` prints a line of JSON."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

from benchmarks import ours
from benchmarks.ours import job_app, start_run


def make_firm(url: str, org_id: str, people: list[str]) -> dict[str, Any]:
    """As ours.prepare(), for these Salesforce users, with their first sync. What it returns fits on a command line."""
    from asapp.jobs import tasks

    accounts = [{"user_id": user_id, **get_tokens(url, user_id)} for user_id in people]
    facts = ours.prepare(url, org_id, accounts)
    for run_id in facts["runs"]:
        tasks.run_sync(run_id)
        ours.how_it_ended(run_id)
    return {"url": url, "people": people, "connections": facts["connections"]}


def get_tokens(url: str, user_id: str) -> Any:
    body = json.dumps({"user_id": user_id, "key": "bench-key"}).encode()
    with urllib.request.urlopen(f"{url}/practice/api/issue_tokens", body, timeout=60) as answer:
        return json.load(answer)["result"]


def prepare(url: str, people: list[str], connections: list[int]) -> dict[str, Any]:
    """Give each connection new tokens, a person who has signed up, and a sync that waits; return what an admin needs."""
    from flask.sessions import SecureCookieSessionInterface

    from asapp import create_app
    from asapp.accounts import api_keys
    from asapp.audit.entries import COMMAND
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.models import Connection, Scope
    from devtools.makers import make_admin, session_of

    vault = job_app().extensions["asapp.vault"]
    app = create_app()
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    if signer is None:
        raise RuntimeError("no secret key")
    with app.app_context(), writing():
        for connection_id, user_id in zip(connections, people, strict=True):
            connection, grant = db.session.get_one(Connection, connection_id), get_tokens(url, user_id)
            connection.seal(vault, "access_token_sealed", grant["access_token"])
            connection.seal(vault, "refresh_token_sealed", grant["refresh_token"])
        slug = connection.partner.slug
        db.session.commit()
        for connection_id in connections:
            let_someone_sign_up(connection_id)
        facts = {"slug": slug, "cookie": str(signer.dumps(session_of(make_admin())))}
        facts["key"] = api_keys.make_key("Mail engine", tuple(Scope), None, None, COMMAND)
    run_ids = [start_run(connection_id) for connection_id in connections]
    if not job_app().extensions["asapp.queues"].enqueue_runs(run_ids):
        raise RuntimeError("Redis took no job")
    return facts


def let_someone_sign_up(connection_id: int) -> None:
    from flask import current_app

    from asapp.core.extensions import db
    from asapp.leads import sign_up_page
    from asapp.leads.form_fields import Typed
    from asapp.leads.sign_up import FormSeen, sign_up
    from asapp.models import Connection

    user = db.session.get_one(Connection, connection_id).user
    page = sign_up_page.ensure_page(user)
    seen = FormSeen(sign_up_page.current_text(user.id).id, f"form-{user.id}", "203.0.113.80")
    typed = Typed("Mei-Ling", "Chou", f"mei.chou.{user.id}@harbour.example", True)
    sign_up(page, typed, seen, current_app.extensions["asapp.vault"])


JOBS: dict[str, Callable[..., dict[str, Any]]] = {job.__name__: job for job in (make_firm, prepare)}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
