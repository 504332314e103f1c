"""A new Consumer Secret takes over by itself once Salesforce accepts it."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.jobs import tasks
from asapp.models import Partner, PartnerCheck
from asapp.partners import checks
from orgsim import Running
from tests.connecting import KEY, ConnectingDesk


def wait_with(desk: ConnectingDesk, secret: str) -> None:
    desk.partner.seal(desk.access.vault, "pending_secret_sealed", secret)
    db.session.commit()


def test_only_partners_with_a_waiting_secret_are_checked_by_the_tick(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    assert checks.find_due() == []
    wait_with(desk, "rotated")
    assert checks.find_due() == [desk.partner.id]
    desk.partner.is_enabled = False
    db.session.commit()
    assert checks.find_due() == []


def test_a_firm_whose_salesforce_did_not_answer_is_checked_until_it_does(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    desk.org.trouble.add("server_unavailable_html", kind="openid")
    tasks.check_partner(desk.partner.id)
    db.session.rollback()
    assert checks.find_due() == [desk.partner.id]
    db.session.rollback()
    desk.org.trouble.clear()
    tasks.check_partner(desk.partner.id)
    db.session.rollback()
    assert checks.find_due() == []


def test_it_is_tried_every_ten_minutes_at_most(app: Flask, org: Running) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    for _ in range(3):
        queues.enqueue_checks([7])
    assert len([each for each in queues.sync.get_job_ids() if each.startswith("check-7-")]) == 1


def test_it_takes_over_when_salesforce_knows_it(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    wait_with(desk, "rotated")
    checks.run_checks(desk.partner, desk.access)
    assert db.session.get_one(Partner, desk.partner.id).pending_secret_sealed
    desk.org.change_app(KEY, secret="rotated")
    checks.run_checks(desk.partner, desk.access)
    db.session.expire_all()
    assert desk.partner.pending_secret_sealed is None
    assert desk.partner.unseal(desk.access.vault, "consumer_secret_sealed") == "rotated"


def test_a_firm_without_a_waiting_secret_is_checked_where_a_log_in_asked_for_it(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    tasks.check_partner(desk.partner.id)
    db.session.rollback()
    assert "key" in db.session.scalars(select(PartnerCheck.code)).all()


def test_a_firm_that_is_inactive_is_not_checked(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    desk.partner.is_enabled = False
    wait_with(desk, "rotated")
    tasks.check_partner(desk.partner.id)
    db.session.rollback()
    assert db.session.scalars(select(PartnerCheck)).all() == []
