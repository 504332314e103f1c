"""Lists from Salesforce hold the people who are on them there, as far as they are here; what can't be read stays as it was.

Hypothesis edits contacts, person accounts, open Leads, list views and campaigns of an org, syncs, kills runs between any two
commits, and compares the members with the org's own store. `pytest tests/properties --hypothesis-profile=long` goes on for much
longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import select

from asapp.connections.list_questions import look_inside
from asapp.contacts import salesforce_lists
from asapp.core.extensions import db
from asapp.models import Contact, ListMember, SalesforceList
from asapp.salesforce.org_lists import Look
from orgsim import Running
from tests.factories import org_access
from tests.properties.open_leads_life import LeadEdit, LeadLife
from tests.properties.org_story import PAGE, VERBS, Edit

picks = st.integers(0, 11)
edits = st.builds(
    lambda verb, one, two, three: Edit(verb, one, two, three), st.sampled_from(VERBS), picks, picks, picks
)
LEAD_VERBS = (
    "add", "add", "add_opted_out", "rename", "opt_out", "opt_in", "delete", "undelete", "purge", "give_away", "give_back", "hide",
    "show", "merge", "convert", "convert",
)  # fmt: skip
lead_edits = st.builds(LeadEdit, st.sampled_from(LEAD_VERBS), picks, picks)
BORDERS = ("h", "lead 3", "p", "person 4", "z")
Person = dict[str, Any]  # a row of Contact or Lead, as the org stores it


class ListsStayTrue(RuleBasedStateMachine):
    app: Flask
    life: LeadLife

    @initialize(
        people=st.lists(edits.map(lambda edit: edit._replace(verb="add")), min_size=3, max_size=9),
        has_persons=st.booleans(),
        has_leads=st.booleans(),
        rows_a_page=st.sampled_from([2, PAGE]),
    )
    def begin(self, people: list[Edit], *, has_persons: bool, has_leads: bool, rows_a_page: int) -> None:
        """Follow list views of all kinds that this firm has, and a campaign."""
        self.life = LeadLife(self.app, rows_a_page)
        self.org, self.story = self.life.org, self.life.story
        self.has_leads, self.is_shared, self.border = has_leads, True, "p"
        self.life.turn(is_on=has_leads)
        if has_persons:
            self.life.use_persons(survivors_are_named=True)
        for each in people:
            self.story.carry_out(each)
        self.edit_leads([LeadEdit("add", number, number) for number in range(4)])
        self.life.run()
        self.views = {
            self.org.add_list_view(about, f"{about}s", where=self.filter()): about
            for about in ("Contact", *(("Account",) if has_persons else ()), *(("Lead",) if has_leads else ()))
        }
        self.accepted = dict.fromkeys(self.views, self.border)
        self.campaign = self.org.add_campaign(self.story.user, "A campaign")
        for list_id, about in {**self.views, self.campaign: "Campaign"}.items():
            look = look_inside(self.life.office.connection, org_access(), list_id, about)
            assert isinstance(look, Look)
            salesforce_lists.follow(self.life.office.connection, look.found, look.filter)
        self.sync()

    def filter(self) -> dict[str, object]:
        return {"field": "LastName", "operator": "lessThan", "values": [f"'{self.border}'"]}

    @rule(edits=st.lists(edits, min_size=1, max_size=4))
    def edit_people(self, edits: list[Edit]) -> None:
        for each in edits:
            self.story.carry_out(each)

    @rule(edits=st.lists(lead_edits, min_size=1, max_size=4))
    def edit_leads(self, edits: list[LeadEdit]) -> None:
        for each in edits if self.has_leads else ():
            self.life.edit(each)
        self.story.observe()

    @rule(numbers=st.lists(picks, min_size=1, max_size=5))
    def join_or_leave_the_campaign(self, numbers: list[int]) -> None:
        people = sorted(each for each, person in self.people().items() if is_alive(person))
        for number in numbers if people else ():
            person = people[number % len(people)]
            if person in self.in_campaign():
                self.org.remove_member(self.campaign, person)
            else:
                self.org.add_members(self.campaign, [person])

    @rule(border=st.sampled_from(BORDERS))
    def edit_the_views(self, border: str) -> None:
        self.border = border
        for view in self.views:
            self.org.change_list_view(view, where=self.filter())

    @rule()
    def share_or_unshare_the_views(self) -> None:
        self.is_shared = not self.is_shared
        for view in self.views:
            self.org.change_list_view(view, only_for=None if self.is_shared else [])

    @rule()
    def accept(self) -> None:
        for view in self.views:
            offered = self.followed(view).offered
            if offered is not None:
                assert salesforce_lists.accept_filter(self.life.user_id, self.list_id(view), offered.digest)
                self.accepted[view] = offered.condition.split("'")[1]

    @rule(commits=st.integers(0, 30))
    def sync_and_die_before_a_commit(self, commits: int) -> None:
        self.life.run(die_at_commit=commits)

    @rule()
    def sync(self) -> None:
        run = self.life.run()
        if run.is_complete or run.is_held:
            self.check()

    def check(self) -> None:
        people = self.people()
        assert self.members(self.campaign) == self.mine_here(self.in_campaign(), people)
        for view, about in self.views.items():
            followed, accepted = self.followed(view), self.accepted[view]
            assert followed.is_frozen != self.is_shared
            assert followed.is_frozen or followed.is_changed == (self.border != accepted)
            if not followed.is_frozen and not followed.is_changed:
                assert self.members(view) == self.mine_here(self.inside(about, accepted, people), people), about

    def inside(self, about: str, border: str, people: dict[str, Person]) -> Iterable[str]:
        """Return the Ids of the people that a view of this object shows to the user."""
        for each, person in people.items():
            is_of_it = each.startswith("00Q") == (about == "Lead") and (about != "Account" or person["IsPersonAccount"])
            if is_of_it and person["LastName"].lower() < border and not (person["_restricted"] and about != "Account"):
                yield each

    def people(self) -> dict[str, Person]:
        """Return the contacts and Leads that the org stores, by Id."""
        self.org.settle()
        names = ("Contact", "Lead")
        return {row["Id"]: dict(row) for name in names for row in self.org.store.records(self.org.schema[name])}

    def in_campaign(self) -> set[str]:
        """Return who is in the campaign: of a converted Lead its contact."""
        return {member["ContactId"] or member["LeadId"] for member in self.org.campaigns.members(self.campaign)}

    def mine_here(self, ids: Iterable[str], people: dict[str, Person]) -> set[str]:
        """Return those of these records that are the user's, and stored here with an address."""
        here = select(Contact.salesforce_id).where(
            Contact.connection_id == self.life.connection_id,
            (Contact.departed.is_(None)) | (Contact.departed != "no_email"),
        )
        stored = set(db.session.scalars(here))
        mine = {each for each in ids if is_alive(people[each]) and people[each]["OwnerId"] == self.story.user}
        return mine & stored

    def followed(self, salesforce_id: str) -> SalesforceList:
        db.session.rollback()
        return db.session.scalars(select(SalesforceList).where(SalesforceList.salesforce_id == salesforce_id)).one()

    def list_id(self, salesforce_id: str) -> int:
        return self.followed(salesforce_id).list_id

    def members(self, salesforce_id: str) -> set[str]:
        on_it = select(Contact.salesforce_id).join(ListMember, ListMember.contact_id == Contact.id)
        return set(db.session.scalars(on_it.where(ListMember.list_id == self.list_id(salesforce_id))))

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.close()


def is_alive(person: Person) -> bool:
    return not person["IsDeleted"] and not person.get("IsConverted")


IS_LONG = settings.get_current_profile_name() == "long"


@pytest.mark.slow
@pytest.mark.timeout(0 if IS_LONG else 300)
def test_lists_stay_true(app: Flask, org: Running, record_property: Callable[[str, Any], None]) -> None:
    counted = {"examples": 0, "syncs": 0}

    class Counted(ListsStayTrue):
        def check(self) -> None:
            counted["syncs"] += 1
            super().check()

        def teardown(self) -> None:
            counted["examples"] += 1
            super().teardown()

    Counted.app = app
    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=200 if IS_LONG else 5,
            stateful_step_count=30 if IS_LONG else 15,
            deadline=None,  # an example makes dozens of syncs over HTTP
            suppress_health_check=[HealthCheck.too_slow],  # the same
        ),
    )
    for name, number in counted.items():
        record_property(name, number)
