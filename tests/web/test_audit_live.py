"""The audit log of acts at Salesforce: connecting, switching, a secret by setup link and by check."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.connections.connect import CallbackAnswer
from asapp.connections.tokens import StoredTokens
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.jobs import tasks
from asapp.models import Action, ActorKind, AuditEntry
from asapp.partners import setup_link
from asapp.partners.setup_link import Recipient
from asapp.salesforce.errors import SalesforceError
from orgsim.server import Running
from tests.connecting import CALLBACK, KEY, ConnectingDesk, visit
from tests.factories import log_in, make_admin

CALLBACK_PATH = urlsplit(CALLBACK).path
PANEL = "/settings/integrations/salesforce"
AT_THE_DESK, AT_HOME = {"REMOTE_ADDR": "192.0.2.41"}, {"REMOTE_ADDR": "198.51.100.7"}


@pytest.fixture
def desk(app: Flask, org: Running) -> ConnectingDesk:
    return ConnectingDesk(org)


def entries(*wanted: Action) -> list[AuditEntry]:
    """Return the entries of these actions, oldest first."""
    db.session.rollback()
    found = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    return [entry for entry in found if entry.action in wanted]


def who(entry: AuditEntry) -> tuple[str, int | None, str]:
    return entry.actor_kind, entry.actor_id, entry.identity.client_address if entry.identity else ""


def go(client: FlaskClient, salesforce_user: str, **how: str) -> None:
    """Press Connect, allow it at Salesforce, come back to the callback."""
    begun = client.post(f"{PANEL}/connect", data=how, part=True, environ_base=AT_THE_DESK)  # type: ignore[call-arg]
    answer: CallbackAnswer = visit(begun.headers["HX-Redirect"], salesforce_user)
    client.get(CALLBACK_PATH, query_string={"state": answer.state, "code": answer.code}, environ_base=AT_THE_DESK)


def test_connecting_switching_and_disconnecting(client: FlaskClient, desk: ConnectingDesk) -> None:
    log_in(client, desk.advisor)
    me = (ActorKind.PERSON, desk.advisor.id, AT_THE_DESK["REMOTE_ADDR"])
    go(client, desk.amara)
    first = desk.connection()
    go(client, desk.jonas, another="1")
    assert [entry.action for entry in entries(Action.CONNECTED, Action.SWITCHED)] == [Action.CONNECTED]
    client.post(f"{PANEL}/switch", environ_base=AT_THE_DESK)
    second = desk.connection()
    assert second.id != first.id
    client.post(f"{PANEL}/disconnect", data={"contacts": "remove"}, environ_base=AT_THE_DESK)
    found = entries(Action.CONNECTED, Action.SWITCHED, Action.DISCONNECTED)
    assert [(entry.action, entry.subject_id) for entry in found] == [
        (Action.CONNECTED, first.id),
        (Action.DISCONNECTED, first.id),
        (Action.SWITCHED, second.id),
        (Action.DISCONNECTED, second.id),
    ]
    assert [who(entry) for entry in found] == [me] * 4
    assert {entry.partner_id for entry in found} == {desk.partner.id}
    assert [entry.details for entry in found if entry.details] == [{"contacts_kept": True}, {"contacts_kept": False}]


def test_a_denied_log_in_is_no_act(client: FlaskClient, desk: ConnectingDesk) -> None:
    log_in(client, desk.advisor)
    begun = client.post(f"{PANEL}/connect", part=True)  # type: ignore[call-arg]
    answer = visit(begun.headers["HX-Redirect"], desk.amara, "cancel")
    client.get(CALLBACK_PATH, query_string={"state": answer.state, "error": answer.error})
    assert entries(Action.CONNECTED) == []


def test_a_permission_that_is_withdrawn_breaks_the_connection_by_itself(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    stale = desk.tokens_of(connection)[0]
    desk.org.revoke_approvals(desk.amara)
    tokens = StoredTokens(connection.id, desk.access)
    db.session.rollback()
    with pytest.raises(SalesforceError):
        tokens.refresh(stale)
    (broke,) = entries(Action.BROKE)
    assert who(broke) == (ActorKind.ITSELF, None, "")
    assert (broke.subject_type, broke.subject_id, broke.partner_id) == ("connections", connection.id, desk.partner.id)


def test_a_secret_by_setup_link_names_the_guest(client: FlaskClient, desk: ConnectingDesk) -> None:
    with writing():
        _, token = setup_link.make_link(desk.partner, Recipient("Sam", "sam@firm.example"), make_admin())
    desk.org.change_app(KEY, secret="handed-over")
    typed = {"url": desk.url, "key": KEY, "secret": "wrong-one"}
    path = f"/partner-setup/{token}/keys"
    assert client.post(path, data=typed, environ_base=AT_HOME).status_code == 422
    assert entries(Action.SECRET_REPLACED) == []
    assert client.post(path, data=typed | {"secret": "handed-over"}, environ_base=AT_HOME).status_code == 200
    (replaced,) = entries(Action.SECRET_REPLACED)
    assert who(replaced) == (ActorKind.LINK, None, AT_HOME["REMOTE_ADDR"])
    assert replaced.identity
    assert (replaced.identity.name, replaced.identity.email) == ("Sam", "sam@firm.example")
    assert replaced.details["consumer_secret"] == "changed"
    assert "handed-over" not in str(replaced.details)


def test_a_secret_that_a_job_activates_is_an_act_of_the_admin_who_entered_it(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    """An admin enters the secret and Salesforce refuses it; minutes later the tick's check sees it accepted."""
    ada = make_admin()
    log_in(client, ada)
    typed = {"name": desk.partner.name, "url": desk.url, "key": KEY, "secret": "rotated"}
    client.post(f"/admin/partners/{desk.partner.slug}", data=typed, environ_base=AT_HOME)
    assert entries(Action.SECRET_REPLACED) == []
    desk.org.change_app(KEY, secret="rotated")
    tasks.check_partner(desk.partner.id)
    (replaced,) = entries(Action.SECRET_REPLACED)
    assert who(replaced) == (ActorKind.PERSON, ada.id, AT_HOME["REMOTE_ADDR"])
    assert replaced.details == {"after": "Salesforce accepted it"}


def test_a_check_by_another_admin_does_not_change_whose_act_it_is(client: FlaskClient, desk: ConnectingDesk) -> None:
    ada, other = make_admin(), make_admin("Olga Admin")
    log_in(client, ada)
    typed = {"name": desk.partner.name, "url": desk.url, "key": KEY, "secret": "rotated"}
    client.post(f"/admin/partners/{desk.partner.slug}", data=typed, environ_base=AT_HOME)
    desk.org.change_app(KEY, secret="rotated")
    log_in(client, other)
    client.post(f"/admin/partners/{desk.partner.slug}/check")
    (replaced,) = entries(Action.SECRET_REPLACED)
    assert who(replaced) == (ActorKind.PERSON, ada.id, AT_HOME["REMOTE_ADDR"])
