"""Passkeys: added, used, refused, removed; challenges that count once, for one person, purpose and browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from asapp.accounts import passkeys, second_factor
from asapp.accounts.passkeys import PasskeyAnswer, PasskeyQuestion, PasskeyRefused
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.vault import Vault
from asapp.messages.passkeys import WORDS, PasskeyWhy
from asapp.models import Action, AuditEntry, Passkey, PasskeyChallenge, PasskeyPurpose, User
from tests.conftest import make_config
from tests.factories import make_advisor, make_passkey, make_second_factor, org_access
from tests.mailing import send_waiting_mails
from tests.passkey_devices import PasskeyDevice
from tests.racing import race

SITE = passkeys.Site("asapp.example", "https://asapp.example")


@pytest.fixture
def alice(app: Flask) -> User:
    user = make_advisor()
    make_second_factor(user)
    return user


def vault() -> Vault:
    return org_access().vault


def device(**how: object) -> PasskeyDevice:
    return PasskeyDevice(SITE.origin, SITE.host, **how)  # type: ignore[arg-type]


def add(user: User, made_by: PasskeyDevice, name: str = "Work laptop") -> Passkey:
    token, options = passkeys.ask_for_new(user, SITE)
    return passkeys.add(user, name, PasskeyAnswer(token, made_by.make(options)), SITE, vault()).passkey


def ask(user: User) -> PasskeyQuestion:
    return passkeys.ask(user, PasskeyPurpose.LOG_IN, SITE)


def use(user: User, used: PasskeyDevice) -> None:
    token, options = ask(user)
    passkeys.log_in(user, PasskeyAnswer(token, used.use(options)), SITE)


def refused(try_it: Callable[[], object]) -> PasskeyWhy:
    with pytest.raises(PasskeyRefused) as refusal:
        try_it()
    db.session.rollback()
    assert WORDS[refusal.value.why]
    return refusal.value.why


def actions() -> list[tuple[str, dict[str, object]]]:
    db.session.rollback()
    return [(entry.action, entry.details) for entry in db.session.scalars(select(AuditEntry).order_by(AuditEntry.id))]


def test_several_are_added_named_used_renamed_and_removed(alice: User) -> None:
    laptop, key = device(), device(credential_id=b"another", counts=False)
    stored = add(alice, laptop, "  Work\nlaptop ")
    add(alice, key, "Blue key")
    assert [(each.name, each.last_used_at) for each in passkeys.list_of(alice)] == [
        ("Work laptop", None),
        ("Blue key", None),
    ]
    for each in (laptop, key, laptop, key):
        use(alice, each)
    db.session.refresh(stored)
    assert stored.sign_count == 2
    assert stored.last_used_at is not None
    passkeys.rename(alice, stored, "Old laptop")
    with pytest.raises(InvalidFields):
        passkeys.rename(alice, stored, " ")
    db.session.rollback()
    passkeys.remove(alice, stored, vault())
    assert [each.name for each in passkeys.list_of(alice)] == ["Blue key"]
    assert refused(lambda: use(alice, laptop)) == PasskeyWhy.UNKNOWN
    assert actions() == [
        *[(Action.PASSKEY_ADDED, {})] * 2,
        *[(Action.LOGGED_IN, {"second_step": "passkey"})] * 4,
        (Action.PASSKEY_RENAMED, {}),
        (Action.PASSKEY_REMOVED, {}),
        (Action.LOGIN_REFUSED, {"second_step": "unknown passkey"}),
    ]


def test_the_person_is_told_by_mail_of_each_that_is_added_or_removed(app: Flask, alice: User) -> None:
    passkey = add(alice, device())
    assert refused(lambda: add(alice, device())) == PasskeyWhy.TAKEN
    passkeys.remove(alice, passkey, vault())
    assert send_waiting_mails() == 2
    for letter, change in zip(app.extensions["mailman"].outbox, ("added", "removed"), strict=True):
        assert (letter.to, letter.subject) == ([alice.email], "Your second step at AdvisorStream was changed")
        assert f"a passkey was {change}." in letter.body


def test_the_options_name_the_site_the_person_and_the_passkeys_there_are(alice: User) -> None:
    add(alice, device())
    new = json.loads(passkeys.ask_for_new(alice, SITE).options)
    assert new["rp"] == {"name": "AdvisorStream", "id": "asapp.example"}
    assert (new["user"]["name"], new["user"]["displayName"]) == (alice.email, alice.name)
    assert new["authenticatorSelection"]["userVerification"] == "preferred"
    known = json.loads(ask(alice).options)
    assert known["rpId"] == "asapp.example"
    assert new["excludeCredentials"] == known["allowCredentials"] == [{"id": "YSBrZXk", "type": "public-key"}]
    assert len(known["challenge"]) == 86


def test_an_answer_counts_once_also_when_it_is_wrong(alice: User) -> None:
    mine = device(counts=False)
    add(alice, mine)
    token, options = ask(alice)
    answer = PasskeyAnswer(token, mine.use(options))
    passkeys.log_in(alice, answer, SITE)
    assert refused(lambda: passkeys.log_in(alice, answer, SITE)) == PasskeyWhy.LATE
    token, options = ask(alice)
    assert refused(lambda: passkeys.log_in(alice, PasskeyAnswer(token, "{}"), SITE)) == PasskeyWhy.INVALID
    assert refused(lambda: passkeys.log_in(alice, PasskeyAnswer(token, mine.use(options)), SITE)) == PasskeyWhy.LATE
    token, options = passkeys.ask_for_new(alice, SITE)
    assert refused(lambda: passkeys.add(alice, "x", PasskeyAnswer(token, ""), SITE, vault())) == PasskeyWhy.INVALID
    other = device(credential_id=b"other").make(options)
    assert refused(lambda: passkeys.add(alice, "x", PasskeyAnswer(token, other), SITE, vault())) == PasskeyWhy.LATE


def test_an_answer_sent_twice_at_once_counts_once(app: Flask, alice: User) -> None:
    mine = device(counts=False)
    add(alice, mine)
    user_id = alice.id
    token, options = passkeys.ask(alice, PasskeyPurpose.CONFIRM, SITE)
    answer = PasskeyAnswer(token, mine.use(options))

    def try_it() -> bool:
        try:
            passkeys.confirm(db.session.get_one(User, user_id), answer, SITE)
        except PasskeyRefused:
            return False
        return True

    assert sorted(race(app, try_it, try_it)) == [False, True]


def test_a_question_is_for_one_person_browser_purpose_and_five_minutes(alice: User) -> None:
    mine = device()
    add(alice, mine)
    bob = make_advisor(name="Bob Tanner")
    token, options = ask(alice)
    for whose, browser in ((bob, token), (alice, ""), (alice, "of another browser")):
        answer = PasskeyAnswer(browser, mine.use(options))
        assert refused(lambda whose=whose, answer=answer: passkeys.log_in(whose, answer, SITE)) == PasskeyWhy.LATE
    assert refused(lambda: passkeys.confirm(alice, PasskeyAnswer(token, mine.use(options)), SITE)) == PasskeyWhy.LATE
    token, options = ask(alice)
    db.session.execute(update(PasskeyChallenge).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert refused(lambda: passkeys.log_in(alice, PasskeyAnswer(token, mine.use(options)), SITE)) == PasskeyWhy.LATE


def test_a_passkey_of_another_person_opens_nothing(alice: User) -> None:
    bob, his = make_advisor(name="Bob Tanner"), device()
    make_second_factor(bob)
    add(bob, his)
    make_passkey(alice)
    assert refused(lambda: use(alice, his)) == PasskeyWhy.UNKNOWN
    assert refused(lambda: add(alice, his)) == PasskeyWhy.TAKEN


@pytest.mark.parametrize(
    "changes",
    [{"origin": "https://asapp.example.evil.test"}, {"type": "webauthn.create"}, {"challenge": "AAAA"}, {"origin": 7}],
)
def test_an_answer_for_another_place_is_refused(changes: dict[str, object], alice: User) -> None:
    mine = device()
    add(alice, mine)
    token, options = ask(alice)
    assert (
        refused(lambda: passkeys.log_in(alice, PasskeyAnswer(token, mine.use(options, **changes)), SITE))
        == PasskeyWhy.INVALID
    )


def test_another_key_or_host_under_the_same_name_is_refused(alice: User) -> None:
    add(alice, device())
    assert refused(lambda: use(alice, device())) == PasskeyWhy.INVALID
    elsewhere = PasskeyDevice(SITE.origin, "evil.test", credential_id=b"b")
    assert refused(lambda: add(alice, elsewhere)) == PasskeyWhy.INVALID


def test_a_copy_that_counts_again_from_before_is_refused(alice: User) -> None:
    mine = device()
    add(alice, mine)
    use(alice, mine)
    use(alice, mine)
    mine.count = 1
    assert refused(lambda: use(alice, mine)) == PasskeyWhy.COPIED
    mine.count, mine.counts = 0, False
    assert refused(lambda: use(alice, mine)) == PasskeyWhy.COPIED
    mine.count, mine.counts = 2**32 - 2, True
    use(alice, mine)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "7", "{", "[" * 5000, '{"id": 1}', "x" * 20_001, '{"id":"é","rawId":"é","response":{}}'],
)
def test_what_no_browser_sends_is_refused(text: str, alice: User) -> None:
    token, _ = ask(alice)
    assert refused(lambda: passkeys.log_in(alice, PasskeyAnswer(token, text), SITE)) == PasskeyWhy.INVALID
    token, _ = passkeys.ask_for_new(alice, SITE)
    assert (
        refused(lambda: passkeys.add(alice, "Laptop", PasskeyAnswer(token, text), SITE, vault())) == PasskeyWhy.INVALID
    )


def test_a_damaged_answer_is_refused_wherever_it_is_damaged(alice: User) -> None:
    mine = device()
    add(alice, mine)
    for asked, purpose in ((passkeys.ask_for_new(alice, SITE), "make"), (ask(alice), "use")):
        good = json.loads(getattr(mine, purpose)(asked.options))
        for part in good["response"]:
            for value in ("", "AAAA", good["response"][part][:-9], None, 7):
                bad = json.dumps(good | {"response": good["response"] | {part: value}})
                if purpose == "make":
                    token = passkeys.ask_for_new(alice, SITE).token
                    why = refused(
                        lambda token=token, bad=bad: passkeys.add(alice, "x", PasskeyAnswer(token, bad), SITE, vault())
                    )
                else:
                    token = ask(alice).token
                    why = refused(lambda token=token, bad=bad: passkeys.log_in(alice, PasskeyAnswer(token, bad), SITE))
                assert why == PasskeyWhy.INVALID


def test_twenty_are_the_most(alice: User) -> None:
    for n in range(passkeys.MOST):
        db.session.add(
            Passkey(user_id=alice.id, name=str(n), credential_id=f"{alice.id}-{n}", public_key="", sign_count=0)
        )
    db.session.commit()
    with pytest.raises(InvalidFields) as refusal:
        add(alice, device())
    assert "the most that are kept" in refusal.value.errors["name"]


@pytest.mark.parametrize("end", [lambda user: second_factor.remove(user, vault()), second_factor.reset])
def test_they_go_with_the_second_step_and_their_questions_too(end: Callable[[User], object], alice: User) -> None:
    add(alice, device())
    ask(alice)
    end(alice)
    assert passkeys.list_of(alice) == []
    assert db.session.scalar(select(func.count()).select_from(PasskeyChallenge)) == 0


def test_questions_that_no_one_answered_are_deleted(alice: User) -> None:
    ask(alice)
    db.session.execute(update(PasskeyChallenge).values(expires_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    ask(alice)
    passkeys.purge()
    assert db.session.scalar(select(func.count()).select_from(PasskeyChallenge)) == 1


@pytest.mark.parametrize(
    ("public_url", "site"),
    [
        ("https://asapp.example", SITE),
        ("https://asapp.example:443", SITE),
        ("https://asapp.example:8443", ("asapp.example", "https://asapp.example:8443")),
        ("http://localhost:80", ("localhost", "http://localhost")),
    ],
)
def test_the_site_is_named_as_browsers_name_it(public_url: str, site: tuple[str, str]) -> None:
    assert passkeys.site_of(make_config("sqlite://", public_url=public_url)) == site
