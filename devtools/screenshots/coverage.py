"""Which pages have no picture: the routes of the application, compared with the addresses that were photographed."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from asapp import create_app
from config import Config

LEFT_OUT = {
    "files and answers for programs": (
        *("api.advisors", "api.recipients_of_list", "api.recipients_of_send", "api.show_send", "api_docs.openapi"),
        *("health.alive", "health.metrics", "health.ready", "static", "leads.code", "leads.code_as_picture"),
        *("audit.export", "board.export", "changes.export", "contacts.export", "leads.export", "org_calls.export"),
        *("integrations.held_csv", "leads.consent", "leads.person_consent", "runs.receipt_csv"),
    ),
    "parts of pages that have one": (
        *("connect.ask_disconnect", "integrations.preview", "integrations.salesforce", "partners.preview"),
    ),
    "as of a contact, for a person whose contact was removed with a connection": (
        *("leads.confirm_erase_person", "leads.person"),
    ),
    "they lead on": ("connect.callback", "home.index", "provider.callback"),
    "they need a quarter of an hour, or a device; browser tests take their pictures": (
        *("auth.confirm", "passkeys.edit", "passkeys.new", "second_factor.open_link"),
    ),
}


def pages_without_picture(config: Config, urls: Collection[str]) -> list[str]:
    """Return the endpoints of the pages that none of these addresses belongs to, except those that are left out."""
    routes = create_app(config).url_map
    adapter = routes.bind("")
    pages = {rule.endpoint for rule in routes.iter_rules() if "GET" in (rule.methods or ())}
    seen = {find_endpoint(adapter, urlsplit(url).path) for url in urls}
    return sorted(pages - seen - {name for names in LEFT_OUT.values() for name in names})


def find_endpoint(adapter: MapAdapter, path: str) -> str | None:
    """Return whose page is at this path; None if it is no one's."""
    try:
        endpoint, _ = adapter.match(path, method="GET")
    except HTTPException:
        return None
    return str(endpoint)
