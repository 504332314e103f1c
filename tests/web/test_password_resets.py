"""Asking for a new password: the same work for every address, mails by a job, and no way for strangers to use up or end it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, event, func, select, update

from asapp.accounts import advisors, links, mail_outbox
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import AttemptCount, PasswordLink, PasswordLinkKind, User, WaitingMail
from tests.factories import PASSWORD, make_advisor, make_partner
from tests.mailing import send_waiting_mails

NEW = "seven quiet harbours"
HOME, STRANGERS = "203.0.113.1", "198.51.100.1"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(email="alice@northgate.example")


@pytest.fixture
def outbox(app: Flask) -> list[Any]:
    mailman = app.extensions["mailman"]
    mailman.outbox = []
    found: list[Any] = mailman.outbox
    return found


@pytest.fixture
def queues(app: Flask) -> Queues:
    found: Queues = app.extensions["asapp.queues"]
    return found


def ask(client: FlaskClient, email: str, network: str = HOME) -> int:
    sent = {"email": email}
    return client.post("/password/forgot", data=sent, environ_overrides={"REMOTE_ADDR": network}).status_code


def link_in(letter: Any) -> str:
    found = re.search(r"5000(/password/\S+)", letter.body)
    assert found
    return found.group(1)


def count_waiting() -> int:
    return db.session.scalar(select(func.count()).select_from(WaitingMail)) or 0


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect every statement that is sent to the database within the block."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        sent.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield sent
    event.remove(db.engine, "before_cursor_execute", note)


def test_a_known_and_an_unknown_address_do_the_same_work_before_the_answer(
    client: FlaskClient, alice: User, outbox: list[Any], queues: Queues
) -> None:
    gone = make_advisor(email="gone@northgate.example", deactivated_at=utcnow())
    work = []
    for email in (alice.email, "nobody@northgate.example", gone.email):
        with statements() as sent:
            assert ask(client, email) == 200
        work.append((sent, count_waiting(), len(queues.mails.get_job_ids())))
        db.session.execute(delete(WaitingMail))
        db.session.execute(delete(AttemptCount))
        db.session.commit()
        queues.redis.flushall()
    assert work[0] == work[1] == work[2]
    assert work[0][1:] == (1, 1)
    assert not any("users" in statement for statement in work[0][0])
    assert outbox == []


def test_the_mail_is_written_and_sent_by_the_job_and_nothing_stays_behind(
    client: FlaskClient, alice: User, outbox: list[Any]
) -> None:
    ask(client, alice.email)
    ask(client, "nobody@northgate.example")
    assert db.session.scalar(select(func.count()).select_from(PasswordLink)) == 0
    assert send_waiting_mails() == 1
    assert [letter.to for letter in outbox] == [[alice.email]]
    assert client.get(link_in(outbox[0])).status_code == 200
    assert count_waiting() == 0
    assert send_waiting_mails() == 0


def test_where_redis_is_away_the_mail_waits(client: FlaskClient, alice: User, redis_server: Any) -> None:
    redis_server.kill()
    try:
        assert ask(client, alice.email) == 200
    finally:
        redis_server.start()
    assert mail_outbox.are_due()
    assert send_waiting_mails() == 1
    assert not mail_outbox.are_due()


def test_a_stranger_ends_neither_an_invitation_nor_a_link_that_was_mailed(
    app: Flask, client: FlaskClient, outbox: list[Any]
) -> None:
    invited, token = advisors.invite("alice@northgate.example", "Alice Moreau", make_partner())
    ask(client, invited.email)
    send_waiting_mails()
    ask(app.test_client(), invited.email, STRANGERS)
    send_waiting_mails()
    paths = [f"/password/{token}", *map(link_in, outbox)]
    assert [client.get(path).status_code for path in paths] == [200, 200, 200]
    assert client.post(paths[1], data={"new": NEW}).status_code == 303
    assert [client.get(path).status_code for path in paths] == [410, 410, 410]


def test_a_second_invitation_replaces_the_first_and_leaves_a_reset_alone(client: FlaskClient, alice: User) -> None:
    reset = links.make_link(alice, PasswordLinkKind.RESET)
    first, second = (advisors.invite_again(alice) for _ in range(2))
    assert [links.find_person(token) is not None for token in (reset, first, second)] == [True, False, True]


def test_a_stranger_does_not_use_up_the_owners_mails(
    app: Flask, client: FlaskClient, alice: User, outbox: list[Any]
) -> None:
    stranger = app.test_client()
    for number in range(7):
        assert ask(stranger, alice.email, f"198.51.100.{number}") == 200
        send_waiting_mails()
    assert [ask(stranger, alice.email, STRANGERS) for _ in range(5)][-1] == 429
    assert ask(client, alice.email) == 200
    send_waiting_mails()
    assert len(outbox) == links.FREE_RESETS  # the mailbox isn't filled
    five_minutes_pass()
    assert send_waiting_mails() == 1  # one mail answers all that waited
    assert count_waiting() == 0
    assert client.post(link_in(outbox[-1]), data={"new": NEW}).status_code == 303


def five_minutes_pass() -> None:
    """The links grow older, and what waits is due."""
    for made in db.session.scalars(select(PasswordLink)):
        made.created_at -= links.RESET_GAP
    db.session.execute(update(WaitingMail).values(due_at=utcnow()))
    db.session.commit()


def test_asking_twice_at_once_is_answered_by_one_mail(client: FlaskClient, alice: User, outbox: list[Any]) -> None:
    ask(client, alice.email)
    ask(client, alice.email)
    assert send_waiting_mails() == len(outbox) == 1
    assert count_waiting() == 0


def test_a_network_asks_five_times_for_an_account_and_twenty_times_in_all(
    client: FlaskClient, alice: User, outbox: list[Any]
) -> None:
    assert [ask(client, alice.email) for _ in range(6)] == [200] * 5 + [429]
    assert [ask(client, f"nobody{n}@northgate.example") for n in range(16)] == [200] * 15 + [429]
    assert ask(client, alice.email, "203.0.113.9") == 200


def test_an_ipv6_site_asks_thirty_times_for_an_account(client: FlaskClient, alice: User, outbox: list[Any]) -> None:
    codes = [ask(client, alice.email, f"2001:db8:7:{n}::1") for n in range(7) for _ in range(5)]
    assert codes == [200] * 30 + [429] * 5
    assert ask(client, alice.email, "2001:db8:8::1") == 200


def test_a_device_that_was_logged_in_asks_where_its_network_may_not(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    client.post("/logout")
    stranger = app.test_client()
    assert [ask(stranger, alice.email) for _ in range(6)][-1] == 429
    assert [ask(client, alice.email) for _ in range(6)] == [200] * 5 + [429]


def test_a_mail_that_is_not_taken_comes_again_with_the_same_link_until_it_would_be_too_late(
    client: FlaskClient, alice: User, outbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> int:
        raise ConnectionRefusedError

    ask(client, alice.email)
    with monkeypatch.context() as away:
        away.setattr("flask_mailman.backends.locmem.EmailBackend.send_messages", refuse)
        assert send_waiting_mails() == 0
    assert send_waiting_mails() == 0  # a minute later, not before
    assert "asapp_page_mails_waiting 1.0" in client.get("http://127.0.0.1:8000/metrics").text
    db.session.execute(update(WaitingMail).values(due_at=utcnow()))
    db.session.commit()
    assert send_waiting_mails() == 1
    assert db.session.scalar(select(func.count()).select_from(PasswordLink)) == 1
    ask(client, alice.email)
    db.session.execute(update(WaitingMail).values(give_up_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    assert send_waiting_mails() == 0
    assert count_waiting() == 0


def test_a_mail_whose_sender_was_killed_goes_out_when_the_lease_is_over(
    client: FlaskClient, alice: User, outbox: list[Any]
) -> None:
    ask(client, alice.email)
    links.answer_resets(client.application.extensions["asapp.vault"], "http://127.0.0.1:5000")
    db.session.execute(update(WaitingMail).values(lease="x" * 32, lease_until=utcnow() + timedelta(minutes=5)))
    db.session.commit()
    assert send_waiting_mails() == 0
    db.session.execute(update(WaitingMail).values(lease_until=utcnow()))
    db.session.commit()
    assert send_waiting_mails() == 1
