"""Live checks against the simulated org: each can fail and pass, and none passes without having asked."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests_mock
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.messages.checks import TITLES, WORDS
from asapp.models import ApiUsage, Partner, PartnerCheck
from asapp.partners import checks, opt_out_field, partners
from asapp.partners.form_fields import PartnerForm
from asapp.salesforce import probe
from asapp.salesforce.probe import WITH_USER, WITHOUT_USER, asked_with_user
from orgsim import Answer
from orgsim.server import Running
from tests.connecting import CALLBACK, KEY, SECRET, ConnectingDesk

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def desk(app: Flask, org: Running) -> ConnectingDesk:
    return ConnectingDesk(org)


def run(desk: ConnectingDesk) -> dict[str, checks.SetupCheck]:
    with writing():
        found = checks.run_checks(desk.partner, desk.access)
    db.session.expire_all()
    return {check.code: check for check in found.checks}


def verdicts(desk: ConnectingDesk, *codes: str) -> list[str]:
    found = run(desk)
    return [str(found[code].verdict) for code in codes]


def test_everything_is_green_where_everything_is_right(desk: ConnectingDesk) -> None:
    desk.connect()
    found = run(desk)
    assert {code: str(check.verdict) for code, check in found.items()} == dict.fromkeys(
        (*WITHOUT_USER, *WITH_USER), "good"
    )


def test_checks_that_need_a_user_are_unknown_before_an_advisor_connects(desk: ConnectingDesk) -> None:
    found = run(desk)
    assert {code for code, check in found.items() if check.verdict == "unknown"} == set(WITH_USER)
    assert "Checked when the first one connects" in found["lead"].says
    assert {code for code, check in found.items() if check.is_good} == set(WITHOUT_USER)


def test_nothing_is_green_that_was_never_asked(desk: ConnectingDesk) -> None:
    assert not any(check.is_good for check in checks.checklist(desk.partner).checks)
    desk.partner.salesforce_url = "http://127.0.0.1:9"
    db.session.commit()
    found = run(desk)
    assert found["host"].is_bad
    assert {str(check.verdict) for code, check in found.items() if code != "host"} == {"unknown"}


def test_a_host_that_is_no_org(desk: ConnectingDesk) -> None:
    desk.org.trouble.add("html", kind="openid")
    found = run(desk)
    assert found["host"].is_bad
    assert "Setup › My Domain" in found["host"].path
    assert "not as a Salesforce org does" in found["host"].says


def test_a_host_that_has_moved(desk: ConnectingDesk) -> None:
    desk.org.trouble.add("redirect", kind="openid", location="https://new.my.salesforce.com/", status=301)
    assert run(desk)["host"].is_bad


@pytest.mark.parametrize("trouble", ["server_unavailable_html", "reset"])
def test_a_salesforce_that_does_not_answer_is_not_red(trouble: str, desk: ConnectingDesk) -> None:
    desk.org.trouble.add(trouble, kind="openid")
    assert set(verdicts(desk, "host", "secret")) == {"unknown"}


def test_an_unknown_key(desk: ConnectingDesk) -> None:
    desk.partner.seal(desk.access.vault, "consumer_key_sealed", "another-key")
    db.session.commit()
    found = run(desk)
    assert found["key"].is_bad
    assert "client identifier invalid" in found["key"].says
    first = "Not asked, since the Consumer Key has to be right first."
    assert {found[code].says for code in ("secret", "callback", "pkce")} == {first}


def test_a_wrong_secret(desk: ConnectingDesk) -> None:
    desk.partner.seal(desk.access.vault, "consumer_secret_sealed", "another-secret")
    db.session.commit()
    found = run(desk)
    assert found["key"].is_good
    assert found["secret"].is_bad
    assert "invalid client credentials" in found["secret"].says
    assert found["secret"].path.endswith("Consumer Key and Secret")


def test_a_secret_is_not_green_where_a_wrong_one_gets_the_same_answer(desk: ConnectingDesk) -> None:
    body = b'{"error":"invalid_grant","error_description":"invalid authorization code"}'
    desk.org.trouble.add(Answer(400, body, "application/json;charset=UTF-8", {}), kind="token")
    assert verdicts(desk, "secret") == ["unknown"]


def test_a_callback_that_is_not_registered(desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, callback_urls=[CALLBACK.rstrip("/")])
    found = run(desk)
    assert found["callback"].is_bad
    assert "slash at its end" in found["callback"].says
    assert found["pkce"].says == "Not asked, since the callback URL has to be right first."
    assert found["key"].is_good
    assert found["secret"].is_good


def test_an_endpoint_that_objects_to_nothing_proves_no_callback(desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, callback_urls=[CALLBACK, f"{CALLBACK}not-registered"])
    assert verdicts(desk, "callback") == ["unknown"]


def test_pkce_that_is_not_required_is_accepted_all_the_same(desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, require_pkce=False)
    found = run(desk)
    assert found["pkce"].is_good
    assert "not required" in found["pkce"].says


def test_pkce_that_is_refused(app: Flask) -> None:
    url = "https://northgate.my.salesforce.com"
    with requests_mock.Mocker() as salesforce:
        salesforce.get(
            f"{url}/.well-known/openid-configuration", json={"token_endpoint": f"{url}/services/oauth2/token"}
        )
        salesforce.get(
            f"{url}/services/oauth2/authorize",
            status_code=400,
            text="error=invalid_request&error_description=invalid%20code%20challenge",
        )
        salesforce.post(f"{url}/services/oauth2/token", status_code=503, text="<html>")
        found = {f.code: f for f in probe.check_app(probe.App(url, CALLBACK, "key", "secret"))}
    assert found["pkce"].is_good is False
    assert (found["callback"].is_good, found["callback"].why) == (None, "pkce_first")
    assert found["secret"].is_good is None


@pytest.mark.parametrize("changes", [{"installed": False}, {"installed": False, "external": False}])
def test_an_app_that_is_not_installed(changes: dict[str, bool], desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, **changes)
    found = run(desk)
    assert found["key"].is_bad
    assert "Install" in found["key"].path


def test_scopes_that_were_not_granted(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    connection.scopes = "id refresh_token"
    db.session.commit()
    found = run(desk)
    assert found["scopes"].is_bad
    assert found["scopes"].says == "Not granted: api."


def test_an_api_that_is_off(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.org.change_user(desk.amara, api_enabled=False)
    found = run(desk)
    assert found["api"].is_bad
    assert "API Enabled" in found["api"].path
    assert not found["opt_out"].is_good


def test_an_opt_out_field_that_is_hidden(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.org.hide_field("Contact", "HasOptedOutOfEmail")
    found = run(desk)
    assert found["opt_out"].is_bad
    assert found["opt_out"].path.startswith("Setup › Object Manager › Contact")
    desk.org.show_field("Contact", "HasOptedOutOfEmail")
    desk.org.hide_field("Lead", "HasOptedOutOfEmail")
    assert "Object Manager › Lead" in run(desk)["opt_out"].path


def test_a_field_of_the_firms_own_is_looked_at_with_email_opt_out_beside_it(desk: ConnectingDesk) -> None:
    own = "Do_Not_Email__c"
    desk.org.add_field("Contact", own)
    desk.partner.opt_out_field = own
    desk.connect()
    on_lead = run(desk)["opt_out"]
    assert (on_lead.is_bad, own in on_lead.path, "Email Opt Out" in on_lead.path) == (True, True, False)
    desk.org.add_field("Lead", own)
    assert "counts as well" in run(desk)["opt_out"].says
    desk.org.hide_field("Contact", "HasOptedOutOfEmail")
    hidden = run(desk)["opt_out"]
    assert (hidden.is_good, f"{own} alone counts" in hidden.says) == (True, True)


def test_an_opt_out_field_that_is_no_checkbox(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.partner.opt_out_field = "Email"
    db.session.commit()
    assert "Email is no checkbox" in run(desk)["opt_out"].says


def test_a_field_is_stored_as_salesforce_spells_it(desk: ConnectingDesk) -> None:
    desk.partner.opt_out_field = "hasoptedoutofemail"
    db.session.commit()
    desk.connect()
    assert run(desk)["opt_out"].is_good
    assert desk.partner.opt_out_field == "HasOptedOutOfEmail"


def test_a_field_that_an_admin_names_while_salesforce_is_asked_stays(
    desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.connect()
    desk.partner.opt_out_field = "hasoptedoutofemail"
    db.session.commit()
    partner_id, ask = desk.partner.id, probe.check_with_session

    def ask_slowly(*args: Any, **kwargs: Any) -> probe.UserFindings:
        answer = ask(*args, **kwargs)
        with writing(), Session(db.engine) as admin:
            admin.get_one(Partner, partner_id).opt_out_field = "Do_Not_Email__c"
            admin.commit()
        return answer

    monkeypatch.setattr(probe, "check_with_session", ask_slowly)
    run(desk)
    assert desk.partner.opt_out_field == "Do_Not_Email__c"


def test_a_field_that_is_no_checkbox_is_refused_when_it_can_be_known(desk: ConnectingDesk) -> None:
    with writing():
        assert opt_out_field.spelling_of_opt_out_fields(desk.partner, ["Phone"], desk.access) == ["Phone"]
    desk.connect()
    with writing(), pytest.raises(InvalidFields, match="opt_out_field"):
        opt_out_field.spelling_of_opt_out_fields(desk.partner, ["Phone"], desk.access)
    with writing():
        assert opt_out_field.spelling_of_opt_out_fields(desk.partner, ["hasoptedoutofEMAIL"], desk.access) == [
            "HasOptedOutOfEmail"
        ]
        assert opt_out_field.spelling_of_opt_out_fields(desk.partner, ["NoDoubt__c"], desk.access) == ["NoDoubt__c"]


def test_every_change_of_the_field_is_checked_and_counted(desk: ConnectingDesk) -> None:
    desk.connect()
    before = partners_calls(desk)
    with writing(), pytest.raises(InvalidFields) as refused:
        change_field(desk, "Phone")
    assert refused.value.errors["opt_out_field"].startswith("Phone is no checkbox in this org.")
    assert partners_calls(desk) == before + 1
    assert desk.partner.opt_out_field == "HasOptedOutOfEmail"
    with writing():
        change_field(desk, " hasoptedoutofEMAIL ")
    assert desk.partner.opt_out_field == "HasOptedOutOfEmail"


def test_salesforce_is_not_asked_about_a_form_that_wont_do(desk: ConnectingDesk) -> None:
    desk.connect()
    before = partners_calls(desk)
    with writing(), pytest.raises(InvalidFields) as refused:
        change_field(desk, "Phone", api_share="0")
    assert refused.value.errors == {"api_share": "Enter a whole number from 1 to 100."}
    assert partners_calls(desk) == before


def change_field(desk: ConnectingDesk, field: str, **more: str) -> None:
    app = {"url": desk.url, "key": KEY, "secret": SECRET}
    form = PartnerForm.entered(name=desk.partner.name, **app, opt_out_field=field, **more)
    partners.change_partner(desk.partner, form, desk.access)


def partners_calls(desk: ConnectingDesk) -> int:
    db.session.rollback()
    return db.session.scalar(select(func.sum(ApiUsage.calls)).where(ApiUsage.partner_id == desk.partner.id)) or 0


@pytest.mark.parametrize(
    ("right", "words"), [("read", "may not see leads"), ("create", "not create them")], ids=["read", "create"]
)
def test_leads_that_cannot_be_created(right: str, words: str, desk: ConnectingDesk) -> None:
    desk.connect()
    desk.org.deny_object("Lead", right)
    found = run(desk)
    assert found["lead"].is_bad
    assert words in found["lead"].says


def test_a_field_of_leads_that_is_locked(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.org.lock_field("Lead", "Company")
    assert "Company" in run(desk)["lead"].says


def field_of(name: str, **more: Any) -> dict[str, Any]:
    plain = {"createable": True, "nillable": True, "defaultedOnCreate": False, "type": "string"}
    return {"name": name, **plain, **more}


OURS = [field_of(name) for name in ("FirstName", "Email", "LeadSource")]
OURS += [field_of(name, nillable=False) for name in ("LastName", "Company")]


@pytest.mark.parametrize(
    ("more", "why", "detail"),
    [
        ([], "creatable", "LastName, Company"),
        ([field_of("Branch__c", nillable=False)], "fields_required", "Branch__c"),
        ([field_of("VIP__c", nillable=False, type="boolean")], "creatable", "LastName, Company"),
        ([field_of("Status", nillable=False, defaultedOnCreate=True)], "creatable", "LastName, Company"),
        (
            [field_of("LeadSource", restrictedPicklist=True, picklistValues=[{"value": "Web", "active": True}])],
            "source_restricted",
            "AdvisorStream",
        ),
    ],
)
def test_what_a_lead_requires(more: list[dict[str, Any]], why: str, detail: str) -> None:
    found = probe._judge_lead({"createable": True, "fields": [*OURS, *more]}, "AdvisorStream")
    assert (found.why, found.detail) == (why, detail)
    assert found.is_good == (why == "creatable")


def test_an_allowance_that_is_used_up(desk: ConnectingDesk) -> None:
    desk.connect()
    assert "calls of the last 24 hours are used" in run(desk)["allowance"].says
    desk.org.use_up_allowance()
    used_up = run(desk)["allowance"]
    assert (used_up.is_bad, used_up.is_waiting) == (False, True), "the admin can't fix it"
    assert used_up.says.startswith("The org has used up its calls of the last 24 hours. Syncs wait")


def test_our_own_questions_are_counted(desk: ConnectingDesk) -> None:
    desk.connect()
    mark = desk.org.calls.mark()
    run(desk)
    assert db.session.scalars(select(ApiUsage.calls)).one() == desk.org.calls.counted(mark)


def test_a_new_secret_takes_over_when_salesforce_accepts_it(desk: ConnectingDesk) -> None:
    run(desk)
    enter_secret(desk, "rotated")
    assert run(desk)["pending_secret"].is_bad
    assert desk.partner.unseal(desk.access.vault, "consumer_secret_sealed") == SECRET
    version = desk.partner.app_version
    desk.org.change_app(KEY, secret="rotated")
    found = run(desk)
    assert "pending_secret" not in found
    assert found["secret"].is_good
    assert desk.partner.unseal(desk.access.vault, "consumer_secret_sealed") == "rotated"
    assert desk.partner.pending_secret_sealed is None
    assert desk.partner.app_version == version + 1


def enter_secret(desk: ConnectingDesk, secret: str) -> None:
    form = PartnerForm.entered(name=desk.partner.name, url=desk.url, key=KEY, secret=secret)
    with writing():
        partners.change_partner(desk.partner, form, desk.access)


def test_a_secret_that_is_entered_while_another_takes_over_is_kept(desk: ConnectingDesk, app: Flask) -> None:
    """An admin's change is committed while the check waits for the firm's row."""
    vault, partner_id = app.extensions["asapp.vault"], desk.partner.id
    desk.partner.seal(vault, "pending_secret_sealed", "second")
    second = desk.partner.pending_secret_sealed
    db.session.commit()
    took_over = []

    def take_over() -> None:
        with app.app_context(), writing():
            took_over.append(checks._promote(partner_id, second, vault))
            db.session.remove()

    with writing(), Session(db.engine) as admin:
        admin.get_one(Partner, partner_id).seal(vault, "pending_secret_sealed", "third")
        admin.flush()
        thread = threading.Thread(target=take_over)
        thread.start()
        thread.join(0.3)
        admin.commit()
    thread.join(20)
    db.session.refresh(desk.partner)
    assert took_over == [False]
    assert desk.partner.unseal(vault, "pending_secret_sealed") == "third"
    assert desk.partner.unseal(vault, "consumer_secret_sealed") == SECRET


def test_a_firm_without_key_and_secret_has_no_checks(desk: ConnectingDesk) -> None:
    run(desk)
    desk.partner.consumer_secret_sealed = None
    db.session.commit()
    run(desk)
    assert db.session.scalars(select(PartnerCheck)).all() == []


def test_a_secret_that_does_not_open(desk: ConnectingDesk) -> None:
    desk.partner.consumer_secret_sealed = "v1.00000000.AAAA"
    db.session.commit()
    assert "can't be opened" in run(desk)["key"].says


def test_what_was_known_is_not_forgotten_while_salesforce_is_away(desk: ConnectingDesk) -> None:
    desk.connect()
    run(desk)
    desk.org.trouble.add("server_unavailable_html")
    found = run(desk)
    assert {code for code, check in found.items() if check.is_waiting} == {"host", "api"}
    assert all(check.is_good for code, check in found.items() if code not in ("host", "api"))


MOVED = {"location": "https://new.my.salesforce.com/", "status": 301}
GONE = Answer(404, b"<html>", "text/html", {})


@pytest.mark.parametrize(
    ("fault", "details", "says"),
    [
        ("server_unavailable_html", {}, "an error of its own (status 503)"),
        ("reset", {}, "did not answer in time"),
        ("redirect", MOVED, "has another address now"),
        (GONE, {}, "has no API there (status 404)"),
    ],
    ids=["503", "no answer", "redirect", "404"],
)
def test_an_api_that_does_not_answer_is_not_green_and_says_what_happened(
    fault: str | Answer, details: dict[str, Any], says: str, desk: ConnectingDesk
) -> None:
    desk.connect()
    assert run(desk)["api"].is_good
    desk.org.trouble.add(fault, kind="describe", **details)
    found = run(desk)
    assert says in found["api"].says
    assert found["api"].is_waiting
    assert found["opt_out"].is_good, "what Salesforce said before still holds"
    assert partners.list_partners()[0].is_away
    desk.org.trouble.clear()
    assert run(desk)["api"].is_good
    assert not partners.list_partners()[0].is_away


def test_a_red_host_stays_red_while_salesforce_is_away(desk: ConnectingDesk) -> None:
    desk.org.trouble.add("redirect", kind="openid", location="https://new.my.salesforce.com/", status=301)
    assert run(desk)["host"].is_bad
    desk.org.trouble.clear()
    desk.org.trouble.add("server_unavailable_html", kind="openid")
    assert run(desk)["host"].is_bad


def test_a_new_opt_out_field_is_not_green_for_the_one_before_it(desk: ConnectingDesk) -> None:
    desk.connect()
    assert run(desk)["opt_out"].is_good
    desk.org.trouble.add("server_unavailable_html")
    with writing():
        change_field(desk, "Do_Not_Email__c")
    assert not run(desk)["opt_out"].is_good


def test_what_was_green_of_another_org_is_not_green_of_the_present_one(desk: ConnectingDesk) -> None:
    desk.connect()
    assert run(desk)["opt_out"].is_good
    form = PartnerForm.entered(name=desk.partner.name, url="http://127.0.0.1:9", key=KEY, secret=SECRET)
    with writing():
        partners.change_partner(desk.partner, form, desk.access)
    assert not any(check.is_good for check in checks.checklist(desk.partner).checks)


def test_a_log_in_that_failed_teaches_something(desk: ConnectingDesk) -> None:
    with writing():
        checks.record_outcome(desk.partner.id, "app_blocked")
        checks.record_outcome(desk.partner.id, "denied")
    found = {check.code: check for check in checks.checklist(desk.partner).checks}
    assert found["key"].is_bad
    assert sum(check.is_bad for check in found.values()) == 1


def test_every_check_has_a_title_and_every_red_one_a_path(desk: ConnectingDesk) -> None:
    assert set(TITLES) == {*WITHOUT_USER, *asked_with_user(("A", "B", "C"), True), "pending_secret"}
    no_path = {"unreadable", "api_version_retired"}  # fixed on our own page
    good = {"known", "accepted", "registered", "required", "present", "answers", "creatable", "left", "writable"}
    good |= {"visible", "visible_both", "visible_alone", "related_visible", "persons_used", "persons_none"}
    unknown = {"same_answer", "no_objection", "not_listed", "token_busy"}
    missing = [
        pair
        for pair, words in WORDS.items()
        if pair[0] is not None and not words.path and pair[1] not in no_path | good | unknown
    ]
    assert missing == []


def let_salesforce_be_told(desk: ConnectingDesk) -> None:
    desk.partner.writes_opt_outs_back = True
    db.session.commit()


def test_whether_the_opt_out_may_be_set_is_asked_only_where_the_firm_wants_it(desk: ConnectingDesk) -> None:
    desk.connect()
    assert "opt_out_write" not in run(desk)
    let_salesforce_be_told(desk)
    assert checks.checklist(desk.partner).count("unknown") == 1
    assert run(desk)["opt_out_write"].is_good
    desk.partner.writes_opt_outs_back = False
    db.session.commit()
    assert "opt_out_write" not in {check.code for check in checks.checklist(desk.partner).checks}
    assert "opt_out_write" not in run(desk)


@pytest.mark.parametrize(
    ("about", "says"),
    [("Contact", "on Contact, but not set it"), ("Lead", "on Contact, but not on Lead")],
)
def test_a_field_that_can_be_seen_and_not_set_is_red(desk: ConnectingDesk, about: str, says: str) -> None:
    desk.connect()
    let_salesforce_be_told(desk)
    desk.org.lock_field(about, "HasOptedOutOfEmail")
    check = run(desk)["opt_out_write"]
    assert check.is_bad
    assert says in check.says
    assert f"Object Manager › {about} › Fields & Relationships › Email Opt Out" in check.path
    assert run(desk)["opt_out"].is_good
    desk.org.unlock_field(about, "HasOptedOutOfEmail")
    assert run(desk)["opt_out_write"].is_good


def test_records_that_may_not_be_edited_are_red(desk: ConnectingDesk) -> None:
    desk.connect()
    let_salesforce_be_told(desk)
    desk.org.deny_object("Lead", "edit")
    check = run(desk)["opt_out_write"]
    assert check.is_bad
    assert "may see Leads, but not edit them" in check.says
    desk.org.deny_object("Lead", "read")  # then no lead can be told of anyway
    assert run(desk)["opt_out_write"].is_good


def test_a_hidden_field_can_not_be_set_either(desk: ConnectingDesk) -> None:
    desk.connect()
    let_salesforce_be_told(desk)
    desk.org.hide_field("Contact", "HasOptedOutOfEmail")
    assert "can't see HasOptedOutOfEmail on Contact" in run(desk)["opt_out_write"].says


def test_what_needs_a_user_includes_setting_the_opt_out(desk: ConnectingDesk) -> None:
    let_salesforce_be_told(desk)
    assert "Checked when the first one connects" in run(desk)["opt_out_write"].says
