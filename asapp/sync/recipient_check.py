"""What a run does for sends that are being prepared: it asks Salesforce about each of their recipients by Id.

Changes are found by their stamp, but visibility and formula fields change without one. So before a mailing each recipient's
opt-out, owner and address are read: 2,000 in a call, up to 4 calls side by side. What differs is read whole, and a contact that
is not shown or has another owner is nominated like any departure. sends/prepare.py decides whether a send is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import exists, or_, select, update

from asapp.connections.org_access import BeforeCall, OrgAccess
from asapp.contacts.lists import is_on
from asapp.contacts.status import contact_rows, is_shown
from asapp.core.bulk import in_chunks
from asapp.core.database import change_rows, fetch_tuples
from asapp.core.extensions import db
from asapp.models import Connection, Contact, ContactList, ContactSource, ListMember, Send, SendState
from asapp.models.contact import FROM_SALESFORCE, is_known_in_salesforce
from asapp.salesforce.client import IDS_A_RETRIEVE, OrgClient
from asapp.salesforce.records import RecordKind, RetrievedContact

SIDE_BY_SIDE = 4


class StoredRecipient(NamedTuple):
    """What is stored of a recipient."""

    email: str
    opted_out: bool


class RecipientsToCheck(NamedTuple):
    """The sends that wait for a run, and those of their recipients that belong to the run's connection, by Salesforce Id."""

    send_ids: list[int]
    list_ids: list[int]
    contacts: dict[str, StoredRecipient]
    open_leads: dict[str, StoredRecipient]  # Leads that come in like contacts
    lead_ids: list[str]  # of people from the sign-up page


def find_to_check(run_id: int, connection: Connection) -> RecipientsToCheck | None:
    """Return what the sends that wait for this run need checked; None if no send waits.

    That is everyone on their lists but those who left or opted out there: who is inactive for another reason may be active
    again a moment later, restored or subscribed again here.
    """
    is_waiting = (Send.run_id == run_id, Send.state == SendState.PREPARING)
    sends = db.session.execute(select(Send.id, Send.list_id).where(*is_waiting)).all()
    if not sends:
        return None
    lists = db.session.scalars(select(ContactList).where(ContactList.id.in_({send.list_id for send in sends})))
    on_them = or_(*(is_on(each, or_deleted_here=True) for each in lists))
    rows = fetch_tuples(
        db.session.connection(),
        contact_rows(Contact.source, Contact.salesforce_id, Contact.email, Contact.opted_out)
        .where(
            or_(Contact.connection_id == connection.id, Contact.followed_by_id == connection.id),
            Contact.user_id == connection.user_id,
            Contact.salesforce_id.is_not(None),
            on_them,
            is_shown(),
            Contact.departed.is_(None),
            ~Contact.opted_out,
        )
        .order_by(Contact.salesforce_id),
        {},
    )
    contacts, open_leads = (
        {
            salesforce_id: StoredRecipient(email, bool(opted_out))
            for source, salesforce_id, email, opted_out in rows
            if source == wanted
        }
        for wanted in FROM_SALESFORCE
    )
    lead_ids = [salesforce_id for source, salesforce_id, _, _ in rows if source == ContactSource.LEAD]
    list_ids = sorted({send.list_id for send in sends})
    return RecipientsToCheck([send.id for send in sends], list_ids, contacts, open_leads, lead_ids)


def has_newcomers(to_check: RecipientsToCheck, since: datetime) -> bool:
    """Has anyone who is in Salesforce been put on these lists since their recipients were asked about, here or by this run?"""
    came = exists().where(
        ListMember.list_id.in_(to_check.list_ids),
        ListMember.added_at >= since,
        Contact.id == ListMember.contact_id,
        is_known_in_salesforce(),
    )
    return bool(db.session.scalar(select(came)))


def retrieve(
    client: OrgClient,
    access: OrgAccess,
    connection: Connection,
    before_call: BeforeCall,
    ids: Sequence[str],
    kind: RecordKind,
) -> dict[str, RetrievedContact | None]:
    """Return these contacts or Leads as Salesforce has them now, None for one that it doesn't show. Raises SalesforceError.

    client: the run's own, which knows the fields that the user can read. If one call isn't enough, up to SIDE_BY_SIDE threads
    ask, each with a client of its own. No transaction may be open.
    """
    chunks = list(in_chunks(ids, IDS_A_RETRIEVE))
    if len(chunks) < 2:
        return dict(zip(ids, client.retrieve_contacts(ids, kind), strict=True)) if ids else {}
    lines = [chunks[number::SIDE_BY_SIDE] for number in range(min(SIDE_BY_SIDE, len(chunks)))]
    with ExitStack() as open_clients, ThreadPoolExecutor(len(lines), thread_name_prefix="recipients") as threads:
        clients = [open_clients.enter_context(access.open(connection, before_call)) for _ in lines]
        for each in clients:
            each.know_fields(client.contact_fields.key, client.lead_fields.key)
        answers = [
            threads.submit(copy_context().run, _retrieve_all, each, line, kind)
            for each, line in zip(clients, lines, strict=True)
        ]
        found: dict[str, RetrievedContact | None] = {}
        for answer in answers:
            found |= answer.result()
    return found


def _retrieve_all(
    client: OrgClient, chunks: Sequence[list[str]], kind: RecordKind
) -> dict[str, RetrievedContact | None]:
    found: dict[str, RetrievedContact | None] = {}
    for chunk in chunks:
        found |= dict(zip(chunk, client.retrieve_contacts(chunk, kind), strict=True))
    return found


def record_checked(to_check: RecipientsToCheck, run_id: int, asked_at: datetime) -> None:
    """Record when the recipients of these sends were asked about, in the caller's transaction."""
    is_waiting = (Send.id.in_(to_check.send_ids), Send.run_id == run_id, Send.state == SendState.PREPARING)
    change_rows(db.session, update(Send).where(*is_waiting).values(as_of=asked_at))
