"""The org: its users, records, permissions and grants in one object. The package's docstring lists its methods."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from orgsim import ids
from orgsim.access import ADMIN, RIGHTS, STANDARD, AppliesTo, Permissions, UserAccess
from orgsim.call_log import CallLog
from orgsim.campaigns import Campaigns
from orgsim.clock import OrgClock, to_seconds
from orgsim.late_commits import Late, LateWork
from orgsim.limits import Allowance
from orgsim.list_views import ListViews
from orgsim.locks import Locks
from orgsim.oauth import App, Grants
from orgsim.people import People, User
from orgsim.persons import Persons
from orgsim.queries import Cursors, PageHook
from orgsim.records import Records
from orgsim.schema import INDIVIDUAL, PEOPLE, Field, Schema, SObject
from orgsim.settings import Settings
from orgsim.store import Store
from orgsim.trouble import Trouble

PRACTICE_PASSWORD: Final = "practice1"  # noqa: S105 (shown on the log-in page)
DEFAULT_ACCOUNT: Final = "the firm's own account"
SHORT_NAMES = {
    "first_name": "FirstName",
    "last_name": "LastName",
    "email": "Email",
    "opted_out": "HasOptedOutOfEmail",
    "account_id": "AccountId",
    "owner_id": "OwnerId",
    "company": "Company",
    "description": "Description",
}
_LISTED = (
    "Id",
    "FirstName",
    "LastName",
    "Name",
    "Email",
    "HasOptedOutOfEmail",
    "OwnerId",
    "AccountId",
    "Company",
    "Status",
    "LeadSource",
    "IsConverted",
    "ConvertedDate",
    "ConvertedContactId",
    "IsDeleted",
    "MasterRecordId",
    "CreatedById",
    "CreatedDate",
    "LastModifiedDate",
    "SystemModstamp",
)


class Org:
    """One simulated org. Thread-safe: records are guarded by the store's lock."""

    def __init__(
        self,
        *,
        name: str = "Northgate Wealth",
        seed: int = 0,
        database: str = ":memory:",
        sandbox: bool = False,
        clock: OrgClock | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.name = name
        self.is_sandbox = sandbox
        self.clock = clock or OrgClock()
        self.settings = Settings()
        self.schema = Schema()
        self.store = Store(self.schema, database)
        self.records = Records(self.store, self.schema, self.clock, self.rng)
        self.late = LateWork(self.clock, self.store)
        self.records.before_change = self.late.release
        self.permissions = Permissions()
        self.people = People(self.records, self.schema)
        self.calls = CallLog()
        self.allowance = Allowance(self.clock)
        self.trouble = Trouble(self.clock)
        self.locks = Locks()
        self.persons = Persons(self)
        self.list_views = ListViews(self)
        self.campaigns = Campaigns(self)
        self._api_opt_outs: list[tuple[str, str, int]] = []  # (record, user, seconds), newest last
        self.cursors = Cursors(self)
        self.id = ids.make("00D", self.records.pod, self.rng.randrange(10_000, 3_000_000))
        self.grants = Grants(self)
        self.served_at = ""  # the address of the server, once there is one
        self._deferred: list[tuple[float, Callable[[], object]]] = []
        self._account_id: str | None = None
        self.metadata_changed_at = self.clock.now()
        self._add_organization()

    def _add_organization(self) -> None:
        self.records.insert(
            self.schema["Organization"],
            {
                "Name": self.name,
                "OrganizationType": "Enterprise Edition",
                "IsSandbox": int(self.is_sandbox),
                "InstanceName": "CS42" if self.is_sandbox else "NA215",
                "DefaultContactAccess": "ControlledByParent",
                "DefaultLeadAccess": "ReadEditTransfer",
            },
            None,
            record_id=self.id,
        )

    def settle(self) -> None:
        """Do what is due by the clock: late commits, emptying the Recycle Bin, deferred work. It runs before every request."""
        self.late.settle()
        self.records.empty_old_bin()
        if self._deferred:
            self._run_deferred()

    def defer(self, seconds: float, work: Callable[[], object]) -> None:
        """Do this work `seconds` from now, by the org's clock."""
        self._deferred.append((self.clock.timestamp() + seconds, work))

    def _run_deferred(self) -> None:
        now = self.clock.timestamp()
        with self.store.lock:
            due = [item for item in self._deferred if item[0] <= now]
            self._deferred = [item for item in self._deferred if item[0] > now]
        for _, work in due:
            work()

    def close(self) -> None:
        self.store.close()

    # -- people and permissions

    def add_user(
        self,
        *,
        name: str,
        username: str | None = None,
        password: str = PRACTICE_PASSWORD,
        email: str | None = None,
        profile: str = STANDARD,
        active: bool = True,
    ) -> str:
        return self.people.add(name, username, password, email, profile, active=active).id

    def change_user(self, user_id: str, **changes: Any) -> None:
        """Deactivated and frozen users lose their sessions at once; their approvals stay and answer `inactive user`."""
        user = self.people.change(user_id, **changes)
        if not user.can_log_in:
            self.grants.expire_sessions(user_id)

    def users(self) -> list[dict[str, Any]]:
        return [u.as_json() for u in self.people.users.values()]

    def user(self, user_id: str) -> User:
        return self.people.users[user_id]

    def add_queue(self, name: str) -> str:
        return self.people.add_queue(name)

    def access(self, user: User) -> UserAccess:
        return UserAccess(user, self.schema, self.permissions, self.settings)

    def add_field(
        self, sobject: str, name: str, *, kind: str = "boolean", label: str | None = None, length: int = 255
    ) -> None:
        """Add a custom field; its name ends in __c."""
        if not name.endswith("__c"):
            raise ValueError("custom fields end in __c")
        checked = kind == "boolean"
        new = Field(
            name,
            label or name[:-3].replace("_", " "),
            kind,
            0 if checked else length,
            nillable=not checked,
            defaulted=checked,
        )
        self.schema.add_field(sobject, new)
        self.store.add_column(self.schema[sobject], new)
        self._metadata_changed()

    def _metadata_changed(self) -> None:
        """Record that describe changed (If-Modified-Since)."""
        self.metadata_changed_at = self.clock.now()

    def _field(self, sobject: str, name: str) -> str:
        found = self.schema[sobject].find(name)
        if found is None:
            raise ValueError(f"{sobject} has no field {name}")
        return found.name

    def hide_field(self, sobject: str, field: str, *, profile: str | None = None, user_id: str | None = None) -> None:
        self.permissions.hidden.add((sobject, self._field(sobject, field), AppliesTo(profile, user_id)))
        self._metadata_changed()

    def show_field(self, sobject: str, field: str, *, profile: str | None = None, user_id: str | None = None) -> None:
        self.permissions.hidden.discard((sobject, self._field(sobject, field), AppliesTo(profile, user_id)))
        self._metadata_changed()

    def lock_field(self, sobject: str, field: str, *, profile: str | None = None, user_id: str | None = None) -> None:
        self.permissions.locked.add((sobject, self._field(sobject, field), AppliesTo(profile, user_id)))
        self._metadata_changed()

    def unlock_field(self, sobject: str, field: str, *, profile: str | None = None, user_id: str | None = None) -> None:
        self.permissions.locked.discard((sobject, self._field(sobject, field), AppliesTo(profile, user_id)))
        self._metadata_changed()

    def encrypt_field(self, sobject: str, field: str) -> None:
        """Encrypt a field at rest, by the scheme that is the default: it can be used in no WHERE and no ORDER BY."""
        self.schema.set_encrypted(sobject, self._field(sobject, field), True)
        self._metadata_changed()

    def decrypt_field(self, sobject: str, field: str) -> None:
        self.schema.set_encrypted(sobject, self._field(sobject, field), False)
        self._metadata_changed()

    def deny_object(self, sobject: str, *rights: str, profile: str | None = None, user_id: str | None = None) -> None:
        """Take these rights away; without rights, all of them."""
        self.permissions.denied |= {(sobject, right, AppliesTo(profile, user_id)) for right in rights or RIGHTS}
        self._metadata_changed()

    def allow_object(self, sobject: str, *rights: str, profile: str | None = None, user_id: str | None = None) -> None:
        self.permissions.denied -= {(sobject, right, AppliesTo(profile, user_id)) for right in rights or RIGHTS}
        self._metadata_changed()

    # -- records

    @property
    def account_id(self) -> str:
        """The account of contacts that are added without one; `account_id=None` makes a private contact."""
        if self._account_id is None:
            owner = next(iter(self.people.users), None)
            self._account_id = self.records.insert(
                self.schema["Account"], {"Name": f"{self.name} Clients", "OwnerId": owner}, owner
            )
        return self._account_id

    def add_account(self, owner_id: str, name: str) -> str:
        return self.records.insert(self.schema["Account"], {"Name": name, "OwnerId": owner_id}, owner_id)

    def columns(self, sobject: SObject, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the values as the store keeps them; names are short or API names. ValueError for an unknown field."""
        stored: dict[str, Any] = {}
        for name, value in fields.items():
            found = sobject.find(SHORT_NAMES.get(name, name))
            if found is None or found.sql is not None:
                raise ValueError(f"{sobject.name} has no field {name} that can be set")
            stored[found.name] = self._stored(found, value)
        return stored

    @staticmethod
    def _stored(one: Field, value: Any) -> Any:
        if isinstance(value, datetime):
            return to_seconds(value)
        if one.kind == "boolean":
            return int(bool(value))
        if one.kind == "email" and value:
            return value.lower()
        return value if value != "" else None

    def _add(
        self, name: str, owner_id: str, stamp: datetime | int | None, record_id: str | None, fields: dict[str, Any]
    ) -> str:
        sobject = self.schema[name]
        values = self.columns(sobject, fields)
        if not values.get("LastName"):
            raise ValueError("last_name is required")
        with self.store.transaction():
            return self.records.insert(sobject, {**values, "OwnerId": owner_id}, owner_id, _whole(stamp), record_id)

    def add_contact(
        self,
        owner_id: str,
        *,
        last_name: str,
        first_name: str | None = None,
        email: str | None = None,
        opted_out: bool = False,
        account_id: str | None = DEFAULT_ACCOUNT,
        stamp: datetime | int | None = None,
        record_id: str | None = None,
        **fields: Any,
    ) -> str:
        account = self.account_id if account_id == DEFAULT_ACCOUNT else account_id
        return self._add(
            "Contact",
            owner_id,
            stamp,
            record_id,
            {
                "FirstName": first_name,
                "LastName": last_name,
                "Email": email,
                "HasOptedOutOfEmail": opted_out,
                "AccountId": account,
                **fields,
            },
        )

    def add_lead(
        self,
        owner_id: str,
        *,
        last_name: str,
        company: str = "[not provided]",
        first_name: str | None = None,
        email: str | None = None,
        opted_out: bool = False,
        stamp: datetime | int | None = None,
        record_id: str | None = None,
        **fields: Any,
    ) -> str:
        return self._add(
            "Lead",
            owner_id,
            stamp,
            record_id,
            {
                "FirstName": first_name,
                "LastName": last_name,
                "Email": email,
                "HasOptedOutOfEmail": opted_out,
                "Company": company,
                "Status": "Open - Not Contacted",
                **fields,
            },
        )

    def add_contacts(self, rows: Iterable[dict[str, Any]]) -> list[str]:
        """Add many at once; each row has the keys of add_contact and "owner_id". All rows have the fields of the first."""
        sobject = self.schema["Contact"]
        now, account = self.clock.seconds(), self.account_id
        table: list[list[Any]] = []
        names: list[str] = []
        for row in rows:
            values = {"account_id": account, "opted_out": False, **row}
            stamp = _whole(values.pop("stamp", None)) or now
            names = names or list(values)
            found = self.columns(sobject, {name: values.get(name) for name in names})
            table.append([*found.values(), stamp, stamp, stamp, values["owner_id"], values["owner_id"]])
        if not table:
            return []
        columns = [
            *self.columns(sobject, dict.fromkeys(names)),
            "CreatedDate",
            "LastModifiedDate",
            "SystemModstamp",
            "CreatedById",
            "LastModifiedById",
        ]
        return self.records.insert_many(sobject, columns, table)

    def _update(self, record_id: str, stamp: datetime | int | None, fields: dict[str, Any]) -> None:
        self._live(record_id)
        values = self.columns(self.records.object_of(record_id), fields)
        with self.store.transaction():
            self.records.change(record_id, values, None, _whole(stamp))
            self.persons.mirror(record_id, values, None, _whole(stamp))

    def update_contact(self, contact_id: str, *, stamp: datetime | int | None = None, **fields: Any) -> None:
        self._update(contact_id, stamp, fields)

    def update_lead(self, lead_id: str, *, stamp: datetime | int | None = None, **fields: Any) -> None:
        self._update(lead_id, stamp, fields)

    def change_without_stamp(self, record_id: str, **fields: Any) -> None:
        """Change a record as formulas and roll-ups do: without a stamp."""
        self._live(record_id)
        self.records.change_silently(record_id, self.columns(self.records.object_of(record_id), fields))

    def opt_out(self, record_id: str, *, stamp: datetime | int | None = None) -> None:
        self._update(record_id, stamp, {"opted_out": True})

    def opt_in(self, record_id: str, *, stamp: datetime | int | None = None) -> None:
        self._update(record_id, stamp, {"opted_out": False})

    def bounce(self, record_id: str, reason: str = "550 5.1.1 user unknown") -> None:
        """Record that mail to the address of a contact or lead bounced."""
        self._update(record_id, None, {"EmailBouncedDate": self.clock.now(), "EmailBouncedReason": reason})

    def lock_record(self, record_id: str, *, times: int | None = None) -> None:
        """Let the next `times` saves through the API fail as if another transaction held the record; None: until unlocked."""
        self._live(record_id)
        self.locks.keep_busy(record_id, times)

    def unlock_record(self, record_id: str) -> None:
        self.locks.free(record_id)

    def begin_approval(self, record_id: str) -> None:
        """Put a record into an approval process, which locks it."""
        self._live(record_id)
        self.locks.in_approval.add(record_id)

    def end_approval(self, record_id: str) -> None:
        self.locks.in_approval.discard(record_id)

    def add_person(self, owner_id: str, *, last_name: str, **fields: Any) -> tuple[str, str]:
        """Return the Ids of the account and the contact of a new person; the org has person accounts from then on."""
        self.persons.switch_on()
        self._metadata_changed()
        contact_id = self.add_contact(owner_id, last_name=last_name, account_id=None, **fields)
        return self.persons.add(owner_id, contact_id), contact_id

    def flip_person(self, contact_id: str, account_id: str | None = None) -> None:
        """Make a person the contact of a business account, or a business contact a person (None); its Id stays."""
        self.persons.flip(contact_id, account_id)
        self._metadata_changed()

    def use_person_accounts(self) -> None:
        """Switch person accounts on, for good."""
        self.persons.switch_on()
        self._metadata_changed()

    def name_survivors(self, named: bool = True) -> None:
        """Let the contact of a merged person account name the surviving contact (MasterRecordId), or not."""
        self.persons.contacts_name_survivor = named

    def move(self, old_host: str = "404") -> str:
        """Move to another host of this machine; return its address. old_host: how the one before answers (Settings)."""
        here = self.settings.instance_url or self.served_at
        there = (
            here.replace("127.0.0.1", "localhost") if "127.0.0.1" in here else here.replace("localhost", "127.0.0.1")
        )
        self.change_settings(instance_url=there, old_host=old_host)
        return there

    def use_individuals(self) -> None:
        """Switch "Data Protection and Privacy" on: contacts and leads may have a consent record, an Individual."""
        if self.schema.find(INDIVIDUAL.name) is None:
            self.schema.add_object(INDIVIDUAL)
            self.store.add_table(INDIVIDUAL)
            self._metadata_changed()

    def add_individual(self, owner_id: str, *, last_name: str, **fields: Any) -> str:
        """Return the Id of a new consent record, which has an owner and sharing of its own."""
        self.use_individuals()
        return self._add("Individual", owner_id, None, None, {"LastName": last_name, **fields})

    def give_individual(self, record_id: str, individual_id: str | None) -> None:
        """Refer from a contact or lead to its consent record; None: to none."""
        self._update(record_id, None, {"IndividualId": individual_id})

    def update_individual(self, individual_id: str, **fields: Any) -> None:
        """Change a consent record; the stamps of the contacts and leads that refer to it stay as they are."""
        self._update(individual_id, None, fields)

    def refuse_person_contacts(self, refused: bool = True) -> None:
        """Let saves of a person's contact fail, as custom code of an org can; saves of the account still work."""
        self.persons.refuse_contacts = refused

    def note_api_opt_out(self, record_id: str, user_id: str) -> None:
        """Record who set an opt-out through the API; Dml calls it in the transaction of the change."""
        entry = (record_id, user_id, self.clock.seconds())
        self._api_opt_outs.append(entry)
        self.store.on_rollback(lambda: self._api_opt_outs.remove(entry))

    def opted_out_by_api(self) -> list[dict[str, Any]]:
        """Return whose opt-out was set through the API, newest first: Id, Name, Email, user_id, user, at (seconds)."""
        shown = []
        for record_id, user_id, at in reversed(self._api_opt_outs):
            record = self.records.find(record_id) or {}
            email = record.get("Email") or record.get("PersonEmail")
            shown.append(
                {
                    "Id": record_id,
                    "Name": record.get("Name", record_id),
                    "Email": email,
                    "user_id": user_id,
                    "user": self.people.name_of(user_id),
                    "at": at,
                }
            )
        return shown

    def give(self, record_id: str, owner_id: str, *, stamp: datetime | int | None = None) -> None:
        if owner_id not in self.people.users and owner_id not in self.people.queues:
            raise ValueError(f"no user and no queue has the id {owner_id}")
        self._update(record_id, stamp, {"owner_id": owner_id})

    def delete(self, record_id: str, *, stamp: datetime | int | None = None) -> None:
        self._live(record_id)
        self.persons.refuse_halves(record_id)
        with self.store.transaction():
            for one in self.persons.halves_of(record_id):
                self.records.delete(one, None, _whole(stamp))

    def undelete(self, record_id: str, *, stamp: datetime | int | None = None) -> None:
        self.settle()
        record = self.records.find(record_id)
        if record is None or not record["IsDeleted"]:
            raise ValueError(f"{record_id} is not in the Recycle Bin")
        self.persons.refuse_halves(record_id)
        with self.store.transaction():
            for one in self.persons.halves_of(record_id):
                self.records.undelete(one, None, _whole(stamp))

    def purge(self, record_id: str) -> None:
        self.settle()
        self.late.release([record_id])
        if self.records.find(record_id) is None:
            raise ValueError(f"{record_id} is not here")
        self.persons.refuse_halves(record_id)
        for one in self.persons.halves_of(record_id):
            self.records.purge(one)

    def merge(self, winner_id: str, loser_ids: Sequence[str], *, stamp: datetime | int | None = None) -> None:
        """Merge records into the winner; up to two losers at once, as in Salesforce."""
        for record_id in (winner_id, *loser_ids):
            self._live(record_id)
        if not 1 <= len(set(loser_ids) - {winner_id}) == len(loser_ids) <= 2:
            raise ValueError("a merge has one or two losers, and the winner is not among them")
        self.persons.refuse_halves(winner_id, *loser_ids)
        with self.store.transaction():
            self.records.merge(winner_id, loser_ids, None, _whole(stamp))
            self.persons.merge(winner_id, loser_ids, _whole(stamp))
            self.campaigns.follow_merge(winner_id, list(loser_ids))

    def hide_contact(self, record_id: str) -> None:
        self._live(record_id)
        self.records.change_silently(record_id, {"_restricted": 1})

    def show_contact(self, record_id: str) -> None:
        self.records.change_silently(record_id, {"_restricted": 0})

    def convert_lead(self, lead_id: str, *, owner_id: str | None = None, stamp: datetime | int | None = None) -> str:
        """Return the new contact's Id; the lead stays, converted and read-only. The contact gets its opt-out.

        Without Company it becomes a person account, with Company the contact of a business account.
        """
        lead = self._live(lead_id)
        if lead["IsConverted"]:
            raise ValueError(f"{lead_id} is converted already")
        moment = _whole(stamp) or self.clock.seconds()
        owner = owner_id or (lead["OwnerId"] if lead["OwnerId"] in self.people.users else next(iter(self.people.users)))
        with self.store.transaction():
            is_person = not lead["Company"]
            account_id = None if is_person else self.add_account(owner, lead["Company"])
            contact_id = self.add_contact(
                owner,
                last_name=lead["LastName"],
                first_name=lead["FirstName"],
                email=lead["Email"],
                opted_out=bool(lead["HasOptedOutOfEmail"]),
                account_id=account_id,
                stamp=moment,
            )
            if is_person:
                account_id = self.persons.add(owner, contact_id)
            self.records.change(
                lead_id,
                {
                    "IsConverted": 1,
                    "Status": "Closed - Converted",
                    "ConvertedContactId": contact_id,
                    "ConvertedAccountId": account_id,
                    "ConvertedDate": datetime.fromtimestamp(moment, UTC).date().isoformat(),
                },
                None,
                moment,
            )
            self.campaigns.follow_conversion(lead_id, contact_id)
        return contact_id

    # -- list views and campaigns

    def add_list_view(self, sobject: str, label: str, **more: Any) -> str:
        return self.list_views.add(sobject, label, **more)

    def change_list_view(self, view_id: str, **changes: Any) -> None:
        self.list_views.change(view_id, **changes)

    def delete_list_view(self, view_id: str) -> None:
        self.list_views.delete(view_id)

    def add_campaign(self, owner_id: str, name: str, **more: Any) -> str:
        return self.campaigns.add(owner_id, name, **more)

    def change_campaign(self, campaign_id: str, **fields: Any) -> None:
        self.campaigns.change(campaign_id, **fields)

    def delete_campaign(self, campaign_id: str) -> None:
        self.campaigns.delete(campaign_id)

    def add_members(self, campaign_id: str, people: Sequence[str], *, status: str = "Sent") -> list[str]:
        return self.campaigns.add_members(campaign_id, list(people), status)

    def remove_member(self, campaign_id: str, person_id: str) -> None:
        self.campaigns.remove_member(campaign_id, person_id)

    def _live(self, record_id: str) -> dict[str, Any]:
        """Return a record that is not deleted, after late commits to it; ValueError otherwise."""
        self.settle()
        self.late.release([record_id])
        record = self.records.find(record_id)
        if record is None or record["IsDeleted"]:
            raise ValueError(f"{record_id} is deleted or was never here")
        return record

    # -- reading

    def contact(self, record_id: str) -> dict[str, Any] | None:
        self.settle()
        record = self.records.find(record_id)
        return self._shown(self.records.object_of(record_id), record) if record else None

    lead = contact

    def contacts(self, owner_id: str | None = None, *, deleted: bool = False) -> list[dict[str, Any]]:
        return list(self._listing("Contact", owner_id, deleted=deleted))

    def leads(self, owner_id: str | None = None, *, deleted: bool = False) -> list[dict[str, Any]]:
        return list(self._listing("Lead", owner_id, deleted=deleted))

    def _listing(self, name: str, owner_id: str | None, *, deleted: bool) -> Iterator[dict[str, Any]]:
        self.settle()
        sobject = self.schema[name]
        where = ("1" if deleted else '"IsDeleted" = 0') + (' AND "OwnerId" = ?' if owner_id else "")
        chosen = [f for f in sobject.fields if f.name in _LISTED or f.name.endswith("__c")]
        for record in self.store.records(sobject, where, [owner_id] if owner_id else []):
            yield {f.name: _python(f, record[f.name]) for f in chosen}

    @staticmethod
    def _shown(sobject: SObject, record: dict[str, Any]) -> dict[str, Any]:
        return {f.name: _python(f, record[f.name]) for f in sobject.fields}

    def count(self, name: str, *, deleted: bool = False) -> int:
        """Return the number of live records, or of those in the Recycle Bin."""
        return self.store.count(f'SELECT count(*) FROM "sf_{name}" WHERE "IsDeleted" = ?', [int(deleted)])

    # -- late commits and pages

    def begin_late(self, verb: str, *args: Any, visible_in: float | None = None, **kwargs: Any) -> Late:
        if verb not in _LATE_VERBS:
            raise ValueError(f"{verb} cannot be late")
        self.settle()
        stamp = self.clock.seconds()
        kwargs["stamp"] = stamp
        if verb.startswith("add_"):
            sobject = self.schema["Contact" if verb == "add_contact" else "Lead"]
            kwargs["record_id"] = self.records.new_ids(sobject, 1)[0]
        named = kwargs.get("record_id") or next(
            (kwargs[k] for k in ("contact_id", "lead_id", "winner_id") if k in kwargs), None
        )
        record_id = named or args[0]
        losers = kwargs.get("loser_ids") or (args[1] if verb == "merge" and len(args) > 1 else [])
        action: Callable[..., Any] = getattr(self, verb)
        return self.late.begin(record_id, lambda: action(*args, **kwargs), [record_id, *losers], visible_in)

    def commit_late(self, handle: int | Late) -> None:
        self.late.commit(handle.handle if isinstance(handle, Late) else handle)

    def on_next_page(self, hook: PageHook, *, times: int | None = None) -> Callable[[], None]:
        return self.cursors.add_hook(hook, times)

    def expire_locators(self, user_id: str | None = None) -> None:
        self.cursors.expire(user_id)

    # -- apps, sessions, allowance

    def register_app(
        self,
        key: str,
        secret: str,
        callback_urls: Sequence[str],
        scopes: Sequence[str] = ("api", "refresh_token", "id"),
        **more: Any,
    ) -> App:
        return self.grants.register(App(key, secret, list(callback_urls), list(scopes), **more))

    def change_app(self, key: str, **changes: Any) -> App:
        return self.grants.change_app(key, **changes)

    def issue_tokens(self, user_id: str, key: str, scopes: Sequence[str] | None = None) -> dict[str, Any]:
        app = self.grants.apps[key]
        return self.grants.grant(app, self.user(user_id), list(scopes or app.scopes), self.served_at)

    def expire_sessions(self, user_id: str | None = None) -> None:
        self.grants.expire_sessions(user_id)

    def revoke_approvals(self, user_id: str | None = None, key: str | None = None) -> None:
        self.grants.revoke_approvals(user_id, key)

    def api_used(self) -> int:
        return self.allowance.used()

    def use_up_allowance(self, left: int = 0) -> None:
        """Let other users and apps of the firm use the day's calls, all but `left`."""
        self.allowance.others = 0
        self.allowance.others = max(0, self.settings.api_limit - left - self.allowance.used())

    def restore_allowance(self) -> None:
        self.allowance.others = 0

    def change_settings(self, **changes: Any) -> None:
        self.settings.change(**changes)


_LATE_VERBS = frozenset(
    {
        "add_contact",
        "add_lead",
        "update_contact",
        "update_lead",
        "opt_out",
        "opt_in",
        "give",
        "delete",
        "undelete",
        "merge",
        "convert_lead",
    }
)


def _whole(stamp: datetime | int | None) -> int | None:
    return to_seconds(stamp) if isinstance(stamp, datetime) else stamp


def _python(one: Field, value: Any) -> Any:
    if value is None:
        return None
    if one.kind == "boolean":
        return bool(value)
    if one.kind == "datetime":
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return value


__all__ = ["ADMIN", "PEOPLE", "STANDARD", "Org"]
