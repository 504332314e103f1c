"""The page on which admins create, list and revoke API keys, and the commands that do the same."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, ApiKey, AuditEntry, Partner, Scope, User
from tests.factories import log_in, make_admin, make_advisor, make_partner
from tests.senders import Sender, make_key, problem_of

FORM = {"label": "Mail engine", "reads": "1", "partner": "", "last_day": "", "has_settings": "1"}


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    ada = make_admin()
    log_in(client, ada)
    return ada


@pytest.fixture
def northgate(app: Flask) -> Partner:
    return make_partner()


def key_on(page: str) -> str:
    found = re.search(r'value="(asapp_[A-Za-z0-9_-]{43})"', page)
    assert found, page
    return found[1]


def the_key() -> ApiKey:
    db.session.rollback()
    return db.session.scalars(select(ApiKey)).one()


def entries() -> list[AuditEntry]:
    db.session.rollback()
    return list(db.session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def test_a_key_is_made_shown_once_and_works(client: FlaskClient, ada: User, northgate: Partner) -> None:
    form = FORM | {"writes": "1", "partner": northgate.slug, "last_day": "2999-12-30"}
    made = client.post("/admin/api-keys", data=form)
    assert made.status_code == 200
    assert made.headers["Cache-Control"] == "no-store"
    key = key_on(made.text)
    row = the_key()
    assert row.scope_set == set(Scope)
    assert (row.label, row.partner_id, row.created_by_id) == ("Mail engine", northgate.id, ada.id)
    assert f"{row.expires_at:%Y-%m-%d %H:%M}" == "2999-12-31 00:00"
    page = client.get("/admin/api-keys").text
    assert key not in page
    assert f"asapp_…{key[-4:]}" in page
    assert "Mail engine" in page
    assert northgate.name in page
    assert "Never" in page
    assert Sender(client, key).get("/advisors").status_code == 200
    assert "Just now" in client.get("/admin/api-keys").text


def test_what_was_done_is_in_the_audit_log_without_the_key(client: FlaskClient, ada: User, northgate: Partner) -> None:
    key = key_on(client.post("/admin/api-keys", data=FORM | {"partner": northgate.slug}).text)
    client.post(f"/admin/api-keys/{the_key().public_id}/revoke")
    made, revoked = entries()
    assert (made.action, made.actor_id, made.partner_id) == (Action.API_KEY_MADE, ada.id, northgate.id)
    assert made.details == {"ends_with": key[-4:], "scopes": "audience:read"}
    assert (revoked.action, revoked.details) == (Action.API_KEY_REVOKED, {"ends_with": key[-4:]})
    page = client.get("/admin/audit?what=secrets").text
    assert "Made an API key" in page
    assert "Revoked an API key" in page
    assert key not in page


def test_a_key_is_revoked_at_once_and_once(client: FlaskClient, ada: User) -> None:
    make_advisor(make_partner())
    key = key_on(client.post("/admin/api-keys", data=FORM).text)
    public_id = the_key().public_id
    response = client.post(f"/admin/api-keys/{public_id}/revoke")
    assert response.status_code == 303
    assert response.location == "/admin/api-keys"
    page = client.get("/admin/api-keys").text
    assert "Revoked" in page
    assert f"/{public_id}/revoke" not in page
    assert problem_of(Sender(client, key).get("/advisors")) == "not-authenticated"
    revoked_at = the_key().revoked_at
    client.post(f"/admin/api-keys/{public_id}/revoke")
    assert the_key().revoked_at == revoked_at
    assert len(entries()) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": " "}, "Enter a label"),
        ({"label": "x" * 81}, "Use 80 characters or fewer"),
        ({"reads": None}, "Choose what the key may do."),
        ({"partner": "nobodys"}, "There is no such firm"),
        ({"last_day": "tomorrow"}, "Enter a day such as"),
        ({"last_day": "2020-01-01"}, "This day is over"),
        ({"last_day": "9999-12-31"}, "Enter a year from 2000"),
        ({"last_day": "0001-01-01"}, "Enter a year from 2000"),
    ],
)
def test_invalid_key_input_is_explained_beside_its_field_and_nothing_is_lost(
    changes: dict[str, Any], words: str, client: FlaskClient, ada: User, northgate: Partner
) -> None:
    typed = FORM | {"label": "Night mailer", "writes": None, "partner": northgate.slug, "last_day": "2999-01-02"}
    form = {name: value for name, value in (typed | changes).items() if value is not None}
    response = client.post("/admin/api-keys", data=form)
    assert response.status_code == 422
    assert words in response.text
    assert db.session.scalars(select(ApiKey)).all() == []
    for name in {"label", "last_day"} - set(changes):
        assert f'value="{form[name]}"' in response.text
    if "partner" not in changes:
        assert f'<option value="{northgate.slug}" selected>' in response.text
    if "reads" not in changes:
        assert 'name="reads" value="1" checked' in response.text


def test_a_key_that_expired_says_so(client: FlaskClient, ada: User) -> None:
    make_key(expires_at=utcnow() + timedelta(hours=1))
    assert "In use" in client.get("/admin/api-keys").text
    the_key().expires_at = utcnow() - timedelta(hours=1)
    db.session.commit()
    page = client.get("/admin/api-keys").text
    assert "Expired" in page
    assert "In use" not in page


def test_a_key_that_is_not_there(client: FlaskClient, ada: User) -> None:
    assert client.post("/admin/api-keys/nothing/revoke").status_code == 404


def test_the_page_is_in_the_navigation_of_admins_alone(client: FlaskClient, ada: User) -> None:
    assert '<a href="/admin/api-keys" aria-current="page">API keys</a>' in client.get("/admin/api-keys").text
    log_in(client, make_advisor(make_partner()))
    assert client.get("/admin/api-keys").status_code == 403
    assert "/admin/api-keys" not in client.get("/contacts").text


# ---- By command


def run(app: Flask, *arguments: str) -> Result:
    db.session.rollback()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["api-keys", *arguments])
    db.session.expire_all()
    return result


def test_the_command_prints_the_key_as_the_only_line(app: Flask, client: FlaskClient, northgate: Partner) -> None:
    make_advisor(northgate)
    both = ("--scope", "audience:read", "--scope", "events:write")
    result = run(app, "create", "Mail engine", *both, "--partner", northgate.slug)
    assert result.exit_code == 0
    assert re.fullmatch(r"asapp_[A-Za-z0-9_-]{43}\n", result.stdout)
    assert result.stdout.strip() not in result.stderr
    row = the_key()
    assert (row.scope_set, row.partner_id, row.expires_at) == (set(Scope), northgate.id, None)
    assert Sender(client, result.stdout.strip()).get("/advisors").status_code == 200
    assert [entry.actor_kind for entry in entries()] == ["command"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "Mail engine", "--scope", "audience:read", "--partner", "nobodys"), "no partner 'nobodys'"),
        (("create", " ", "--scope", "audience:read"), "Enter a label"),
        (("create", "Mail engine", "--scope", "audience:read", "--last-day", "soon"), "Enter a day such as"),
        (("create", "Mail engine", "--scope", "audience:read", "--last-day", "2020-01-01"), "This day is over"),
        (("create", "Mail engine"), "--scope"),
        (("create", "Mail engine", "--scope", "everything"), "everything"),
        (("revoke", "nothing"), "no key 'nothing'"),
    ],
)
def test_what_the_command_refuses(arguments: tuple[str, ...], words: str, app: Flask, northgate: Partner) -> None:
    result = run(app, *arguments)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert words in result.stderr
    assert db.session.scalars(select(ApiKey)).all() == []


def test_keys_are_listed_and_revoked_by_command(app: Flask, client: FlaskClient, northgate: Partner) -> None:
    make_advisor(northgate)
    key = run(app, "create", "Mail engine", "--scope", "audience:read").stdout.strip()
    listed = run(app, "list").stdout
    public_id = the_key().public_id
    assert listed == f"{public_id}  …{key[-4:]}  Mail engine  (audience:read; every firm; in use; never used)\n"
    assert run(app, "revoke", public_id).exit_code == 0
    assert "revoked" in run(app, "list").stdout
    assert problem_of(Sender(client, key).get("/advisors")) == "not-authenticated"
