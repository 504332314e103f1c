"""What has to hold of a sender's calls, judged from what was asked and answered and from the orgs' own stores.

Nothing here imports a rule of asapp: who has stopped an advisor's mail is known from mail_memory.py, and who has opted out at
Salesforce from a look into the org right before a send is asked for. A record that the org changes between that look and the
end of the answer is left out of the judgement, since either of the two values may have been read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from devtools.chaos.mail_memory import MailMemory, Stop, key_of, now
from devtools.chaos.org import ChaosOrg

ENDS_WITHIN = timedelta(minutes=5)
GOOD_FOR = timedelta(minutes=60)
SLACK = timedelta(seconds=2)  # times in answers have whole seconds
ENDS = ("ready", "stale", "refused")
PROBLEM = "application/problem+json"
# docs/senders.md: what each call answers when all is well, and what it may say while something is down.
WELL = {
    "advisors": (200,),
    "prepare": (202,),
    "send": (200,),
    "recipients": (200, 409, 410),
    "events": (200,),
    "one-click": (200,),
}
TRY_LATER = (429, 503)
STOPPED_BY_PERSON = {"unsubscribed", "complained"}
SHOWN = 5  # of each kind of trouble

Record = Mapping[str, Any]  # of an org's store, by API names


# ---- Answers


def answer_wrong(call: str, status: int, content_type: str, headers: Mapping[str, str]) -> Iterator[str]:
    """call: a key of WELL."""
    if status in TRY_LATER:
        if call != "one-click" and not headers.get("Retry-After", "").isdigit():
            yield f"{call} answered {status} without Retry-After"
    elif status not in WELL[call]:
        yield f"{call} answered {status}, which is not documented"
    if status >= 400 and call != "one-click" and not content_type.startswith(PROBLEM):
        yield f"{call} answered {status} as {content_type}"


# ---- A send


@dataclass(frozen=True)
class OptedOut:
    """A user's own records that had opted out when the org was looked into: {Id: address in small letters}."""

    looked_at: datetime
    records: Mapping[str, str]

    @classmethod
    def of(cls, org: ChaosOrg, salesforce_user: str) -> OptedOut:
        looked_at = now()
        rows = [
            *org.get("contacts", owner_id=salesforce_user),
            *(row for row in org.get("leads", owner_id=salesforce_user) if not row["IsConverted"]),
        ]
        return cls(looked_at, opted_out(rows))


def opted_out(rows: Iterable[Record]) -> dict[str, str]:
    return {row["Id"]: address_of(row) for row in rows if row["HasOptedOutOfEmail"]}


def address_of(row: Record) -> str:
    return (row["Email"] or "").lower()


@dataclass
class Preparation:
    """One send, as its sender knows it. asked_at: right before the first POST. known_at: when that was first answered."""

    send_id: str
    advisor: int
    list_id: str
    max_age: timedelta
    takes_older_data: bool  # the firm lets sends go on with it
    opted_out: OptedOut
    asked_at: datetime
    known_at: datetime | None = None
    state: str = "preparing"
    reason: str | None = None
    as_of: datetime | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDS

    @property
    def is_of_older_data(self) -> bool:
        return self.as_of is not None and self.as_of < self.asked_at - SLACK

    def take(self, told: Mapping[str, Any], asked_at: datetime, answered_at: datetime) -> list[str]:
        """Take over an answer about the send, and return what is wrong with it. asked_at: when this answer was asked for."""
        return [f"send {self.send_id}: {line}" for line in self._take(told, asked_at, answered_at)]

    def _take(self, told: Mapping[str, Any], asked_at: datetime, answered_at: datetime) -> Iterator[str]:
        state, reason = told["state"], told["reason"]
        if self.has_ended and (state, reason) != (self.state, self.reason):
            yield f"was {self.state} ({self.reason}), and is {state} ({reason}) now"
        if state not in (*ENDS, "preparing"):
            yield f"is {state}"
        if state == "preparing" and self.known_at is not None and asked_at > self.known_at + ENDS_WITHIN + SLACK:
            yield f"is preparing after {asked_at - self.known_at}"
        if (reason is None) != (state in ("preparing", "ready")):
            yield f"is {state} for the reason {reason}"
        if (told["id"], told["list_id"]) != (self.send_id, self.list_id):
            yield f"is told as {told['id']} to {told['list_id']}"
        self.known_at = self.known_at or answered_at
        self.state, self.reason, self.as_of = state, reason, moment(told["as_of"])
        if state == "ready":
            yield from self._ready_wrong(moment(told["expires_at"]), answered_at)

    def _ready_wrong(self, expires_at: datetime | None, answered_at: datetime) -> Iterator[str]:
        if expires_at is None or not self.asked_at - SLACK <= expires_at - GOOD_FOR <= answered_at + SLACK:
            yield f"is good until {expires_at}"
        oldest = self.asked_at - self.max_age if self.takes_older_data else self.asked_at
        if self.as_of is None or not oldest - SLACK <= self.as_of <= answered_at + SLACK:
            yield f"was asked for at {self.asked_at}, and is ready as of {self.as_of}"


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# ---- Recipients


@dataclass(frozen=True)
class Page:
    """What one request for recipients has brought, whole or cut off."""

    preparation: Preparation
    began_at: datetime
    ended_at: datetime
    recipients: Sequence[dict[str, Any]] = field(default_factory=tuple)


def recipients_wrong(page: Page, memory: MailMemory, org: ChaosOrg) -> list[str]:
    """Return a line for everyone who must not be among these recipients."""
    wrong = [
        *stopped_ones(page, memory),
        *(() if page.preparation.is_of_older_data else opted_out_ones(page, org)),
        *doubled_ones(page),
    ]
    return [f"send {page.preparation.send_id}: {line}" for line in shorten(wrong)]


def stopped_ones(page: Page, memory: MailMemory) -> Iterator[str]:
    for each in page.recipients:
        stop = memory.why_not(key_of(page.preparation.advisor, each["email"]), page.began_at, page.ended_at)
        if stop is not None:
            yield f"{each['email']} is a recipient at {page.began_at}, and {words_of(stop)}"


def words_of(stop: Stop) -> str:
    """Return what is known of a stop: the campaign's people are made up."""
    return f"{stop.reason} at {stop.latest} ({stop.event_id or 'one-click'}, answered at {stop.answered_at})"


def opted_out_ones(page: Page, org: ChaosOrg) -> Iterator[str]:
    before = page.preparation.opted_out
    changed = org.changed_between(before.looked_at, page.ended_at)
    sure = {each: email for each, email in before.records.items() if each not in changed}
    addresses = {email for each, email in sure.items() if each not in org.ever_hidden}
    for each in page.recipients:
        if each["salesforce_id"] in sure:
            yield f"{each['salesforce_id']} opted out at Salesforce before {before.looked_at}"
        elif each["email"].lower() in addresses - {""} and each["salesforce_id"] not in changed:
            yield f"{each['email']} is also the address of a record that opted out before {before.looked_at}"


def doubled_ones(page: Page) -> Iterator[str]:
    counts = Counter(each["email"].lower() for each in page.recipients)
    yield from (f"{email} is a recipient {count} times" for email, count in counts.items() if count > 1)


def shorten(lines: Sequence[str]) -> list[str]:
    return [*lines[:SHOWN], *([f"and {len(lines) - SHOWN} more like that"] if len(lines) > SHOWN else [])]


# ---- When all is quiet


def audience_wrong(
    advisor: int, found: Iterable[str], contacts: Collection[Record], leads: Iterable[Record], memory: MailMemory
) -> list[str]:
    """Compare the recipients of the list of all contacts with the org and the memory, both ways.

    found: their addresses. contacts, leads: the user's own records that are not deleted, all of them visible.
    """
    out = {*opted_out([*contacts, *(row for row in leads if not row["IsConverted"])]).values()}
    may = {address_of(row) for row in contacts} - out - {""}
    reasons = {email: memory.reasons(key_of(advisor, email)) for email in may}
    here = {email.lower() for email in found}
    must = {email for email, told in reasons.items() if told == {None}}
    can = {email for email, told in reasons.items() if None in told}
    return [
        *shorten([f"{email} is no recipient, and should be" for email in sorted(must - here)]),
        *shorten([f"{email} is a recipient, and should not be ({reasons.get(email)})" for email in sorted(here - can)]),
    ]


def stored_wrong(rows: Iterable[tuple[int, str, str]], memory: MailMemory) -> list[str]:
    """Compare what is stored of events with what was told. rows: (number of the advisor, the sender's id, what happened)."""
    told = {(stop.advisor, stop.event_id): stop for stop in memory.stops() if stop.event_id}
    counts = Counter(rows)
    stored = Counter((advisor, event_id) for advisor, event_id, _ in counts.elements())
    lost = [key for key, stop in told.items() if stop.answered_at is not None and not stored[key]]
    unanswered = [key for key, stop in told.items() if stop.answered_at is None]
    twice = [key for key, count in stored.items() if count > 1]
    other = [key for key in counts if key[:2] not in told or told[key[:2]].reason != key[2]]
    return [
        *shorten([f"event {key} was answered and is lost" for key in lost]),
        *shorten([f"event {key} was never answered" for key in unanswered]),
        *shorten([f"event {key} is stored more than once" for key in twice]),
        *shorten([f"event {key} was not told like that" for key in other]),
        *shorten([f"event {key} {problem}" for key, stop in told.items() for problem in answers_wrong(stop)]),
    ]


def answers_wrong(stop: Stop) -> Iterator[str]:
    """An event is accepted once at most; its first answer may be `duplicate`, where the answer before was lost."""
    if stop.answers.count("accepted") > 1:
        yield f"was accepted {stop.answers.count('accepted')} times"


# ---- Telling Salesforce


@dataclass(frozen=True)
class ToTick:
    """A recipient's record whose person stopped the mails of an advisor whose firm wants Salesforce told."""

    salesforce_id: str
    since: datetime  # the record was here with this address
    stop: Stop


def ticks_wrong(
    to_tick: Iterable[ToTick], ticked: Iterable[str], records: Mapping[str, Record], org: ChaosOrg, memory: MailMemory
) -> list[str]:
    """Return what is wrong with what Salesforce was told, when all is quiet.

    ticked: Ids of the records whose Email Opt Out was set through the API, one for each time. records: the org's contacts and
    leads by Id.
    """
    counts = Counter(ticked)
    cleared = Counter(org.opted_in)
    too_often = [each for each, count in counts.items() if count > 1 + cleared[each]]
    must = {
        each.salesforce_id
        for each in to_tick
        if memory.reasons(each.stop.key) <= STOPPED_BY_PERSON
        and each.salesforce_id not in org.changed_since(each.since)
    }
    untold = [each for each in sorted(must) if not records[each]["HasOptedOutOfEmail"]]
    return [
        *shorten([f"{each} was ticked {counts[each]} times" for each in too_often]),
        *shorten([f"{each} is not ticked, though the person has stopped the mails" for each in untold]),
    ]


def ticked_for_no_one(
    ticked: Iterable[tuple[int, str, str]], org: ChaosOrg, memory: MailMemory, since: datetime
) -> list[str]:
    """Return which records were ticked though their people never stopped an advisor's mail.

    ticked: (number of the advisor, Id, address of now). since: when the campaign began.
    """
    changed = org.changed_since(since)
    wrong = [
        each
        for advisor, each, email in ticked
        if each not in changed and not memory.has_any(key_of(advisor, email or ""))
    ]
    return shorten([f"{each} was ticked, and its person never stopped the mails" for each in wrong])
