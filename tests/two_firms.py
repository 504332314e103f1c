"""Two firms with one row of everything, and dumps of the whole database: for tests of access.

Alice and Bob are at one firm, Charlie is at another; Dora was deactivated, Fred has just been made, Ada is the admin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from asapp.accounts import api_keys, links
from asapp.audit import entries
from asapp.connections import connect
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    Action,
    ApiKey,
    AuditIdentity,
    Connection,
    Contact,
    ContactList,
    Departure,
    DepartureState,
    Lead,
    LeadState,
    ListKind,
    ListMember,
    OptInPage,
    Partner,
    PasswordLinkKind,
    RunChange,
    RunStatus,
    SalesforceList,
    Scope,
    Send,
    SendState,
    SyncRun,
    User,
)
from asapp.partners import setup_link
from asapp.partners.setup_link import Recipient
from tests.factories import (
    make_admin,
    make_advisor,
    make_contact,
    make_partner,
    make_passkey,
    make_run,
    make_synced_connection,
    org_access,
    save,
    session_of,
)
from tests.signing_up import make_page, someone_signs_up

Rows = dict[str, list[str]]


@dataclass
class Belongings:
    """The rows of one advisor that an address or a form can name."""

    user: User
    connection: Connection
    contacts: list[Contact]
    contact_list: ContactList
    seminar: ContactList
    run: SyncRun
    leads: list[Lead]
    page: OptInPage
    send: Send
    password_token: str
    form: dict[str, Any]  # names all of these rows; made once, because each name is a query

    def argument(self, name: str) -> list[Any]:
        """Return the values of an address's argument of this name."""
        assert self.user.partner
        return {
            "contact_id": [contact.id for contact in self.contacts],
            "list_id": [self.contact_list.id, self.seminar.id],
            "run_id": [self.run.id],
            "number": [self.user.id],
        }[name]


@dataclass
class World:
    alice: Belongings
    bob: Belongings
    charlie: Belongings
    dora: User
    fred: User
    ada: User
    api_key: str = ""  # of Northgate's sender, with every scope
    api_key_id: str = ""
    guest_id: int = 0  # the audit log's row about a guest, who came on a setup link
    setup_tokens: dict[int, str] = field(default_factory=dict)  # partner id -> token

    @property
    def northgate(self) -> Partner:
        assert self.alice.user.partner
        return self.alice.user.partner


def make_world() -> World:
    northgate, harbour = make_partner(), make_partner("Harbour Chou", "https://harbour.my.salesforce.com")
    ada = make_admin()
    alice, bob, charlie = (
        make_advisor(firm, name)
        for firm, name in ((northgate, "Alice Moreau"), (northgate, "Bob Tanner"), (harbour, "Charlie Chou"))
    )
    dora = make_advisor(northgate, "Dora Blum", deactivated_at=utcnow())
    fred = make_advisor(northgate, "Fred Newman")
    world = World(fill_advisor(alice), fill_advisor(bob), fill_advisor(charlie), dora, fred, ada)
    for partner in (northgate, harbour):
        world.setup_tokens[partner.id] = setup_link.make_link(partner, Recipient("Sam", "sam@firm.example"), ada)[1]
    entries.record_export(
        Action.SECRET_REPLACED, entries.by_link(northgate, "Sam", "sam@firm.example", "192.0.2.33"), northgate
    )
    of_guests = select(AuditIdentity.id).where(AuditIdentity.partner_id == northgate.id)
    world.api_key = api_keys.make_key("Mail engine", list(Scope), northgate, None, entries.COMMAND)
    world.api_key_id = db.session.scalars(select(ApiKey.public_id)).one()
    for user in (ada, alice, bob, charlie, dora, fred):
        session_of(user)  # here already, so that a log-in changes no table
    world.guest_id = db.session.scalars(of_guests).one()
    db.session.rollback()
    return world


def fill_advisor(advisor: User) -> Belongings:
    name = advisor.name.split()[0]
    connection = make_synced_connection(advisor)
    contacts = [
        make_contact(connection, first_name=f"{name}s-synced"),
        make_contact(connection, first_name=f"{name}s-hidden", hidden_at=utcnow()),
        make_contact(connection, first_name=f"{name}s-gone", departed="deleted"),
        make_contact(advisor, first_name=f"{name}s-manual"),
    ]
    leads = [someone_signs_up(advisor, f"{state}.{name.lower()}@lead.example", f"{name}s-{state}") for state in STATES]
    for lead, state in zip(leads, STATES, strict=True):
        lead.state, lead.connection_id = state, connection.id
    contacts += [lead_contact for lead in leads if (lead_contact := db.session.get(Contact, lead.contact_id or 0))]
    contact_list = ContactList(user_id=advisor.id, kind=ListKind.OWN, name=f"{name}s list", name_key=f"{name}s list")
    run = make_run(connection, RunStatus.HELD, finished_at=utcnow())
    seminar = ContactList(
        user_id=advisor.id, kind=ListKind.CAMPAIGN, name=f"{name}s seminar", name_key=f"{name}s seminar 701"
    )
    save(contact_list)
    save(seminar)
    save(
        SalesforceList(
            list_id=seminar.id,
            connection_id=connection.id,
            salesforce_id="7015g000000AAAAAA2",
            about="Campaign",
            new_scope="",
            new_condition="",
            changed_at=utcnow(),
            not_here={"opted_out": 1},
        ),
        ListMember(list_id=seminar.id, contact_id=contacts[0].id),
        ListMember(list_id=contact_list.id, contact_id=contacts[0].id),
        RunChange(
            run_id=run.id, contact_id=contacts[0].id, kind="updated", old={"last_name": "A"}, new={"last_name": name}
        ),
        Departure(
            connection_id=connection.id,
            salesforce_id=contacts[0].salesforce_id,
            reason="deleted",
            state=DepartureState.HELD,
            found_in_run_id=run.id,
            was_read=True,
        ),
    )
    assert advisor.partner
    connect.begin(advisor, advisor.partner, org_access())
    token = links.make_link(advisor, PasswordLinkKind.RESET)
    page = make_page(advisor)
    make_passkey(advisor)
    send = Send(
        send_scope=advisor.partner.id,
        sender_send_id=f"{name}s-send",
        list_id=contact_list.id,
        max_age_minutes=60,
        state=SendState.READY,
        as_of=utcnow(),
        expires_at=utcnow() + timedelta(hours=1),
        deadline_at=utcnow(),
    )
    save(send)
    form = {
        "id": [str(contact.id) for contact in contacts],
        "list": [str(contact_list.id)],
        "to_list": str(contact_list.id),
        "do": "add",
        "lead": leads[0].public_id,
        "user_id": str(advisor.id),
        "connection_id": str(connection.id),
        "partner_id": str(advisor.partner_id),
    }
    return Belongings(advisor, connection, contacts, contact_list, seminar, run, leads, page, send, token, form)


STATES = (LeadState.REFUSED, LeadState.PLEASE_CHECK, LeadState.SENT)


def whole_database() -> Rows:
    """Return every row of every table, as text."""
    db.session.rollback()
    rows = {
        table.name: sorted(str(tuple(row)) for row in db.session.execute(select(table)))
        for table in db.metadata.sorted_tables
    }
    db.session.rollback()
    return rows


def what_changed(before: Rows, after: Rows, apart_from: Iterable[str] = ()) -> list[str]:
    return [name for name in before if before[name] != after[name] and name not in set(apart_from)]


def rows_of(user: User) -> Rows:
    """Return every row of this user, found along the foreign keys."""
    user_id = user.id
    db.session.rollback()
    ids: dict[str, set[Any]] = {"users": {user_id}}
    found: Rows = {}
    for table in db.metadata.sorted_tables:  # parents first
        if table.name == "partners":
            continue
        owners = [
            (column, ids[key.column.table.name])
            for column in table.columns
            for key in column.foreign_keys
            if ids.get(key.column.table.name)
        ]
        if table.name == "users":
            rows = [row for row in db.session.execute(select(table)).mappings() if row["id"] == user_id]
        else:
            rows = [
                row
                for row in db.session.execute(select(table)).mappings()
                if any(row[column.name] in wanted for column, wanted in owners)
            ]
        found[table.name] = sorted(str(dict(row)) for row in rows)
        if "id" in table.columns:
            ids[table.name] = {row["id"] for row in rows}
    db.session.rollback()
    return found
