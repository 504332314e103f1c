"""What pages show about write-backs: the contact's page, and the firm's page for admins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.contacts import suppressions
from asapp.contacts.suppressions import Happened
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.health.figures import read_figures
from asapp.jobs import tasks
from asapp.models import (
    Contact,
    OptOutWrite,
    SuppressionSource,
    SuppressionStep,
    Untold,
    User,
    WriteBackState,
)
from asapp.writeback import unsubscribing
from orgsim import Running
from tests.factories import log_in, make_admin, make_advisor, make_connection
from tests.mail_links import path_of_link
from tests.senders import Sender, make_key
from tests.write_back_office import ROSE, WriteBackOffice


@pytest.fixture
def office(app: Flask, org: Running) -> WriteBackOffice:
    return WriteBackOffice(org)


@pytest.fixture
def rose(office: WriteBackOffice) -> str:
    salesforce_id = office.add(email=ROSE)
    office.sync()
    return salesforce_id


@pytest.fixture
def amara(client: FlaskClient, office: WriteBackOffice) -> FlaskClient:
    log_in(client, office.advisor)
    return client


@pytest.fixture
def ada(client: FlaskClient, office: WriteBackOffice) -> FlaskClient:
    log_in(client, make_admin())
    return client


def path_of(salesforce_id: str) -> str:
    db.session.rollback()
    return f"/contacts/{db.session.scalars(select(Contact.id).where(Contact.salesforce_id == salesforce_id)).one()}"


def firm_path(office: WriteBackOffice) -> str:
    return f"/admin/partners/{office.reload(office.connection).partner.slug}"


def text_of(page: str) -> str:
    return " ".join(page.split())


def put(office: WriteBackOffice, salesforce_id: str, **columns: object) -> None:
    office.unsubscribe()
    row = office.write(salesforce_id)
    for name, value in columns.items():
        setattr(row, name, value)
    db.session.commit()


# ---- The contact's page


def test_the_page_shows_the_history_of_an_unsubscribe(
    app: Flask, amara: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    contact = path_of(rose)
    assert "In Salesforce" not in amara.get(contact).text
    link = path_of_link(office.advisor, ROSE)
    assert app.test_client().post(link, data={"scope": "advisor"}).status_code == 303
    assert "Salesforce will be told within minutes" in amara.get(contact).text
    office.make_all_due()
    office.write_back()
    told = office.write(rose)
    told.ended_at = datetime(2026, 5, 3, 14, 32, tzinfo=UTC)
    db.session.commit()
    page = amara.get(contact).text
    assert "Salesforce was told on <time" in page
    assert ">3 May 2026, 14:32 UTC</time>." in page


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"state": WriteBackState.TRUE_ALREADY}, "The opt-out box was ticked in Salesforce already."),
        (
            {"why": Untold.IN_APPROVAL},
            "Salesforce isn&#39;t told yet that this person unsubscribed. The record is in an approval process",
        ),
        ({"why": Untold.FIELD_LOCKED}, "to let advisors edit Email Opt Out"),
        (
            {"state": WriteBackState.REFUSED, "why": Untold.FIRMS_RULE, "why_words": "Bitte <b>Telefon</b>."},
            "A rule of your firm in Salesforce stopped it: “Bitte &lt;b&gt;Telefon&lt;/b&gt;.”",
        ),
        (
            {"state": WriteBackState.GONE, "why": Untold.REASSIGNED},
            "The record belongs to someone else in Salesforce.",
        ),
    ],
)
def test_the_page_says_why_not(
    amara: FlaskClient, office: WriteBackOffice, rose: str, columns: dict[str, object], says: str
) -> None:
    put(office, rose, **columns)
    page = text_of(amara.get(path_of(rose)).text)
    assert says in page
    assert ("Tell Salesforce again" in page) is (columns.get("state") == WriteBackState.REFUSED)


def test_a_firm_that_does_not_want_it_is_named_as_the_reason(
    amara: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    office.unsubscribe()
    assert "your firm has not asked for it" in text_of(amara.get(path_of(rose)).text).replace("&#39;", "'")
    office.reload(office.connection).partner.writes_opt_outs_back = True
    office.save()
    assert "your firm asked for it only later" in amara.get(path_of(rose)).text


def test_what_was_refused_is_tried_again_from_the_page(
    app: Flask, amara: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    put(office, rose, state=WriteBackState.REFUSED, why=Untold.NO_EDIT)
    answer = amara.post(f"{path_of(rose)}/tell-salesforce")
    assert answer.status_code == 303
    assert office.write(rose).state == WriteBackState.WAITING
    queues: Queues = app.extensions["asapp.queues"]
    assert [job.split("-")[:2] for job in queues.leads.get_job_ids()] == [["opt", "outs"]]
    office.write_back()
    assert office.is_out(rose)


def test_a_stranger_can_not_have_it_tried_again(
    app: Flask, client: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    put(office, rose, state=WriteBackState.REFUSED, why=Untold.NO_EDIT)
    bob: User = make_advisor(office.reload(office.connection).partner, "Bob Ferreira")
    make_connection(bob, org_id=office.org.id, salesforce_user_id=office.colleague)
    log_in(client, bob)
    assert client.post(f"{path_of(rose)}/tell-salesforce").status_code == 404
    assert office.write(rose).state == WriteBackState.REFUSED


# ---- The firm's page


def test_admins_see_how_many_were_written_back_and_why_others_were_not(
    ada: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    put(office, rose, state=WriteBackState.TOLD)
    for number, (state, why) in enumerate(
        [
            (WriteBackState.WAITING, Untold.FIELD_LOCKED),
            (WriteBackState.WAITING, Untold.FIELD_LOCKED),
            (WriteBackState.REFUSED, Untold.FIRMS_RULE),
            (WriteBackState.GONE, Untold.DELETED),
        ]
    ):
        row = OptOutWrite(
            user_id=office.advisor.id,
            connection_id=office.connection.id,
            salesforce_id=f"0035g00000Kq{number:03}AAF",
            kind="Contact",
            state=state,
            why=why,
        )
        db.session.add(row)
    db.session.commit()
    page = text_of(ada.get(firm_path(office)).text)
    assert "1 told, 2 waiting, 1 refused." in page
    assert "Email Opt Out can&#39;t be set: 2 records" in page
    assert "Stopped by a rule of the firm: 1 record" in page


def test_a_firm_that_never_wanted_it_has_no_such_section(ada: FlaskClient, office: WriteBackOffice) -> None:
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    page = ada.get(firm_path(office)).text
    assert "Opt-outs told to Salesforce" not in page
    assert "Tell Salesforce when someone unsubscribes" in page


def test_those_of_the_last_thirty_days_are_written_back_by_a_button(
    ada: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    office.unsubscribe()
    ada.post(f"{firm_path(office)}/tell-earlier")
    assert office.writes() == {}
    office.reload(office.connection).partner.writes_opt_outs_back = True
    office.save()
    assert "Write back those of the last 30 days" in ada.get(firm_path(office)).text
    ada.post(f"{firm_path(office)}/tell-earlier")
    assert "Salesforce will be told of 1 address" in ada.get(firm_path(office)).text
    office.write_back()
    assert office.is_out(rose)


# ---- Jobs and figures


def test_an_event_by_the_api_is_stored_with_its_write_back_and_enqueued(
    app: Flask, client: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    event = {
        "id": "event-1",
        "type": "unsubscribed",
        "advisor_id": office.advisor.public_id,
        "email": ROSE,
        "at": "2026-05-03T09:15:00Z",
    }
    answer = Sender(client, make_key()).post("/events", {"events": [event]})
    assert answer.get_json()["results"][0]["result"] == "accepted"
    assert office.writes() == {rose: (WriteBackState.WAITING, None)}
    queues: Queues = app.extensions["asapp.queues"]
    assert [job.args for job in queues.leads.get_jobs()] == [[office.connection.id]]
    office.write_back()
    assert office.is_out(rose)


def test_an_event_of_the_sender_enqueues_a_delivery_and_the_job_carries_it_out(
    app: Flask, office: WriteBackOffice, rose: str
) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    happened = Happened(office.address(), SuppressionStep.UNSUBSCRIBED, SuppressionSource.SENDER, utcnow(), "event-1")
    with writing():
        unsubscribing.record([happened], queues.enqueue_opt_outs)
        unsubscribing.record([happened._replace(sender_event_id="event-2")], queues.enqueue_opt_outs)
    [job] = queues.leads.get_jobs()
    assert (job.func_name, job.args) == ("asapp.jobs.tasks.deliver_opt_outs", [office.connection.id])
    tasks.deliver_opt_outs(office.connection.id)
    assert office.is_out(rose)


def test_a_field_that_may_not_be_set_has_the_firms_set_up_checked(
    app: Flask, ada: FlaskClient, office: WriteBackOffice, rose: str
) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    partner_id, connection_id = office.connection.partner_id, office.connection.id
    office.unsubscribe()
    tasks.deliver_opt_outs(connection_id)
    assert office.is_out(rose)
    assert queues.sync.get_job_ids() == []
    office.org.opt_in(rose)
    office.org.lock_field("Contact", "HasOptedOutOfEmail")
    put(office, rose, state=WriteBackState.WAITING, ended_at=None)
    tasks.deliver_opt_outs(connection_id)
    [job] = queues.sync.get_jobs()
    assert (job.func_name, job.args) == ("asapp.jobs.tasks.check_partner", [partner_id])
    tasks.check_partner(partner_id)
    page = text_of(ada.get(firm_path(office)).text)
    assert "can see HasOptedOutOfEmail on Contact, but not set it" in page


def test_the_tick_enqueues_what_is_due(app: Flask, office: WriteBackOffice, rose: str) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    office.unsubscribe(wait_is_over=False)
    tasks.tick()
    assert not [job for job in queues.leads.get_job_ids() if job.startswith("opt-outs")]
    office.make_all_due()
    tasks.tick()
    tasks.tick()
    assert len([job for job in queues.leads.get_job_ids() if job.startswith("opt-outs")]) == 1


def test_the_figures_say_how_long_what_is_due_waits(office: WriteBackOffice, rose: str) -> None:
    now = utcnow()
    assert read_figures(db.session(), now).opt_outs.count == 0
    put(office, rose, next_attempt_at=now - timedelta(minutes=20))
    figures = read_figures(db.session(), now)
    assert (figures.opt_outs.count, figures.opt_outs.age(now)) == (1, timedelta(minutes=20))
    put(office, rose, next_attempt_at=now + timedelta(minutes=20))
    assert read_figures(db.session(), now).opt_outs.count == 0
    assert suppressions.held_for(office.address()).has_stopped
