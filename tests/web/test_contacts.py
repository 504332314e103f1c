"""The contacts pages: what they show, what they accept, and what no request can do."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import unquote_plus

import pytest
import requests_mock
from flask import Flask, current_app
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.contacts import lists
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.contacts import REASONS
from asapp.models import (
    Connection,
    Contact,
    ContactList,
    ContactSource,
    Departure,
    DepartureState,
    LedgerEntry,
    LedgerOutcome,
    ListKind,
    ListMember,
    Reason,
    RunChange,
    SuppressionSource,
    SuppressionStep,
    User,
)
from asapp.salesforce.hosts import to_18
from asapp.writeback import unsubscribing
from tests.factories import (
    LONG_AGO,
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_run,
    make_synced_connection,
    org_access,
    save,
)
from tests.mail_links import record
from tests.signing_up import someone_signs_up

ELSEWHERE = to_18("0035g00000KqT2b")
FIELDS = ("first_name", "last_name", "email", "salesforce_id", "connection_id", "source", "opted_out", "address_hash")


@pytest.fixture
def connection(app: Flask, client: FlaskClient) -> Connection:
    """Return the connection of Alice, who is logged in and has synced."""
    made = make_synced_connection(make_advisor())
    log_in(client, made.user)
    return made


@pytest.fixture
def alice(connection: Connection) -> User:
    return connection.user


def hash_of(user: User, email: str) -> bytes:
    assert user.partner
    return address_hash(email, address_key(db.session(), user.partner, current_app.extensions["asapp.vault"]))


def rows_in(response: TestResponse) -> list[str]:
    return re.findall(r'aria-label="Select ([^"]+)"', response.text)


def words_in(response: TestResponse) -> str:
    """Return the text of a page, without tags and line breaks."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.text.replace("<wbr>", "")).split())


# ---- The page


def test_the_page_leads_to_the_question_why_a_person_is_missing(client: FlaskClient, connection: Connection) -> None:
    assert "Someone missing?" not in client.get("/contacts").text, "an empty page says how to begin"
    make_contact(connection)
    head = client.get("/contacts").text.partition('class="page-head"')[2].partition('class="tools')[0]
    assert '<a class="button small quiet" href="/contacts/why">Someone missing?</a>' in head


def test_who_has_no_list_is_led_to_a_new_one_from_the_ticked(client: FlaskClient, alice: User) -> None:
    make_contact(alice)

    def bar() -> str:
        return client.get("/contacts").text.partition('class="selection"')[2].partition("</form>")[0]

    assert 'href="/contacts/lists/new"' in bar()
    lists.create_list(alice.id, "Newsletter")
    assert 'href="/contacts/lists/new"' not in bar()
    assert "Add to list" in bar()


def test_the_page_shows_each_contact_with_state_lists_and_source(client: FlaskClient, connection: Connection) -> None:
    lists.ensure_system_lists(connection.user_id)
    active = make_contact(connection, first_name="Ewa", last_name="Adamska")
    make_contact(connection, first_name="Jan", last_name="Bielski", opted_out=True)
    make_contact(connection.user, first_name="Tomás", last_name="Czerny")
    page = client.get("/contacts")
    assert rows_in(page) == ["Ewa Adamska", "Jan Bielski", "Tomás Czerny"]
    text = words_in(page)
    assert "3 people. You can email 2 of them; 1 is inactive ." in text
    assert "Inactive Opted out of email in Salesforce Salesforce Contacts" in text
    assert "Added by hand" in text
    assert f'href="https://northgate.my.salesforce.com/{active.salesforce_id}"' in page.text
    assert "read-only here; open Ewa Adamska in Salesforce" in page.text


def test_no_advisor_sees_anothers_contacts(client: FlaskClient, alice: User) -> None:
    bob = make_advisor(alice.partner, "Bob Ferreira")
    charlie = make_advisor(make_partner("Southgate"), "Charlie Osei")
    for other in (bob, charlie):
        make_contact(other, last_name="Secret", email="secret@other.example")
        lists.create_list(other.id, f"Private list of {other.name}")
    page = client.get("/contacts?q=secret")
    assert "secret@other" not in page.text
    assert "Private list" not in client.get("/contacts").text
    assert "Secret" not in client.get("/contacts/export.csv").text


def test_admins_have_no_contacts(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_admin())
    for path in ("/contacts", "/contacts/export.csv", "/contacts/new", "/contacts/why", "/contacts/lists/new"):
        assert client.get(path).status_code == 403


def test_search_filter_and_pages_go_together(client: FlaskClient, alice: User) -> None:
    save(
        *(
            Contact(user_id=alice.id, source="manual", first_name="Zoë", last_name=f"Ö{i:03d}", email=f"{i}@a.example")
            for i in range(60)
        )
    )
    make_contact(alice, first_name="Ann", last_name="Smith", email="ann@b.example")
    second = client.get("/contacts?q=zoe+o&state=active&source=manual&page=2")
    assert rows_in(second) == [f"Zoë Ö{i:03d}" for i in range(50, 60)]
    assert "51 to 60 of 60" in words_in(second)
    assert 'href="/contacts?q=zoe+o&amp;state=active&amp;source=manual"' in second.text  # Previous keeps the question


@pytest.mark.parametrize("query", ["page=x", "page=-1", "page=99999999999999999999", "state=none", "source=x", "q=%00"])
def test_nonsense_in_the_address_is_harmless(client: FlaskClient, alice: User, query: str) -> None:
    make_contact(alice)
    assert client.get(f"/contacts?{query}").status_code == 200


@pytest.mark.parametrize("number", ["0", "999", "99999999999999999999", "x"])
def test_a_list_that_is_not_there_is_not_found(client: FlaskClient, alice: User, number: str) -> None:
    assert client.get(f"/contacts?list={number}").status_code == 404


def test_htmx_gets_the_part_that_the_page_includes(client: FlaskClient, alice: User) -> None:
    make_contact(alice, first_name="Ewa", last_name="Adamska")
    part = client.get("/contacts?q=ewa", part=True)
    assert rows_in(part) == ["Ewa Adamska"]
    assert "<html" not in part.text
    assert "<h1" not in part.text
    assert "1 contact found" in part.text
    assert "HX-Request" in part.headers["Vary"]
    assert part.headers["Cache-Control"] == "no-store"
    restored = client.get("/contacts?q=ewa", part=True, headers={"HX-History-Restore-Request": "true"})
    assert "<h1>" in restored.text


def test_two_with_one_address_are_flagged(client: FlaskClient, connection: Connection) -> None:
    shared = hash_of(connection.user, "benali@poste.example")
    make_contact(connection, first_name="Karim", last_name="Benali", address_hash=shared)
    aicha = make_contact(connection, first_name="Aïcha", last_name="Benali", address_hash=shared)
    assert "Shares this address with Karim Benali" in client.get("/contacts").text
    assert "Shares its address with Karim Benali" in words_in(client.get(f"/contacts/{aicha.id}"))


def test_those_who_share_an_address_are_found_together(client: FlaskClient, connection: Connection) -> None:
    alice = connection.user
    shared, alone, left = (hash_of(alice, f"{name}@poste.example") for name in ("benali", "alone", "left"))
    for given in ("Karim", "Aïcha"):
        make_contact(connection, first_name=given, last_name="Benali", address_hash=shared)
    make_contact(connection, first_name="Cleo", last_name="Alone", address_hash=alone)
    make_contact(connection, first_name="Dana", last_name="Stays", address_hash=left)
    make_contact(connection, first_name="Dana", last_name="Left", address_hash=left, departed="merged")
    bob = make_synced_connection(make_advisor(alice.partner))
    make_contact(bob, first_name="Bob's", last_name="Alone", address_hash=alone)  # another advisor's
    page = client.get("/contacts?state=shares_address")
    assert rows_in(page) == ["Aïcha Benali", "Karim Benali"]
    assert '<option value="shares_address" selected>Shares an address</option>' in page.text
    assert "Export 2 (CSV)" in page.text


def test_names_are_shown_and_not_run(client: FlaskClient, alice: User) -> None:
    contact = make_contact(alice, first_name="<script>alert(1)</script>", last_name='"><b>', email="x@y.example")
    for path in ("/contacts", f"/contacts/{contact.id}", f"/contacts/delete?id={contact.id}"):
        assert "<script>alert" not in client.get(path).text


def test_a_link_leads_to_salesforces_hosts_only(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection)
    connection.instance_url = "https://evil.example"
    db.session.commit()
    assert "evil.example" not in client.get("/contacts").text
    assert "evil.example" not in client.get(f"/contacts/{contact.id}").text


# ---- Empty pages


def test_empty_where_the_firm_is_not_set_up(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor(make_partner(key=None, secret=None)))
    page = client.get("/contacts")
    assert "available for your firm yet" in page.text
    assert "/settings/integrations" not in page.text


def test_empty_and_not_connected(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor())
    assert "Connect Salesforce" in client.get("/contacts").text


def test_empty_and_connected_but_not_synced(client: FlaskClient, app: Flask) -> None:
    connection = make_connection()
    log_in(client, connection.user)
    assert "it has not been synced" in client.get("/contacts").text
    assert "Sync Account" in client.get("/contacts").text


def test_empty_while_the_first_sync_runs(client: FlaskClient, app: Flask) -> None:
    connection = make_connection()
    make_run(connection, "queued")
    log_in(client, connection.user)
    assert "on their way" in client.get("/contacts").text


def test_empty_and_in_need_of_reconnecting(client: FlaskClient, app: Flask) -> None:
    connection = make_connection(status="needs_reconnect")
    log_in(client, connection.user)
    assert "connect again" in client.get("/contacts").text


def test_empty_and_in_need_of_reconnecting_while_a_sync_waits_is_told_as_on_the_panel(
    client: FlaskClient, app: Flask
) -> None:
    connection = make_connection(status="needs_reconnect")
    make_run(connection, "queued")
    log_in(client, connection.user)
    assert "until you connect again" in client.get("/contacts").text


def test_empty_where_the_firm_is_disabled_asks_for_no_sync(client: FlaskClient, app: Flask) -> None:
    connection = make_connection()
    connection.partner.is_enabled = False
    db.session.commit()
    log_in(client, connection.user)
    page = client.get("/contacts").text
    assert "available for your firm yet" in page
    assert "it has not been synced" not in page


def test_empty_after_a_sync(client: FlaskClient, connection: Connection) -> None:
    lists.ensure_system_lists(connection.user_id)
    db.session.commit()
    assert "No contacts came in" in client.get("/contacts").text
    filled = [each for each in lists.lists_of(connection.user_id) if not each.is_own]
    for each in filled:
        assert "This list is filled by the sync." in client.get(f"/contacts?list={each.id}").text


def test_a_sync_is_one_click_from_the_log_in_also_where_no_contacts_came_in(
    client: FlaskClient, connection: Connection
) -> None:
    assert "No contacts came in" in client.get("/contacts").text
    assert 'action="/settings/integrations/salesforce/sync"' in client.get("/contacts").text
    make_contact(connection, hidden_at=utcnow())
    assert "You deleted everybody here" in client.get("/contacts").text
    assert 'action="/settings/integrations/salesforce/sync"' in client.get("/contacts").text


def test_an_empty_own_list_says_how_to_fill_it(client: FlaskClient, alice: User) -> None:
    letter = lists.create_list(alice.id, "Letter")
    assert "No one is on this list yet" in client.get(f"/contacts?list={letter.id}").text


def test_the_filter_for_deleted_contacts_can_be_empty(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection, hidden_at=utcnow())
    assert "No contacts are deleted here" not in client.get("/contacts?state=hidden_here").text
    client.post("/contacts/restore", data={"id": contact.id})
    letter = lists.create_list(connection.user_id, "Letter")
    for url in ("/contacts?state=hidden_here", f"/contacts?list={letter.id}&state=hidden_here"):
        page = client.get(url).text
        assert "No contacts are deleted here" in page
        assert "No contacts came in" not in page
        assert "No one is on this list" not in page
        assert 'href="/contacts">Back to contacts</a>' in page


def test_the_page_says_so_if_all_contacts_are_deleted_here(client: FlaskClient, connection: Connection) -> None:
    make_contact(connection, hidden_at=utcnow())
    page = client.get("/contacts").text
    assert "You deleted everybody here" in page
    assert "No contacts came in" not in page


def test_a_synced_list_that_all_have_left_does_not_show_the_text_of_an_empty_first_sync(
    client: FlaskClient, connection: Connection
) -> None:
    lists.ensure_system_lists(connection.user_id)
    make_contact(connection, departed="reassigned")
    first = lists.lists_of(connection.user_id)[0]
    page = client.get(f"/contacts?list={first.id}").text
    assert "No one is on this list now" in page
    assert "No contacts came in" not in page


def test_a_search_without_a_result_offers_to_ask_why(client: FlaskClient, alice: User) -> None:
    make_contact(alice)
    page = client.get("/contacts?q=tim+f").text
    assert "No contact matches that." in page
    assert 'href="/contacts/why?person=tim+f"' in page
    assert "Why isn't “tim f” here?" in page


def test_who_finds_another_of_that_name_can_ask_why_as_well(client: FlaskClient, connection: Connection) -> None:
    make_contact(connection, first_name="Ewa", last_name="Nowak")
    page = client.get("/contacts?q=nowak").text
    assert "Ewa Nowak" in page
    assert '<a href="/contacts/why?person=nowak">Why isn\'t that person here?</a>' in page
    assert "Why isn't that person here?" not in client.get("/contacts").text


def test_titles_say_page_and_search(client: FlaskClient, alice: User) -> None:
    letter = lists.create_list(alice.id, "Letter")
    save(*(Contact(user_id=alice.id, source="manual", last_name=f"A{i}", email=f"{i}@b.example") for i in range(51)))
    for query, title in (
        ("", "Contacts"),
        ("?q=b.example&page=2", "Contacts: “b.example”, page 2"),
        ("?state=inactive", "Contacts: Inactive"),
        (f"?list={letter.id}", "Letter"),
        ("?list=deleted", "Deleted here"),
    ):
        assert f"<title>{title} · AdvisorStream</title>" in client.get(f"/contacts{query}").text


def test_the_export_is_what_is_on_screen(client: FlaskClient, connection: Connection) -> None:
    make_contact(connection, last_name="Active")
    make_contact(connection, last_name="Out", opted_out=True)
    make_contact(connection, last_name="Gone", hidden_at=utcnow())
    letter = lists.create_list(connection.user_id, "Letter")
    page = client.get("/contacts?state=inactive").text
    link = re.search(r'id="export" href="([^"]+)"', page)
    assert link
    assert "Export 1 (CSV)" in page
    assert names_in(client.get(unescape(link[1]))) == ["Out"]
    assert "Export all (CSV)" in client.get("/contacts").text
    assert names_in(client.get("/contacts/export.csv")) == ["Active", "Gone", "Out"]
    assert names_in(client.get("/contacts/export.csv?q=act")) == ["Active"]
    assert names_in(client.get(f"/contacts/export.csv?list={letter.id}")) == []
    part = client.get("/contacts?q=act", part=True).text
    assert 'href="/contacts/export.csv?q=act" hx-swap-oob="true"' in part


def names_in(file: TestResponse) -> list[str]:
    return [row["last_name"] for row in csv.DictReader(file.text.splitlines())]


# ---- One contact


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "You can email "),
        ({"opted_out": True}, "untick the box in Salesforce"),
        (
            {"opted_out": True, "consent_hidden": True},
            "Consent record not visible, which counts as opted out. You can't",
        ),
        ({"opted_out": True, "consent_hidden": True}, "That counts as opted out, so nothing is sent."),
        ({"opted_out": True, "consent_hidden": True}, "Ask your Salesforce admin to let you see the consent record"),
        ({"is_twin": True}, "Another record of yours"),
        ({"departed": "deleted"}, "Recycle Bin"),
        ({"departed": "merged"}, "surviving record"),
        ({"departed": "reassigned"}, "another owner"),
        ({"departed": "gone"}, "deleted for good"),
        ({"hidden_at": utcnow()}, "Press Restore"),
        ({"opt_out_known_until": LONG_AGO}, "Salesforce no longer shows this contact."),
        ({"opt_out_known_until": LONG_AGO}, "Decide under Integrations, or ask your Salesforce admin to give it back."),
    ],
)
def test_a_contacts_page_says_why_and_what_to_do(
    client: FlaskClient, connection: Connection, columns: dict[str, Any], says: str
) -> None:
    contact = make_contact(connection, **columns)
    page = client.get(f"/contacts/{contact.id}")
    assert says in words_in(page)
    assert "Read-only here" in page.text
    assert f"/contacts/{contact.id}/edit" not in page.text


def test_where_the_whole_connection_is_unknown_no_decision_is_asked_for(
    client: FlaskClient, connection: Connection
) -> None:
    connection.opt_outs_known_until = LONG_AGO
    contact = make_contact(connection, opt_out_known_until=LONG_AGO)
    assert "There was no good sync for too long" in client.get(f"/contacts/{contact.id}").text


def test_a_disconnected_contact_says_so(client: FlaskClient, alice: User) -> None:
    former = make_connection(alice, status="disconnected")
    assert "was disconnected" in client.get(f"/contacts/{make_contact(former).id}").text


def test_a_contact_of_an_unknown_opt_out_says_so(client: FlaskClient, app: Flask) -> None:
    connection = make_connection()
    log_in(client, connection.user)
    assert "no good sync" in client.get(f"/contacts/{make_contact(connection).id}").text


@pytest.mark.parametrize("departed", ["reassigned", "gone", "deleted"])
def test_a_contact_that_left_and_had_opted_out_says_both(
    client: FlaskClient, connection: Connection, departed: str
) -> None:
    both, left = (make_contact(connection, departed=departed, opted_out=is_out) for is_out in (True, False))
    told = "The opt-out box was ticked on this record as well"
    page = client.get(f"/contacts/{both.id}").text
    assert REASONS[departed].meaning in unescape(page)
    assert told in page
    assert told not in client.get(f"/contacts/{left.id}").text
    opted_out = make_contact(connection, opted_out=True)
    assert told not in client.get(f"/contacts/{opted_out.id}").text


def test_an_open_lead_is_read_only_and_says_why_it_is_inactive_once_they_are_not_brought_in(
    client: FlaskClient, connection: Connection
) -> None:
    lead = make_contact(connection, source="salesforce_lead", salesforce_id="00Q000000000001AAA")
    lists.ensure_system_lists(connection.user_id, [ListKind.OPEN_LEADS])
    page = client.get(f"/contacts/{lead.id}").text
    assert "Open leads are not brought in now" in page
    assert "Read-only here" in page
    assert "Open lead in Salesforce" in page
    assert client.get(f"/contacts/{lead.id}/edit").status_code == 404
    (line,) = csv.DictReader(client.get("/contacts/export.csv").text.splitlines())
    expected = {"source": "salesforce_lead", "status": "inactive", "reason": "opt_out_unknown"}
    assert expected.items() <= line.items()
    assert line["lists"] == "Salesforce Open Leads"
    connection.open_leads_known_until = utcnow() + timedelta(days=7)
    db.session.commit()
    assert "You can email" in client.get(f"/contacts/{lead.id}").text


@pytest.mark.parametrize("is_skipped", [True, False])
def test_a_contact_that_bounced_says_when_and_why(
    client: FlaskClient, connection: Connection, is_skipped: bool
) -> None:
    connection.partner.skip_bounced = is_skipped
    mark = {"bounced_at": LONG_AGO, "bounce_reason": "550 <unknown>", "bounced_hash": b"x", "address_hash": b"x"}
    contact = make_contact(connection, **mark)
    page, listed = client.get(f"/contacts/{contact.id}").text, client.get("/contacts").text
    assert "Bounced in Salesforce on" in page
    assert "550 &lt;unknown&gt;" in page
    assert "Bounced in Salesforce on" in listed
    assert ("You can't email" in page) is is_skipped
    assert (contact.name in client.get("/contacts?state=bounced").text) is is_skipped
    line = client.get("/contacts/export.csv").text.splitlines()[1]
    assert next(csv.reader([line]))[5:7] == (["inactive", "bounced"] if is_skipped else ["active", ""])


def test_an_address_that_took_the_place_of_a_bounced_one_has_no_mark(
    client: FlaskClient, connection: Connection
) -> None:
    contact = make_contact(connection, bounced_at=LONG_AGO, bounced_hash=b"x", address_hash=b"y")
    assert "Bounced" not in client.get(f"/contacts/{contact.id}").text


def test_a_merged_contact_leads_to_its_survivor(client: FlaskClient, connection: Connection) -> None:
    survivor = make_contact(connection, first_name="Ewa", last_name="Nowak")
    merged = make_contact(connection, departed="merged", merged_into=survivor.salesforce_id)
    assert f'href="/contacts/{survivor.id}"' in client.get(f"/contacts/{merged.id}").text


def test_lists_of_a_contact_are_saved(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection)
    first, second = lists.create_list(connection.user_id, "First"), lists.create_list(connection.user_id, "Second")
    lists.add_members(first, [contact.id])
    response = client.post(f"/contacts/{contact.id}/lists", data={"list": [str(second.id)]})
    assert response.status_code == 303
    assert "checked" in client.get(f"/contacts/{contact.id}").text
    assert [m.list_id for m in db.session.query(ListMember)] == [second.id]


# ---- By hand


def test_a_contact_is_added_and_edited(client: FlaskClient, alice: User) -> None:
    added = client.post(
        "/contacts/new", data={"first_name": "Tomás", "last_name": "Herrera", "email": "t@calle.example"}
    )
    assert added.status_code == 303
    assert "Tomás Herrera is added." in client.get(added.location).text
    contact = db.session.query(Contact).one()
    assert "Tomás" in client.get(f"{added.location}/edit").text
    saved = client.post(
        f"/contacts/{contact.id}/edit", data={"first_name": "Tom", "last_name": "Herrera", "email": "t@calle.example"}
    )
    assert saved.status_code == 303
    assert contact.name == "Tom Herrera"


def test_invalid_input_stays_in_the_form(client: FlaskClient, alice: User) -> None:
    typed = {"first_name": "Tomás", "last_name": "x" * 90, "email": "nowhere"}
    refused = client.post("/contacts/new", data=typed)
    assert refused.status_code == 422
    for value in typed.values():
        assert f'value="{value}"' in refused.text
    assert 'id="email-error"' in refused.text
    assert 'id="last_name-error"' in refused.text
    contact = make_contact(alice, last_name="Before")
    again = client.post(f"/contacts/{contact.id}/edit", data=typed)
    assert again.status_code == 422
    assert 'value="nowhere"' in again.text
    assert contact.last_name == "Before"


def test_an_address_that_is_here_already_is_reported_and_may_be_kept(
    client: FlaskClient, connection: Connection
) -> None:
    shared = hash_of(connection.user, "benali@poste.example")
    holder = make_contact(connection, first_name="Karim", last_name="Benali", address_hash=shared)
    typed = {"first_name": "Aïcha", "last_name": "Benali", "email": "Benali@poste.example"}
    refused = client.post("/contacts/new", data=typed)
    assert refused.status_code == 422
    assert "Karim Benali already has this address." in refused.text
    assert f'href="/contacts/{holder.id}"' in refused.text
    assert client.post("/contacts/new", data=typed | {"keep_same_address": "1"}).status_code == 303


# ---- What no request can do


def shapes() -> list[dict[str, Any]]:
    """Return request bodies that try to write a contact's fields."""
    wishes = dict.fromkeys(FIELDS, "9") | {"first_name": "Changed", "last_name": "Changed", "email": "c@d.example"}
    return [{"data": wishes}, {"json": wishes}, {"data": wishes | {"_method": "PUT"}}, {"query_string": wishes}]


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # no matter of SQL
def test_no_request_of_any_shape_changes_a_salesforce_contacts_fields(
    client: FlaskClient, connection: Connection, app: Flask
) -> None:
    """Rule contacts 6, for every route and method with the id of a contact or a form of contacts."""
    contact = make_contact(connection)
    lead = make_contact(connection.user, source=ContactSource.LEAD)
    list_id = lists.create_list(connection.user_id, "Letter").id
    before = {row.id: [getattr(row, name) for name in FIELDS] for row in (contact, lead)}
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith(("contacts.", "lists.")):
            continue
        for contact_id in before:
            path = rule.rule.replace("<int:contact_id>", str(contact_id))
            path = path.replace("<int:list_id>", str(list_id))
            assert "<" not in path
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                for shape in shapes():
                    client.open(path, method=method, **(shape | {"query_string": {"id": contact_id}}))
                    client.open(path, method=method, **shape)
    db.session.expire_all()
    for contact_id, values in before.items():
        row = db.session.get_one(Contact, contact_id)
        assert [getattr(row, name) for name in FIELDS] == values


def test_there_is_no_form_for_a_salesforce_contact(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection)
    assert client.get(f"/contacts/{contact.id}/edit").status_code == 404
    assert (
        client.post(f"/contacts/{contact.id}/edit", data={"last_name": "X", "email": "a@b.example"}).status_code == 404
    )


def test_other_peoples_ids_are_not_found_and_nothing_happens_to_them(client: FlaskClient, alice: User) -> None:
    """Rule trust 1: Bob is at Alice's firm, Charlie at another."""
    bob = make_advisor(alice.partner, "Bob Ferreira")
    charlie = make_advisor(make_partner("Southgate"), "Charlie Osei")
    hers = lists.create_list(alice.id, "Letter")
    her_contact = make_contact(alice)
    for other in (bob, charlie):
        contact = make_contact(make_synced_connection(other), hidden_at=utcnow())
        by_hand = make_contact(other, last_name="Before")
        theirs = lists.create_list(other.id, "Letter")
        details = {"first_name": "A", "last_name": "B", "email": "a@b.example"}
        for path in (
            f"/contacts/{contact.id}",
            f"/contacts/{by_hand.id}/edit",
            f"/contacts/delete?id={by_hand.id}",
            f"/contacts/lists/{theirs.id}",
            f"/contacts?list={theirs.id}",
        ):
            assert client.get(path).status_code == 404, path
        for path, data in (
            (f"/contacts/{by_hand.id}/edit", details),
            (f"/contacts/{by_hand.id}/lists", {"list": hers.id}),
            ("/contacts/delete", {"id": by_hand.id}),
            ("/contacts/restore", {"id": contact.id}),
            ("/contacts/selection", {"id": her_contact.id, "to_list": theirs.id, "do": "add"}),
            (f"/contacts/lists/{theirs.id}", {"name": "Mine"}),
            (f"/contacts/lists/{theirs.id}/delete", {}),
        ):
            assert client.post(path, data=data).status_code == 404, path
        client.post("/contacts/selection", data={"id": by_hand.id, "to_list": hers.id, "do": "add"})
        assert (by_hand.last_name, theirs.name, contact.is_hidden) == ("Before", "Letter", True)
    assert db.session.query(ListMember).count() == 0


# ---- Selected contacts


def test_those_ticked_are_added_to_a_list_and_taken_off(client: FlaskClient, connection: Connection) -> None:
    contact, other = make_contact(connection), make_contact(connection.user)
    make_contact(connection)
    letter = lists.create_list(connection.user_id, "Letter")
    form = {"id": [contact.id, other.id], "to_list": letter.id, "back": f"/contacts?list={letter.id}"}
    added = client.post("/contacts/selection", data=form | {"do": "add"})
    assert (added.status_code, added.location) == (303, f"/contacts?list={letter.id}")
    assert "2 contacts added to “Letter”." in client.get(added.location).text
    client.post("/contacts/selection", data={"id": contact.id, "to_list": letter.id, "do": "remove"})
    assert [m.contact_id for m in db.session.query(ListMember)] == [other.id]


def test_all_that_were_found_are_added_at_once(client: FlaskClient, alice: User) -> None:
    save(*(Contact(user_id=alice.id, source="manual", last_name=f"A{i}", email="a@b.example") for i in range(70)))
    make_contact(alice, last_name="Other")
    letter = lists.create_list(alice.id, "Letter")
    assert "all 70 found" in client.get("/contacts?q=a@b").text
    client.post("/contacts/selection", data={"which": "all", "q": "a@b", "to_list": letter.id, "do": "add"})
    assert db.session.query(ListMember).count() == 70


def test_a_selection_without_a_contact_is_explained(client: FlaskClient, alice: User) -> None:
    letter = lists.create_list(alice.id, "Letter")
    for what in ("add", "delete", "restore"):
        response = client.post("/contacts/selection", data={"to_list": letter.id, "do": what})
        assert "No one was ticked" in client.get(response.location).text


def test_delete_says_that_it_works_on_ticked_contacts_only(client: FlaskClient, alice: User) -> None:
    contact = make_contact(alice)
    form = {"which": "all", "id": contact.id, "do": "delete"}
    response = client.post("/contacts/selection", data=form)
    assert "Delete works on ticked contacts only, so nothing was changed." in client.get(response.location).text


def test_more_than_an_address_holds_are_asked_about_at_once(client: FlaskClient, alice: User) -> None:
    ids = [make_contact(alice).id for _ in range(201)]
    answer = client.post("/contacts/selection", data={"id": ids, "do": "delete"})
    assert answer.status_code == 200
    assert "Delete 201 contacts?" in answer.text


def test_deleting_is_confirmed_and_says_what_it_does_not_do(client: FlaskClient, connection: Connection) -> None:
    """Rule contacts 10."""
    contact, by_hand = make_contact(connection), make_contact(connection.user)
    asked = client.post("/contacts/selection", data={"id": [contact.id, by_hand.id], "do": "delete"})
    assert asked.status_code == 303
    question = client.get(asked.location)
    assert "Delete 2 contacts?" in question.text
    assert "Nothing is deleted in Salesforce, and nothing is sent there." in question.text
    assert "deleted for good" in question.text
    assert db.session.query(Contact).filter(Contact.hidden_at.is_(None)).count() == 2
    by_hand_id = by_hand.id
    done = client.post("/contacts/delete", data={"id": [contact.id, by_hand_id]})
    page = client.get(done.location)
    assert "2 contacts deleted here." in page.text
    assert "Deleted here" in page.text
    assert contact.is_hidden
    assert db.session.get(Contact, by_hand_id) is None


def press_undo(client: FlaskClient, page: TestResponse) -> TestResponse:
    """Press the Undo of a message, and return the page that it leads to."""
    token = page.text.split('name="token" value="')[1].split('"')[0]
    done = client.post("/contacts/undo", data={"token": token, "back": "/contacts?q=zo"})
    assert (done.status_code, done.location) == (303, "/contacts?q=zo")
    return client.get(done.location)


def test_a_delete_is_undone_from_its_message_and_a_second_press_changes_nothing(
    client: FlaskClient, connection: Connection
) -> None:
    contact = make_contact(connection)
    done = client.post("/contacts/delete", data={"id": contact.id})
    message = client.get(done.location)
    assert "Works for 10 minutes." in message.text
    assert "Undone. 1 contact restored, with all lists." in press_undo(client, message).text
    assert not contact.is_hidden
    client.post("/contacts/delete", data={"id": contact.id})
    assert "That can't be undone any more." in unescape(press_undo(client, message).text)
    assert contact.is_hidden


def test_the_story_tells_each_time_that_a_contact_was_deleted_here_and_restored(
    client: FlaskClient, connection: Connection
) -> None:
    contact = make_contact(connection)
    press_undo(client, client.get(client.post("/contacts/delete", data={"id": contact.id}).location))
    client.post("/contacts/delete", data={"id": contact.id})
    client.post("/contacts/selection", data={"id": contact.id, "do": "restore"})
    client.post("/contacts/delete", data={"id": contact.id})
    story = words_in(client.get(f"/contacts/{contact.id}")).partition("'s story")[2]
    deleted, restored = r"Deleted here [\d:]+ \. By you\.", r"Restored [\d:]+ \. By you, with all lists\."
    told = [match.group().split()[0] for match in re.finditer(f"{deleted}|{restored}", story)]
    assert told == ["Deleted", "Restored", "Deleted", "Restored", "Deleted"]


def test_what_is_deleted_for_good_offers_no_undo(client: FlaskClient, alice: User) -> None:
    done = client.post("/contacts/delete", data={"id": make_contact(alice).id})
    page = client.get(done.location)
    assert "1 contact deleted here." in page.text
    assert "Undo" not in page.text


def test_everyone_taken_off_a_list_is_put_back(client: FlaskClient, alice: User) -> None:
    letter, contacts = lists.create_list(alice.id, "Letter"), [make_contact(alice) for _ in range(60)]
    lists.add_members(letter, [each.id for each in contacts])
    form = {"which": "all", "list": letter.id, "to_list": letter.id, "do": "remove"}
    done = client.post("/contacts/selection", data=form)
    message = client.get(done.location)
    assert "60 contacts taken off “Letter”." in message.text
    assert "Undone. 60 contacts on “Letter” again." in press_undo(client, message).text


def test_what_was_deleted_here_is_restored(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection, hidden_at=utcnow())
    assert "Restore" in client.get("/contacts?state=hidden_here").text
    client.post("/contacts/selection", data={"id": contact.id, "do": "restore"})
    assert not contact.is_hidden


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "/admin"])
def test_the_way_back_stays_among_the_contacts(client: FlaskClient, alice: User, back: str) -> None:
    contact = make_contact(alice)
    assert client.post("/contacts/delete", data={"id": contact.id, "back": back}).location == "/contacts"


# ---- Why isn't this person here?


def ask(client: FlaskClient, person: str) -> str:
    response = client.get("/contacts/why", query_string={"person": person}, part=True)
    assert response.status_code == 200
    return words_in(response)


def test_the_page_lists_the_answers_and_keeps_the_question(client: FlaskClient, alice: User) -> None:
    page = client.get("/contacts/why")
    assert "Deleted here" in page.text
    page = client.get("/contacts/why", query_string={"person": '= "x"'})
    assert "neither a name, an email address" in page.text
    assert "= &#34;x&#34;" in page.text


@pytest.mark.parametrize("typed", [{"person": ""}, {"person": "   "}], ids=["nothing", "spaces"])
def test_asking_for_nothing_says_what_to_type(client: FlaskClient, alice: User, typed: dict[str, str]) -> None:
    for is_part in (True, False):
        answer = client.get("/contacts/why", query_string=typed, part=is_part)
        assert answer.status_code == 422
        assert "Type a name, an email address or a link." in answer.text
        assert answer.text.count("<main") == (0 if is_part else 1)


def test_why_by_id_from_our_tables_without_a_call(client: FlaskClient, connection: Connection) -> None:
    """Any call would fail: requests-mock answers nothing here."""
    alice = connection.user
    assert "Here Ewa Nowak is here" in ask(
        client, str(make_contact(connection, first_name="Ewa", last_name="Nowak").salesforce_id)
    )
    for columns, says in (
        ({"opted_out": True}, "Opted out"),
        ({"is_twin": True}, "Same address opted out"),
        ({"departed": "deleted"}, "Deleted"),
        ({"departed": "gone"}, "Not visible"),
        ({"hidden_at": utcnow()}, "Deleted here"),
    ):
        assert ask(client, str(make_contact(connection, **columns).salesforce_id)).startswith(says)
    for number, (outcome, says) in enumerate(
        ((LedgerOutcome.OPTED_OUT, "Opted out"), (LedgerOutcome.NO_EMAIL, "No email"))
    ):
        entry = LedgerEntry(
            connection_id=connection.id, salesforce_id=to_18(f"0035g00000LEDG{number}"), outcome=outcome
        )
        save(entry)
        answer = ask(client, entry.salesforce_id)
        assert answer.startswith(says)
        assert "Open in Salesforce" in answer  # where both are put right
    contact = make_contact(alice, email="t@calle.example", address_hash=hash_of(alice, "t@calle.example"))
    assert f"{contact.name} is here" in ask(client, "T@calle.example")


def test_why_by_the_address_of_a_contact_that_was_never_imported(client: FlaskClient, connection: Connection) -> None:
    hashed = hash_of(connection.user, "out@calle.example")
    save(
        LedgerEntry(
            connection_id=connection.id, salesforce_id=ELSEWHERE, outcome=LedgerOutcome.OPTED_OUT, address_hash=hashed
        )
    )
    assert "out@calle.example has opted out of email" in ask(client, "OUT@calle.example").replace("OUT", "out")


def test_why_of_a_merged_contact_leads_to_the_survivor(client: FlaskClient, connection: Connection) -> None:
    survivor = make_contact(connection, first_name="Ewa", last_name="Nowak")
    merged = make_contact(connection, departed="merged", merged_into=survivor.salesforce_id)
    assert "Go to the surviving contact, Ewa Nowak" in ask(client, str(merged.salesforce_id))


def departing(connection: Connection, state: DepartureState = DepartureState.HELD, **columns: object) -> Contact:
    """Make a contact that has left in Salesforce, and waits for a decision or was kept by one."""
    contact = make_contact(connection, **columns)
    save(
        Departure(
            connection_id=connection.id,
            salesforce_id=contact.salesforce_id,
            reason="deleted",
            state=state,
            found_in_run_id=1,
            was_read=False,
        )
    )
    return contact


def test_people_who_wait_for_a_decision_are_not_among_those_who_can_be_emailed(
    client: FlaskClient, connection: Connection
) -> None:
    lists.ensure_system_lists(connection.user_id)
    seminar = lists.create_list(connection.user_id, "Seminar")
    priya = departing(connection, first_name="Priya", last_name="Patel")
    departing(connection, first_name="Ravi", last_name="Rao")
    departing(connection, first_name="Opted", last_name="Out", opted_out=True)
    make_contact(connection, first_name="Zoe", last_name="Zwart")
    lists.add_members(seminar, [priya.id])
    panel = "/settings/integrations?open=salesforce"
    page = client.get("/contacts")
    waiting = "2 wait for your decision , and mailings leave them out until then"
    assert f"4 people. You can email 1 of them; {waiting}; 1 is inactive ." in words_in(page)
    assert f'<a href="{panel}">2 wait for your decision</a>' in page.text
    assert words_in(page).count("Held Waits for your decision") == 2
    one = words_in(client.get(f"/contacts?list={seminar.id}"))
    assert "You can email 0 of them; 1 waits for your decision , and mailings leave it out until then." in one
    assert rows_in(client.get("/contacts?state=held")) == ["Priya Patel", "Ravi Rao"]
    shown = client.get(f"/contacts/{priya.id}")
    assert "Held Waits for your decision. Mailings leave Priya Patel out until then." in words_in(shown)
    assert f'<a href="{panel}">Waits for your decision.</a>' in shown.text
    assert "You can email Priya Patel" not in words_in(shown)


def test_those_who_wait_are_left_out_also_while_the_account_needs_reconnecting(
    client: FlaskClient, connection: Connection
) -> None:
    departing(connection, DepartureState.DISCARDED)
    assert "1 person. You can email 1 of them." in words_in(client.get("/contacts"))
    connection.status = "needs_reconnect"
    for departure in db.session.query(Departure):
        departure.state = DepartureState.HELD
    db.session.commit()
    assert "You can email 0 of them; 1 waits for your decision" in words_in(client.get("/contacts"))


def test_why_of_a_held_contact(client: FlaskClient, connection: Connection) -> None:
    contact = departing(connection)
    answer = ask(client, str(contact.salesforce_id))
    assert answer.startswith("Held")
    assert "Open Integrations" in answer


def test_why_of_a_contact_that_the_advisor_kept(client: FlaskClient, connection: Connection) -> None:
    contact = departing(connection, DepartureState.DISCARDED, first_name="Priya", last_name="Patel")
    answer = ask(client, str(contact.salesforce_id))
    kept = "You decided to keep this contact, so it is active here and on its lists."
    assert answer.startswith(f"Kept Priya Patel is here by your decision Deleted in Salesforce. {kept}")
    departure = db.session.query(Departure).one()
    departure.reason, departure.owner_id, departure.owner_name = "reassigned", "005AMARA", "Amara Okafor"
    db.session.commit()
    assert f"Belongs to Amara Okafor in Salesforce now. {kept}" in ask(client, str(contact.salesforce_id))
    contact.opted_out = True
    db.session.commit()
    assert ask(client, str(contact.salesforce_id)).startswith("Opted out")


@pytest.mark.parametrize(
    ("back", "there"),
    [
        ("/leads", "/leads"),
        ("/contacts?state=hidden_here", "/contacts?state=hidden_here"),
        ("/settings/profile", "/contacts"),
        ("//evil.example/leads", "/contacts"),
    ],
)
def test_who_restores_stays_on_the_page(client: FlaskClient, connection: Connection, back: str, there: str) -> None:
    contact = make_contact(connection, hidden_at=utcnow())
    answer = client.post("/contacts/restore", data={"id": contact.id, "back": back})
    assert answer.location == there


def test_a_removed_contact_is_restored_from_its_verdict(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection, hidden_at=utcnow())
    page = client.get("/contacts/why", query_string={"person": contact.salesforce_id})
    assert ">Restore</button>" in page.text
    client.post("/contacts/restore", data={"id": contact.id})
    assert not contact.is_hidden


def sighting(**changes: Any) -> dict[str, Any]:
    return {
        "attributes": {"type": "Contact"},
        "Id": ELSEWHERE,
        "Email": "ewa@wisla.example",
        "HasOptedOutOfEmail": False,
        "OwnerId": to_18("0055g0000000Jon"),
        "Owner": {"attributes": {"type": "User"}, "Name": "Jonas Lindqvist"},
        "IsDeleted": False,
        "MasterRecordId": None,
    } | changes


def answering(*rows: dict[str, Any]) -> requests_mock.Mocker:
    mock = requests_mock.Mocker()
    answer = {"totalSize": len(rows), "done": True, "records": list(rows)}
    mock.get(re.compile(r"https://northgate\.my\.salesforce\.com/services/data/v[\d.]+/queryAll"), json=answer)
    return mock


def snapshot() -> dict[str, list[Any]]:
    return {
        table.name: sorted(map(repr, db.session.execute(table.select())))
        for table in (Contact.__table__, LedgerEntry.__table__, Departure.__table__, ContactList.__table__)
    }


def test_why_of_another_advisors_client_is_one_call_and_stores_nothing(
    client: FlaskClient, connection: Connection
) -> None:
    before = snapshot()
    with answering(sighting()) as salesforce:
        answer = ask(client, f"https://northgate.lightning.force.com/lightning/r/Contact/{ELSEWHERE}/view")
    assert "belongs to Jonas Lindqvist" in answer
    assert "Asked Salesforce" in answer
    assert salesforce.call_count == 1
    assert snapshot() == before


def test_why_of_a_reassigned_contact_names_the_new_owner(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(
        connection, first_name="Ewa", last_name="Nowak", departed="reassigned", salesforce_id=ELSEWHERE
    )
    with answering(sighting()):
        assert "Ewa Nowak belongs to Jonas Lindqvist" in ask(client, ELSEWHERE)
    assert contact.departed == "reassigned"


def test_why_by_the_link_of_a_person_account_answers_for_its_contact(
    client: FlaskClient, connection: Connection
) -> None:
    account_id = to_18("0015g00000AbCdE")
    link = f"https://northgate.lightning.force.com/lightning/r/Account/{account_id}/view"
    with answering(sighting()) as salesforce:
        assert "belongs to Jonas Lindqvist" in ask(client, link)
    first, second = (unquote_plus(each.url) for each in salesforce.request_history)
    assert f"AccountId = '{account_id}' AND IsPersonAccount = true" in first
    assert f"Id = '{ELSEWHERE}'" in second
    with answering():
        assert "doesn't lead to a contact" in unescape(ask(client, link))


def test_why_by_the_link_of_a_person_account_that_is_here(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection, first_name="Ewa", last_name="Nowak", salesforce_id=ELSEWHERE)
    with answering(sighting()) as salesforce:
        answer = ask(client, f"/lightning/r/Account/{to_18('0015g00000AbCdE')}/view")
    assert answer.startswith("Here Ewa Nowak is here")
    assert salesforce.call_count == 1
    assert contact.name in answer


def test_why_live_verdicts(client: FlaskClient, connection: Connection) -> None:
    mine = {"OwnerId": connection.salesforce_user_id}
    for row, says in (
        (sighting(**mine), "On its way"),
        (sighting(**mine, HasOptedOutOfEmail=True), "Opted out"),
        (sighting(**mine, Email=None), "No email"),
        (sighting(**mine, IsDeleted=True), "Deleted"),
        (sighting(**mine, IsDeleted=True, MasterRecordId=to_18("0035g00000MASTE")), "Merged"),
    ):
        with answering(row):
            assert ask(client, "ewa@wisla.example").startswith(says)
    with answering():
        assert ask(client, "ewa@wisla.example").startswith("Not visible")


def test_why_when_salesforce_gives_no_answer(client: FlaskClient, connection: Connection) -> None:
    error = [{"message": "down for ewa@wisla.example", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    with requests_mock.Mocker() as salesforce:
        salesforce.get(requests_mock.ANY, status_code=403, json=error)
        answer = ask(client, "ewa@wisla.example")
        assert answer.startswith("No answer")
        assert "used up its calls" in answer
        make_contact(connection, departed="reassigned", salesforce_id=ELSEWHERE, first_name="Ewa", last_name="Nowak")
        answer = ask(client, ELSEWHERE)
    assert "Ewa Nowak belongs to someone else" in answer
    assert "This is what we know here." in answer


def test_why_of_a_person_who_was_erased_says_when_and_only_to_their_advisor(client: FlaskClient, alice: User) -> None:
    lead = someone_signs_up(alice, "ewa@wisla.example")
    client.post(f"/leads/erase/{lead.contact_id}")
    answer = ask(client, "Ewa@Wisla.example")
    assert "Erased You erased Ewa@Wisla.example on request" in answer
    assert f"Erased {utcnow().day} {utcnow():%B %Y}" in answer
    log_in(client, make_advisor(alice.partner))
    assert "Erased" not in ask(client, "ewa@wisla.example")


def test_why_without_a_connection(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor())
    assert ask(client, "ewa@wisla.example").startswith("Not connected")
    answer = ask(client, "Nobody Atall")
    assert "No one here is called “Nobody Atall”" in answer
    assert "so we looked only here" in answer


def test_why_knows_nothing_of_other_advisors(client: FlaskClient, alice: User) -> None:
    bob = make_advisor(alice.partner, "Bob Ferreira")
    theirs = make_contact(make_synced_connection(bob), address_hash=hash_of(bob, "b@calle.example"))
    for person in (str(theirs.salesforce_id), "b@calle.example"):
        with answering():
            assert ask(client, person).startswith("Not visible")


def test_a_contacts_page_tells_its_story_with_links_to_receipts(client: FlaskClient, connection: Connection) -> None:
    first, second, third = (make_run(connection, status="complete", finished_at=utcnow()) for _ in range(3))
    contact = make_contact(connection, first_name="Ruth", created_in_run_id=first.id)
    letter = lists.create_list(connection.user_id, "Year-end review")
    lists.add_members(letter, [contact.id])
    renamed = {"old": {"last_name": "Abernathy-Cole"}, "new": {"last_name": "Abernathy"}}
    save(
        RunChange(run_id=second.id, contact_id=contact.id, kind="updated", **renamed),
        RunChange(run_id=second.id, contact_id=contact.id, kind="deactivated", reason="opted_out"),
        RunChange(run_id=third.id, contact_id=contact.id, kind="reactivated", reason="opted_out"),
    )
    page = client.get(f"/contacts/{contact.id}")
    story = words_in(page).partition("story")[2]
    for told in (
        "Arrived from Salesforce",
        "Put on “Year-end review”",
        "Last name: Abernathy-Cole Abernathy .",
        "Opted out of email in Salesforce",
        "Active again",
        "Opted in again in Salesforce.",
    ):
        assert told in story
    for run in (first, second, third):
        assert f'href="/settings/integrations/runs/{run.id}"' in page.text
    assert page.text.count('<li class="hush">') == page.text.count('<li class="yes">') == 1


def test_a_receipt_that_is_gone_is_not_linked(client: FlaskClient, connection: Connection) -> None:
    contact = make_contact(connection, created_in_run_id=4711)
    page = client.get(f"/contacts/{contact.id}").text
    assert "Arrived from Salesforce" in page
    assert "Receipt 4711" not in page


def test_the_page_shows_the_history_of_the_address(client: FlaskClient, alice: User) -> None:
    contact = make_contact(alice, email="ruth@river.example", address_hash=b"r" * 32)
    address = Address(alice.partner_id or 0, alice.id, b"r" * 32)
    then = utcnow() - timedelta(days=2)
    vault = org_access().vault
    record([Happened(address, SuppressionStep.BOUNCED, SuppressionSource.SENDER, then)])
    unsubscribing.unsubscribe(address, SuppressionSource.ONE_CLICK, whole_firm=True, vault=vault)
    page = client.get(f"/contacts/{contact.id}").text
    assert "Unsubscribed from your emails" in page
    assert "With the button of their mail program, for everyone at your firm" in page
    assert "Email to this address bounced for good" in page
    assert "Try this address again" in page


def test_a_bounced_address_is_tried_again_by_a_button_once_in_thirty_days(client: FlaskClient, alice: User) -> None:
    contact = make_contact(alice, email="ruth@river.example", address_hash=b"r" * 32)
    bounced = Happened(
        Address(alice.partner_id or 0, alice.id, b"r" * 32), SuppressionStep.BOUNCED, SuppressionSource.SENDER, utcnow()
    )
    record([bounced])
    client.post(f"/contacts/{contact.id}/try-again")
    page = client.get(f"/contacts/{contact.id}").text
    assert "The next email may go to this address again." in page
    assert "You can email" in page
    record([bounced._replace(at=utcnow())])
    page = client.get(f"/contacts/{contact.id}").text
    assert "Email to this address bounced" in page
    assert "Tried again" in page
    assert "/try-again" not in page
    client.post(f"/contacts/{contact.id}/try-again")
    assert "An address can be tried again once in 30 days." in client.get(f"/contacts/{contact.id}").text


@pytest.mark.parametrize("reason", [Reason.UNSUBSCRIBED, Reason.COMPLAINED, Reason.BOUNCED])
def test_suppressed_people_are_found_by_their_state(client: FlaskClient, alice: User, reason: Reason) -> None:
    make_contact(alice, last_name="Rivers", email="ruth@river.example", address_hash=b"r" * 32)
    make_contact(alice, last_name="Other", address_hash=b"o" * 32)
    address = Address(alice.partner_id or 0, alice.id, b"r" * 32)
    record([Happened(address, SuppressionStep(reason.value), SuppressionSource.SENDER, utcnow())])
    page = client.get(f"/contacts?state={reason}").text
    assert "Rivers" in page
    assert "Other" not in page
    assert reason.value in client.get("/contacts/export.csv").text
