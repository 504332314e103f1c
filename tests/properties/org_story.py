"""Edits in the simulated org during a property test, and everything that the org has ever shown of each contact.

An edit is a verb and a few numbers that pick its record, so that Hypothesis can shrink it and a seed can repeat it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from orgsim import Org

POOL = ("rose@pool.example", "Ravi@Pool.example", "zoe@pool.example", "NIKO@pool.example")
NAMES = ("Rose", "Ravi", "Zoë", "Niko", "Śliwa")
LONGEST_TRANSACTION = 600  # seconds that a transaction may take in Salesforce
LATE_SECONDS = (None, 45, 300, LONGEST_TRANSACTION)
HERE, DELETED, MERGED, REASSIGNED, GONE = "here", "deleted", "merged", "reassigned", "gone"
PAGE = 200
FEW, MANY = 13, PAGE * 2 + 20

VERBS = (
    "add", "add", "add_opted_out", "add_to_colleague", "add_few", "rename", "change_address", "take_address_away",
    "share_address", "opt_out", "opt_out", "opt_in", "delete", "undelete", "purge", "merge", "merge", "give_away", "give_back",
    "hide", "show", "delete_few", "give_few_away", "undelete_few", "rename_few",
    "rename_few", "merge_chain", "flip",
)  # fmt: skip


Row = Mapping[str, Any]


class Edit(NamedTuple):
    """A change in the org. The numbers pick records, names and addresses; late: index into LATE_SECONDS."""

    verb: str
    one: int = 0
    two: int = 0
    three: int = 0
    late: int = 0

    @classmethod
    def at_random(cls, rng: Random) -> Edit:
        return cls(
            rng.choice(VERBS), rng.randrange(100), rng.randrange(100), rng.randrange(100), max(0, rng.randrange(8) - 4)
        )


class OrgContact(NamedTuple):
    """A contact as the org stores it. address: in lower case, empty if there is none."""

    id: str
    first_name: str
    last_name: str
    email: str
    is_opted_out: bool
    owner_id: str
    is_deleted: bool
    master_id: str | None
    is_restricted: bool
    account_id: str | None  # of a person account, whose one half this is

    @property
    def address(self) -> str:
        return self.email.lower()

    @property
    def handle(self) -> str:
        """The Id by which the org deletes, restores and merges it: a person's is the account's."""
        return self.account_id or self.id


def survivor_of(contact: Row, accounts: Mapping[str, Row]) -> str | None:
    """Return the contact of the account that a person's account was merged into."""
    account = accounts.get(contact["AccountId"] or "") if contact.get("IsPersonAccount") else None
    survivor = accounts.get(account["MasterRecordId"] or "") if account else None
    return str(survivor["PersonContactId"]) if survivor and survivor["PersonContactId"] else None


@dataclass
class Past:
    """Everything that the org has shown of one Id."""

    names: set[tuple[str, str, str]] = field(default_factory=set)  # (first name, last name, e-mail) of every version
    masters: set[str] = field(default_factory=set)  # every record that it was ever merged into
    was_mine: bool = False
    was_restricted: bool = False
    was_importable: bool = False  # the user's, with an address, not opted out
    last_address: str = ""  # while it was the user's


class Story:
    """The org's side of a test: it carries out edits and records what they showed."""

    def __init__(self, org: Org, user: str, colleague: str) -> None:
        self.org = org
        self.user = user
        self.colleague = colleague
        self.past: dict[str, Past] = defaultdict(Past)
        self.touched: set[str] = set()  # Ids and addresses that edits have touched since this was last cleared
        self.has_persons = False  # whether about half of the people are person accounts
        self.was_stampless = False  # whether a change moved neither a SystemModstamp nor a count
        self._made = 0
        self.observe()

    # What the org stores

    def records(self) -> dict[str, OrgContact]:
        self.org.settle()
        accounts = {row["Id"]: row for row in self.org.store.records(self.org.schema["Account"])}
        rows = self.org.store.records(self.org.schema["Contact"])
        return {
            row["Id"]: OrgContact(
                row["Id"],
                row["FirstName"] or "",
                row["LastName"] or "",
                row["Email"] or "",
                bool(row["HasOptedOutOfEmail"]),
                row["OwnerId"],
                bool(row["IsDeleted"]),
                row["MasterRecordId"] or survivor_of(row, accounts),
                bool(row["_restricted"]),
                row["AccountId"] if row.get("IsPersonAccount") else None,
            )
            for row in rows
        }

    def look(self, record: OrgContact | None) -> str:
        """Return how a contact that was the user's appears to the user now."""
        if record is None or record.is_restricted:
            return GONE
        if record.is_deleted:
            return MERGED if record.master_id else DELETED
        return HERE if record.owner_id == self.user else REASSIGNED

    def observe(self) -> None:
        """Record what can be seen now; call it after each change of the org."""
        records = self.records()
        for record in records.values():
            past = self.past[record.id]
            past.names.add((record.first_name, record.last_name, record.email))
            if record.master_id:
                past.masters.add(record.master_id)
            past.was_restricted |= record.is_restricted
            if self.look(record) == HERE:
                past.was_mine = True
                past.was_importable |= bool(record.email) and not record.is_opted_out
                past.last_address = record.address

    def use_persons(self, *, survivors_are_named: bool) -> None:
        """Make the org one of person accounts, before its first contact."""
        self.has_persons = True
        self.org.use_person_accounts()
        self.org.name_survivors(survivors_are_named)

    # Edits

    def advance(self, seconds: float) -> None:
        """Advance the clock; open transactions commit first, before the Recycle Bin can delete their records."""
        for leap in (min(seconds, LONGEST_TRANSACTION), max(0, seconds - LONGEST_TRANSACTION)):
            self.org.clock.advance(leap)
            self.observe()

    def carry_out(self, edit: Edit) -> None:
        """Carry out the edit, now or late; an edit that fits no record does nothing."""
        getattr(self, f"_{edit.verb}")(edit)
        self.observe()

    def _mine(self) -> list[OrgContact]:
        return [r for r in self._alive() if r.owner_id == self.user]

    def _alive(self) -> list[OrgContact]:
        return [r for r in sorted(self.records().values()) if not r.is_deleted]

    def _binned(self) -> list[OrgContact]:
        return [r for r in sorted(self.records().values()) if r.is_deleted]

    def _do(self, edit: Edit, verb: str, *args: object, touching: Sequence[OrgContact] = (), **kwargs: object) -> None:
        for record in touching:
            self._touch(record)
        self.touched |= {str(value).lower() for name, value in kwargs.items() if name == "email"}
        late = LATE_SECONDS[edit.late % len(LATE_SECONDS)]
        try:
            ids = [each for record in touching for each in (record.id, record.handle)]
            self.org.late.release(ids)  # another transaction has the lock
            if late is None:
                getattr(self.org, verb)(*args, **kwargs)
            else:
                self.org.begin_late(verb, *args, visible_in=late, **kwargs)
        except ValueError:
            pass  # the commit of the released transaction has made the edit impossible

    def _touch(self, record: OrgContact) -> None:
        self.touched |= {record.id, record.address, self.past[record.id].last_address}
        self.touched |= {email.lower() for _, _, email in self.past[record.id].names}

    def _one(self, among: Sequence[OrgContact], number: int) -> Sequence[OrgContact]:
        return [among[number % len(among)]] if among else []

    def _name(self) -> str:
        self._made += 1
        return f"Person {self._made}"

    def _address(self, number: int) -> str | None:
        """Return an address; half of the contacts share one of a few."""
        self._made += 1
        return POOL[number % len(POOL)] if number % 2 else f"own{self._made}@fjord.example"

    def _add(self, edit: Edit, owner: str | None = None, *, opted_out: bool = False) -> None:
        is_person = self.has_persons and edit.three % 2
        self._do(
            edit,
            "add_person" if is_person else "add_contact",
            owner or self.user,
            first_name=NAMES[edit.one % len(NAMES)],
            last_name=self._name(),
            email=None if edit.three % 5 == 4 else self._address(edit.two),
            opted_out=opted_out,
        )

    def _add_opted_out(self, edit: Edit) -> None:
        self._add(edit, opted_out=True)

    def _add_to_colleague(self, edit: Edit) -> None:
        self._add(edit, self.colleague)

    def _add_few(self, edit: Edit) -> None:
        self._add_rows(FEW)

    def add_many(self) -> None:
        """Add more than two pages of contacts, all with one stamp."""
        self._add_rows(MANY)
        self.observe()

    def _add_rows(self, number: int) -> None:
        rows = [
            {"owner_id": self.user, "first_name": "Ada", "last_name": self._name(), "email": self._address(0)}
            for _ in range(number)
        ]
        self.org.add_contacts(rows)

    def _rename(self, edit: Edit) -> None:
        for record in self._one(self._mine(), edit.one):
            name = NAMES[edit.two % len(NAMES)]
            self._do(edit, "update_contact", record.id, touching=[record], first_name=name, last_name=self._name())

    def _rename_few(self, edit: Edit) -> None:
        """Rename contacts one by one, so that they are on several pages of the next run."""
        mine = self._mine()
        for number in range(min(len(mine), 7)):
            record = mine[(edit.one + number) % len(mine)]
            self._do(edit._replace(late=0), "update_contact", record.id, touching=[record], last_name=self._name())
            self.org.clock.advance(1)

    def _merge_chain(self, edit: Edit) -> None:
        """Merge contacts into one that is then merged itself."""
        self._merge(edit._replace(late=0))
        self._merge(edit._replace(one=edit.two, two=edit.one, late=0))

    def _change_address(self, edit: Edit) -> None:
        for record in self._one(self._alive(), edit.one):
            self._do(edit, "update_contact", record.id, touching=[record], email=self._address(edit.two))

    def _share_address(self, edit: Edit) -> None:
        for record in self._one(self._mine(), edit.one):
            email = POOL[edit.two % len(POOL)]
            self._do(edit, "update_contact", record.id, touching=[record], email=email)

    def _take_address_away(self, edit: Edit) -> None:
        for record in self._one(self._mine(), edit.one):
            self._do(edit, "update_contact", record.id, touching=[record], email=None)

    def _opt_out(self, edit: Edit) -> None:
        for record in self._one([r for r in self._alive() if not r.is_opted_out], edit.one):
            self._do(edit, "opt_out", record.id, touching=[record])

    def _opt_in(self, edit: Edit) -> None:
        for record in self._one([r for r in self._alive() if r.is_opted_out], edit.one):
            self._do(edit, "opt_in", record.id, touching=[record])

    def _delete(self, edit: Edit) -> None:
        for record in self._one(self._alive(), edit.one):
            self._do(edit, "delete", record.handle, touching=[record])

    def _undelete(self, edit: Edit) -> None:
        for record in self._one(self._binned(), edit.one):
            self._do(edit, "undelete", record.handle, touching=[record])

    def _purge(self, edit: Edit) -> None:
        """Purge a record, mostly from the Recycle Bin."""
        among = self._binned() if edit.two % 3 else self._alive()
        for record in self._one(among, edit.one):
            self._do(edit._replace(late=0), "purge", record.handle, touching=[record])

    def _merge(self, edit: Edit) -> None:
        alive = self._alive()
        if len(alive) < 2:
            return
        winner = alive[edit.one % len(alive)]
        others = [r for r in alive if r.id != winner.id and bool(r.account_id) == bool(winner.account_id)]
        if not others:
            return
        losers = {others[edit.two % len(others)], others[edit.three % len(others)]}
        ids = sorted(loser.handle for loser in losers)
        self._do(edit, "merge", winner.handle, ids, touching=[winner, *losers])

    def _flip(self, edit: Edit) -> None:
        """Make a person the contact of a business account, or the contact of one a person."""
        for record in self._one(self._alive(), edit.one) if self.has_persons else ():
            business = self.org.account_id if record.account_id else None
            self._do(edit._replace(late=0), "flip_person", record.id, business, touching=[record])

    def _give_away(self, edit: Edit) -> None:
        for record in self._one(self._mine(), edit.one):
            self._do(edit, "give", record.id, self.colleague, touching=[record])

    def _give_back(self, edit: Edit) -> None:
        for record in self._one([r for r in self._alive() if r.owner_id != self.user], edit.one):
            self._do(edit, "give", record.id, self.user, touching=[record])

    def _hide(self, edit: Edit) -> None:
        for record in self._one([r for r in self._alive() if not r.is_restricted], edit.one):
            self.was_stampless = True
            self._do(edit._replace(late=0), "hide_contact", record.id, touching=[record])

    def _show(self, edit: Edit) -> None:
        restricted = [r for r in sorted(self.records().values()) if r.is_restricted]
        for record in self._one(restricted, edit.one):
            self.was_stampless = True
            self._do(edit._replace(late=0), "show_contact", record.id, touching=[record])

    def _delete_few(self, edit: Edit) -> None:
        for record in self._mine()[:FEW]:
            self._do(edit, "delete", record.handle, touching=[record])

    def _give_few_away(self, edit: Edit) -> None:
        for record in self._mine()[:FEW]:
            self._do(edit, "give", record.id, self.colleague, touching=[record])

    def _undelete_few(self, edit: Edit) -> None:
        for record in self._binned()[:FEW]:
            self._do(edit, "undelete", record.handle, touching=[record])
