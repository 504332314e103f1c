"""Salesforce's errors, and what we make of them. The bodies are as Salesforce sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asapp.leads.delivery import LEAD_RULES, sort_out
from asapp.messages.failures import FAILURES, OTHERWISE, Facts, FixedBy, Occasion, explain
from asapp.messages.leads import refusal_of
from asapp.models import Lead, LeadState
from asapp.salesforce import errors
from asapp.salesforce.errors import (
    Misconfigured,
    OurBug,
    ReconnectNeeded,
    SalesforceError,
    SessionExpired,
    TryLater,
    sort_data_error,
    sort_record_error,
    sort_token_error,
)
from tests.salesforce.answers import (
    DATA_ROWS,
    OF_LEADS,
    OF_LOG_INS,
    OF_RUNS,
    RECORD_ROWS,
    TOKEN_ROWS,
    ErrorAnswer,
    TokenRow,
    entry,
)

OF_THE_WHOLE_FIRM = {row.code for row in (*DATA_ROWS, *TOKEN_ROWS) if row.kind is Misconfigured} - LEAD_RULES
ASAPP = Path(errors.__file__).parents[1]

# --- the data API ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", DATA_ROWS, ids=lambda row: f"{row.status}-{row.error_code}-{row.code}")
def test_an_error_of_the_data_api_is_sorted_by_what_to_do_next(row: ErrorAnswer) -> None:
    error = sort_data_error(row.status, [entry(row)])
    assert type(error) is row.kind
    assert error.code == row.code
    assert error.detail == (row.error_code if row.detail is None else row.detail)


OTHERWISE_OF_A_RECORD = {row.error_code for row in RECORD_ROWS}
OF_ONE_RECORD = [row for row in DATA_ROWS if row.status == 400 and row.error_code not in OTHERWISE_OF_A_RECORD]


@pytest.mark.parametrize("row", [*OF_ONE_RECORD, *RECORD_ROWS], ids=lambda row: f"{row.error_code}-{row.code}")
def test_a_row_of_a_collection_is_sorted_for_itself(row: ErrorAnswer) -> None:
    """Collections name the code statusCode where single records name it errorCode, in an answer with status 200."""
    error = sort_record_error(row.error_code, row.message, row.fields or [])
    assert (type(error), error.code) == (row.kind, row.code)
    assert error.detail == (row.error_code if row.detail is None else row.detail)
    if row not in RECORD_ROWS:
        assert sort_data_error(400, [entry(row, "statusCode")]).code == row.code


def test_an_unknown_refusal_of_a_record_keeps_code_field_and_text() -> None:
    error = sort_record_error("NEW_CODE", "Some\n thing \x00new", ["Region__c"])
    assert (error.detail, error.words) == ("NEW_CODE, Region__c", "Some thing new")
    nonsense = sort_record_error("<b>", "", ["a b", "<i>"])
    assert (nonsense.code, nonsense.detail) == ("unknown_refusal", "")


def test_what_a_duplicate_rule_found_does_not_disturb_the_sorting() -> None:
    found = {
        "allowSave": True,
        "duplicateRule": "Standard_Contact_Duplicate_Rule",
        "matchResults": [{"matchRecords": [{"record": {"Id": "003aj000002oTldAAE"}}], "size": 1, "success": True}],
    }
    body = [{"duplicateResult": found, "errorCode": "DUPLICATES_DETECTED", "message": "Use one of these records?"}]
    assert sort_data_error(400, body).code == "duplicate"


def test_of_several_errors_the_first_decides() -> None:
    body = [
        {"message": "unable to obtain exclusive access", "errorCode": "UNABLE_TO_LOCK_ROW"},
        {"message": "The requested resource does not exist", "errorCode": "NOT_FOUND"},
    ]
    assert sort_data_error(400, body).code == "row_locked"


def test_the_firms_own_words_are_kept_for_the_advisor_and_out_of_the_log() -> None:
    error = sort_record_error("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Rose Gonzalez braucht eine Telefonnummer")
    assert error.words == "Rose Gonzalez braucht eine Telefonnummer"
    assert "Rose" not in str(error)


WRITTEN_BY_THE_FIRM = {
    "FIELD_CUSTOM_VALIDATION_EXCEPTION",
    "FIELD_INTEGRITY_EXCEPTION",
    "FIELD_FILTER_VALIDATION_EXCEPTION",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
    "CANNOT_EXECUTE_FLOW_TRIGGER",
    "APEX_ERROR",
    "NEVER_HEARD_OF",
}


@pytest.mark.parametrize("code", [*sorted({*errors.DATA_ERRORS, *errors.RECORD_ERRORS}), "NEVER_HEARD_OF"])
def test_no_words_are_kept_but_those_that_the_firm_may_have_written(code: str) -> None:
    """Salesforce's own texts may name records of other people."""
    message = "Use Mei Chou <mei.chou@harbour.example>"
    assert sort_record_error(code, message).words == (message if code in WRITTEN_BY_THE_FIRM else "")


WITHOUT_A_CODE = [
    (401, SessionExpired, "session_expired"),  # XML labelled text/html: a dead token without a JSON content type
    (403, Misconfigured, "insufficient_access"),
    (404, TryLater, "redirected"),
    (406, TryLater, "edge_busy"),
    (410, Misconfigured, "api_version_retired"),
    (414, OurBug, "our_bug"),
    (420, TryLater, "edge_busy"),
    (429, TryLater, "edge_busy"),
    (431, OurBug, "our_bug"),
    (500, TryLater, "server_unavailable"),
    (502, TryLater, "server_unavailable"),
    (503, TryLater, "server_unavailable"),
    (504, TryLater, "server_unavailable"),
    (301, TryLater, "redirected"),
    (302, TryLater, "redirected"),
    (307, TryLater, "redirected"),
    (300, OurBug, "our_bug"),  # several records for one external id: we never use one
    (409, OurBug, "our_bug"),
    (412, OurBug, "our_bug"),
    (415, OurBug, "our_bug"),
    (428, OurBug, "our_bug"),
]
NOT_AN_ERROR_LIST: list[Any] = [
    None,  # HTML, XML, plain text, nothing, cut off
    [],
    {},
    {"error": "invalid_grant"},
    "Bad_OAuth_Token",
    ["/services/data/v60.0/sobjects/Lead/00Q5g00000KqT1xAAF"],
    [[]],
    [{}],
    [{"message": None, "errorCode": None}],
    [{"message": {"a": 1}, "errorCode": 7, "fields": "Email"}],
    [{"errorCode": "<script>rose@edge.com</script>", "message": "rose@edge.com"}],
]


@pytest.mark.parametrize(("status", "kind", "code"), WITHOUT_A_CODE)
@pytest.mark.parametrize("body", NOT_AN_ERROR_LIST, ids=str)
def test_an_answer_without_a_code_is_sorted_by_its_status(
    status: int, kind: type[SalesforceError], code: str, body: Any
) -> None:
    error = sort_data_error(status, body)
    assert (type(error), error.code, error.detail) == (kind, code, f"status {status}")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [None, [{"message": "Server Unavailable", "errorCode": "SERVER_UNAVAILABLE"}]])
def test_a_request_that_is_answered_by_5xx_may_have_been_carried_out(status: int, body: Any) -> None:
    error = sort_data_error(status, body)
    assert isinstance(error, TryLater)
    assert error.is_ambiguous


@pytest.mark.parametrize("status", [302, 406, 420, 429])
def test_a_refusal_by_salesforces_proxy_means_that_nothing_was_done(status: int) -> None:
    error = sort_data_error(status, None)
    assert isinstance(error, TryLater)
    assert not error.is_ambiguous


# --- the token endpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: f"{row.error}-{row.description}")
def test_an_error_of_the_token_endpoint_is_sorted_by_what_to_do_next(row: TokenRow) -> None:
    error = sort_token_error(400, {"error": row.error, "error_description": row.description})
    assert (type(error), error.code, error.detail) == (row.kind, row.code, row.error)


def test_only_the_answers_that_are_known_to_end_a_permission_do() -> None:
    ends = {(row.error, row.description) for row in TOKEN_ROWS if row.kind is ReconnectNeeded}
    assert ends == {
        ("invalid_grant", "expired access/refresh token"),
        ("invalid_grant", "token validity expired"),
        ("invalid_grant", "inactive user"),
        ("invalid_grant", "user hasn't approved this consumer"),
        ("inactive_user", "user is inactive"),
    }


@pytest.mark.parametrize("ends", ["expired access/refresh token", "token validity expired", "inactive user"])
def test_words_that_only_resemble_those_do_not(ends: str) -> None:
    error = sort_token_error(400, {"error": "invalid_grant", "error_description": f"not an {ends}, but something else"})
    assert (type(error), error.code) == (TryLater, "unknown_grant_error")


@pytest.mark.parametrize("status", [200, 302, 400, 403, 420, 429, 500, 503])
@pytest.mark.parametrize(
    "body", [None, [], {}, "<html></html>", [{"errorCode": "X"}], {"error": None}, {"error": "rose@edge.com"}], ids=str
)
def test_an_answer_that_makes_no_sense_disconnects_no_one(status: int, body: Any) -> None:
    error = sort_token_error(status, body)
    assert (type(error), error.code) == (TryLater, "token_endpoint_busy")


# --- what may be logged, and what people read --------------------------------------------------------------------------

PERSONAL = ("Rose", "Gonzalez", "rose@edge.com", "Fjord")
TELLING = "Rose Gonzalez <rose@edge.com> of Fjord"


@pytest.mark.parametrize("name", sorted(errors.DATA_ERRORS))
def test_no_text_of_an_error_names_a_person(name: str) -> None:
    body = [{"errorCode": name, "message": f"Email: {TELLING}", "fields": ["Email", TELLING]}]
    assert_silent(sort_data_error(400, body))
    assert_silent(sort_record_error(name, TELLING))


def test_codes_and_fields_that_look_like_neither_are_dropped() -> None:
    assert_silent(sort_data_error(400, [{"errorCode": TELLING, "message": TELLING, "fields": [TELLING]}]))
    assert_silent(sort_data_error(400, [{"errorCode": "REQUIRED_FIELD_MISSING", "fields": [TELLING, None, {}]}]))
    assert_silent(sort_data_error(400, [{"errorCode": "INVALID_FIELD", "message": f"No such column '{TELLING}' on"}]))
    assert_silent(sort_token_error(400, {"error": TELLING, "error_description": TELLING}))
    assert_silent(sort_token_error(400, {"error": "invalid_grant", "error_description": TELLING}))


def assert_silent(error: SalesforceError) -> None:
    shown = f"{error} {error!r} {error.detail} {error.args}"
    assert not [word for word in PERSONAL if word in shown]


def test_every_code_of_the_tables_is_in_the_list_and_every_one_of_the_list_in_the_tables() -> None:
    made_up = {"A_CODE_THAT_IS_YET_TO_COME"}
    assert {row.error_code for row in DATA_ROWS} - made_up == set(errors.DATA_ERRORS)
    assert {row.error_code for row in RECORD_ROWS} - made_up == set(errors.RECORD_ERRORS)
    told = {errors.find_token_row(row.error, errors.normal_description(row.description)) for row in TOKEN_ROWS}
    assert told >= {*errors.TOKEN_ERRORS.values(), *errors.TOKEN_TEXTS.values()}
    assert {row.error.lower() for row in TOKEN_ROWS} >= {name for name, _ in errors.TOKEN_ERRORS}
    said = {errors.normal_description(row.description) for row in TOKEN_ROWS}
    assert said >= {text for _, text in errors.TOKEN_ERRORS if text != "*"}
    assert all(any(text in each for each in said) for text in errors.TOKEN_TEXTS)


ALL_ROWS = [*DATA_ROWS, *TOKEN_ROWS]
CAN_END_A_RUN = sorted(
    code for code in {row.code for row in ALL_ROWS} | {"redirected", "edge_busy"} if (Occasion.SYNC, code) in FAILURES
)


@pytest.mark.parametrize("code", CAN_END_A_RUN)
def test_of_each_code_that_ends_a_run_it_is_stated_who_fixes_it_and_what_is_tried_again(code: str) -> None:
    fixed_by, again = OF_RUNS[code]
    assert FAILURES[Occasion.SYNC, code].fixed_by == fixed_by
    kinds = {row.kind for row in ALL_ROWS if row.code == code} or {TryLater}
    assert {kind.again for kind in kinds} == {again}


@pytest.mark.parametrize("row", [*OF_ONE_RECORD, *RECORD_ROWS], ids=lambda row: f"{row.error_code}-{row.code}")
def test_a_lead_ends_in_the_right_state_with_words_for_the_right_person(row: ErrorAnswer) -> None:
    state, fixed_by = OF_LEADS[row.code]
    lead = Lead(failures=0)
    sort_out(lead, sort_record_error(row.error_code, row.message, row.fields or []))
    assert (lead.state, lead.why) == (state, row.code)
    if state == LeadState.REFUSED:
        words = refusal_of(lead)
        assert words.fixed_by == fixed_by
        said = f"{words.headline} {words.happened} {words.do_next} {words.forward}"
        assert all(field in said for field in row.fields or [] if row.code in errors.NAME_FIELDS)
        assert row.message in said or row.code not in errors.QUOTE_MESSAGE


def test_nothing_that_a_record_is_refused_for_in_unknown_words_is_called_our_bug() -> None:
    assert explain(Occasion.LEAD_REFUSED, "of a code to come", Facts()).fixed_by == FixedBy.FIRM_ADMIN
    assert OTHERWISE[Occasion.LEAD_REFUSED] == errors.UNKNOWN_REFUSAL.code


@pytest.mark.parametrize("code", sorted(OF_THE_WHOLE_FIRM))
def test_a_lead_waits_for_what_is_wrong_with_the_whole_firm(code: str) -> None:
    lead = Lead(failures=0)
    sort_out(lead, Misconfigured(code))
    assert (lead.state, lead.why) == (LeadState.WAITING, code)


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: f"{row.error}-{row.description}")
def test_of_each_answer_to_a_log_in_it_is_stated_who_fixes_it(row: TokenRow) -> None:
    # A refresh token has not been used yet when one logs in.
    is_only_later = row.kind is ReconnectNeeded and row.code not in OF_LOG_INS
    failure = explain(Occasion.RECONNECT if is_only_later else Occasion.CONNECT, row.code, Facts())
    assert failure.fixed_by == (FixedBy.ADVISOR if is_only_later else OF_LOG_INS[row.code])
