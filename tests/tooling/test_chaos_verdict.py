"""The campaign's judge finds what is wrong: each thing that must not happen is made to happen here, and seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import delete, update

from asapp.contacts.suppressions import Address, Happened
from asapp.core.extensions import db
from asapp.leads.sign_up_page import ensure_page
from asapp.models import (
    Connection,
    Contact,
    Lead,
    LedgerEntry,
    RunStatus,
    SuppressionSource,
    SuppressionStep,
    SyncRun,
)
from devtools.chaos import verdict
from devtools.chaos.__main__ import NEEDED, Campaign, read_arguments
from devtools.chaos.faults import LANES, Hit
from devtools.chaos.mail_memory import MailMemory, Stop, now
from devtools.chaos.org import ChaosOrg
from devtools.chaos.people import Advisor, Flights, SignedUp
from devtools.chaos.report import Record
from orgsim import Running
from tests.mail_links import record
from tests.signing_up import PostOffice, someone_signs_up


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    office = PostOffice(org)
    office.add(first_name="Ravi", last_name="Shah", email="ravi@fjord.example")
    office.add(first_name="Noor", last_name="Haddad", email="noor@fjord.example")
    someone_signs_up(office.advisor)
    office.deliver()
    office.sync()
    office.sync()
    return office


def advisor_of(office: PostOffice, org: Running) -> Advisor:
    db.session.commit()
    slug = ensure_page(office.advisor).slug
    about = (ChaosOrg(org.url, 0), office.user, "amara", "http://127.0.0.1:1", Flights(), MailMemory())
    return Advisor(0, office.advisor.id, office.advisor.email, slug, *about)


@pytest.fixture
def judge(office: PostOffice, org: Running) -> Callable[[], list[str]]:
    advisor = advisor_of(office, org)
    signed_up = [SignedUp(advisor, "mei.chou@harbour.example")]

    def lines() -> Iterator[str]:
        yield from verdict.runs_wrong()
        yield from verdict.leases_wrong()
        connection = db.session.get_one(Connection, office.connection.id, populate_existing=True)
        yield from verdict.connection_wrong(connection)
        yield from verdict.contacts_wrong(connection, advisor, MailMemory(), verdict.Sharing())
        yield from verdict.leads_wrong([advisor], signed_up)

    def judge() -> list[str]:
        db.session.commit()
        found = list(lines())
        db.session.commit()
        return found

    return judge


def test_a_right_state_is_not_reported(judge: Callable[[], list[str]]) -> None:
    assert judge() == []


def in_the_database(statement: object) -> Callable[[PostOffice], object]:
    return lambda _office: db.session.execute(statement)  # type: ignore[call-overload]


ONE = Contact.email == "ravi@fjord.example"
LAST_RUN = SyncRun.id == 2
WRONGS: dict[str, tuple[Callable[[PostOffice], object], str]] = {
    "a run that goes on": (in_the_database(update(SyncRun).where(LAST_RUN).values(status="queued")), "is still queued"),
    "a sum that is wrong": (in_the_database(update(SyncRun).where(LAST_RUN).values(read=9)), "don't add up"),
    "a bug": (
        in_the_database(update(SyncRun).where(LAST_RUN).values(status=RunStatus.FAILED, error_code="our_bug")),
        "bug of ours",
    ),
    "no reason": (in_the_database(update(SyncRun).where(LAST_RUN).values(status=RunStatus.FAILED)), "without a reason"),
    "a lease": (in_the_database(update(Connection).values(token_lease="x")), "still have a lease"),
    "disconnected": (in_the_database(update(Connection).values(status="needs_reconnect")), "is needs_reconnect"),
    "a contact lost": (in_the_database(delete(Contact).where(ONE)), "is missing"),
    "another name": (in_the_database(update(Contact).where(ONE).values(first_name="X")), "has other values"),
    "switched off": (in_the_database(update(Contact).where(ONE).values(opted_out=True)), "instead of active"),
    "the ledger": (in_the_database(delete(LedgerEntry)), "missing in the ledger"),
    "balance": (in_the_database(update(Connection).values(salesforce_count=7)), "the balance is wrong"),
    "opted out there": (lambda office: office.org.opt_out(office.org.contacts(office.user)[0]["Id"]), "is active here"),
    "gone there": (lambda office: office.org.delete(office.org.contacts(office.user)[0]["Id"]), "not theirs any more"),
    "a sign-up lost": (in_the_database(update(Lead).values(email="other@harbour.example")), "a sign-up is lost"),
    "a lead that waits": (in_the_database(update(Lead).values(state="waiting")), "a lead is waiting"),
    "a lead doubled": (
        lambda office: office.org.add_lead(office.user, last_name="Chou", email="Mei.Chou@harbour.example"),
        "is 2 times in Salesforce",
    ),
    "a lead from nowhere": (
        lambda office: office.org.add_lead(office.user, last_name="X", email="x@harbour.example"),
        "a lead that no one sent",
    ),
}


@pytest.mark.parametrize("name", WRONGS)
def test_each_wrong_state_is_reported(office: PostOffice, judge: Callable[[], list[str]], name: str) -> None:
    deed, words = WRONGS[name]
    deed(office)
    found = judge()
    assert any(words in line for line in found), found


# One left as another came back by sharing


@pytest.fixture
def swap(office: PostOffice) -> tuple[str, str]:
    """Return the Ids of a record that is visible again and of one that was given away since: the counts are the same."""
    back, left = (row["Id"] for row in office.org.contacts(office.user))
    office.org.hide_contact(back)
    office.sync()
    office.org.clock.advance(1200)
    office.sync()
    office.org.show_contact(back)
    office.org.give(left, office.colleague)
    office.sync()
    return back, left


def look(office: PostOffice, org: Running, sharing: verdict.Sharing, memory: MailMemory | None = None) -> list[str]:
    advisor = advisor_of(office, org)
    connection = db.session.get_one(Connection, office.connection.id, populate_existing=True)
    return verdict.contacts_wrong(connection, advisor, memory or MailMemory(), sharing)


def test_what_only_a_sweep_can_tell_is_wrong_after_it_and_not_before(
    office: PostOffice, org: Running, swap: tuple[str, str]
) -> None:
    back, left = swap
    assert look(office, org, verdict.Sharing(ever=frozenset({back}))) == []
    strictly = look(office, org, verdict.Sharing())
    assert {line.split()[0] for line in strictly} == {back, left}
    office.let_a_day_pass()
    office.sync()
    assert look(office, org, verdict.Sharing()) == []


def test_who_left_without_another_coming_back_is_wrong_before_a_sweep_too(
    office: PostOffice, org: Running, swap: tuple[str, str]
) -> None:
    back, left = swap
    hidden_again = verdict.Sharing(ever=frozenset({back}), now=frozenset({back}))
    assert any(left in line for line in look(office, org, hidden_again))
    assert any(left in line for line in look(office, org, verdict.Sharing(ever=frozenset({"003000000000000AAA"}))))


def test_only_those_who_share_an_address_are_left_aside_as_twins() -> None:
    addresses = {"a": "Ravi@fjord.example", "b": "ravi@Fjord.example", "c": None, "d": None, "e": "noor@fjord.example"}
    records = {each: {"Email": email} for each, email in addresses.items()}
    assert verdict.with_their_twins(records, {"a", "c"}) == {"a", "b", "c"}


# What people said of the mails


def test_who_stopped_the_mails_is_inactive_for_that_reason_and_no_other(office: PostOffice, org: Running) -> None:
    memory = MailMemory()
    stop = memory.add_stop(Stop(0, "RAVI@fjord.example", "complained", now(), now(), "e-1"))
    assert look(office, org, verdict.Sharing(), memory) == []  # it was never answered, so it may be stored or not
    memory.answer(stop, "accepted", now())
    assert any("is active here instead of complained" in line for line in look(office, org, verdict.Sharing(), memory))
    address = Address(office.connection.partner_id, office.advisor.id, office.hash("ravi@fjord.example"))
    told = (SuppressionStep.COMPLAINED, SuppressionSource.SENDER, now(), "e-1")
    record([Happened(address, *told)])
    assert look(office, org, verdict.Sharing(), memory) == []
    assert any("is complained here instead of active" in line for line in look(office, org, verdict.Sharing()))


# What a campaign has to have done


def campaign_of(tmp_path: Path, *arguments: str) -> Campaign:
    return Campaign(read_arguments(["--folder", str(tmp_path / "chaos"), *arguments]))


def hit(lane: str, kind: str) -> Record:
    return Record(lane, kind, 0.0, Hit(), {})


def test_a_full_campaign_in_which_a_kind_has_hit_nothing_fails(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, "--faults", "200")
    everything = [hit(lane, kind) for lane, kinds in LANES.items() for kind in kinds]
    campaign.records = everything * 5
    mail_a_lot(campaign)
    assert list(campaign.weaknesses()) == []
    campaign.records = [record for record in campaign.records if record.kind != "query timeout"]
    assert list(campaign.weaknesses()) == ["query timeout: has hit nothing"]


def test_faults_that_have_missed_do_not_count(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, "--faults", "2")
    mail_a_lot(campaign)
    campaign.records = [hit("Salesforce", "502"), Record("Salesforce", "504", 0.0, None, {})]
    assert list(campaign.weaknesses()) == ["only 1 of 2 faults have hit something"]


def mail_a_lot(campaign: Campaign) -> None:
    """Let senders have prepared, fetched and told, and one event twice."""
    campaign.mailing.figures.update(dict.fromkeys(NEEDED, 10))
    stop = campaign.mailing.memory.add_stop(Stop(0, "ravi@fjord.example", "bounced", now(), now(), "e-1"))
    for result in ("accepted", "duplicate"):
        campaign.mailing.memory.answer(stop, result, now())


@pytest.mark.parametrize("figure", NEEDED)
def test_a_campaign_without_mails_proves_little(tmp_path: Path, figure: str) -> None:
    campaign = campaign_of(tmp_path, "--faults", "1")
    campaign.records = [hit("Salesforce", "502")]
    mail_a_lot(campaign)
    assert list(campaign.weaknesses()) == []
    campaign.mailing.figures[figure] = 0
    assert list(campaign.weaknesses()) == [f"{figure}: none"]


def test_a_full_campaign_in_which_no_event_came_twice_proves_too_little(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, "--faults", "200")
    campaign.records = [hit(lane, kind) for lane, kinds in LANES.items() for kind in kinds] * 5
    campaign.mailing.figures.update(dict.fromkeys(NEEDED, 10))
    assert list(campaign.weaknesses()) == ["no event was told twice"]


def test_a_campaign_fails_if_people_could_not_sign_up(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, "--faults", "0")
    campaign.public.given_up = 3
    assert list(campaign.weaknesses()) == ["3 people could not sign up"]


def test_a_campaign_that_proves_less_than_it_should_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = campaign_of(tmp_path, "--faults", "1")
    assert not campaign.ends_well(["something"])
    assert "WRONG: something" in capsys.readouterr().out
    assert campaign.ends_well([])
    assert "Everything holds." in capsys.readouterr().out
