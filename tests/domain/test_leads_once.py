"""A lead reaches Salesforce once, even if settings change, a firm is disabled or the advisor is moved in between."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import event, select

from asapp.accounts import advisors
from asapp.connections import connections
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.leads import decisions, outbox, sign_up_page
from asapp.leads.form_fields import Typed
from asapp.leads.sign_up import FirmChanged, FormSeen, sign_up
from asapp.messages.leads import Shown, meaning_of
from asapp.models import Connection, Contact, Lead, LeadState, Partner, Reason, User
from asapp.models.partner import Partner as Firm
from asapp.salesforce.oauth import Grant, Identity
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.factories import make_connection, make_partner, org_access
from tests.signing_up import make_page, someone_signs_up
from tests.syncing import KEY

EMAIL = "mei.chou@harbour.example"


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def at_the_same_time(app: Flask, work: Callable[[], object]) -> None:
    """Run this as another process would, and wait for it."""
    failed: list[Exception] = []

    def go() -> None:
        with app.app_context(), writing():
            try:
                work()
            except Exception as error:  # noqa: BLE001 -- told below
                failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join(30)
    assert not failed


def lose_the_answer(office: FollowingOffice, deed: str = "reset_after") -> None:
    office.org.trouble.add(deed, method="POST", path="/composite/sobjects", times=1)
    office.deliver()
    assert office.lead().state == LeadState.SENDING


def pass_time(office: FollowingOffice) -> None:
    for _ in range(4):
        office.let_pass(400)
        office.deliver()


# ---- The settings of an attempt


def test_keeping_leads_from_now_on_says_nothing_about_one_that_was_given_away(office: FollowingOffice) -> None:
    office.give_leads_away()
    office.org.change_settings(lead_access="Private")
    someone_signs_up(office.advisor)
    lose_the_answer(office)
    office.connection.partner.keep_leads_with_advisor = True
    db.session.commit()

    pass_time(office)

    assert office.leads_there() == [EMAIL]
    assert (office.lead().state, office.lead().why) == (LeadState.PLEASE_CHECK, "out_of_sight")


def test_giving_leads_away_from_now_on_says_nothing_about_one_that_was_kept(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    lose_the_answer(office, "reset")
    office.give_leads_away()

    pass_time(office)

    assert office.lead().state == LeadState.SENT
    assert office.leads_there() == [EMAIL]


def test_an_attempt_from_before_this_was_kept_waits_for_a_check(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    lose_the_answer(office, "reset")
    office.lead().ran_assignment = None
    db.session.commit()

    pass_time(office)

    assert office.lead().state == LeadState.PLEASE_CHECK


def to_be_checked(office: FollowingOffice) -> None:
    office.give_leads_away()
    someone_signs_up(office.advisor)
    lose_the_answer(office, "reset")
    pass_time(office)
    assert office.lead().state == LeadState.PLEASE_CHECK


def test_the_advisors_word_holds_through_a_round_that_came_to_nothing(office: FollowingOffice) -> None:
    to_be_checked(office)
    decisions.send_after_all(office.lead())
    office.org.trouble.add("server_unavailable", soql="FROM Contact", times=3)
    office.deliver()
    assert office.lead().why == "server_unavailable"

    office.let_pass(60)
    office.deliver()

    assert office.lead().state == LeadState.SENT


def test_the_advisors_word_is_about_one_attempt(office: FollowingOffice) -> None:
    to_be_checked(office)
    decisions.send_after_all(office.lead())
    lose_the_answer(office, "reset")

    pass_time(office)

    assert office.lead().state == LeadState.PLEASE_CHECK
    assert office.leads_there() == []


@pytest.mark.parametrize("is_hidden", [True, False])
def test_where_kept_leads_leave_by_a_flow_a_lost_answer_waits_for_a_check(
    office: FollowingOffice, is_hidden: bool
) -> None:
    """Nothing in a create shows a flow; the leads before it do."""
    first = office.send()
    queue = office.org.add_queue("Web leads")
    office.org.give(first, queue)
    if is_hidden:
        office.org.change_settings(lead_access="Private")
    office.sync()
    someone_signs_up(office.advisor, "second@harbour.example")
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
    office.deliver()
    office.org.change_settings(lead_access="Private")
    office.org.give(next(lead["Id"] for lead in office.org.leads() if lead["Id"] != first), queue)

    pass_time(office)

    assert office.leads_there() == [EMAIL, "second@harbour.example"]
    assert office.lead("second@harbour.example").state == LeadState.PLEASE_CHECK


def test_a_create_has_ten_minutes_though_the_token_was_old(office: FollowingOffice) -> None:
    """The mark has the moment of the answer before; two minutes later the create was sent, and took ten."""
    someone_signs_up(office.advisor)
    lose_the_answer(office, "reset")

    office.let_pass(12 * 60)
    office.deliver()

    assert office.lead().state == LeadState.SENDING
    office.let_pass(2 * 60)
    office.deliver()
    assert office.lead().state == LeadState.SENT


# ---- Inactive connections and firms


def disconnect() -> None:
    connections.disconnect(db.session.scalars(select(Connection)).one(), True, org_access())


def deactivate() -> None:
    db.session.scalars(select(User)).one().deactivated_at = utcnow()
    db.session.commit()


def switch_off() -> None:
    db.session.scalars(select(Partner)).one().is_enabled = False
    db.session.commit()


def pause() -> None:
    db.session.scalars(select(Partner)).one().paused_until = utcnow().replace(year=2100)
    db.session.commit()


@pytest.mark.parametrize("turn_off", [disconnect, deactivate, switch_off, pause], ids=lambda deed: deed.__name__)
def test_nothing_more_goes_out_once_it_is_off(
    app: Flask, office: FollowingOffice, turn_off: Callable[[], None]
) -> None:
    """The revocation has not reached Salesforce, and the token is in memory."""
    for number in range(2):
        someone_signs_up(office.advisor, f"person{number}@harbour.example")
    office.org.trouble.add("server_unavailable", method="POST", path="/services/oauth2/revoke")

    def before_call(number: int) -> None:
        if number == 3:
            at_the_same_time(app, turn_off)

    office.deliver(before_call)

    assert office.org.leads() == []
    leads = db.session.scalars(select(Lead)).all()
    assert [(lead.state, lead.lease, lead.unanswered_at) for lead in leads] == [(LeadState.WAITING, None, None)] * 2
    assert not outbox.can_deliver(db.session(), office.connection.id)


# ---- A wrong set-up


def test_tokens_that_do_not_open_let_leads_wait_with_a_reason(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    office.connection.access_token_sealed = "v1:garbage"
    db.session.commit()

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.why, lead.lease) == (LeadState.WAITING, "key_missing", None)
    assert lead.next_attempt_at > utcnow()
    assert "AdvisorStream's team" in meaning_of(lead, Shown.WAITING, None)


def test_a_wrong_consumer_secret_lets_leads_wait_until_it_is_right(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.change_app(KEY, secret="another")
    office.org.expire_sessions()

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.why) == (LeadState.WAITING, "bad_secret")
    assert "Consumer Secret" in meaning_of(lead, Shown.WAITING, None)
    office.org.change_app(KEY, secret="office-secret")
    office.make_due()
    office.deliver()
    assert office.lead().state == LeadState.SENT


# ---- Signing up at an odd moment


class DistractedVault(Vault):
    """Runs something else once, while the address is being hashed."""

    def __init__(self, real: Vault, work: Callable[[], None]) -> None:
        self.__dict__.update(real.__dict__)
        self.work: Callable[[], None] | None = work

    def open(self, sealed: str, place: str) -> str:
        work, self.work = self.work, None
        if work:
            work()
        return super().open(sealed, place)


def test_a_person_who_signs_up_while_the_advisor_is_moved_is_asked_again(app: Flask, office: FollowingOffice) -> None:
    """They agreed to mail from an advisor of the firm before."""
    someone_signs_up(office.advisor, "first@harbour.example")  # this makes the firm's key
    fjord = make_partner("Fjord Advisors", "https://fjord.my.salesforce.com")
    user_id, firm_id = office.advisor.id, fjord.id

    def move() -> None:
        advisor, firm = db.session.get_one(User, user_id), db.session.get_one(Firm, firm_id)
        advisors.move(advisor, firm, True, org_access())

    page = sign_up_page.ensure_page(office.advisor)
    seen = FormSeen(sign_up_page.current_text(user_id).id, "form", "203.0.113.80")
    vault = DistractedVault(app.extensions["asapp.vault"], lambda: at_the_same_time(app, move))
    with writing(), pytest.raises(FirmChanged):
        sign_up(page, Typed("Mei-Ling", "Chou", EMAIL, True), seen, vault)

    db.session.rollback()
    assert db.session.scalars(select(Contact.email)).all() == ["first@harbour.example"]
    assert page.user.partner_id == firm_id


def test_a_person_who_is_erased_while_signing_up_again_is_a_new_person(app: Flask, office: FollowingOffice) -> None:
    """Just before the sign-up takes the lock. After that the erasure waits for it (tests/domain/test_lock_order.py)."""
    office.send()
    user_id, contact_id = office.advisor.id, db.session.scalars(select(Contact.id)).one()
    make_page(office.advisor)
    db.session.commit()
    erased = threading.Event()

    def erase(_session: object) -> None:
        if not erased.is_set():
            erased.set()
            at_the_same_time(app, lambda: decisions.erase(user_id, db.session.get_one(Contact, contact_id)))

    event.listen(db.session(), "after_commit", erase)
    lead = someone_signs_up(office.advisor)
    event.remove(db.session(), "after_commit", erase)

    assert (lead.state, lead.email) == (LeadState.RECEIVED, EMAIL)
    assert [state for (state,) in db.session.execute(select(Lead.state).order_by(Lead.id))] == ["erased", "received"]


# ---- After Switch


def switch(office: FollowingOffice) -> None:
    """Connect the colleague's user instead."""
    if office.connection.is_connected:
        connections.end_connection(office.connection, keep_contacts=True)
        db.session.commit()
    tokens = office.org.issue_tokens(office.colleague, KEY)
    office.connection = make_connection(
        office.advisor,
        org_id=office.org.id,
        salesforce_user_id=office.colleague,
        instance_url=office.connection.instance_url,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
    )


@pytest.mark.parametrize("is_switched_first", [True, False])
def test_who_signs_up_again_after_a_switch_goes_out_through_the_new_account(
    office: FollowingOffice, is_switched_first: bool
) -> None:
    office.send()
    if is_switched_first:
        switch(office)
        assert office.people() == [("lead", Reason.DISCONNECTED, True)]
        someone_signs_up(office.advisor)
    else:
        connections.end_connection(office.connection, keep_contacts=True)
        db.session.commit()
        someone_signs_up(office.advisor)
        switch(office)

    for _ in range(2):
        office.deliver()

    assert [lead["OwnerId"] for lead in office.org.leads()] == [office.user, office.colleague]
    assert (office.lead().state, office.lead().connection_id) == (LeadState.SENT, office.connection.id)
    assert office.people() == [("lead", None, True)]
    assert office.history() == ["opted_in", "opted_in"]


def test_a_person_who_became_a_contact_there_goes_out_again_as_well(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.org.convert_lead(lead_id)
    office.sync()
    switch(office)

    someone_signs_up(office.advisor)
    office.deliver()

    assert office.lead().connection_id == office.connection.id
    assert office.people() == [("salesforce", Reason.DISCONNECTED, True), ("lead", None, True)]


def test_a_person_who_opted_out_there_stays_inactive_and_the_advisor_sees_it(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.org.opt_out(lead_id)
    office.sync()
    switch(office)

    lead = someone_signs_up(office.advisor)
    office.deliver()

    assert office.people() == [("lead", Reason.OPTED_OUT, True)]
    assert lead.asked_again_at is not None
    assert len(office.org.leads()) == 1


def test_who_signs_up_again_while_disconnected_goes_out_once_when_the_same_account_is_back(
    office: FollowingOffice,
) -> None:
    office.send()
    office.connection.status = "disconnected"
    db.session.commit()
    someone_signs_up(office.advisor)
    office.connection.status = "connected"
    db.session.commit()

    office.deliver()

    assert len(office.org.leads()) == 1
    assert office.people() == [("lead", None, True)]


def test_who_signed_up_while_nothing_was_connected_is_enqueued_by_the_next_account(office: FollowingOffice) -> None:
    office.send()
    url = office.connection.instance_url
    connections.end_connection(office.connection, keep_contacts=True)
    db.session.commit()
    someone_signs_up(office.advisor)
    tokens = office.org.issue_tokens(office.colleague, KEY)
    grant = Grant(
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        instance_url=url,
        org_id=office.org.id,
        user_id=office.colleague,
        scopes="api refresh_token id",
    )
    access = org_access()
    who = Identity("jonas@northgate.example", "Jonas", "Northgate")
    connections.put_grant(office.advisor, office.advisor.partner_id or 0, grant, who, access)
    db.session.commit()
    assert outbox.enqueue_due(lambda _: True) == 1
