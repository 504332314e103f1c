"""Deactivating a firm, and deleting it with everything of it.

The history of consent is append-only and stays, anonymous; so the rows that it refers to (leads, advisors, the firm) stay
as well, emptied of every name, address, key and token. Everything else is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import connections, stopped_runs, switching
from asapp.connections.connections import Ended
from asapp.connections.org_access import OrgAccess
from asapp.contacts import suppressions
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import NO_LEASE
from asapp.leads import consent
from asapp.models import (
    Action,
    ApiKey,
    ApiUsage,
    Connection,
    ConnectionStatus,
    ConsentKind,
    ConsentSource,
    Contact,
    ContactList,
    FirstSteps,
    Lead,
    LeadState,
    LoginSession,
    MailChoice,
    OAuthState,
    OptInPage,
    Partner,
    PartnerCheck,
    Passkey,
    PasskeyChallenge,
    PasswordLink,
    PendingGrant,
    ProviderIdentity,
    RecoveryCode,
    SecondFactor,
    SetupLink,
    Tombstone,
    User,
    Visit,
)
from asapp.models.lead import OUTSIDE_SALESFORCE
from asapp.models.user import EMPTIED
from asapp.partners.form_fields import TEXTS
from asapp.partners.partners import discard_pending
from asapp.salesforce import oauth

STOP_TAKES = timedelta(minutes=1)  # at most, with hundreds of connections


@dataclass(frozen=True)
class GivenBack:
    """How many grants were deleted here, and how many of those Salesforce did not confirm as revoked."""

    connections: int
    unheard: int


def disable(partner: Partner, revoke: bool, access: OrgAccess, by: Actor = ITSELF) -> GivenBack:
    """Stop the syncs of a firm, active ones too. Commits.

    revoke: its advisors are disconnected, their contacts stay inactive.
    """
    partner_id = partner.id

    def end() -> list[Ended]:
        partner = db.session.get_one(Partner, partner_id)
        partner.is_enabled = False
        entries.record(Action.PARTNER_DISABLED, by, partner, tokens_revoked=revoke)
        db.session.flush()
        of_firm = Connection.partner_id == partner_id
        ended = connections.end_connections(of_firm, True, access, by) if revoke else []
        stopped_runs.stop_runs_of_firm(partner_id)
        return ended

    return _give_back(retry_when_beaten(db.session(), end))


@dataclass(frozen=True)
class Consequences:
    """What stopping a firm does. advisors: connected; contacts: of its Salesforce; leads: not in Salesforce yet."""

    advisors: int
    contacts: int
    leads: int


def foresee_stop(partner: Partner) -> Consequences:
    """Return what would be stopped now."""
    connected = (Connection.partner_id == partner.id, Connection.status != ConnectionStatus.DISCONNECTED)
    connections_of_firm = select(Connection.id).where(*connected)
    counts = (
        select(func.count()).select_from(Connection).where(*connected),
        select(func.count()).select_from(Contact).where(Contact.connection_id.in_(connections_of_firm)),
        select(func.count()).select_from(Lead).where(Lead.partner_id == partner.id, Lead.state.in_(OUTSIDE_SALESFORCE)),
    )
    return Consequences(*(db.session.scalar(count) or 0 for count in counts))


def stop(partner: Partner, access: OrgAccess, by: Actor = ITSELF) -> GivenBack:
    """Stop everything for a firm: its syncs and deliveries end at once, its advisors are disconnected. Commits.

    The firm is disabled first, by itself, so that no one of it is a recipient while hundreds of connections are ended one by one.
    If the process dies before that is done, finish_stops() does it. Contacts of its Salesforce are inactive from then on
    (`disconnected`). The grants are revoked at Salesforce, for some seconds here and then by each tick, for three days if
    Salesforce is away. enable() undoes it.
    """
    partner_id = partner.id

    def halt() -> None:
        partner = db.session.get_one(Partner, partner_id)
        partner.is_enabled, partner.stop_began_at = False, utcnow()
        entries.record(Action.PARTNER_STOPPED, by, partner)
        db.session.flush()
        stopped_runs.stop_runs_of_firm(partner_id)

    retry_when_beaten(db.session(), halt)
    ended = retry_when_beaten(db.session(), lambda: _end_connections(partner_id, access, by))
    of_firm = PendingGrant.partner_id == partner_id
    switching.give_back(of_firm, access=access, limit=None)
    waiting = db.session.scalar(select(func.count()).select_from(PendingGrant).where(of_firm)) or 0
    end_read(db.session)
    return GivenBack(len(ended), waiting)


def _end_connections(partner_id: int, access: OrgAccess, by: Actor) -> list[Ended]:
    """Do what is left of a stop once the firm is disabled, in the caller's transaction."""
    ended = connections.end_connections(Connection.partner_id == partner_id, True, access, by)
    switching.withdraw(PendingGrant.partner_id == partner_id)
    switching.keep_for_revoking(ended, access)
    stopped_runs.stop_runs_of_firm(partner_id)
    db.session.get_one(Partner, partner_id).stop_began_at = None
    return ended


def finish_stops(access: OrgAccess) -> int:
    """End the connections of firms whose stop a process began and did not end: it died. Commits. Returns how many firms.

    Their grants wait for switching.revoke_expired().
    """
    is_left = (~Partner.is_enabled, Partner.stop_began_at < utcnow() - STOP_TAKES)
    left = db.session.scalars(select(Partner.id).where(*is_left)).all()
    end_read(db.session)
    for partner_id in left:
        retry_when_beaten(db.session(), partial(_end_connections, partner_id, access, ITSELF))
    return len(left)


def delete_partner(partner: Partner, access: OrgAccess, by: Actor = ITSELF) -> GivenBack:
    """Delete a firm. Commits. Afterwards nothing says who its advisors and their people were."""
    partner_id = partner.id
    ended, grants = retry_when_beaten(db.session(), lambda: _delete_partner(partner_id, access, by))
    for app_and_token in grants:
        connections.give_back_token(*app_and_token)
    return _give_back(ended)


def _delete_partner(partner_id: int, access: OrgAccess, by: Actor) -> tuple[list[Ended], list[tuple[oauth.App, str]]]:
    """Delete all of it in one transaction; return what to revoke after it: grants of connections, and grants that waited."""
    partner = db.session.get_one(Partner, partner_id)
    partner.is_enabled = False
    entries.record(Action.PARTNER_DELETED, by, partner)
    db.session.flush()
    of_firm = Connection.partner_id == partner_id
    connections.lock_people(
        or_(User.partner_id == partner_id, User.id.in_(select(Connection.user_id).where(of_firm))), for_good=True
    )
    ended = connections.end_connections(of_firm, True, access, by)
    user_ids = list(db.session.scalars(select(User.id).where(User.partner_id == partner_id)))
    waiting = PendingGrant.partner_id == partner_id
    grants = switching.find_revocables(waiting, access=access)
    erase_leads(or_(Lead.partner_id == partner_id, Lead.user_id.in_(user_ids)))
    _delete_rows(partner, user_ids)
    erase_accounts(user_ids, "Deleted advisor")
    entries.erase_identities(user_ids, partner_id)
    _erase_partner(partner)
    return ended, grants


def _give_back(ended: Sequence[Ended]) -> GivenBack:
    return GivenBack(len(ended), connections.give_back(ended))


def erase_leads(which: ColumnElement[bool]) -> None:
    """Erase these people except for their anonymous consent history, in the caller's transaction."""
    now = utcnow()
    for lead_id in db.session.scalars(select(Lead.id).where(which, Lead.state != LeadState.ERASED)).all():
        consent.record(lead_id, ConsentKind.ERASED, ConsentSource.ADVISOR, now)
    change_rows(
        db.session,
        update(Lead)
        .where(which)
        .values(
            first_name="",
            last_name="",
            email="",
            search_key="",
            address_hash=None,
            details={},
            state=LeadState.ERASED,
            why=None,
            why_detail=None,
            why_words=None,
            **NO_LEASE,
            connection_id=None,
            contact_id=None,
            changed_at=now,
        ),
    )


def _delete_rows(partner: Partner, user_ids: Sequence[int]) -> None:
    for of_firm in (OAuthState, PendingGrant, ApiKey, ApiUsage, PartnerCheck, SetupLink):
        _delete(of_firm, of_firm.partner_id == partner.id)
    _delete(Contact, Contact.left_firm_id == partner.id)
    delete_rows_of(user_ids, Connection.partner_id == partner.id)


def delete_rows_of(user_ids: Sequence[int], *more: ColumnElement[bool]) -> None:
    """Delete the rows that refer to these people, in the caller's transaction. more: other connections to delete."""
    connection_ids = select(Connection.id).where(or_(Connection.user_id.in_(user_ids), *more))
    _delete(Contact, or_(Contact.user_id.in_(user_ids), Contact.connection_id.in_(connection_ids)))
    change_rows(
        db.session, update(Contact).where(Contact.followed_by_id.in_(connection_ids)).values(followed_by_id=None)
    )
    for of_people in (
        ContactList,
        OptInPage,
        PasswordLink,
        LoginSession,
        Visit,
        MailChoice,
        ProviderIdentity,
        FirstSteps,
        SecondFactor,
        RecoveryCode,
        Passkey,
        PasskeyChallenge,
        OAuthState,
        PendingGrant,
        Tombstone,
    ):
        _delete(of_people, of_people.user_id.in_(user_ids))
    _delete(Connection, Connection.id.in_(connection_ids))


def _delete(model: type, *where: Any) -> None:
    change_rows(db.session, delete(model).where(*where))


def erase_accounts(user_ids: Iterable[int], name: str) -> None:
    """Erase who these people are, for good, in the caller's transaction."""
    now = utcnow()
    for user in db.session.scalars(select(User).where(User.id.in_(list(user_ids)))):
        user.name, user.email = name, f"deleted-{user.id}@deleted.invalid"
        user.earlier_names = []
        user.password_hash, user.session_nonce = EMPTIED, f"deleted-{user.id}"
        user.deactivated_at, user.invited_at, user.time_zone = user.deactivated_at or now, None, None


def _erase_partner(partner: Partner) -> None:
    discard_pending(partner)
    partner.name, partner.slug = f"Deleted firm {partner.id}", f"deleted-{partner.public_id}"
    partner.salesforce_url = ""
    partner.consumer_key_sealed = partner.consumer_secret_sealed = None
    if not suppressions.has_any_at(partner.id):  # an advisor who moved is still held to what was told here
        partner.address_key_sealed = None
    partner.secret_changed_at = None
    for column in TEXTS:
        setattr(partner, column, "")
    partner.org_calls_used = partner.org_calls_allowed = partner.org_calls_seen_at = None
    partner.deleted_at = utcnow()
