"""The export as it leaves the server."""

from __future__ import annotations

import re

from flask import Flask
from flask.testing import FlaskClient

from tests.factories import log_in, make_contact, make_synced_connection


def test_the_export_is_a_csv_file_named_by_its_day(client: FlaskClient, app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, first_name="Zoë", last_name="Groß", email="z@fjord.example")
    log_in(client, connection.user)
    response = client.get("/contacts/export.csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="contacts-\d{4}-\d\d-\d\d\.csv"', response.headers["Content-Disposition"]
    )
    assert response.headers["Cache-Control"] == "no-store"
    assert not response.data.startswith(b"\xef\xbb\xbf")
    assert response.data.decode().splitlines() == [
        "salesforce_id,first_name,last_name,email,source,status,reason,lists",
        f'"{contact.salesforce_id}","Zoë","Groß","z@fjord.example","salesforce","active","","Salesforce Contacts"',
    ]


def test_it_demands_a_login(client: FlaskClient, app: Flask) -> None:
    response = client.get("/contacts/export.csv")
    assert response.status_code == 302
    assert "/login" in response.location
