"""The audit log as admins read it: filtered, newest first, page by page or as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import aliased

from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.core.formats import current_zone
from asapp.messages.audit import FIRMS, told
from asapp.models import Action, ActorKind, AuditEntry, AuditIdentity, Connection, Partner, User

A_PAGE = 50
ROWS_A_PIECE = 1000
SEARCH_MAX = 120
RECENT = 5  # log-ins that a person is shown

WORDS = {
    Action.LOGGED_IN: "Logged in",
    Action.LOGIN_REFUSED: "Could not log in",
    Action.SESSIONS_ENDED: "Logged other devices out",
    Action.PASSWORD_CHANGED: "Changed a password",
    Action.PASSWORD_LINK_SENT: "Sent a link for a new password",
    Action.SECOND_FACTOR_SET_UP: "Set up a second step",
    Action.SECOND_FACTOR_REMOVED: "Turned the second step off",
    Action.SECOND_FACTOR_RESET: "Reset another person's second step",
    Action.SECOND_FACTOR_LINK_MADE: "Made a link for setting up a second step",
    Action.SECOND_FACTOR_LINK_USED: "Opened the link for setting up a second step",
    Action.RECOVERY_CODES_RENEWED: "Made new recovery codes",
    Action.PASSKEY_ADDED: "Added a passkey",
    Action.PASSKEY_RENAMED: "Renamed a passkey",
    Action.PASSKEY_REMOVED: "Removed a passkey",
    Action.PROVIDER_LINKED: "Linked a log-in at the identity provider",
    Action.PROVIDER_UNLINKED: "Unlinked a log-in at the identity provider",
    Action.PASSWORD_ALLOWED: "Let an admin log in with a password",
    Action.PASSWORD_WITHDRAWN: "Let an admin no longer log in with a password",
    Action.PERSON_CREATED: "Created a person",
    Action.EMAIL_CHANGED: "Changed an email address",
    Action.NAME_CHANGED: "Changed a name",
    Action.INVITED: "Made an invitation link",
    Action.DEACTIVATED: "Deactivated an advisor",
    Action.LET_BACK_IN: "Let an advisor back in",
    Action.MOVED: "Moved an advisor",
    Action.PARTNER_CREATED: "Created a firm",
    Action.PARTNER_CHANGED: "Changed a firm",
    Action.OPT_OUTS_WRITTEN_BACK: "Had Salesforce told of earlier unsubscribes",
    Action.PARTNER_ENABLED: "Enabled a firm",
    Action.PARTNER_DISABLED: "Disabled a firm",
    Action.PARTNER_STOPPED: "Stopped everything for a firm",
    Action.PARTNER_DELETED: "Deleted a firm",
    Action.SECRET_REPLACED: "Replaced the secret",
    Action.SETUP_LINK_SENT: "Made a setup link",
    Action.SETUP_LINK_REVOKED: "Revoked the setup link",
    Action.CONNECTED: "Connected",
    Action.BROKE: "Connection broke",
    Action.DISCONNECTED: "Disconnected",
    Action.SWITCHED: "Switched the Salesforce user",
    Action.EXPORTED: "Exported",
    Action.CONTACTS_DELETED: "Deleted contacts",
    Action.CONTACTS_RESTORED: "Restored contacts",
    Action.APPROVED: "Approved a held sync",
    Action.DISCARDED: "Discarded a held sync",
    Action.RECONSIDERED: "Took back the decision about a held sync",
    Action.ERASED: "Erased a person",
    Action.KEYS_ROTATED: "Rotated the encryption keys",
    Action.API_KEY_MADE: "Made an API key",
    Action.API_KEY_REVOKED: "Revoked an API key",
}
OF_LOG_INS = (
    "logged_",
    "login_",
    "password_",
    "provider_",
    "sessions_",
    "second_factor_",
    "recovery_codes_",
    "passkey_",
)
GROUPS: dict[str, tuple[str, tuple[Action, ...]]] = {
    "connected": (
        "Connected, disconnected",
        (Action.CONNECTED, Action.BROKE, Action.DISCONNECTED, Action.SWITCHED),
    ),
    "firms": (
        "Firms and their set-up",
        tuple(a for a in Action if a.startswith(("partner_", "secret_", "setup_", "opt_outs_"))),
    ),
    "secrets": (
        "Secrets and keys",
        (Action.SECRET_REPLACED, Action.KEYS_ROTATED, Action.API_KEY_MADE, Action.API_KEY_REVOKED),
    ),
    "exported": ("Exported", (Action.EXPORTED,)),
    "deleted": ("Deleted, restored, erased", (Action.CONTACTS_DELETED, Action.CONTACTS_RESTORED, Action.ERASED)),
    "held": ("Approved, discarded", (Action.APPROVED, Action.DISCARDED, Action.RECONSIDERED)),
    "people": (
        "People",
        (
            Action.PERSON_CREATED,
            Action.EMAIL_CHANGED,
            Action.NAME_CHANGED,
            Action.INVITED,
            Action.DEACTIVATED,
            Action.LET_BACK_IN,
            Action.MOVED,
        ),
    ),
    "logins": (
        "Log-ins and passwords",
        tuple(a for a in Action if a.startswith(OF_LOG_INS)),
    ),
}
KINDS = {
    ActorKind.LINK: "by setup link",
    ActorKind.COMMAND: "by command",
    ActorKind.ITSELF: "by itself",
    ActorKind.NOBODY: "not logged in",
}
SUBJECTS = {"connections": "connection", "contacts": "contact", "users": "person", "partners": "firm"}
COLUMNS = ("at", "who", "email", "who_id", "kind", "action", "firm", "about", "about_id", "details", "from")


@dataclass(frozen=True)
class AuditQuery:
    """The filter. who: part of a name or an address. what: a key of GROUPS. firm: a slug.

    since, until: days of the reader's time zone.
    """

    who: str = ""
    what: str = ""
    firm: str = ""
    since: date | None = None
    until: date | None = None
    before_id: int | None = None


@dataclass(frozen=True)
class AuditLine:
    entry: AuditEntry
    identity: AuditIdentity | None
    actor: User | None
    partner: Partner | None
    subject: User | None  # if it is about a person
    connection: Connection | None = None  # if it is about one, with its advisor
    owner: User | None = None
    firms: Mapping[int, str] = field(default_factory=dict)  # {id: name}

    @property
    def who(self) -> str:
        if self.actor is not None:
            return self.actor.name
        if self.identity is not None and self.identity.name:
            return self.identity.name
        return {ActorKind.NOBODY: "Someone", ActorKind.LINK: "Erased"}.get(
            ActorKind(self.entry.actor_kind), "AdvisorStream"
        )

    @property
    def email(self) -> str:
        if self.actor is not None:
            return self.actor.email
        return self.identity.email if self.identity is not None else ""

    @property
    def kind(self) -> str:
        if self.actor is not None:
            return self.actor.role
        return KINDS.get(ActorKind(self.entry.actor_kind), "")

    @property
    def what(self) -> str:
        action = Action(self.entry.action)
        is_first = action == Action.SECRET_REPLACED and self.entry.details.get("consumer_secret") == "entered"
        return "Entered the secret" if is_first else WORDS[action]

    @property
    def about(self) -> str:
        """Return the subject: a person and a connection by name, contacts by their number only."""
        named = [self.partner.name] if self.partner is not None else []
        if self.subject is not None:
            named.insert(0, self.subject.name)
        elif self.connection is not None and self.owner is not None:
            named.insert(0, f"{self.owner.name} ({self.connection.username})")
        elif self.entry.subject_type in ("connections", "contacts"):
            named.insert(0, f"{SUBJECTS[self.entry.subject_type]} {self.entry.subject_id}")
        return ", ".join(named)

    @property
    def guest_id(self) -> int | None:
        """Return the identity row of a person without an account, who can be erased."""
        it = self.identity
        return it.id if it is not None and it.partner_id is not None and it.erased_at is None else None

    @property
    def details(self) -> str:
        return "; ".join(told(name, value, self.firms) for name, value in self.entry.details.items())

    @property
    def client_address(self) -> str:
        return self.identity.client_address if self.identity is not None else ""


@dataclass(frozen=True)
class AuditPage:
    lines: list[AuditLine]
    total: int
    older_id: int | None  # the cursor for older entries


def find_page(wanted: AuditQuery) -> AuditPage:
    """Return one page of entries: three queries for any number of entries, and one more if some name firms by number."""
    total = db.session.scalar(_from(select(func.count())).where(*_where(wanted, is_count=True))) or 0
    rows = db.session.execute(_entries(wanted).limit(A_PAGE + 1)).all()
    firms = _firms_named([row.AuditEntry for row in rows[:A_PAGE]])
    lines = [replace(AuditLine(*row), firms=firms) for row in rows[:A_PAGE]]
    return AuditPage(lines, total, lines[-1].entry.id if len(rows) > A_PAGE else None)


@dataclass(frozen=True)
class LogIn:
    """A try to log in, as the person it is about sees it."""

    at: datetime
    what: str
    client_address: str


def recent_log_ins(user: User) -> list[LogIn]:
    """Return the last tries to log in as this person, the newest first."""
    tries = (
        select(AuditEntry, AuditIdentity.client_address)
        .outerjoin(AuditIdentity, AuditIdentity.id == AuditEntry.identity_id)
        .where(
            AuditEntry.subject_type == "users",
            AuditEntry.subject_id == user.id,
            AuditEntry.action.in_((Action.LOGGED_IN, Action.LOGIN_REFUSED)),
        )
        .order_by(AuditEntry.id.desc())
        .limit(RECENT)
    )
    return [LogIn(entry.at, _words_of_log_in(entry), address or "") for entry, address in db.session.execute(tries)]


def _words_of_log_in(entry: AuditEntry) -> str:
    if entry.action == Action.LOGGED_IN:
        way = entry.details.get("second_step")
        return f"Logged in with a {way}" if way in ("recovery code", "passkey") else "Logged in"
    if "provider" in entry.details:
        return "Logged in at AdvisorStream, not let in here"
    if "passkey" in entry.details.get("second_step", ""):
        return "Right password, passkey refused"
    return "Right password, wrong code" if "second_step" in entry.details else "Wrong password"


def iter_csv(wanted: AuditQuery) -> Iterator[str]:
    yield csv_header(COLUMNS)
    with closing(db.session.execute(_entries(wanted), execution_options={"yield_per": ROWS_A_PIECE})) as result:
        for rows in result.partitions():
            yield csv_rows([_cells(AuditLine(*row)) for row in rows])
    end_read(db.session)


Actor, Subject, Owner = aliased(User), aliased(User), aliased(User)


def _entries(wanted: AuditQuery) -> Select[Any]:
    rows = _from(select(AuditEntry, AuditIdentity, Actor, Partner, Subject, Connection, Owner))
    found: Select[Any] = rows.where(*_where(wanted)).order_by(AuditEntry.id.desc())
    return found


def _from(query: Any) -> Any:
    about_connection = (AuditEntry.subject_type == "connections") & (AuditEntry.subject_id == Connection.id)
    about_person = (AuditEntry.subject_type == "users") & (AuditEntry.subject_id == Subject.id)
    return (
        query.select_from(AuditEntry)
        .outerjoin(AuditIdentity, AuditIdentity.id == AuditEntry.identity_id)
        .outerjoin(Actor, Actor.id == AuditEntry.actor_id)
        .outerjoin(Partner, Partner.id == AuditEntry.partner_id)
        .outerjoin(Subject, about_person)
        .outerjoin(Connection, about_connection)
        .outerjoin(Owner, Owner.id == Connection.user_id)
    )


def _where(wanted: AuditQuery, is_count: bool = False) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if text := wanted.who.strip().lower():
        names = (AuditIdentity.name, AuditIdentity.email, AuditIdentity.client_address)
        people = (Actor.name, Actor.email, Subject.name, Subject.email, Partner.name)
        found.append(or_(*(func.lower(column).contains(text, autoescape=True) for column in (*names, *people))))
    if wanted.what in GROUPS:
        found.append(AuditEntry.action.in_(GROUPS[wanted.what][1]))
    if wanted.firm:
        found.append(Partner.slug == wanted.firm)
    if wanted.since is not None:
        found.append(AuditEntry.at >= _midnight(wanted.since))
    if wanted.until is not None:
        found.append(AuditEntry.at < _midnight(wanted.until + timedelta(days=1)))
    if wanted.before_id is not None and not is_count:
        found.append(AuditEntry.id < wanted.before_id)
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), current_zone())


def _firms_named(entries: Sequence[AuditEntry]) -> dict[int, str]:
    """Return {id: name} of the firms that the details of these entries name by number."""
    ids = {entry.details[name] for entry in entries for name in FIRMS if name in entry.details}
    if not ids:
        return {}
    return {row.id: row.name for row in db.session.execute(select(Partner.id, Partner.name).where(Partner.id.in_(ids)))}


def _cells(line: AuditLine) -> list[object]:
    entry = line.entry
    return [
        entry.at.isoformat(timespec="seconds"),
        line.who,
        line.email,
        entry.actor_id,
        line.kind,
        entry.action,
        line.partner.name if line.partner else "",
        SUBJECTS.get(entry.subject_type or "", ""),
        entry.subject_id,
        json.dumps(entry.details, ensure_ascii=False) if entry.details else "",
        line.client_address,
    ]
