"""Causes in Salesforce: a change in the org opens the alert, and undoing it there closes the alert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import update

from asapp.alerts import alerts, mail_delivery
from asapp.connections.api_budget import add_call
from asapp.connections.tokens import StoredTokens
from asapp.contacts import removal
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.mail import Fate, Letter
from asapp.leads import decisions, sign_up_page
from asapp.messages.failures import FixedBy
from asapp.models import AlertMail, Connection, Lead, LeadState, Partner, PartnerCheck, User
from asapp.panel.load import explain_run
from asapp.partners import checks
from asapp.salesforce.errors import Misconfigured
from orgsim import Answer, Running
from tests.connecting import KEY as DESK_KEY
from tests.connecting import ConnectingDesk
from tests.factories import make_admin, make_advisor, make_synced_connection
from tests.signing_up import ask_no_one, make_page, someone_signs_up
from tests.syncing import KEY, SECRET, Office, contacts_here


@pytest.fixture
def ada(app: Flask) -> User:
    return make_admin()


@pytest.fixture
def office(app: Flask, org: Running, ada: User) -> Office:
    office = Office(org)
    office.fill(30)
    assert office.sync().is_complete
    return office


def check_alerts() -> dict[str, int]:
    """Check for alerts as the tick does; return the open ones."""
    with writing():
        alerts.update_alerts()
    db.session.expire_all()
    return {kind: number for kind, number in alerts.count_open(db.session()).items() if number}


def sent() -> list[Letter]:
    letters: list[Letter] = []

    def post(letter: Letter) -> Fate:
        letters.append(letter)
        return Fate.TAKEN

    with writing():
        mail_delivery.send_due(post, "https://my.example.com")
    db.session.expire_all()
    return letters


def end_sessions(office: Office) -> None:
    """End all sessions, so that the next call needs the refresh token, key and secret."""
    db.session.rollback()
    office.org.expire_sessions()


def test_a_token_that_was_revoked_at_salesforce(office: Office) -> None:
    assert check_alerts() == {}
    office.org.revoke_approvals()
    end_sessions(office)
    assert office.sync().is_failed
    assert check_alerts() == {"reconnect": 1}
    (letter,) = sent()
    assert letter.to == office.advisor.email
    tokens = office.org.issue_tokens(office.user, KEY)
    secrets = [tokens["access_token"], tokens["refresh_token"], SECRET, KEY, "fjord.example"]
    assert not any(secret in letter.text for secret in secrets)

    connection = office.reload(office.connection)
    vault = office.workplace().access.vault
    connection.seal(vault, "access_token_sealed", tokens["access_token"])
    connection.seal(vault, "refresh_token_sealed", tokens["refresh_token"])
    connection.status, connection.token_version = "connected", connection.token_version + 1
    office.save()
    assert office.sync().is_complete
    assert check_alerts() == {}


def test_a_secret_that_was_changed_at_salesforce(office: Office, ada: User) -> None:
    office.org.change_app(KEY, secret="rotated")
    assert office.sync().is_complete  # the session lasts a while
    assert check_alerts() == {}
    end_sessions(office)
    run = office.sync()
    assert run.error_code == "bad_secret"
    assert check_alerts() == {"app_refused": 1}
    (letter,) = sent()
    assert letter.to == ada.email
    assert "Consumer Secret" in letter.text
    assert not any(secret in letter.text for secret in (SECRET, "rotated", KEY))
    assert db.session.query(PartnerCheck.verdict).filter_by(code="secret").scalar() == "bad"

    office.org.change_app(KEY, secret=SECRET)  # put back at the org: the next renewal shows it
    assert office.sync().is_complete
    assert check_alerts() == {}
    assert db.session.query(PartnerCheck.verdict).filter_by(code="secret").scalar() == "good"


def test_a_refusal_that_is_answered_again_and_again_keeps_its_moment(office: Office) -> None:
    office.org.change_app(KEY, secret="rotated")
    end_sessions(office)
    office.sync()
    first = db.session.query(PartnerCheck.checked_at).filter_by(code="secret").scalar()
    office.sync()
    assert db.session.query(PartnerCheck.checked_at).filter_by(code="secret").scalar() == first


@pytest.mark.parametrize("asked", ["composite", "token_refresh"])
def test_an_org_whose_host_sends_us_elsewhere(office: Office, ada: User, asked: str) -> None:
    """The data host or the log-in host redirects: the advisor gets a text to forward, and admins see that the firm has moved."""
    fault = office.org.trouble.add("redirect", kind=asked, location="https://new.my.salesforce.com/", status=302)
    end_sessions(office)
    run = office.sync()
    assert run.error_code == "redirected"
    explained = explain_run(office.connection.partner, office.connection, run)
    assert explained is not None
    assert (explained.headline, explained.fixed_by) == (
        "Your firm's Salesforce has moved to another address.",
        FixedBy.FIRM_ADMIN,
    )
    assert "current My Domain" in explained.forward
    host = db.session.query(PartnerCheck).filter_by(code="host").one()
    assert (host.verdict, host.why) == ("bad", "moved")
    assert check_alerts() == {"app_refused": 1}
    (letter,) = sent()
    assert letter.to == ada.email
    assert "has moved to another address" in letter.text
    assert office.reload(office.connection).is_connected

    fault.remove()
    assert office.sync().is_complete
    assert check_alerts() == {}
    assert db.session.query(PartnerCheck.verdict).filter_by(code="host").scalar() == "good"


@pytest.mark.parametrize(
    ("error", "description", "code", "headline"),
    [
        ("invalid_grant", "ip restricted", "ip_restricted", "Salesforce refuses our address or this hour."),
        ("invalid_grant", "inactive organization", "inactive_org", "Your firm's Salesforce is locked or closed."),
    ],
)
def test_what_the_firms_admin_has_to_fix_asks_no_one_to_reconnect(
    office: Office, error: str, description: str, code: str, headline: str
) -> None:
    body = {"error": error, "error_description": description}
    fault = office.org.trouble.add(Answer(400, body), kind="token_refresh")
    end_sessions(office)
    for _ in range(2):
        run = office.sync()
        assert run.error_code == code
        db.session.execute(update(Connection).values(unknown_refusals_since=utcnow() - timedelta(hours=2)))
        db.session.commit()
    explained = explain_run(office.connection.partner, office.connection, run)
    assert explained is not None
    assert (explained.headline, explained.fixed_by) == (headline, FixedBy.FIRM_ADMIN)
    assert explained.forward
    assert office.reload(office.connection).is_connected
    assert check_alerts() == {}
    fault.remove()
    assert office.sync().is_complete


def test_a_session_that_is_locked_to_another_address(office: Office) -> None:
    """Salesforce gives new tokens and refuses each of them."""
    office.org.trouble.add("session_expired", kind="composite")
    run = office.sync()
    assert run.error_code == "api_access_blocked"
    explained = explain_run(office.connection.partner, office.connection, run)
    assert explained is not None
    assert "Session Settings › “Lock sessions to the IP address from which they originated”" in explained.forward
    assert "IP Relaxation" in explained.forward


def test_the_new_secret_ends_it(app: Flask, org: Running, ada: User) -> None:
    desk = ConnectingDesk(org)
    desk.connect()
    desk.org.change_app(DESK_KEY, secret="rotated")
    refuse_renewal(desk)
    assert check_alerts() == {"app_refused": 1}
    desk.partner.seal(desk.access.vault, "pending_secret_sealed", "rotated")
    db.session.commit()
    checks.run_checks(desk.partner, desk.access)
    assert check_alerts() == {}


def test_a_refusal_of_the_old_secret_says_nothing_about_the_new_one(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    desk.connect()
    desk.org.change_app(DESK_KEY, secret="rotated")

    def replaced_meanwhile() -> None:
        db.session.execute(update(Partner).values(app_version=Partner.app_version + 1))
        db.session.commit()

    refuse_renewal(desk, replaced_meanwhile)
    assert check_alerts() == {}


def refuse_renewal(desk: ConnectingDesk, meanwhile: Callable[[], None] = lambda: None) -> None:
    connection_id = desk.connection().id
    db.session.rollback()
    source = StoredTokens(connection_id, desk.access)
    lease = source._claim(source.access_token())
    assert lease is not None
    meanwhile()
    with pytest.raises(Misconfigured):
        source._use(lease)


def test_an_allowance_that_is_used_up(office: Office, ada: User) -> None:
    office.org.use_up_allowance()
    assert office.sync().error_code == "request_limit"
    assert check_alerts() == {"paused": 1}
    (letter,) = sent()
    assert (letter.to, letter.subject) == (ada.email, "Northgate Wealth: Salesforce syncs pause")
    office.org.restore_allowance()
    assert office.sync().is_complete
    assert check_alerts() == {}


def test_our_own_share_that_is_used_up(office: Office, ada: User) -> None:
    partner = office.connection.partner
    partner.org_calls_allowed, partner.api_share_percent = 100, 1
    for _ in range(3):
        add_call(db.session(), partner.id, utcnow())
    office.save()
    assert office.sync().error_code == "share_used_up"
    assert check_alerts() == {"paused": 1}
    assert "a part of its daily calls" in sent()[0].text


def test_salesforce_fails_for_a_whole_firm_and_comes_back(office: Office, ada: User) -> None:
    office.org.trouble.add("server_unavailable_html")
    assert office.sync().is_failed
    assert check_alerts() == {}  # one of one: the cause may be that person's alone
    copy_connection(office, 2)
    assert check_alerts() == {"runs_fail": 1}
    assert "Most often: Salesforce is not available." in sent()[0].text
    office.org.trouble.clear()
    assert office.sync().is_complete
    assert check_alerts() == {}


def copy_connection(office: Office, times: int) -> None:
    """Make colleagues with the same problem."""
    like = office.reload(office.connection)
    for _ in range(times):
        make_synced_connection(
            make_advisor(like.partner), failures_in_a_row=like.failures_in_a_row, last_failure=like.last_failure
        )


def test_opt_outs_that_can_no_longer_be_read_open_an_alert(office: Office) -> None:
    office.org.hide_field("Contact", "HasOptedOutOfEmail")
    assert office.sync().error_code == "opt_out_hidden"
    assert check_alerts() == {"opt_outs_unknown": 1}
    (letter,) = sent()
    assert "The last sync failed: Your Salesforce user can't see who has opted out of email." in letter.text
    office.org.show_field("Contact", "HasOptedOutOfEmail")
    assert office.sync().is_complete
    assert check_alerts() == {}


def test_a_good_sync_in_time_prevents_the_mail(office: Office) -> None:
    db.session.execute(update(Connection).values(opt_outs_known_until=utcnow() + timedelta(hours=5)))
    db.session.commit()
    assert check_alerts() == {"opt_outs_soon": 1}
    assert office.sync().is_complete
    assert sent() == []
    assert check_alerts() == {}


def test_a_held_sync_is_mailed_and_once_more_after_a_day(office: Office) -> None:
    ids = [str(contact.salesforce_id) for contact in contacts_here(office.connection)]
    for salesforce_id in ids[:12]:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    assert check_alerts() == {"held": 1}
    (letter,) = sent()
    assert (letter.to, letter.subject) == (office.advisor.email, "12 contacts wait for your decision")
    assert "Any that Salesforce no longer shows become inactive 7 days after we last saw them" in letter.text
    assert "fjord.example" not in letter.text
    assert sent() == []
    a_day_passes()
    (reminder,) = sent()
    assert reminder.subject == "Reminder: 12 contacts wait for your decision"
    a_day_passes()
    assert sent() == []
    office.discard()
    assert check_alerts() == {}


@pytest.mark.parametrize("decision", ["approve", "discard"])
def test_a_held_sync_that_was_decided_is_not_mailed_again(office: Office, decision: str) -> None:
    for contact in contacts_here(office.connection)[:12]:
        office.org.give(str(contact.salesforce_id), office.colleague)
    assert office.sync().is_held
    check_alerts()
    assert len(sent()) == 1
    getattr(office, decision)()
    assert check_alerts() == {}
    a_day_passes()
    assert sent() == []


def a_day_passes() -> None:
    """Move all times of mails a day into the past."""
    for mail in db.session.query(AlertMail):
        mail.due_at = mail.due_at - timedelta(hours=24) if mail.due_at else None
        mail.sent_at = mail.sent_at - timedelta(hours=24) if mail.sent_at else None
    db.session.commit()


def flood(advisor: User) -> None:
    """Let more people sign up than the advisor's page accepts in a day."""
    make_page(advisor).daily_limit = 2
    db.session.commit()
    for number in range(5):
        someone_signs_up(advisor, f"p{number}@example.com")


def test_more_sign_ups_than_the_page_takes_in_a_day(app: Flask, ada: User) -> None:
    advisor = make_synced_connection(make_advisor(name="Amara Okafor")).user
    assert check_alerts() == {}
    flood(advisor)

    assert check_alerts() == {"flood": 1}
    (letter,) = sent()
    assert letter.to == advisor.email
    assert "its limit of 2 people for the day. 3 more have signed up" in letter.text
    assert "https://my.example.com/leads" in letter.text
    assert "example.com/settings" not in letter.text
    assert "p0@" not in letter.text

    decisions.send_reviewed(advisor, ask_no_one)
    assert check_alerts() == {}
    assert sent() == []


@pytest.mark.parametrize("end", ["the limit is raised", "the day is over", "they were erased", "they were deleted"])
def test_a_flood_that_is_over(app: Flask, end: str) -> None:
    advisor = make_synced_connection(make_advisor(name="Amara Okafor")).user
    flood(advisor)
    assert check_alerts() == {"flood": 1}

    page = make_page(advisor)
    if end == "the limit is raised":
        page.daily_limit = 5
    elif end == "the day is over":
        page.day_began_at = utcnow() - timedelta(hours=24, seconds=1)
    elif end == "they were deleted":
        waiting = db.session.query(Lead).filter_by(state=LeadState.FOR_REVIEW)
        removal.remove_contacts(advisor.id, [lead.contact_id or 0 for lead in waiting])
    else:
        for number in range(2, 5):
            decisions.erase_lead(db.session.query(Lead).filter_by(email=f"p{number}@example.com").one())
    db.session.commit()

    assert check_alerts() == {}


def test_who_was_filling_in_the_form_of_a_page_that_was_paused_is_no_flood(app: Flask) -> None:
    advisor = make_synced_connection(make_advisor(name="Amara Okafor")).user
    sign_up_page.pause(make_page(advisor))
    someone_signs_up(advisor)

    assert check_alerts() == {}
