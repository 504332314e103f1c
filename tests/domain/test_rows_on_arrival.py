"""A row of Salesforce that can't be read: left out, counted, and no reason for the run or the connection to fail."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.messages.runs import SumLine, account_of
from asapp.panel.balance import balance
from orgsim import Running
from tests.syncing import Office, contacts_here, reasons_here

UNSTORABLE = "Gon\0zalez"
A_YEAR_S = 365 * 86400


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


@pytest.mark.parametrize("last_name", [UNSTORABLE, "x" * 121], ids=["NUL", "too long"])
def test_one_row_that_cannot_be_read_is_left_out_by_name_and_the_numbers_agree(office: Office, last_name: str) -> None:
    here = office.add(email="a@fjord.example")
    office.add(email="b@fjord.example", last_name=last_name)
    office.org.clock.advance(20 * 60)
    run = office.sync()
    assert (run.is_complete, run.read, run.created, run.skipped) == (True, 2, 1, {"unreadable": 1})
    assert run.is_balanced
    assert SumLine("Left out", 1, parts=[SumLine("could not be read", 1)]) in account_of(run)
    books = balance(office.connection)
    assert books
    assert books.is_balanced
    assert (office.sync().read, reasons_here(office.connection)) == (0, {here: None})


def test_it_comes_in_once_it_can_be_read(office: Office) -> None:
    rose = office.add(email="a@fjord.example", last_name=UNSTORABLE)
    office.sync()
    office.org.update_contact(rose, last_name="Gonzalez")
    assert office.sync().created == 1


def test_who_is_here_keeps_the_old_name_but_an_opt_out_counts(office: Office) -> None:
    rose = office.add(email="a@fjord.example")
    office.sync()
    office.org.update_contact(rose, last_name=UNSTORABLE)
    assert office.sync().skipped == {"unreadable": 1}
    assert reasons_here(office.connection) == {rose: None}
    office.org.opt_out(rose)
    run = office.sync()
    assert (run.is_complete, run.is_balanced, run.also) == (True, True, {"opted_out": 1})
    assert reasons_here(office.connection) == {rose: "opted_out"}
    assert [contact.last_name for contact in contacts_here(office.connection)] == ["Gonzalez"]


def test_an_opt_out_that_only_the_sweep_shows_counts_as_well(office: Office) -> None:
    rose = office.add(email="a@fjord.example")
    office.sync()
    office.org.change_without_stamp(rose, last_name=UNSTORABLE, HasOptedOutOfEmail=True)
    office.org.clock.advance(3600)
    office.let_a_day_pass()
    assert office.sync().is_complete
    assert reasons_here(office.connection) == {rose: "opted_out"}


@pytest.mark.parametrize(
    "seconds", [A_YEAR_S, -A_YEAR_S, 2 * 86400], ids=["a year ahead", "a year ago", "two days ahead"]
)
def test_a_moment_that_cannot_be_right_is_no_watermark(office: Office, seconds: int) -> None:
    rose = office.add(email="a@fjord.example")
    office.sync()
    watermark = office.connection.watermark
    office.org.clock.advance(seconds)
    run = office.sync()
    assert (run.is_failed, run.error_code) == (True, "unreadable_answer")
    assert office.reload(office.connection).watermark == watermark
    office.org.clock.advance(-seconds)
    office.org.opt_out(rose)
    assert office.sync().deactivated == 1


def test_a_clock_that_is_hours_off_is_followed(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.clock.advance(5 * 3600)
    assert office.sync().is_complete
    office.org.clock.advance(-7 * 3600)
    assert office.sync().is_complete
    watermark = office.connection.watermark
    assert watermark is not None
    assert abs(watermark - office.org.clock.now()) < timedelta(minutes=5)
