"""What must be true of an advisor's people, by DESIGN.md "Rules: contacts" 1 to 10 and "Rules: leads" 2 to 4.

Nothing of asapp's rules is imported: it reads the org's own store, the tables with asapp's answer for each row, and the
record of what people asked for. Where the rules are silent, both answers pass:
- Of two records with one address only one may have been erased. A row that was here before, or came with another address, stays;
  one that comes with an erased address doesn't, unless it was made by hand or the person signed up again since.
- A contact in Salesforce that ever had an erased address need not be here, unless a sign-up since is linked to it, and no one
  else with an address of its was erased.
- The survivor of a merge is another record: it isn't deleted here because the loser was.
- A Lead that the user can't see any more, or that was given away after it was sent, may or may not go on blocking its address.
- A Lead that was converted into a contact without an address stays as it was.
- A Lead that we made and whose answer was lost is looked for by its address: one that was purged or hidden, or given another
  address, before it was found may be made once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.properties.people_life import Memory, OrgPerson, PersonRow, SignUp, StoredPeople

SALESFORCE, LEAD, MANUAL = "salesforce", "lead", "manual"
IN_SALESFORCE = ("sent", "linked", "converted")
WITH_A_REASON = ("waiting", "sending", "refused", "please_check")


@dataclass(frozen=True)
class Oracle:
    user: str
    records: dict[str, OrgPerson]
    here: StoredPeople
    memory: Memory

    def after_each_step(self) -> Iterator[str]:
        """Return each breach that must not exist at any moment, as sentences."""
        yield from self.of_people_deleted_here()
        yield from self.of_erased_people()
        yield from self.of_leads_made()
        yield from self.of_sign_ups_kept()
        yield from self.of_known_opt_outs()

    def at_rest(self) -> Iterator[str]:
        """Return each breach that must not exist once nothing changes any more."""
        yield from self.after_each_step()
        for row in self.here.rows.values():
            yield from self.of_row(row)
        for record in self.records.values():
            if self.is_mine(record) and not record.is_lead and record.address and not record.is_opted_out:
                yield from self.of_contact(record)
        for sign_up in self.here.sign_ups:
            yield from self.of_sign_up(sign_up)

    # Opt-outs

    def is_mine(self, record: OrgPerson | None) -> bool:
        """Return whether this is a record of the user's that the user can see."""
        return (
            record is not None
            and not (record.is_deleted or record.is_restricted or record.is_converted)
            and record.owner_id == self.user
        )

    def blockers(self, address: str) -> list[str]:
        """Return the Ids of the user's records that have this address and are opted out."""
        return [r.id for r in self.records.values() if r.address == address and r.is_opted_out and self.is_mine(r)]

    def may_block(self, address: str) -> bool:
        """Return whether a record that the user sees, saw, or might see again may block this address."""
        return any(
            record.is_opted_out
            and not (record.is_deleted or record.is_converted)
            and address in self.memory.addresses[record.id]
            for record in self.records.values()
            if self.is_mine(record) or record.is_lead or record.is_restricted
        )

    def of_row(self, row: PersonRow) -> Iterator[str]:
        if row.is_active != (row.reason is None):
            yield f"{row} is active or not, and its reason says otherwise"
        if row.is_active:
            yield from self.of_active(row)
        if row.reason == "twin_opted_out" and not self.may_block(row.address):
            yield f"{row} is a twin of nobody"
        if row.source == MANUAL and not row.is_active and not self.may_block(row.address):
            yield f"{row} was made by hand and is inactive"

    def of_active(self, row: PersonRow) -> Iterator[str]:
        if not row.is_shown or not row.address:
            yield f"{row} is shown to nobody and active"
        if blockers := self.blockers(row.address):
            yield f"{row} is active, and {blockers} with this address opted out"
        record = self.records.get(row.salesforce_id or "")
        if row.source == SALESFORCE and (not self.is_mine(record) or record is None or record.is_opted_out):
            yield f"{row} is active, in Salesforce {record}"
        if row.source == LEAD:
            for sign_up in self.here.sign_ups:
                if sign_up.contact_id == row.id and sign_up.state in IN_SALESFORCE:
                    yield from self.of_active_sign_up(row, sign_up)

    def of_active_sign_up(self, row: PersonRow, sign_up: SignUp) -> Iterator[str]:
        """Its contact isn't here: the sign-up's own row represents the person."""
        record = self.records.get(sign_up.salesforce_id or sign_up.linked_contact_id or "")
        while record is not None and record.became is not None:
            record = self.records.get(record.became)
        if record is None or record.is_deleted or record.is_restricted or record.is_opted_out:
            yield f"{row} of {sign_up} is active, in Salesforce {record}"
        elif record.owner_id != self.user and not (record.is_lead and record.made_by == self.user):
            yield f"{row} of {sign_up} is active, and somebody else's: {record}"

    # Contacts in Salesforce are here

    def of_contact(self, record: OrgPerson) -> Iterator[str]:
        row = next(
            (r for r in self.here.rows.values() if r.source == SALESFORCE and r.salesforce_id == record.id), None
        )
        was_erased = record.id in self.memory.erased_ids or any(
            self.memory.erasures.get(address) for address in self.memory.addresses[record.id]
        )
        if row is None or row.is_erased:
            if not was_erased:
                yield f"{record} is not here"
            return
        if row.address != record.address:
            yield f"{record} is here as {row}"
        if row.is_hidden:
            expected = {"hidden_here"}
        elif self.blockers(record.address):
            expected = {"twin_opted_out"}
        elif self.may_block(record.address):
            expected = {"twin_opted_out", None}
        else:
            expected = {None}
        if row.reason not in expected:
            yield f"{record} is here as {row}, and should be {expected}"

    # Deleted here, erased

    def of_people_deleted_here(self) -> Iterator[str]:
        for row in self.here.rows.values():
            if not row.is_active:
                continue
            if row.key in self.memory.hidden_rows or row.salesforce_id in self.memory.hidden_ids:
                yield f"{row} was deleted here and is active"
            for i in self.memory.hidden_ids:
                lead = self.records.get(i)
                if lead is not None and lead.is_converted and lead.became == row.salesforce_id:
                    yield f"{row} was deleted here as the Lead {i} and is active"

    def of_erased_people(self) -> Iterator[str]:
        for row in self.here.rows.values():
            erased_at = self.memory.erased.get(row.address)
            if erased_at is None or row.source == MANUAL or row.created_at < erased_at:
                continue
            if self.memory.first_address[row.key] == row.address:
                yield f"{row} came after the person was erased"
        for sign_up in self.here.sign_ups:
            if sign_up.address in self.memory.erased:
                yield f"{sign_up} was erased and is still there"

    # Sign-ups

    def of_leads_made(self) -> Iterator[str]:
        for address in set(self.memory.made.values()):
            made = sorted(i for i, at_first in self.memory.made.items() if at_first == address)
            made = [i for i in made if self.can_be_found(i)]
            if len(made) > 1 + self.memory.erasures.get(address, 0):
                yield f"{address} has the Leads {made}"

    def can_be_found(self, lead_id: str) -> bool:
        """Return whether the user could see this Lead, with one address, all the time."""
        was_seen = lead_id in self.records and lead_id not in self.memory.restricted
        return was_seen and len(self.memory.addresses[lead_id]) == 1

    def of_known_opt_outs(self) -> Iterator[str]:
        """A known opt-out of a sign-up's Lead makes everyone with the address inactive, before any sync."""
        for sign_up in self.here.sign_ups:
            record = self.records.get(sign_up.salesforce_id or "")
            is_known = sign_up.opted_out and not sign_up.is_deleted and sign_up.why is None
            if not is_known or not self.is_mine(record) or record is None or not record.is_opted_out:
                continue
            if self.memory.addresses[record.id] != {sign_up.address}:
                continue  # which of them is stored, the next sync says
            for row in self.here.rows.values():
                if row.is_active and row.address == sign_up.address:
                    yield f"{row} is active, and {sign_up} with this address is known to have opted out"

    def of_sign_ups_kept(self) -> Iterator[str]:
        found = sorted(sign_up.address for sign_up in self.here.sign_ups if sign_up.address)
        if found != sorted(self.memory.signed_up):
            yield f"signed up are {sorted(self.memory.signed_up)}, and stored {found}"

    def of_sign_up(self, sign_up: SignUp) -> Iterator[str]:
        if sign_up.state == "erased":
            return
        known = self.memory.addresses
        if sign_up.state in IN_SALESFORCE:
            if (sign_up.salesforce_id or sign_up.linked_contact_id) not in known:
                yield f"{sign_up} is nowhere in Salesforce"
        elif sign_up.state not in WITH_A_REASON or not sign_up.why:
            yield f"{sign_up} is left without a reason"
        linked = self.records.get(sign_up.linked_contact_id or "")
        if linked is None or not self.is_mine(linked) or linked.is_opted_out or not linked.address:
            return
        others = {a for a in known[linked.id] if self.memory.erasures.get(a)} - {sign_up.address}
        if others or sign_up.address in self.memory.erased_beside:
            return
        rows = [r for r in self.here.rows.values() if r.salesforce_id == linked.id and not r.is_erased]
        if not rows:
            yield f"{sign_up} is linked to {linked}, which is not here"
