"""Lists from Salesforce: the page on which an advisor chooses list views and campaigns.

The lists in use come with the page. What Salesforce has is a part of its own, since it waits for Salesforce's answer: with
htmx it is fetched when the page is here, without it by a link.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.connections import list_questions
from asapp.connections.connections import find_current
from asapp.contacts import queries, salesforce_lists
from asapp.contacts.salesforce_lists import LISTS_MAX, TooManyLists
from asapp.core.clock import utcnow
from asapp.messages.contacts import NO_ANSWERS, REASONS
from asapp.messages.salesforce_lists import TROUBLES, tell_not_here
from asapp.models import Connection, RunTrigger, SalesforceList
from asapp.salesforce.errors import OurBug, SalesforceError
from asapp.salesforce.org_lists import ListTrouble, Look
from asapp.sync.runs import find_active_run, start_run
from asapp.web.access import advisor_required
from asapp.web.current import current_connection, org_access, queues
from asapp.web.htmx import go_to, wants_part
from asapp.web.page_extensions import limiter
from asapp.web.settings import key_of_person

blueprint = Blueprint("salesforce_lists", __name__, url_prefix="/contacts/from-salesforce")

ID = "<int:list_id>"
LIVE_QUESTIONS = "30 per minute"
NAME_MAX = 80
SAMPLE = 5
KINDS = {"": "Any", "view": "List views", "campaign": "Campaigns"}
ABOUT = ("Contact", "Account", "Lead", "Campaign")


@blueprint.app_template_filter()
def not_here(counts: dict[str, int]) -> str:
    return tell_not_here(counts)


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    return render_template("salesforce_lists/page.html", **_page(), catalog=None)


@blueprint.get("/choose")
@advisor_required
@limiter.limit(LIVE_QUESTIONS, key_func=key_of_person)
def choose() -> ResponseReturnValue:
    """Show which lists Salesforce has and, if one is named, what it would bring."""
    live = _ask(current_connection())
    if wants_part():
        return render_template("salesforce_lists/_choose.html", **_shared(), **live)
    return render_template("salesforce_lists/page.html", **_page(), **live)


@blueprint.post("/use")
@advisor_required
@limiter.limit(LIVE_QUESTIONS, key_func=key_of_person)
def use() -> ResponseReturnValue:
    """Follow a list, if it still is what the advisor saw."""
    connection = find_current(current_user)
    list_id, about = _named(request.form)
    if connection is None or not connection.can_sync or not list_id:
        abort(404)
    try:
        look = list_questions.look_inside(connection, org_access(), list_id, about)
    except OurBug:
        raise
    except SalesforceError as error:
        return _refuse(f"{NO_ANSWERS[error.again].happened} {NO_ANSWERS[error.again].remedy}")
    if isinstance(look, ListTrouble):
        return _refuse(TROUBLES[look].happened)
    if look.filter is not None and look.filter.digest.hex() != request.form.get("seen"):
        return _refuse(f"“{look.found.name}” was changed in Salesforce a moment ago. Look inside again.")
    try:
        made = salesforce_lists.follow(connection, look.found, look.filter)
    except TooManyLists:
        return _refuse(
            f"You use {LISTS_MAX} lists from Salesforce, which is as many as possible. Stop using one first."
        )
    start_run(connection, RunTrigger.MANUAL, queues().enqueue_runs)
    flash(f"You use “{made.name}” now. The sync that has begun fills it.", "good")
    return go_to(url_for("salesforce_lists.index"))


@blueprint.post(f"/{ID}/accept")
@advisor_required
def accept(list_id: int) -> ResponseReturnValue:
    """Let a list follow its changed filter, which the advisor has looked at."""
    followed = _followed_or_404(list_id)
    seen = request.form.get("seen", "")
    digest = bytes.fromhex(seen) if len(seen) == 64 and seen.isalnum() and _is_hex(seen) else b""
    if not salesforce_lists.accept_filter(current_user.id, list_id, digest):
        return _refuse(f"“{followed.contact_list.name}” was changed in Salesforce once more. Look inside again.")
    connection = find_current(current_user)
    if connection is not None:
        start_run(connection, RunTrigger.MANUAL, queues().enqueue_runs)
    flash(f"“{followed.contact_list.name}” follows its new filter. The sync that has begun fills it.", "good")
    return go_to(url_for("salesforce_lists.index"))


@blueprint.post(f"/{ID}/stop")
@advisor_required
def stop(list_id: int) -> ResponseReturnValue:
    name = _followed_or_404(list_id).contact_list.name
    salesforce_lists.unfollow(current_user.id, list_id)
    flash(f"You don't use “{name}” any more. Its people are all still here.", "good")
    return go_to(url_for("salesforce_lists.index"))


@blueprint.post(f"/{ID}/keep")
@advisor_required
def keep(list_id: int) -> ResponseReturnValue:
    """Make a list from Salesforce one of the advisor's own."""
    _followed_or_404(list_id)
    kept = salesforce_lists.keep_as_own(current_user.id, list_id) or abort(404)
    flash(f"“{kept.name}” is a list of your own now. Salesforce doesn't change it any more.", "good")
    return go_to(url_for("contacts.index", list=kept.id))


def _followed_or_404(list_id: int) -> SalesforceList:
    return salesforce_lists.find_one(current_user.id, list_id) or abort(404)


def _refuse(words: str) -> ResponseReturnValue:
    flash(words, "warn")
    return go_to(url_for("salesforce_lists.index"))


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdef" for each in text)


# ---- What the templates show


def _page() -> dict[str, Any]:
    """Return what the page shows beside the live part."""
    now = utcnow()
    overview = queries.count_contacts(current_user.id, now)
    return {"overview": overview, "wanted": None, **_shared()}


def _shared() -> dict[str, Any]:
    """Return what the page and its part need."""
    connection = current_connection()
    followed = salesforce_lists.find_followed(current_user.id)
    return {
        "connection": connection,
        "followed": followed,
        "followed_by_id": {
            each.salesforce_id: each for each in followed if connection and each.connection_id == connection.id
        },
        "is_syncing": connection is not None and find_active_run(connection.id) is not None,
        "lists_max": LISTS_MAX,
        "troubles": TROUBLES,
        "kinds": KINDS,
        "q": _search(),
        "kind": _kind(),
    }


def _search() -> str:
    return " ".join(request.args.get("q", "").split())[:NAME_MAX]


def _kind() -> str:
    kind = request.args.get("kind", "")
    return kind if kind in KINDS else ""


def _named(values: Any) -> tuple[str, str]:
    """Return the Id and the object of a named list; an empty Id if it names none."""
    list_id, about = values.get("look", ""), values.get("about", "")
    is_id = len(list_id) in (15, 18) and list_id.isascii() and list_id.isalnum()
    return (list_id if is_id and about in ABOUT else "", about)


def _ask(connection: Connection | None) -> dict[str, Any]:
    """Return Salesforce's answers, or why there are none."""
    if connection is None or not connection.can_sync:
        return {"catalog": None, "no_answer": None, "cannot_ask": True}
    list_id, about = _named(request.args)
    try:
        catalog = list_questions.fetch_catalog(connection, org_access())
        look = list_questions.look_inside(connection, org_access(), list_id, about) if list_id else None
    except OurBug:
        raise
    except SalesforceError as error:
        return {"catalog": None, "no_answer": NO_ANSWERS[error.again]}
    wanted = _search().casefold()
    found = [
        each
        for each in catalog.lists
        if wanted in each.name.casefold() and _kind() in ("", "campaign" if each.is_campaign else "view")
    ]
    return {
        "catalog": catalog,
        "found": found,
        "look_id": list_id,
        "look_trouble": look if isinstance(look, ListTrouble) else None,
        **(_inside(connection, look) if isinstance(look, Look) else {}),
    }


def _inside(connection: Connection, look: Look) -> dict[str, Any]:
    """Return what is shown of a list before it is chosen."""
    known = salesforce_lists.find_known(connection.id, look.ids)
    lines, here = queries.find_sample(current_user.id, known.members, SAMPLE, utcnow())
    others = {"others": look.others} if look.others else {}
    return {
        "look": look,
        "here": here,
        "sample": lines,
        "not_here_of_look": {**known.not_here, **others},
        "reason_words": REASONS,
    }
