"""Lists from Salesforce hold the people who are on them there, as far as they are here; what can't be read stays as it was.

Hypothesis edits contacts, list views and campaigns of an org, syncs, and compares the members with the org's own store.
"""

from __future__ import annotations

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
from tests.properties.connection_life import Life
from tests.properties.org_story import VERBS, Edit, OrgContact

picks = st.integers(0, 11)
edits = st.builds(
    lambda verb, one, two, three: Edit(verb, one, two, three), st.sampled_from(VERBS), picks, picks, picks
)
BORDERS = ("h", "p", "z")


class ListsStayTrue(RuleBasedStateMachine):
    app: Flask

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.app)
        self.org, self.story = self.life.org, self.life.story
        self.border = self.accepted = "p"
        self.is_shared = True

    @initialize(people=st.lists(edits.map(lambda edit: edit._replace(verb="add")), min_size=3, max_size=9))
    def begin(self, people: list[Edit]) -> None:
        """Follow a list view and a campaign."""
        for each in people:
            self.story.carry_out(each)
        self.life.run()
        self.view = self.org.add_list_view("Contact", "A list", where=self.filter())
        self.campaign = self.org.add_campaign(self.story.user, "A campaign")
        for list_id, about in ((self.view, "Contact"), (self.campaign, "Campaign")):
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

    @rule(numbers=st.lists(picks, min_size=1, max_size=5))
    def join_or_leave_the_campaign(self, numbers: list[int]) -> None:
        people = sorted(record.id for record in self.story.records().values() if not record.is_deleted)
        for number in numbers if people else ():
            person = people[number % len(people)]
            if person in self.in_campaign():
                self.org.remove_member(self.campaign, person)
            else:
                self.org.add_members(self.campaign, [person])

    @rule(border=st.sampled_from(BORDERS))
    def edit_the_view(self, border: str) -> None:
        self.border = border
        self.org.change_list_view(self.view, where=self.filter())

    @rule()
    def share_or_unshare_the_view(self) -> None:
        self.is_shared = not self.is_shared
        self.org.change_list_view(self.view, only_for=None if self.is_shared else [])

    @rule()
    def accept(self) -> None:
        offered = self.followed(self.view).offered
        if offered is not None:
            assert salesforce_lists.accept_filter(self.life.user_id, self.list_id(self.view), offered.digest)
            self.accepted = offered.condition.split("'")[1]

    @rule()
    def sync(self) -> None:
        if self.life.run().status != "failed":
            self.check()

    def check(self) -> None:
        assert self.members(self.campaign) == self.mine_here(self.in_campaign())
        view = self.followed(self.view)
        assert view.is_frozen != self.is_shared
        assert view.is_frozen or view.is_changed == (self.border != self.accepted)
        if not view.is_frozen and not view.is_changed:
            inside = {
                one.id
                for one in self.story.records().values()
                if one.last_name.lower() < self.accepted and not one.is_restricted
            }
            assert self.members(self.view) == self.mine_here(inside)

    def in_campaign(self) -> set[str]:
        return {member["ContactId"] for member in self.org.campaigns.members(self.campaign)}

    def mine_here(self, ids: set[str]) -> set[str]:
        """Return those of these records that are the user's, and stored here with an address."""
        records = self.story.records()
        here = select(Contact.salesforce_id).where(
            Contact.connection_id == self.life.connection_id,
            (Contact.departed.is_(None)) | (Contact.departed != "no_email"),
        )
        return {each for each in db.session.scalars(here) if each in ids and self.is_mine(records[each])}

    def is_mine(self, record: OrgContact) -> bool:
        return record.owner_id == self.story.user and not record.is_deleted

    def followed(self, salesforce_id: str) -> SalesforceList:
        db.session.rollback()
        return db.session.scalars(select(SalesforceList).where(SalesforceList.salesforce_id == salesforce_id)).one()

    def list_id(self, salesforce_id: str) -> int:
        return self.followed(salesforce_id).list_id

    def members(self, salesforce_id: str) -> set[str]:
        on_it = select(Contact.salesforce_id).join(ListMember, ListMember.contact_id == Contact.id)
        return set(db.session.scalars(on_it.where(ListMember.list_id == self.list_id(salesforce_id))))

    def teardown(self) -> None:
        self.life.close()


@pytest.mark.slow
def test_lists_stay_true(app: Flask, org: Running) -> None:
    class Here(ListsStayTrue):
        pass

    Here.app = app
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=5, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
