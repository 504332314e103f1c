"""Passkeys (WebAuthn) as the second step of a log-in, instead of the app of second_factor.py or beside it.

A person may have several, and names, renames and removes them; turning the second step off or resetting it removes them too.
The first one of a person without a second step turns it on, with recovery codes; removing the last one of a person without
an app turns it off.

A challenge is a row: the first answer deletes it, whether right or wrong; it counts for one person, one purpose and the
browser that holds its token, for five minutes. A passkey that counts its uses has to go up; others always say 0.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import webauthn
from cryptography.exceptions import UnsupportedAlgorithm
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, parse_authentication_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from asapp.accounts import second_factor
from asapp.accounts.form_fields import PasskeyForm
from asapp.accounts.second_factor import Way, tell
from asapp.accounts.users import lock
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.vault import Vault
from asapp.messages.passkeys import PasskeyWhy
from asapp.messages.second_factor import FactorChange
from asapp.models import Action, Passkey, PasskeyChallenge, PasskeyPurpose, User
from config import Config

T = TypeVar("T")

SITE_NAME = "AdvisorStream"
ANSWER_WITHIN = timedelta(minutes=5)
CHALLENGE_BYTES = 64
ANSWER_MAX = 20_000  # characters
MOST = 20  # of a person
TOO_MANY = f"You have {MOST} passkeys, the most that are kept. Remove one first."
PURGED_AT_ONCE = 1000
# What the library raises for an answer that no browser gives. RecursionError: JSON within JSON.
MALFORMED = (
    WebAuthnException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    UnsupportedAlgorithm,
)


class PasskeyRefused(Exception):
    """A passkey's answer is not accepted."""

    def __init__(self, why: PasskeyWhy) -> None:
        super().__init__(why)
        self.why = why


class OnlyWayIn(Exception):
    """It is the only second step of a person who must have one."""


class AddedPasskey(NamedTuple):
    """codes: the recovery codes, if this passkey turned the second step on."""

    passkey: Passkey
    codes: list[str]


class Site(NamedTuple):
    """What passkeys are bound to. host: the relying party's id; origin: scheme, host and port."""

    host: str
    origin: str


class PasskeyQuestion(NamedTuple):
    """token: stays in the browser's session; options: JSON for navigator.credentials."""

    token: str
    options: str


class PasskeyAnswer(NamedTuple):
    """token: of the question that this browser was asked last, "" if there was none; credential: JSON, as it came."""

    token: str
    credential: str


def site_of(config: Config) -> Site:
    """Return the site as browsers name it: without the port that goes with the scheme."""
    url = urlsplit(config.public_url)
    usual_port = ":443" if config.is_https else ":80"
    return Site(url.hostname or "", f"{url.scheme}://{url.netloc.removesuffix(usual_port)}")


def list_of(user: User) -> list[Passkey]:
    """Return a person's passkeys, the oldest first."""
    return list(db.session.scalars(select(Passkey).where(Passkey.user_id == user.id).order_by(Passkey.id)))


def find(user: User, public_id: str) -> Passkey | None:
    return db.session.scalar(select(Passkey).where(Passkey.user_id == user.id, Passkey.public_id == public_id))


def ask_for_new(user: User, site: Site) -> PasskeyQuestion:
    """Return what the browser needs to make a passkey for this person. Commits."""
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    options = webauthn.generate_registration_options(
        rp_id=site.host,
        rp_name=SITE_NAME,
        user_id=user.public_id.encode(),
        user_name=user.email,
        user_display_name=user.name,
        challenge=challenge,
        timeout=_timeout_ms(),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=_descriptors(user),
    )
    token = _store(user, PasskeyPurpose.ADD, challenge)
    db.session.commit()
    return PasskeyQuestion(token, webauthn.options_to_json(options))


def ask(user: User, purpose: PasskeyPurpose, site: Site) -> PasskeyQuestion:
    """Return what the browser needs to use one of this person's passkeys. Commits."""
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    options = webauthn.generate_authentication_options(
        rp_id=site.host,
        challenge=challenge,
        timeout=_timeout_ms(),
        allow_credentials=_descriptors(user),
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    token = _store(user, purpose, challenge)
    db.session.commit()
    return PasskeyQuestion(token, webauthn.options_to_json(options))


def add(user: User, name: str, answer: PasskeyAnswer, site: Site, vault: Vault, by: Actor = ITSELF) -> AddedPasskey:
    """Add a passkey, turn the second step on if it was off, and tell the person by mail. Commits.

    Raises InvalidFields (name), PasskeyRefused.
    """
    name = PasskeyForm.entered(name=name).checked()["name"]
    user = lock(user.id)
    was_on = second_factor.find(user.id) is not None
    challenge = _use_up(user.id, PasskeyPurpose.ADD, answer.token)
    if challenge is None:
        db.session.rollback()
        raise PasskeyRefused(PasskeyWhy.LATE)
    db.session.commit()  # whatever the answer is, the challenge is gone
    made = _checked(
        answer.credential,
        lambda text: webauthn.verify_registration_response(
            credential=text,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
        ),
    )
    user = lock(user.id)
    if (second_factor.find(user.id) is not None) != was_on:  # reset, or turned on elsewhere, at this very moment
        db.session.rollback()
        raise PasskeyRefused(PasskeyWhy.LATE)
    if (db.session.scalar(select(func.count()).where(Passkey.user_id == user.id)) or 0) >= MOST:
        db.session.rollback()
        raise InvalidFields({"name": TOO_MANY})
    passkey = Passkey(
        user_id=user.id,
        name=name,
        credential_id=bytes_to_base64url(made.credential_id),
        public_key=bytes_to_base64url(made.credential_public_key),
        sign_count=made.sign_count,
    )
    db.session.add(passkey)
    codes = [] if was_on else second_factor.turn_on(user.id, vault)[1]
    try:
        db.session.flush()
    except IntegrityError as error:
        db.session.rollback()
        raise PasskeyRefused(PasskeyWhy.TAKEN) from error
    if not was_on:
        entries.record(Action.SECOND_FACTOR_SET_UP, by, user)
    entries.record(Action.PASSKEY_ADDED, by, user)
    tell(user, FactorChange.PASSKEY_ADDED if was_on else FactorChange.PASSKEY_SET_UP, vault)
    db.session.commit()
    return AddedPasskey(passkey, codes)


def rename(user: User, passkey: Passkey, name: str, by: Actor = ITSELF) -> None:
    """Raises InvalidFields (name). Commits."""
    passkey.name = PasskeyForm.entered(name=name).checked()["name"]
    entries.record(Action.PASSKEY_RENAMED, by, user)
    db.session.commit()


def is_only_way(user: User) -> bool:
    """Is this person's one passkey all that the second step takes, recovery codes aside?"""
    factor = second_factor.find(user.id)
    return factor is not None and not factor.has_app and len(list_of(user)) == 1


def remove(user: User, passkey: Passkey, vault: Vault, by: Actor = ITSELF, *, may_turn_off: bool = True) -> None:
    """Delete one of a person's passkeys, and the second step with it if it was the only way. The person is told by mail.

    Raises OnlyWayIn instead of turning the second step off, unless that is allowed. Commits.
    """
    user = lock(user.id)
    if is_only_way(user):
        if not may_turn_off:
            db.session.rollback()
            raise OnlyWayIn
        second_factor.remove(user, vault, by)
        return
    if change_rows(db.session, delete(Passkey).where(Passkey.id == passkey.id)):
        entries.record(Action.PASSKEY_REMOVED, by, user)
        tell(user, FactorChange.PASSKEY_REMOVED, vault)
    db.session.commit()


def log_in(user: User, answer: PasskeyAnswer, site: Site, by: Actor = ITSELF) -> None:
    """Check the second step of a person whose password was right. Raises PasskeyRefused. Commits, with an audit entry."""
    try:
        _accept(user.id, PasskeyPurpose.LOG_IN, answer, site)
    except PasskeyRefused as refusal:
        entries.record(Action.LOGIN_REFUSED, by, user, second_step=refusal.why)
        db.session.commit()
        raise
    entries.record(Action.LOGGED_IN, by.who_is(user), user, second_step=Way.PASSKEY)
    db.session.commit()


def confirm(user: User, answer: PasskeyAnswer, site: Site) -> None:
    """Check that it is this person, who is logged in. Raises PasskeyRefused. Commits."""
    try:
        _accept(user.id, PasskeyPurpose.CONFIRM, answer, site)
    finally:
        db.session.commit()


def purge() -> None:
    """Delete challenges that no one answered in time, some at once. Commits."""
    late = select(PasskeyChallenge.id).where(PasskeyChallenge.expires_at <= utcnow()).limit(PURGED_AT_ONCE)
    change_rows(db.session, delete(PasskeyChallenge).where(PasskeyChallenge.id.in_(late)))
    db.session.commit()


def _accept(user_id: int, purpose: PasskeyPurpose, answer: PasskeyAnswer, site: Site) -> None:
    """Use up the question in the caller's transaction, and check its answer. Raises PasskeyRefused."""
    challenge = _use_up(user_id, purpose, answer.token)
    if challenge is None:
        raise PasskeyRefused(PasskeyWhy.LATE)
    credential = _checked(answer.credential, parse_authentication_credential_json)
    credential_id = bytes_to_base64url(credential.raw_id)
    passkey = db.session.scalar(
        select(Passkey).where(Passkey.user_id == user_id, Passkey.credential_id == credential_id)
    )
    if passkey is None:
        raise PasskeyRefused(PasskeyWhy.UNKNOWN)
    public_key = base64url_to_bytes(passkey.public_key)
    used = _checked(
        answer.credential,
        lambda text: webauthn.verify_authentication_response(
            credential=text,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=public_key,
            credential_current_sign_count=0,  # compared below, by the database, so that two at once don't both pass
        ),
    )
    if not _count_use(passkey.id, used.new_sign_count):
        raise PasskeyRefused(PasskeyWhy.COPIED)


def _count_use(passkey_id: int, sign_count: int) -> bool:
    """Store the count of this use; return whether it fits the one before."""
    fits = Passkey.sign_count < sign_count if sign_count else Passkey.sign_count == 0
    used = update(Passkey).where(Passkey.id == passkey_id, fits).values(sign_count=sign_count, last_used_at=utcnow())
    return change_rows(db.session, used) == 1


def _store(user: User, purpose: PasskeyPurpose, challenge: bytes) -> str:
    """Add a challenge in the caller's transaction; return the token that goes with it."""
    token = secrets.token_urlsafe(24)
    db.session.add(
        PasskeyChallenge(
            user_id=user.id,
            purpose=purpose,
            token_sha256=_hash(token),
            challenge=bytes_to_base64url(challenge),
            expires_at=utcnow() + ANSWER_WITHIN,
        )
    )
    return token


def _use_up(user_id: int, purpose: PasskeyPurpose, token: str) -> bytes | None:
    """Delete a challenge in the caller's transaction; return it, or None if it is not this person's, used, or too old."""
    theirs = (PasskeyChallenge.user_id == user_id, PasskeyChallenge.token_sha256 == _hash(token))
    is_open = (PasskeyChallenge.purpose == purpose, PasskeyChallenge.expires_at > utcnow())
    found = db.session.scalar(select(PasskeyChallenge.challenge).where(*theirs, *is_open))
    is_ours = change_rows(db.session, delete(PasskeyChallenge).where(*theirs)) == 1
    return base64url_to_bytes(found) if found is not None and is_ours else None


def _checked(text: str, check: Callable[[str], T]) -> T:
    """Return what check() makes of a browser's answer; raise PasskeyRefused if it is not one, or doesn't fit."""
    if len(text) > ANSWER_MAX:
        raise PasskeyRefused(PasskeyWhy.INVALID)
    try:
        return check(text)
    except MALFORMED as error:
        raise PasskeyRefused(PasskeyWhy.INVALID) from error


def _descriptors(user: User) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=base64url_to_bytes(each.credential_id)) for each in list_of(user)]


def _timeout_ms() -> int:
    return int(ANSWER_WITHIN.total_seconds() * 1000)


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
