"""What must be stored after a quiet run, by DESIGN.md "Rules: contacts", computed from the org's own store.

Nothing is imported from asapp, not even its words. History counts where the rules say so: a contact that was here before
keeps a row when it opts out or leaves, and a departure's reason that was true at the time stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.properties.org_story import GONE, HERE, MERGED, OrgContact, Story
from tests.properties.stored_state import MANUAL, SALESFORCE, StoredContactRow, StoredState

SALESFORCE_CONTACTS = "Salesforce Contacts"
HELD_MORE_THAN = 10
HELD_SHARE = 0.2


@dataclass(frozen=True)
class ContactOracle:
    """Compares the state `before` a quiet run with the state `after` it."""

    story: Story
    before: StoredState
    after: StoredState

    def differences(self) -> list[str]:
        """Return each breach of the rules as a sentence."""
        records = self.story.records()
        return [
            *self.of_ledger(records),
            *self.of_the_living(records),
            *self.of_the_departed(records),
            *self.of_manual_ones(records),
            *self.of_memberships(records),
        ]

    # The user's contacts in Salesforce, and those the advisor keeps though they left

    def living(self, records: dict[str, OrgContact]) -> dict[str, OrgContact]:
        return {i: record for i, record in records.items() if self.story.look(record) == HERE}

    def kept(self) -> set[str]:
        """Return the Ids of departures that wait for the advisor or were discarded."""
        return set(self.after.departures)

    def of_ledger(self, records: dict[str, OrgContact]) -> Iterator[str]:
        living, kept = self.living(records), self.kept()
        if wrong := sorted(kept & set(living)):
            yield f"proposed to leave although they are here: {wrong}"
        expected = {i: outcome_of(record) for i, record in living.items()}
        found = {i: outcome for i, (outcome, _) in self.after.ledger.items()}
        for i in sorted(expected.keys() | found.keys()):
            if i in kept:
                if found.get(i) not in self.outcomes_of_kept(records.get(i), self.before.ledger.get(i, (None,))[0]):
                    yield f"ledger of {i}, which is kept: {found.get(i)}, before {self.before.ledger.get(i)}"
            elif expected.get(i) != found.get(i):
                yield f"ledger of {i}: {found.get(i)} instead of {expected.get(i)}"
        hashes: dict[bytes, set[str]] = defaultdict(set)
        for i, (outcome, hashed) in self.after.ledger.items():
            if i in living and (hashed is not None) != (outcome == "opted_out" and bool(living[i].email)):
                yield f"ledger of {i}: {outcome} with{'' if hashed else 'out'} an address"
            if hashed is not None and i in living:
                hashes[hashed].add(living[i].address)
        if len(hashes) != len({a for addresses in hashes.values() for a in addresses}):
            yield "an address has two hashes"
        if any(len(addresses) > 1 for addresses in hashes.values()):
            yield "two addresses have one hash"

    def outcomes_of_kept(self, record: OrgContact | None, before: str | None) -> set[str | None]:
        """An opt-out of a kept contact counts while Salesforce shows the record; after that the last known value stays."""
        if record is None or self.story.look(record) == GONE:
            return {before}
        return {"opted_out"} if record.is_opted_out else {"synced"}

    def opted_out_addresses(self, records: dict[str, OrgContact]) -> dict[str, set[str]]:
        """{address: Ids of the records that opted out with it}."""
        found: dict[str, set[str]] = defaultdict(set)
        for record in self.living(records).values():
            if record.is_opted_out and record.email:
                found[record.address].add(record.id)
        for i in self.kept():
            if self.after.ledger.get(i, ("", None))[1] is not None:
                found[self.after.by_salesforce_id[i].address].add(i)  # its address here when it left
        return found

    def of_the_living(self, records: dict[str, OrgContact]) -> Iterator[str]:
        opted_out = self.opted_out_addresses(records)
        for record in self.living(records).values():
            row = self.after.by_salesforce_id.get(record.id)
            was_here = self.was_here(record.id)
            is_shown = row is not None and row.is_shown
            if bool(record.email) and (was_here or not record.is_opted_out) != is_shown:
                yield f"{record.id} is {'' if is_shown else 'not '}here (was here: {was_here}, {record})"
            if not record.email and is_shown:
                yield f"{record.id} is here without an address"
            if row is None or not is_shown or not record.email:
                continue
            before = self.before.by_salesforce_id.get(record.id)
            if row.fields != (record.first_name, record.last_name, record.email):
                yield f"{record.id} is {row.fields}, in Salesforce {record}"
            reason = ""
            if before is not None and before.is_hidden:
                reason = "hidden_here"
            elif record.is_opted_out:
                reason = "opted_out"
            elif opted_out[record.address] - {record.id}:
                reason = "twin_opted_out"
            yield from self.of_reason(row, {reason})

    def was_here(self, salesforce_id: str) -> bool:
        before = self.before.by_salesforce_id.get(salesforce_id)
        return before is not None and not before.is_shell

    def of_the_departed(self, records: dict[str, OrgContact]) -> Iterator[str]:
        living, kept = self.living(records), self.kept()
        for row in self.after.shown():
            i = row.salesforce_id or ""
            if i in living:
                continue
            before = self.before.by_salesforce_id.get(i)
            if before is None or before.is_shell:
                yield f"{i} came although it is {self.story.look(records.get(i))}"
                continue
            if row.fields not in self.story.past[i].names:
                yield f"{i} is {row.fields}, which it never was"
            if i in kept and before.departed is None:
                if row.departed is not None:
                    yield f"{i} was switched off although the advisor has not decided"
                if self.after.ledger[i][0] == "opted_out" and row.is_active:
                    yield f"{i}, which is kept, opted out and is active"
                continue
            look = self.story.look(records.get(i))
            yield from self.of_reason(row, {look, before.departed or look})
        for before in self.before.shown():
            after = self.after.by_salesforce_id.get(before.salesforce_id or "")
            if after is None or (not after.is_shown and before.salesforce_id not in living):
                yield f"{before.salesforce_id} is lost"

    def of_reason(self, row: StoredContactRow, allowed: set[str]) -> Iterator[str]:
        if row.reason not in allowed or (row.status == "active") != (row.reason == ""):
            yield f"{row.salesforce_id or row.last_name} is {row.status} ({row.reason}), not of {sorted(allowed)}"
        is_listed = SALESFORCE_CONTACTS in row.lists
        if is_listed != (row.source == SALESFORCE and row.departed is None and not row.is_hidden):
            yield f"{row.salesforce_id} is {'' if is_listed else 'not '}on {SALESFORCE_CONTACTS}"

    # Contacts made by hand

    def of_manual_ones(self, records: dict[str, OrgContact]) -> Iterator[str]:
        adopted = {
            row.id: row for row in self.after.rows.values() if row.source == SALESFORCE and self.was_manual(row.id)
        }
        expected = self.expected_adoptions()
        if set(adopted) != expected:
            yield f"adopted: {sorted(adopted)} instead of {sorted(expected)}"
        if any(self.before.rows[i].address != row.address for i, row in adopted.items()):
            yield "one was adopted by a record with another address"
        opted_out = self.opted_out_addresses(records)
        for before in self.before.manual:
            if before.id in adopted:
                continue
            after = self.after.rows.get(before.id)
            if after is None or after.fields != before.fields:
                yield f"{before.fields}, made by hand, became {after}"
                continue
            yield from self.of_reason(after, {"twin_opted_out" if opted_out[after.address] else ""})

    def was_manual(self, row_id: int) -> bool:
        return row_id in self.before.rows and self.before.rows[row_id].source == MANUAL

    def expected_adoptions(self) -> set[int]:
        """Return the oldest manual contacts of each address, as many as records with it arrived."""
        arrived: dict[str, int] = defaultdict(int)
        for i, row in self.after.by_salesforce_id.items():
            if i not in self.before.by_salesforce_id:
                arrived[row.address] += 1
        waiting: dict[str, list[int]] = defaultdict(list)
        for row in self.before.manual:
            waiting[row.address].append(row.id)
        return {row_id for address, number in arrived.items() for row_id in waiting[address][:number]}

    # Own lists

    def of_memberships(self, records: dict[str, OrgContact]) -> Iterator[str]:
        explained: set[tuple[int, int]] = set()
        for list_id, row_id in sorted(self.before.members):
            allowed = {(list_id, holder) for holder in self.holders_of(row_id, records)}
            explained |= allowed
            if not allowed & self.after.members:
                yield f"not on list {list_id}: {self.of_row(row_id, records)}"
        for list_id, row_id in sorted(self.after.members - explained):
            yield f"on list {list_id} without having been put there: {self.of_row(row_id, records)}"

    def of_row(self, row_id: int, records: dict[str, OrgContact]) -> str:
        row = self.after.rows[row_id]
        return f"{row}; before: {self.before.rows.get(row_id)}; in Salesforce: {records.get(row.salesforce_id or '')}"

    def holders_of(self, row_id: int, records: dict[str, OrgContact]) -> set[int]:
        """Return which rows have this contact's own lists now: itself, or the survivor of a merge that is here."""
        before = self.before.rows[row_id]
        record = records.get(self.after.rows[row_id].salesforce_id or "")
        if record is None or self.story.look(record) != MERGED or record.id in self.kept():
            return {row_id}
        if before.departed is not None and record.owner_id != self.story.user:
            return {row_id}  # it had another owner when it was merged, and no answer tells us
        if before.departed == MERGED and before.merged_into == record.master_id:
            return {row_id}  # an earlier run saw the merge, and the survivor wasn't here then
        found = self.after.by_salesforce_id.get(self.survivor_of(record, records) or "")
        if found is None or found.departed is not None:
            return {row_id}
        if before.departed is not None and self.story.past[record.id].was_restricted:
            return {row_id, found.id}  # merged while it was hidden
        return {found.id}

    def survivor_of(self, record: OrgContact, records: dict[str, OrgContact]) -> str | None:
        seen = {record.id}
        while self.story.look(record) == MERGED and record.id not in self.kept():
            master = records.get(record.master_id or "")
            if master is None or master.id in seen:
                return record.master_id
            record = master
            seen.add(record.id)
        return record.id

    # The safety brake

    def is_hold_expected(self) -> bool | None:
        """Return whether the run had to be held, if it began at `before` and applied no departure; None if twins hide it."""
        records = self.story.records()
        living = self.living(records)
        on = [row for row in self.before.by_salesforce_id.values() if is_on(row)]
        leaving = [row for row in on if row.salesforce_id not in living]
        decided = {i for i, state in self.before.departures.items() if state == "approved"}
        discarded = {i for i, state in self.before.departures.items() if state == "discarded"}
        held = {i for i, state in self.before.departures.items() if state == "held"}
        if any(self.still_waits(row, records) for row in leaving if row.salesforce_id in held):
            return True  # until the advisor decides, however many contacts there are
        leaving = [row for row in leaving if row.salesforce_id not in decided]
        gone_ids = {i for i in self.before.ledger if i not in living} - decided
        others = {
            i for i in gone_ids - discarded if self.was_here(i) and self.before.by_salesforce_id[i].departed is None
        }
        if discarded and discarded <= gone_ids and not others:
            leaving = []  # the same contacts as those of the proposal that was discarded
        off_by_twin = [r for r in self.before.by_salesforce_id.values() if r.reason == "twin_opted_out"]
        if any(row.salesforce_id not in living for row in off_by_twin) or self.may_become_twins(leaving, records):
            return None
        return len(leaving) > HELD_MORE_THAN and len(leaving) > HELD_SHARE * len(on)

    def still_waits(self, row: StoredContactRow, records: dict[str, OrgContact]) -> bool:
        record = records.get(row.salesforce_id or "")
        return record is None or self.story.look(record) == GONE or not record.is_opted_out

    def may_become_twins(self, rows: list[StoredContactRow], records: dict[str, OrgContact]) -> bool:
        opted_out = self.opted_out_addresses(records)
        return any(opted_out[row.address] for row in rows)


def outcome_of(record: OrgContact) -> str:
    if record.is_opted_out:
        return "opted_out"
    return "synced" if record.email else "no_email"


def is_on(row: StoredContactRow) -> bool:
    return row.departed is None and not row.is_hidden and row.reason not in ("opted_out", "twin_opted_out")
