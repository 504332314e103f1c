"""What went wrong at Salesforce, sorted by what to do next. The tables here are the only place that decides it.

Data calls answer an array of {"message", "errorCode", "fields"}; log-in and token calls an object {"error",
"error_description"}; Salesforce's edge servers and maintenance pages answer HTML, or nothing. Messages may hold names and
addresses: our errors carry the code alone, and the message only if a person configured it (validation rules).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Again(StrEnum):
    """What is tried again after an error, and when."""

    SOON = "soon"  # the same call, a few times; then the next run, or a lead's next round
    WHEN_FREE = "when_free"  # when the org has calls left
    AT_ONCE = "at_once"  # with a new token, or from the checkpoint
    AFTER_CONNECTING = "after_connecting"  # when the advisor has connected again
    NEXT_RUN = "next_run"  # by schedule, later from failure to failure
    ON_RETRY = "on_retry"  # this record only, when the advisor presses Retry


class SalesforceError(Exception):
    """Base of the errors that a call to Salesforce can end with.

    code: the key of the message for people. detail: Salesforce's own error code or a field's name, never personal data.
    str() of the error is safe to log.
    """

    again: ClassVar[Again] = Again.NEXT_RUN
    is_safe_to_log: ClassVar[bool] = True  # core/logs.py

    def __init__(self, code: str, detail: str = "", words: str = "") -> None:
        super().__init__(f"{code} ({detail})" if detail else code)
        self.code = code
        self.detail = detail
        self.words = words  # text that an admin of the firm wrote: shown to the advisor, never logged


class TryLater(SalesforceError):
    """Nothing to fix: the same call may work later. is_ambiguous: this one may have been carried out."""

    again = Again.SOON

    def __init__(self, code: str, detail: str = "", words: str = "", is_ambiguous: bool = False) -> None:
        super().__init__(code, detail, words)
        self.is_ambiguous = is_ambiguous


class LimitReached(SalesforceError):
    """The org's allowance is used up: the whole firm pauses."""

    again = Again.WHEN_FREE


class ReconnectNeeded(SalesforceError):
    """Only the advisor can fix it, by connecting again."""

    again = Again.AFTER_CONNECTING


class SessionExpired(SalesforceError):
    """The access token has expired: refresh once and go on."""

    again = Again.AT_ONCE


class Rejected(SalesforceError):
    """Salesforce refuses this record only."""

    again = Again.ON_RETRY


class Misconfigured(SalesforceError):
    """The firm's Salesforce admin, or AdvisorStream's, has to change something."""


class LocatorExpired(SalesforceError):
    """Salesforce no longer keeps the rest of a query: query again from the checkpoint."""

    again = Again.AT_ONCE


class FieldHidden(Misconfigured):
    """The connected user can't see a field, or it doesn't exist; Salesforce doesn't say which. detail: the field."""


class FieldEncrypted(Misconfigured):
    """A field can be read but not queried by: it is encrypted at rest. detail: the field."""


class ObjectHidden(Misconfigured):
    """The connected user may not read an object. detail: the object."""


class OurBug(SalesforceError):
    """We sent a wrong request. Caught only at the edge, and logged."""


@dataclass(frozen=True)
class Sorted:
    """One row of a table: what to do (an error class), and the key of the message for people."""

    kind: type[SalesforceError]
    code: str


# By Salesforce's errorCode (a statusCode in collections). Status and message matter only where the functions below say
# so.
# tests/salesforce/answers.py lists each with its source.
DATA_ERRORS: Mapping[str, Sorted] = {
    # try later
    "UNABLE_TO_LOCK_ROW": Sorted(TryLater, "row_locked"),
    "ENTITY_IS_LOCKED": Sorted(TryLater, "record_locked"),
    "ALL_OR_NONE_OPERATION_ROLLED_BACK": Sorted(TryLater, "rolled_back"),
    "PROCESSING_HALTED": Sorted(TryLater, "rolled_back"),
    "BATCH_PROCESSING_HALTED": Sorted(TryLater, "rolled_back"),
    "QUERY_TIMEOUT": Sorted(TryLater, "query_timeout"),
    "UNKNOWN_EXCEPTION": Sorted(TryLater, "server_error"),
    "SERVER_ERROR": Sorted(TryLater, "server_error"),
    "SERVER_UNAVAILABLE": Sorted(TryLater, "server_unavailable"),
    "TXN_SECURITY_METERING_ERROR": Sorted(TryLater, "server_unavailable"),
    "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE": Sorted(TryLater, "maintenance"),
    # limit
    "REQUEST_LIMIT_EXCEEDED": Sorted(LimitReached, "request_limit"),
    # the session
    "INVALID_SESSION_ID": Sorted(SessionExpired, "session_expired"),
    "INVALID_QUERY_LOCATOR": Sorted(LocatorExpired, "locator_expired"),
    "INVALID_QUERY_LOCATOR_FORMAT": Sorted(LocatorExpired, "locator_expired"),
    "QUERY_LOCATOR_EXPIRED": Sorted(LocatorExpired, "locator_expired"),
    "QUERY_LOCATOR_NOT_FOUND": Sorted(LocatorExpired, "locator_expired"),
    "LOCATOR_LOCATION_EXCEEDS_SIZE": Sorted(LocatorExpired, "locator_expired"),
    # tell the admin
    "API_DISABLED_FOR_ORG": Sorted(Misconfigured, "api_disabled"),
    "API_CURRENTLY_DISABLED": Sorted(Misconfigured, "api_disabled"),
    "INSUFFICIENT_ACCESS": Sorted(Misconfigured, "insufficient_access"),
    "INSUFFICIENT_ACCESS_OR_READONLY": Sorted(Misconfigured, "insufficient_access"),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": Sorted(Misconfigured, "cross_reference_hidden"),
    "FORBIDDEN": Sorted(Misconfigured, "insufficient_access"),
    "FUNCTIONALITY_NOT_ENABLED": Sorted(Misconfigured, "insufficient_access"),
    "OPERATION_TOO_LARGE": Sorted(Misconfigured, "query_too_large"),
    "STORAGE_LIMIT_EXCEEDED": Sorted(Misconfigured, "storage_full"),
    "LIMIT_EXCEEDED": Sorted(Misconfigured, "org_limit"),
    "UNSUPPORTED_API_VERSION": Sorted(Misconfigured, "api_version_retired"),
    "GONE": Sorted(Misconfigured, "api_version_retired"),
    "INVALID_FIELD": Sorted(FieldHidden, "field_hidden"),
    "INVALID_FIELD_FOR_INSERT_UPDATE": Sorted(Misconfigured, "field_not_writable"),
    "INVALID_TYPE": Sorted(ObjectHidden, "object_hidden"),
    # this record
    "REQUIRED_FIELD_MISSING": Sorted(Rejected, "required_field"),
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": Sorted(Rejected, "validation_rule"),
    "FIELD_INTEGRITY_EXCEPTION": Sorted(Rejected, "field_value"),
    "FIELD_FILTER_VALIDATION_EXCEPTION": Sorted(Rejected, "lookup_filter"),
    "INVALID_EMAIL_ADDRESS": Sorted(Rejected, "invalid_email"),
    "STRING_TOO_LONG": Sorted(Rejected, "too_long"),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": Sorted(Rejected, "restricted_picklist"),
    "DUPLICATES_DETECTED": Sorted(Rejected, "duplicate"),
    "DUPLICATE_VALUE": Sorted(Rejected, "duplicate"),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": Sorted(Rejected, "firms_own_code"),
    "CANNOT_EXECUTE_FLOW_TRIGGER": Sorted(Rejected, "firms_own_code"),
    "APEX_ERROR": Sorted(Rejected, "firms_own_code"),
    "INVALID_CROSS_REFERENCE_KEY": Sorted(Rejected, "owner_unusable"),
    "INACTIVE_OWNER_OR_USER": Sorted(Rejected, "owner_unusable"),
    "CANNOT_UPDATE_CONVERTED_LEAD": Sorted(Rejected, "converted"),
    "INVALID_PERSON_ACCOUNT_OPERATION": Sorted(Rejected, "person_account"),
    "ENTITY_IS_DELETED": Sorted(Rejected, "deleted"),
    # our bug
    "INVALID_AUTH_HEADER": Sorted(OurBug, "our_bug"),
    "MALFORMED_QUERY": Sorted(OurBug, "our_bug"),
    "MALFORMED_ID": Sorted(OurBug, "our_bug"),
    "JSON_PARSER_ERROR": Sorted(OurBug, "our_bug"),
    "METHOD_NOT_ALLOWED": Sorted(OurBug, "our_bug"),
    "NOT_FOUND": Sorted(OurBug, "our_bug"),
    # resources that we don't use: getUpdated, getDeleted, Bulk
    "EXCEEDED_ID_LIMIT": Sorted(OurBug, "our_bug"),
    "INVALID_REPLICATION_DATE": Sorted(OurBug, "our_bug"),
    "INVALIDENTITY": Sorted(OurBug, "our_bug"),
    "API_ERROR": Sorted(OurBug, "our_bug"),
}
# Codes that mean something else about one record of a collection than about a whole request.
RECORD_ERRORS: Mapping[str, Sorted] = {
    "NOT_FOUND": Sorted(Rejected, "not_visible"),  # deleted for good, or not shared with the user: it doesn't say which
}
UNKNOWN_REFUSAL = Sorted(Rejected, "unknown_refusal")
# For answers without a known error code: HTML of an edge server, an empty body, XML, plain text.
DATA_STATUSES: Mapping[int, Sorted] = {
    401: Sorted(SessionExpired, "session_expired"),  # XML labelled text/html, for an expired token
    403: Sorted(Misconfigured, "insufficient_access"),
    404: Sorted(TryLater, "redirected"),  # a page of a host that the org has left
    406: Sorted(TryLater, "edge_busy"),
    410: Sorted(Misconfigured, "api_version_retired"),
    420: Sorted(TryLater, "edge_busy"),
    429: Sorted(TryLater, "edge_busy"),
}
# By `error` of the token endpoint; "*" where the description doesn't matter. Compared with normal_description().
TOKEN_ERRORS: Mapping[tuple[str, str], Sorted] = {
    ("invalid_grant", "expired access/refresh token"): Sorted(ReconnectNeeded, "permission_withdrawn"),
    ("invalid_grant", "token validity expired"): Sorted(ReconnectNeeded, "permission_expired"),
    ("invalid_grant", "inactive user"): Sorted(ReconnectNeeded, "inactive_user"),
    ("invalid_grant", "user hasn't approved this consumer"): Sorted(ReconnectNeeded, "permission_withdrawn"),
    ("inactive_user", "*"): Sorted(ReconnectNeeded, "inactive_user"),
    # A locked org keeps its grants: once it is unlocked, syncs go on by themselves.
    ("inactive_org", "*"): Sorted(Misconfigured, "inactive_org"),
    ("invalid_grant", "expired authorization code"): Sorted(TryLater, "code_expired"),
    ("invalid_grant", "invalid authorization code"): Sorted(TryLater, "code_expired"),
    ("invalid_grant", "activation secret invalid"): Sorted(TryLater, "token_endpoint_busy"),
    ("invalid_grant", "login rate exceeded"): Sorted(TryLater, "token_endpoint_busy"),
    ("rate_limit_exceeded", "*"): Sorted(TryLater, "token_endpoint_busy"),
    ("server_error", "*"): Sorted(TryLater, "token_endpoint_busy"),
    ("temporarily_unavailable", "*"): Sorted(TryLater, "token_endpoint_busy"),
    ("invalid_client_id", "*"): Sorted(Misconfigured, "bad_key"),
    ("invalid_client", "client identifier invalid"): Sorted(Misconfigured, "bad_key"),
    ("invalid_client", "*"): Sorted(Misconfigured, "bad_secret"),
    ("invalid_client_credentials", "*"): Sorted(Misconfigured, "bad_secret"),
    ("redirect_uri_mismatch", "*"): Sorted(Misconfigured, "redirect_mismatch"),
    ("redirect_uri_missing", "*"): Sorted(OurBug, "our_bug"),
    ("invalid_app_access", "*"): Sorted(Misconfigured, "not_admin_approved"),
    ("oauth_app_access_denied", "*"): Sorted(Misconfigured, "not_admin_approved"),
    ("oauth_app_blocked", "*"): Sorted(Misconfigured, "app_blocked"),
    ("oauth_ec_app_not_found", "*"): Sorted(Misconfigured, "app_not_installed"),
    ("invalid_scope", "*"): Sorted(Misconfigured, "scope_missing"),
    ("unsupported_grant_type", "*"): Sorted(OurBug, "our_bug"),
    ("unsupported_response_type", "*"): Sorted(OurBug, "our_bug"),
    ("invalid_request", "*"): Sorted(OurBug, "our_bug"),
    # Errors of flows that we don't use, seen now and then where they make no sense: treated as unknown.
    ("invalid_grant", "authentication failure"): Sorted(TryLater, "unknown_grant_error"),
    ("invalid_grant", "authentication failure - invalid password"): Sorted(TryLater, "unknown_grant_error"),
    ("invalid_grant", "invalid user credentials"): Sorted(TryLater, "unknown_grant_error"),
    # Unknown texts of invalid_grant: the advisor has to reconnect only when they come three times over an hour.
    ("invalid_grant", "*"): Sorted(TryLater, "unknown_grant_error"),
}
# By a part of the description, with any `error`: the same cause comes in several wordings. Nothing here ends a
# connection; for that the wording has to match in full, above.
TOKEN_TEXTS: Mapping[str, Sorted] = {
    "ip restricted": Sorted(Misconfigured, "ip_restricted"),  # with or without "or invalid login hours"
    "invalid login hours": Sorted(Misconfigured, "ip_restricted"),
    "inactive org": Sorted(Misconfigured, "inactive_org"),  # "inactive organization"
    "org is locked": Sorted(Misconfigured, "inactive_org"),
    "app must be installed": Sorted(Misconfigured, "app_not_installed"),
    "app is not installed": Sorted(Misconfigured, "app_not_installed"),
    "app is blocked by admin": Sorted(Misconfigured, "app_blocked"),
    "not admin approved": Sorted(Misconfigured, "not_admin_approved"),
    "no valid scopes": Sorted(Misconfigured, "scope_missing"),
    "invalid code verifier": Sorted(OurBug, "pkce"),
    "missing required code challenge": Sorted(OurBug, "pkce"),
}
REDIRECTS = (301, 302, 303, 307, 308)
NOT_FOR_REST = "not valid for use with the rest api"
NOT_ALLOWED = "entity type cannot be"  # inserted, updated; otherwise one of the firm's triggers failed
NOT_ATTACHED = "connected app is not attached to agent"
# Only what looks like a code or a field name is kept: the rest of an answer may hold anything.
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,79}")
FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,79}")
NO_SUCH_COLUMN = re.compile(r"No such column '([A-Za-z0-9_.]+)'|understand relationship '([A-Za-z0-9_.]+)'")
NOT_FILTERABLE = re.compile(r"field '([A-Za-z0-9_.]+)' can not be (?:filtered|sorted|grouped) in a query call")
NO_SUCH_OBJECT = re.compile(r"[Ss]Object type '([A-Za-z0-9_]+)'")
# Used if the entry lists no fields.
FIELDS_IN_TEXT = re.compile(
    r"(?:Required fields are missing: \[|create/update fields: |insert/update call: )([\w.]+(?:, ?[\w.]+)*)", re.ASCII
)
NAME_FIELDS = frozenset(
    {"required_field", "field_not_writable", "field_value", "lookup_filter", "too_long", "unknown_refusal"}
)
QUOTE_MESSAGE = frozenset({"validation_rule", "field_value", "lookup_filter", "firms_own_code", "unknown_refusal"})


def sort_data_error(status: int, body: Any) -> SalesforceError:
    """Return the error for an unsuccessful answer of the data API.

    body: the parsed JSON, or None for anything else (HTML, empty, cut off).
    """
    entry = _first_entry(body)
    if entry is None:
        return _sort_status(status)
    code = entry.get("errorCode") or entry.get("statusCode")
    code = code if isinstance(code, str) and CODE.fullmatch(code) else ""
    message = str(entry.get("message") or "")
    if status == 401 and (NOT_FOR_REST in message.lower() or NOT_ATTACHED in message.lower()):
        return Misconfigured("api_access_blocked", code)
    row = DATA_ERRORS.get(code)
    return _sort_entry(row, code, message, _fields(entry), status) if row else _sort_status(status, code)


def sort_record_error(code: str, message: str, fields: Sequence[str] = ()) -> SalesforceError:
    """Return the error for one record's {statusCode, message, fields} in the answer of a collection.

    An unknown code is the firm's refusal of this record; code, fields and Salesforce's text are kept.
    """
    code = code if CODE.fullmatch(code) else ""
    row = RECORD_ERRORS.get(code) or DATA_ERRORS.get(code) or UNKNOWN_REFUSAL
    return _sort_entry(row, code, message, [field for field in fields if FIELD.fullmatch(field)], 400)


def _sort_entry(row: Sorted, code: str, message: str, fields: Sequence[str], status: int) -> SalesforceError:
    """Return the error for one entry: the row of its code, refined by the message."""
    lowered = message.lower()
    if code == "REQUEST_LIMIT_EXCEEDED" and "concurrent" in lowered:
        return TryLater("concurrent_limit", code)
    if code == "INVALID_FIELD" and NOT_FILTERABLE.search(message):
        return FieldEncrypted("field_encrypted", _found(NOT_FILTERABLE, message))
    if code == "INVALID_FIELD":
        return FieldHidden("field_hidden", _found(NO_SUCH_COLUMN, message))
    if code == "INVALID_TYPE":
        return ObjectHidden("object_hidden", _found(NO_SUCH_OBJECT, message))
    if code == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" and NOT_ALLOWED in lowered:
        return Misconfigured("insufficient_access", code)
    if row.code == "restricted_picklist" and fields and "LeadSource" not in fields:
        row = Sorted(Rejected, "field_value")  # a value that we did not choose
    return _error(
        row, status, _detail(row, code, message, fields), _quotable(message) if row.code in QUOTE_MESSAGE else ""
    )


def _detail(row: Sorted, code: str, message: str, fields: Sequence[str]) -> str:
    if row.code not in NAME_FIELDS:
        return code
    named = ", ".join(fields) or _found(FIELDS_IN_TEXT, message)
    if row.code != UNKNOWN_REFUSAL.code:
        return named or code
    return f"{code}, {named}" if code and named else code or named


def sort_token_error(status: int, body: Any) -> SalesforceError:
    """Return the error for an unsuccessful answer of the token endpoint, an object {error, error_description}."""
    if not isinstance(body, Mapping) or not isinstance(body.get("error"), str):
        return TryLater("token_endpoint_busy", f"status {status}")
    if not CODE.fullmatch(body["error"]):
        return TryLater("token_endpoint_busy", f"status {status}")
    error, described = body["error"], normal_description(str(body.get("error_description") or ""))
    row = find_token_row(error, described)
    if row is None:
        return TryLater("token_endpoint_busy", error)
    return row.kind(row.code, error)


def find_token_row(error: str, described: str) -> Sorted | None:
    """Return the row for a log-in error; described: as normal_description() returns it."""
    error = error.lower()
    exact = TOKEN_ERRORS.get((error, described))
    by_text = next((row for text, row in TOKEN_TEXTS.items() if text in described), None)
    return exact or by_text or TOKEN_ERRORS.get((error, "*"))


def normal_description(description: str) -> str:
    """Return Salesforce's text as the tables have it: lower case, single spaces, no full stop at the end."""
    return " ".join(description.lower().split()).rstrip(".")


def _sort_status(status: int, code: str = "") -> SalesforceError:
    row = DATA_STATUSES.get(status)
    detail = code or f"status {status}"
    if row is not None:
        return _error(row, status, detail)
    if status >= 500:
        return _error(Sorted(TryLater, "server_unavailable"), status, detail)
    if status in REDIRECTS:
        return TryLater("redirected", detail)  # never followed: a token must not travel
    return OurBug("our_bug", detail)


def _error(row: Sorted, status: int, detail: str, words: str = "") -> SalesforceError:
    """Return the error for a table's row. A request that got a 5xx may have been carried out."""
    if issubclass(row.kind, TryLater):
        return row.kind(row.code, detail, words, is_ambiguous=status >= 500)
    return row.kind(row.code, detail, words)


def _first_entry(body: Any) -> Mapping[str, Any] | None:
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        return body[0]
    return None


def _fields(entry: Mapping[str, Any]) -> list[str]:
    fields = entry.get("fields")
    if not isinstance(fields, list):
        return []
    return [field for field in fields if isinstance(field, str) and FIELD.fullmatch(field)]


def _found(pattern: re.Pattern[str], message: str) -> str:
    match = pattern.search(message)
    return next(filter(None, match.groups()), "") if match else ""


def _quotable(message: str) -> str:
    """Return a text as one line that can be stored and shown."""
    return "".join(character for character in " ".join(message.split()) if character.isprintable())
