"""The links that a person sees, and which of them is the current one.

A link appears as soon as its endpoint exists. Only this module knows them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import Flask, current_app, request, url_for
from flask_login import current_user


@dataclass(frozen=True)
class Place:
    label: str
    endpoint: str
    section: tuple[str, ...] = ()  # blueprints whose pages belong to it
    decisions: str = ""  # as in Link


@dataclass(frozen=True)
class Link:
    label: str
    url: str
    current: str | None  # "page": this page itself; "true": a page of its section
    decisions: str = ""  # id of the badge that shows decisions waiting for the person


PROFILE = Place("Profile", "settings.profile")
SECURITY = Place("Security", "settings.security")
INTEGRATIONS = Place("Integrations", "integrations.index", ("integrations", "connect", "runs"), "decisions-side")
ADMINS = Place("Admins", "admins.index")
ACCOUNT_SETTINGS = Place("Account Settings", PROFILE.endpoint, ("settings", "admins", *INTEGRATIONS.section))
FOR_ADVISORS = (
    Place("Contacts", "contacts.index", ("contacts", "lists", "salesforce_lists")),
    Place("Changes", "changes.index", ("changes",)),
    Place("Leads", "leads.index", ("leads",)),
    replace(ACCOUNT_SETTINGS, decisions="decisions"),
)
FOR_ADMINS = (
    Place("Firms", "partners.index", ("partners", "advisors")),
    Place("Firm board", "board.index", ("board", "org_calls")),
    Place("API keys", "api_keys.index", ("api_keys",)),
    Place("Audit log", "audit.index", ("audit",)),
    Place("Health", "health.index", ("health",)),
    ACCOUNT_SETTINGS,
)


def register(app: Flask) -> None:
    app.jinja_env.globals.update(main_navigation=main_navigation, settings_navigation=settings_navigation)


def main_navigation() -> list[Link]:
    return _links(FOR_ADMINS if current_user.is_admin else FOR_ADVISORS)


def settings_navigation() -> list[Link]:
    if current_user.is_admin:
        return _links((PROFILE, SECURITY, ADMINS))
    return _links((PROFILE, SECURITY, INTEGRATIONS) if current_user.has_integrations else (PROFILE, SECURITY))


def home_of_current_user() -> str:
    """Return where "/" leads: the first page of the person's navigation, or the log-in."""
    return main_navigation()[0].url if current_user.is_authenticated else url_for("auth.login")


def _links(places: tuple[Place, ...]) -> list[Link]:
    known = current_app.view_functions
    return [_link(place) for place in places if place.endpoint in known]


def _link(place: Place) -> Link:
    url = url_for(place.endpoint)
    return Link(place.label, url, _current(place, url), place.decisions)


def _current(place: Place, url: str) -> str | None:
    if request.path == url:  # by path, since a refused form is shown by another endpoint
        return "page"
    return "true" if request.blueprint in place.section else None
