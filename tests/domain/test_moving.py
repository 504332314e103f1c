"""Moving an advisor: people stay with the firm that they signed up with, and never reach another firm's Salesforce."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.accounts import advisors
from asapp.connections import connections, switching
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads import outbox, sign_up_page
from asapp.models import Connection, Contact, Lead, LeadState, Partner, PendingGrant, User
from asapp.partners import offboarding
from asapp.partners.board import make_board
from asapp.salesforce.oauth import Grant, Identity
from orgsim import Org, start
from orgsim.server import Running
from tests.connecting import CALLBACK, KEY, SECRET, ConnectingDesk, visit
from tests.factories import log_in, make_contact, make_partner, org_access
from tests.signing_up import PostOffice, someone_signs_up


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    return PostOffice(org)


@pytest.fixture
def fjord(app: Flask) -> Partner:
    return make_partner("Fjord Advisors", "https://fjord.my.salesforce.com")


def move(app: Flask, advisor: User, to: Partner, keep_contacts: bool = False) -> None:
    with writing():
        advisors.move(advisor, to, keep_contacts, org_access())
    db.session.expire_all()


def enqueued_deliveries() -> list[int]:
    """Return the connections for which a delivery would be enqueued now."""
    found: list[int] = []

    def enqueue(ids: object) -> bool:
        found.extend(ids)  # type: ignore[call-overload]
        return True

    with writing():
        outbox.enqueue_due(enqueue)
    return found


def test_a_lead_that_waits_goes_to_no_other_firms_salesforce(app: Flask, office: PostOffice) -> None:
    """The advisor connects the new firm's Salesforce at once; what signed up before never goes there."""
    someone_signs_up(office.advisor)
    other = Org(name="Fjord Advisors", seed=77)
    with start(other) as running:
        fjord = make_partner("Fjord Advisors", running.url, key=KEY, secret=SECRET)
        move(app, office.advisor, fjord)
        connect_at(app, other, running, fjord, office.advisor)
        there = connections.find_current(office.advisor)
        assert there
        assert enqueued_deliveries() == []
        office.connection = there
        office.deliver()
        assert other.leads() == []
        assert office.lead().state == LeadState.RECEIVED
        someone_signs_up(office.advisor, "new@fjord.example")
        assert enqueued_deliveries() == [there.id]
        office.deliver()
        assert [lead["Email"] for lead in other.leads()] == ["new@fjord.example"]
    assert office.org.leads() == []


def connect_at(app: Flask, org: Org, running: Running, partner: Partner, advisor: User) -> None:
    """Connect through Salesforce's pages and back."""
    desk = ConnectingDesk.__new__(ConnectingDesk)
    desk.org, desk.url, desk.partner, desk.advisor, desk.access = org, running.url, partner, advisor, org_access()
    org.register_app(KEY, SECRET, [CALLBACK])
    user = org.add_user(name="Alice There", username="alice@fjord.example")
    assert desk.finish(visit(desk.begin(), user)) == "connected"


def test_it_goes_out_when_the_advisor_is_back(app: Flask, office: PostOffice, fjord: Partner) -> None:
    firm = office.advisor.partner
    assert firm
    someone_signs_up(office.advisor)
    move(app, office.advisor, fjord)
    assert shown(office.advisor) == []
    move(app, office.advisor, firm)
    assert shown(office.advisor) == [None]
    tokens = office.org.issue_tokens(office.user, "office-key")
    grant = Grant(tokens["access_token"], tokens["refresh_token"], firm.salesforce_url, office.org.id, office.user, "")
    connections.put_grant(office.advisor, firm.id, grant, Identity("amara", "Amara", ""), org_access())
    db.session.commit()
    office.deliver()
    assert office.leads_there() == ["mei.chou@harbour.example"]


def shown(advisor: User) -> list[str | None]:
    """Why each contact that the advisor can see is inactive."""
    from asapp.contacts.queries import contacts_of

    query = contact_rows(reason_of(utcnow())).where(contacts_of(advisor.id)).order_by(Contact.id)
    return list(db.session.scalars(query))


@pytest.mark.parametrize(("keep", "left"), [(True, 3), (False, 2)], ids=["kept", "removed"])
def test_no_contact_of_the_old_firm_is_shown_or_active(
    keep: bool, left: int, app: Flask, office: PostOffice, fjord: Partner, client: FlaskClient
) -> None:
    firm, advisor = office.advisor.partner, office.advisor
    assert firm
    run_id = office.sync().id
    synced_id = make_contact(office.connection, first_name="Synced", last_name="Person").id
    by_hand = make_contact(advisor, first_name="Byhand", last_name="Person")
    lead = someone_signs_up(advisor)
    move(app, advisor, fjord, keep)
    log_in(client, advisor)
    pages_of_old = (
        "/contacts",
        "/leads",
        "/contacts/export.csv",
        "/leads/export.csv",
        "/settings/integrations?open=salesforce",
    )
    for path in pages_of_old:
        page = client.get(path).text
        assert "Mei-Ling" not in page, path
        assert "Synced" not in page, path
        assert office.connection.username not in page, path
    assert "Byhand" in client.get("/contacts").text
    assert client.get(f"/contacts/{lead.contact_id}").status_code == 404
    assert client.get(f"/contacts/{synced_id}").status_code == 404
    assert client.get(f"/leads/consent/{lead.contact_id}.csv").status_code == 404
    assert client.get(f"/settings/integrations/runs/{run_id}").status_code == 404
    assert client.post("/leads/retry", data={"lead": lead.public_id}).status_code == 404
    reasons = dict(db.session.execute(contact_rows(Contact.id, reason_of(utcnow()))).all())  # type: ignore[arg-type]
    assert len(reasons) == left
    assert {reasons[contact_id] for contact_id in reasons if contact_id != by_hand.id} == {"disconnected"}
    line = make_board(fjord, utcnow(), 15).lines[0]
    assert (line.waiting, line.active, line.pill[1]) == (0, 1, "Not connected")
    move(app, advisor, firm, keep)
    assert "Mei-Ling" in client.get("/leads").text or client.get("/leads").status_code == 302
    assert db.session.get_one(Contact, lead.contact_id).left_firm_id is None


def test_a_contact_by_hand_is_known_by_the_new_firms_key(app: Flask, office: PostOffice, fjord: Partner) -> None:
    """Otherwise an opt-out in the new firm's Salesforce would not be recognised."""
    vault = app.extensions["asapp.vault"]
    contact = make_contact(office.advisor, email="Zoe@fjord.example", address_hash=b"x" * 32)
    move(app, office.advisor, fjord)
    assert contact.address_hash == address_hash("zoe@fjord.example", address_key(db.session(), fjord, vault))


def test_the_sign_up_page_names_the_new_firm(app: Flask, office: PostOffice, fjord: Partner) -> None:
    old = office.advisor.partner
    assert old
    sign_up_page.ensure_page(office.advisor)
    text = sign_up_page.current_text(office.advisor.id)
    assert old.name in text.words
    move(app, office.advisor, fjord)
    now = sign_up_page.current_text(office.advisor.id)
    assert now.version == text.version + 1
    assert now.words == text.words.replace(old.name, fjord.name)
    assert old.name in text.words  # the earlier consent text stays as it was


def test_a_form_that_names_the_old_firm_is_asked_again(
    app: Flask, office: PostOffice, fjord: Partner, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asapp.web import optin

    page = sign_up_page.ensure_page(office.advisor)
    opened = optin.Token(page.slug, sign_up_page.current_text(page.user_id).id, "a form", utcnow().timestamp() - 60)
    with app.test_request_context():
        token = optin.write_token(opened)
    move(app, office.advisor, fjord)
    typed = {"first_name": "Mei", "last_name": "Chou", "email": "mei@chou.example", "consent": "yes"}
    answer = client.post(f"/o/{page.slug}", data={**typed, "csrf_token": token}, forged=True)  # type: ignore[call-arg]
    assert answer.status_code == 422
    assert fjord.name in answer.text
    assert "mei@chou.example" in answer.text
    assert db.session.scalars(select(Lead)).all() == []


# ---- A log-in at Salesforce that is under way during the move


@pytest.mark.parametrize("act", ["move", "deactivate", "disable"])
def test_a_log_in_that_comes_back_too_late_connects_no_one(
    act: str, app: Flask, org: Running, fjord: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advisor is moved between Salesforce's answer and our storing it: nothing is stored, the grant is given back."""
    desk = ConnectingDesk(org)
    from asapp.salesforce import oauth

    acts: dict[str, Callable[[], object]] = {
        "move": lambda: move(app, desk.advisor, fjord),
        "deactivate": lambda: advisors.deactivate(desk.advisor, desk.access),
        "disable": lambda: offboarding.disable(desk.partner, True, desk.access),
    }
    real = oauth.who_is

    def who_is(*args: object) -> Identity:
        found = real(*args)  # type: ignore[arg-type]
        acts[act]()
        return found

    monkeypatch.setattr(oauth, "who_is", who_is)
    assert desk.connect() == "setup_changed"
    assert db.session.scalars(select(Connection)).all() == []
    assert desk.approvals() == []


def test_a_grant_that_waits_for_a_decision_is_given_back(app: Flask, org: Running, fjord: Partner) -> None:
    desk = ConnectingDesk(org)
    desk.connect()
    assert desk.connect(desk.jonas) == "waits_for_switch"
    assert len(desk.approvals()) == 2
    move(app, desk.advisor, fjord)
    assert desk.approvals() == []
    assert db.session.scalars(select(PendingGrant)).all() == []


def test_a_grant_of_the_old_firm_is_not_switched_to(app: Flask, org: Running, fjord: Partner) -> None:
    """The move happened while the question was on the screen."""
    desk = ConnectingDesk(org)
    desk.connect()
    desk.connect(desk.jonas)
    waiting = switching.find_pending(desk.advisor)
    assert waiting
    desk.advisor.partner_id = fjord.id
    db.session.commit()
    with writing():
        assert switching.switch(desk.advisor, waiting, desk.access) is None
    assert db.session.scalars(select(PendingGrant)).all() == []
    assert [c.salesforce_user_id for c in db.session.scalars(select(Connection))] == [desk.amara]


def test_the_same_salesforce_user_under_another_firm_starts_full(app: Flask, org: Running) -> None:
    """Hashes are under each firm's own key, and what one firm's app brought is that firm's."""
    desk = ConnectingDesk(org)
    desk.connect()
    first = desk.connection()
    first.watermark = utcnow() - timedelta(days=1)
    db.session.commit()
    twin = make_partner("Twin", org.url, key=KEY, secret=SECRET)
    move(app, desk.advisor, twin, keep_contacts=True)
    desk.partner = twin
    desk.connect()
    second = desk.connection()
    assert second.id != first.id
    assert second.watermark is None
    assert second.partner_id == twin.id


def test_a_firm_that_is_deleted_takes_the_contacts_that_stayed_with_it(
    app: Flask, office: PostOffice, fjord: Partner
) -> None:
    firm = office.advisor.partner
    assert firm
    lead = someone_signs_up(office.advisor)
    contact_id = lead.contact_id
    make_contact(office.advisor, first_name="Byhand")
    move(app, office.advisor, fjord)
    offboarding.delete_partner(firm, org_access())
    db.session.expire_all()
    assert db.session.get(Contact, contact_id) is None
    assert [contact.first_name for contact in db.session.scalars(select(Contact))] == ["Byhand"]
    assert lead.is_erased


@pytest.mark.parametrize("what", ["deactivate", "move"])
def test_what_breaks_off_has_done_nothing(
    app: Flask, office: PostOffice, fjord: Partner, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a deactivated advisor stays connected, and is synced for ever."""

    def break_off(*_: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr(connections, "end_connection", break_off)
    advisor = office.advisor
    firm_id = advisor.partner_id
    ends = {
        "move": lambda: advisors.move(advisor, fjord, True, org_access()),
        "deactivate": lambda: advisors.deactivate(advisor, org_access()),
    }
    with pytest.raises(RuntimeError), writing():
        ends[what]()
    db.session.rollback()
    db.session.expire_all()
    assert (advisor.is_active, advisor.partner_id) == (True, firm_id)
    assert connections.find_current(advisor) is not None
