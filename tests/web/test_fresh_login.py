"""Secrets, keys and second steps change only when it is fresh who the person is; what was sent is held meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from asapp.core.extensions import db
from asapp.models import ApiKey, Partner, SetupLink, User
from asapp.web import fresh
from tests.factories import PASSWORD, app_code, log_in, make_admin, make_advisor, make_partner

KEY_FORM = {"label": "Mail engine", "reads": "1", "partner": "", "last_day": "", "has_settings": "1"}
NEW_SECRET = "A-new-secret-0123456789"


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    """Logged in 16 minutes ago."""
    ada = make_admin()
    log_in(client, ada, minutes_ago=16)
    return ada


@pytest.fixture
def northgate(app: Flask) -> Iterator[Partner]:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        yield make_partner()


def firm_form(partner: Partner, **changes: str) -> dict[str, str]:
    form = {"name": partner.name, "url": partner.salesforce_url, "key": "consumer-key", "secret": ""}
    return form | changes


def hidden_on(page: str) -> dict[str, str]:
    """Return the hidden fields of the page's first form."""
    form = page.partition("<form")[2].partition("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)"[^>]* value="([^"]*)"', form))


def confirm(client: FlaskClient, asked: TestResponse, **typed: str) -> TestResponse:
    """Fill the page that asks in, and go on as a browser does: 307 sends the same form there."""
    assert asked.status_code in (403, 422)
    form = hidden_on(asked.text) | typed
    answer = client.post("/login/confirm", data=form)
    return client.post(answer.location, data=form) if answer.status_code == 307 else answer


def keys() -> list[str]:
    db.session.rollback()
    return list(db.session.scalars(select(ApiKey.label)))


def test_within_15_minutes_nobody_asks(app: Flask, client: FlaskClient) -> None:
    log_in(client, make_admin(), minutes_ago=14)
    assert client.post("/admin/api-keys", data=KEY_FORM).status_code == 200
    assert keys() == ["Mail engine"]


@pytest.mark.parametrize("typed", ["code", "password"])
def test_a_key_is_made_once_it_is_known_who_asks(typed: str, client: FlaskClient, ada: User) -> None:
    asked = client.post("/admin/api-keys", data=KEY_FORM)
    assert "Confirm it" in asked.text
    assert "What you entered on the last page is kept." in asked.text
    assert keys() == []
    answer = confirm(client, asked, **{typed: app_code() if typed == "code" else PASSWORD})
    assert answer.status_code == 200
    assert "The key is ready" in answer.text
    assert keys() == ["Mail engine"]
    assert client.post("/admin/api-keys", data=KEY_FORM | {"label": "Another"}).status_code == 200


def test_a_wrong_password_changes_nothing_and_loses_nothing(client: FlaskClient, ada: User) -> None:
    asked = client.post("/admin/api-keys", data=KEY_FORM)
    again = confirm(client, asked, password="wrong")
    assert again.status_code == 422
    assert "That is not right. Nothing was changed." in again.text
    assert keys() == []
    assert "The key is ready" in confirm(client, again, password=PASSWORD).text


def test_ten_wrong_ones_and_one_waits(client: FlaskClient, ada: User) -> None:
    codes = [client.post("/login/confirm", data={"password": "wrong"}).status_code for _ in range(11)]
    assert codes == [422] * 10 + [429]
    assert client.post("/login/confirm", data={"password": PASSWORD}).status_code == 429


def test_a_form_that_will_not_do_says_so_after_the_confirmation(client: FlaskClient, ada: User) -> None:
    asked = client.post("/admin/api-keys", data=KEY_FORM | {"label": "", "last_day": "nonsense"})
    answer = confirm(client, asked, password=PASSWORD)
    assert answer.status_code == 422
    assert 'value="nonsense"' in answer.text


def test_revoking_a_key_asks_as_well(client: FlaskClient, app: Flask) -> None:
    ada = make_admin()
    log_in(client, ada)
    client.post("/admin/api-keys", data=KEY_FORM)
    key = db.session.scalars(select(ApiKey)).one()
    log_in(client, ada, minutes_ago=16)
    asked = client.post(f"/admin/api-keys/{key.public_id}/revoke")
    assert key.revoked_at is None
    assert confirm(client, asked, password=PASSWORD).status_code == 303
    assert key.revoked_at is not None


def test_a_secret_is_held_sealed_and_stored_after_the_confirmation(
    app: Flask, client: FlaskClient, ada: User, northgate: Partner
) -> None:
    path, vault = f"/admin/partners/{northgate.slug}", app.extensions["asapp.vault"]
    asked = client.post(path, data=firm_form(northgate, secret=NEW_SECRET))
    assert asked.status_code == 403
    assert NEW_SECRET not in asked.text
    assert northgate.pending_secret_sealed is None
    assert confirm(client, asked, code=app_code()).status_code == 303
    assert northgate.unseal(vault, "pending_secret_sealed") == NEW_SECRET


def test_a_new_firm_with_a_secret_asks(client: FlaskClient, ada: User, northgate: Partner) -> None:
    form = firm_form(northgate, name="Harbour Chou", secret=NEW_SECRET)
    asked = client.post("/admin/partners/new", data=form)
    assert asked.status_code == 403
    assert confirm(client, asked, password=PASSWORD).status_code == 303
    assert "Harbour Chou" in client.get("/admin/partners").text


@pytest.mark.parametrize("changes", [{"key": "another-key"}, {"url": "https://other.my.salesforce.com"}])
def test_another_key_or_address_asks_too(
    changes: dict[str, str], client: FlaskClient, ada: User, northgate: Partner
) -> None:
    assert client.post(f"/admin/partners/{northgate.slug}", data=firm_form(northgate, **changes)).status_code == 403


@pytest.mark.parametrize(
    "changes", [{"name": "Northgate & Co"}, {"show": "1", "url": "https://other.my.salesforce.com"}]
)
def test_what_is_no_secret_is_changed_without_a_question(
    changes: dict[str, str], client: FlaskClient, ada: User, northgate: Partner
) -> None:
    answer = client.post(f"/admin/partners/{northgate.slug}", data=firm_form(northgate, **changes))
    assert answer.status_code in (200, 303)


def test_a_setup_link_asks(client: FlaskClient, ada: User, northgate: Partner) -> None:
    form = {"admin_name": "Sam", "admin_email": "sam@firm.example"}
    asked = client.post(f"/admin/partners/{northgate.slug}/setup-link", data=form)
    assert db.session.scalars(select(SetupLink)).all() == []
    assert "/partner-setup/" in confirm(client, asked, password=PASSWORD).text


def test_disabling_asks_where_it_revokes_permissions(client: FlaskClient, ada: User, northgate: Partner) -> None:
    path = f"/admin/partners/{northgate.slug}/disable"
    asked = client.post(path, data={"tokens": "revoke"})
    assert asked.status_code == 403
    assert northgate.is_enabled
    assert client.post(path, data={"tokens": "keep"}).status_code == 303
    assert not northgate.is_enabled
    client.post(f"/admin/partners/{northgate.slug}/enable")
    assert confirm(client, asked, password=PASSWORD).status_code == 303
    assert not northgate.is_enabled


def test_a_firm_that_is_not_there_is_not_found(client: FlaskClient, ada: User) -> None:
    assert client.post("/admin/partners/nothing", data={"secret": "x"}).status_code == 404


def test_advisors_are_refused_before_they_are_asked(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor(), minutes_ago=16)
    answer = client.post("/admin/api-keys", data=KEY_FORM)
    assert answer.status_code == 403
    assert "This page is for AdvisorStream admins" in answer.text


class TestHeldForms:
    """A form that was held is for one person, one address, and a quarter of an hour."""

    @pytest.fixture
    def held(self, client: FlaskClient, ada: User) -> str:
        return hidden_on(client.post("/admin/api-keys", data=KEY_FORM).text)["held"]

    def send(self, client: FlaskClient, held: str, path: str = "/admin/api-keys") -> TestResponse:
        return client.post(path, data={"held": held})

    def test_it_is_taken_by_its_address(self, client: FlaskClient, ada: User, held: str) -> None:
        log_in(client, ada)
        assert "The key is ready" in self.send(client, held).text

    def test_another_person_has_no_use_for_it(self, client: FlaskClient, held: str) -> None:
        log_in(client, make_admin("Eve Sand"))
        assert self.send(client, held).status_code == 422
        assert keys() == []

    def test_another_address_does_not_take_it(self, client: FlaskClient, ada: User, held: str) -> None:
        log_in(client, ada)
        assert self.send(client, held, "/admin/partners/new").status_code == 422
        assert keys() == []

    def test_it_ends(self, client: FlaskClient, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fresh.login_session, "FRESH_FOR", -fresh.login_session.FRESH_FOR)
        held = hidden_on(client.post("/admin/api-keys", data=KEY_FORM).text)["held"]
        monkeypatch.undo()
        log_in(client, ada)
        assert self.send(client, held).status_code == 422
        assert keys() == []

    def test_it_cant_be_altered(self, client: FlaskClient, ada: User, held: str) -> None:
        log_in(client, ada)
        for bad in (held[:-2], f"{held[:-2]}AA", "v1.x.y", "\0", "é"):
            assert self.send(client, bad).status_code == 422
        assert keys() == []

    def test_it_does_not_confirm_anything(self, client: FlaskClient, held: str) -> None:
        assert self.send(client, held).status_code == 403
        assert keys() == []


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_the_confirmation_leads_nowhere_else(target: str, client: FlaskClient, ada: User) -> None:
    assert target not in client.get("/login/confirm", query_string={"next": target}).text
    answer = client.post("/login/confirm", data={"next": target, "password": PASSWORD, "held": "x"})
    assert answer.location == "/admin/partners"


def test_who_is_fresh_already_goes_on(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_admin())
    assert client.get("/login/confirm?next=/admin/audit").location == "/admin/audit"


def test_htmx_is_led_to_the_page(client: FlaskClient, ada: User) -> None:
    names: dict[str, Any] = {"HX-Current-URL": "http://127.0.0.1:5000/admin/api-keys?x=1"}
    answer = client.post("/admin/api-keys", data=KEY_FORM, part=True, headers=names)
    assert (answer.status_code, answer.text) == (401, "")
    assert answer.headers["HX-Redirect"] == "/login/confirm?next=/admin/api-keys?x%3D1"
