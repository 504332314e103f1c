"""What Salesforce answers, and what we make of it. The bodies are as it sends them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from asapp.connections.words import CONNECT_FAILURES
from asapp.salesforce import errors
from asapp.salesforce.errors import (
    FieldEncrypted,
    FieldHidden,
    LimitReached,
    LocatorExpired,
    Misconfigured,
    ObjectHidden,
    OurBug,
    ReconnectNeeded,
    Rejected,
    SalesforceError,
    SessionExpired,
    TryLater,
    sort_data_error,
    sort_record_error,
    sort_token_error,
)
from asapp.sync.words import FAILURES, About, explain

ASAPP = Path(errors.__file__).parents[1]

# --- the data API ------------------------------------------------------------------------------------------------------

NO_SUCH_FIELD = (
    "\nselect Id, Company,Email,LastName,SF_date__c, ConvertedContactId from\n                                  ^\n"
    "ERROR at Row:1:Column:35\nNo such column 'SF_date__c' on entity 'Lead'. If you are attempting to use a custom field, "
    "be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the "
    "appropriate names."
)
NO_SUCH_TYPE = (
    "\nName,BillingCity,IsDeleted FROM Accout\n                                ^\nERROR at Row:1:Column:43\n"
    "sObject type 'Accout' is not supported. If you are attempting to use a custom object, be sure to append the '__c' "
    "after the entity name. Please reference your WSDL or the describe call for the appropriate names."
)
NOT_WRITABLE = (
    "Unable to create/update fields: MasterRecordId. Please check the security settings of this field and verify that it "
    "is read/write for your profile or permission set."
)
METERING = "We can't complete the action because enabled transaction security policies took too long to complete."
ERROR_ID = (
    "An unexpected error occurred. Please include this ErrorId if you contact support: 326566388-63578 (-436445966)"
)


class Row(NamedTuple):
    """One answer of the data API that carries an error code, and what it is to become."""

    status: int
    error_code: str
    message: str
    fields: list[str] | None
    kind: type[SalesforceError]
    code: str
    detail: str | None = None  # None: Salesforce's own code


DATA_ROWS = [
    Row(401, "INVALID_SESSION_ID", "Session expired or invalid", None, SessionExpired, "session_expired"),
    Row(
        401,
        "INVALID_SESSION_ID",
        "This session is not valid for use with the REST API",
        None,
        Misconfigured,
        "api_access_blocked",
    ),
    Row(
        401,
        "INVALID_SESSION_ID",
        "Connected app is not attached to Agent",
        None,
        Misconfigured,
        "api_access_blocked",
    ),
    Row(401, "INVALID_AUTH_HEADER", "INVALID_AUTH_HEADER", None, OurBug, "our_bug"),
    Row(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", None, LimitReached, "request_limit"),
    Row(
        403,
        "REQUEST_LIMIT_EXCEEDED",
        "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
        None,
        TryLater,
        "concurrent_limit",
    ),
    Row(
        403,
        "API_DISABLED_FOR_ORG",
        "The REST API is not enabled for this Organization.",
        None,
        Misconfigured,
        "api_disabled",
    ),
    Row(
        403,
        "API_DISABLED_FOR_ORG",
        "API is not enabled for this Organization or Partner",
        None,
        Misconfigured,
        "api_disabled",
    ),
    Row(403, "API_CURRENTLY_DISABLED", "API is currently disabled for this user.", None, Misconfigured, "api_disabled"),
    Row(403, "INSUFFICIENT_ACCESS", "insufficient access rights on object", None, Misconfigured, "insufficient_access"),
    Row(
        403,
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "insufficient access rights on object id",
        [],
        Misconfigured,
        "insufficient_access",
    ),
    Row(403, "FORBIDDEN", "You don't have access to this resource", None, Misconfigured, "insufficient_access"),
    Row(403, "FUNCTIONALITY_NOT_ENABLED", "", None, Misconfigured, "insufficient_access"),
    Row(400, "INVALID_FIELD", NO_SUCH_FIELD, None, FieldHidden, "field_hidden", "SF_date__c"),
    Row(
        400,
        "INVALID_FIELD",
        "No such column 'AccountNumer' on sobject of type Account",
        None,
        FieldHidden,
        "field_hidden",
        "AccountNumer",
    ),
    Row(
        400,
        "INVALID_FIELD",
        "Id FROM Lead WHERE Email IN ('x@y.example')\n      ^\nERROR at Row:1:Column:27\n"
        "field 'Email' can not be filtered in a query call",
        None,
        FieldEncrypted,
        "field_encrypted",
        "Email",
    ),
    Row(
        400,
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        NOT_WRITABLE,
        ["MasterRecordId"],
        Misconfigured,
        "field_not_writable",
        "MasterRecordId",
    ),
    Row(400, "INVALID_TYPE", NO_SUCH_TYPE, None, ObjectHidden, "object_hidden", "Accout"),
    Row(400, "MALFORMED_QUERY", "unexpected token: 'FORM'", None, OurBug, "our_bug"),
    Row(400, "INVALID_QUERY_LOCATOR", "invalid query locator", None, LocatorExpired, "locator_expired"),
    Row(400, "QUERY_TIMEOUT", "Your query request was running for too long.", None, TryLater, "query_timeout"),
    Row(400, "OPERATION_TOO_LARGE", "exceeded 100000 distinct who/what's", None, Misconfigured, "query_too_large"),
    Row(400, "MALFORMED_ID", "malformed id 001xx", None, OurBug, "our_bug"),
    Row(400, "JSON_PARSER_ERROR", "Unexpected character ('}' (code 125))", None, OurBug, "our_bug"),
    Row(
        400,
        "REQUIRED_FIELD_MISSING",
        "Required fields are missing: [LastName]",
        ["LastName"],
        Rejected,
        "required_field",
        "LastName",
    ),
    Row(400, "REQUIRED_FIELD_MISSING", "At least 1 record is required", None, Rejected, "required_field"),
    Row(
        400,
        "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "Bitte geben Sie eine Telefonnummer an.",
        [],
        Rejected,
        "validation_rule",
    ),
    Row(
        400,
        "INVALID_EMAIL_ADDRESS",
        "Email: invalid email address: rose at edge",
        ["Email"],
        Rejected,
        "invalid_email",
    ),
    Row(
        400,
        "STRING_TOO_LONG",
        "First Name: data value too large: Roseanne-Marguerite (max length=40)",
        ["FirstName"],
        Rejected,
        "too_long",
    ),
    Row(
        400,
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "Lead Source: bad value for restricted picklist field: AdvisorStream",
        ["LeadSource"],
        Rejected,
        "restricted_picklist",
    ),
    Row(400, "DUPLICATES_DETECTED", "Use one of these records?", None, Rejected, "duplicate"),
    Row(
        400,
        "DUPLICATE_VALUE",
        "duplicate value found: Ref__c duplicates value on record with id: 00Q5g00000KqT1x",
        [],
        Rejected,
        "duplicate",
    ),
    Row(
        400,
        "UNABLE_TO_LOCK_ROW",
        "unable to obtain exclusive access to this record or 1 records: 0015g00000KqT1x",
        [],
        TryLater,
        "row_locked",
    ),
    Row(
        400,
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "LeadGuard: execution of BeforeInsert caused by: System.NullPointerException",
        [],
        Rejected,
        "firms_own_code",
    ),
    Row(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [], Rejected, "owner_unusable"),
    Row(400, "INACTIVE_OWNER_OR_USER", "operation performed with inactive user", [], Rejected, "owner_unusable"),
    Row(400, "STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", [], Misconfigured, "storage_full"),
    Row(400, "TXN_SECURITY_METERING_ERROR", METERING, [], TryLater, "server_unavailable"),
    Row(
        400,
        "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
        "System maintenance in progress",
        [],
        TryLater,
        "maintenance",
    ),
    Row(400, "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [], Rejected, "converted"),
    Row(400, "LIMIT_EXCEEDED", "You have exceeded a limit of your organization", [], Misconfigured, "org_limit"),
    Row(404, "NOT_FOUND", "The requested resource does not exist", None, OurBug, "our_bug"),
    Row(404, "ENTITY_IS_DELETED", "entity is deleted", [], Rejected, "deleted"),
    Row(405, "METHOD_NOT_ALLOWED", "HTTP Method 'PUT' not allowed. Allowed are GET,POST", None, OurBug, "our_bug"),
    Row(410, "UNSUPPORTED_API_VERSION", "This version is retired", None, Misconfigured, "api_version_retired"),
    Row(410, "GONE", "This version is retired", None, Misconfigured, "api_version_retired"),
    Row(500, "UNKNOWN_EXCEPTION", ERROR_ID, None, TryLater, "server_error"),
    Row(500, "SERVER_ERROR", ERROR_ID, None, TryLater, "server_error"),
    Row(503, "SERVER_UNAVAILABLE", "Server Unavailable", None, TryLater, "server_unavailable"),
    Row(400, "A_CODE_THAT_IS_YET_TO_COME", "Something new", None, OurBug, "our_bug"),
    Row(503, "A_CODE_THAT_IS_YET_TO_COME", "Something new", None, TryLater, "server_unavailable"),
]


def entry(row: Row, key: str = "errorCode") -> dict[str, Any]:
    body: dict[str, Any] = {"message": row.message, key: row.error_code}
    return body if row.fields is None else body | {"fields": row.fields}


@pytest.mark.parametrize("row", DATA_ROWS, ids=lambda row: f"{row.status}-{row.error_code}-{row.code}")
def test_an_error_of_the_data_api_is_sorted_by_what_to_do_next(row: Row) -> None:
    error = sort_data_error(row.status, [entry(row)])
    assert type(error) is row.kind
    assert error.code == row.code
    assert error.detail == (row.error_code if row.detail is None else row.detail)


@pytest.mark.parametrize("row", [row for row in DATA_ROWS if row.status == 400], ids=lambda row: row.error_code)
def test_a_row_of_a_collection_is_sorted_like_a_record_of_its_own(row: Row) -> None:
    """Collections say statusCode where single records say errorCode, in an answer of status 200."""
    error = sort_data_error(400, [entry(row, "statusCode")])
    assert (type(error), error.code) == (row.kind, row.code)
    error = sort_record_error(row.error_code, row.message, row.fields or [])
    assert (type(error), error.code) == (row.kind, row.code)


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


WITHOUT_A_CODE = [
    (401, SessionExpired, "session_expired"),  # XML labelled text/html: a dead token without a JSON content type
    (403, Misconfigured, "insufficient_access"),
    (404, OurBug, "our_bug"),
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
    (300, OurBug, "our_bug"),  # several records for one external id: we ask by none
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
def test_whoever_answers_5xx_may_have_done_what_was_asked(status: int, body: Any) -> None:
    error = sort_data_error(status, body)
    assert isinstance(error, TryLater)
    assert error.is_ambiguous


@pytest.mark.parametrize("status", [302, 406, 420, 429])
def test_a_front_door_that_turns_us_away_has_done_nothing(status: int) -> None:
    error = sort_data_error(status, None)
    assert isinstance(error, TryLater)
    assert not error.is_ambiguous


# --- the token endpoint ------------------------------------------------------------------------------------------------

TOKEN_ROWS = [
    ("invalid_grant", "expired authorization code", TryLater, "code_expired"),
    ("invalid_grant", "invalid authorization code", TryLater, "code_expired"),
    ("invalid_grant", "authentication failure", TryLater, "unknown_grant_error"),
    ("invalid_grant", "authentication failure - Invalid Password", TryLater, "unknown_grant_error"),
    ("invalid_grant", "expired access/refresh token", ReconnectNeeded, "permission_withdrawn"),
    ("invalid_grant", "inactive user", ReconnectNeeded, "inactive_user"),
    ("invalid_grant", "activation secret invalid", TryLater, "token_endpoint_busy"),
    ("invalid_grant", "invalid code verifier", OurBug, "pkce"),
    ("invalid_grant", "token validity expired", ReconnectNeeded, "permission_expired"),
    ("invalid_grant", "ip restricted or invalid login hours", Misconfigured, "ip_restricted"),
    ("invalid_grant", "IP restricted or invalid login hours", Misconfigured, "ip_restricted"),
    ("invalid_grant", "user hasn't approved this consumer", ReconnectNeeded, "permission_withdrawn"),
    ("invalid_grant", "login rate exceeded", TryLater, "token_endpoint_busy"),
    ("invalid_grant", "something nobody has seen before", TryLater, "unknown_grant_error"),
    ("invalid_client_id", "client identifier invalid", Misconfigured, "bad_key"),
    ("invalid_client", "client identifier invalid", Misconfigured, "bad_key"),
    ("invalid_client", "invalid client credentials", Misconfigured, "bad_secret"),
    ("invalid_client_credentials", "client secret invalid", Misconfigured, "bad_secret"),
    ("redirect_uri_mismatch", "redirect_uri must match configuration", Misconfigured, "redirect_mismatch"),
    ("invalid_app_access", "user is not admin approved to access this app", Misconfigured, "not_admin_approved"),
    ("invalid_app_access", "app denied", Misconfigured, "not_admin_approved"),
    ("invalid_scope", "the requested scope is not allowed", Misconfigured, "scope_missing"),
    ("unsupported_grant_type", "grant type not supported", OurBug, "our_bug"),
    ("unsupported_response_type", "response type not supported", OurBug, "our_bug"),
    ("invalid_request", "invalid code verifier", OurBug, "our_bug"),
    ("inactive_user", "user is inactive", ReconnectNeeded, "inactive_user"),
    ("inactive_org", "Org is locked, closed, or suspended", ReconnectNeeded, "inactive_org"),
    ("rate_limit_exceeded", "Number of logins exceeded", TryLater, "token_endpoint_busy"),
    ("server_error", "", TryLater, "token_endpoint_busy"),
    ("temporarily_unavailable", "", TryLater, "token_endpoint_busy"),
    ("an_error_that_is_yet_to_come", "", TryLater, "token_endpoint_busy"),
]


@pytest.mark.parametrize(("name", "description", "kind", "code"), TOKEN_ROWS)
def test_an_error_of_the_token_endpoint_is_sorted_by_what_to_do_next(
    name: str, description: str, kind: type[SalesforceError], code: str
) -> None:
    error = sort_token_error(400, {"error": name, "error_description": description})
    assert (type(error), error.code, error.detail) == (kind, code, name)


def test_only_the_answers_that_are_known_to_end_a_permission_do() -> None:
    ends = {(name, text) for name, text, kind, _ in TOKEN_ROWS if kind is ReconnectNeeded}
    assert ends == {
        ("invalid_grant", "expired access/refresh token"),
        ("invalid_grant", "token validity expired"),
        ("invalid_grant", "inactive user"),
        ("invalid_grant", "user hasn't approved this consumer"),
        ("inactive_user", "user is inactive"),
        ("inactive_org", "Org is locked, closed, or suspended"),
    }


@pytest.mark.parametrize("status", [200, 302, 400, 403, 420, 429, 500, 503])
@pytest.mark.parametrize(
    "body", [None, [], {}, "<html></html>", [{"errorCode": "X"}], {"error": None}, {"error": "rose@edge.com"}], ids=str
)
def test_an_answer_that_makes_no_sense_disconnects_nobody(status: int, body: Any) -> None:
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


# Codes that end a lead, never a run: their words are the leads' own.
ONLY_OF_RECORDS = {
    "converted",
    "deleted",
    "duplicate",
    "firms_own_code",
    "invalid_email",
    "owner_unusable",
    "required_field",
    "restricted_picklist",
    "too_long",
    "validation_rule",
}
INSIDE_THE_SESSION = {"session_expired"}  # the session refreshes, and says later what it means
ONLY_OF_LOG_INS = {"identity_refused"}  # connections/words.py
MADE_BY_THE_SYNC = {"opt_out_hidden", "org_nearly_full", "share_used_up", "worker_died"}


def test_every_code_that_can_end_a_run_has_words_and_no_others_have() -> None:
    can_end_a_run = codes_of_tables() | codes_raised() | MADE_BY_THE_SYNC
    can_end_a_run -= ONLY_OF_RECORDS | INSIDE_THE_SESSION | ONLY_OF_LOG_INS
    assert set(FAILURES) == can_end_a_run


def test_every_code_of_a_log_in_has_words() -> None:
    codes = {row.code for row in errors.TOKEN_ERRORS.values()}
    codes |= codes_raised("salesforce/oauth.py", "salesforce/session.py")
    only_later = {"permission_withdrawn", "permission_expired", "instance_moved", "api_access_blocked"}
    only_later |= {"session_ended_again"}
    codes -= {"unknown_grant_error"}  # an unknown refusal is shown with Salesforce's own words
    assert codes - only_later <= set(CONNECT_FAILURES)


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_words_can_be_filled_in_and_say_what_is_safe_and_what_to_do(code: str) -> None:
    about = About("Northgate Wealth", "amara@northgate.example", "HasOptedOutOfEmail", "SOME_{CODE}")
    words = explain(code, about)
    assert words.headline.endswith(".")
    assert words.happened
    assert words.safe
    assert words.next_step
    assert "{firm}" not in f"{words}"


def codes_of_tables() -> set[str]:
    tables = (errors.DATA_ERRORS, errors.DATA_STATUSES, errors.TOKEN_ERRORS)
    return {row.code for table in tables for row in table.values()}


def codes_raised(*paths: str) -> set[str]:
    """Read the code of the calls that make our errors: the first argument, where it is written out."""
    kinds = {kind.__name__ for kind in _with_subclasses(SalesforceError)} | {"Sorted"}
    files = [ASAPP / path for path in paths] or [
        *(ASAPP / "salesforce").glob("*.py"),
        *(ASAPP / "sync").glob("*.py"),
        ASAPP / "connections/tokens.py",
    ]
    codes = set()
    for call in (
        node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        at = 1 if name == "Sorted" else 0
        if name in kinds and len(call.args) > at and isinstance(call.args[at], ast.Constant):
            codes.add(call.args[at].value)
    return codes


def _with_subclasses(kind: type[SalesforceError]) -> set[type[SalesforceError]]:
    return {kind}.union(*(_with_subclasses(sub) for sub in kind.__subclasses__()))
