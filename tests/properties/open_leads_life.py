"""An org's Leads, edited and synced, and what must be stored of them after a quiet run, computed from the org's own store.

Nothing of asapp decides what is expected here. Runs are killed before any commit, as in connection_life.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from flask import Flask

from asapp.contacts import lists, removal
from asapp.core.extensions import db
from asapp.models import Connection, Partner, SyncRun
from asapp.panel.balance import balance
from asapp.partners import partners
from asapp.salesforce.records import RecordKind
from tests.properties.connection_life import Act, Life
from tests.properties.org_story import POOL
from tests.properties.stored_state import StoredContactRow, StoredState

VERBS = (
    "add", "add", "add", "add_opted_out", "add_without_address", "add_contact", "rename", "share_address", "opt_out", "opt_out",
    "opt_in", "delete", "undelete", "purge", "give_away", "give_back", "hide", "show", "merge", "convert", "convert", "convert",
    "opt_contact_out", "opt_contact_in", "put_on_list", "put_on_list", "delete_here", "turn_off", "turn_on",
)  # fmt: skip


class LeadEdit(NamedTuple):
    """The numbers pick the records."""

    verb: str
    one: int = 0
    two: int = 0


class OrgPerson(NamedTuple):
    """A Lead or Contact as the org stores it."""

    id: str
    name: str
    email: str
    is_opted_out: bool
    owner_id: str
    is_deleted: bool
    is_hidden: bool
    went_into: str | None  # merged into, or converted to

    @property
    def address(self) -> str:
        return self.email.lower()


class LeadLife(Life):
    def __init__(self, app: Flask, rows_a_page: int) -> None:
        super().__init__(app, rows_a_page)
        self.listed: set[tuple[int, str]] = set()  # (list, Lead), as the advisor put them on it
        self.masters: dict[str, set[str]] = defaultdict(
            set
        )  # what each Lead was ever merged into: undeleting undoes it there
        self.turn(is_on=True)

    def be_sure(self) -> None:
        """The oracle below has its own rules."""

    def check(self) -> None:
        """Check what must be true after every step: whose Leads are not read is not active."""
        active = [row.salesforce_id for row in self.read().shown() if row.source == "salesforce_lead" and row.is_active]
        assert self.is_on or not active, f"{active} are active although open Leads are turned off"

    # The org

    def people(self, object_name: str = "") -> dict[str, OrgPerson]:
        self.org.settle()
        found = {}
        for name in (object_name,) if object_name else ("Contact", "Lead"):
            for row in self.org.store.records(self.org.schema[name]):
                is_converted = bool(row.get("IsConverted"))
                found[row["Id"]] = OrgPerson(
                    row["Id"],
                    row["LastName"],
                    row["Email"] or "",
                    bool(row["HasOptedOutOfEmail"]),
                    row["OwnerId"],
                    bool(row["IsDeleted"]) or is_converted,
                    bool(row["_restricted"]),
                    row["ConvertedContactId"] if is_converted else row["MasterRecordId"],
                )
        return found

    def living(self, object_name: str = "") -> dict[str, OrgPerson]:
        """Return what the user owns and sees: contacts, and open Leads."""
        return {
            each.id: each
            for each in self.people(object_name).values()
            if each.owner_id == self.office.user and not each.is_deleted and not each.is_hidden
        }

    def edit(self, edit: LeadEdit) -> None:
        """Carry an edit out; one that fits no record does nothing."""
        with suppress(ValueError):  # the org doesn't allow it: converted already, or in the Recycle Bin
            getattr(self, f"_{edit.verb}")(edit)
        self.org.clock.advance(1)

    def _one(self, found: dict[str, OrgPerson], number: int) -> str:
        if not found:
            raise ValueError("no such record")
        return sorted(found)[number % len(found)]

    def _email(self, number: int) -> str:
        self._made += 1
        return POOL[number % len(POOL)] if number % 2 else f"lead{self._made}@fjord.example"

    def _add(self, edit: LeadEdit, **fields: object) -> None:
        self._made += 1
        values = {"email": self._email(edit.one)} | fields
        self.org.add_lead(self.office.user, last_name=f"Lead {self._made}", **values)  # type: ignore[arg-type]

    def _add_opted_out(self, edit: LeadEdit) -> None:
        self._add(edit, opted_out=True)

    def _add_without_address(self, edit: LeadEdit) -> None:
        self._add(edit, email=None)

    def _add_contact(self, edit: LeadEdit) -> None:
        self._made += 1
        self.org.add_contact(self.office.user, last_name=f"Contact {self._made}", email=self._email(edit.one))

    def _rename(self, edit: LeadEdit) -> None:
        self._made += 1
        self.org.update_lead(self._one(self.living("Lead"), edit.one), last_name=f"Lead {self._made}")

    def _share_address(self, edit: LeadEdit) -> None:
        self.org.update_lead(self._one(self.living("Lead"), edit.one), email=POOL[edit.two % len(POOL)])

    def _opt_out(self, edit: LeadEdit) -> None:
        self.org.opt_out(self._one(self.living("Lead"), edit.one))

    def _opt_in(self, edit: LeadEdit) -> None:
        opted_out = {i: each for i, each in self.living("Lead").items() if each.is_opted_out}
        self.org.opt_in(self._one(opted_out, edit.one))

    def _opt_contact_out(self, edit: LeadEdit) -> None:
        self.org.opt_out(self._one(self.living("Contact"), edit.one))

    def _opt_contact_in(self, edit: LeadEdit) -> None:
        self.org.opt_in(self._one(self.living("Contact"), edit.one))

    def _delete(self, edit: LeadEdit) -> None:
        self.org.delete(self._one(self.living("Lead"), edit.one))

    def _gone(self, number: int) -> str:
        return self._one({i: each for i, each in self.people("Lead").items() if each.is_deleted}, number)

    def _undelete(self, edit: LeadEdit) -> None:
        self.org.undelete(self._gone(edit.one))

    def _purge(self, edit: LeadEdit) -> None:
        self.org.purge(self._gone(edit.one))

    def _give_away(self, edit: LeadEdit) -> None:
        self.org.give(self._one(self.living("Lead"), edit.one), self.office.colleague)

    def _give_back(self, edit: LeadEdit) -> None:
        theirs = {i: each for i, each in self.people("Lead").items() if each.owner_id == self.office.colleague}
        self.org.give(
            self._one({i: each for i, each in theirs.items() if not each.is_deleted}, edit.one), self.office.user
        )

    def _hide(self, edit: LeadEdit) -> None:
        self.org.hide_contact(self._one(self.living("Lead"), edit.one))

    def _show(self, edit: LeadEdit) -> None:
        self.org.show_contact(
            self._one({i: each for i, each in self.people("Lead").items() if each.is_hidden}, edit.one)
        )

    def _merge(self, edit: LeadEdit) -> None:
        master, loser = (self._one(self.living("Lead"), number) for number in (edit.one, edit.two))
        self.org.merge(master, [loser])
        self.masters[loser].add(master)

    def _convert(self, edit: LeadEdit) -> None:
        self.org.convert_lead(self._one(self.living("Lead"), edit.one))

    # The advisor and the firm

    def _put_on_list(self, edit: LeadEdit) -> None:
        shown = {row.salesforce_id: row for row in self.read().shown() if row.source == "salesforce_lead"}
        if not shown:
            return
        picked = sorted(shown, key=str)[edit.one % len(shown)]
        if self._own_list(0) is None:
            self.act(Act("make_list"))
            db.session.rollback()  # the list is of another session
        own = self._own_list(edit.two)
        assert own is not None
        self.listed.add((own.id, str(picked)))
        lists.add_members(own, [shown[picked].id])

    def _delete_here(self, edit: LeadEdit) -> None:
        rows = [row for row in self.read().shown() if row.source == "salesforce_lead"]
        if rows:
            removal.remove_contacts(self.user_id, [rows[edit.one % len(rows)].id])

    def _turn_off(self, edit: LeadEdit) -> None:
        self.turn(is_on=False)

    def _turn_on(self, edit: LeadEdit) -> None:
        self.turn(is_on=True)

    def turn(self, *, is_on: bool) -> None:
        """Set the firm's setting, as its page does."""
        db.session.rollback()
        partner = db.session.get_one(Partner, self.office.connection.partner_id)
        partner.brings_in_open_leads = self.is_on = is_on
        if not is_on:
            partners.forget_open_leads(partner.id)
        db.session.commit()

    # Rest, and the oracle

    def settle_leads(self) -> None:
        """Bring everything to rest, and compare."""
        self.turn(is_on=True)
        self.story.advance(3600)
        self.end_active_run()
        before = self.read()
        run = self.run()
        for _ in range(3):
            if not run.is_held:
                break
            self.act(Act("approve"))
            run = self.run()
        self.act(Act("expect_sweep"))  # what hides and shows records leaves no stamp
        run = self.run()
        assert run.is_complete, f"{run.status} ({run.error_code})"
        assert run.is_balanced
        found = list(self.differences(before, self.read()))
        assert not found, "\n".join(found)
        for kind in RecordKind:
            books = balance(db.session.get_one(Connection, self.connection_id), kind)
            assert books is not None
            assert books.is_balanced, f"the books of {kind} don't balance: {books}"
        self.check_idle()

    def check_idle(self) -> None:
        """See that a run after that costs one call, reads nothing and writes nothing."""
        self.story.advance(16 * 60)
        self.run()
        self.story.advance(60)
        before = self.office.snapshot()
        run: SyncRun = self.run()
        assert (run.api_calls, run.read) == (1, 0)
        assert self.office.snapshot() == before

    def differences(self, before: StoredState, after: StoredState) -> Iterator[str]:
        people, leads = self.people(), self.living("Lead")
        opted_out = [each for each in self.living().values() if each.is_opted_out and each.email]
        ledger = {i: outcome for i, (outcome, _) in after.ledger.items() if i.startswith("00Q")}
        expected = {
            i: "opted_out" if each.is_opted_out else "synced" if each.email else "no_email" for i, each in leads.items()
        }
        if ledger != expected:
            yield f"ledger {ledger}, in Salesforce {expected}"
        rows = {i: row for i, row in after.by_salesforce_id.items() if row.source == "salesforce_lead"}
        for i, lead in leads.items():
            row, was_here = rows.get(i), i in before.by_salesforce_id and not before.by_salesforce_id[i].is_shell
            is_shown = row is not None and row.is_shown
            if bool(lead.email) and (was_here or not lead.is_opted_out) != is_shown:
                yield f"{lead} is {'' if is_shown else 'not '}here"
            if row is not None and row.is_shown:
                yield from self.of_living(row, lead, opted_out)
        for i, row in rows.items():
            if i not in leads and row.is_shown:
                yield from self.of_departed(row, people.get(i), after)
        yield from self.of_lists(people, after)

    @staticmethod
    def of_living(row: StoredContactRow, lead: OrgPerson, opted_out: list[OrgPerson]) -> Iterator[str]:
        is_twin = any(each.address == lead.address and each.id != lead.id for each in opted_out)
        reason = (
            "hidden_here"
            if row.is_hidden
            else "opted_out"
            if lead.is_opted_out
            else "twin_opted_out"
            if is_twin
            else ""
        )
        if (row.last_name, row.email) != (lead.name, lead.email) or row.reason != reason:
            yield f"{row}, but {lead} and {reason or 'active'}"
        if ("Salesforce Open Leads" in row.lists) == row.is_hidden:
            yield f"{row} is not on its list, or is although it was deleted here"

    @staticmethod
    def of_departed(row: StoredContactRow, lead: OrgPerson | None, after: StoredState) -> Iterator[str]:
        if row.is_active or row.departed not in ("deleted", "merged", "reassigned", "gone"):
            yield f"{row} is {row.status}, but {lead}"
        contact = after.by_salesforce_id.get(row.merged_into or "")
        if contact is not None and contact.source == "salesforce" and contact.departed is None:
            yield f"{row} was not handed to its contact {contact}"

    def of_lists(self, people: dict[str, OrgPerson], after: StoredState) -> Iterator[str]:
        """Each place on a list is the Lead's still, or that of the contact it became, or of what it was ever merged into."""
        for list_id, lead_id in sorted(self.listed):
            chain: set[str] = set()
            reached = [lead_id]
            while reached:
                at = reached.pop()
                if at not in chain:
                    chain.add(at)
                    went_into = people[at].went_into if at in people else None
                    reached += [*self.masters[at], *([went_into] if went_into else [])]
            holders = {after.by_salesforce_id[i].id for i in chain if i in after.by_salesforce_id}
            if people.get(lead_id) is not None and not any((list_id, holder) in after.members for holder in holders):
                yield f"{lead_id} lost its place on list {list_id}: {chain}"
