"""What went wrong at Salesforce, sorted by what to do next. This table is the one place that decides it.

Data calls answer an array of {"message", "errorCode", "fields"}; log-in and token calls an object {"error",
"error_description"}; the edge and maintenance answer HTML, or nothing. Messages may hold names and addresses: an error of
ours carries the code alone, and the message only where a person entered or configured it (validation rules).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class SalesforceError(Exception):
    """Base of what an outside call to Salesforce can end with.

    code: a key that the words for people are looked up by. detail: Salesforce's own error code or a field's name, never
    personal data. str() of it is safe to log.
    """

    def __init__(self, code: str, detail: str = "", words: str = "") -> None:
        super().__init__(f"{code} ({detail})" if detail else code)
        self.code = code
        self.detail = detail
        self.words = words  # what an admin of the firm wrote, to be shown to the advisor and never logged


class TryLater(SalesforceError):
    """Nobody's fault and nothing to mend: the same call may work later. is_ambiguous: it may have been carried out."""

    def __init__(self, code: str, detail: str = "", words: str = "", is_ambiguous: bool = False) -> None:
        super().__init__(code, detail, words)
        self.is_ambiguous = is_ambiguous


class LimitReached(SalesforceError):
    """The org's allowance is used up: the whole firm pauses."""


class ReconnectNeeded(SalesforceError):
    """Only the advisor can mend it, by connecting again."""


class SessionExpired(SalesforceError):
    """The access token is old: refresh once and go on."""


class Rejected(SalesforceError):
    """Salesforce refuses this record alone."""


class Misconfigured(SalesforceError):
    """The firm's Salesforce admin, or AdvisorStream's, has to change something."""


class LocatorExpired(SalesforceError):
    """The rest of a query is no longer kept: ask again from the checkpoint."""


class FieldHidden(Misconfigured):
    """The connected user can't see a field, or it doesn't exist; the two can't be told apart. detail: the field."""


class FieldEncrypted(Misconfigured):
    """A field can be read, but no query can be narrowed by it: it is encrypted at rest. detail: the field."""


class ObjectHidden(Misconfigured):
    """The connected user may not read an object. detail: the object."""


class OurBug(SalesforceError):
    """We asked wrongly. It is not caught anywhere but at the edge, and logged."""


@dataclass(frozen=True)
class Sorted:
    """One row of a table: what to do (a class), and under which key the words for people are found."""

    kind: type[SalesforceError]
    code: str


# By Salesforce's errorCode (a statusCode in collections). Status and message decide only where the functions below say so.
DATA_ERRORS: Mapping[str, Sorted] = {
    # try later
    "UNABLE_TO_LOCK_ROW": Sorted(TryLater, "row_locked"),
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
    # tell the admin
    "API_DISABLED_FOR_ORG": Sorted(Misconfigured, "api_disabled"),
    "API_CURRENTLY_DISABLED": Sorted(Misconfigured, "api_disabled"),
    "INSUFFICIENT_ACCESS": Sorted(Misconfigured, "insufficient_access"),
    "INSUFFICIENT_ACCESS_OR_READONLY": Sorted(Misconfigured, "insufficient_access"),
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
    "INVALID_EMAIL_ADDRESS": Sorted(Rejected, "invalid_email"),
    "STRING_TOO_LONG": Sorted(Rejected, "too_long"),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": Sorted(Rejected, "restricted_picklist"),
    "DUPLICATES_DETECTED": Sorted(Rejected, "duplicate"),
    "DUPLICATE_VALUE": Sorted(Rejected, "duplicate"),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": Sorted(Rejected, "firms_own_code"),
    "INVALID_CROSS_REFERENCE_KEY": Sorted(Rejected, "owner_unusable"),
    "INACTIVE_OWNER_OR_USER": Sorted(Rejected, "owner_unusable"),
    "CANNOT_UPDATE_CONVERTED_LEAD": Sorted(Rejected, "converted"),
    "ENTITY_IS_DELETED": Sorted(Rejected, "deleted"),
    # our bug
    "INVALID_AUTH_HEADER": Sorted(OurBug, "our_bug"),
    "MALFORMED_QUERY": Sorted(OurBug, "our_bug"),
    "MALFORMED_ID": Sorted(OurBug, "our_bug"),
    "JSON_PARSER_ERROR": Sorted(OurBug, "our_bug"),
    "METHOD_NOT_ALLOWED": Sorted(OurBug, "our_bug"),
    "NOT_FOUND": Sorted(OurBug, "our_bug"),
}
# Where an answer has no error code that we know: HTML of the edge, an empty body, XML, plain text.
DATA_STATUSES: Mapping[int, Sorted] = {
    401: Sorted(SessionExpired, "session_expired"),  # XML labelled text/html, from a dead token
    403: Sorted(Misconfigured, "insufficient_access"),
    406: Sorted(TryLater, "edge_busy"),
    410: Sorted(Misconfigured, "api_version_retired"),
    420: Sorted(TryLater, "edge_busy"),
    429: Sorted(TryLater, "edge_busy"),
}
# By `error` of the token endpoint; "*" where the description doesn't matter. Descriptions are compared in lower case.
TOKEN_ERRORS: Mapping[tuple[str, str], Sorted] = {
    ("invalid_grant", "expired access/refresh token"): Sorted(ReconnectNeeded, "permission_withdrawn"),
    ("invalid_grant", "token validity expired"): Sorted(ReconnectNeeded, "permission_expired"),
    ("invalid_grant", "inactive user"): Sorted(ReconnectNeeded, "inactive_user"),
    ("invalid_grant", "user hasn't approved this consumer"): Sorted(ReconnectNeeded, "permission_withdrawn"),
    ("inactive_user", "*"): Sorted(ReconnectNeeded, "inactive_user"),
    ("inactive_org", "*"): Sorted(ReconnectNeeded, "inactive_org"),
    ("invalid_grant", "expired authorization code"): Sorted(TryLater, "code_expired"),
    ("invalid_grant", "invalid authorization code"): Sorted(TryLater, "code_expired"),
    ("invalid_grant", "invalid code verifier"): Sorted(OurBug, "pkce"),
    ("invalid_grant", "ip restricted or invalid login hours"): Sorted(Misconfigured, "ip_restricted"),
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
    ("invalid_scope", "*"): Sorted(Misconfigured, "scope_missing"),
    ("unsupported_grant_type", "*"): Sorted(OurBug, "our_bug"),
    ("unsupported_response_type", "*"): Sorted(OurBug, "our_bug"),
    ("invalid_request", "*"): Sorted(OurBug, "our_bug"),
    # Unknown texts of invalid_grant: reconnecting is asked for only when they come three times over an hour.
    ("invalid_grant", "*"): Sorted(TryLater, "unknown_grant_error"),
}
REDIRECTS = (301, 302, 303, 307, 308)
NOT_FOR_REST = "not valid for use with the rest api"
NOT_ALLOWED = "entity type cannot be"  # inserted, updated; else it is a trigger of the firm's that broke
NOT_ATTACHED = "connected app is not attached to agent"
# Only what looks like a code or a field's name is kept: the rest of an answer may hold anything.
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,79}")
FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,79}")
NO_SUCH_COLUMN = re.compile(r"No such column '([A-Za-z0-9_.]+)'")
NOT_FILTERABLE = re.compile(r"field '([A-Za-z0-9_.]+)' can not be (?:filtered|sorted|grouped) in a query call")
NO_SUCH_OBJECT = re.compile(r"[Ss]Object type '([A-Za-z0-9_]+)'")


def sort_data_error(status: int, body: Any) -> SalesforceError:
    """Return the error for an answer of the data API that isn't a success.

    body: the parsed JSON, or None for anything else (HTML, empty, cut off).
    """
    entry = _first_entry(body)
    if entry is None:
        return _sort_status(status)
    code = entry.get("errorCode") or entry.get("statusCode")
    code = code if isinstance(code, str) and CODE.fullmatch(code) else ""
    return sort_record_error(code, str(entry.get("message") or ""), _fields(entry), status)


def sort_record_error(code: str, message: str, fields: Sequence[str] = (), status: int = 400) -> SalesforceError:
    """Return the error for one entry {errorCode or statusCode, message, fields}."""
    lowered = message.lower()
    if status == 401 and (NOT_FOR_REST in lowered or NOT_ATTACHED in lowered):
        return Misconfigured("api_access_blocked", code)
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
    row = DATA_ERRORS.get(code)
    if row is None:
        return _sort_status(status, code)
    detail = ", ".join(fields) if row.code in ("required_field", "field_not_writable") and fields else code
    return _error(row, status, detail, message if row.code == "validation_rule" else "")


def sort_token_error(status: int, body: Any) -> SalesforceError:
    """Return the error for an answer of the token endpoint (an object {error, error_description}) that isn't a success."""
    if not isinstance(body, Mapping) or not isinstance(body.get("error"), str):
        return TryLater("token_endpoint_busy", f"status {status}")
    if not CODE.fullmatch(body["error"]):
        return TryLater("token_endpoint_busy", f"status {status}")
    error, described = body["error"], str(body.get("error_description") or "").strip().lower()
    row = TOKEN_ERRORS.get((error, described)) or TOKEN_ERRORS.get((error, "*"))
    if row is None:
        return TryLater("token_endpoint_busy", error)
    return row.kind(row.code, error)


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
    """Make the error that a table's row says. Whoever answers 5xx may have done what was asked."""
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
    return match.group(1) if match else ""
