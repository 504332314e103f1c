"""The second step of a log-in: the six digits of an authenticator app (RFC 6238), or one of ten recovery codes.

passkeys.py has passkeys, which a person may use instead of an app or beside it. The first of either kind comes with
recovery codes.

Each code counts once. Six digits are valid for half a minute before and after their own half minute, since clocks differ,
and no longer valid once they, or later ones, were accepted. A recovery code has 39 bits, so it is stored as a hash under
a random sealed key: the database alone is useless to a thief.

While a new app is set up there is no row: the page carries its secret, sealed for the person, until the first code proves
that the app has it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

import pyotp
from sqlalchemy import delete, func, select, update

from asapp.accounts import mail_outbox
from asapp.accounts.users import end_sessions_of, lock
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.vault import CannotOpen, Vault
from asapp.messages.second_factor import FACTOR_CHANGES, FactorChange
from asapp.models import Action, Passkey, PasskeyChallenge, RecoveryCode, SecondFactor, User, WaitingKind
from asapp.models.columns import new_public_id, place_of

ISSUER = "AdvisorStream"
STEP_S = 30
DRIFT = (0, -1, 1)  # half minutes by which clocks may differ
RECOVERY_CODES = 10
CODE_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # no 0 and o, no 1, i and l; 30 of them, so eight are 39 bits
CODE_LENGTH = 8
SET_UP_WITHIN = timedelta(hours=1)
RECOVERY_SUBJECT = "A recovery code was used at AdvisorStream"
RESET_SUBJECT = "Your second step at AdvisorStream was reset"
CHANGED_SUBJECT = "Your second step at AdvisorStream was changed"
WRONG_CODE = "These are not the six digits that your app shows now. Each code counts once: wait for the next one."
TOO_LATE = "This page was open for too long. Scan the new picture, then enter the six digits."


class Way(StrEnum):
    """What was accepted as the second step."""

    APP = "app"
    RECOVERY_CODE = "recovery code"
    PASSKEY = "passkey"


@dataclass(frozen=True)
class NewApp:
    """An app that is being set up. secret: base32; sealed: what the page hands back with the first code."""

    secret: str
    sealed: str
    uri: str  # content of the QR code

    @property
    def spaced(self) -> str:
        """Return the secret as people type it."""
        return " ".join(self.secret[at : at + 4] for at in range(0, len(self.secret), 4))


def begin(user: User, vault: Vault) -> NewApp:
    """Return a new secret for this person's app. Nothing is stored."""
    secret = pyotp.random_base32()
    content = json.dumps({"secret": secret, "until": (utcnow() + SET_UP_WITHIN).timestamp()})
    return _new_app(user, secret, vault.seal(content, _set_up_place(user)))


def resume(user: User, sealed: str, vault: Vault) -> NewApp | None:
    """Return the app whose set-up this person started; None if it is another's or too old."""
    try:
        content = json.loads(vault.open(sealed, _set_up_place(user)))
    except CannotOpen:
        return None
    return _new_app(user, content["secret"], sealed) if content["until"] > utcnow().timestamp() else None


def set_up(user: User, sealed: str, code: str, vault: Vault, by: Actor = ITSELF) -> list[str]:
    """Require codes of this app from the next log-in on, instead of an earlier one's; return the new recovery codes.

    Where passkeys were the second step until now, their recovery codes go on working, and none are new.
    Raises InvalidFields (code). Commits.
    """
    app = resume(user, sealed, vault)
    if app is None:
        raise InvalidFields({"code": TOO_LATE})
    step = _step_of(app.secret, code)
    if step is None:
        raise InvalidFields({"code": WRONG_CODE})
    user_id = user.id
    user = lock(user_id)
    codes: list[str] = []
    factor = find(user_id)
    if factor is None or factor.has_app:
        _delete_app(user_id)
        factor, codes = turn_on(user_id, vault)
    factor.seal(vault, "secret_sealed", app.secret)
    factor.last_step = step
    entries.record(Action.SECOND_FACTOR_SET_UP, by, user)
    tell(user, FactorChange.APP_SET_UP if codes else FactorChange.APP_ADDED, vault)
    db.session.commit()
    return codes


def find(user_id: int) -> SecondFactor | None:
    """Return the person's second step as the database has it now."""
    found = select(SecondFactor).where(SecondFactor.user_id == user_id)
    return db.session.scalar(found.execution_options(populate_existing=True))


def turn_on(user_id: int, vault: Vault) -> tuple[SecondFactor, list[str]]:
    """Add a second step without an app for a person who has none, in the caller's transaction; return it and the codes."""
    factor = SecondFactor(user_id=user_id, public_id=new_public_id(), last_step=0)
    codes = _add_codes(factor, vault)
    db.session.add(factor)
    return factor, codes


def renew_codes(user: User, vault: Vault, by: Actor = ITSELF) -> list[str]:
    """Return ten new recovery codes; the earlier ones no longer work. The person has a second step. Commits."""
    user = lock(user.id)
    factor = _get_factor(user.id)
    change_rows(db.session, delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = _add_codes(factor, vault)
    entries.record(Action.RECOVERY_CODES_RENEWED, by, user)
    tell(user, FactorChange.CODES_RENEWED, vault)
    db.session.commit()
    return codes


def remove(user: User, vault: Vault, by: Actor = ITSELF) -> None:
    """Turn a person's own second step off. Commits."""
    user = lock(user.id)
    if _delete(user.id):
        entries.record(Action.SECOND_FACTOR_REMOVED, by, user)
        tell(user, FactorChange.TURNED_OFF, vault)
    db.session.commit()


def reset(user: User, by: Actor = ITSELF) -> bool:
    """Remove another person's second step and end their sessions; return False if there was none. Commits."""
    user = lock(user.id)
    if not _delete(user.id):
        db.session.rollback()
        return False
    end_sessions_of(user)
    entries.record(Action.SECOND_FACTOR_RESET, by, user)
    db.session.commit()
    return True


def reset_letter(user: User, admin_name: str) -> mail.Letter:
    """Return the mail that tells a person whose second step was reset."""
    names: dict[str, Any] = {"name": user.name, "admin": admin_name, "is_admin": user.is_admin}
    return mail.write(user.email, RESET_SUBJECT, "second_factor_reset", user.time_zone, **names)


def tell(user: User, change: FactorChange, vault: Vault) -> None:
    """Tell a person by mail of a change of their second step, in the caller's transaction: it may be a thief's."""
    names: dict[str, Any] = {"name": user.name, "at": utcnow(), "what": FACTOR_CHANGES[change]}
    letter = mail.write(user.email, CHANGED_SUBJECT, "second_factor_changed", user.time_zone, **names)
    mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault)


def _recovery_letter(user: User) -> mail.Letter:
    """Return the mail that tells a person that one of their recovery codes has just been used."""
    names: dict[str, Any] = {"name": user.name, "at": utcnow(), "left": count_codes_left(user)}
    return mail.write(user.email, RECOVERY_SUBJECT, "recovery_code_used", user.time_zone, **names)


def count_codes_left(user: User) -> int:
    left = select(func.count()).where(RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None))
    return db.session.scalar(left) or 0


def accept(user_id: int, typed: str, vault: Vault) -> Way | None:
    """Use up the typed code, in the caller's transaction; return its kind, or None if it is not valid.

    The person is told by mail of a recovery code that was used: a thief may have found them.
    """
    factor = db.session.scalar(select(SecondFactor).where(SecondFactor.user_id == user_id))
    code = "".join(c for c in typed.lower() if c.isascii() and c.isalnum())
    if factor is None:
        return None
    if code.isdecimal() and len(code) == 6:
        return Way.APP if factor.has_app and _accept_digits(factor, code, vault) else None
    if not _accept_recovery(factor, code, vault):
        return None
    mail_outbox.add(WaitingKind.LETTER, asdict(_recovery_letter(db.session.get_one(User, user_id))), vault)
    return Way.RECOVERY_CODE


def log_in(user: User, typed: str, vault: Vault, by: Actor = ITSELF) -> bool:
    """Check the second step of a person whose password was right. Commits, with an entry in the audit log."""
    way = accept(user.id, typed, vault)
    if way is None:
        entries.record(Action.LOGIN_REFUSED, by, user, second_step="wrong code")
    else:
        entries.record(Action.LOGGED_IN, by.who_is(user), user, second_step=way)
    db.session.commit()
    return way is not None


def _accept_digits(factor: SecondFactor, code: str, vault: Vault) -> bool:
    step = _step_of(factor.unseal(vault, "secret_sealed"), code)
    if step is None:
        return False
    is_newer = (SecondFactor.id == factor.id, SecondFactor.last_step < step)
    return change_rows(db.session, update(SecondFactor).where(*is_newer).values(last_step=step)) == 1


def _accept_recovery(factor: SecondFactor, code: str, vault: Vault) -> bool:
    code_hash = _hash(code, factor.unseal(vault, "recovery_key_sealed"))
    is_unused = (RecoveryCode.user_id == factor.user_id, RecoveryCode.code_hash == code_hash)
    used = update(RecoveryCode).where(*is_unused, RecoveryCode.used_at.is_(None)).values(used_at=utcnow())
    return change_rows(db.session, used) == 1


def _step_of(secret: str, code: str) -> int | None:
    """Return the half minute that this code belongs to, by the present time; None if it is not valid now."""
    digits = "".join(code.split()).encode()
    app, now = pyotp.TOTP(secret), int(utcnow().timestamp()) // STEP_S
    steps = (now + drift for drift in DRIFT)
    return next((step for step in steps if hmac.compare_digest(app.generate_otp(step).encode(), digits)), None)


def _add_codes(factor: SecondFactor, vault: Vault) -> list[str]:
    """Add new codes for a person without any, under a new key, in the caller's transaction; return them."""
    key = secrets.token_hex(32)
    factor.seal(vault, "recovery_key_sealed", key)
    codes: set[str] = set()
    while len(codes) < RECOVERY_CODES:
        codes.add("".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH)))
    for code in codes:
        db.session.add(RecoveryCode(user_id=factor.user_id, code_hash=_hash(code, key)))
    return [f"{code[:4]}-{code[4:]}" for code in codes]


def _get_factor(user_id: int) -> SecondFactor:
    return db.session.scalars(select(SecondFactor).where(SecondFactor.user_id == user_id)).one()


def _delete(user_id: int) -> bool:
    """Delete a person's second step, with all passkeys, in the caller's transaction; return whether there was one."""
    for model in (Passkey, PasskeyChallenge):
        change_rows(db.session, delete(model).where(model.user_id == user_id))
    return _delete_app(user_id)


def _delete_app(user_id: int) -> bool:
    """Delete a person's app and recovery codes in the caller's transaction; return whether there was one."""
    change_rows(db.session, delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    deleted = change_rows(db.session, delete(SecondFactor).where(SecondFactor.user_id == user_id))
    return deleted == 1


def _hash(code: str, key: str) -> str:
    return hmac.new(key.encode(), code.encode(), sha256).hexdigest()


def _new_app(user: User, secret: str, sealed: str) -> NewApp:
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER)
    return NewApp(secret, sealed, uri)


def _set_up_place(user: User) -> str:
    return place_of(User.__tablename__, user.public_id, "new second factor")
