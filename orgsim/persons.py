"""Person accounts: an Account and a Contact that are one person. An org has them once its admin has turned them on.

The account shows fields of the contact under a name of its own (PersonHasOptedOutOfEmail); a change of either changes both, and
moves the stamps of both. The contact can be changed like any other, unless `refuse_contacts` says that this org's own code is in
the way, as is reported of orgs where the contact and its account are written in one transaction. What is deleted, restored and
merged is the account; its contact follows. Whether the contact of a merged account names the survivor is not known: it does so if
`contacts_name_survivor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orgsim.errors import bad_request
from orgsim.schema import Field, SObject

if TYPE_CHECKING:
    from orgsim.org import Org

# {field of the account: field of the contact}. `LastName` and `FirstName` bear plain names on both.
MIRRORED = {
    "FirstName": "FirstName",
    "LastName": "LastName",
    "PersonEmail": "Email",
    "PersonHasOptedOutOfEmail": "HasOptedOutOfEmail",
}
_IS_PERSON: dict[str, Any] = {"creatable": False, "updatable": False, "permissionable": False}
_ON_ACCOUNT = (
    Field("IsPersonAccount", "Is Person Account", "boolean", nillable=False, defaulted=True, **_IS_PERSON),
    Field(
        "PersonContactId",
        "Contact ID",
        "reference",
        18,
        refers_to=("Contact",),
        relationship="PersonContact",
        **_IS_PERSON,
    ),
    Field("FirstName", "First Name", length=40, permissionable=False),
    Field("LastName", "Last Name", length=80, permissionable=False),
    Field("PersonEmail", "Email", "email", 80),
    Field("PersonHasOptedOutOfEmail", "Email Opt Out", "boolean", defaulted=True),
)
_ON_CONTACT = (Field("IsPersonAccount", "Is Person Account", "boolean", nillable=False, defaulted=True, **_IS_PERSON),)


class Persons:
    def __init__(self, org: Org) -> None:
        self._org = org
        self.are_on = False
        self.refuse_contacts = False
        self.contacts_name_survivor = False

    def switch_on(self) -> None:
        """Give Account and Contact the fields of persons, and let Leads do without Company. This can't be undone."""
        if self.are_on:
            return
        self.are_on = True
        for name, fields in (("Account", _ON_ACCOUNT), ("Contact", _ON_CONTACT)):
            for one in fields:
                self._org.schema.add_field(name, one)
                self._org.store.add_column(self._org.schema[name], one)
        self._org.schema.set_nillable("Lead", "Company")

    def add(self, owner_id: str, contact_id: str) -> str:
        """Add the account of a contact; return its Id."""
        contact = self._org.records.get(contact_id)
        values = {mine: contact[theirs] for mine, theirs in MIRRORED.items()}
        account_id = self._org.records.insert(
            self._org.schema["Account"],
            {
                "Name": contact["Name"],
                "OwnerId": owner_id,
                "IsPersonAccount": 1,
                "PersonContactId": contact_id,
                **values,
            },
            owner_id,
        )
        self._org.records.change_silently(contact_id, {"AccountId": account_id, "IsPersonAccount": 1})
        return account_id

    def find_other(self, record_id: str) -> str | None:
        """Return the Id of the other half of a person: of its account the contact, of its contact the account."""
        record = self._org.records.find(record_id)
        if not self.are_on or record is None or not record.get("IsPersonAccount"):
            return None
        return str(record["PersonContactId"] if record_id.startswith("001") else record["AccountId"])

    def halves_of(self, record_id: str) -> list[str]:
        """Return the Ids of both halves of a person; of any other record its own."""
        other = self.find_other(record_id)
        return [record_id, other] if other else [record_id]

    def refuse_halves(self, *record_ids: str) -> None:
        """Raise ValueError if one of these is a person's contact, which is deleted, restored and merged with its account only."""
        for record_id in record_ids:
            if record_id.startswith("003") and self.find_other(record_id):
                raise ValueError(f"{record_id} is a person's contact: use its account {self.find_other(record_id)}")

    def merge(self, winner_id: str, loser_ids: Sequence[str], stamp: int | None) -> None:
        """Merge the contacts of accounts that have been merged; both halves of the winner get its stamp."""
        winner = self.find_other(winner_id)
        for loser_id in loser_ids:
            if loser := self.find_other(loser_id):
                self._org.records.delete(loser, None, stamp, master_id=winner if self.contacts_name_survivor else None)
        if winner:
            self._org.records.change(winner, {}, None, stamp)

    def flip(self, contact_id: str, account_id: str | None) -> None:
        """Make a person a business contact of this account, or (None) a business contact a person, under the same Ids."""
        self.switch_on()
        contact = self._org.records.get(contact_id)
        if account_id is None:
            self.add(contact["OwnerId"], contact_id)
            self._org.records.change(contact_id, {})
            return
        mirrors = dict.fromkeys(MIRRORED)
        self._org.records.change(contact["AccountId"], {**mirrors, "IsPersonAccount": 0, "PersonContactId": None})
        self._org.records.change(contact_id, {"AccountId": account_id, "IsPersonAccount": 0})

    def check_change(self, sobject: SObject, record: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Raise ApiError for a change that this kind of account or contact doesn't allow."""
        if not self.are_on or sobject.name not in {"Account", "Contact"}:
            return
        is_person = bool(record["IsPersonAccount"])
        if sobject.name == "Contact" and is_person:
            if self.refuse_contacts:
                raise bad_request("INVALID_PERSON_ACCOUNT_OPERATION", "cannot reference person contact", [])
            _refuse(sobject, [name for name in values if name == "AccountId"])
        if sobject.name == "Account":
            unfit = {"Name"} if is_person else set(MIRRORED)
            _refuse(sobject, [name for name in values if name in unfit])

    def mirror(self, record_id: str, values: Mapping[str, Any], actor_id: str | None, stamp: int | None = None) -> None:
        """Change the other half of a person too, and its stamp."""
        record = self._org.records.get(record_id)
        if not self.are_on or not record.get("IsPersonAccount"):
            return
        if record_id.startswith("001"):
            other, names = record["PersonContactId"], dict(MIRRORED)
        else:
            other, names = record["AccountId"], {theirs: mine for mine, theirs in MIRRORED.items()}
        names["OwnerId"] = "OwnerId"  # one person, one owner
        mirrored = {names[name]: value for name, value in values.items() if name in names}
        self._org.records.change(other, mirrored, actor_id, stamp)


def _refuse(sobject: SObject, names: list[str]) -> None:
    if names:
        listed = ", ".join(names)
        raise bad_request(
            "INVALID_FIELD_FOR_INSERT_UPDATE", f"{sobject.name}: bad field names on insert/update call: {listed}", names
        )
