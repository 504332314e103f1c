"""Mails about alerts: one each, to the right people, in time; retried after a refusal, and never in quick succession."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from flask import Flask

from asapp.alerts import alerts, mail_delivery, mail_text
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.mail import LEASE, Fate, Letter
from asapp.models import Alert, AlertMail, CheckVerdict, Connection, Departure, PartnerCheck, RunStatus, User
from asapp.sync import departures
from tests.factories import (
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_run,
    make_synced_connection,
    save,
)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
PUBLIC_URL = "https://my.example.com"


class FakeMailServer:
    """A fake mail server that keeps the mails that it accepts."""

    def __init__(self, fate: Fate = Fate.TAKEN, while_at_it: Callable[[], None] = lambda: None) -> None:
        self.fate = fate
        self.offered: list[Letter] = []
        self.while_at_it = while_at_it

    def __call__(self, letter: Letter) -> Fate:
        assert not db.session.registry().in_transaction()  # no transaction waits while the server is slow
        self.offered.append(letter)
        self.while_at_it()
        return self.fate

    @property
    def to(self) -> list[str]:
        return [letter.to for letter in self.offered]


@pytest.fixture
def server(app: Flask) -> FakeMailServer:
    return FakeMailServer()


def tick() -> None:
    """Do what a tick and its job do, except sending."""
    with writing():
        alerts.update_alerts()
    db.session.expire_all()


def send(server: FakeMailServer) -> int:
    with writing():
        sent = mail_delivery.send_due(server, PUBLIC_URL)
    db.session.expire_all()
    return sent


def time_passes(how_long: timedelta) -> None:
    """Move all times of mails that far into the past."""
    for mail in db.session.query(AlertMail):
        for column in ("due_at", "sent_at", "lease_until"):
            when: datetime | None = getattr(mail, column)
            setattr(mail, column, when - how_long if when else None)
    db.session.commit()


def set_status(connection: Connection, status: str) -> None:
    connection.status = status
    db.session.commit()
    tick()


@pytest.fixture
def broken(app: Flask) -> Connection:
    connection = make_connection(status="needs_reconnect", status_reason="permission_withdrawn")
    tick()
    return connection


def test_one_mail_goes_out(broken: Connection, server: FakeMailServer) -> None:
    assert mail_delivery.are_due()
    assert send(server) == 1
    assert not mail_delivery.are_due()
    tick()
    assert send(server) == 0
    assert server.to == [broken.user.email]


def test_a_state_that_is_over_is_not_mailed(broken: Connection, server: FakeMailServer) -> None:
    broken.status = "connected"  # since the last tick
    db.session.commit()
    assert send(server) == 0
    assert server.offered == []


@pytest.mark.parametrize("deed", ["deactivated", "moved", "disconnected"])
def test_a_person_who_is_gone_gets_no_mail(broken: Connection, server: FakeMailServer, deed: str) -> None:
    if deed == "deactivated":
        broken.user.deactivated_at = utcnow()
    elif deed == "moved":
        broken.user.partner_id = make_partner("Elsewhere").id
    else:
        broken.status = "disconnected"
    db.session.commit()
    assert not mail_delivery.are_due() or deed == "disconnected"
    assert send(server) == 0


def test_an_admin_who_was_deactivated_gets_no_mail(app: Flask, server: FakeMailServer) -> None:
    ada = make_admin()
    make_partner(paused_until=utcnow() + HOUR, paused_why="share_used_up")
    tick()
    ada.deactivated_at = utcnow()
    db.session.commit()
    assert send(server) == 0


def test_who_was_told_is_told_once_that_it_is_over(broken: Connection, server: FakeMailServer) -> None:
    send(server)
    set_status(broken, "connected")
    assert send(server) == 0  # it may break again at once
    time_passes(16 * MINUTE)
    assert send(server) == 1
    assert server.offered[1].subject == "Your Salesforce account is connected again"
    assert "there is nothing left to do" in server.offered[1].text
    time_passes(48 * HOUR)
    assert send(server) == 0


@pytest.mark.parametrize("deed", ["never told", "disconnected", "firm disabled", "broken again"])
def test_what_did_not_end_well_or_was_never_mailed_has_no_mail_about_its_end(
    broken: Connection, server: FakeMailServer, deed: str
) -> None:
    if deed != "never told":
        assert send(server) == 1
    broken.partner.is_enabled = deed != "firm disabled"
    set_status(broken, "disconnected" if deed == "disconnected" else "connected")
    if deed == "broken again":
        set_status(broken, "needs_reconnect")
    time_passes(HOUR)
    assert send(server) == 0


@pytest.mark.parametrize("is_decided", [False, True])
def test_a_held_sync_that_ended_by_itself_is_told_and_a_decision_is_not(
    app: Flask, server: FakeMailServer, is_decided: bool
) -> None:
    connection = make_synced_connection(make_advisor())
    contact = make_contact(connection)
    gone = Departure(
        connection_id=connection.id,
        salesforce_id=contact.salesforce_id,
        reason="reassigned",
        state="held",
        found_in_run_id=make_run(connection, status="held").id,
        was_read=False,
    )
    save(gone)
    tick()
    assert send(server) == 1
    if is_decided:
        departures.discard(connection)
    else:
        db.session.delete(gone)
        db.session.commit()
    tick()
    time_passes(16 * MINUTE)
    assert send(server) == (0 if is_decided else 1)
    assert is_decided or server.offered[1].subject == "Nothing waits for your decision any more"


def test_a_second_break_is_mailed_again_after_the_quiet_time(broken: Connection, server: FakeMailServer) -> None:
    send(server)
    for _ in range(5):
        set_status(broken, "connected")
        set_status(broken, "needs_reconnect")
        time_passes(30 * MINUTE)
        assert send(server) == 0
    time_passes(4 * HOUR)  # it is still broken, and the last mail was six and a half hours ago
    assert send(server) == 1
    assert len(server.offered) == 2
    time_passes(48 * HOUR)
    assert send(server) == 0  # one mail for each change of state


def test_what_comes_together_goes_in_one_mail_and_what_comes_soon_after_waits(
    app: Flask, server: FakeMailServer
) -> None:
    ada = make_admin()
    first, second, third = (make_partner(name) for name in ("Northgate", "Harbour", "Fjord"))
    for firm in (first, second):
        firm.paused_until, firm.paused_why = utcnow() + HOUR, "share_used_up"
    db.session.commit()
    tick()
    assert send(server) == 1
    assert server.to == [ada.email]
    assert server.offered[0].subject == "2 things to look at in AdvisorStream"
    assert "Northgate" in server.offered[0].text
    assert "Harbour" in server.offered[0].text
    third.paused_until, third.paused_why = utcnow() + HOUR, "org_nearly_full"
    db.session.commit()
    tick()
    assert send(server) == 0
    time_passes(16 * MINUTE)
    assert send(server) == 1
    assert server.offered[1].subject == "Fjord: Salesforce syncs pause"


def test_a_server_that_refuses_is_asked_again_at_growing_intervals(broken: Connection, server: FakeMailServer) -> None:
    server.fate = Fate.REFUSED
    waits = []
    for _ in range(4):
        assert send(server) == 0
        assert send(server) == 0  # not before its time
        due_at = db.session.query(AlertMail).one().due_at
        assert due_at
        waits.append(round((due_at - utcnow()) / MINUTE))
        time_passes(timedelta(minutes=waits[-1], seconds=5))
    assert waits == [1, 2, 4, 8]
    assert len(server.offered) == 4
    server.fate = Fate.TAKEN
    assert send(server) == 1
    assert mail_delivery.wait_of(50) == 6 * HOUR


def test_a_refused_address_does_not_stop_the_other_mails(broken: Connection, server: FakeMailServer) -> None:
    make_connection(status="needs_reconnect")
    tick()
    server.fate = Fate.REFUSED
    send(server)
    assert len(set(server.to)) == 2


def test_a_server_that_is_away_is_tried_once_and_not_for_each_mail(broken: Connection, server: FakeMailServer) -> None:
    for _ in range(3):
        make_connection(status="needs_reconnect")
    tick()
    server.fate = Fate.AWAY
    send(server)
    send(server)
    assert len(server.offered) == 1
    assert mail_delivery.count_waiting(db.session()) == 1
    server.fate = Fate.TAKEN
    time_passes(61 * timedelta(seconds=1))
    assert send(server) == 4
    assert len(set(server.to)) == 4
    assert mail_delivery.count_waiting(db.session()) == 0


class SenderDied(BaseException):
    pass


def test_who_dies_between_sending_and_writing_it_down_sends_again_after_the_lease(
    broken: Connection, server: FakeMailServer
) -> None:
    """This is deliberate: an alert that comes twice is better than one that never comes."""

    def die() -> None:
        raise SenderDied

    server.while_at_it = die
    with pytest.raises(SenderDied):
        send(server)
    db.session.rollback()
    server.while_at_it = lambda: None
    assert send(server) == 0  # the other worker may still be sending
    time_passes(LEASE)
    assert send(server) == 1
    assert len(server.offered) == 2


def test_two_workers_at_once_send_one(app: Flask, broken: Connection, server: FakeMailServer) -> None:
    other = make_connection(status="needs_reconnect")
    addresses = sorted((broken.user.email, other.user.email))
    tick()
    together = Barrier(2)
    db.session.remove()

    def work() -> None:
        with app.app_context():
            together.wait(10)
            send(server)
            db.session.remove()

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(server.to) == addresses


def test_a_worker_that_waited_for_a_row_finds_it_claimed(app: Flask, broken: Connection) -> None:
    claimed: list[mail_delivery.MailRound | None] = []

    def come_second() -> None:
        with app.app_context(), writing():
            claimed.append(mail_delivery.claim(utcnow()))
            db.session.remove()

    second = Thread(target=come_second)
    with writing():
        db.session.query(AlertMail).update({"lease": "first", "lease_until": utcnow() + LEASE})
        second.start()
        second.join(0.5)
        assert second.is_alive()  # it has found the row unclaimed, and waits for our lock
        db.session.commit()
    second.join(30)
    assert claimed == [None]
    assert db.session.query(AlertMail).one().lease == "first"


def test_two_workers_that_found_the_same_mail_do_not_both_claim_it(broken: Connection) -> None:
    with writing():
        assert mail_delivery.claim(utcnow()) is not None
        assert mail_delivery.claim(utcnow()) is None


def test_a_state_that_ends_while_its_mail_is_sent_counts_as_mailed(broken: Connection, server: FakeMailServer) -> None:
    def fix() -> None:
        broken.status = "connected"
        db.session.commit()
        alerts.update_alerts()

    server.while_at_it = fix
    assert send(server) == 1
    mail = db.session.query(AlertMail).one()
    assert (mail.sent_at is not None, mail.due_at, mail.lease) == (True, None, None)


def test_a_connection_that_is_removed_while_its_mail_is_written_does_no_harm(
    broken: Connection, server: FakeMailServer
) -> None:
    with writing():
        mine = mail_delivery.claim(utcnow())
        assert mine is not None
        db.session.query(Alert).delete()
        db.session.commit()
        assert mail_delivery.send(mine, server, PUBLIC_URL) is Fate.REFUSED
    assert server.offered == []


# The texts


def letter_to(user: User, server: FakeMailServer) -> Letter:
    tick()
    send(server)
    (letter,) = [each for each in server.offered if each.to == user.email]
    assert "None" not in letter.text
    assert "{" not in letter.text
    assert letter.text.startswith(f"Hello {user.name},\n\n")
    assert letter.text.rstrip().endswith("\nAdvisorStream")
    assert "\n\n\n" not in letter.text
    return letter


ADVISORS_PAGE = f"{PUBLIC_URL}{mail_text.INTEGRATIONS}"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("permission_withdrawn", "Press Connect Account and log in as the same Salesforce user."),
        ("inactive_user", "Text for your Salesforce admin:"),
    ],
)
def test_reconnect(app: Flask, server: FakeMailServer, reason: str, words: str) -> None:
    alice = make_advisor()
    make_connection(alice, status="needs_reconnect", status_reason=reason)
    letter = letter_to(alice, server)
    assert letter.subject == "Your Salesforce account has to be connected again"
    for said in (
        words,
        ADVISORS_PAGE,
        "Your lists stopped following Salesforce on ",
        "Take care: anyone who opted out",
    ):
        assert said in letter.text


def test_opt_outs_soon(app: Flask, server: FakeMailServer) -> None:
    alice = make_advisor()
    until = utcnow() + 20 * HOUR
    connection = make_synced_connection(alice, opt_outs_known_until=until)
    make_run(connection, RunStatus.FAILED, error_code="server_unavailable")
    letter = letter_to(alice, server)
    assert letter.subject == "Your Salesforce contacts are about to become inactive"
    for said in (
        f"has to succeed by {until.day} {until:%B %Y, %H:%M} UTC",
        "The last sync failed: Salesforce is not available.",
        "Sync Account tries again",
        ADVISORS_PAGE,
    ):
        assert said in letter.text


@pytest.mark.parametrize(
    ("columns", "is_enabled", "words"),
    [
        ({}, True, "Sync Account tries again"),
        ({"status": "needs_reconnect"}, True, "connect your Salesforce account again"),
        ({}, False, "Salesforce is switched off for Northgate Wealth. Ask your AdvisorStream contact"),
    ],
)
def test_opt_outs_unknown(
    app: Flask, server: FakeMailServer, columns: dict[str, str], is_enabled: bool, words: str
) -> None:
    alice = make_advisor(make_partner(is_enabled=is_enabled))
    make_synced_connection(alice, opt_outs_known_until=utcnow() - HOUR, **columns)
    letter = letter_to(alice, server)
    assert "so nothing is sent to contacts from Salesforce" in letter.text
    assert words in letter.text


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("share_used_up", "has set a part of its daily calls aside"),
        ("org_nearly_full", "have used 90% of them"),
        ("request_limit", "and the limit is reached"),
    ],
)
def test_paused(app: Flask, server: FakeMailServer, why: str, words: str) -> None:
    ada = make_admin()
    firm = make_partner(paused_until=utcnow() + HOUR, paused_why=why)
    letter = letter_to(ada, server)
    assert letter.subject == "Northgate Wealth: Salesforce syncs pause"
    assert words in letter.text
    assert f"{PUBLIC_URL}/admin/board?firm={firm.slug}" in letter.text


@pytest.mark.parametrize(("code", "words"), [("key", "Consumer Key"), ("secret", "Consumer Secret")])
def test_app_refused(app: Flask, server: FakeMailServer, code: str, words: str) -> None:
    ada, firm = make_admin(), make_partner()
    make_synced_connection(make_advisor(firm))
    save(PartnerCheck(partner_id=firm.id, code=code, verdict=CheckVerdict.BAD, why=f"bad_{code}"))
    letter = letter_to(ada, server)
    assert letter.subject == "Northgate Wealth: Salesforce refuses our app"
    assert f"no longer accepts the {words} that is stored" in letter.text
    assert f"{PUBLIC_URL}/admin/partners/{firm.slug}\n" in letter.text


def test_a_firm_that_has_moved(app: Flask, server: FakeMailServer) -> None:
    ada, firm = make_admin(), make_partner()
    make_synced_connection(make_advisor(firm))
    save(
        PartnerCheck(
            partner_id=firm.id, code="host", verdict=CheckVerdict.BAD, why="moved", detail="northgate.my.salesforce.com"
        )
    )
    letter = letter_to(ada, server)
    assert letter.subject == "Northgate Wealth: its Salesforce has moved"
    assert "northgate.my.salesforce.com redirects us" in letter.text
    assert f"{PUBLIC_URL}/admin/partners/{firm.slug}\n" in letter.text


def test_runs_fail(app: Flask, server: FakeMailServer) -> None:
    ada, firm = make_admin(), make_partner()
    for failure in ("api_disabled", "server_unavailable", "server_unavailable"):
        make_synced_connection(make_advisor(firm), failures_in_a_row=2, last_failure=failure)
    letter = letter_to(ada, server)
    assert letter.subject == "Northgate Wealth: syncs fail"
    assert "fail: 3 of its connections" in letter.text
    assert "Most often: Salesforce is not available." in letter.text


def test_the_pages_that_mails_link_to_are_there(app: Flask) -> None:
    router = app.url_map.bind("localhost")
    pages = [page.split("?")[0] for page in (mail_text.INTEGRATIONS, mail_text.FIRM, mail_text.BOARD)]
    assert [router.match(page)[0] for page in pages] == ["integrations.index", "partners.show", "board.index"]


def test_each_kind_has_its_words(app: Flask) -> None:
    kinds = {path.stem for path in Path("templates/mail/alerts").glob("[a-z]*.txt")}
    assert kinds == {*mail_text.OF_CONNECTION, *mail_text.OF_PARTNER}
