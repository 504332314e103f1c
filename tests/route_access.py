"""Every route of the application with every method, its arguments filled in; and who may use each route."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import product
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.routing import Rule

from asapp.core.extensions import db
from asapp.models import LoginSession, Passkey
from tests.two_firms import Belongings, World


class For(Enum):
    EVERYBODY = "everybody, without a log-in"
    LOGGED_IN = "everyone who is logged in"
    ADVISORS = "advisors, for their own"
    ADMINS = "admins"
    SENDERS = "programs with a key, with or without a log-in"


ACCESS = {
    **dict.fromkeys(
        (
            *(
                "auth.ask_passkey",
                "auth.code",
                "auth.login",
                "auth.try_code",
                "auth.try_login",
                "provider.callback",
                "provider.start",
                "home.index",
                "health.alive",
                "health.metrics",
                "health.ready",
            ),
            *("optin.show", "optin.sign_up", "optin.thanks", "optin.ask", "optin.confirm"),
            *("unsubscribe.receive", "unsubscribe.show"),
            *("partner_setup.enter", "partner_setup.guide", "partner_setup.keys"),
            *(
                "email_links.confirm",
                "email_links.show",
                "passwords.forgot",
                "passwords.send_reset",
                "passwords.set_password",
                "passwords.show",
                "static",
            ),
            *("api_docs.openapi", "api_docs.page", "guides.advisor", "guides.salesforce_admin"),
        ),
        For.EVERYBODY,
    ),
    **dict.fromkeys(
        (
            *(
                "auth.confirm",
                "auth.logout",
                "auth.try_confirm",
                "provider.confirm",
                "settings.change_password",
                "settings.profile",
            ),
            *("second_factor.renew_codes", "second_factor.set_up", "second_factor.show", "second_factor.turn_off"),
            *("second_factor.ask_link", "second_factor.open_link", "second_factor.use_link"),
            *(
                "passkeys.add",
                "passkeys.ask_for_new",
                "passkeys.edit",
                "passkeys.new",
                "passkeys.remove",
                "passkeys.rename",
            ),
            *("settings.end_other_sessions", "settings.end_session", "settings.save_profile", "settings.security"),
        ),
        For.LOGGED_IN,
    ),
    **dict.fromkeys(
        (
            *("connect.ask_disconnect", "connect.callback", "connect.decide", "connect.disconnect", "connect.keep"),
            *("connect.start", "connect.switch"),
            *("changes.export", "changes.index"),
            *("contacts.add", "contacts.confirm_delete", "contacts.delete", "contacts.edit", "contacts.export"),
            "contacts.first_steps",
            "contacts.undo",
            *("contacts.index", "contacts.new", "contacts.restore", "contacts.save", "contacts.save_lists"),
            *("contacts.selection", "contacts.show", "contacts.tell_salesforce", "contacts.try_again", "contacts.why"),
            *("integrations.approve", "integrations.cancel", "integrations.discard", "integrations.held_csv"),
            "integrations.reconsider",
            *("integrations.index", "integrations.preview", "integrations.salesforce", "integrations.sync"),
            *("leads.check", "leads.code", "leads.code_as_picture", "leads.confirm_erase", "leads.consent"),
            *("leads.edit_page", "leads.erase", "leads.export", "leads.index", "leads.noted"),
            *("leads.retry", "leads.save_page"),
            *("leads.pause_page", "leads.send_reviewed"),
            *("leads.confirm_erase_person", "leads.erase_person", "leads.person", "leads.person_consent"),
            *("salesforce_lists.accept", "salesforce_lists.choose", "salesforce_lists.index", "salesforce_lists.keep"),
            *("salesforce_lists.stop", "salesforce_lists.use"),
            *("lists.add", "lists.delete", "lists.edit", "lists.new", "lists.save"),
            *("runs.index", "runs.receipt", "runs.receipt_csv"),
        ),
        For.ADVISORS,
    ),
    **dict.fromkeys(
        (
            *(
                "advisors.ask_deactivate",
                "advisors.ask_edit",
                "advisors.ask_erase",
                "advisors.edit",
                "advisors.erase",
                "advisors.send_password_link",
                "audit.ask_erase",
                "audit.erase",
                "advisors.ask_move",
                "advisors.deactivate",
                "advisors.index",
                "advisors.invite",
            ),
            *(
                "advisors.invite_again",
                "advisors.let_back_in",
                "advisors.move",
                "audit.export",
                "board.export",
                "board.index",
                "audit.index",
                "health.index",
                "guides.admin",
                "org_calls.export",
                "org_calls.index",
            ),
            *("admins.index", "admins.reset_second_step", "advisors.reset_second_step"),
            *("api_keys.index", "api_keys.make", "api_keys.revoke"),
            *(
                "partners.ask_delete",
                "partners.ask_stop",
                "partners.stop",
                "partners.change",
                "partners.check",
                "partners.create",
                "partners.delete",
            ),
            *("partners.disable", "partners.enable", "partners.index", "partners.keep_secret", "partners.new"),
            *(
                "partners.preview",
                "partners.revoke_link",
                "partners.send_link",
                "partners.show",
                "partners.tell_earlier",
            ),
        ),
        For.ADMINS,
    ),
    **dict.fromkeys(
        (
            *("api.advisors", "api.events", "api.may_send", "api.prepare_send", "api.recipients_of_list"),
            *("api.recipients_of_send", "api.show_send"),
        ),
        For.SENDERS,
    ),
}
# Where a person who logged in more than 15 minutes ago has to prove again who they are; partners.disable where permissions
# are revoked.
NEEDS_FRESH = {
    *("advisors.edit", "advisors.erase", "audit.erase", "org_calls.export"),
    *("admins.reset_second_step", "advisors.move", "advisors.reset_second_step", "api_keys.make", "api_keys.revoke"),
    *("audit.export", "partners.change", "partners.create", "partners.delete", "partners.keep_secret"),
    *("partners.send_link", "second_factor.renew_codes", "second_factor.set_up", "second_factor.show"),
    *("partners.disable", "partners.stop", "second_factor.turn_off"),
    *("passkeys.add", "passkeys.ask_for_new", "passkeys.edit", "passkeys.new", "passkeys.remove", "passkeys.rename"),
}
SAFE = ("GET", "HEAD")


class Route:
    """One address with one method."""

    def __init__(self, rule: Rule, method: str, path: str) -> None:
        self.endpoint, self.method, self.path = rule.endpoint, method, path
        self.access = ACCESS.get(rule.endpoint)

    def __repr__(self) -> str:
        return f"{self.method} {self.path} ({self.endpoint})"

    @property
    def is_safe(self) -> bool:
        return self.method in SAFE


def iter_routes(app: Flask, world: World, whose: Belongings) -> Iterator[Route]:
    """Yield every route with every method, its arguments filled with what this advisor has."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        names = sorted(rule.arguments)
        for values in product(*(arguments(rule, name, world, whose) for name in names)):
            built = rule.build(dict(zip(names, values, strict=True)))
            assert built, rule
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield Route(rule, method, built[1])


def arguments(rule: Rule, name: str, world: World, whose: Belongings) -> list[Any]:
    partner = whose.user.partner
    assert partner
    if name == "slug":
        return [whose.page.slug] if rule.endpoint.startswith("optin.") else [partner.slug]
    if name == "token" and rule.endpoint.startswith("unsubscribe."):
        return ["A" * 108]  # a forged link; good ones change something without a log-in: see test_unsubscribe.py
    if name == "token":
        is_password = rule.endpoint.startswith("passwords.")
        return [whose.password_token] if is_password else [world.setup_tokens[partner.id]]
    if rule.endpoint.startswith("api."):
        return [{"list_id": whose.contact_list.public_id, "send_id": whose.send.sender_send_id}[name]]
    if name == "key_id":
        return [world.api_key_id]
    if name == "filename":
        return ["asapp.css"]
    if name == "identity_id":
        return [world.guest_id]
    if name == "session_id":
        return [db.session.scalars(select(LoginSession.public_id).where(LoginSession.user_id == whose.user.id)).first()]
    if name == "passkey_id":
        return [db.session.scalars(select(Passkey.public_id).where(Passkey.user_id == whose.user.id)).first()]
    return whose.argument(name)


def everything_of(whose: Belongings) -> dict[str, Any]:
    """Return a form with every field that names a row of theirs."""
    return dict(whose.form)


def open_route(client: FlaskClient, route: Route, data: dict[str, Any] | None = None, **how: Any) -> Any:
    names = {"query_string": data or {}} if route.is_safe else {"data": data or {}}
    return client.open(route.path, method=route.method, **names, **how)


def text_of(response: Any) -> str:
    """Return what an answer says, a picture included: of one there is nothing to read, but a name in it would be."""
    return str(response.get_data().decode(errors="replace"))
