"""The answer to "Why isn't this person here?": one question, one verdict.

Our own tables answer first: the contact, then the ledger, by Id or by the hash of the address. Only if they can't tell is
Salesforce queried, once, and nothing of its answer is stored: it may be about another user's client.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from sqlalchemy import func, select

from asapp.contacts import tombstones
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.queries import contacts_of
from asapp.contacts.status import (
    contact_rows,
    is_firm_disabled,
    is_not_read,
    is_only_out_of_sight,
    reason_of,
    reason_told,
    waits_for_review,
)
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import EMAIL_MAX, clean_line
from asapp.core.vault import Vault
from asapp.messages.contacts import Answer, UnknownWhy
from asapp.models import (
    Connection,
    Contact,
    Departure,
    DepartureState,
    LedgerEntry,
    LedgerOutcome,
    Partner,
    Reason,
    User,
)
from asapp.salesforce.errors import FieldEncrypted, OurBug, SalesforceError
from asapp.salesforce.fields import ReadFields
from asapp.salesforce.hosts import to_18, with_case_restored
from asapp.salesforce.records import (
    CONTACT_PREFIX,
    LEAD_PREFIX,
    RecordKind,
    cleaned,
    fate_of,
    id_of,
    is_consent_hidden,
    is_opted_out,
    kind_of,
    owner_name_of,
    person_account_of,
)

PEOPLE, ACCOUNT = (CONTACT_PREFIX, LEAD_PREFIX), "001"  # how their Ids begin
ID_WITHIN = r"(?<![A-Za-z0-9]){}[A-Za-z0-9]{{12}}(?:[A-Za-z0-9]{{3}})?(?![A-Za-z0-9])"
PERSON_ID = re.compile(ID_WITHIN.format(f"(?:{'|'.join(PEOPLE)})"))
ACCOUNT_ID = re.compile(ID_WITHIN.format(ACCOUNT))
ANY_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
LINK = re.compile(r"(?:https?:/)?/|[\w.-]+\.[a-z]{2,}/", re.IGNORECASE)
QUESTION_MAX = 1000
NAME_MAX = 121  # as Salesforce has it
LETTERS_LEAST = 2
NOT_IN_NAMES = re.compile(r"[@/\\:=<>]")
ENCODED_TIMES = 3  # a link within a link within a link
LINK_STATE = re.compile(r"eyJ[A-Za-z0-9_=+/-]{20,}")  # base64 of JSON, in older Lightning links
WRAPPING = "<>()[]{}\"'`´“”„‟‘’‚‛«»‹›.,;:!?|*·\u200b\u200c\u200d\u2060\ufeff "  # copied along with the text around


class NotAQuestion(Exception):
    """The text has neither an address nor the Id of a contact; the message says what to enter."""


class AnAccount(NotAQuestion):
    """The text leads to an account. In a firm with person accounts it may be a person's."""

    def __init__(self, words: str, account_id: str) -> None:
        super().__init__(words)
        self.account_id = account_id


class Question(NamedTuple):
    """One of the three is set. salesforce_id: 18 characters. name: why_by_name.py finds who is meant."""

    salesforce_id: str | None = None
    email: str | None = None
    name: str | None = None


class ContactSighting(NamedTuple):
    """A contact or Lead as Salesforce shows it now, of any owner. is_opted_out: None if the field can't be read.

    A converted Lead is shown as deleted, with its contact as master_record_id.
    """

    id: str
    has_email: bool
    is_opted_out: bool | None
    owner_id: str
    owner_name: str
    is_deleted: bool
    master_record_id: str | None
    name: str = ""
    account_id: str | None = None  # of a person account
    is_consent_hidden: bool = False  # is_opted_out only because the consent record can't be seen


class Ask(Protocol):
    def __call__(self, question: Question) -> Sequence[ContactSighting]:
        """Make one call to Salesforce, with no transaction open. Raises SalesforceError."""


class Here(NamedTuple):
    """A contact that is stored here. is_held: its departure waits for Approve or Discard. kept_as: the reason for which it has
    left in Salesforce, if the advisor decided to keep it; new_owner: who has it there.

    waits_for_review, is_only_out_of_sight, is_not_read: why its opt-out is not known (queries.ContactLine). is_consent_hidden:
    it counts as opted out only because its consent record can't be seen.
    """

    id: int
    name: str
    salesforce_id: str | None
    reason: str | None
    merged_into: str | None
    is_held: bool
    waits_for_review: bool = False
    is_only_out_of_sight: bool = False
    is_not_read: bool = False
    account_id: str | None = None  # of a person account
    is_consent_hidden: bool = False
    is_firm_disabled: bool = False
    kept_as: str | None = None
    new_owner: str = ""

    @property
    def answer(self) -> Answer:
        told = reason_told(
            self.reason,
            self.waits_for_review,
            self.is_only_out_of_sight,
            self.is_not_read,
            is_conversion(self.salesforce_id, self.merged_into),
            self.is_consent_hidden,
            self.is_firm_disabled,
        )
        return OF_REASON[told] if told else Answer.HERE


@dataclass(frozen=True)
class KnownHere:
    """What our own tables say. outcome: the ledger's, for the Id or, if opted out, for the address. erased_at: when the
    person was erased on request.
    """

    contacts: Sequence[Here] = ()
    outcome: str | None = None
    erased_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    answer: Answer
    contact: Here | None = None  # the contact here
    salesforce_id: str | None = None  # to open it in Salesforce
    owner_name: str = ""
    merged_into: str | None = None
    name: str = ""  # of the record that Salesforce showed; never stored
    was_asked: bool = False  # did Salesforce answer just now?
    error: SalesforceError | None = None
    account_id: str | None = None  # of a person account: its page shows the person
    erased_at: datetime | None = None

    @property
    def kept_as(self) -> str | None:
        return self.contact.kept_as if self.contact else None

    @property
    def page_id(self) -> str | None:
        """Return the Id of the record to open in Salesforce."""
        return self.account_id or self.salesforce_id


OF_REASON: Mapping[str, Answer] = {
    Reason.UNSUBSCRIBED: Answer.UNSUBSCRIBED,
    Reason.COMPLAINED: Answer.COMPLAINED,
    Reason.BOUNCED: Answer.BOUNCED,
    Reason.OPTED_OUT: Answer.OPTED_OUT,
    Reason.TWIN_OPTED_OUT: Answer.TWIN_OPTED_OUT,
    Reason.DELETED: Answer.DELETED,
    Reason.MERGED: Answer.MERGED,
    Reason.REASSIGNED: Answer.SOMEBODY_ELSES,
    Reason.GONE: Answer.NOT_VISIBLE,
    Reason.HIDDEN_HERE: Answer.REMOVED_HERE,
    Reason.DISCONNECTED: Answer.DISCONNECTED,
    Reason.OPT_OUT_UNKNOWN: Answer.OPT_OUT_UNKNOWN,
    UnknownWhy.FOR_REVIEW: Answer.FOR_REVIEW,
    UnknownWhy.OUT_OF_SIGHT: Answer.OUT_OF_SIGHT,
    UnknownWhy.LEADS_OFF: Answer.LEADS_OFF,
    UnknownWhy.CONVERTED: Answer.CONVERTED,
    UnknownWhy.CONSENT_HIDDEN: Answer.CONSENT_HIDDEN,
    UnknownWhy.FIRM_DISABLED: Answer.FIRM_DISABLED,
}
LEFT = frozenset({Reason.DELETED, Reason.MERGED, Reason.REASSIGNED, Reason.GONE})
OF_OUTCOME = {LedgerOutcome.OPTED_OUT: Answer.OPTED_OUT, LedgerOutcome.NO_EMAIL: Answer.NO_EMAIL}


# ---- The question


def read_question(text: str) -> Question:
    """Return the Id, address or name in a typed or pasted text.

    Raises NotAQuestion with a message, AnAccount for an account's Id.
    """
    typed = clean_line(text[:QUESTION_MAX]).strip(WRAPPING)
    if not typed:
        raise NotAQuestion("Enter a name, an email address, or the Id or link of a contact in Salesforce.")
    if typed.lower().startswith("mailto:"):
        typed = unquote(typed[len("mailto:") :].partition("?")[0])
    if ANY_ID.fullmatch(typed):
        return Question(salesforce_id=_contact_id(typed))
    if LINK.match(typed):
        return Question(salesforce_id=_id_in_link(typed))
    address = ADDRESS.search(typed)
    if address and (address.group() == typed or f"<{address.group()}>" in f"{typed}>"):
        return Question(email=_address(address.group()))
    if found := PERSON_ID.search(_decoded(typed)):
        return Question(salesforce_id=_contact_id(found.group()))
    if is_name(typed):
        return Question(name=" ".join(typed.split())[:NAME_MAX])
    raise NotAQuestion("That is neither a name, an email address, nor the Id or link of a contact.")


def is_name(text: str) -> bool:
    """Can this be a person's name? It has two letters at least, and nothing of an address or a link."""
    return sum(each.isalpha() for each in text) >= LETTERS_LEAST and not NOT_IN_NAMES.search(text)


def _contact_id(text: str) -> str:
    if not text.startswith(PEOPLE):
        raise _no_contact(
            text,
            "That Id is not a contact's or a lead's. Those begin with 003 and 00Q; the link of their page holds them.",
        )
    return _checked(text)


def _no_contact(text: str, words: str) -> NotAQuestion:
    """Return the error for an Id that is no contact's. text: an Id, or nothing."""
    if text.startswith(ACCOUNT):
        with suppress(NotAQuestion):
            return AnAccount(words, _checked(text))
    return NotAQuestion(words)


def _checked(text: str) -> str:
    """Return the 18 characters of an Id, restoring upper and lower case where a system or spreadsheet lost it."""
    record_id = to_18(text[:15])
    if len(text) == 15 or text == record_id:
        return record_id
    has_lost_case = _may_have_lost_case(text)
    restored = with_case_restored(text) if has_lost_case or text[15:] != text[15:].upper() else None
    if restored is None or (not has_lost_case and restored[:15] != text[:15]):
        raise NotAQuestion("That Id is mistyped somewhere: its last three letters don't fit. Copy it again.")
    return restored


def _may_have_lost_case(record_id: str) -> bool:
    return record_id[:15] in (record_id[:15].lower(), record_id[:15].upper())


def _id_in_link(link: str) -> str:
    plain = _decoded(link)
    if found := PERSON_ID.search(plain):
        return _contact_id(found.group())
    account = ACCOUNT_ID.search(plain)
    raise _no_contact(
        account.group() if account else "",
        "That link doesn't lead to a contact. Open the contact in Salesforce and copy its address.",
    )


def _decoded(link: str) -> str:
    """Return a link with its encoded parts decoded: `%2F`, links within links, and the state of older Lightning links."""
    for _ in range(ENCODED_TIMES):
        link = unquote(link)
    for state in LINK_STATE.findall(link):
        with suppress(ValueError):
            link += " " + urlsafe_b64decode(state.rstrip("=") + "=" * (-len(state.rstrip("=")) % 4)).decode()
    return link


def _address(text: str) -> str:
    if len(text) > EMAIL_MAX:
        raise NotAQuestion("This is longer than an email address can be.")
    return text


# ---- The verdict


def find_out(
    user_id: int,
    question: Question,
    hashed: bytes | None,
    connection: Connection | None,
    ask: Ask | None,
) -> Verdict:
    """Return the verdict from our tables, else from one call by ask, which is not called if not needed."""
    question = with_case_as_here(user_id, question)
    known = find_local_records(user_id, question, hashed)
    verdict = decide_from_here(known)
    if verdict and not (ask and connection and _knows_more(connection, verdict)):
        return replace(verdict, salesforce_id=verdict.salesforce_id or question.salesforce_id)
    if connection is None or ask is None:
        return verdict or Verdict(Answer.NOT_CONNECTED)
    owner_id = connection.salesforce_user_id
    try:
        sightings = _put(ask, question, verdict)
    except OurBug:
        raise
    except FieldEncrypted:
        return verdict or Verdict(Answer.ENCRYPTED)
    except SalesforceError as error:
        return replace(verdict or Verdict(Answer.NO_ANSWER, salesforce_id=question.salesforce_id), error=error)
    brings_in = connection.partner.brings_in_open_leads
    return decide_from_there(sightings, owner_id, verdict.contact if verdict else None, brings_in_leads=brings_in)


def _knows_more(connection: Connection, verdict: Verdict) -> bool:
    """Does Salesforce know more than our tables: who owns the record, or why one that isn't here counts as opted out?"""
    is_by_ledger = verdict.answer == Answer.OPTED_OUT and verdict.contact is None
    return verdict.answer == Answer.SOMEBODY_ELSES or (is_by_ledger and connection.partner.has_consent_records)


def _put(ask: Ask, question: Question, verdict: Verdict | None) -> Sequence[ContactSighting]:
    """Query as asked; if addresses are encrypted there, by the Id that we know. Without one raises FieldEncrypted."""
    try:
        return ask(question)
    except FieldEncrypted:
        if verdict is None or verdict.salesforce_id is None:
            raise
    return ask(Question(salesforce_id=verdict.salesforce_id))


def decide_from_here(known: KnownHere) -> Verdict | None:
    """Return the verdict if our own tables can tell; None if they can't."""
    if known.contacts:
        contact = min(known.contacts, key=_rank)
        if (
            contact.reason in LEFT and known.outcome in OF_OUTCOME
        ):  # this record departed, another one with the address is known
            return Verdict(OF_OUTCOME[LedgerOutcome(known.outcome)])
        answer = contact.answer
        if answer == Answer.HERE:
            answer = Answer.HELD if contact.is_held else Answer.KEPT if contact.kept_as else answer
        verdict = Verdict(answer, contact, contact.salesforce_id, merged_into=contact.merged_into)
        return replace(verdict, account_id=contact.account_id, owner_name=contact.new_owner)
    if known.erased_at is not None:
        return Verdict(Answer.ERASED, erased_at=known.erased_at)
    if known.outcome in OF_OUTCOME:
        return Verdict(OF_OUTCOME[LedgerOutcome(known.outcome)])
    return None


def decide_from_there(
    sightings: Sequence[ContactSighting], owner_id: str, contact: Here | None = None, *, brings_in_leads: bool = False
) -> Verdict:
    """Return the verdict on what Salesforce shows. owner_id: the connected user; contact: the departed one here."""
    if not sightings:
        return Verdict(Answer.NOT_VISIBLE, contact, was_asked=True)
    mine = [each for each in sightings if each.owner_id == owner_id and not each.is_deleted]
    others = [each for each in sightings if each.owner_id != owner_id and not each.is_deleted]
    shown = (mine or others or list(sightings))[0]
    verdict = Verdict(
        Answer.NOT_VISIBLE,
        contact,
        shown.id,
        merged_into=shown.master_record_id,
        name=shown.name,
        was_asked=True,
        account_id=shown.account_id,
    )
    if mine:
        wanted = [each for each in mine if brings_in_leads or kind_of(each.id) == RecordKind.CONTACT]
        return _decide_mine(wanted, verdict) if wanted else replace(verdict, answer=Answer.LEADS_OFF)
    if others:
        return replace(verdict, answer=Answer.SOMEBODY_ELSES, owner_name=shown.owner_name)
    if is_conversion(shown.id, shown.master_record_id):
        return replace(verdict, answer=Answer.CONVERTED)
    return replace(verdict, answer=Answer.MERGED if shown.master_record_id else Answer.DELETED)


def is_conversion(salesforce_id: str | None, went_into: str | None) -> bool:
    """Did a Lead become a contact?"""
    return bool(salesforce_id and went_into) and (kind_of(str(salesforce_id)), kind_of(str(went_into))) == (
        RecordKind.LEAD,
        RecordKind.CONTACT,
    )


def _decide_mine(mine: Sequence[ContactSighting], verdict: Verdict) -> Verdict:
    """Return the verdict on the connected user's records that are not here; the one that could be imported decides."""
    for each in sorted(mine, key=lambda each: each.is_opted_out is not False):
        verdict = replace(verdict, salesforce_id=each.id, account_id=each.account_id)
        if each.is_opted_out:
            return replace(verdict, answer=Answer.CONSENT_HIDDEN if each.is_consent_hidden else Answer.OPTED_OUT)
        if each.is_opted_out is None:
            return replace(verdict, answer=Answer.OPT_OUT_UNKNOWN)
        if not each.has_email:
            return replace(verdict, answer=Answer.NO_EMAIL)
        break
    is_twin = any(each.is_opted_out for each in mine)
    return replace(verdict, answer=Answer.TWIN_OPTED_OUT if is_twin else Answer.ON_ITS_WAY)


def _rank(contact: Here) -> tuple[bool, bool, int]:
    """Sort key, best first: active ones, then those still in Salesforce, then the newest."""
    return contact.reason is not None, contact.reason in LEFT, -contact.id


# ---- What our tables know


def with_case_as_here(user_id: int, question: Question) -> Question:
    """Restore the case of a 15-character Id from the advisor's one stored record that fits, if there is one."""
    record_id = question.salesforce_id
    if record_id is None or not _may_have_lost_case(record_id):
        return question
    mine = select(Connection.id).where(Connection.user_id == user_id)
    stored = LedgerEntry.salesforce_id
    in_ledger = select(stored).where(LedgerEntry.connection_id.in_(mine), _fits(stored, record_id))
    in_contacts = select(Contact.salesforce_id).where(contacts_of(user_id), _fits(Contact.salesforce_id, record_id))
    found = set(db.session.scalars(in_ledger.union(in_contacts)))
    return Question(salesforce_id=found.pop()) if len(found) == 1 else question


def _fits(stored: Any, record_id: str) -> Any:
    return func.lower(func.substr(stored, 1, 15)) == record_id[:15].lower()


def find_local_records(user_id: int, question: Question, hashed: bytes | None) -> KnownHere:
    """Return what our tables have. hashed: of the question's address; None if the firm has no key yet."""
    if question.salesforce_id is None and hashed is None:
        return KnownHere()
    if question.salesforce_id:
        is_it: Any = Contact.salesforce_id == question.salesforce_id
    else:
        is_it = Contact.address_hash == hashed
    now = utcnow()
    rows = db.session.execute(
        contact_rows(
            Contact,
            reason_of(now).label("reason"),
            waits_for_review().label("waits_for_review"),
            is_only_out_of_sight(now).label("is_only_out_of_sight"),
            is_not_read().label("is_not_read"),
            is_firm_disabled().label("is_firm_disabled"),
            Departure.state.label("departure"),
            Departure.reason.label("left_as"),
            Departure.owner_name.label("new_owner"),
        )
        .outerjoin(
            Departure,
            (Departure.connection_id == Contact.connection_id)
            & (Departure.salesforce_id == Contact.salesforce_id)
            & Departure.state.in_((DepartureState.HELD, DepartureState.DISCARDED)),
        )
        .where(contacts_of(user_id), is_it)
        .limit(100)
    ).all()
    erased_at = tombstones.find_erased_at(user_id, question.salesforce_id, hashed)
    return KnownHere([_here(row) for row in rows], _outcome(user_id, question, hashed), erased_at)


def hash_of(question: Question, partner: Partner, vault: Vault) -> bytes | None:
    """Return the hash for find_local_records(). It creates no key: without one there is nothing to find."""
    if question.email is None or partner.address_key_sealed is None:
        return None
    return address_hash(question.email, address_key(db.session(), partner, vault))


def find_survivor(user_id: int, salesforce_id: str | None) -> Contact | None:
    """Return the contact here that a record was merged into."""
    if salesforce_id is None:
        return None
    return db.session.scalar(
        select(Contact)
        .where(contacts_of(user_id), Contact.salesforce_id == salesforce_id, Contact.departed.is_(None))
        .limit(1)
    )


def sightings_of(
    rows: Sequence[Mapping[str, Any]], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT
) -> list[ContactSighting]:
    """Return what rows of JSON show. KeyError, TypeError or ValueError if they have another form."""
    return [_sighting_of(row, fields, kind) for row in rows]


def _sighting_of(row: Mapping[str, Any], fields: ReadFields, kind: RecordKind) -> ContactSighting:
    opted_out = is_opted_out(row, fields)
    return ContactSighting(
        id_of(row["Id"], kind.prefix),
        bool(row["Email"]),
        opted_out,
        id_of(row["OwnerId"]),
        owner_name_of(row),
        *fate_of(row, kind),
        cleaned(row.get("Name")),
        person_account_of(row, fields),
        bool(opted_out) and is_consent_hidden(row, fields),
    )


def _here(row: Any) -> Here:
    contact: Contact = row.Contact
    return Here(
        contact.id,
        contact.name,
        contact.salesforce_id,
        row.reason,
        contact.merged_into,
        row.departure == DepartureState.HELD,
        bool(row.waits_for_review),
        bool(row.is_only_out_of_sight),
        bool(row.is_not_read),
        contact.account_id,
        contact.consent_hidden,
        bool(row.is_firm_disabled),
        row.left_as if row.departure == DepartureState.DISCARDED else None,
        row.new_owner or "",
    )


def _outcome(user_id: int, question: Question, hashed: bytes | None) -> str | None:
    """Return the ledger's outcome for the Id; for an address it knows only whether a record with it opted out."""
    firm = select(User.partner_id).where(User.id == user_id).scalar_subquery()
    mine = select(Connection.id).where(Connection.user_id == user_id, Connection.partner_id == firm)
    query = select(LedgerEntry.outcome).where(LedgerEntry.connection_id.in_(mine))
    if question.salesforce_id:
        query = query.where(LedgerEntry.salesforce_id == question.salesforce_id)
    else:
        query = query.where(LedgerEntry.address_hash == hashed, LedgerEntry.outcome == LedgerOutcome.OPTED_OUT)
    return db.session.scalar(query.order_by(LedgerEntry.connection_id.desc()).limit(1))
