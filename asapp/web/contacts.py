"""Contacts: the page with its lists, one contact, the export, and "Why isn't this person here?"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby

from flask import (
    Blueprint,
    abort,
    flash,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.accounts import checklist
from asapp.accounts.checklist import FirstStep
from asapp.audit import entries
from asapp.connections.live_questions import find_contact_of_account, way_to_ask, way_to_ask_names
from asapp.connections.state import state_of
from asapp.contacts import (
    export,
    lists,
    manual,
    queries,
    removal,
    salesforce_lists,
    suppressions,
    undo,
    why,
    why_by_name,
)
from asapp.contacts.form_fields import ContactForm
from asapp.contacts.queries import ContactLine, ContactQuery, Overview
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.core.formats import counted
from asapp.core.forms import InvalidFields, whole_number
from asapp.leads import consent
from asapp.messages.contacts import (
    NO_ANSWERS,
    REASONS,
    SOURCES,
    STATES,
    USUAL_ANSWERS,
    VERDICTS,
    Answer,
    verdict_words,
)
from asapp.messages.runs import why_off
from asapp.messages.salesforce_lists import TROUBLES
from asapp.messages.states import AdvisorState
from asapp.messages.write_back import TELLINGS
from asapp.models import Action, Connection, ContactList, Reason, SalesforceList
from asapp.models.contact import CHOSEN_IN_SALESFORCE
from asapp.panel import changes
from asapp.panel.causes import find_cause
from asapp.panel.story import StoryEvent, story_of
from asapp.salesforce.errors import OurBug, SalesforceError
from asapp.salesforce.hosts import is_salesforce_url, record_url
from asapp.sync.runs import find_active_run
from asapp.web.access import actor, advisor_required, safe_path
from asapp.web.current import config, current_connection, org_access, own_connection, person, queues, vault
from asapp.web.files import csv_file
from asapp.web.htmx import go_to, wants_part
from asapp.web.incoming import LAST_PAGE
from asapp.web.integrations import count_waiting
from asapp.web.page_extensions import limiter
from asapp.web.settings import key_of_person
from asapp.writeback import outbox
from asapp.writeback.queries import find_shown

blueprint = Blueprint("contacts", __name__, url_prefix="/contacts")

ID = "<int:contact_id>"
IDS_MAX = 1000  # in one form
ADDRESS_HOLDS = 200  # numbers of contacts
STORY_MAX = 100  # entries of a contact's story
DELETED_HERE = "deleted"  # among the lists to pick from
# Why a list is empty in these states; in all others, by what has been synced.
EMPTINESS_OF: Mapping[AdvisorState, str] = {
    AdvisorState.NOT_SET_UP: "not_set_up",
    AdvisorState.NEEDS_RECONNECT: "needs_reconnect",
    AdvisorState.SYNCING: "syncing",
    AdvisorState.DISCONNECTED: "not_connected",
    AdvisorState.READY: "not_connected",
}
LIVE_QUESTIONS = "30 per minute"


@blueprint.context_processor
def words() -> dict[str, object]:
    return {
        "reason_words": REASONS,
        "sources": SOURCES,
    }


# ---- The page


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    now = utcnow()
    wanted = wanted_by(request.args)
    overview = queries.count_contacts(current_user.id, now)
    page = queries.find_page(current_user.id, wanted, now, overview)
    connection = own_connection()
    since = changes.find_since_last_visit(person(), now) if not wants_part() else None
    cause = find_cause(person(), connection, now) if not wants_part() else None
    may_wait = count_waiting() > 0 or (connection is not None and connection.needs_reconnect)
    is_in_trouble = cause is not None or may_wait
    return render_template(
        "contacts/_people.html" if wants_part() else "contacts/index.html",
        wanted=wanted,
        page=page,
        overview=overview,
        size=overview.size_of(wanted.contact_list),
        waiting=queries.count_waiting(current_user.id, wanted.contact_list, now)
        if may_wait and not wants_part()
        else 0,
        connection=connection,
        emptiness=_emptiness(wanted, overview) if not page.total and not wanted.is_narrowed else None,
        cause=cause,
        since=since,
        may_wait=may_wait,
        checklist=checklist.find(person(), connection)
        if not (wants_part() or is_in_trouble)
        else None,  # first things first
        states=STATES,
        new_list=_own_list_in(overview, _number(request.args.get("to"))),
        followed=_followed(wanted.contact_list),
        list_troubles=TROUBLES,
        deleted_here=DELETED_HERE,
        is_part=wants_part(),
    )


def wanted_by(values: dict[str, str]) -> ContactQuery:
    """Return what a query or a form asks for; another advisor's list is 404."""
    state, source, page = values.get("state", ""), values.get("source", ""), values.get("page", "")
    picked = values.get("list", "")
    if picked == DELETED_HERE:
        state, picked = Reason.HIDDEN_HERE, ""
    return ContactQuery(
        search=" ".join(values.get("q", "").split())[: queries.SEARCH_MAX],
        state=state if state in STATES else "",
        source=source if source in SOURCES else "",
        contact_list=_list_or_404(picked) if picked else None,
        page=whole_number(page, LAST_PAGE) or 1,
    )


def _own_list_in(overview: Overview, number: int) -> ContactList | None:
    """Return the list that people are about to be put on; None if it is none of the advisor's own."""
    all_lists = (each.contact_list for each in overview.lists)
    return next((each for each in all_lists if each.is_own and each.id == number), None)


def _followed(contact_list: ContactList | None) -> SalesforceList | None:
    """Return what is known of a list from Salesforce; None for any other list."""
    if contact_list is None or not contact_list.is_from_salesforce:
        return None
    return salesforce_lists.find_one(current_user.id, contact_list.id)


def _list_or_404(number: str) -> ContactList:
    return lists.find_list(current_user.id, _number(number)) or abort(404)


def _emptiness(wanted: ContactQuery, overview: Overview) -> str:
    """Return why the list is empty, which decides what the advisor is told to do first."""
    if wanted.is_deleted_here:
        return "nobody_deleted"
    if wanted.contact_list is not None and wanted.contact_list.is_own:
        return "own_list"
    if wanted.contact_list is not None and wanted.contact_list.is_from_salesforce:
        return "list_from_salesforce"
    if overview.everybody.people:
        return "not_on_this_list"
    connection = own_connection()
    is_syncing = connection is not None and find_active_run(connection.id) is not None
    state = state_of(current_user.partner, connection, utcnow(), is_syncing=is_syncing)
    if state in EMPTINESS_OF:
        return EMPTINESS_OF[state]
    if connection is not None and connection.first_synced_at is None:
        return "not_synced"
    return "all_deleted" if overview.hidden else "synced"


@blueprint.get("/export.csv", endpoint="export")
@advisor_required
def export_csv() -> ResponseReturnValue:
    """Return all contacts, or those that the page's filter finds."""
    now, wanted = utcnow(), wanted_by(request.args)
    entries.record_export(Action.EXPORTED, actor(), None, file="contacts")
    found = export.iter_csv(current_user.id, now, wanted if wanted.is_part_of_all else None)
    return csv_file(found, f"contacts-{now:%Y-%m-%d}.csv")


@blueprint.post("/first-steps")
@advisor_required
def first_steps() -> ResponseReturnValue:
    """Lead to the link or the snippet of the sign-up page, and record the step; or hide the steps."""
    what, now = request.form.get("do", ""), utcnow()
    if what in (FirstStep.SHARE, FirstStep.SIGNATURE):
        checklist.record(person(), FirstStep(what), now)
        return go_to(url_for("leads.index", signature=1 if what == FirstStep.SIGNATURE else None, _anchor=what))
    if what != "hide":
        abort(404)
    checklist.hide(person(), now)
    return go_to(url_for("contacts.index"))


# ---- The ticked contacts


@blueprint.post("/selection")
@advisor_required
def selection() -> ResponseReturnValue:
    """Apply a button above the table to the ticked contacts, or to all that were found."""
    what = request.form.get("do", "")
    if what == "delete":
        ids = chosen_ids()
        if request.form.get("which") == "all":
            flash("Delete works on ticked contacts only, so nothing was changed. Choose “those ticked”.", "plain")
            return go_to(way_back())
        if len(ids) > ADDRESS_HOLDS:
            return ask_to_delete(ids)
        return go_to(url_for("contacts.confirm_delete", id=ids, back=way_back()) if ids else _none_chosen())
    if what == "restore":
        return restore()
    ids = chosen_ids() if request.form.get("which") != "all" else _all_found()
    if not ids:
        return go_to(_none_chosen())
    chosen_list = lists.find_own_list(current_user.id, _number(request.form.get("to_list")))
    if chosen_list is None:
        abort(404)
    if what == "remove":
        taken_off = lists.remove_members(chosen_list, ids)
        if taken_off:
            say_undoable(
                f"{counted(len(taken_off), 'contact')} taken off “{chosen_list.name}”.",
                undo.offer_put_back(chosen_list, taken_off, utcnow()),
            )
        else:
            flash(f"None of those was on “{chosen_list.name}”.", "plain")
        return go_to(way_back())
    count = lists.add_members(chosen_list, ids)
    words_said = f"{counted(count, 'contact')} added to" if count else "All of those are already on"
    flash(f"{words_said} “{chosen_list.name}”.", "good" if count else "plain")
    return go_to(way_back())


@blueprint.get("/delete")
@advisor_required
def confirm_delete() -> ResponseReturnValue:
    return ask_to_delete([_number(value) for value in request.args.getlist("id")[:IDS_MAX]])


def ask_to_delete(ids: Sequence[int]) -> str:
    lines = queries.find_some(current_user.id, ids, utcnow())
    if not lines:
        abort(404)
    return render_template("contacts/delete.html", lines=lines, way_back=way_back())


@blueprint.post("/delete")
@advisor_required
def delete() -> ResponseReturnValue:
    removed = removal.remove_contacts(current_user.id, chosen_ids(), actor())
    if not removed.total:
        abort(404)
    words = f"{counted(removed.total, 'contact')} deleted here."
    if removed.hidden:
        words += " Nothing was deleted in Salesforce. You find those from Salesforce under “Deleted here”."
        say_undoable(words, undo.offer_restore(current_user.id, removed.hidden, utcnow()))
    else:
        flash(words, "good")
    return go_to(way_back())


@blueprint.post("/undo", endpoint="undo")
@advisor_required
def take_back() -> ResponseReturnValue:
    """Take back the advisor's last act on contacts."""
    undone = undo.undo(current_user.id, request.form.get("token", ""), utcnow(), actor())
    if undone is None:
        flash("That can't be undone any more. Contacts that you deleted are under “Deleted here”.", "plain")
    elif undone.contact_list:
        flash(f"Undone. {counted(undone.number, 'contact')} on “{undone.contact_list.name}” again.", "good")
    else:
        flash(f"Undone. {counted(undone.number, 'contact')} restored, with all lists.", "good")
    return go_to(way_back())


def say_undoable(words: str, token: str) -> None:
    """Flash a message with an Undo button (the macro messages)."""
    flash({"text": words, "undo": token, "back": way_back()}, "good")  # type: ignore[arg-type]  # any JSON will do


@blueprint.post("/restore")
@advisor_required
def restore() -> ResponseReturnValue:
    ids = chosen_ids()
    if not ids:
        return go_to(_none_chosen())
    count = removal.restore_contacts(current_user.id, ids, actor())
    if not count:
        abort(404)
    flash(f"{counted(count, 'contact')} restored.", "good")
    return go_to(way_back())


def chosen_ids() -> list[int]:
    return [_number(value) for value in request.form.getlist("id")[:IDS_MAX]]


def way_back() -> str:
    """Return the page that the form came from, if it is a page of contacts or leads."""
    path = safe_path(request.values.get("back"))
    return path if path and path.startswith(("/contacts", "/leads")) else url_for("contacts.index")


def _all_found() -> list[int]:
    return queries.find_ids(current_user.id, wanted_by(request.form), utcnow())


def _none_chosen() -> str:
    flash("No one was ticked, so nothing was changed. Tick contacts in the table first.", "plain")
    return way_back()


def _number(text: str | None) -> int:
    return whole_number(text) or 0  # no row has it


# ---- One contact


@blueprint.get(f"/{ID}")
@advisor_required
def show(contact_id: int) -> ResponseReturnValue:
    line = get_line(contact_id)
    address = suppressions.story_of(line.contact, current_user.partner_id)
    telling = find_shown(line.contact, line.reason)
    moments = consent.history_of_contact(current_user.id, line.contact.id)
    story = story_of(line, address, moments, telling)
    return render_template(
        "contacts/show.html",
        line=line,
        story=story[:STORY_MAX],
        older=max(0, len(story) - STORY_MAX),
        address=address,
        has_consent=bool(moments),
        today=formats.day_of(utcnow()),
        words=REASONS.get(line.reason_told or ""),
        survivor=why.find_survivor(current_user.id, line.contact.merged_into),
        telling=telling,
        tellings=TELLINGS,
        own_lists=[each for each in lists.lists_of(current_user.id) if each.is_own],
        on_lists={each.list_id for each in line.memberships},
        names_from_salesforce=[each.name for each in line.memberships if each.kind in CHOSEN_IN_SALESFORCE],
    )


@blueprint.app_template_filter()
def by_day(events: Sequence[StoryEvent]) -> list[tuple[date, list[StoryEvent]]]:
    """Group the events of a story, newest first, by day in the reader's zone."""
    return [(day, list(some)) for day, some in groupby(events, lambda event: formats.day_of(event.at))]


@blueprint.post(f"/{ID}/tell-salesforce")
@advisor_required
def tell_salesforce(contact_id: int) -> ResponseReturnValue:
    """Retry the refused opt-outs in Salesforce of a person who unsubscribed."""
    contact = get_line(contact_id).contact
    connection_id = contact.connection_id or contact.followed_by_id
    if connection_id and contact.salesforce_id and outbox.try_again(connection_id, contact.salesforce_id):
        queues().enqueue_opt_outs([connection_id])
        flash("Salesforce is asked once more. Look again in a minute.", "good")
    return go_to(url_for("contacts.show", contact_id=contact_id))


@blueprint.post(f"/{ID}/try-again")
@advisor_required
def try_again(contact_id: int) -> ResponseReturnValue:
    """End `bounced` for the contact's address."""
    contact = get_line(contact_id).contact
    address = suppressions.Address(current_user.partner_id, current_user.id, contact.address_hash or b"")
    if suppressions.try_again(address):
        flash("The next email may go to this address again.", "good")
    else:
        flash("An address can be tried again once in 30 days.", "warn")
    return go_to(url_for("contacts.show", contact_id=contact_id))


@blueprint.post(f"/{ID}/lists")
@advisor_required
def save_lists(contact_id: int) -> ResponseReturnValue:
    line = get_line(contact_id)
    lists.set_lists_of(line.contact, [_number(value) for value in request.form.getlist("list")[:IDS_MAX]])
    flash("Lists saved.", "good")
    return go_to(url_for("contacts.show", contact_id=contact_id))


@blueprint.get("/new")
@advisor_required
def new() -> ResponseReturnValue:
    return _form(ContactForm())


@blueprint.post("/new", endpoint="add")
@advisor_required
def add() -> ResponseReturnValue:
    form = ContactForm(request.form)
    try:
        contact = manual.add_contact(current_user, form.details, vault(), keep_same_address=form.keep_same_address.data)
    except InvalidFields as refusal:
        return _form(form, refusal), 422
    flash(f"{contact.name} is added.", "good")
    return go_to(url_for("contacts.show", contact_id=contact.id))


@blueprint.get(f"/{ID}/edit")
@advisor_required
def edit(contact_id: int) -> ResponseReturnValue:
    line = get_editable(contact_id)
    return _form(ContactForm(obj=line.contact), line=line)


@blueprint.post(f"/{ID}/edit", endpoint="save")
@advisor_required
def save(contact_id: int) -> ResponseReturnValue:
    line, form = get_editable(contact_id), ContactForm(request.form)
    keep = form.keep_same_address.data
    try:
        manual.edit_contact(current_user, line.contact, form.details, vault(), keep_same_address=keep)
    except manual.ReadOnly:
        abort(403)
    except InvalidFields as refusal:
        return _form(form, refusal, line), 422
    flash("Saved.", "good")
    return go_to(url_for("contacts.show", contact_id=contact_id))


def get_line(contact_id: int) -> ContactLine:
    """Return a contact of the current advisor's; another advisor's is 404."""
    return queries.find_contact(current_user.id, contact_id, utcnow()) or abort(404)


def get_editable(contact_id: int) -> ContactLine:
    """Return a contact made by hand; for Salesforce contacts there is no form."""
    line = get_line(contact_id)
    if not line.is_editable:
        abort(404)
    return line


def _form(form: ContactForm, refusal: InvalidFields | None = None, line: ContactLine | None = None) -> str:
    if refusal:
        form.show(refusal.errors)
    holder_id = refusal.holder_id if isinstance(refusal, manual.AddressTaken) else None
    return render_template("contacts/form.html", form=form, holder_id=holder_id, line=line)


# ---- Why isn't this person here?


@blueprint.get("/why", endpoint="why")
@advisor_required
@limiter.limit(LIVE_QUESTIONS, key_func=key_of_person, exempt_when=lambda: not request.args.get("person"))
def ask_why() -> ResponseReturnValue:
    asked = request.args.get("person", "").strip()
    is_empty = not asked and (wants_part() or "person" in request.args)
    status = 422 if is_empty else 200
    answer = _answer(asked) if asked else {}
    if wants_part():
        return render_template("contacts/_answer.html", asked=asked, is_empty=is_empty, **answer), status
    usual = [VERDICTS[each] for each in USUAL_ANSWERS]
    overview = queries.count_contacts(current_user.id, utcnow())
    page = render_template(
        "contacts/why.html", asked=asked, is_empty=is_empty, usual=usual, overview=overview, wanted=None, **answer
    )
    return page, status


def _answer(asked: str) -> dict[str, object]:
    """Return what the verdict's template shows."""
    connection = current_connection()
    try:
        question = why.read_question(asked)
    except why.AnAccount as account:
        return _answer_for_account(account, connection)
    except why.NotAQuestion as refusal:
        return {"refusal": str(refusal)}
    if question.name:
        return _answer_name(question.name, connection)
    return _answer_question(question, connection)


def _answer_name(name: str, connection: Connection | None) -> dict[str, object]:
    """Answer for a name: the verdict, if one person is meant; otherwise the people to choose from."""
    is_on = connection is not None and connection.partner.is_enabled
    ask = way_to_ask_names(connection, org_access()) if connection and is_on else None
    owner_id = connection.salesforce_user_id if connection else None
    matches = why_by_name.find_matches(current_user.id, name, owner_id, ask)
    only = matches.found[0] if len(matches.found) == 1 and not matches.error else None
    if only and only.salesforce_id:
        return _answer_question(why.Question(salesforce_id=only.salesforce_id), connection, only.name)
    return {
        "name": name,
        "matches": matches,
        "is_connected": ask is not None,
        "trouble": NO_ANSWERS[matches.error.again] if matches.error else None,
    }


def _answer_for_account(account: why.AnAccount, connection: Connection | None) -> dict[str, object]:
    """Answer for an account's page: with person accounts it is a person's page, so look for that person's contact."""
    try:
        found = find_contact_of_account(connection, org_access(), account.account_id) if connection else None
    except OurBug:
        raise
    except SalesforceError as error:
        trouble = why.Verdict(Answer.NO_ANSWER, error=error)
        return {
            "verdict": trouble,
            "words": verdict_words(trouble.answer, "this record"),
            "trouble": NO_ANSWERS[error.again],
        }
    if found is None:
        return {"refusal": str(account)}
    return _answer_question(why.Question(salesforce_id=found), connection)


def _answer_question(question: why.Question, connection: Connection | None, called: str = "") -> dict[str, object]:
    """called: the name by which the person was found in Salesforce, which is not stored."""
    hashed = why.hash_of(question, current_user.partner, vault())
    is_on = connection is not None and connection.partner.is_enabled
    ask = way_to_ask(connection, org_access()) if connection and is_on else None
    verdict = why.find_out(current_user.id, question, hashed, connection, ask)
    who = (verdict.contact.name if verdict.contact else "") or question.email or verdict.name or called or "this record"
    return {
        "verdict": verdict,
        "words": verdict_words(verdict.answer, who, verdict.owner_name, why_off(verdict.kept_as, verdict.owner_name)),
        "trouble": NO_ANSWERS[verdict.error.again] if verdict.error else None,
        "survivor": why.find_survivor(current_user.id, verdict.merged_into),
        "record_link": _link_to(connection.instance_url if connection else None, verdict.page_id),
        "asked_at": utcnow(),
    }


# ---- Links into Salesforce


@blueprint.app_template_global()
def salesforce_link(line: ContactLine) -> str | None:
    """Return the address of the record's page; None if there is none to open."""
    is_there = line.contact.departed in (None, Reason.REASSIGNED)
    return _link_to(line.instance_url, line.contact.page_id) if is_there else None


def _link_to(instance_url: str | None, salesforce_id: str | None) -> str | None:
    if not instance_url or not salesforce_id or not is_salesforce_url(instance_url, config().salesforce_allow_loopback):
        return None
    return record_url(instance_url, salesforce_id)
