"""Lists, and who is on them.

Membership of the lists that the sync fills is computed from the contacts and never stored, so it can't be
out of date. An advisor's own lists have rows for their members; any contact of the advisor's may be on them, active or
not. Lists from Salesforce have such rows too, and only the sync changes them (contacts/salesforce_lists.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, delete, literal, or_, select
from sqlalchemy.exc import IntegrityError

from asapp.contacts.form_fields import check_list_name
from asapp.contacts.status import is_shown
from asapp.core.bulk import in_chunks, is_among
from asapp.core.database import change_rows_returning, insert_ignore
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Contact, ContactList, ContactSource, ListKind, ListMember

SYSTEM_LIST_NAMES = {
    ListKind.SALESFORCE_CONTACTS: "Salesforce Contacts",
    ListKind.SALESFORCE_LEADS: "Salesforce Leads",
    ListKind.OPEN_LEADS: "Salesforce Open Leads",
}
FIRST_LISTS = (ListKind.SALESFORCE_CONTACTS, ListKind.SALESFORCE_LEADS)  # made by the first sync
NAME_KEY_LENGTH = 80


# ---- Membership


def is_on_system_list(kind: ListKind, *, or_deleted_here: bool = False) -> ColumnElement[bool]:
    """Is a contact on this list? Opted-out ones stay, inactive; departed ones and those deleted here do not.

    or_deleted_here: or would it be, if it were restored?
    """
    has_not_left = Contact.departed.is_(None)
    is_here = has_not_left if or_deleted_here else and_(has_not_left, Contact.hidden_at.is_(None))
    if kind == ListKind.SALESFORCE_CONTACTS:
        return and_(Contact.source == ContactSource.SALESFORCE, is_here)
    if kind == ListKind.OPEN_LEADS:
        return and_(Contact.source == ContactSource.SALESFORCE_LEAD, is_here)
    is_sent = and_(Contact.source == ContactSource.LEAD, Contact.salesforce_id.is_not(None))
    return and_(or_(Contact.is_lead, is_sent), is_here)


def is_on(contact_list: ContactList, *, or_deleted_here: bool = False) -> ColumnElement[bool]:
    if contact_list.has_members:
        return Contact.id.in_(select(ListMember.contact_id).where(ListMember.list_id == contact_list.id))
    return is_on_system_list(ListKind(contact_list.kind), or_deleted_here=or_deleted_here)


# ---- The lists that the sync makes


def ensure_system_lists(user_id: int, kinds: Sequence[ListKind] = FIRST_LISTS) -> None:
    """Add these lists, which the sync fills, where they are missing. Joins the caller's transaction."""
    rows = [
        {"user_id": user_id, "kind": kind.value, "name": name, "name_key": name_key(name)}
        for kind, name in SYSTEM_LIST_NAMES.items()
        if kind in kinds
    ]
    db.session.execute(insert_ignore(db.session, ContactList), rows)


# ---- An advisor's own lists


def lists_of(user_id: int) -> list[ContactList]:
    """Return all lists: the system lists first, the others by name."""
    return lists_of_all([user_id])


def lists_of_all(user_ids: Collection[int]) -> list[ContactList]:
    """Return the lists of these advisors, in the order of lists_of()."""
    found = db.session.scalars(select(ContactList).where(is_among(ContactList.user_id, user_ids)))
    order = list(ListKind)
    return sorted(found, key=lambda each: (order.index(ListKind(each.kind)), each.name_key))


def find_list(user_id: int, list_id: int) -> ContactList | None:
    return db.session.scalar(select(ContactList).where(ContactList.user_id == user_id, ContactList.id == list_id))


def find_own_list(user_id: int, list_id: int) -> ContactList | None:
    found = find_list(user_id, list_id)
    return found if found and found.is_own else None


def create_list(user_id: int, name: str) -> ContactList:
    """Add a list. Raise InvalidFields if the name is not acceptable, or taken."""
    clean = check_list_name(name)
    _refuse_system_name(clean)
    made = ContactList(user_id=user_id, kind=ListKind.OWN, name=clean, name_key=name_key(clean))
    db.session.add(made)
    _flush_unless_taken(clean)
    db.session.commit()
    return made


def rename_list(contact_list: ContactList, name: str) -> None:
    """Raise InvalidFields if the name is not acceptable, or taken; ValueError for a system list."""
    _require_own(contact_list)
    clean = check_list_name(name)
    _refuse_system_name(clean)
    contact_list.name, contact_list.name_key = clean, name_key(clean)
    _flush_unless_taken(clean)
    db.session.commit()


def delete_list(contact_list: ContactList) -> None:
    """Delete an advisor's own list; its contacts stay. Raise ValueError for a system list."""
    _require_own(contact_list)
    db.session.delete(contact_list)
    db.session.commit()


def add_members(contact_list: ContactList, contact_ids: Collection[int]) -> int:
    """Add contacts of the list's owner; return how many are new on it. Ids of others' contacts are ignored."""
    _require_own(contact_list)
    added = 0
    for ids in in_chunks(sorted(contact_ids)):
        rows = select(literal(contact_list.id), Contact.id).where(
            Contact.user_id == contact_list.user_id, Contact.id.in_(ids), is_shown()
        )
        insertion = insert_ignore(db.session, ListMember).from_select(["list_id", "contact_id"], rows)
        added += len(db.session.execute(insertion.returning(ListMember.contact_id)).all())
    db.session.commit()
    return added


def remove_members(contact_list: ContactList, contact_ids: Collection[int]) -> list[int]:
    """Take contacts off the list; return those that were on it."""
    _require_own(contact_list)
    removed: list[int] = []
    for ids in in_chunks(sorted(contact_ids)):
        mine = delete(ListMember).where(ListMember.list_id == contact_list.id, ListMember.contact_id.in_(ids))
        removed += change_rows_returning(db.session, mine.returning(ListMember.contact_id))
    db.session.commit()
    return removed


def set_lists_of(contact: Contact, list_ids: Collection[int]) -> None:
    """Make a contact a member of exactly these of its owner's own lists; other ids are ignored."""
    own = select(ContactList.id).where(ContactList.user_id == contact.user_id, ContactList.kind == ListKind.OWN)
    db.session.execute(
        delete(ListMember).where(
            ListMember.contact_id == contact.id,
            ListMember.list_id.in_(own),
            ListMember.list_id.not_in(list(list_ids)),
        )
    )
    wanted = own.with_only_columns(ContactList.id, literal(contact.id)).where(ContactList.id.in_(list(list_ids)))
    db.session.execute(insert_ignore(db.session, ListMember).from_select(["list_id", "contact_id"], wanted))
    db.session.commit()


def name_key(name: str) -> str:
    """Return the key by which two names count as the same."""
    return name.casefold()[:NAME_KEY_LENGTH]


def _refuse_system_name(name: str) -> None:
    if name_key(name) in {name_key(taken) for taken in SYSTEM_LIST_NAMES.values()}:
        raise InvalidFields({"name": f"“{name}” is kept for the list that the sync fills. Choose another name."})


def _flush_unless_taken(name: str) -> None:
    try:
        db.session.flush()
    except IntegrityError as error:
        db.session.rollback()
        raise InvalidFields({"name": f"You have a list named “{name}” already."}) from error


def _require_own(contact_list: ContactList) -> None:
    if not contact_list.is_own:
        raise ValueError("the lists that the sync fills are not changed by hand")
