"""Control over HTTP: the methods of Org as JSON, for other processes. Salesforce has nothing like it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Blueprint, Response, request

from orgsim.clock import to_salesforce
from orgsim.current_org import base_url, current_org
from orgsim.late_commits import Late
from orgsim.oauth import App
from orgsim.org import Org
from orgsim.trouble import Fault

bp = Blueprint("control", __name__, url_prefix="/practice/api")

_ORG_VERBS = (
    "add_user",
    "change_user",
    "add_queue",
    "add_contact",
    "add_contacts",
    "add_lead",
    "update_contact",
    "update_lead",
    "add_field",
    "change_without_stamp",
    "opt_out",
    "opt_in",
    "bounce",
    "give",
    "delete",
    "undelete",
    "purge",
    "merge",
    "hide_contact",
    "show_contact",
    "convert_lead",
    "begin_late",
    "commit_late",
    "hide_field",
    "show_field",
    "lock_field",
    "unlock_field",
    "encrypt_field",
    "decrypt_field",
    "expire_locators",
    "register_app",
    "change_app",
    "expire_sessions",
    "revoke_approvals",
    "use_up_allowance",
    "restore_allowance",
    "change_settings",
    "users",
    "contact",
    "lead",
    "api_used",
    "add_account",
    "add_person",
    "refuse_person_contacts",
    "move",
    "flip_person",
    "use_person_accounts",
    "name_survivors",
    "use_individuals",
    "add_individual",
    "give_individual",
    "update_individual",
    "lock_record",
    "unlock_record",
    "begin_approval",
    "end_approval",
    "opted_out_by_api",
    "add_list_view",
    "change_list_view",
    "delete_list_view",
    "add_campaign",
    "change_campaign",
    "delete_campaign",
    "add_members",
    "remove_member",
)


def _verbs(org: Org) -> dict[str, Callable[..., Any]]:
    return {
        **{name: getattr(org, name) for name in _ORG_VERBS},
        "deny_object": lambda sobject, rights=(), **applies_to: org.deny_object(sobject, *rights, **applies_to),
        "allow_object": lambda sobject, rights=(), **applies_to: org.allow_object(sobject, *rights, **applies_to),
        "begin_late": lambda verb, args=(), **more: org.begin_late(verb, *args, **more),
        "issue_tokens": lambda user_id, key, scopes=None: _issue(org, user_id, key, scopes),
        "add_trouble": org.trouble.add,
        "remove_trouble": org.trouble.remove,
        "clear_trouble": org.trouble.clear,
        "advance_clock": org.clock.advance,
        "set_clock": org.clock.set,
        "freeze_clock": org.clock.freeze,
        "run_clock": org.clock.run,
        "clear_calls": org.calls.clear,
        "between_pages": lambda actions, times=1: _between_pages(org, actions, times),
    }


def _issue(org: Org, user_id: str, key: str, scopes: list[str] | None) -> dict[str, Any]:
    app = org.grants.apps[key]
    return org.grants.grant(app, org.user(user_id), list(scopes or app.scopes), base_url())


def _between_pages(org: Org, actions: list[tuple[str, dict[str, Any]]], times: int | None) -> None:
    """Run these verbs before the next page is read."""

    def hook(_locator: str, _offset: int) -> None:
        for verb, arguments in actions:
            _verbs(org)[verb](**_moments(arguments))

    org.on_next_page(hook, times=times)


@bp.post("/<verb>")
def run_verb(verb: str) -> Response:
    org = current_org()
    action = _verbs(org).get(verb)
    if action is None:
        return _json({"error": f"no verb is called {verb}"}, 404)
    arguments = orjson.loads(request.get_data() or b"{}")
    org.settle()
    try:
        return _json({"result": _plain(action(**_moments(arguments)))})
    except (ValueError, KeyError, TypeError) as error:
        return _json({"error": str(error)}, 400)


@bp.get("/state")
def state() -> Response:
    org = current_org()
    org.settle()
    counts = {name: org.count(name) for name in ("Contact", "Lead")}
    return _json(
        {
            "id": org.id,
            "name": org.name,
            "now": to_salesforce(org.clock.seconds()),
            "users": org.users(),
            "apps": [a.as_json() for a in org.grants.apps.values()],
            "counts": counts,
            "in_bin": org.count("Contact", deleted=True),
            "faults": [f.as_json() for f in org.trouble.faults],
            "api_used": org.api_used(),
            "approvals": len(org.grants.approvals),
            "calls": org.calls.mark(),
        }
    )


@bp.get("/contacts")
def contacts() -> Response:
    return _listing(current_org().contacts)


@bp.get("/leads")
def leads() -> Response:
    return _listing(current_org().leads)


def _listing(find: Callable[..., list[dict[str, Any]]]) -> Response:
    found = find(request.args.get("owner_id"), deleted=request.args.get("deleted") == "1")
    return _json([_plain(one) for one in found])


@bp.get("/calls")
def calls() -> Response:
    return _json([c.as_json() for c in current_org().calls.since(request.args.get("since", 0, type=int))])


def _moments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with moments parsed; they arrive as text."""
    return {name: _moment(value) if name in {"stamp", "moment"} else value for name, value in arguments.items()}


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _plain(value: Any) -> Any:
    """Return a result in types that JSON has."""
    match value:
        case datetime():
            return to_salesforce(int(value.timestamp()))
        case Late():
            return {"handle": value.handle, "id": value.id}
        case Fault() | App():
            return value.number if isinstance(value, Fault) else value.as_json()
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
