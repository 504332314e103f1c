"""Digests of what changed, and mails about leads: when they are due, what they say, and that each is written once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.accounts import mail_choices, mail_outbox, users
from asapp.alerts import due_mails
from asapp.alerts.digest import DIGESTS
from asapp.alerts.due_mails import KindOfMail
from asapp.alerts.lead_mails import LEAD_MAILS
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.mail import Letter
from asapp.leads import news
from asapp.models import Connection, LeadState, MailChoice, RunChange, User, WaitingMail
from asapp.salesforce.hosts import to_18
from tests.factories import make_advisor, make_contact, make_run, make_synced_connection, save
from tests.signing_up import someone_signs_up

LEAD_ID = to_18("00Q5g0000000001")
URL = "https://my.advisorstream.example"
FRIDAY = datetime(2026, 11, 27, 7, 0, tzinfo=UTC)


def written(kind: KindOfMail = DIGESTS) -> list[Letter]:
    """Let a job write what is due; return the mails, and empty the outbox."""
    vault = current_app.extensions["asapp.vault"]
    number = due_mails.write_due(kind, vault, URL)
    mails = db.session.scalars(select(WaitingMail).order_by(WaitingMail.id)).all()
    letters = [Letter(**mail_outbox.read(mail, vault)) for mail in mails]
    for mail in mails:
        db.session.delete(mail)
    db.session.commit()
    assert number == len(letters)
    return letters


def choice_of(user: User, **columns: object) -> MailChoice:
    """Return the advisor's row with the digest and the mails about leads told until an hour ago, and due."""
    mail_choices.plan()
    choice = db.session.get_one(MailChoice, user.id, populate_existing=True)
    hour_ago = utcnow() - timedelta(hours=1)
    for name, value in (
        {"digest_due_at": hour_ago, "digest_until": hour_ago, "leads_until": hour_ago} | columns
    ).items():
        setattr(choice, name, value)
    save(choice)
    return choice


@pytest.fixture
def connection(app: Flask) -> Connection:
    connection = make_synced_connection()
    connection.user.time_zone = "Europe/Berlin"
    save(connection.user)
    return connection


@pytest.mark.parametrize(
    ("kind", "zone", "hours", "due"),
    [
        ("daily", None, 0, "2026-11-27T07:30"),
        ("daily", None, 1, "2026-11-30T07:30"),  # the weekend is left out
        ("daily", "Asia/Tokyo", 0, "2026-11-29T22:30"),
        ("weekly", "America/New_York", 0, "2026-11-30T12:30"),
    ],
)
def test_a_digest_is_due_in_the_morning_of_its_reader(kind: str, zone: str | None, hours: int, due: str) -> None:
    found = mail_choices.next_due(kind, zone, FRIDAY + timedelta(hours=hours))
    assert found is not None
    assert found.strftime("%Y-%m-%dT%H:%M") == due
    assert mail_choices.next_due("off", zone, FRIDAY) is None


def test_a_digest_names_people_and_is_written_once(connection: Connection) -> None:
    user = connection.user
    run = make_run(connection, finished_at=utcnow() - timedelta(minutes=9), created=5)
    people = [
        make_contact(connection, first_name="Esi", last_name=f"Mensah {n}", created_in_run_id=run.id) for n in range(5)
    ]
    left = make_contact(connection, first_name="Priscilla", last_name="Oduya", departed="reassigned")
    odd = make_contact(connection, first_name="", last_name="info@kestrel.example", opted_out=True)
    save(RunChange(run_id=run.id, contact_id=left.id, kind="also", reason="reassigned"))
    save(RunChange(run_id=run.id, contact_id=odd.id, kind="deactivated", reason="opted_out"))
    choice_of(user)
    assert due_mails.are_due(DIGESTS)
    [letter] = written()
    assert letter.to == user.email
    assert letter.subject == "Your contacts: 1 opted out or unsubscribed, 1 left, 7 added"
    assert "in your time (Berlin)" in letter.text
    assert "Esi Mensah 4, Esi Mensah 3, Esi Mensah 2 and" not in letter.text  # the two made by hand are newer
    assert "Priscilla Oduya (who belongs to someone else now)" in letter.text
    assert "and 4 more" in letter.text
    assert "someone without a name" in letter.text
    assert "Once a week instead, or never: https://my.advisorstream.example/settings" in letter.text
    assert not [each for each in (*people, left, odd) if each.email in letter.text]
    assert "kestrel" not in letter.text
    assert not due_mails.are_due(DIGESTS)
    assert written() == []


def test_nothing_is_sent_where_nothing_happened_or_nothing_is_wanted(connection: Connection) -> None:
    choice = choice_of(connection.user)
    assert written() == []
    assert choice.digest_due_at is not None
    assert choice.digest_due_at > utcnow()
    make_contact(connection.user)
    users.save_profile(connection.user, "Alice", "", digest="off")
    assert choice.digest_due_at is None
    connection.user.deactivated_at = utcnow()
    save(connection.user)
    choice_of(connection.user)
    assert not due_mails.are_due(DIGESTS)


def test_what_was_told_is_not_told_again_after_a_pause(connection: Connection) -> None:
    make_contact(connection.user)
    choice = choice_of(connection.user, digest="off", digest_due_at=None)
    users.save_profile(connection.user, "Alice", "", digest="weekly")
    assert utcnow() - choice.digest_until < timedelta(minutes=1)


def test_a_choice_that_is_none_is_refused(connection: Connection) -> None:
    with pytest.raises(InvalidFields) as refusal:
        users.save_profile(connection.user, "Alice", "", digest="hourly", lead_mails="x")
    assert set(refusal.value.errors) == {"digest", "lead_mails"}


def test_the_digest_says_what_needs_the_advisor(connection: Connection) -> None:
    choice_of(connection.user)
    lead = someone_signs_up(connection.user)
    lead.state = LeadState.REFUSED
    save(lead)
    [letter] = written()
    assert "ONE THING NEEDS YOU\nSalesforce refused the lead of Mei-Ling Chou. Nothing is lost." in letter.text


def test_a_new_lead_is_told_after_a_moment_and_once(connection: Connection) -> None:
    choice = choice_of(connection.user)
    someone_signs_up(connection.user)
    assert not due_mails.are_due(LEAD_MAILS)
    choice.leads_due_at = utcnow()
    save(choice)
    [letter] = written(LEAD_MAILS)
    assert letter.subject == "New lead: Mei-Ling Chou"
    assert "Mei-Ling Chou signed up on your page on" in letter.text
    assert "mei.chou" not in letter.text
    someone_signs_up(connection.user, "esi@fjord.example", "Esi", "Mensah")
    choice.leads_due_at = utcnow()
    save(choice)
    assert not due_mails.are_due(LEAD_MAILS), "the next mail waits for a quarter of an hour"


def test_a_mail_about_leads_leads_to_each_in_salesforce(connection: Connection) -> None:
    choice, host = choice_of(connection.user), connection.instance_url
    first = someone_signs_up(connection.user)
    first.state, first.salesforce_id, first.connection_id = LeadState.SENT, LEAD_ID, connection.id
    choice.leads_due_at = utcnow()
    save(first)
    [letter] = written(LEAD_MAILS)
    assert f"Open in Salesforce:\n{host}/{LEAD_ID}\n" in letter.text
    again = someone_signs_up(connection.user, "esi@fjord.example", "Esi", "Mensah")
    choice.leads_due_at, choice.leads_until = utcnow(), utcnow() - timedelta(hours=1)
    save(again)
    [letter] = written(LEAD_MAILS)
    assert letter.text.count(f"\n  {host}/{LEAD_ID}\n") == 1  # the other is not there yet


def test_many_leads_are_one_mail_and_those_for_review_are_none(connection: Connection) -> None:
    choice = choice_of(connection.user)
    for number in range(12):
        someone_signs_up(connection.user, f"c{number}@fjord.example", "Esi", f"Mensah {number}")
    someone_signs_up(connection.user, "last@fjord.example").state = LeadState.FOR_REVIEW
    choice.leads_due_at = utcnow()
    save(choice)
    [letter] = written(LEAD_MAILS)
    assert letter.subject == "12 new leads"
    assert "- and 2 more" in letter.text


@pytest.mark.parametrize(("wants", "subjects"), [("all", 2), ("refused", 1), ("off", 0)])
def test_advisors_choose_which_leads_are_told(connection: Connection, wants: str, subjects: int) -> None:
    choice = choice_of(connection.user, lead_mails=wants)
    someone_signs_up(connection.user)
    refused = someone_signs_up(connection.user, "esi@fjord.example", "Esi", "Mensah")
    refused.state, refused.changed_at = LeadState.REFUSED, utcnow()
    news.plan_mail(connection.user_id, utcnow() - news.WAIT)
    choice.leads_due_at = utcnow()
    save(refused)
    letters = written(LEAD_MAILS)
    expected = {2: ["2 new leads, 1 refused by Salesforce"], 1: ["Salesforce refused the lead of Esi Mensah"], 0: []}
    assert [letter.subject for letter in letters] == expected[subjects]
    assert choice.leads_due_at is None


def test_the_tick_plans_the_first_digest_of_new_advisors_alone(app: Flask) -> None:
    advisor = make_advisor()
    make_advisor(advisor.partner, deactivated_at=utcnow())
    assert (mail_choices.plan(), mail_choices.plan()) == (1, 0)
    assert db.session.get_one(MailChoice, advisor.id).digest_due_at is not None
