"""The firm board: states, figures, the filter, the file, and its cost in queries."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from asapp.alerts import alerts
from asapp.core.clock import utcnow
from asapp.core.csv_files import FORMULA_STARTS
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.messages.alerts import ON_THE_BOARD
from asapp.models import (
    AlertKind,
    ApiUsage,
    Connection,
    Contact,
    Departure,
    DepartureState,
    OptOutWrite,
    Partner,
    RunStatus,
    Suppression,
    User,
    WriteBackState,
)
from asapp.partners.board import make_board
from tests.factories import (
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_run,
    make_synced_connection,
    save,
)
from tests.signing_up import someone_signs_up


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    made = make_admin()
    log_in(client, made)
    return made


@pytest.fixture
def firm(app: Flask) -> Partner:
    return make_partner()


def state_of(firm: Partner, advisor: User) -> tuple[str, bool]:
    line = next(line for line in make_board(firm, utcnow(), 15).lines if line.user.id == advisor.id)
    return line.pill[1], line.needs_attention


def text_of(page: str) -> str:
    """Return what a page says, on one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def days_ago(days: float) -> Any:
    return utcnow() - timedelta(days=days)


@pytest.mark.parametrize(
    ("columns", "words", "needs_attention"),
    [
        ({}, "Connected", False),
        ({"status": "disconnected"}, "Disconnected", False),
        ({"status": "needs_reconnect"}, "Needs reconnecting", True),
        ({"failures_in_a_row": 1}, "Failed once", True),
        ({"failures_in_a_row": 3}, "Failed 3 times", True),
        ({"opt_outs_known_until": days_ago(1)}, "Opt-outs not known", True),
        ({"opt_outs_known_until": None}, "Opt-outs not known", True),
        ({"first_synced_at": None, "opt_outs_known_until": None}, "Connected, not synced yet", False),
    ],
)
def test_states_of_a_connection(columns: dict[str, Any], words: str, needs_attention: bool, firm: Partner) -> None:
    alice = make_advisor(firm)
    make_synced_connection(alice, **columns)
    assert state_of(firm, alice) == (words, needs_attention)


def test_other_states(firm: Partner) -> None:
    fred, dora, syncing, held = (make_advisor(firm, name) for name in ("Fred", "Dora", "Sina", "Hal"))
    dora.deactivated_at = utcnow()
    make_run(make_synced_connection(syncing), RunStatus.RUNNING)
    connection = make_synced_connection(held)
    make_held(connection)
    assert state_of(firm, fred) == ("Not connected", False)
    assert state_of(firm, dora) == ("Deactivated", False)
    assert state_of(firm, syncing) == ("Syncing", False)
    assert state_of(firm, held) == ("Held", True)
    connected = make_advisor(firm, "Pia")
    make_synced_connection(connected)
    firm.paused_until = utcnow() + timedelta(hours=1)
    db.session.commit()
    assert state_of(firm, connected) == ("Paused", True)
    assert state_of(firm, held) == ("Held", True)


def test_a_firm_that_is_not_set_up_any_more(firm: Partner) -> None:
    alice = make_advisor(firm)
    make_synced_connection(alice, status="needs_reconnect")
    firm.is_enabled = False
    db.session.commit()
    assert state_of(firm, alice) == ("Firm not set up", False)


def test_a_sync_that_only_the_firms_admin_can_make_work(firm: Partner) -> None:
    connection = make_synced_connection(make_advisor(firm), status_changed_at=days_ago(2))
    make_run(connection, RunStatus.FAILED, error_code="field_hidden", finished_at=days_ago(1))
    assert state_of(firm, connection.user) == ("Waiting for the firm's admin", True)
    connection.status_changed_at = days_ago(0.5)  # connected again since
    db.session.commit()
    assert state_of(firm, connection.user) == ("Connected", False)


def make_held(connection: Connection, **columns: Any) -> Contact:
    """Make a contact of the connection whose departure is held."""
    run, contact = make_run(connection, RunStatus.HELD), make_contact(connection, **columns)
    save(
        Departure(
            connection_id=connection.id, salesforce_id=contact.salesforce_id, reason="deleted", state=DepartureState.HELD,
            found_in_run_id=run.id, was_read=True,
        )
    )  # fmt: skip
    return contact


@pytest.mark.parametrize("column", [{"opted_out": True}, {"hidden_at": utcnow()}, {"departed": "deleted"}])
def test_an_advisor_with_nothing_to_approve_is_not_held(firm: Partner, column: dict[str, Any]) -> None:
    connection = make_synced_connection(make_advisor(firm))
    make_held(connection, **column)
    assert state_of(firm, connection.user) == ("Connected", False)
    make_held(connection)
    assert state_of(firm, connection.user) == ("Held", True)


def test_an_advisor_who_came_back_is_listed_once(firm: Partner, ada: User, client: FlaskClient) -> None:
    alice = make_advisor(firm)
    make_connection(alice, status="disconnected")
    make_connection(alice, status="disconnected")
    make_synced_connection(alice)
    page = client.get(f"/admin/board?firm={firm.slug}").text
    assert page.count(alice.name) == 1
    assert "1 of 1 advisor" in page


def test_figures_of_an_advisor(firm: Partner, ada: User, client: FlaskClient) -> None:
    alice = make_advisor(firm)
    connection = make_synced_connection(
        alice,
        last_good_sync_at=days_ago(9),
        token_used_at=days_ago(20.5),
        next_sync_at=utcnow() + timedelta(minutes=40),
    )
    for column in ({}, {}, {"hidden_at": utcnow()}, {"departed": "deleted"}, {"opted_out": True}):
        make_contact(connection, **column)
    make_contact(alice)
    someone_signs_up(alice)
    page = re.sub(r"<[^>]+>|\s+", " ", client.get(f"/admin/board?firm={firm.slug}").text)
    page = re.sub(r"\s+", " ", page)
    assert "9 days old" in page
    assert "9 days left" in page
    line = make_board(firm, utcnow(), 15).lines[0]
    assert (line.active, line.waiting) == (4, 1)  # two from Salesforce, the one by hand, and the lead


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"status": "needs_reconnect", "status_reason": "permission_withdrawn"},
         "The advisor reads: “Salesforce no longer accepts the permission that you gave.”"),
        ({"failures_in_a_row": 3, "last_failure": "opt_out_hidden"},
         "The advisor reads: “Your Salesforce user can't see who has opted out of email.”"),
    ],
)  # fmt: skip
def test_a_line_says_why_it_needs_attention(
    firm: Partner, ada: User, client: FlaskClient, columns: dict[str, object], words: str
) -> None:
    make_synced_connection(make_advisor(firm), **columns)
    assert words in unescape(client.get(f"/admin/board?firm={firm.slug}").text)


def test_the_next_check_of_a_paused_firm_comes_when_calls_are_free_again(
    firm: Partner, ada: User, client: FlaskClient
) -> None:
    make_synced_connection(make_advisor(firm), next_sync_at=utcnow() + timedelta(minutes=4))
    firm.paused_until, firm.paused_why = utcnow() + timedelta(minutes=30), "request_limit"
    db.session.commit()
    page = client.get(f"/admin/board?firm={firm.slug}").text
    assert "When calls are free again," in page
    assert "In 4 minutes" not in page


def test_advisors_who_need_attention_come_first_and_can_be_filtered(
    firm: Partner, ada: User, client: FlaskClient
) -> None:
    make_synced_connection(make_advisor(firm, "Aaron Fine"))
    make_synced_connection(make_advisor(firm, "Zoe Broken"), status="needs_reconnect")
    make_synced_connection(make_advisor(name="Elsa Elsewhere"))
    page = client.get(f"/admin/board?firm={firm.slug}").text
    assert page.index("Zoe Broken") < page.index("Aaron Fine")
    assert "Elsa" not in page
    page = client.get(f"/admin/board?firm={firm.slug}&show=attention").text
    assert "Zoe Broken" in page
    assert "Aaron" not in page
    rows = list(csv.reader(io.StringIO(client.get(f"/admin/board/export.csv?firm={firm.slug}&show=attention").text)))
    assert [row[0] for row in rows] == ["advisor", "Zoe Broken"]
    assert len(list(csv.reader(io.StringIO(client.get(f"/admin/board/export.csv?firm={firm.slug}").text)))) == 3


def test_no_cell_of_the_file_is_a_formula(firm: Partner, ada: User, client: FlaskClient) -> None:
    """A spreadsheet runs cells that begin with one of these, also after a space."""
    for number, start in enumerate((*FORMULA_STARTS, " =", "\t=", "\r=")):
        make_synced_connection(make_advisor(firm, f"{start}HYPERLINK(0)", email=f"{start}a{number}@x.example"))
    for show in ("", "&show=attention"):
        text = client.get(f"/admin/board/export.csv?firm={firm.slug}{show}").text
        rows = list(csv.reader(io.StringIO(text, newline="")))
        bad = [
            cell for row in rows for cell in row if cell.lstrip().startswith(FORMULA_STARTS) or cell[:1] in ("\t", "\r")
        ]
        assert bad == []
        assert show or sum("HYPERLINK" in row[0] for row in rows) == len(FORMULA_STARTS) + 3


def test_the_board_can_have_no_advisor_who_needs_attention(firm: Partner, ada: User, client: FlaskClient) -> None:
    assert "no advisors yet" in client.get(f"/admin/board?firm={firm.slug}").text
    make_synced_connection(make_advisor(firm))
    assert "No one needs attention" in client.get(f"/admin/board?firm={firm.slug}&show=attention").text


def test_calls_against_the_allowance(firm: Partner, ada: User, client: FlaskClient) -> None:
    assert "reports its total with the first sync" in client.get(f"/admin/board?firm={firm.slug}").text
    firm.org_calls_used, firm.org_calls_allowed, firm.org_calls_seen_at = 48310, 100_000, utcnow()
    firm.api_share_percent = 15
    save(ApiUsage(partner_id=firm.id, hour=utcnow().replace(minute=0, second=0, microsecond=0), calls=6180))
    words = "6,180 calls used by AdvisorStream of its 15,000; the whole org has used 48,310 of 100,000"
    for path in ("/admin/board", f"/admin/board?firm={firm.slug}"):
        page = client.get(path).text
        assert f'aria-label="{words}"' in page
        assert '<rect class="fill-a" width="6.2"' in page
        assert 'd="M15.0 0V4"' in page


def test_a_few_calls_can_be_seen_in_the_bar(firm: Partner, ada: User, client: FlaskClient) -> None:
    firm.org_calls_used, firm.org_calls_allowed, firm.org_calls_seen_at = 0, 100_000, utcnow()
    save(ApiUsage(partner_id=firm.id, hour=utcnow().replace(minute=0, second=0, microsecond=0), calls=43))
    page = client.get("/admin/board").text
    assert '<rect class="fill-a" width="0.6"' in page
    assert '<rect class="fill-c" width="0"' in page, "none is none"


def test_the_list_of_firms_shows_calls_and_the_last_good_sync(firm: Partner, ada: User, client: FlaskClient) -> None:
    row = text_of(client.get("/admin/partners").text)
    assert f"{firm.salesforce_host} Enabled 0 of 0 Never 0 " in row
    firm.org_calls_allowed, firm.org_calls_seen_at, firm.api_share_percent = 100_000, utcnow(), 15
    save(ApiUsage(partner_id=firm.id, hour=utcnow().replace(minute=0, second=0, microsecond=0), calls=6180))
    make_synced_connection(make_advisor(firm), last_good_sync_at=days_ago(10))
    make_synced_connection(make_advisor(firm, "Bob"), last_good_sync_at=utcnow())
    page = text_of(client.get("/admin/partners").text)
    assert re.search(r"Enabled 2 of 2 (Just now|\d+ minutes? ago) 6,180 of our 15,000 ", page)
    firm.is_enabled = False
    db.session.commit()
    assert re.search(r"Disabled 2 of 2 .{5,20} – ", text_of(client.get("/admin/partners").text))


def test_who_was_let_back_in_keeps_the_last_good_sync(firm: Partner, ada: User, client: FlaskClient) -> None:
    when = days_ago(3)
    alice = make_advisor(firm)
    make_synced_connection(alice, status="disconnected", last_good_sync_at=when)
    line = make_board(firm, utcnow(), 15).lines[0]
    assert (line.connection, line.last_good_sync_at) == (None, when)
    page = client.get(f"/admin/board?firm={firm.slug}").text
    assert 'data-label="Last good sync">Never' not in page
    rows = csv.DictReader(io.StringIO(client.get(f"/admin/board/export.csv?firm={firm.slug}").text.lstrip("\ufeff")))
    assert next(rows)["last_good_sync"] == when.isoformat(timespec="seconds")


def test_all_firms(firm: Partner, ada: User, client: FlaskClient) -> None:
    make_synced_connection(make_advisor(firm), failures_in_a_row=2)
    make_advisor(firm, "Bob")
    make_partner("Disabled Ltd", is_enabled=False)
    page = client.get("/admin/board").text
    assert "1 of 2" in page
    assert "Needs attention" in page
    assert "Disabled" in page
    assert "no answer" not in page


@pytest.mark.parametrize("path", ["/admin/board?firm=nobody", "/admin/board/export.csv", "/admin/board?firm=%00"])
def test_an_unknown_firm_is_not_found(path: str, ada: User, client: FlaskClient) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/admin/board", "/admin/board?firm={}", "/admin/partners"])
def test_it_costs_as_many_queries_for_many_as_for_few(path: str, firm: Partner, ada: User, client: FlaskClient) -> None:
    asked: list[str] = []

    def collect_statement(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    def count() -> int:
        asked.clear()
        event.listen(db.engine, "before_cursor_execute", collect_statement)
        client.get(path.format(firm.slug))
        event.remove(db.engine, "before_cursor_execute", collect_statement)
        return len(asked)

    make_contact(make_synced_connection(make_advisor(firm)))
    few = count()
    for number in range(8):
        make_contact(make_synced_connection(make_advisor(firm, f"Advisor {number}"), failures_in_a_row=number))
        make_partner(f"Firm {number}")
    assert count() == few <= 26


def test_what_salesforce_refuses_to_opt_out_needs_attention(client: FlaskClient, ada: User, firm: Partner) -> None:
    alice = make_advisor(firm, "Alice Moreau")
    connection = make_synced_connection(alice)
    assert state_of(firm, alice) == ("Connected", False)
    for number, state in enumerate([WriteBackState.REFUSED, WriteBackState.REFUSED, WriteBackState.TOLD]):
        save(
            OptOutWrite(
                user_id=alice.id, connection_id=connection.id, salesforce_id=str(number), kind="Contact", state=state
            )
        )
    assert state_of(firm, alice) == ("Connected", True)
    page = text_of(client.get(f"/admin/board?firm={firm.slug}").text)
    assert "opt-outs refused by Salesforce 2" in page
    assert "2 opt-outs refused" in page
    assert '<td data-label="Opt-outs refused" class="num">2</td>' in client.get("/admin/board").text


def test_addresses_that_are_not_written_to_are_counted_once(client: FlaskClient, ada: User, firm: Partner) -> None:
    alice, bob = make_advisor(firm, "Alice Moreau"), make_advisor(firm, "Bob Tanner")
    stranger = make_advisor(make_partner("Harbour"))
    for user, address in ((alice, b"a"), (bob, b"a"), (bob, b"b"), (stranger, b"c")):
        save(
            Suppression(
                partner_id=user.partner_id, user_id=user.id, address_hash=address * 32, unsubscribed_at=utcnow()
            )
        )
    save(Suppression(partner_id=firm.id, user_id=alice.id, address_hash=b"e" * 32))  # ended
    page = text_of(client.get(f"/admin/board?firm={firm.slug}").text)
    assert "addresses not to email 2" in page


def test_open_alerts_are_listed_with_since_when(client: FlaskClient, ada: User, firm: Partner) -> None:
    page = "/admin/board"
    assert "Open alerts" not in client.get(page).text
    firm.paused_until = utcnow() + timedelta(hours=1)
    for _ in range(2):
        make_connection(make_advisor(firm), status="needs_reconnect")
    make_connection(make_advisor(make_partner("Harbour")), status="needs_reconnect")
    with writing():
        alerts.update_alerts(utcnow() - timedelta(minutes=20))
    text = client.get(page).text
    words = (
        "Syncs pause: the API allowance is used up",
        "2 advisors need to reconnect",
        "1 advisor needs to reconnect",
    )
    places = [text.index(each) for each in words]
    assert places == sorted(places)
    assert text.count("20 minutes ago") == 3


def test_the_list_of_alerts_stays_short(client: FlaskClient, ada: User) -> None:
    for number in range(23):
        make_partner(f"Firm {number}", paused_until=utcnow() + timedelta(hours=1))
    with writing():
        alerts.update_alerts()
    text = client.get("/admin/board").text
    assert text.count("Syncs pause") == 20
    assert "And 3 more." in text


def test_every_kind_of_alert_has_words() -> None:
    assert set(ON_THE_BOARD) == set(AlertKind)


def test_more_than_fifty_rows_are_shown_page_by_page(client: FlaskClient, ada: User) -> None:
    firms = [make_partner(f"Firm {number:02}") for number in range(51)]
    for number in range(51):
        make_advisor(firms[0], f"Advisor {number:02}")
    slug = firms[0].slug
    for path in ("/admin/partners?state=enabled", "/admin/board", f"/admin/board?firm={slug}", advisors_of(slug)):
        first = client.get(path).text
        assert "1 to 50 of 51" in first, path
        following = re.search(r'href="([^"]*)" rel="next"', first)
        assert following, path
        last = client.get(unescape(following[1])).text
        assert "51 to 51 of 51" in last, path
        assert (len(rows_in(first)), len(rows_in(last))) == (50, 1), path
        assert not rows_in(first) & rows_in(last), path


def advisors_of(slug: str) -> str:
    return f"/admin/partners/{slug}/advisors"


def rows_in(html: str) -> set[str]:
    return set(re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]+)', html))
