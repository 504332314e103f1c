"""The org's own page: it shows and changes records, and has switches for trouble. Plain forms: post, redirect, get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, abort, current_app, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from orgsim.current_org import current_org
from orgsim.list_views import NO_CONDITION
from orgsim.list_views import PREFIX as VIEW_PREFIX
from orgsim.org import ADMIN, Org

bp = Blueprint("front", __name__)
PAGE: Final = 25
OPT_OUT: Final = ("Contact", "HasOptedOutOfEmail")
_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
_QUIET_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@bp.after_request
def protect(answer: Response) -> Response:
    for name, value in _QUIET_HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


# -- switches


@dataclass(frozen=True)
class Switch:
    """A switch on the page. `turn(org, on)` sets it; `is_on` reads it."""

    name: str
    title: str
    text: str
    is_on: Callable[[Org], bool]
    turn: Callable[[Org, bool], None]


def _fault_switch(name: str, title: str, text: str, answer: str, **more: Any) -> Switch:
    def turn(org: Org, on: bool) -> None:
        for fault in [f for f in org.trouble.faults if f.label == name]:
            fault.remove()
        if on:
            org.trouble.add(answer, label=name, **more)

    return Switch(name, title, text, lambda org: org.trouble.labelled(name) is not None, turn)


def _act(action: Callable[[Org], None]) -> Callable[[Org, bool], None]:
    return lambda org, _on: action(org)


def _hide(org: Org, on: bool) -> None:
    for sobject in ("Contact", "Lead"):
        (org.hide_field if on else org.show_field)(sobject, "HasOptedOutOfEmail")


def _is_hidden(org: Org) -> bool:
    return any((sobject, field) == OPT_OUT for sobject, field, _ in org.permissions.hidden)


def _lock(org: Org, on: bool) -> None:
    for sobject in ("Contact", "Lead"):
        (org.lock_field if on else org.unlock_field)(sobject, "HasOptedOutOfEmail")


def _is_locked(org: Org) -> bool:
    return any((sobject, field) == OPT_OUT for sobject, field, _ in org.permissions.locked)


def _encrypt(org: Org, on: bool) -> None:
    for sobject in ("Contact", "Lead"):
        (org.encrypt_field if on else org.decrypt_field)(sobject, "Email")


def _is_encrypted(org: Org) -> bool:
    address = org.schema["Contact"].find("Email")
    return address is not None and address.encrypted


def _share(org: Org, on: bool) -> None:
    org.settings.contact_access = org.settings.lead_access = "Private" if on else "ReadWrite"


def _make_persons(org: Org) -> None:
    """Make persons of three more contacts of each user."""
    org.use_person_accounts()
    for user in list(org.people.users.values()):
        business = [contact for contact in org.contacts(user.id) if not org.persons.find_other(contact["Id"])]
        for contact in business[:3]:
            org.flip_person(contact["Id"])


def _move(org: Org, on: bool) -> None:
    if on:
        org.move()
    else:
        org.change_settings(instance_url=None, old_host=None)


def _hide_individuals(org: Org, on: bool) -> None:
    """Give the first contacts of each user a consent record, once; the second one's belongs to the admin."""
    org.settings.individual_access = "Private" if on else "ReadWrite"
    if org.schema.find("Individual") is not None:
        return
    org.use_individuals()
    admin = next((user.id for user in org.people.users.values() if user.profile == ADMIN), None)
    for user in list(org.people.users.values()):
        for number, contact in enumerate(org.contacts(user.id)[:3]):
            names = {"last_name": contact["LastName"], "FirstName": contact["FirstName"]}
            owner = admin if admin and number == 1 else user.id
            org.give_individual(contact["Id"], org.add_individual(owner, **names, HasOptedOutSolicit=number == 0))


def _rotate(org: Org, on: bool) -> None:
    for app in org.grants.apps.values():
        app.rotate = on


def _use_up(org: Org, on: bool) -> None:
    (org.use_up_allowance if on else org.restore_allowance)()


def _assign(org: Org, on: bool) -> None:
    queue = next(iter(org.people.queues), None) or org.add_queue("Web Leads")
    org.settings.lead_queue = queue if on else None


def _validate(org: Org, on: bool) -> None:
    org.settings.validation_rules = [_PHONE_RULE] if on else []


def _match(org: Org, on: bool) -> None:
    org.settings.duplicate_rules = list(_DUPLICATE_RULES) if on else []


def _hide_titles(org: Org, on: bool) -> None:
    (org.hide_field if on else org.show_field)("Contact", "Title")


def _are_titles_hidden(org: Org) -> bool:
    return any((sobject, field) == ("Contact", "Title") for sobject, field, _ in org.permissions.hidden)


def _deny_campaigns(org: Org, on: bool) -> None:
    for sobject in ("Campaign", "CampaignMember"):
        (org.deny_object if on else org.allow_object)(sobject)


def _are_campaigns_denied(org: Org) -> bool:
    return any(sobject == "CampaignMember" for sobject, _, _ in org.permissions.denied)


_A_TO_M: Final = {"field": "LastName", "operator": "lessThan", "values": ["'N'"]}
_PHONE_RULE: Final = {
    "sobject": "Lead",
    "field": "Phone",
    "when": "blank",
    "on": "Phone",
    "message": "Bitte geben Sie eine Telefonnummer an.",
}
_DUPLICATE_RULES: Final = [
    {"sobject": "Lead", "against": against, "action": "Block"} for against in ("Contact", "Lead")
]

SWITCHES: Final = (
    Switch(
        "expire",
        "Expire all sessions",
        "Access tokens stop working; refreshing still does.",
        lambda _: False,
        _act(lambda org: org.expire_sessions()),
    ),
    Switch(
        "revoke",
        "Revoke the permission",
        "Refreshing fails too. The advisor must reconnect.",
        lambda _: False,
        _act(lambda org: org.revoke_approvals()),
    ),
    Switch("hide", "Hide “Email Opt Out”", "The field vanishes for everybody but admins.", _is_hidden, _hide),
    Switch(
        "readonly",
        "Lock “Email Opt Out”",
        "Everybody but admins can see the field, and not change it.",
        _is_locked,
        _lock,
    ),
    Switch(
        "encrypt", "Encrypt addresses", "Email can be read, and no query can filter by it.", _is_encrypted, _encrypt
    ),
    _fault_switch(
        "down",
        "Out of order",
        "503 to every call for the next 60 seconds.",
        "server_unavailable_html",
        kind="data",
        for_seconds=60,
    ),
    Switch(
        "allowance",
        "Allowance used up",
        "Every call is refused until switched back.",
        lambda org: org.allowance.others > 0,
        _use_up,
    ),
    _fault_switch("slow", "Slow answers", "800 ms before each one.", "slow", kind="data", seconds=0.8),
    _fault_switch(
        "lose",
        "Lose the answer",
        "The next create works, but its answer never arrives.",
        "reset_after",
        kind="create",
        times=1,
    ),
    _fault_switch(
        "late",
        "Finish late",
        "The next create gets no answer, and happens two minutes later.",
        "late_work",
        kind="create",
        times=1,
        seconds=120,
    ),
    Switch(
        "queue",
        "Assign new leads",
        "An assignment rule gives new and changed leads to the queue Web Leads, unless the caller says no.",
        lambda org: org.settings.lead_queue is not None,
        _assign,
    ),
    Switch(
        "phone",
        "Validation rule",
        "A new lead needs a phone number, says an error in German.",
        lambda org: bool(org.settings.validation_rules),
        _validate,
    ),
    Switch(
        "match",
        "Duplicate rule",
        "A lead whose address is known is blocked.",
        lambda org: bool(org.settings.duplicate_rules),
        _match,
    ),
    Switch(
        "rotate",
        "Rotate refresh tokens",
        "Each works once; using an old one disconnects.",
        lambda org: any(a.rotate for a in org.grants.apps.values()),
        _rotate,
    ),
    Switch(
        "private",
        "Private sharing",
        "People see only the records they own.",
        lambda org: org.settings.contact_access == "Private",
        _share,
    ),
    Switch(
        "titles",
        "Hide “Title”",
        "List views that filter by it read as if they had no filter.",
        _are_titles_hidden,
        _hide_titles,
    ),
    Switch(
        "views",
        "Close the list views",
        "They are not SOQL compatible: other programs can’t read them.",
        lambda org: org.settings.list_views_closed,
        lambda org, on: org.change_settings(list_views_closed=on),
    ),
    Switch(
        "campaigns",
        "No campaigns",
        "Only admins have access to campaigns and their members.",
        _are_campaigns_denied,
        _deny_campaigns,
    ),
    Switch(
        "persons",
        "Person accounts",
        "Makes three contacts of each user person accounts; new leads need no Company. It can’t be undone.",
        lambda _org: False,
        _act(_make_persons),
    ),
    Switch(
        "moved",
        "Move to another host",
        "The old one answers 404; a refresh tells where the org is now.",
        lambda org: org.settings.old_host is not None,
        _move,
    ),
    Switch(
        "individuals",
        "Private consent records",
        "Three contacts of each user get an Individual. One has opted out there; one belongs to the admin, and is hidden.",
        lambda org: org.settings.individual_access == "Private",
        _hide_individuals,
    ),
    Switch(
        "small",
        "Small pages",
        "Query pages of 200 instead of 2,000.",
        lambda org: org.settings.page_sizes == 200,
        lambda org, on: org.change_settings(page_sizes=200 if on else 2000),
    ),
)
MOMENTARY: Final = frozenset({"expire", "persons", "revoke"})


@bp.post("/practice/switch")
def turn_switch() -> Response:
    org = current_org()
    switch = next((s for s in SWITCHES if s.name == request.form.get("switch")), None)
    if switch is None:
        abort(404)
    now_on = not switch.is_on(org)
    switch.turn(org, now_on)
    done = "done" if switch.name in MOMENTARY else "on" if now_on else "off"
    return _back(f"{switch.title}: {done}.")


# -- the page


@bp.get("/")
def index() -> Response:
    """Show contacts, leads, the Recycle Bin, users, who was opted out through the API, or the app, by ?tab=."""
    org = current_org()
    org.settle()
    tab = request.args.get("tab", "contacts")
    if tab not in {"contacts", "leads", "lists", "bin", "users", "api", "app"}:
        abort(404)
    page = max(1, request.args.get("page", 1, type=int))
    rows, total = ([], 0) if tab in {"users", "api", "lists", "app"} else _rows(org, tab, page)
    answer = render_template(
        "front.html",
        org=org,
        tab=tab,
        rows=rows,
        total=total,
        page=page,
        size=PAGE,
        **(_lists(org) if tab == "lists" else {}),
        switches=SWITCHES,
        momentary=MOMENTARY,
        q=request.args.get("q", "").strip(),
        owner=request.args.get("owner", ""),
        owners=_owners(org, tab),
        said=request.args.get("said"),
        counts=_counts(org),
        calls=org.calls.latest(12),
        used=org.api_used(),
        name_of=org.people.name_of,
        clock=_clock,
        advisorstream=current_app.config["ADVISORSTREAM_URL"],
        link=_link,
        asked=_query(),
        login_url="/login",
    )
    return make_response(answer)


def _counts(org: Org) -> dict[str, int]:
    return {
        "contacts": org.count("Contact"),
        "leads": org.count("Lead"),
        "lists": len(list(org.list_views)) + org.count("Campaign"),
        "bin": org.count("Contact", deleted=True) + org.count("Lead", deleted=True),
        "users": len(org.people.users),
        "api": len(org.opted_out_by_api()),
        "app": len(org.grants.apps),
    }


def _lists(org: Org) -> dict[str, list[dict[str, Any]]]:
    """Return the list views and campaigns as their tab shows them."""
    users = org.people.users
    views = [
        {
            "id": view.id,
            "label": view.label,
            "sobject": view.sobject,
            "scope": view.scope,
            "soql_compatible": org.list_views.is_compatible(view),
            "filter": view.filter,
            "is_unshared": view.only_for is not None,
            "seen_by": "Everybody"
            if view.only_for is None
            else ", ".join(users[one].name for one in sorted(view.only_for)) or "Nobody here",
        }
        for view in sorted(org.list_views, key=lambda view: (view.sobject, view.label))
    ]
    campaigns = sorted(org.store.records(org.schema["Campaign"]), key=lambda one: str(one["Name"]))
    return {"list_views": views, "campaigns": campaigns}


def _table(tab: str) -> str:
    return "sf_Lead" if tab == "leads" else "sf_Contact"


def _rows(org: Org, tab: str, page: int) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a page, the newest change first, and how many there are in all. The bin holds contacts and leads."""
    where, values = _conditions(tab)
    tables = ["sf_Contact", "sf_Lead"] if tab == "bin" else [_table(tab)]
    columns = '"Id", "Name", "Email", "OwnerId", "HasOptedOutOfEmail", "IsDeleted", "MasterRecordId", "SystemModstamp"'
    if tab == "leads":
        columns += ', "IsConverted"'
    union = " UNION ALL ".join(f"SELECT {columns} FROM {table} WHERE {where}" for table in tables)
    total = org.store.count(f"SELECT count(*) FROM ({union})", values * len(tables))
    rows = org.store.rows(
        f'{union} ORDER BY "SystemModstamp" DESC, "Id" DESC LIMIT ? OFFSET ?',
        [*values * len(tables), PAGE, (page - 1) * PAGE],
    )
    names = [c.strip().strip('"') for c in columns.split(",")]
    return [dict(zip(names, row, strict=True)) for row in rows], total


def _conditions(tab: str) -> tuple[str, list[Any]]:
    parts, values = ['"IsDeleted" = ?'], [int(tab == "bin")]  # type: list[str], list[Any]
    query, owner = request.args.get("q", "").strip(), request.args.get("owner", "")
    if query:
        parts.append('(instr(sf_fold("Name"), ?) OR instr("Email", ?) OR "Id" = ? OR substr("Id", 1, 15) = ?)')
        values += [query.lower(), query.lower(), query, query]
    if owner:
        parts.append('"OwnerId" = ?')
        values.append(owner)
    return " AND ".join(parts), values


def _owners(org: Org, tab: str) -> list[tuple[str, str, int]]:
    """Return id, name and number of records of all users (and, for leads, queues)."""
    if tab not in {"contacts", "leads"}:
        return []
    statement = " ".join(["SELECT count(*) FROM", _table(tab), 'WHERE "OwnerId" = ? AND "IsDeleted" = 0'])
    owners = {**{u.id: u.name for u in org.people.users.values()}, **(org.people.queues if tab == "leads" else {})}
    return [(one, name, org.store.count(statement, [one])) for one, name in owners.items()]


def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _query(**changes: Any) -> str:
    """Return the query string of this page with changes, so that forms come back to the same list."""
    kept = {k: v for k, v in request.args.items() if k in {"tab", "q", "owner", "page"} and v}
    return urlencode({k: v for k, v in {**kept, **changes}.items() if v not in {None, ""}})


def _link(**changes: Any) -> str:
    query = _query(**changes)
    return f"/?{query}" if query else "/"


def _back(said: str) -> Response:
    """Redirect to the list as it was, with a line that says what was done."""
    kept = request.form.get("asked", "")
    return redirect(f"/?{kept}{'&' if kept else ''}{urlencode({'said': said})}", 303)


# -- what the buttons and forms do


@bp.post("/practice/do")
def do() -> Response:
    """Do at once what a row's button says; for edit, give and merge, redirect to the form."""
    org, record_id, verb = current_org(), request.form.get("id", ""), request.form.get("do", "")
    if verb in {"edit", "give", "merge"}:
        return redirect(
            f"/practice/record/{record_id}?{urlencode({'do': verb, 'asked': request.form.get('asked', '')})}", 303
        )
    actions: dict[str, tuple[Callable[[str], object], str]] = {
        **_list_actions(org),
        "convert": (org.convert_lead, "converted to a contact"),
        "opt_out": (org.opt_out, "opted out"),
        "opt_in": (org.opt_in, "opted in"),
        "delete": (org.delete, "in the Recycle Bin"),
        "undelete": (org.undelete, "undeleted"),
        "purge": (org.purge, "gone for good"),
    }
    if verb not in actions:
        abort(404)
    action, done = actions[verb]
    name = _name(org, record_id)
    try:
        action(record_id)
    except (ValueError, KeyError) as error:
        return _back(f"Nothing changed: {error}.")
    return _back(f"{name}: {done}.")


def _list_actions(org: Org) -> dict[str, tuple[Callable[[str], object], str]]:
    """Return what can be done to list views and campaigns at once."""

    def rename(view_id: str) -> None:
        org.change_list_view(view_id, label=f"{org.list_views.get(view_id).label} (new)")

    def remove(campaign_id: str) -> None:
        members = org.campaigns.members(campaign_id)
        if not members:
            raise ValueError("it has no members")
        org.remove_member(campaign_id, members[0]["ContactId"] or members[0]["LeadId"] or members[0]["AccountId"])

    def change_filter(view_id: str) -> None:
        is_wide = not org.list_views.get(view_id).filter
        org.change_list_view(view_id, where=_A_TO_M if is_wide else NO_CONDITION)

    return {
        "view_rename": (rename, "renamed"),
        "view_filter": (change_filter, "has another filter"),
        "view_unshare": (lambda one: org.change_list_view(one, only_for=[]), "not shared any more"),
        "view_share": (lambda one: org.change_list_view(one, only_for=None), "shared with everybody"),
        "view_delete": (org.delete_list_view, "deleted"),
        "campaign_remove": (remove, "has one member fewer"),
        "campaign_end": (lambda one: org.change_campaign(one, IsActive=False), "not active any more"),
        "campaign_begin": (lambda one: org.change_campaign(one, IsActive=True), "active"),
        "campaign_delete": (org.delete_campaign, "deleted"),
    }


def _name(org: Org, record_id: str) -> str:
    if record_id.startswith(VIEW_PREFIX):
        return next((view.label for view in org.list_views if view.id == record_id), record_id)
    record = org.records.find(record_id)
    return str(record["Name"]) if record else record_id


@bp.get("/practice/record/<record_id>")
def record_form(record_id: str) -> Response:
    return _record_page(record_id, None, 200)


def _record_page(record_id: str, problem: str | None, status: int) -> Response:
    org = current_org()
    record = org.records.find(record_id)
    verb = request.values.get("do", "edit")
    if record is None or verb not in {"edit", "give", "merge"}:
        abort(404)
    answer = render_template(
        "record.html",
        org=org,
        record=record,
        verb=verb,
        problem=problem,
        form=request.form,
        users=list(org.people.users.values()),
        asked=request.values.get("asked", ""),
    )
    return make_response(answer, status)


@bp.post("/practice/record/<record_id>")
def change_record(record_id: str) -> Response:
    org, verb = current_org(), request.form.get("do", "edit")
    name = _name(org, record_id)
    try:
        match verb:
            case "give":
                org.give(record_id, request.form["owner_id"])
                done = f"now belongs to {org.people.name_of(request.form['owner_id'])}"
            case "merge":
                loser_id = _loser(org, record_id, request.form.get("other", ""))
                org.merge(record_id, [loser_id])
                done = "kept; the other record was merged into it"
            case _:
                _edit(org, record_id)
                done = "saved"
    except (ValueError, KeyError) as error:
        return _record_page(record_id, str(error), 422)
    return _back(f"{name}: {done}.")


def _loser(org: Org, winner_id: str, wanted: str) -> str:
    """Return the Id of the other record, found by Id or address; ValueError if there is none."""
    wanted = wanted.strip()
    sobject = org.records.object_of(winner_id)
    found = org.store.records(sobject, '("Id" = ? OR "Email" = ?) AND "IsDeleted" = 0', [wanted, wanted.lower()])
    others = [r["Id"] for r in found if r["Id"] != winner_id]
    if not others:
        raise ValueError(f"No other record has the Id or address “{wanted}”")
    return str(others[0])


def _edit(org: Org, record_id: str) -> None:
    last_name = request.form.get("last_name", "").strip()
    if not last_name:
        raise ValueError("Last Name is required")
    changes: dict[str, Any] = {
        "first_name": request.form.get("first_name", "").strip() or None,
        "last_name": last_name,
        "email": request.form.get("email", "").strip() or None,
        "opted_out": "opted_out" in request.form,
    }
    org.update_contact(record_id, **changes)


@bp.get("/<record_id>")
def open_record(record_id: str) -> Response:
    """Answer at a record's own address, which links from outside use. A person account shows its contact."""
    if len(record_id) not in {15, 18}:
        abort(404)
    if record_id.startswith("001"):
        record_id = current_org().persons.find_other(record_id) or record_id
    return redirect(f"/?{urlencode({'q': record_id})}", 302)


@bp.get("/lightning/r/<name>/<record_id>/view")
def open_lightning(name: str, record_id: str) -> Response:
    tab = "leads" if name == "Lead" else "contacts"
    return redirect(f"/?{urlencode({'tab': tab, 'q': record_id})}", 302)
