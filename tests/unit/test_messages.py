"""Every code has a text for every occasion on which it can occur, and no text is unused."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from asapp.leads.delivery import LEAD_RULES
from asapp.messages import alerts, checks, leads, senders, write_back
from asapp.messages.checks import CheckName, CheckWhy
from asapp.messages.codes import Code
from asapp.messages.failures import FAILURES, NEXT_STEPS, OTHERWISE, Facts, FixedBy, Occasion, explain
from asapp.messages.senders import ReasonForSenders, SenderReason
from asapp.models import (
    AlertKind,
    ConsentKind,
    ConsentSource,
    Reason,
    Review,
    SendReason,
    ToCheck,
    Unfollowed,
    Untold,
)
from asapp.salesforce import errors, oauth
from asapp.salesforce.errors import LimitReached, Misconfigured, ReconnectNeeded, Rejected, SalesforceError
from asapp.writeback import refusals

ASAPP = Path(errors.__file__).parents[1]
GUIDE_FOR_SENDERS = ASAPP.parent / "docs" / "senders.md"
DATA_TABLES = (errors.DATA_ERRORS, errors.DATA_STATUSES, errors.RECORD_ERRORS)
TOKEN_TABLES = (errors.TOKEN_ERRORS, errors.TOKEN_TEXTS)
SORTED = {row for table in (*DATA_TABLES, *TOKEN_TABLES) for row in table.values()} | {errors.UNKNOWN_REFUSAL}
OF_TOKENS = {row.code for table in TOKEN_TABLES for row in table.values()}
OF_CALLBACK = {*oauth.CALLBACK_ERRORS.values(), *oauth.CALLBACK_DESCRIPTIONS.values()}


def of_kind(*kinds: type[SalesforceError]) -> set[str]:
    return {row.code for row in SORTED if issubclass(row.kind, kinds)}


def nodes(*paths: str) -> Iterator[ast.AST]:
    for path in paths:
        for file in ASAPP.glob(path):
            yield from ast.walk(ast.parse(file.read_text()))


def codes_raised(*paths: str) -> set[str]:
    """Return the codes of the calls that make our errors: the first argument, written out or a member of Code."""
    kinds = {kind.__name__ for kind in _with_subclasses(SalesforceError)} | {"NotKept"}
    calls = [node for node in nodes(*paths) if isinstance(node, ast.Call) and node.args]
    first = [
        call.args[0] for call in calls if (getattr(call.func, "attr", "") or getattr(call.func, "id", "")) in kinds
    ]
    written = {arg.value for arg in first if isinstance(arg, ast.Constant)}
    return written | {Code[arg.attr] for arg in first if isinstance(arg, ast.Attribute) and arg.attr.isupper()}


def _with_subclasses(kind: type[SalesforceError]) -> set[type[SalesforceError]]:
    return {kind}.union(*(_with_subclasses(sub) for sub in kind.__subclasses__()))


# Codes that end one lead alone or a delivery; that the session handles itself; that end only a log-in.
ONLY_OF_RECORDS = of_kind(Rejected) | {"cross_reference_hidden", "record_locked", "rolled_back", "leads_share_used_up"}
ONLY_OF_LOG_INS = {"identity_refused"}
# A refresh token has not been used yet when one logs in, and no data was asked for.
ONLY_LATER = {
    "permission_withdrawn",
    "permission_expired",
    "unknown_grant_error",
    "instance_moved",
    "session_ended_again",
}
ONLY_LATER |= {"api_access_blocked"}
OF_OLDER_ROWS = {Occasion.RECONNECT: {"inactive_org"}, Occasion.LEAD_REFUSED: {"storage_full", "api_disabled"}}
# A lead waits for most obstacles that pass by themselves; these texts say more than that there was one.
WAITS_WITH_WORDS = {"no_answer", "checked", "row_locked", "record_locked", "no_connection", "maintenance", "our_bug"}
WAITS_WITH_WORDS |= {"share_used_up", "leads_share_used_up", "database_away", "foreign_host", "key_missing"}
WAITS_WITH_WORDS |= {"api_access_blocked", "field_encrypted", "redirected"}
# At a log-in a person waits for the answer and acts; a sync tries again by itself.
OTHERS_FIX_IT_LATER = {"code_expired", "unreadable_answer", "unknown_grant_error"}

CAN_COME: dict[Occasion, set[str]] = {
    Occasion.CONNECT: (
        OF_TOKENS | OF_CALLBACK | codes_raised("salesforce/oauth.py", "salesforce/session.py", "connections/connect.py")
        | {"no_api_scope", "no_refresh_token", "state_expired", "lost_state", "key_missing", "at_once", "already_connected"}
    ) - ONLY_LATER,
    Occasion.RECONNECT: of_kind(ReconnectNeeded) | {"unknown_grant_error"},
    Occasion.SYNC: (
        {row.code for row in SORTED} | codes_raised("salesforce/*.py", "sync/*.py", "connections/tokens.py")
        | {"opt_out_hidden", "org_nearly_full", "share_used_up", "worker_died"}
    ) - ONLY_OF_RECORDS - ONLY_OF_LOG_INS - {"session_expired"},
    Occasion.LEAD_WAITS: (of_kind(Misconfigured, LimitReached) - LEAD_RULES) | WAITS_WITH_WORDS,
    Occasion.LEAD_REFUSED: of_kind(Rejected) | LEAD_RULES | {"our_bug"},
    Occasion.LEADS_UNFOLLOWED: {"opt_out_hidden", "lead_opt_out_hidden", "leads_hidden"},
}  # fmt: skip


def test_every_code_of_salesforces_answers_is_a_code_and_every_code_is_one_that_something_carries() -> None:
    carried = {row.code for row in SORTED} | OF_CALLBACK | codes_raised("*/*.py")
    assert carried <= set(Code)
    written = {node.value for node in nodes("salesforce/*.py") if isinstance(node, ast.Constant)}
    members = (node for node in nodes("[!m]*/*.py") if isinstance(node, ast.Attribute))
    named = {Code[node.attr] for node in members if isinstance(node.value, ast.Name) and node.value.id == "Code"}
    assert set(Code) <= carried | written | named


@pytest.mark.parametrize("occasion", Occasion)
def test_the_codes_that_can_come_on_an_occasion_have_words_and_no_others_have(occasion: Occasion) -> None:
    with_words = {code for each, code in FAILURES if each == occasion}
    assert with_words == CAN_COME[occasion] | OF_OLDER_ROWS.get(occasion, set()) | {OTHERWISE[occasion]}


@pytest.mark.parametrize(("occasion", "code"), sorted(FAILURES))
def test_words_can_be_filled_in_and_say_what_is_safe_what_to_do_and_who_fixes_it(occasion: Occasion, code: str) -> None:
    facts = Facts("Northgate", "amara@northgate.example", opt_out_field="HasOptedOutOfEmail", first_name="Rose")
    failure = explain(occasion, code, facts)
    assert failure.headline.endswith((".", "”", "!"))
    assert failure.do_next.endswith((".", "?"))
    assert failure.safe.endswith(".")
    assert not set("{}") & set(f"{failure.headline}{failure.happened}{failure.do_next}{failure.safe}{failure.forward}")
    assert isinstance(failure.fixed_by, FixedBy)
    if occasion != Occasion.LEAD_WAITS:
        assert failure.forward or failure.fixed_by != FixedBy.FIRM_ADMIN
    if occasion == Occasion.SYNC:
        assert not failure.forward or failure.fixed_by == FixedBy.FIRM_ADMIN


@pytest.mark.parametrize("code", sorted({code for _, code in FAILURES} - OTHERS_FIX_IT_LATER))
def test_the_same_person_fixes_a_code_on_every_occasion(code: str) -> None:
    assert len({row.fixed_by for (_, each), row in FAILURES.items() if each == code}) == 1


def test_every_next_step_is_some_failures() -> None:
    told = {(occasion, row.fixed_by) for (occasion, _), row in FAILURES.items() if not row.do_next}
    assert {(occasion, who) for occasion, steps in NEXT_STEPS.items() for who in steps} == told


def test_every_finding_of_a_check_has_words_and_no_others_have() -> None:
    calls = [node for node in nodes("salesforce/probe.py", "partners/checks.py") if isinstance(node, ast.Call)]
    found = [call.args for call in calls if getattr(call.func, "id", "") == "Finding" and len(call.args) > 2]
    pairs = {(args[0].value, args[2].value) for args in found if _is_text(args[0]) and _is_text(args[2])}
    assert {(check, why) for check, why in pairs if not {(check, why), (None, why)} & set(checks.WORDS)} == set()
    written = {node.value for node in nodes("salesforce/probe.py") if isinstance(node, ast.Constant)}
    members = [node for node in nodes("*/*.py") if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    carried = written | {CheckWhy[node.attr] for node in members if node.value.id == "CheckWhy"}
    assert {why for _, why in checks.WORDS} - set(Code) == set(CheckWhy) <= carried
    assert {check for check, _ in checks.WORDS} - {None} == set(checks.TITLES) == set(CheckName)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant)


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (leads.LABELS, leads.Shown),
        (leads.TONES, leads.Shown),
        (leads.HOLDS, leads.Hold),
        (leads.UNFOLLOWED, Unfollowed),
        (leads.REVIEWS, Review),
        (leads.CHECKS, ToCheck),
        ({kind for kind, _ in leads.EVENTS}, ConsentKind),
        ({source for _, source in leads.EVENTS}, ConsentSource),
        (alerts.SUBJECTS, AlertKind),
        (senders.SEND_REASONS, SendReason),
        (senders.MAY_SEND_REASONS, [*Reason, *SenderReason]),
    ],
)
def test_every_member_of_an_enum_has_its_label_and_every_label_its_member(
    labels: Iterable[str], keys: Iterable[str]
) -> None:
    assert set(labels) == set(keys)


@pytest.mark.parametrize("reasons", [senders.SEND_REASONS, senders.MAY_SEND_REASONS])
def test_the_guide_for_senders_has_the_reasons_as_they_are_told(reasons: Mapping[str, ReasonForSenders]) -> None:
    rows = [f"| `{code}` | {each.means} | {each.acts} |" for code, each in reasons.items()]
    assert "\n".join(rows) in GUIDE_FOR_SENDERS.read_text()


def test_every_reason_against_a_write_back_has_a_text() -> None:
    assert set(write_back.UNTOLD) == set(Untold)
    assert set(write_back.TELLINGS) == set(write_back.Telling)
    for why in Untold:
        for own_words in ("Bitte Telefon.", None, "{braces} and %s"):
            words = write_back.words_of(why, own_words)
            assert words is not None
            assert words.says.endswith((".", "”"))
            assert "{words}" not in words.says
    assert write_back.words_of(None, None) is None


def test_every_refusal_ends_in_a_reason_with_words() -> None:
    rules = [*refusals.RULES.values(), *(rule for _, rule in refusals.BY_KIND)]
    assert {rule.why for rule in rules} <= set(write_back.UNTOLD)
    assert set(refusals.RULES) <= set(Code)
