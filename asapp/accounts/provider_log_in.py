"""Logging in with an identity provider: whose account a log-in there opens.

The provider's subject is the identity. Its address only finds a person who was invited or provisioned here and has no
identity yet, and only if the provider has verified it. No account is made here.
"""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from asapp.accounts.identity_provider import NotLetIn, ProviderLogIn
from asapp.accounts.users import end_links_of, end_sessions_of, find_by_email, lock
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.messages.log_in import LogInWhy
from asapp.models import Action, ProviderIdentity, User
from config import Config


def may_use_password(user: User, config: Config) -> bool:
    """May this person log in with a password? Where there is an identity provider, only admins named by command may."""
    return config.identity_provider is None or (user.is_admin and user.is_password_allowed)


def log_in(identity: ProviderLogIn, by: Actor = ITSELF) -> User:
    """Return the person whose log-in this is; raise NotLetIn. Commits.

    Where a second step follows, the person is not in yet: second_factor.log_in.
    """
    try:
        user = find_person(identity) or _link(identity, by)
        if not user.is_active:
            raise _refused(LogInWhy.DEACTIVATED, by, user)
    except NotLetIn:
        db.session.commit()  # the entry about it
        raise
    if not user.has_second_factor:
        entries.record(Action.LOGGED_IN, by.who_is(user), user, provider=True)
    db.session.commit()
    return user


def find_person(identity: ProviderLogIn) -> User | None:
    """Return the person of the account that this log-in was linked with."""
    return db.session.scalar(
        select(User)
        .join(ProviderIdentity, ProviderIdentity.user_id == User.id)
        .where(ProviderIdentity.issuer == identity.issuer, ProviderIdentity.subject == identity.subject)
    )


def is_linked(user: User) -> bool:
    """Has this person logged in with an identity provider?"""
    return (
        db.session.scalar(select(ProviderIdentity.id).where(ProviderIdentity.user_id == user.id).limit(1)) is not None
    )


def unlink(user: User, by: Actor = ITSELF) -> bool:
    """Let the next log-in with this person's verified address be linked; end their sessions. False: there was none. Commits."""
    user = lock(user.id)
    unlinked = change_rows(db.session, delete(ProviderIdentity).where(ProviderIdentity.user_id == user.id))
    if unlinked:
        end_sessions_of(user)
        entries.record(Action.PROVIDER_UNLINKED, by, user)
    db.session.commit()
    return unlinked > 0


def allow_password(user: User, is_allowed: bool, by: Actor = ITSELF) -> None:
    """Let an admin log in with a password beside the identity provider, or no longer; then their sessions end. Commits."""
    user = lock(user.id)
    user.is_password_allowed = is_allowed
    if not is_allowed:
        end_sessions_of(user)
    entries.record(Action.PASSWORD_ALLOWED if is_allowed else Action.PASSWORD_WITHDRAWN, by, user)
    db.session.commit()


def _link(identity: ProviderLogIn, by: Actor) -> User:
    """Return the person who was invited or provisioned with the verified address, linked now, or inactive. Doesn't commit."""
    if not identity.email:
        raise _refused(LogInWhy.NO_ADDRESS, by, None)
    if not identity.is_email_verified:
        raise _refused(LogInWhy.UNVERIFIED, by, None, identity.email)
    found = find_by_email(identity.email)
    if found is None:
        raise _refused(LogInWhy.UNKNOWN, by, None, identity.email)
    user = lock(found.id)
    if not user.is_active:
        return user
    db.session.add(ProviderIdentity(user_id=user.id, issuer=identity.issuer, subject=identity.subject))
    try:
        db.session.flush()
    except IntegrityError:  # the account has another subject, or this very log-in has just been linked
        db.session.rollback()
        known = find_person(identity)
        if known is not None:
            return known
        raise _refused(LogInWhy.OTHER_SUBJECT, by, find_by_email(identity.email), identity.email) from None
    user.invited_at = None
    end_links_of(user.id)
    entries.record(Action.PROVIDER_LINKED, by.who_is(user), user)
    return user


def _refused(why: LogInWhy, by: Actor, user: User | None, email: str = "") -> NotLetIn:
    """Return the refusal, after an entry about it in the audit log, in the caller's transaction."""
    entries.record(Action.LOGIN_REFUSED, by, user, provider=why.value)
    return NotLetIn(why, email)
