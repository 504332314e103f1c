"""Leads: the advisor's sign-up page and its text, who signed up and what became of them, and the history of consent."""

from __future__ import annotations

import io

import segno
from flask import Blueprint, Response, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from markupsafe import Markup, escape

from asapp.audit import entries
from asapp.contacts import queries as contact_queries
from asapp.contacts import suppressions
from asapp.core.clock import utcnow
from asapp.core.formats import counted
from asapp.core.forms import InvalidFields, whole_number
from asapp.leads import consent, decisions, outbox, queries, sign_up_page
from asapp.leads.form_fields import PageForm
from asapp.leads.queries import LeadLine, LeadQuery
from asapp.messages import leads
from asapp.models import Action, Contact, ContactSource, Lead, OptInPage
from asapp.salesforce.hosts import is_salesforce_url, record_url
from asapp.web.access import actor, advisor_required
from asapp.web.confirmation import ask_to_confirm
from asapp.web.current import config, own_connection, person, queues
from asapp.web.files import as_file, csv_file
from asapp.web.htmx import go_to, wants_part
from asapp.web.incoming import LAST_PAGE

blueprint = Blueprint("leads", __name__, url_prefix="/leads")

CONTACT = "<int:contact_id>"
QR_SCALES = {"svg": 8, "png": 24}  # a picture is not scaled in print
READY = "Ready to go. They can't go out at the moment; below it says why."
# The page tells the site how tall it is (static/frame.js); a site that allows no scripts shows it at a height that fits most.
FRAME = (
    '<iframe src="{address}" id="asapp-sign-up" title="{title}" width="100%" height="760" style="border: 0"></iframe>\n'
    '<script>addEventListener("message", function (event) {{ if (event.origin === "{origin}" && event.data.asapp === "height") '
    'document.getElementById("asapp-sign-up").height = event.data.height; }});</script>'
)
ERASED = "Erased. The consents and their times are kept, without the person's name."


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    page = sign_up_page.ensure_page(current_user)
    now = utcnow()
    wanted = wanted_by(request.args)
    connection = own_connection()
    hold = queries.find_hold(current_user, connection, now)
    counts = queries.count_by_state(current_user, hold)
    found = queries.find_page(current_user, wanted, hold, counts)
    return render_template(
        "leads/_people.html" if wants_part() else "leads/index.html",
        wanted=wanted,
        page=found,
        counts=counts,
        opt_in=page,
        address=address_of(page),
        snippet=snippet_of(page),
        code=qr_inline(page),
        hold=leads.HOLDS[hold] if hold else None,
        waiting=queries.count_waiting(current_user.id),
        to_act_on=queries.find_to_act_on(current_user, hold),
        asking_again=queries.find_asking_again(current_user.id),
        trouble=leads.explain_trouble(connection) if connection else None,
        encryption=leads.EMAIL_ENCRYPTED if connection and connection.email_encrypted else None,
        is_part=wants_part(),
    )


@blueprint.context_processor
def names() -> dict[str, object]:
    return {
        "labels": leads.LABELS,
        "tones": leads.TONES,
        "refusal_of": leads.refusal_of,
    }


def wanted_by(values: dict[str, str]) -> LeadQuery:
    state, page = values.get("state", ""), values.get("page", "")
    return LeadQuery(
        search=" ".join(values.get("q", "").split())[: queries.SEARCH_MAX],
        state=state if state in leads.LABELS else "",
        page=whole_number(page, LAST_PAGE) or 1,
    )


@blueprint.get("/export.csv", endpoint="export")
@advisor_required
def export_csv() -> ResponseReturnValue:
    now = utcnow()
    hold = queries.find_hold(current_user, own_connection(), now)
    entries.record_export(Action.EXPORTED, actor(), None, file="leads")
    return csv_file(queries.iter_csv(current_user.id, hold), f"leads-{now:%Y-%m-%d}.csv")


# ---- What the advisor decides


@blueprint.post("/retry")
@advisor_required
def retry() -> ResponseReturnValue:
    """Retry one refused lead, or all of them."""
    count = decisions.retry_all(current_user.id) if request.form.get("all") == "1" else int(decisions.retry(get_lead()))
    if count:
        enqueue()
        flash(sent_words(f"{counted(count, 'lead')} on the way again."), "good")
    else:
        flash("There was nothing to send again.", "plain")
    return go_to(url_for("leads.index"))


@blueprint.post("/check")
@advisor_required
def check() -> ResponseReturnValue:
    """Store what the advisor found in Salesforce."""
    lead = get_lead()
    if request.form.get("do") == "there":
        if decisions.mark_as_present(lead):
            flash("Noted as sent. As we can't see whether this person opts out, nothing is sent to them.", "good")
    elif decisions.send_after_all(lead):
        enqueue()
        flash(sent_words("On the way."), "good")
    return go_to(url_for("leads.index"))


@blueprint.post("/noted")
@advisor_required
def noted() -> ResponseReturnValue:
    decisions.acknowledge(current_user.id, [text[:36] for text in request.form.getlist("lead")[: queries.NEWS_MAX]])
    return go_to(url_for("leads.index"))


@blueprint.post("/send-reviewed", endpoint="send_reviewed")
@advisor_required
def send_reviewed() -> ResponseReturnValue:
    """Send the leads that waited until the advisor had looked."""
    page = sign_up_page.ensure_page(person())
    partner, count = person().partner, decisions.send_reviewed(person(), ask_to_confirm(page))
    if count and partner is not None and partner.confirms_sign_ups:
        queues().enqueue_letters()
        flash(f"{counted(count, 'person is', 'people are')} asked by email to confirm.", "good")
    elif count:
        enqueue()
        flash(sent_words(f"{counted(count, 'lead')} on the way."), "good")
    else:
        flash("No one was waiting for you.", "plain")
    return go_to(url_for("leads.index"))


def get_lead() -> Lead:
    """Return the lead that a form or an address names; another advisor's is 404."""
    return queries.find_lead(current_user.id, request.values.get("lead", "")[:36]) or abort(404)


def sent_words(on_the_way: str) -> str:
    """Return the message about leads that may be sent now; the page says what they wait for, if they do."""
    return READY if queries.find_hold(current_user, own_connection(), utcnow()) else on_the_way


def enqueue() -> None:
    outbox.enqueue_for(current_user.id, queues().enqueue_leads)


# ---- The sign-up page: its address, code, snippet and text


@blueprint.get("/page")
@advisor_required
def edit_page() -> ResponseReturnValue:
    page = sign_up_page.ensure_page(current_user)
    return page_form(page, PageForm(data=stored_of(page)))


@blueprint.post("/page", endpoint="save_page")
@advisor_required
def save_page() -> ResponseReturnValue:
    """Save what was sent, of these settings or the sites alone; the others stay."""
    page = sign_up_page.ensure_page(current_user)
    form = PageForm.entered(**{**stored_of(page), **request.form.to_dict()})
    before = sign_up_page.current_text(current_user.id).version
    try:
        text = sign_up_page.save_page(page, **form.typed)
    except InvalidFields as refusal:
        return page_form(page, form.show(refusal.errors)), 422
    has_new_words = text.version > before
    flash(f"Saved. Your page shows version {text.version} of its words." if has_new_words else "Saved.", "good")
    if "words" not in request.form:
        return go_to(url_for("leads.index", site=1, _anchor="site"))
    return go_to(url_for("leads.index"))


def stored_of(page: OptInPage) -> dict[str, str]:
    """Return the fields of PageForm as they are stored."""
    text = sign_up_page.current_text(page.user_id)
    return {
        "heading": text.heading,
        "words": text.words,
        "frame_hosts": "\n".join(page.frame_hosts.split()),
        "daily_limit": str(page.daily_limit),
    }


@blueprint.post("/page/pause", endpoint="pause_page")
@advisor_required
def pause_page() -> ResponseReturnValue:
    """Pause the sign-up page, or take sign-ups again."""
    page = sign_up_page.ensure_page(person())
    if request.form.get("do") == "resume":
        sign_up_page.resume(page)
        flash("Your sign-up page takes sign-ups again.", "good")
    else:
        sign_up_page.pause(page)
        flash("Your sign-up page is paused. It says that sign-ups are closed at the moment.", "good")
    return go_to(url_for("leads.index"))


def page_form(page: OptInPage, form: PageForm) -> str:
    return render_template(
        "leads/page.html",
        opt_in=page,
        address=address_of(page),
        form=form,
        texts=sign_up_page.all_texts(current_user.id),
    )


@blueprint.get("/code.svg", endpoint="code")
@advisor_required
def qr_file() -> ResponseReturnValue:
    return qr_as("svg", "image/svg+xml")


@blueprint.get("/code.png", endpoint="code_as_picture")
@advisor_required
def qr_picture() -> ResponseReturnValue:
    """For programs that take no drawing, such as those for letters and cards."""
    return qr_as("png", "image/png")


def qr_as(kind: str, mimetype: str) -> ResponseReturnValue:
    page = sign_up_page.ensure_page(current_user)
    buffer = io.BytesIO()
    segno.make(address_of(page), error="m").save(buffer, kind=kind, scale=QR_SCALES[kind], border=4, light="#fff")
    return as_file(Response(buffer.getvalue(), mimetype=mimetype), f"{page.slug}.{kind}")


def address_of(page: OptInPage) -> str:
    return f"{config().public_url}{url_for('optin.show', slug=page.slug)}"


def snippet_of(page: OptInPage) -> str:
    """Return the HTML to paste on a site: a frame if the advisor allowed one, else a link."""
    address, title = escape(address_of(page)), escape(f"Sign up for emails from {current_user.name}")
    if page.may_be_framed:
        return FRAME.format(address=address, title=title, origin=escape(config().public_url))
    return f'<a href="{address}">{title}</a>'


def qr_inline(page: OptInPage) -> Markup:
    code = segno.make(address_of(page), error="m")
    return Markup(code.svg_inline(border=1, omitsize=True, svgclass=None, lineclass=None))  # noqa: S704 - a drawing of ours


# ---- The history of consent, on the contact's page


@blueprint.app_template_global()
def event_words(moment: consent.Moment) -> leads.EventWords:
    return leads.words_of(moment.event)


@blueprint.get(f"/consent/{CONTACT}.csv", endpoint="consent")
@advisor_required
def consent_csv(contact_id: int) -> ResponseReturnValue:
    contact = get_contact(contact_id)
    moments = consent.history_of_contact(current_user.id, contact.id)
    if not moments and not suppressions.story_of(contact, current_user.partner_id).events:
        abort(404)
    text = consent.csv_of(moments, contact, current_user.partner_id)
    entries.record_export(Action.EXPORTED, actor(), contact, file="consent")
    return csv_file(text, f"consent-{contact.id}.csv")


@blueprint.get(f"/erase/{CONTACT}")
@advisor_required
def confirm_erase(contact_id: int) -> ResponseReturnValue:
    contact = get_erasable(contact_id)
    return render_template(
        "leads/erase.html",
        called=contact.name or contact.email,
        there=url_for("contacts.show", contact_id=contact.id),
        action=url_for("leads.erase", contact_id=contact.id),
        lead=None,
    )


@blueprint.post(f"/erase/{CONTACT}", endpoint="erase")
@advisor_required
def erase(contact_id: int) -> ResponseReturnValue:
    decisions.erase(current_user.id, get_erasable(contact_id), actor())
    flash(ERASED, "good")
    return go_to(url_for("contacts.index"))


# ---- A person whose contact was removed with a connection; the lead and its consent stay


@blueprint.get("/person", endpoint="person")
@advisor_required
def show_person() -> ResponseReturnValue:
    lead = get_lead()
    if lead.contact_id:
        return go_to(url_for("contacts.show", contact_id=lead.contact_id))
    return render_template("leads/person.html", lead=lead, moments=consent.history_of_lead(lead))


@blueprint.get("/person/consent.csv", endpoint="person_consent")
@advisor_required
def person_consent_csv() -> ResponseReturnValue:
    lead = get_lead()
    text = consent.csv_of(consent.history_of_lead(lead), lead, lead.partner_id)
    entries.record_export(Action.EXPORTED, actor(), None, file="consent")
    return csv_file(text, f"consent-{lead.public_id}.csv")


@blueprint.get("/person/erase")
@advisor_required
def confirm_erase_person() -> ResponseReturnValue:
    lead = get_lead()
    return render_template(
        "leads/erase.html",
        called=lead.name,
        there=url_for("leads.person", lead=lead.public_id),
        action=url_for("leads.erase_person"),
        lead=lead,
    )


@blueprint.post("/person/erase", endpoint="erase_person")
@advisor_required
def erase_person() -> ResponseReturnValue:
    decisions.erase_lead(get_lead(), actor())
    flash(ERASED, "good")
    return go_to(url_for("leads.index"))


def get_contact(contact_id: int) -> Contact:
    line = contact_queries.find_contact(current_user.id, contact_id, utcnow())
    return line.contact if line else abort(404)


def get_erasable(contact_id: int) -> Contact:
    """Return a contact that can be erased; one made by hand is simply deleted."""
    contact = get_contact(contact_id)
    return contact if contact.source != ContactSource.MANUAL else abort(404)


# ---- Shared


@blueprint.app_template_global()
def lead_link(line: LeadLine) -> str | None:
    """Return the address of the record in Salesforce; None if there is none to open."""
    record_id, url = line.record_id, line.instance_url
    if not record_id or not url or not is_salesforce_url(url, config().salesforce_allow_loopback):
        return None
    return record_url(url, record_id)
