"""How often something may be tried within an hour: passwords at the log-in, and mails with a link for a new one.

Counts are in the database, so that nothing starts again when Redis is down or comes back empty. A try is counted before
the password is checked, so that guesses sent at once all count; if it was right, the count is reduced again.

A stranger must not lock the owner out. An account's wrong passwords are counted for each network that they come from, and
a device on which the person logged in before has a count of its own. Many wrong passwords from everywhere only reduce
each further network's limit; a fresh network always has some tries, unless it is one of many of one IPv6 site.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Network
from typing import NamedTuple

from sqlalchemy import case, delete, literal, or_, select, update

from asapp.accounts import passkeys, second_factor, users
from asapp.accounts.passkeys import PasskeyAnswer, PasskeyQuestion, PasskeyRefused, Site
from asapp.audit.entries import ITSELF, Actor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, upsert
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.vault import Vault
from asapp.models import AttemptCount, PasskeyPurpose, User

WINDOW = timedelta(hours=1)
LOG_INS = 10  # wrong ones: of an account from a network, or on a device that it knows
LOG_INS_FROM_A_NETWORK = 20  # of any accounts
ATTACKED_FROM = 50  # wrong ones of an account from everywhere: then a network has fewer
LOG_INS_UNDER_ATTACK = 3
FROM_A_SITE = 30  # of an account from an IPv6 /48: providers give whole ones away, with 65,536 networks in each
RESETS = 5  # mails to an account asked for from a network, or on a device that it knows
RESETS_FROM_A_NETWORK = 20
CURRENT_PASSWORDS = 10
SET_UP_LINKS = 10  # mails to a person who logged in with the password alone, from everywhere
SECOND_STEPS = 30  # wrong ones after a right password, from everywhere but devices that the account knows
PASSKEYS = 60  # questions to a person's passkeys, to a network or on a device that the person knows
PURGED_AT_ONCE = 1000


@dataclass(frozen=True)
class Origin:
    """Where a try comes from. device: from the cookie that says that this account logged in there before."""

    network: str
    device: str | None = None


class Limit(NamedTuple):
    """A count and its maximum; None: no maximum."""

    key: str
    most: int | None


class TooMany(Exception):
    """The limit is reached: nothing was checked, and nothing counted. ends_at: when tries are possible again."""

    def __init__(self, ends_at: datetime) -> None:
        super().__init__()
        self.ends_at = ends_at

    @property
    def wait_s(self) -> float:
        return max(1.0, (self.ends_at - utcnow()).total_seconds())


@dataclass
class CountedAttempt:
    has_failed: bool = False


def log_in(email: str, password: str, origin: Origin, by: Actor = ITSELF, *, only_allowed: bool = False) -> User | None:
    """users.log_in, counted. Raises TooMany, passwords.Busy. Commits."""
    with counted(_log_in_limits(users.normal_email(email), origin)) as attempt:
        user = users.log_in(email, password, by, only_allowed=only_allowed)
        attempt.has_failed = user is None
    return user


def claim_reset(email: str, origin: Origin) -> None:
    """Count a request for a mail, whether or not the address is known. Raises TooMany. Commits."""
    account = users.normal_email(email)
    if origin.device:
        claim([Limit(_key("reset", account, "device", origin.device), RESETS)])
    else:
        per_account = Limit(_key("reset", account, "network", origin.network), RESETS)
        of_site = _site_limits("reset", account, origin.network)
        claim([per_account, *of_site, Limit(_key("resets", origin.network), RESETS_FROM_A_NETWORK)])


def claim_set_up_link(user: User) -> None:
    """Count a mail with a link for setting up a second step. Raises TooMany. Commits."""
    claim([Limit(_key("set-up link", str(user.id)), SET_UP_LINKS)])


def change_password(user: User, current: str, new: str, by: Actor = ITSELF) -> User:
    """users.change_password, its wrong current passwords counted. Raises InvalidFields, TooMany, passwords.Busy. Commits."""
    with counted([Limit(_key("current password", str(user.id)), CURRENT_PASSWORDS)]) as attempt:
        try:
            return users.change_password(user, current, new, by)
        except InvalidFields as refusal:
            attempt.has_failed = "current" in refusal.errors
            raise


def second_step(user: User, typed: str, origin: Origin, vault: Vault, by: Actor = ITSELF) -> bool:
    """second_factor.log_in, its wrong codes counted. Raises TooMany. Commits.

    The password was right, so there is a limit from everywhere too: six digits are few, and networks are many.
    """
    with counted(_second_step_limits(user.id, origin)) as attempt:
        is_in = second_factor.log_in(user, typed, vault, by)
        attempt.has_failed = not is_in
    return is_in


def ask_passkey(user: User, purpose: PasskeyPurpose, site: Site, origin: Origin) -> PasskeyQuestion:
    """passkeys.ask, counted, so that no one fills the table. Raises TooMany. Commits."""
    place = ("device", origin.device) if origin.device else ("network", origin.network)
    claim([Limit(_key("passkey", str(user.id), *place), PASSKEYS)])
    return passkeys.ask(user, purpose, site)


def passkey_step(user: User, answer: PasskeyAnswer, site: Site, origin: Origin, by: Actor = ITSELF) -> None:
    """passkeys.log_in, counted as second_step is. Raises PasskeyRefused, TooMany. Commits."""
    with counted(_second_step_limits(user.id, origin)) as attempt:
        try:
            passkeys.log_in(user, answer, site, by)
        except PasskeyRefused:
            attempt.has_failed = True
            raise


def confirm_by_passkey(user: User, answer: PasskeyAnswer, site: Site) -> None:
    """passkeys.confirm, counted as confirm is. Raises PasskeyRefused, TooMany. Commits."""
    with counted([Limit(_key("current password", str(user.id)), CURRENT_PASSWORDS)]) as attempt:
        try:
            passkeys.confirm(user, answer, site)
        except PasskeyRefused:
            attempt.has_failed = True
            raise


def confirm(user: User, password: str, code: str, vault: Vault) -> bool:
    """Is it this person, by password or by a code of the second step? Wrong ones are counted.

    Raises TooMany, passwords.Busy. Commits.
    """
    with counted([Limit(_key("current password", str(user.id)), CURRENT_PASSWORDS)]) as attempt:
        is_theirs = bool(code) and second_factor.accept(user.id, code, vault) is not None
        db.session.commit()
        is_theirs = is_theirs or (bool(password) and users.is_password(user, password))
        attempt.has_failed = not is_theirs
    return is_theirs


@contextmanager
def counted(limits: Sequence[Limit]) -> Iterator[CountedAttempt]:
    """Count a try before it is made, and give it back unless it is marked as failed. Raises TooMany. Commits."""
    claim(limits)
    attempt = CountedAttempt()
    try:
        yield attempt
    finally:
        if not attempt.has_failed:
            db.session.rollback()
            give_back(limits)


def claim(limits: Sequence[Limit]) -> None:
    """Add one to each count, or raise TooMany and add to none. Commits."""
    db.session.rollback()
    for limit in limits:
        if _add(limit.key, limit.most) is None:
            db.session.rollback()
            ends_at = db.session.scalar(select(AttemptCount.ends_at).where(AttemptCount.key == limit.key))
            db.session.rollback()
            raise TooMany(ends_at or utcnow())
    db.session.commit()


def purge() -> None:
    """Delete counts whose hour is over, some at a time. Commits."""
    over = select(AttemptCount.key).where(AttemptCount.ends_at <= utcnow()).limit(PURGED_AT_ONCE)
    change_rows(db.session, delete(AttemptCount).where(AttemptCount.key.in_(over)))
    db.session.commit()


def _log_in_limits(account: str, origin: Origin) -> list[Limit]:
    """Return the limits of a log-in, always in this order, so that two at once don't deadlock."""
    if origin.device:
        return [Limit(_key("log-in", account, "device", origin.device), LOG_INS)]
    everywhere = _key("log-in", account)
    wrong = db.session.scalar(
        select(AttemptCount.count).where(AttemptCount.key == everywhere, AttemptCount.ends_at > utcnow())
    )
    is_attacked = (wrong or 0) >= ATTACKED_FROM
    return [
        Limit(everywhere, None),
        Limit(_key("log-in", account, "network", origin.network), LOG_INS_UNDER_ATTACK if is_attacked else LOG_INS),
        *_site_limits("log-in", account, origin.network),
        Limit(_key("log-ins", origin.network), LOG_INS_FROM_A_NETWORK),
    ]


def _second_step_limits(user_id: int, origin: Origin) -> list[Limit]:
    what, person = "second step", str(user_id)
    if origin.device:
        return [Limit(_key(what, person, "device", origin.device), LOG_INS)]
    return [
        Limit(_key(what, person), SECOND_STEPS),
        Limit(_key(what, person, "network", origin.network), LOG_INS),
    ]


def _site_limits(what: str, account: str, network: str) -> list[Limit]:
    """Return the limit for the /48 that an IPv6 network is part of; none for any other network."""
    try:
        site = IPv6Network(network).supernet(new_prefix=48)
    except ValueError:
        return []
    return [Limit(_key(what, account, "site", str(site)), FROM_A_SITE)]


def _add(key: str, most: int | None) -> int | None:
    """Add one in the caller's transaction; return the count, or None if its maximum is reached."""
    now = utcnow()
    is_over = AttemptCount.ends_at <= now
    ends_at = literal(now + WINDOW, AttemptCount.ends_at.type)
    changes = {
        "count": case((is_over, 1), else_=AttemptCount.count + 1),
        "ends_at": case((is_over, ends_at), else_=AttemptCount.ends_at),
    }
    may_go_on = or_(is_over, AttemptCount.count < most) if most is not None else None
    statement = upsert(db.session, AttemptCount, ("key",), changes, may_go_on).values(key=key, count=1, ends_at=ends_at)
    count: int | None = db.session.scalar(statement.returning(AttemptCount.count))
    return count


def give_back(limits: Sequence[Limit]) -> None:
    for limit in limits:
        change_rows(
            db.session,
            update(AttemptCount)
            .where(AttemptCount.key == limit.key, AttemptCount.count > 0)
            .values(count=AttemptCount.count - 1),
        )
    db.session.commit()


def _key(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()
