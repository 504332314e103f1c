"""Errors that Salesforce is known to answer, by a name of ours, for `org.trouble.add(name, ...)`.

The texts are Salesforce's. An Answer is a whole HTTP answer; hangs, resets and the like are in trouble.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = "application/json;charset=UTF-8"
HTML = "text/html;charset=UTF-8"


@dataclass(frozen=True)
class Answer:
    """A whole answer. `body` is sent as it is if bytes or text, else as JSON; None sends nothing."""

    status: int
    body: Any = None
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


def api(status: int, code: str, message: str, fields: list[str] | None = None) -> Answer:
    """An error of the data API: an array of one."""
    entry: dict[str, Any] = {"message": message, "errorCode": code}
    if fields is not None:
        entry["fields"] = fields
    return Answer(status, [entry])


def oauth(error: str, description: str) -> Answer:
    """An error of the token endpoint: an object, always 400."""
    return Answer(400, {"error": error, "error_description": description})


_EDGE = (
    "<html><body>We are setting things up. This process can take a few minutes. This page will auto-refresh when ready. "
    "If it takes too long, please contact support or visit our <a>status page</a> for more information.</body></html>"
)
_MAINTENANCE = (
    "<!DOCTYPE html><html><head><title>Salesforce is down for maintenance</title></head><body><h1>Down for "
    "maintenance</h1><p>Sorry for the inconvenience. We'll be back shortly.</p></body></html>"
)
_GATEWAY = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr></body></html>"
_XML_401 = (
    "<response>\n<faultcode>LOGIN_OAUTH_INVALID_TOKEN(db=1703,api=LOGIN_OAUTH_INVALID_TOKEN)</faultcode>\n"
    "<error>Failed: Invalid Token</error>\n</response>\n"
)
_LIMIT = "REQUEST_LIMIT_EXCEEDED"
_METERING = "We can't complete the action because enabled transaction security policies took too long to complete."
_ERROR_ID = (
    "An unexpected error occurred. Please include this ErrorId if you contact support: 326566388-63578 (-436445966)"
)
_UNWRITABLE = (
    "Unable to create/update fields: LeadSource. Please check the security settings of this field and verify that "
    "it is read/write for your profile or permission set."
)
_READ_ONLY = "insufficient access rights on object id"

_DATA = {
    "session_expired": api(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    "session_not_for_rest": api(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API"),
    "xml_401": Answer(401, _XML_401, "text/html; charset=UTF-8", {"Sfdc-OAuth-Error": "1703"}),
    "request_limit": api(403, _LIMIT, "TotalRequests Limit exceeded."),
    "concurrent_limit": api(403, _LIMIT, "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
    "api_disabled": api(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
    "insufficient_access": api(403, "INSUFFICIENT_ACCESS", "insufficient access rights on object"),
    "insufficient_access_or_readonly": api(403, "INSUFFICIENT_ACCESS_OR_READONLY", _READ_ONLY, []),
    "not_found": api(404, "NOT_FOUND", "The requested resource does not exist"),
    "entity_is_deleted": api(404, "ENTITY_IS_DELETED", "entity is deleted", []),
    "more_than_one": Answer(
        300,
        [
            "/services/data/v66.0/sobjects/Lead/00Q5g00000KqT1xAAF",
            "/services/data/v66.0/sobjects/Lead/00Q5g00000KqT2bAAF",
        ],
    ),
    "not_modified": Answer(304),
    "conflict": api(409, "API_VERSION_MISMATCH", "The API version of the request does not match"),
    "gone": api(410, "UNSUPPORTED_API_VERSION", "This API version is retired and no longer supported"),
    "precondition_failed": api(412, "PRECONDITION_FAILED", "The precondition given in the request headers is not met"),
    "uri_too_long": Answer(414, _GATEWAY.format("414 Request-URI Too Large"), HTML),
    "unsupported_media_type": api(415, "UNSUPPORTED_MEDIA_TYPE", "Content type of the request is not supported"),
    "precondition_required": api(428, "PRECONDITION_REQUIRED", "The request wasn't conditional"),
    "headers_too_large": Answer(431, _GATEWAY.format("431 Request Header Fields Too Large"), HTML),
}
_BAD_REQUESTS = {
    "invalid_field": ("INVALID_FIELD", "No such column 'HasOptedOutOfEmail' on sobject of type Contact", None),
    "invalid_field_for_insert": ("INVALID_FIELD_FOR_INSERT_UPDATE", _UNWRITABLE, ["LeadSource"]),
    "invalid_type": ("INVALID_TYPE", "sObject type 'Lead' is not supported.", None),
    "malformed_query": ("MALFORMED_QUERY", "unexpected token: 'FORM'", None),
    "invalid_locator": ("INVALID_QUERY_LOCATOR", "invalid query locator", None),
    "query_timeout": ("QUERY_TIMEOUT", "Your query request was running for too long.", None),
    "required_field_missing": ("REQUIRED_FIELD_MISSING", "Required fields are missing: [Region__c]", ["Region__c"]),
    "validation_rule": ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Bitte geben Sie eine Telefonnummer an.", ["Phone"]),
    "invalid_email": ("INVALID_EMAIL_ADDRESS", "Email: invalid email address: Not a real email address", ["Email"]),
    "string_too_long": (
        "STRING_TOO_LONG",
        f"First Name: data value too large: {'x' * 41} (max length=40)",
        ["FirstName"],
    ),
    "restricted_picklist": (
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "Lead Source: bad value for restricted picklist field: AdvisorStream",
        ["LeadSource"],
    ),
    "duplicates_detected": ("DUPLICATES_DETECTED", "Use one of these records?", None),
    "duplicate_value": (
        "DUPLICATE_VALUE",
        "duplicate value found: Ref__c duplicates value on record with id: 00Q5g00000KqT1x",
        [],
    ),
    "unable_to_lock_row": ("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", []),
    "trigger_failed": (
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "LeadGuard: execution of BeforeInsert caused by: System.NullPointerException",
        [],
    ),
    "invalid_cross_reference": ("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", []),
    "inactive_owner": ("INACTIVE_OWNER_OR_USER", "operation performed with inactive user", []),
    "storage_limit": ("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", []),
    "metering": ("TXN_SECURITY_METERING_ERROR", _METERING, []),
    "maintenance_no_writes": (
        "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
        "System maintenance in progress",
        [],
    ),
    "converted_lead": ("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", []),
}
_SERVER = {
    "edge_420": Answer(420, _EDGE, "text/html", {"Server": "sfdcedge"}),
    "edge_420_empty": Answer(420, b"", "text/html", {"Server": "sfdcedge"}),
    "not_acceptable": Answer(406, b"", HTML),
    "too_many_requests": Answer(429, b"", HTML),
    "unknown_exception": api(500, "UNKNOWN_EXCEPTION", _ERROR_ID),
    "server_error": api(500, "SERVER_ERROR", _ERROR_ID),
    "bad_gateway": Answer(502, _GATEWAY.format("502 Bad Gateway"), HTML),
    "server_unavailable": api(503, "SERVER_UNAVAILABLE", "Server Unavailable"),
    "server_unavailable_html": Answer(503, _MAINTENANCE, HTML),
    "gateway_timeout": Answer(504, _GATEWAY.format("504 Gateway Time-out"), HTML),
    "html": Answer(200, _MAINTENANCE, HTML),
    "empty": Answer(200, b""),
    "bad_oauth_token": Answer(403, "Bad_OAuth_Token", HTML),
}
_OAUTH = {
    "expired_token": ("invalid_grant", "expired access/refresh token"),
    "inactive_user": ("invalid_grant", "inactive user"),
    "app_blocked": ("OAUTH_APP_BLOCKED", "this app is blocked by admin"),
}

ANSWERS: dict[str, Answer] = {
    **_DATA,
    **{name: api(400, code, message, fields) for name, (code, message, fields) in _BAD_REQUESTS.items()},
    **_SERVER,
    **{f"oauth_{name}": oauth(error, description) for name, (error, description) in _OAUTH.items()},
}
