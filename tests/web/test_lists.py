"""The pages of an advisor's own lists."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.contacts import lists
from asapp.core.extensions import db
from asapp.models import ContactList, User
from tests.factories import log_in, make_advisor, make_contact


@pytest.fixture
def alice(app: Flask, client: FlaskClient) -> User:
    advisor = make_advisor()
    log_in(client, advisor)
    return advisor


def test_a_list_is_made_renamed_and_deleted(client: FlaskClient, alice: User) -> None:
    made = client.post("/contacts/lists/new", data={"name": "Letter"})
    assert made.status_code == 303
    letter = db.session.query(ContactList).one()
    assert "Letter" in client.get("/contacts").text
    assert "Delete this list" in client.get(f"/contacts/lists/{letter.id}").text
    renamed = client.post(f"/contacts/lists/{letter.id}", data={"name": "Review"})
    assert "<h1>Review</h1>" in client.get(renamed.location).text
    client.post(f"/contacts/lists/{letter.id}/delete")
    assert db.session.query(ContactList).count() == 0


def test_people_are_put_on_a_new_list_without_choosing_it(client: FlaskClient, alice: User) -> None:
    lists.create_list(alice.id, "A list from before")
    make_contact(alice, first_name="Ewa", last_name="Nowak")

    made = client.post("/contacts/lists/new", data={"name": "Letter"})

    letter = db.session.query(ContactList).filter_by(name="Letter").one()
    chosen = f'<option value="{letter.id}" selected>Letter</option>'
    assert chosen in client.get(made.location).text
    assert chosen in client.get(f"/contacts?q=nowak&to={letter.id}", part=True).text
    assert f'<input type="hidden" name="to" value="{letter.id}">' in client.get(made.location).text


@pytest.mark.parametrize("name", ["", "LETTER", "Salesforce Leads", "a;b"])
def test_an_invalid_name_is_explained_and_kept_in_the_form(client: FlaskClient, alice: User, name: str) -> None:
    lists.create_list(alice.id, "Letter")
    other = lists.create_list(alice.id, "Other")
    for path in ("/contacts/lists/new", f"/contacts/lists/{other.id}"):
        refused = client.post(path, data={"name": name})
        assert refused.status_code == 422
        assert 'id="name-error"' in refused.text
        assert f'value="{name}"' in refused.text or not name
    assert other.name == "Other"


def test_the_lists_that_the_sync_fills_have_no_form(client: FlaskClient, alice: User) -> None:
    lists.ensure_system_lists(alice.id)
    db.session.commit()
    for each in lists.lists_of(alice.id):
        assert client.get(f"/contacts/lists/{each.id}").status_code == 404
        assert client.post(f"/contacts/lists/{each.id}", data={"name": "Mine"}).status_code == 404
        assert client.post(f"/contacts/lists/{each.id}/delete").status_code == 404
        refused = client.post(
            "/contacts/selection", data={"id": make_contact(alice).id, "to_list": each.id, "do": "add"}
        )
        assert refused.status_code == 404
