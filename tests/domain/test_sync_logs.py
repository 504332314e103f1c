"""No personal data of a sync reaches the log, at any log level."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.core.logs import JsonHandler, about
from asapp.models import Connection, Lead, RunStatus, SyncRun
from asapp.salesforce.errors import OurBug
from orgsim import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import KEY, SECRET, Office

NAMES = ("Zoë", "Ravi", "Amara-Lou", "O'Brien-Śliwa", "Gonzalez-Núñez", "Lindqvist-Ng")


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    office = PostOffice(org)
    rows = [
        {
            "owner_id": office.user,
            "first_name": name,
            "last_name": f"{name}-{number}",
            "email": f"someone.{number}@fjord-{number}.example",
        }
        for number, name in enumerate(NAMES * 70)
    ]
    office.org.add_contacts(rows)
    office.add(first_name="Kwame", last_name="Outis", email="out@fjord.example", opted_out=True)
    office.org.change_settings(page_sizes=200)
    return office


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return each logged line, at the most verbose level that settings allow."""
    lines: list[str] = []

    class CollectedLog:
        def write(self, text: str) -> None:
            lines.append(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(JsonHandler, "stream", CollectedLog())
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "asapp")
    return lines


def personal_values(office: Office) -> set[str]:
    """Return names, addresses, tokens, keys and hosts: everything that must not be logged."""
    found = {KEY, SECRET, *tokens_of(office.connection)}
    for contact in office.org.contacts():
        found |= {str(contact[field]) for field in ("FirstName", "LastName", "Email") if contact[field]}
    for user in office.org.users():
        found |= {str(user[field]) for field in ("name", "username", "email") if user.get(field)}
    found |= {office.advisor.name, office.advisor.email}
    return found


def tokens_of(connection: Connection) -> set[str]:
    vault = current_app.extensions["asapp.vault"]
    db.session.refresh(connection)
    sealed = {"access_token_sealed", "refresh_token_sealed"}
    return {connection.unseal(vault, column) for column in sealed} | {getattr(connection, column) for column in sealed}


def assert_nothing_personal(written: list[str], values: set[str]) -> None:
    text = "".join(written) + "".join(json.dumps(json.loads(line), ensure_ascii=False) for line in written)
    assert [value for value in sorted(values) if value in text] == []
    assert not any(word in text for word in ("SELECT ", "/services/data", "Bearer", "@"))


def lines_of(written: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written]


def sync_like_the_job(office: Office) -> None:
    """Sync and log as jobs/tasks.py does."""
    with about(job="run_sync"):
        try:
            office.sync()
        except Exception:
            logging.getLogger("asapp.jobs").exception("the job failed")
            raise


def test_a_whole_sync(office: Office, written: list[str]) -> None:
    values = personal_values(office)
    office.org.expire_sessions()  # so that the token is refreshed on the way
    fault = office.org.trouble.add("server_unavailable_html", kind="query_more", times=1)
    run = office.sync()
    assert (run.status, fault.hits) == (RunStatus.COMPLETE, 1)
    leaver = office.org.contacts(office.user)[0]["Id"]
    office.org.delete(leaver)
    office.org.update_contact(office.org.contacts(office.user)[0]["Id"], email="moved.house@elsewhere.example")
    assert office.sync().status == RunStatus.COMPLETE
    assert_nothing_personal(written, values | personal_values(office) | {"moved.house"})
    of_the_run = [line for line in lines_of(written) if line["message"] == "run complete"]
    assert of_the_run[0] | {"run_id": run.id, "connection_id": office.connection.id} == of_the_run[0]
    assert of_the_run[0]["partner_id"] == office.connection.partner_id


@pytest.mark.parametrize(
    "answer",
    [
        "invalid_field",
        "request_limit",
        "html",
        "truncated_json",
        "reset",
        "malformed_query",
        "redirect",
        "session_expired",
    ],
)
def test_a_sync_that_fails(office: Office, written: list[str], answer: str) -> None:
    values = personal_values(office)
    details = {"location": "https://elsewhere.example/?owner=Zoë"} if answer == "redirect" else {}
    office.org.trouble.add(answer, kind="query_more", **details)
    with suppress(OurBug):  # raised for the log after the run's end is stored
        sync_like_the_job(office)
    run = last_run()
    assert run.status == RunStatus.FAILED
    assert_nothing_personal(written, values)
    assert any(line["level"] in ("warning", "error") for line in lines_of(written))


def leads_values(office: PostOffice) -> set[str]:
    """Return what people typed, and what the org stores of its leads."""
    found = {str(lead[field]) for lead in office.org.leads() for field in ("FirstName", "LastName", "Email")}
    for lead in db.session.scalars(select(Lead)):
        found |= {lead.first_name, lead.last_name, lead.email}
    return found


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "validation_rule",
        "string_too_long",
        "invalid_email",
        "duplicates_detected",
        "reset_after",
        "server_unavailable_html",
        "malformed_query",
    ],
)
def test_leads_that_go_out_and_are_followed(office: PostOffice, written: list[str], answer: str | None) -> None:
    office.org.add_lead(office.user, first_name="Thandiwe", last_name="Nkosi-Bell", email="thandiwe@harbour.example")
    for name in ("Anneliese", "Bartholomew", "Thandiwe"):
        someone_signs_up(office.advisor, f"{name}@harbour.example".lower(), name, f"Oyelaran-{name}")
    values = personal_values(office) | leads_values(office) | {"harbour.example"}
    fault = office.org.trouble.add(answer, kind="create", times=1) if answer else None
    with suppress(OurBug), about(job="deliver_leads"):
        office.deliver()
    assert fault is None or fault.hits
    office.sync()
    office.let_pass(900)
    with suppress(OurBug):
        office.deliver()
    assert_nothing_personal(written, values | leads_values(office))


def test_a_connection_that_is_over(office: Office, written: list[str]) -> None:
    values = personal_values(office)
    office.org.revoke_approvals()
    assert office.sync().status == RunStatus.FAILED
    assert_nothing_personal(written, values)
    failed = next(line for line in lines_of(written) if "run failed" in line["message"])
    assert failed["connection_id"] == office.connection.id


def test_a_bug_in_the_middle(office: Office, written: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*_arguments: object, **_more: object) -> None:
        raise ValueError("Zoë", "someone.1@fjord-1.example")

    values = personal_values(office)
    monkeypatch.setattr("asapp.sync.reader.apply_pages", fall)
    with pytest.raises(ValueError, match="Zoë"):
        sync_like_the_job(office)
    assert last_run().error_code == "our_bug"
    assert_nothing_personal(written, values)
    (line,) = [line for line in lines_of(written) if "error" in line]
    assert line["error"]["type"] == "ValueError"
    assert any(place.startswith("asapp/sync/execute.py") for place in line["error"]["at"])


def last_run() -> SyncRun:
    db.session.rollback()
    return db.session.query(SyncRun).order_by(SyncRun.id.desc()).first()  # type: ignore[return-value]
