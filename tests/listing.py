"""Lists from Salesforce in tests: an office with people in two towns, and list views of them."""

from __future__ import annotations

from typing import Any

from asapp.connections.list_questions import look_inside
from asapp.contacts import salesforce_lists
from asapp.core.extensions import db
from asapp.models import ContactList, SalesforceList
from asapp.salesforce.org_lists import Look
from orgsim import Running
from tests.factories import org_access
from tests.syncing import Office

IN_KENT = {"field": "MailingCity", "operator": "equals", "values": ["'Kent'"]}
IN_HULL = {"field": "MailingCity", "operator": "equals", "values": ["'Hull'"]}


class ListOffice(Office):
    """An office with people in Kent and Hull, who are here."""

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.rose = self.live("Rose", "Kent")
        self.zoe = self.live("Zoe", "Kent")
        self.hal = self.live("Hal", "Hull")
        self.sync()

    def live(self, name: str, city: str, **fields: Any) -> str:
        return self.add(last_name=name, MailingCity=city, **{"email": f"{name.lower()}@a.example", **fields})

    def view(self, label: str = "In Kent", **more: Any) -> str:
        return self.org.add_list_view("Contact", label, **{"where": IN_KENT, **more})

    def look(self, list_id: str, about: str = "Contact") -> Look:
        found = look_inside(self.connection, org_access(), list_id, about)
        assert isinstance(found, Look), found
        return found

    def follow(self, list_id: str, about: str = "Contact") -> ContactList:
        """Choose a list as the page does, and sync."""
        look = self.look(list_id, about)
        made = salesforce_lists.follow(self.connection, look.found, look.filter)
        self.sync()
        return made

    def state(self, made: ContactList) -> SalesforceList:
        db.session.rollback()
        found = salesforce_lists.find_one(self.advisor.id, made.id)
        assert found is not None
        return found

    def on(self, made: ContactList) -> set[str | None]:
        return set(self.members(made))

    def calls(self, sync: Any = None) -> int:
        """Return how many calls a sync makes."""
        mark = self.org.calls.mark()
        (sync or self.sync)()
        return self.org.calls.counted(mark)
