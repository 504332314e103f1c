"""The page "Why isn't this person here?" against the simulated org: one verdict, one call, nothing stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from asapp.core.extensions import db
from asapp.models import ApiUsage, Contact, LedgerEntry
from orgsim import Running
from tests.factories import log_in
from tests.syncing import Office


@pytest.fixture
def office(app: Flask, org: Running, client: FlaskClient) -> Office:
    made = Office(org)
    log_in(client, made.advisor)
    return made


def calls_made() -> int:
    return db.session.scalar(select(func.sum(ApiUsage.calls))) or 0


def ask(client: FlaskClient, person: str) -> str:
    return client.get("/contacts/why", query_string={"person": person}, part=True).text


def merged(office: Office) -> str:
    loser = office.add(email="loser@fjord.example")
    office.org.merge(office.add(), [loser])
    return loser


def deleted(office: Office) -> str:
    contact_id = office.add(email="deleted@fjord.example")
    office.org.delete(contact_id)
    return contact_id


def purged(office: Office) -> str:
    contact_id = deleted(office)
    office.org.purge(contact_id)
    return contact_id


WHEREABOUTS: dict[str, Callable[[Office], str]] = {
    "On its way": lambda office: office.add(email="new@fjord.example"),
    "Opted out": lambda office: office.add(email="out@fjord.example", opted_out=True),
    "No email": lambda office: office.add(),
    "belongs to Jonas Lindqvist": lambda office: office.add(owner=office.colleague, email="his@fjord.example"),
    "Merged": merged,
    "Deleted": deleted,
    "Not visible": purged,
}


@pytest.mark.parametrize("says", WHEREABOUTS)
def test_each_whereabouts_has_its_verdict_for_one_call(client: FlaskClient, office: Office, says: str) -> None:
    assert says in ask(client, WHEREABOUTS[says](office))
    assert db.session.scalar(select(func.sum(ApiUsage.calls))) == 1
    assert not any(db.session.scalar(select(func.count()).select_from(table)) for table in (Contact, LedgerEntry))


def test_by_address_without_regard_to_case_and_with_odd_characters(client: FlaskClient, office: Office) -> None:
    office.add(owner=office.colleague, email="b.levy@expressl&t.net")
    office.add(owner=office.colleague, email="o'brien@fjord.example")
    assert "belongs to Jonas Lindqvist" in ask(client, "B.Levy@expressl&t.net")
    assert "belongs to Jonas Lindqvist" in ask(client, "o'brien@fjord.example")
    assert "Not visible" in ask(client, "nobody' OR Name LIKE '%@fjord.example".replace(" ", "+"))


def test_an_id_whose_case_a_spreadsheet_lost_is_asked_about_with_it(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(owner=office.colleague, email="his@fjord.example")
    for lost in (contact_id.lower(), contact_id.upper(), f" “{contact_id.lower()}”, "):
        assert "belongs to Jonas Lindqvist" in ask(client, lost)


def test_fifteen_characters_without_their_case_find_the_one_that_is_here(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(email="here@fjord.example")
    office.sync()
    assert "Here" in ask(client, contact_id[:15].lower())


def account_link(account_id: str) -> str:
    return f"https://northgate.lightning.force.com/lightning/r/Account/{account_id}/view"


def test_an_account_in_a_firm_without_person_accounts_is_no_question(client: FlaskClient, office: Office) -> None:
    answer = ask(client, account_link("001000000000001AAA"))
    assert "doesn&#39;t lead to a contact" in answer
    assert db.session.scalar(select(func.sum(ApiUsage.calls))) == 1


def test_an_expired_session_is_refreshed_and_the_answer_comes(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(owner=office.colleague, email="his@fjord.example")
    office.org.expire_sessions()
    assert "belongs to Jonas Lindqvist" in ask(client, contact_id)


def test_a_hidden_opt_out_field_is_no_verdict(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(email="new@fjord.example")
    office.org.hide_field("Contact", "HasOptedOutOfEmail")
    answer = ask(client, contact_id)
    assert "No answer" in answer
    assert "allowed to read" in answer


def test_nothing_is_asked_once_the_firm_is_switched_off(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(email="new@fjord.example")
    office.connection.partner.is_enabled = False
    office.save()
    mark = office.org.calls.mark()
    assert "connect" in ask(client, contact_id).lower()
    assert list(office.org.calls.since(mark)) == []


def test_a_lost_grant_says_to_connect_again(client: FlaskClient, office: Office) -> None:
    contact_id = office.add(email="new@fjord.example")
    office.org.revoke_approvals()
    assert "needs renewing" in ask(client, contact_id)


def test_by_name_one_verdict_or_a_choice_of_five_for_one_call(client: FlaskClient, office: Office) -> None:
    office.add(first_name="Tim", last_name="Fitzgerald", email="tim@fjord.example")
    office.sync()
    assert "Tim Fitzgerald is here" in ask(client, "fitzgerald tim")
    theirs = office.add(owner=office.colleague, first_name="Tim", last_name="Fitzgerald", email="t@fjord.example")
    calls = calls_made()
    answer = ask(client, "tim fitz")
    assert calls_made() == calls + 1
    assert "Who is it?" in answer
    assert "on your contacts page, tim@fjord.example" in answer.replace("<wbr>", "")
    assert f'href="/contacts/why?person={theirs}"' in answer
    assert "belongs to Jonas Lindqvist" in answer
    assert "Tim Fitzgerald belongs to Jonas Lindqvist" in ask(client, theirs)
    for _ in range(6):
        office.add(owner=office.colleague, first_name="Tim", last_name="Fitzgerald")
    many = ask(client, "tim fitz")
    assert many.count("<li>") == 5
    assert "There are more by that name." in many
    assert 'href="/contacts?q=tim' in many
    assert db.session.scalar(select(func.count()).select_from(Contact)) == 1


def test_a_person_who_was_asked_about_by_name_is_called_by_it(client: FlaskClient, office: Office) -> None:
    office.add(first_name="Nora", last_name="Nomail", email="")
    assert office.sync().is_complete
    assert "Nora Nomail has no email address in Salesforce" in ask(client, "nora nomail")


def test_an_unknown_name_is_not_found_and_its_letters_are_no_pattern(client: FlaskClient, office: Office) -> None:
    office.add(first_name="Tim", last_name="O'Brien", email="tim@fjord.example")
    assert "Neither here nor in your Salesforce is anyone called “Nobody Atall”" in ask(client, "Nobody Atall")
    assert "Neither here" in ask(client, "T%m")
    assert "Tim O&#39;Brien is yours and not here yet" in ask(client, "o'brien")
