"""The page "Lists from Salesforce": what it shows, chooses, accepts and gives up."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.contacts import salesforce_lists
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, ConnectionStatus, ContactList, SyncRun
from asapp.salesforce.org_lists import Filter, ListInOrg, ListTrouble
from orgsim import Running
from tests.factories import log_in
from tests.listing import IN_HULL, ListOffice
from tests.syncing import contacts_here

PAGE = "/contacts/from-salesforce"
EVERYBODY = {"conditions": [], "conjunction": "and"}


@pytest.fixture
def office(app: Flask, org: Running, client: FlaskClient) -> ListOffice:
    made = ListOffice(org)
    log_in(client, made.advisor)
    return made


def text_of(html: str) -> str:
    """Return what a person reads of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&#39;", "'").split()).replace(" .", ".").replace(" ,", ",")


def look(client: FlaskClient, view: str, about: str = "Contact") -> str:
    return client.get(f"{PAGE}/choose", query_string={"look": view, "about": about}).text


def hidden(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found
    return found[1]


def use(client: FlaskClient, view: str, about: str = "Contact", *, html: str | None = None) -> str:
    """Choose a list as the page's form does; return the next page."""
    html = html or look(client, view, about)
    form = {name: hidden(html, name) for name in ("look", "about", "seen")}
    return client.get(client.post(f"{PAGE}/use", data=form).location).text


def test_a_list_is_looked_into_chosen_followed_and_given_up(client: FlaskClient, office: ListOffice) -> None:
    view = office.view("In <Kent>")
    office.live("Out", "Kent", opted_out=True)
    office.live("Theirs", "Kent", owner=office.colleague)
    office.sync()
    page = client.get(PAGE).text
    assert "Ask Salesforce for your lists" in page  # without scripts; htmx fetches the part by itself
    assert "In &lt;Kent&gt;" in client.get(f"{PAGE}/choose", part=True).text
    inside = text_of(look(client, view))
    assert "2 people of yours would be on this list. More match in Salesforce but aren't here: 1 of other" in inside
    assert "Rose rose @a.example Active" in inside
    said = text_of(use(client, view))
    assert "You use “In &lt;Kent&gt;” now. The sync that has begun fills it." in said
    assert "1 of 20" in said
    run = db.session.query(SyncRun).order_by(SyncRun.id.desc()).first()
    assert run is not None
    assert "Being filled" in said
    office.resume(run)
    said = text_of(client.get(PAGE).text)
    assert "In &lt;Kent&gt; List view 2 1 of other advisors, 1 opted out Follows Salesforce" in said
    made = db.session.query(ContactList).filter_by(kind="list_view").one()
    on_it = text_of(client.get("/contacts", query_string={"list": made.id}).text)
    assert "It follows a list view of Salesforce and is read-only here." in on_it
    assert "On it in Salesforce, but not here: 1 of other advisors, 1 opted out." in on_it
    gone = text_of(client.get(client.post(f"{PAGE}/{made.id}/stop").location).text)
    assert "You don't use “In &lt;Kent&gt;” any more. Its people are all still here." in gone


def test_lists_are_found_by_name_and_kind(client: FlaskClient, office: ListOffice) -> None:
    office.view("In Kent")
    office.view("A closed view", soql_compatible=False)
    office.org.add_campaign(office.user, "Kent seminar", Status="In Progress")
    found = text_of(client.get(f"{PAGE}/choose", query_string={"q": "kENT"}).text)
    assert "2 of 3" in found
    assert "Kent seminar Campaign, in progress" in found
    only = text_of(client.get(f"{PAGE}/choose", query_string={"q": "kent", "kind": "view"}).text)
    assert "Kent seminar" not in only
    assert "Salesforce doesn't let other programs read this one" in text_of(client.get(f"{PAGE}/choose").text)
    assert "No list matches that" in client.get(f"{PAGE}/choose", query_string={"q": "nothing"}).text


def test_a_view_without_a_filter_says_everybody(client: FlaskClient, office: ListOffice) -> None:
    html = look(client, office.view("Top clients", where=EVERYBODY))
    assert "“Top clients” has no filter. It holds everybody: all 3 contacts of yours in Salesforce." in text_of(html)
    assert "Use it anyway" in html


def test_a_view_that_moves_with_the_date_says_so(client: FlaskClient, office: ListOffice) -> None:
    view = office.view(where={"field": "CreatedDate", "operator": "equals", "values": ["LAST_N_DAYS:30"]})
    assert "It changes by itself with the date" in look(client, view)


def test_a_changed_view_is_accepted_once_its_number_was_seen(client: FlaskClient, office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.change_list_view(view, where=IN_HULL)
    office.sync()
    said = text_of(client.get(PAGE).text)
    assert "“In Kent” was changed in Salesforce" in said
    assert "The list here keeps its 2 people until you have accepted the change." in said
    html = look(client, view)
    assert "1 is right" in html
    office.org.change_list_view(view, where={**IN_HULL, "operator": "notEquals"})
    office.sync()
    again = client.post(f"{PAGE}/{made.id}/accept", data={"seen": hidden(html, "seen")})
    assert "was changed in Salesforce once more" in client.get(again.location).text
    accepted = client.post(f"{PAGE}/{made.id}/accept", data={"seen": hidden(look(client, view), "seen")})
    assert "follows its new filter" in client.get(accepted.location).text


def test_a_view_that_was_widened_to_everybody_warns(client: FlaskClient, office: ListOffice) -> None:
    office.follow(office.view())
    office.org.hide_field("Contact", "MailingCity")
    office.sync()
    assert "It has no filter any more, so it would hold everybody." in text_of(client.get(PAGE).text)


TROUBLES = {
    ListTrouble.NO_ANSWER: "got no answer from Salesforce",
    ListTrouble.GONE: "can't be found in Salesforce any more",
    ListTrouble.NO_ACCESS: "Your Salesforce user isn't allowed to read",
    ListTrouble.FIELD_HIDDEN: "uses a field that can't be read",
    ListTrouble.NOT_COMPATIBLE: "isn't open to other programs",
}


def test_a_frozen_list_says_why_and_since_when_and_may_be_kept(client: FlaskClient, office: ListOffice) -> None:
    assert set(TROUBLES) == set(ListTrouble)
    made = office.follow(office.view())
    asked = salesforce_lists.find_to_read(office.connection.id, None, {})[0]
    for trouble, says in TROUBLES.items():
        salesforce_lists.store_reading(office.advisor.id, asked, trouble, utcnow())
        said = text_of(client.get(PAGE).text)
        assert says in said
        assert "The 2 people on it stay as read just now. Opt-outs still count" in said
        assert "Frozen As of just now" in said
    assert "Its people stay on it as they were" in text_of(client.get("/contacts", query_string={"list": made.id}).text)
    kept = client.post(f"{PAGE}/{made.id}/keep")
    assert "“In Kent” is a list of your own now" in client.get(kept.location).text


def test_a_choice_that_is_out_of_date_is_refused(client: FlaskClient, office: ListOffice) -> None:
    view = office.view()
    html = look(client, view)
    office.org.change_list_view(view, where=IN_HULL)
    assert "was changed in Salesforce a moment ago" in use(client, view, html=html)
    office.org.delete_list_view(view)
    assert "It was deleted there, or is no longer shared with you" in use(client, view, html=html)
    assert "can't be found in Salesforce any more" in text_of(look(client, view))
    assert salesforce_lists.find_followed(office.advisor.id) == []


def test_the_twenty_first_list_is_refused(client: FlaskClient, office: ListOffice) -> None:
    for number in range(20):
        chosen = ListInOrg(f"00B5g00000{number:05}EAA", f"View {number}", "Contact")
        salesforce_lists.follow(office.connection, chosen, Filter("Contact"))
    assert "which is as many as possible. Stop using one first." in use(client, office.view())


@pytest.mark.parametrize("answer", ["server_unavailable_html", "request_limit", "insufficient_access"])
def test_an_org_that_gives_no_answer_says_so_and_the_lists_in_use_stay(
    client: FlaskClient, office: ListOffice, answer: str
) -> None:
    office.follow(office.view())
    office.org.trouble.add(answer, kind="data")
    said = text_of(client.get(f"{PAGE}/choose").text)
    assert "Salesforce gave no answer." in said
    assert "Follows Salesforce" in said


def test_without_a_connection_there_is_nothing_to_choose(client: FlaskClient, office: ListOffice) -> None:
    office.follow(office.view())
    db.session.query(Connection).update({"status": ConnectionStatus.DISCONNECTED})
    db.session.commit()
    mark = office.org.calls.mark()
    said = text_of(client.get(f"{PAGE}/choose").text)
    assert "Salesforce isn't connected. Connect it under Integrations; then its lists are here." in said
    assert "Not known Not connected" not in said
    assert "None Not connected" in said
    assert client.post(f"{PAGE}/use", data={"look": "00B5g00000AAAAAEAA", "about": "Contact"}).status_code == 404
    assert office.org.calls.since(mark) == []


def test_an_org_without_lists_says_how_to_make_one(client: FlaskClient, office: ListOffice) -> None:
    office.org.deny_object("Campaign")
    said = text_of(client.get(f"{PAGE}/choose").text)
    assert "Salesforce shows no lists to you" in said
    assert "Your Salesforce user needs Read on campaigns." in said


@pytest.mark.parametrize("about", ["Contact", "User", "Contact/describe", ""])
def test_a_forged_look_asks_salesforce_for_nothing_else(client: FlaskClient, office: ListOffice, about: str) -> None:
    mark = office.org.calls.mark()
    client.get(f"{PAGE}/choose", query_string={"look": "../../User/005", "about": about})
    assert [call.path for call in office.org.calls.since(mark)] == ["/services/data/v66.0/composite"]


def test_a_person_on_a_list_of_the_same_name_is_on_that_one_alone(client: FlaskClient, office: ListOffice) -> None:
    made = office.follow(office.view())
    own = office.put_on_list(office.hal, "In Kent")
    contact_id = next(c.id for c in contacts_here(office.connection) if c.salesforce_id == office.rose)
    page = client.get(f"/contacts/{contact_id}").text
    assert "On “In Kent”, which follows Salesforce." in page
    assert not re.search(rf'value="{own.id}"[^>]* checked', page)
    client.post(f"/contacts/{contact_id}/lists", data={})
    assert office.rose in office.members(made)


def test_the_look_works_for_a_campaign(client: FlaskClient, office: ListOffice) -> None:
    campaign = office.org.add_campaign(office.colleague, "Seminar")
    office.org.add_members(campaign, [office.rose, office.live("New", "Kent")])
    said = text_of(look(client, campaign, "Campaign"))
    assert "1 person of yours would be on this list." in said
    assert "aren't here: 1 coming with the next sync." in said
    assert "You use “Seminar” now" in text_of(use(client, campaign, "Campaign"))
