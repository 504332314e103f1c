"""The campaign's judge of senders: a fabricated record with something wrong in it is found, and a right one is passed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from devtools.chaos import mail_verdict
from devtools.chaos.mail_memory import MailMemory, OptIn, Stop, key_of, now
from devtools.chaos.mail_verdict import OptedOut, Page, Preparation, ToTick
from devtools.chaos.org import ChaosOrg
from orgsim import Running

T0 = now() - timedelta(hours=1)
PERSON = "zoe@fjord.example"
RECORD = "003000000000001AAA"
OTHER = "003000000000002AAA"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def stop_at(seconds: float, reason: str = "unsubscribed", answered: float | None = None, event_id: str = "e-1") -> Stop:
    stop = Stop(0, PERSON, reason, at(seconds), at(seconds), event_id)
    if answered is not None:
        stop.answered_at, stop.answers = at(answered), ["accepted"]
    return stop


def memory_of(*stops: Stop, opt_ins: tuple[tuple[float, float | None], ...] = ()) -> MailMemory:
    """opt_ins: when each began and ended; without an end it was never answered."""
    memory = MailMemory()
    for stop in stops:
        memory.add_stop(stop)
    for began, ended in opt_ins:
        opt_in = OptIn(key_of(0, PERSON), at(began))
        if ended is not None:
            opt_in.ended_at = at(ended)
        memory._opt_ins[opt_in.key].append(opt_in)
    return memory


def preparation(opted_out: dict[str, str] | None = None, *, takes_older_data: bool = False, **more: Any) -> Preparation:
    known: dict[str, Any] = {"send_id": "s-1", "advisor": 0, "list_id": "list", "max_age": timedelta(minutes=60)}
    looked = OptedOut(at(0), opted_out or {})
    return Preparation(**known, takes_older_data=takes_older_data, opted_out=looked, asked_at=at(1), **more)


def page_of(*recipients: dict[str, Any], send: Preparation | None = None) -> Page:
    """A page that was asked for 60 s after the send, and was there 10 s later."""
    return Page(send or preparation(), at(61), at(71), recipients)


def recipient(email: str = PERSON, salesforce_id: str | None = RECORD) -> dict[str, Any]:
    return {"email": email, "salesforce_id": salesforce_id}


@pytest.fixture
def org(org: Running) -> ChaosOrg:
    return ChaosOrg(org.url, 0)


# ---- People who stopped the mails


@pytest.mark.parametrize(
    ("memory", "is_wrong"),
    [
        (memory_of(), False),
        (memory_of(stop_at(10, answered=11)), True),
        (memory_of(stop_at(10)), False),  # not answered: it may not have arrived
        (memory_of(stop_at(10, answered=62)), False),  # answered when the page had been asked for
        (memory_of(stop_at(10, answered=11), opt_ins=((20, 25),)), False),
        (memory_of(stop_at(10, answered=11), opt_ins=((2, 5),)), True),  # an earlier opt-in ends nothing
        (memory_of(stop_at(10, answered=11), opt_ins=((2, 12),)), False),  # which of them was first is not known
        (memory_of(stop_at(10, answered=11), opt_ins=((65, None),)), False),  # while the page was on its way
        (memory_of(stop_at(10, answered=11), opt_ins=((80, 85),)), True),  # after it
        (memory_of(stop_at(10, answered=50), opt_ins=((20, 25),)), False),  # an event that came late
        (memory_of(stop_at(10, "bounced", answered=11), opt_ins=((20, 25),)), True),  # another thing than consent
        (memory_of(stop_at(10, answered=11), stop_at(40, answered=41, event_id="e-2"), opt_ins=((20, 25),)), True),
    ],
)
def test_who_has_stopped_the_mails_is_found_among_recipients(memory: MailMemory, is_wrong: bool) -> None:
    found = list(mail_verdict.stopped_ones(page_of(recipient(PERSON.swapcase())), memory))
    assert bool(found) == is_wrong, found
    assert not list(mail_verdict.stopped_ones(page_of(recipient("other@fjord.example")), memory))


def test_a_click_can_be_taken_back_and_an_event_cannot() -> None:
    click, event = replace(stop_at(10, answered=11), event_id=""), stop_at(12, answered=13)
    for stops, is_wrong in (([click], False), ([event], True), ([click, event], True)):
        memory = memory_of(*map(replace, stops))
        with memory.undoing(0, PERSON, (0, 1)):
            pass
        (end,) = memory._ends[key_of(0, PERSON)]
        end.began_at, end.ended_at = at(20), at(25)
        assert bool(list(mail_verdict.stopped_ones(page_of(recipient()), memory))) == is_wrong
        assert (memory.reasons(key_of(0, PERSON)) == {None}) == (not is_wrong)
        end.began_at, end.ended_at = at(800), at(805)  # too late to be taken back: then either may hold
        assert memory.reasons(key_of(0, PERSON)) == ({"unsubscribed"} if is_wrong else {"unsubscribed", None})


def test_what_stopped_the_whole_firm_is_taken_back_for_all_its_advisors() -> None:
    click = replace(stop_at(10, answered=11), event_id="", is_for_firm=True)
    memory = memory_of(click, replace(click, advisor=1))
    with memory.undoing(1, PERSON, (0, 1)):
        pass
    for (end,) in memory._ends.values():
        end.began_at, end.ended_at = at(20), at(25)
    assert memory.reasons(key_of(0, PERSON)) == memory.reasons(key_of(1, PERSON)) == {None}


def test_an_address_that_is_tried_again_had_bounced() -> None:
    memory = memory_of(stop_at(10, "bounced", answered=11), replace(stop_at(10, answered=11), advisor=1))
    for advisor in (0, 1):
        with memory.trying_again(advisor, PERSON):
            pass
    for (end,) in memory._ends.values():
        end.began_at, end.ended_at = at(20), at(25)
    assert memory.reasons(key_of(0, PERSON)) == {None}
    assert memory.reasons(key_of(1, PERSON)) == {"unsubscribed"}


def test_a_stop_with_another_advisor_is_no_stop_with_this_one() -> None:
    send = preparation()
    send.advisor = 1
    assert not list(mail_verdict.stopped_ones(page_of(recipient(), send=send), memory_of(stop_at(10, answered=11))))


# ---- People who opted out at Salesforce


def opted_out_ones(org: ChaosOrg, *recipients: dict[str, Any], opted_out: dict[str, str]) -> list[str]:
    return list(mail_verdict.opted_out_ones(page_of(*recipients, send=preparation(opted_out)), org))


def test_a_record_that_had_opted_out_is_found_among_recipients(org: ChaosOrg) -> None:
    out = {RECORD: PERSON}
    assert any("opted out at Salesforce" in line for line in opted_out_ones(org, recipient(), opted_out=out))
    twin = recipient(PERSON.upper(), OTHER)
    assert any("is also the address" in line for line in opted_out_ones(org, twin, opted_out=out))
    assert not opted_out_ones(org, recipient("noor@fjord.example", OTHER), opted_out=out)
    assert not opted_out_ones(org, recipient(), opted_out={})
    assert not opted_out_ones(org, recipient("", OTHER), opted_out={RECORD: ""})


def test_a_record_that_the_org_changed_meanwhile_is_left_out_of_it(org: ChaosOrg) -> None:
    user = org.do("add_user", name="Amara Okafor")
    record = org.do("add_contact", owner_id=user, last_name="Zoe", email=PERSON, opted_out=True)
    before = now()
    org.do("opt_in", record_id=record)
    changed = Page(
        Preparation("s", 0, "l", timedelta(), False, OptedOut(before, {record: PERSON}), before), now(), now()
    )
    after = OptedOut(now() + timedelta(seconds=1), {record: PERSON})
    unchanged = Page(Preparation("s", 0, "l", timedelta(), False, after, now()), now(), now() + timedelta(seconds=2))
    for page, is_wrong in ((changed, False), (unchanged, True)):
        found = Page(page.preparation, page.began_at, page.ended_at, (recipient(salesforce_id=record),))
        assert bool(list(mail_verdict.opted_out_ones(found, org))) == is_wrong


def test_a_change_that_was_never_answered_may_have_come_at_any_time(org: ChaosOrg) -> None:
    with pytest.raises(KeyError), org._remembering("opt_in", {"record_id": RECORD}):
        raise KeyError
    assert org.changed_between(now() + timedelta(hours=1), now() + timedelta(hours=2)) == {RECORD}
    org.do("add_user", name="Amara Okafor")
    assert org.changed_between(T0, at(1)) == set()


def test_a_hidden_record_stops_itself_and_not_its_twin(org: ChaosOrg) -> None:
    user = org.do("add_user", name="Amara Okafor")
    record = org.do("add_contact", owner_id=user, last_name="Zoe", email=PERSON, opted_out=True)
    org.do("hide_contact", record_id=record)
    before = now() + timedelta(seconds=1)
    send = Preparation("s", 0, "l", timedelta(), False, OptedOut(before, {record: PERSON}), before)
    for salesforce_id, is_wrong in ((record, True), (OTHER, False)):
        page = Page(send, before, before, (recipient(salesforce_id=salesforce_id),))
        assert bool(list(mail_verdict.opted_out_ones(page, org))) == is_wrong


def test_a_look_into_the_org_finds_contacts_and_open_leads_of_the_user(org: ChaosOrg) -> None:
    user, other = org.do("add_user", name="Amara Okafor"), org.do("add_user", name="Jonas Lindqvist")
    contact = org.do("add_contact", owner_id=user, last_name="Zoe", email="ZOE@fjord.example", opted_out=True)
    org.do("add_contact", owner_id=other, last_name="Zoe", email=PERSON, opted_out=True)
    org.do("add_contact", owner_id=user, last_name="Noor", email="noor@fjord.example")
    lead = org.do("add_lead", owner_id=user, last_name="Zoe", company="-", email="lead@fjord.example")
    org.do("opt_out", record_id=lead)
    assert OptedOut.of(org, user).records == {contact: PERSON, lead: "lead@fjord.example"}


def test_older_data_is_judged_only_by_what_people_asked_for(org: ChaosOrg) -> None:
    send = preparation({RECORD: PERSON}, takes_older_data=True, state="ready", as_of=at(-600))
    page = page_of(recipient(), send=send)
    assert mail_verdict.recipients_wrong(page, memory_of(), org) == []
    assert mail_verdict.recipients_wrong(page, memory_of(stop_at(10, answered=11)), org)
    send.as_of = at(30)
    assert mail_verdict.recipients_wrong(page, memory_of(), org)


def test_an_address_is_a_recipient_once() -> None:
    assert list(mail_verdict.doubled_ones(page_of(recipient(), recipient(PERSON.upper(), OTHER))))
    assert not list(mail_verdict.doubled_ones(page_of(recipient(), recipient("noor@fjord.example", OTHER))))


# ---- What becomes of a send


def told(state: str, reason: str | None = None, as_of: datetime | None = None, **more: Any) -> dict[str, Any]:
    is_ready = state == "ready"
    times = {"as_of": at(20) if is_ready else None, "expires_at": at(3620) if is_ready else None}
    times |= {"as_of": as_of} if as_of else {}
    shown = {name: moment.isoformat() if moment else None for name, moment in times.items()}
    return {"id": "s-1", "list_id": "list", "state": state, "reason": reason, **shown, **more}


GOOD = [("preparing", 5, {}), ("ready", 22, {})]
STORIES: dict[str, tuple[list[tuple[str, float, dict[str, Any]]], str]] = {
    "ready": (GOOD, ""),
    "stale": ([("stale", 22, {"reason": "salesforce_away"})], ""),
    "refused": ([("refused", 2, {"reason": "disconnected"})], ""),
    "five minutes": ([("preparing", 2, {}), ("preparing", 301, {})], ""),
    "for ever": ([("preparing", 2, {}), ("preparing", 305, {})], "is preparing after"),
    "another end": ([*GOOD, ("stale", 30, {"reason": "took_too_long"})], "was ready"),
    "began again": ([*GOOD, ("preparing", 30, {})], "was ready"),
    "an unknown state": ([("done", 5, {})], "is done"),
    "no reason": ([("stale", 5, {})], "for the reason None"),
    "a reason too many": ([("ready", 22, {"reason": "cancelled"})], "for the reason cancelled"),
    "another list": ([("preparing", 5, {"list_id": "other"})], "is told as s-1 to other"),
    "older data": ([("ready", 22, {"as_of": at(-60)})], "is ready as of"),
    "data of tomorrow": ([("ready", 22, {"as_of": at(86400)})], "is ready as of"),
    "no age": ([("ready", 22, {"as_of": None})], ""),
    "good for days": ([("ready", 22, {"expires_at": at(90_000).isoformat()})], "is good until"),
}


@pytest.mark.parametrize("name", STORIES)
def test_how_a_send_ends(name: str) -> None:
    answers, words = STORIES[name]
    send = preparation()
    found = [line for state, when, more in answers for line in send.take(told(state, **more), at(when), at(when))]
    assert bool(found) == bool(words), found
    assert all(words in line for line in found)


def test_a_send_that_may_go_by_older_data_goes_by_none_older_than_allowed() -> None:
    for as_of, is_wrong in ((at(-3000), False), (at(-4000), True)):
        send = preparation(takes_older_data=True)
        assert bool(send.take(told("ready", as_of=as_of), at(22), at(22))) == is_wrong


def test_a_ready_send_says_as_of_when() -> None:
    send = preparation()
    assert send.take(told("ready") | {"as_of": None}, at(22), at(22))


@pytest.mark.parametrize(
    ("call", "status", "content_type", "headers", "is_wrong"),
    [
        ("prepare", 202, "application/json", {}, False),
        ("prepare", 200, "application/json", {}, True),
        ("recipients", 409, "application/problem+json", {}, False),
        ("recipients", 409, "text/html", {}, True),
        ("events", 500, "application/problem+json", {}, True),
        ("events", 409, "application/problem+json", {}, True),
        ("events", 503, "application/problem+json", {"Retry-After": "5"}, False),
        ("events", 503, "application/problem+json", {}, True),
        ("events", 503, "text/html", {"Retry-After": "5"}, True),
        ("send", 429, "application/problem+json", {"Retry-After": "5"}, False),
        ("send", 404, "application/problem+json", {}, True),
        ("one-click", 200, "text/plain", {}, False),
        ("one-click", 503, "text/html", {}, False),
        ("one-click", 404, "text/html", {}, True),
    ],
)
def test_only_documented_answers_will_do(
    call: str, status: int, content_type: str, headers: dict[str, str], is_wrong: bool
) -> None:
    assert bool(list(mail_verdict.answer_wrong(call, status, content_type, headers))) == is_wrong


# ---- When all is quiet


def row(email: str | None, salesforce_id: str = RECORD, *, is_out: bool = False) -> dict[str, Any]:
    return {"Id": salesforce_id, "Email": email, "HasOptedOutOfEmail": is_out, "IsConverted": False}


@pytest.mark.parametrize(
    ("found", "contacts", "memory", "words"),
    [
        ([PERSON], [row(PERSON)], memory_of(), ""),
        ([], [row(PERSON)], memory_of(), "should be"),
        ([], [row(None)], memory_of(), ""),
        ([], [row(PERSON, is_out=True)], memory_of(), ""),
        ([PERSON], [row(PERSON, is_out=True)], memory_of(), "should not be"),
        ([PERSON], [row(PERSON), row(PERSON.upper(), OTHER, is_out=True)], memory_of(), "should not be"),
        ([PERSON], [], memory_of(), "should not be"),
        ([PERSON], [row(PERSON)], memory_of(stop_at(1, answered=2)), "should not be"),
        ([], [row(PERSON)], memory_of(stop_at(1, answered=2)), ""),
        ([], [row(PERSON)], memory_of(stop_at(1, answered=2), opt_ins=((3, 4),)), "should be"),
        ([PERSON], [row(PERSON)], memory_of(stop_at(1, answered=2), opt_ins=((3, 4),)), ""),
        ([], [row(PERSON)], memory_of(stop_at(1)), ""),
        ([PERSON], [row(PERSON)], memory_of(stop_at(1)), ""),
        ([], [row(PERSON)], memory_of(stop_at(5, answered=6), opt_ins=((3, 7),)), ""),
        ([PERSON], [row(PERSON)], memory_of(stop_at(5, answered=6), opt_ins=((3, 7),)), ""),
    ],
)
def test_the_last_mailing_reaches_the_right_people(
    found: list[str], contacts: list[dict[str, Any]], memory: MailMemory, words: str
) -> None:
    wrong = mail_verdict.audience_wrong(0, found, contacts, [], memory)
    assert bool(wrong) == bool(words), wrong
    assert all(words in line for line in wrong)


def test_a_lead_that_opted_out_stops_the_contact_with_its_address() -> None:
    lead = row(PERSON, "00Q000000000001AAA", is_out=True)
    assert mail_verdict.audience_wrong(0, [], [row(PERSON)], [lead], memory_of()) == []
    converted = [lead | {"IsConverted": True}]
    assert mail_verdict.audience_wrong(0, [], [row(PERSON)], converted, memory_of())


STORED = (0, "e-1", "unsubscribed")


@pytest.mark.parametrize(
    ("rows", "answers", "words"),
    [
        ([STORED], ["accepted"], ""),
        ([STORED], ["duplicate"], ""),
        ([STORED], ["accepted", "duplicate"], ""),
        ([STORED], ["accepted", "accepted"], "accepted 2 times"),
        ([], ["accepted"], "is lost"),
        ([STORED, STORED], ["accepted"], "more than once"),
        ([(0, "e-1", "bounced")], ["accepted"], "not told like that"),
        ([STORED, (0, "e-2", "bounced")], ["accepted"], "not told like that"),
        ([(1, "e-1", "unsubscribed")], ["accepted"], "is lost"),
        ([STORED], [], "never answered"),
    ],
)
def test_an_event_is_stored_once(rows: list[tuple[int, str, str]], answers: list[str], words: str) -> None:
    stop = stop_at(1)
    memory = memory_of(stop)
    for answer in answers:
        memory.answer(stop, answer, at(2))
    wrong = mail_verdict.stored_wrong(rows, memory)
    assert any(words in line for line in wrong) if words else not wrong, wrong


# ---- Telling Salesforce


def tick(memory: MailMemory, org: ChaosOrg, ticked: list[str], *, is_out: bool, since: datetime = T0) -> list[str]:
    to_tick = [ToTick(RECORD, since, stop) for stop in memory.stops()]
    return mail_verdict.ticks_wrong(to_tick, ticked, {RECORD: row(PERSON, is_out=is_out)}, org, memory)


def test_each_record_is_ticked_and_once(org: ChaosOrg) -> None:
    memory = memory_of(stop_at(10, answered=11))
    assert tick(memory, org, [RECORD], is_out=True) == []
    assert tick(memory, org, [], is_out=True) == []  # a person at the firm was faster
    assert any("not ticked" in line for line in tick(memory, org, [], is_out=False))
    assert any("ticked 2 times" in line for line in tick(memory, org, [RECORD, RECORD], is_out=True))


def test_a_bounce_and_a_person_who_opted_in_again_are_not_written_back(org: ChaosOrg) -> None:
    assert tick(memory_of(stop_at(10, "bounced", answered=11)), org, [], is_out=False) == []
    assert tick(memory_of(stop_at(10, answered=11), opt_ins=((12, 13),)), org, [], is_out=False) == []


def test_a_record_that_people_cleared_again_may_be_ticked_again(org: ChaosOrg) -> None:
    memory = memory_of(stop_at(10, answered=11))
    with org._remembering("opt_in", {"record_id": RECORD}):
        pass
    assert tick(memory, org, [RECORD, RECORD], is_out=True) == []
    assert tick(memory, org, [RECORD], is_out=False) == []
    assert any("ticked 3 times" in line for line in tick(memory, org, [RECORD] * 3, is_out=True))
    assert any("not ticked" in line for line in tick(memory, org, [], is_out=False, since=now()))


def test_a_record_whose_person_never_stopped_the_mails_is_not_ticked(org: ChaosOrg) -> None:
    memory = memory_of(stop_at(10))
    assert mail_verdict.ticked_for_no_one([(0, RECORD, PERSON)], org, memory, T0) == []
    assert mail_verdict.ticked_for_no_one([(0, RECORD, "other@fjord.example")], org, memory, T0)
    assert mail_verdict.ticked_for_no_one([(1, RECORD, PERSON)], org, memory, T0)


# ---- What the campaign remembers


def test_an_opt_in_that_fails_may_have_worked() -> None:
    memory = MailMemory()
    with pytest.raises(TimeoutError), memory.opting_in(0, PERSON):
        raise TimeoutError
    stop = memory.add_stop(Stop(0, PERSON, "unsubscribed", now(), now(), "e-1"))
    memory.answer(stop, "accepted", now())
    assert memory.reasons(stop.key) == {"unsubscribed", None}


def test_of_several_reasons_the_first_that_is_sure_is_reported() -> None:
    def reasons(*stops: Stop, opt_ins: tuple[tuple[float, float | None], ...] = ()) -> set[str | None]:
        return memory_of(*stops, opt_ins=opt_ins).reasons(key_of(0, PERSON))

    bounced, complained = stop_at(1, "bounced", answered=2), stop_at(3, "complained", answered=4)
    assert reasons(bounced, complained) == {"complained"}
    assert reasons(bounced, complained, opt_ins=((5, 6),)) == {"bounced"}
    assert reasons(complained, stop_at(3)) == {"unsubscribed", "complained"}
    assert reasons() == {None}


def test_many_lines_are_cut_short() -> None:
    assert mail_verdict.shorten(["a", "b"]) == ["a", "b"]
    assert mail_verdict.shorten(list("abcdefg")) == [*"abcde", "and 2 more like that"]
