"""The Salesforce panel: every state as a page and as a fragment, its buttons, and that it is for its own advisor only."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Contact, Departure, OAuthState, PendingGrant, RunChange, SyncRun, User
from tests.factories import (
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_run,
    make_synced_connection,
    make_twin,
    save,
)

PANEL = "/settings/integrations?open=salesforce"
PART = "/settings/integrations/salesforce"


@pytest.fixture
def alice(app: Flask, client: FlaskClient) -> User:
    made = make_advisor()
    log_in(client, made)
    return made


@pytest.fixture
def connection(alice: User) -> Connection:
    return make_synced_connection(alice, org_name="Northgate Wealth", next_sync_at=utcnow() + timedelta(minutes=40))


def said(page: str) -> str:
    """Return the text of the live region, without tags."""
    match = re.search(r'id="salesforce-said"[^>]*>(.*?)</p>', page, re.DOTALL)
    assert match
    return " ".join(re.sub(r"<[^>]+>", " ", match.group(1)).split())


def attribute(page: str, name: str, element: str = "salesforce") -> str | None:
    match = re.search(rf'<div[^>]*\sid="{element}"[^>]*\s{name}="([^"]*)"', page)
    return match.group(1) if match else None


def words_of(text: str) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", text).split()))


def has_button(page: str, label: str) -> bool:
    return re.search(rf"<button[^>]*>(<svg.*?</svg>|<span>)?{label}", page, re.DOTALL) is not None


def test_the_tile_unfolds_by_a_plain_link(client: FlaskClient, alice: User) -> None:
    folded = client.get("/settings/integrations").text
    assert 'aria-expanded="false"' in folded
    assert not has_button(folded, "Connect Account")
    assert 'href="/settings/integrations?open=salesforce"' in folded
    unfolded = client.get(PANEL).text
    assert 'aria-expanded="true"' in unfolded
    assert has_button(unfolded, "Connect Account")
    assert "Stuck on a Salesforce page?" in unfolded


def test_the_tile_unfolds_with_htmx(client: FlaskClient, alice: User) -> None:
    part = client.get(PANEL, part=True).text
    assert "<html" not in part
    assert 'id="salesforce-panel"' in part
    assert re.search(r'<a class="tile-head"[^>]*hx-swap-oob="true"', part)
    assert part.count('id="salesforce-state"') == 1


def test_going_back_in_history_gets_the_page(client: FlaskClient, alice: User) -> None:
    headers = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in client.get(PANEL, headers=headers).text


@pytest.mark.parametrize("writes_back", [False, True])
@pytest.mark.parametrize("brings_in", [False, True])
def test_before_connecting_an_advisor_reads_what_the_firm_has_us_read_and_write(
    client: FlaskClient, alice: User, writes_back: bool, brings_in: bool
) -> None:
    assert alice.partner
    alice.partner.writes_opt_outs_back, alice.partner.brings_in_open_leads = writes_back, brings_in
    db.session.commit()
    page = " ".join(re.sub(r"<[^>]+>", "", client.get(PANEL).text).split())
    assert ("the tick at Email Opt Out when one of your people unsubscribes" in page) is writes_back
    assert ("Never: change or delete a contact in Salesforce" in page) is not writes_back
    assert ("of the contacts you own, and of your open leads, name, email address" in page) is brings_in
    assert "Of list views and campaigns that you choose" in page


def test_a_firm_that_is_not_set_up_names_the_person_to_ask(client: FlaskClient) -> None:
    log_in(client, make_advisor(make_partner(secret="")))
    response = client.get("/settings/integrations")
    assert response.location.endswith("/settings")


def test_admins_have_no_integrations(client: FlaskClient) -> None:
    log_in(client, make_admin())
    for url in (
        "/settings/integrations",
        PART,
        "/settings/integrations/runs",
        "/salesforce/salesforce_as/login/callback/",
    ):
        assert client.get(url).status_code == 403


def test_just_connected(client: FlaskClient, alice: User) -> None:
    make_connection(alice, org_name="Northgate Wealth", display_name="Alice Moreau")
    page = client.get(PANEL).text
    assert said(page) == "Connected Nothing has been copied yet."
    assert "Is this you?" in page
    assert "alice<wbr>@northgate.example" in page
    assert "Northgate Wealth" in page
    assert has_button(page, "Sync Account")
    assert has_button(page, "Disconnect")
    assert not has_button(page, "Connect Account")
    assert attribute(page, "data-run") is None


def test_sync_starts_a_run_and_a_second_click_joins_it(client: FlaskClient, connection: Connection) -> None:
    response = client.post(f"{PART}/sync")
    assert response.status_code == 303
    assert response.location.endswith(PANEL)
    first = attribute(client.get(PANEL).text, "data-run")
    part = client.post(f"{PART}/sync", part=True).text
    assert attribute(part, "data-run") == first
    assert db.session.query(SyncRun).count() == 1


def test_without_redis_the_run_waits_and_the_panel_says_so(client: FlaskClient, connection: Connection) -> None:
    run = make_run(connection, "queued", enqueued_at=None)
    page = client.get(PANEL).text
    assert said(page).startswith("Waiting to start Your sync is saved and starts by itself")
    assert attribute(page, "data-state") == "queued"
    assert attribute(page, "data-run") == str(run.id)
    assert 'role="progressbar"' in page


def test_a_running_sync_shows_real_progress_and_asks_for_itself(client: FlaskClient, connection: Connection) -> None:
    run = make_run(
        connection,
        "running",
        phase="contacts",
        total=2500,
        read=1240,
        created=1200,
        skipped={"opted_out": 40},
        enqueued_at=utcnow(),
        started_at=utcnow(),
    )
    page = client.get(PANEL).text
    assert re.search(r'<progress[^>]*role="progressbar"[^>]*max="2500" value="1240"', page)
    assert "left out, opted out of email" in page
    assert attribute(page, "data-state") == "running"
    assert attribute(page, "hx-trigger", "salesforce-progress") == "every 2s"
    assert attribute(page, "hx-target", "salesforce-progress") == "this"
    assert 'name="reload-every"' in page
    assert has_button(page, "Cancel sync")
    assert has_button(page, "Sync Account")
    seen = attribute(page, "hx-get", "salesforce-progress")
    assert seen
    quiet = client.get(seen, part=True)
    assert quiet.text.lstrip().startswith('<div class="flow" id="salesforce-progress"')
    assert "salesforce-said" not in quiet.text  # a screen reader must not repeat itself every two seconds
    assert "HX-Retarget" not in quiet.headers
    run.status, run.finished_at = "complete", utcnow()
    save(run)
    answer = client.get(seen, part=True)
    assert answer.headers["HX-Retarget"] == "#salesforce"
    last = answer.text
    assert said(last).startswith("Sync complete 1,200 added.")
    assert attribute(last, "hx-trigger", "salesforce-progress") is None
    assert attribute(last, "data-state") == "complete"
    assert re.search(r'id="salesforce-state"[^>]*hx-swap-oob', last)


def test_the_part_without_htmx_leads_to_the_page(client: FlaskClient, connection: Connection) -> None:
    assert client.get(PART).location.endswith(PANEL)


def test_cancelling(client: FlaskClient, connection: Connection) -> None:
    make_run(connection, "queued")
    part = client.post(f"{PART}/cancel", part=True).text
    assert attribute(part, "data-state") == "cancelled"
    assert said(part).startswith("Sync cancelled")
    assert client.post(f"{PART}/cancel").status_code == 303  # there is nothing to cancel


def finished(connection: Connection, status: str = "complete", **columns: object) -> SyncRun:
    now = utcnow()
    given: dict[str, object] = {
        "phase": "balancing",
        "started_at": now - timedelta(seconds=3),
        "finished_at": now,
        "enqueued_at": now,
        "total": 57,
        "read": 57,
        "created": 12,
        "updated": 21,
        "unchanged": 16,
        "reactivated": 1,
        "deactivated": 4,
        "skipped": {"opted_out": 2, "no_email": 1},
        "also": {"reassigned": 1},
        "api_calls": 2,
    }
    return make_run(connection, status, **(given | columns))


def test_a_finished_sync_says_what_it_did_and_the_counts_add_up(client: FlaskClient, connection: Connection) -> None:
    finished(connection)
    page = client.get(PANEL).text
    assert said(page) == "Sync complete 12 added, 21 updated, 1 active again, 5 made inactive. See the receipt"
    table = page[page.index('<table class="sum">') : page.index("</table>")]
    figures = [int(n) for n in re.findall(r"<tr><th[^>]*>[^<]*</th><td>(\d+)</td>", table)]
    assert sum(figures) == 57
    assert "belonging to someone else now" in page
    assert "Found by checking" in page
    assert "In 40 minutes" in page
    assert "then every 15 minutes" in page


def test_a_failed_sync_says_why(client: FlaskClient, connection: Connection) -> None:
    finished(connection, "failed", error_code="no_answer")
    page = client.get(PANEL).text
    assert said(page).startswith("Sync failed Salesforce didn")
    assert attribute(page, "data-state") == "failed"
    assert "What is safe" in page
    assert has_button(page, "Sync Account")


def test_what_only_the_firms_admin_can_fix_comes_with_text_to_forward(
    client: FlaskClient, connection: Connection
) -> None:
    finished(connection, "failed", error_code="opt_out_hidden")
    page = client.get(PANEL).text
    assert "Waiting for your admin" in page
    assert said(page).startswith("Sync failed Your Salesforce user can")
    assert "Set Field-Level Security" in page
    assert "data-copy=" in page
    assert has_button(page, "Sync Account")


def hold(connection: Connection, number: int = 12) -> SyncRun:
    run = finished(connection, "held")
    for _ in range(number):
        contact = make_contact(connection)
        save(
            Departure(
                connection_id=connection.id,
                salesforce_id=contact.salesforce_id,
                reason="reassigned",
                state="held",
                found_in_run_id=run.id,
                was_read=False,
            )
        )
    return run


def test_a_held_proposal_waits_for_approve_or_discard(client: FlaskClient, connection: Connection) -> None:
    hold(connection)
    page = client.get(PANEL).text
    assert said(page).startswith("Sync held It would make 12 of your 12 contacts inactive: they have left you")
    assert attribute(page, "data-state") == "held"
    assert has_button(page, "Approve: switch off 12")
    assert has_button(page, "Discard: keep 12")
    assert client.get(f"{PART}/held.csv").text.count("\r\n") == 13


def test_the_decision_is_shown_by_new_owner(client: FlaskClient, connection: Connection) -> None:
    hold(connection, 9)
    jonas, priya, hidden = ("005JONAS", "Jonas Lindqvist"), ("005PRIYA", "Priya Raman"), ("005HIDDEN", "")
    whose = [jonas] * 4 + [priya] * 2 + [hidden] + [None] * 2
    for departure, owner in zip(db.session.query(Departure).all(), whose, strict=True):
        if owner is None:
            departure.reason = "gone"
        else:
            departure.owner_id, departure.owner_name = owner
    db.session.commit()
    page = client.get(PANEL).text
    groups = [words_of(each) for each in re.findall(r"<summary>(.*?)</summary>", page, re.DOTALL)]
    assert groups[:4] == [
        "Jonas Lindqvist owns them now In your firm's Salesforce 4",
        "No longer visible to you Deleted for good, or hidden from your user. Salesforce doesn't say which. 2",
        "Priya Raman owns them now In your firm's Salesforce 2",
        "Another user owns them now In your firm's Salesforce 1",
    ]
    assert page.count('data-label="On your lists"') == 3 + 2 + 2 + 1
    assert client.get(f"{PANEL}&all=1").text.count('data-label="On your lists"') == 9
    assert "4 belong to Jonas Lindqvist now, 2 are no longer visible to me, 2 belong to Priya Raman now" in page
    kept = words_of(client.post(f"{PART}/discard", part=True).text)
    assert "4 belong to Jonas Lindqvist now, 2 are no longer visible to you, 2 belong to Priya Raman now" in kept
    file = client.get(f"{PART}/held.csv").text
    assert file.count('"Jonas Lindqvist"') == 4


def test_small_groups_are_one(client: FlaskClient, connection: Connection) -> None:
    hold(connection, 8)
    for number, departure in enumerate(db.session.query(Departure).all()):
        departure.owner_id, departure.owner_name = f"005{number}", f"Owner {number}"
    db.session.commit()
    groups = [words_of(each) for each in re.findall(r"<summary>(.*?)</summary>", client.get(PANEL).text, re.DOTALL)]
    assert [group[-1] for group in groups[:6]] == ["1", "1", "1", "1", "1", "3"]
    assert groups[5].startswith("In smaller groups")


def test_a_decision_to_keep_can_be_changed(client: FlaskClient, connection: Connection) -> None:
    hold(connection)
    part = client.post(f"{PART}/discard", part=True).text
    assert not has_button(part, "Approve")
    assert db.session.query(Departure).filter_by(state="discarded").count() == 12
    assert said(client.get(PANEL).text).startswith("You kept 12 contacts Syncs go on as always.")
    assert "Before that: Sync held." in said(client.get(PANEL).text)
    assert "just now you kept 12 contacts that left you in Salesforce: 12 belong to another user now." in words_of(
        part
    ).replace("Just", "just")
    again = client.post(f"{PART}/reconsider", part=True).text
    assert has_button(again, "Approve: switch off 12")
    assert db.session.query(Departure).filter_by(state="held").count() == 12
    assert said(client.get(PANEL).text).startswith("Sync held")


def test_what_was_kept_is_shown_after_later_syncs_too(client: FlaskClient, connection: Connection) -> None:
    hold(connection)
    client.post(f"{PART}/discard")
    finished(connection)
    page = client.get(PANEL).text
    assert said(page).startswith("Sync complete")
    assert has_button(page, "Change this decision")


def test_approving_starts_a_run(client: FlaskClient, connection: Connection) -> None:
    hold(connection)
    assert client.post(f"{PART}/approve").status_code == 303
    run = db.session.query(SyncRun).order_by(SyncRun.id.desc()).first()
    assert run
    assert (run.trigger, run.is_active) == ("approval", True)


def proposal_in(page: str) -> str:
    """Return the key of the proposal that the page's two buttons send."""
    (key,) = set(re.findall(r'name="proposal" value="([0-9a-f]+)"', page))
    return key


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("discard", "approve", "You already kept these 12 contacts just now, so nothing was changed."),
        ("discard", "discard", "You already kept these 12 contacts just now, so nothing was changed."),
        (
            "approve",
            "discard",
            "You already approved switching off these 12 contacts just now, so nothing was changed.",
        ),
        (
            "approve",
            "approve",
            "You already approved switching off these 12 contacts just now, so nothing was changed.",
        ),
    ],
)
def test_the_second_decision_about_the_same_contacts_changes_nothing_and_says_why(
    client: FlaskClient, connection: Connection, first: str, second: str, words: str
) -> None:
    hold(connection)
    shown = {"proposal": proposal_in(client.get(PANEL).text)}
    client.post(f"{PART}/{first}", data=shown)
    runs = db.session.query(SyncRun).count()
    states = {each.state for each in db.session.query(Departure).all()}
    assert words in words_of(client.post(f"{PART}/{second}", data=shown, part=True).text)
    assert client.post(f"{PART}/{second}", data=shown).status_code == 303
    assert words in words_of(client.get(PANEL).text), "the page without htmx says it too"
    db.session.rollback()
    assert db.session.query(SyncRun).count() == runs
    assert {each.state for each in db.session.query(Departure).all()} == states


@pytest.mark.parametrize("decision", ["approve", "discard"])
def test_a_decision_about_another_set_than_the_page_showed_is_refused(
    client: FlaskClient, connection: Connection, decision: str
) -> None:
    hold(connection)
    before = {"proposal": proposal_in(client.get(PANEL).text)}
    assert db.session.query(Departure).filter_by(state="held").update({"found_in_run_id": hold(connection, 3).id})
    db.session.commit()
    part = client.post(f"{PART}/{decision}", data=before, part=True).text
    assert "what waits is no longer what that page showed. 15 contacts wait for your decision now." in words_of(part)
    db.session.rollback()
    assert {each.state for each in db.session.query(Departure).all()} == {"held"}
    assert db.session.query(SyncRun).filter_by(trigger="approval").count() == 0
    client.post(f"{PART}/{decision}", data={"proposal": proposal_in(part)})
    db.session.rollback()
    assert "held" not in {each.state for each in db.session.query(Departure).all()}


def test_a_firm_out_of_calls_is_paused(client: FlaskClient, connection: Connection) -> None:
    connection.partner.paused_until = utcnow() + timedelta(hours=2)
    connection.partner.org_calls_used, connection.partner.org_calls_allowed = 15_020, 15_000
    connection.partner.org_calls_seen_at = utcnow()
    save(connection.partner)
    finished(connection)
    page = client.get(PANEL).text
    assert said(page).startswith("Paused until about")
    assert "Sync complete" in said(page)
    assert has_button(page, "Sync Account")


def test_a_connection_that_needs_its_advisor(client: FlaskClient, alice: User) -> None:
    make_connection(
        alice,
        status="needs_reconnect",
        status_reason="permission_withdrawn",
        status_changed_at=utcnow() - timedelta(hours=3),
    )
    page = client.get(PANEL).text
    assert said(page).startswith("Needs reconnecting Salesforce no longer accepts")
    assert has_button(page, "Connect Account")
    elsewhere = client.get("/settings").text
    assert "Salesforce needs you" in elsewhere
    assert has_button(elsewhere, "Connect Account")


def test_there_is_no_banner_otherwise(client: FlaskClient, connection: Connection) -> None:
    page = client.get("/settings").text
    assert "Salesforce needs you" not in page
    assert "A sync was held" not in page
    assert "decision waits" not in page


@pytest.mark.parametrize("path", ["/contacts", "/leads", "/settings", "/settings/security", "/contacts/new"])
def test_a_held_sync_is_shown_on_every_page_and_in_the_menu(
    client: FlaskClient, connection: Connection, path: str
) -> None:
    hold(connection)
    page = client.get(path).text
    assert "<strong>12 contacts wait for your decision.</strong>" in page
    assert 'href="/settings/integrations?open=salesforce">Review 12</a>' in page
    assert re.search(r'Account Settings<span class="badge"[^>]*>1<span class="visually-hidden"> decision waits', page)


def test_the_panel_takes_the_decision_and_the_count_away(client: FlaskClient, connection: Connection) -> None:
    hold(connection)
    panel = client.get(PANEL).text
    assert panel.count("decision waits") == 2  # in both menus
    assert "A sync was held" not in panel  # the panel has a text of its own
    answer = client.post(f"{PART}/discard", headers={"HX-Request": "true"}).text
    assert '<span id="decisions" hx-swap-oob="true"></span>' in answer
    assert "decision waits" not in answer
    assert "A sync was held" not in client.get("/contacts").text


@pytest.mark.parametrize(("days", "words"), [(7, "7 days"), (1, "1 day")])
def test_the_panel_shows_how_long_contacts_out_of_sight_stay_active(
    client: FlaskClient, connection: Connection, days: int, words: str
) -> None:
    connection.partner.opt_outs_trusted_days = days
    hold(connection)
    says = f"Any that Salesforce no longer shows become inactive {words} after we last saw them"
    assert says in client.get(PANEL).text
    client.post(f"{PART}/discard")
    assert says in client.get(PANEL).text


@pytest.mark.parametrize(
    ("held", "words"),
    [(1, "it has left you; until you decide, it stays"), (3, "they have left you; until you decide, they stay")],
)
def test_the_banner_about_a_held_sync_is_short(
    client: FlaskClient, connection: Connection, held: int, words: str
) -> None:
    hold(connection, held)
    banner = words_of(client.get("/contacts").text.partition('aria-label="A sync was held"')[2].partition("</p>")[0])
    assert words in banner
    assert banner.count(".") == 2, "two sentences: the panel says the rest"


@pytest.mark.parametrize("reason", ["opted_out", "twin_opted_out"])
def test_who_is_inactive_already_waits_for_no_decision(
    client: FlaskClient, connection: Connection, reason: str
) -> None:
    hold(connection, 3)
    for contact in db.session.query(Contact).all():
        if reason == "opted_out":
            contact.opted_out = True
        else:
            make_twin(contact)
    db.session.commit()
    assert "A sync was held" not in client.get("/contacts").text
    assert attribute(client.get(PANEL).text, "data-state") == "held"  # the run's ending
    assert not has_button(client.get(PANEL).text, "Approve")


def test_where_the_admin_has_to_help_first_the_panel_says_that_a_decision_waits(
    client: FlaskClient, connection: Connection
) -> None:
    hold(connection)
    finished(connection, "failed", error_code="opt_out_hidden")
    page = client.get(PANEL).text
    assert "12 contacts that left you in Salesforce also wait for your decision." in page


def test_disconnecting_asks_without_the_focus_on_its_button(client: FlaskClient, connection: Connection) -> None:
    before = client.get(PANEL).text
    question = client.get(f"{PART}/disconnect", headers={"HX-Request": "true"}).text
    assert 'id="disconnect"' in before
    assert 'id="disconnect"' not in question  # htmx gives the focus to the element of the same id
    assert re.search(
        r"<fieldset[^>]* tabindex=\"-1\" autofocus>", question
    )  # not a choice: Enter on one would send the form
    assert 'aria-describedby="disconnect-means"' in question


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (None, "Our permission is revoked. Your Salesforce contact is kept here, inactive."),
        ("revoke_failed", "We could not reach Salesforce to revoke our permission."),
        ("contacts_removed", "Our permission is revoked. Your Salesforce contacts were removed from here."),
        (
            "removed_revoke_failed",
            "We could not reach Salesforce to revoke our permission. Your Salesforce contacts were removed from here.",
        ),
    ],
)
def test_disconnected(client: FlaskClient, alice: User, reason: str | None, words: str) -> None:
    gone = make_connection(alice, status="disconnected", status_reason=reason)
    if reason != "contacts_removed":
        make_contact(gone)
    page = client.get(PANEL).text
    assert words in said(page)
    assert has_button(page, "Connect Account")
    assert not has_button(page, "Sync Account")
    assert attribute(page, "data-run") is None


def test_the_failure_of_the_last_log_in_is_shown_until_the_next_one(client: FlaskClient, alice: User) -> None:
    tried(alice, "app_blocked", "OAUTH_APP_BLOCKED", "this app is blocked by admin")
    page = client.get("/settings/integrations").text
    assert said(page) == "Not connected Salesforce says that your admin has blocked this app."
    assert "“this app is blocked by admin”" in page
    assert "Setup › Connected Apps OAuth Usage" in page
    tried(alice, None)
    assert "Not connected" not in client.get(PANEL).text


def test_a_log_in_that_has_not_come_back_opens_the_help(client: FlaskClient, alice: User) -> None:
    assert '<details class="more" open>' not in client.get(PANEL).text
    tried(alice, None)
    assert '<details class="more" open>' in client.get(PANEL).text


def tried(advisor: User, outcome: str | None, detail: str | None = None, words: str | None = None) -> None:
    now = utcnow()
    save(
        OAuthState(
            state_sha256=f"{now.timestamp()}",
            user_id=advisor.id,
            partner_id=advisor.partner_id,
            app_version=1,
            salesforce_url="https://northgate.my.salesforce.com",
            redirect_uri="x",
            expires_at=now + timedelta(minutes=10),
            used_at=now if outcome else None,
            outcome=outcome,
            outcome_detail=detail,
            outcome_words=words,
        )
    )


def test_history_and_receipt(client: FlaskClient, connection: Connection) -> None:
    run = finished(connection)
    contact = make_contact(connection, last_name="Lindström", email="zoe.lindstrom@fjord.example")
    save(
        RunChange(run_id=run.id, contact_id=contact.id, kind="deactivated", reason="opted_out"),
        RunChange(
            run_id=run.id,
            contact_id=contact.id,
            kind="updated",
            old={"email": "=zoe@fjord.example"},
            new={"email": "zoe.lindstrom@fjord.example"},
        ),
    )
    assert f"/settings/integrations/runs/{run.id}" in client.get("/settings/integrations/runs").text
    page = client.get(f"/settings/integrations/runs/{run.id}").text
    assert "<del>=zoe@fjord.example</del> <ins>zoe.lindstrom@fjord.example</ins>" in page
    assert "Opted out of email in Salesforce" in page
    assert "3 seconds, 2 Salesforce calls" in page
    csv = client.get(f"/settings/integrations/runs/{run.id}.csv")
    assert csv.content_type == "text/csv; charset=utf-8"
    assert '"\'=zoe@fjord.example"' in csv.text


def test_a_receipt_lists_the_people_who_were_added_by_name_as_contacts_does(
    client: FlaskClient, connection: Connection
) -> None:
    run = finished(connection)
    for name in ("Zoe", "Älva", "Mia"):
        make_contact(connection, first_name=name, last_name="Berg", created_in_run_id=run.id)
    in_order = re.compile("Älva Berg.*Mia Berg.*Zoe Berg", re.DOTALL)
    assert in_order.search(client.get(f"/settings/integrations/runs/{run.id}").text)
    assert in_order.search(client.get("/contacts").text)


def test_the_syncs_that_changed_something_can_be_looked_at_alone(client: FlaskClient, connection: Connection) -> None:
    nothing = dict.fromkeys(("created", "updated", "reactivated", "deactivated"), 0)
    quiet, found = (finished(connection, **nothing, also=also) for also in ({}, {"gone": 1}))
    alone = client.get("/settings/integrations/runs?only=changes").text
    assert f"/runs/{found.id}" in alone
    assert f"/runs/{quiet.id}" not in alone
    assert f"/runs/{quiet.id}" in client.get("/settings/integrations/runs").text
    found.also = {}
    db.session.commit()
    assert "No sync has changed a contact yet." in client.get("/settings/integrations/runs?only=changes").text


def test_the_sync_that_the_panel_tells_of_is_not_among_the_earlier_ones(
    client: FlaskClient, connection: Connection
) -> None:
    earlier, last = finished(connection), finished(connection)
    receipt = "/settings/integrations/runs/{}"
    page = client.get(PANEL).text
    assert page.count(receipt.format(last.id)) == 1, "in the headline alone"
    assert receipt.format(earlier.id) in page[page.index("Earlier syncs") :]
    connection.partner.paused_until = utcnow() + timedelta(hours=1)
    db.session.commit()
    assert receipt.format(last.id) in client.get(PANEL).text, "the headline is about something else"


def test_the_panel_and_the_receipt_say_why_each_contact_became_inactive(
    client: FlaskClient, connection: Connection
) -> None:
    run = finished(connection)
    for reason in ("opted_out", "opted_out", "deleted", "merged"):
        save(RunChange(run_id=run.id, contact_id=make_contact(connection).id, kind="deactivated", reason=reason))
    for page in (client.get(PANEL).text, client.get(f"/settings/integrations/runs/{run.id}").text):
        table = words_of(page[page.index('<table class="sum">') : page.index("</table>")])
        parts = "opted out of email 2 2 belonging to someone else now 0 1 1 deleted in Salesforce 1 1"
        assert f"Made inactive 4 1 5 {parts} merged into another record 1 1" in table


def test_the_receipt_of_a_held_sync_says_what_was_decided_when_and_by_whom(
    client: FlaskClient, connection: Connection
) -> None:
    run = hold(connection)
    run.held = 12
    db.session.commit()

    def told(number: int = run.id) -> str:
        page = words_of(client.get(f"/settings/integrations/runs/{number}").text)
        return page[page.index("Held 12") : page.index("Read Nothing yet")]

    assert told().endswith("Decided Not yet. Decide ")
    client.post(f"{PART}/discard")
    client.post(f"{PART}/reconsider")
    client.post(f"{PART}/approve")
    approval = db.session.query(SyncRun).filter_by(trigger="approval").one()
    name = connection.user.name
    said_of_each = re.findall(r"(Decided|Then) [^:]+:\d\d UTC : (.*?) (?=Then|$)", told())
    assert said_of_each == [
        ("Decided", f"{name} kept 12 contacts"),
        ("Then", f"{name} took the decision back"),
        ("Then", f"{name} approved switching off 12 contacts, see receipt {approval.id}"),
    ]
    approval.status, approval.finished_at = "complete", utcnow()
    db.session.commit()
    later = hold(connection)
    later.held = 12
    db.session.commit()
    client.post(f"{PART}/discard")
    assert told().count("kept 12 contacts") == 1, "the decision about a later set is told there"
    assert told(later.id).count("contacts") == 2


def test_a_sync_that_left_nothing_to_decide_has_no_decision(client: FlaskClient, connection: Connection) -> None:
    run = finished(connection, "held", held=12)
    finished(connection)
    hold(connection)
    client.post(f"{PART}/discard")
    assert "Decided" not in client.get(f"/settings/integrations/runs/{run.id}").text


def test_the_receipt_of_a_held_sync_says_how_many_it_held(client: FlaskClient, connection: Connection) -> None:
    run = finished(connection, status="held", held=598)
    page = client.get(f"/settings/integrations/runs/{run.id}").text
    assert "598 contacts that had left you were left as they were, for you to decide" in page


def test_a_receipt_is_for_its_own_advisor_only(client: FlaskClient, alice: User) -> None:
    run = finished(make_synced_connection(make_advisor(alice.partner, name="Bob Tanaka")))
    assert client.get(f"/settings/integrations/runs/{run.id}").status_code == 404
    assert client.get(f"/settings/integrations/runs/{run.id}.csv").status_code == 404
    assert f"/runs/{run.id}" not in client.get("/settings/integrations/runs").text


def test_no_advisor_can_sync_or_decide_for_another(client: FlaskClient, alice: User) -> None:
    bobs = make_synced_connection(make_advisor(alice.partner, name="Bob Tanaka"))
    hold(bobs)
    for act in ("sync", "cancel", "approve", "discard", "disconnect", "switch", "keep"):
        client.post(f"{PART}/{act}")
    assert db.session.query(SyncRun).filter_by(status="queued").count() == 0
    assert db.session.query(Departure).filter_by(state="held").count() == 12
    assert bobs.is_connected


def test_a_second_user_waits_for_a_decision(client: FlaskClient, connection: Connection) -> None:
    save(
        PendingGrant(
            user_id=connection.user_id,
            partner_id=connection.partner_id,
            org_id="00D5g000004ABCDEAA",
            salesforce_user_id="0055g00000ABCDEAA1",
            username="barbara@elsewhere.example",
            instance_url="https://elsewhere.my.salesforce.com",
            access_token_sealed="x",
            refresh_token_sealed="x",
            expires_at=utcnow() + timedelta(minutes=15),
        )
    )
    assert "Choose which one to keep within 15 minutes, or nothing changes." in client.get(PANEL).text
    page = client.get(f"{PART}/switch").text.replace("<wbr>", "")
    assert has_button(page, "Switch to barbara@elsewhere.example")
    assert has_button(page, "Keep alice@northgate.example")
    assert client.post(f"{PART}/keep").status_code == 303
    assert db.session.query(PendingGrant).count() == 0
    assert client.get(f"{PART}/switch").status_code == 303  # nothing left to decide


def test_a_sync_from_an_open_page_does_not_begin_once_the_firm_is_switched_off(
    client: FlaskClient, connection: Connection
) -> None:
    connection.partner.is_enabled = False
    save(connection.partner)
    client.post(f"{PART}/sync")
    assert db.session.query(SyncRun).count() == 0


def test_a_sync_that_was_stopped_by_switching_the_firm_off_says_so(client: FlaskClient, connection: Connection) -> None:
    make_run(connection, "cancelled", error_code="firm_disabled")
    firm = connection.partner.name
    assert said(client.get(PANEL).text).startswith(f"Sync cancelled Salesforce was switched off for {firm} while it")


def test_a_quiet_check_shows_that_the_page_is_alive(client: FlaskClient, connection: Connection) -> None:
    run = finished(connection)
    assert "Last checked" not in client.get(PANEL).text
    connection.last_good_sync_at = run.finished_at + timedelta(minutes=15)
    save(connection)
    page = client.get(PANEL).text
    assert "Last checked" in page
    assert "nothing new in Salesforce" in page


def test_a_stretched_interval_is_told_with_its_reason(client: FlaskClient, connection: Connection) -> None:
    finished(connection)
    connection.partner.org_calls_allowed, connection.partner.api_share_percent = 400, 10
    save(connection.partner)
    page = client.get(PANEL).text
    assert "then every 56 minutes" in page
    assert "share of Salesforce calls lasts all day. Otherwise it would be every 15 minutes." in page
