"""Live queries about lists in Salesforce, for the page on which an advisor chooses them. Each call counts against the share."""

from __future__ import annotations

from asapp.connections.org_access import OrgAccess
from asapp.models import Connection, Partner
from asapp.salesforce import org_lists
from asapp.salesforce.org_lists import Catalog, ListTrouble, Look


def fetch_catalog(connection: Connection, access: OrgAccess) -> Catalog:
    """Return the list views and active campaigns that the user can see. Raises SalesforceError."""
    objects = objects_listed(connection.partner)
    with access.open(connection) as org:
        return org_lists.fetch_catalog(org, objects)


def look_inside(connection: Connection, access: OrgAccess, list_id: str, about: str) -> Look | ListTrouble:
    """Return what a list would bring, or why it can't be read. Raises SalesforceError."""
    owner_id = connection.salesforce_user_id
    with access.open(connection) as org:
        return org_lists.look_inside(org, owner_id, list_id, about)


def objects_listed(partner: Partner) -> tuple[str, ...]:
    """Return the objects whose list views may be chosen: those whose records come in, and the accounts that are persons."""
    persons = ("Account",) if partner.has_person_accounts else ()
    return ("Contact", *persons, *(("Lead",) if partner.brings_in_open_leads else ()))
