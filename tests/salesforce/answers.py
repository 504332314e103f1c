"""Every error that Salesforce is known to answer, the source of each, and what we make of it: one list.

The tests in this folder and those of the leads use it; a code in a table of asapp/salesforce/errors.py that is not
here fails a test, and so does a code that is here and not there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from asapp.messages.failures import FixedBy
from asapp.models import LeadState
from asapp.salesforce.errors import (
    Again,
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
)


class Source(StrEnum):
    """The source of an answer."""

    RECORDED = "seen in a live answer that was stored publicly"
    DOCUMENTED = "in Salesforce's own documentation"
    REPORTED = "in an issue, a blog, a vendor's help or a client library"
    UNVERIFIED = "a code without a source for its text"
    MADE_UP = "by us: what is yet to come"


RECORDED, DOCUMENTED, REPORTED, UNVERIFIED, MADE_UP = Source

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
ROLLED_BACK = "Record rolled back because not all records were valid and the request was using AllOrNone header"
FLOW = (
    "We can't save this record because the \u201cNew web lead\u201d process failed. Give your Salesforce admin these details. "
    "This error occurred when the flow tried to create records."
)
COUNTRY = (
    "Country: There's a problem with this country, even though it may appear correct. Please select a country/territory from "
    "the list of valid countries."
)


class ErrorAnswer(NamedTuple):
    """One answer of the data API that carries an error code, and what we make of it."""

    source: Source
    status: int
    error_code: str
    message: str
    fields: list[str] | None
    kind: type[SalesforceError]
    code: str
    detail: str | None = None  # None: Salesforce's own code


DATA_ROWS = [
    ErrorAnswer(
        RECORDED, 401, "INVALID_SESSION_ID", "Session expired or invalid", None, SessionExpired, "session_expired"
    ),
    ErrorAnswer(
        RECORDED,
        401,
        "INVALID_SESSION_ID",
        "This session is not valid for use with the REST API",
        None,
        Misconfigured,
        "api_access_blocked",
    ),
    ErrorAnswer(
        RECORDED,
        401,
        "INVALID_SESSION_ID",
        "Connected app is not attached to Agent",
        None,
        Misconfigured,
        "api_access_blocked",
    ),
    ErrorAnswer(UNVERIFIED, 401, "INVALID_AUTH_HEADER", "INVALID_AUTH_HEADER", None, OurBug, "our_bug"),
    ErrorAnswer(
        RECORDED, 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", None, LimitReached, "request_limit"
    ),
    ErrorAnswer(
        RECORDED,
        403,
        "REQUEST_LIMIT_EXCEEDED",
        "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
        None,
        TryLater,
        "concurrent_limit",
    ),
    ErrorAnswer(
        RECORDED,
        403,
        "API_DISABLED_FOR_ORG",
        "The REST API is not enabled for this Organization.",
        None,
        Misconfigured,
        "api_disabled",
    ),
    ErrorAnswer(
        RECORDED,
        403,
        "API_DISABLED_FOR_ORG",
        "API is not enabled for this Organization or Partner",
        None,
        Misconfigured,
        "api_disabled",
    ),
    ErrorAnswer(
        REPORTED,
        403,
        "API_CURRENTLY_DISABLED",
        "API is currently disabled for this user.",
        None,
        Misconfigured,
        "api_disabled",
    ),
    ErrorAnswer(
        REPORTED,
        403,
        "INSUFFICIENT_ACCESS",
        "insufficient access rights on object",
        None,
        Misconfigured,
        "insufficient_access",
    ),
    ErrorAnswer(
        REPORTED,
        403,
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "insufficient access rights on object id",
        [],
        Misconfigured,
        "insufficient_access",
    ),
    ErrorAnswer(
        UNVERIFIED,
        403,
        "FORBIDDEN",
        "You don't have access to this resource",
        None,
        Misconfigured,
        "insufficient_access",
    ),
    ErrorAnswer(UNVERIFIED, 403, "FUNCTIONALITY_NOT_ENABLED", "", None, Misconfigured, "insufficient_access"),
    ErrorAnswer(RECORDED, 400, "INVALID_FIELD", NO_SUCH_FIELD, None, FieldHidden, "field_hidden", "SF_date__c"),
    ErrorAnswer(
        RECORDED,
        400,
        "INVALID_FIELD",
        "No such column 'AccountNumer' on sobject of type Account",
        None,
        FieldHidden,
        "field_hidden",
        "AccountNumer",
    ),
    ErrorAnswer(
        RECORDED,
        400,
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        NOT_WRITABLE,
        ["MasterRecordId"],
        Misconfigured,
        "field_not_writable",
        "MasterRecordId",
    ),
    ErrorAnswer(RECORDED, 400, "INVALID_TYPE", NO_SUCH_TYPE, None, ObjectHidden, "object_hidden", "Accout"),
    ErrorAnswer(DOCUMENTED, 400, "MALFORMED_QUERY", "unexpected token: 'FORM'", None, OurBug, "our_bug"),
    ErrorAnswer(
        RECORDED, 400, "INVALID_QUERY_LOCATOR", "invalid query locator", None, LocatorExpired, "locator_expired"
    ),
    ErrorAnswer(
        REPORTED, 400, "QUERY_TIMEOUT", "Your query request was running for too long.", None, TryLater, "query_timeout"
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "OPERATION_TOO_LARGE",
        "exceeded 100000 distinct who/what's",
        None,
        Misconfigured,
        "query_too_large",
    ),
    ErrorAnswer(RECORDED, 400, "MALFORMED_ID", "malformed id 001xx", None, OurBug, "our_bug"),
    ErrorAnswer(RECORDED, 400, "JSON_PARSER_ERROR", "Unexpected character ('}' (code 125))", None, OurBug, "our_bug"),
    ErrorAnswer(
        RECORDED,
        400,
        "REQUIRED_FIELD_MISSING",
        "Required fields are missing: [LastName]",
        ["LastName"],
        Rejected,
        "required_field",
        "LastName",
    ),
    ErrorAnswer(
        RECORDED, 400, "REQUIRED_FIELD_MISSING", "At least 1 record is required", None, Rejected, "required_field"
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "Bitte geben Sie eine Telefonnummer an.",
        [],
        Rejected,
        "validation_rule",
    ),
    ErrorAnswer(
        RECORDED,
        400,
        "INVALID_EMAIL_ADDRESS",
        "Email: invalid email address: rose at edge",
        ["Email"],
        Rejected,
        "invalid_email",
    ),
    ErrorAnswer(
        RECORDED,
        400,
        "STRING_TOO_LONG",
        "First Name: data value too large: Roseanne-Marguerite (max length=40)",
        ["FirstName"],
        Rejected,
        "too_long",
        "FirstName",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "Lead Source: bad value for restricted picklist field: AdvisorStream",
        ["LeadSource"],
        Rejected,
        "restricted_picklist",
    ),
    ErrorAnswer(RECORDED, 400, "DUPLICATES_DETECTED", "Use one of these records?", None, Rejected, "duplicate"),
    ErrorAnswer(
        REPORTED,
        400,
        "DUPLICATE_VALUE",
        "duplicate value found: Ref__c duplicates value on record with id: 00Q5g00000KqT1x",
        [],
        Rejected,
        "duplicate",
    ),
    ErrorAnswer(
        RECORDED,
        400,
        "UNABLE_TO_LOCK_ROW",
        "unable to obtain exclusive access to this record or 1 records: 0015g00000KqT1x",
        [],
        TryLater,
        "row_locked",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "LeadGuard: execution of BeforeInsert caused by: System.NullPointerException",
        [],
        Rejected,
        "firms_own_code",
    ),
    ErrorAnswer(
        RECORDED, 400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [], Rejected, "owner_unusable"
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INACTIVE_OWNER_OR_USER",
        "operation performed with inactive user",
        [],
        Rejected,
        "owner_unusable",
    ),
    ErrorAnswer(REPORTED, 400, "STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", [], Misconfigured, "storage_full"),
    ErrorAnswer(REPORTED, 400, "TXN_SECURITY_METERING_ERROR", METERING, [], TryLater, "server_unavailable"),
    ErrorAnswer(
        REPORTED,
        400,
        "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
        "System maintenance in progress",
        [],
        TryLater,
        "maintenance",
    ),
    ErrorAnswer(
        DOCUMENTED, 400, "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [], Rejected, "converted"
    ),
    ErrorAnswer(
        DOCUMENTED,
        400,
        "LIMIT_EXCEEDED",
        "You have exceeded a limit of your organization",
        [],
        Misconfigured,
        "org_limit",
    ),
    ErrorAnswer(RECORDED, 404, "NOT_FOUND", "The requested resource does not exist", None, OurBug, "our_bug"),
    ErrorAnswer(RECORDED, 404, "ENTITY_IS_DELETED", "entity is deleted", [], Rejected, "deleted"),
    ErrorAnswer(
        REPORTED,
        405,
        "METHOD_NOT_ALLOWED",
        "HTTP Method 'PUT' not allowed. Allowed are GET,POST",
        None,
        OurBug,
        "our_bug",
    ),
    ErrorAnswer(
        UNVERIFIED,
        410,
        "UNSUPPORTED_API_VERSION",
        "This version is retired",
        None,
        Misconfigured,
        "api_version_retired",
    ),
    ErrorAnswer(DOCUMENTED, 410, "GONE", "This version is retired", None, Misconfigured, "api_version_retired"),
    ErrorAnswer(REPORTED, 500, "UNKNOWN_EXCEPTION", ERROR_ID, None, TryLater, "server_error"),
    ErrorAnswer(REPORTED, 500, "SERVER_ERROR", ERROR_ID, None, TryLater, "server_error"),
    ErrorAnswer(REPORTED, 503, "SERVER_UNAVAILABLE", "Server Unavailable", None, TryLater, "server_unavailable"),
    ErrorAnswer(MADE_UP, 400, "A_CODE_THAT_IS_YET_TO_COME", "Something new", None, OurBug, "our_bug"),
    ErrorAnswer(MADE_UP, 503, "A_CODE_THAT_IS_YET_TO_COME", "Something new", None, TryLater, "server_unavailable"),
    # what facts about queries, composite answers and writing add
    ErrorAnswer(
        DOCUMENTED, 400, "QUERY_LOCATOR_NOT_FOUND", "query locator not found", None, LocatorExpired, "locator_expired"
    ),
    ErrorAnswer(
        DOCUMENTED, 400, "QUERY_LOCATOR_EXPIRED", "query locator expired", None, LocatorExpired, "locator_expired"
    ),
    ErrorAnswer(
        DOCUMENTED, 400, "INVALID_QUERY_LOCATOR_FORMAT", "invalid format", None, LocatorExpired, "locator_expired"
    ),
    ErrorAnswer(
        DOCUMENTED, 400, "LOCATOR_LOCATION_EXCEEDS_SIZE", "past the end", None, LocatorExpired, "locator_expired"
    ),
    ErrorAnswer(RECORDED, 400, "ALL_OR_NONE_OPERATION_ROLLED_BACK", ROLLED_BACK, [], TryLater, "rolled_back"),
    ErrorAnswer(REPORTED, 400, "PROCESSING_HALTED", "The transaction was rolled back", None, TryLater, "rolled_back"),
    ErrorAnswer(DOCUMENTED, 412, "BATCH_PROCESSING_HALTED", "Batch processing halted", None, TryLater, "rolled_back"),
    ErrorAnswer(DOCUMENTED, 400, "ENTITY_IS_LOCKED", "the record is locked", [], TryLater, "record_locked"),
    ErrorAnswer(DOCUMENTED, 400, "CANNOT_EXECUTE_FLOW_TRIGGER", FLOW, [], Rejected, "firms_own_code"),
    ErrorAnswer(
        REPORTED, 400, "APEX_ERROR", "System.LimitException: Too many SOQL queries: 101", [], Rejected, "firms_own_code"
    ),
    ErrorAnswer(REPORTED, 400, "FIELD_INTEGRITY_EXCEPTION", COUNTRY, ["Country"], Rejected, "field_value", "Country"),
    ErrorAnswer(REPORTED, 400, "FIELD_INTEGRITY_EXCEPTION", COUNTRY, [], Rejected, "field_value"),
    ErrorAnswer(
        REPORTED,
        400,
        "FIELD_FILTER_VALIDATION_EXCEPTION",
        "Value does not exist or does not match filter criteria.",
        ["Branch__c"],
        Rejected,
        "lookup_filter",
        "Branch__c",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "Rating: bad value for restricted picklist field: Hot",
        ["Rating"],
        Rejected,
        "field_value",
        "Rating",
    ),
    ErrorAnswer(
        DOCUMENTED,
        400,
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        "insufficient access rights on cross-reference id",
        [],
        Misconfigured,
        "cross_reference_hidden",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "entity type cannot be inserted: Lead",
        [],
        Misconfigured,
        "insufficient_access",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INVALID_FIELD",
        "Id FROM Lead WHERE Email IN ('x@y.example')\n      ^\nERROR at Row:1:Column:27\n"
        "field 'Email' can not be filtered in a query call",
        None,
        FieldEncrypted,
        "field_encrypted",
        "Email",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INVALID_FIELD",
        "Didn't understand relationship 'Individual' in field path",
        None,
        FieldHidden,
        "field_hidden",
        "Individual",
    ),
    ErrorAnswer(
        REPORTED,
        400,
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        "Account: bad field names on insert/update call: AccountId",
        None,
        Misconfigured,
        "field_not_writable",
        "AccountId",
    ),
    ErrorAnswer(
        RECORDED,
        400,
        "REQUIRED_FIELD_MISSING",
        "Required fields are missing: [Region__c, Phone]",
        None,
        Rejected,
        "required_field",
        "Region__c, Phone",
    ),
    ErrorAnswer(REPORTED, 400, "DUPLICATE_VALUE", "Already a campaign member.", [], Rejected, "duplicate"),
    ErrorAnswer(
        DOCUMENTED,
        400,
        "INVALID_PERSON_ACCOUNT_OPERATION",
        "cannot reference person contact",
        [],
        Rejected,
        "person_account",
    ),
    # of resources that we don't use
    ErrorAnswer(DOCUMENTED, 400, "INVALID_REPLICATION_DATE", "startDate is too old", None, OurBug, "our_bug"),
    ErrorAnswer(DOCUMENTED, 400, "EXCEEDED_ID_LIMIT", "too many ids", None, OurBug, "our_bug"),
    ErrorAnswer(
        REPORTED, 400, "INVALIDENTITY", "Entity 'X' is not supported by the Bulk API.", None, OurBug, "our_bug"
    ),
    ErrorAnswer(REPORTED, 400, "API_ERROR", "Implementation restriction", None, OurBug, "our_bug"),
]
# Different results for a record of a collection: an error there is our bug only if Salesforce calls it so.
RECORD_ROWS = [
    ErrorAnswer(DOCUMENTED, 400, "NOT_FOUND", "The requested resource does not exist", [], Rejected, "not_visible"),
    ErrorAnswer(MADE_UP, 400, "A_CODE_THAT_IS_YET_TO_COME", "Something new", [], Rejected, "unknown_refusal"),
    ErrorAnswer(
        MADE_UP,
        400,
        "A_CODE_THAT_IS_YET_TO_COME",
        "Something new",
        ["Region__c", "Phone"],
        Rejected,
        "unknown_refusal",
        "A_CODE_THAT_IS_YET_TO_COME, Region__c, Phone",
    ),
]


class TokenRow(NamedTuple):
    """One answer of the token endpoint, and what we make of it."""

    source: Source
    error: str
    description: str
    kind: type[SalesforceError]
    code: str


TOKEN_ROWS = [
    TokenRow(RECORDED, "invalid_grant", "expired authorization code", TryLater, "code_expired"),
    TokenRow(REPORTED, "invalid_grant", "invalid authorization code", TryLater, "code_expired"),
    TokenRow(REPORTED, "invalid_grant", "authentication failure", TryLater, "unknown_grant_error"),
    TokenRow(REPORTED, "invalid_grant", "authentication failure - Invalid Password", TryLater, "unknown_grant_error"),
    TokenRow(DOCUMENTED, "invalid_grant", "Invalid user credentials", TryLater, "unknown_grant_error"),
    TokenRow(DOCUMENTED, "invalid_grant", "expired access/refresh token", ReconnectNeeded, "permission_withdrawn"),
    TokenRow(REPORTED, "invalid_grant", "inactive user", ReconnectNeeded, "inactive_user"),
    TokenRow(REPORTED, "invalid_grant", "inactive organization", Misconfigured, "inactive_org"),
    TokenRow(DOCUMENTED, "invalid_grant", "Org is locked, closed, or suspended", Misconfigured, "inactive_org"),
    TokenRow(REPORTED, "invalid_grant", "activation secret invalid", TryLater, "token_endpoint_busy"),
    TokenRow(REPORTED, "invalid_grant", "invalid code verifier", OurBug, "pkce"),
    TokenRow(REPORTED, "invalid_grant", "token validity expired", ReconnectNeeded, "permission_expired"),
    TokenRow(REPORTED, "invalid_grant", "ip restricted", Misconfigured, "ip_restricted"),
    TokenRow(REPORTED, "invalid_grant", "ip restricted or invalid login hours", Misconfigured, "ip_restricted"),
    TokenRow(DOCUMENTED, "invalid_grant", "IP restricted or invalid login hours.", Misconfigured, "ip_restricted"),
    TokenRow(REPORTED, "invalid_grant", "invalid login hours", Misconfigured, "ip_restricted"),
    TokenRow(REPORTED, "invalid_grant", "user hasn't approved this consumer", ReconnectNeeded, "permission_withdrawn"),
    TokenRow(REPORTED, "invalid_grant", "login rate exceeded", TryLater, "token_endpoint_busy"),
    TokenRow(REPORTED, "invalid_grant", "no valid scopes defined", Misconfigured, "scope_missing"),
    TokenRow(MADE_UP, "invalid_grant", "something nobody has seen before", TryLater, "unknown_grant_error"),
    TokenRow(MADE_UP, "invalid_grant", "", TryLater, "unknown_grant_error"),
    TokenRow(REPORTED, "invalid_client_id", "client identifier invalid", Misconfigured, "bad_key"),
    TokenRow(REPORTED, "invalid_client", "client identifier invalid", Misconfigured, "bad_key"),
    TokenRow(REPORTED, "invalid_client", "invalid client credentials", Misconfigured, "bad_secret"),
    TokenRow(RECORDED, "invalid_client", "app must be installed into org", Misconfigured, "app_not_installed"),
    TokenRow(DOCUMENTED, "invalid_client_credentials", "client secret invalid", Misconfigured, "bad_secret"),
    TokenRow(
        REPORTED, "redirect_uri_mismatch", "redirect_uri must match configuration", Misconfigured, "redirect_mismatch"
    ),
    TokenRow(DOCUMENTED, "redirect_uri_missing", "redirect_uri missing", OurBug, "our_bug"),
    TokenRow(
        REPORTED,
        "invalid_app_access",
        "user is not admin approved to access this app",
        Misconfigured,
        "not_admin_approved",
    ),
    TokenRow(REPORTED, "invalid_app_access", "app denied", Misconfigured, "not_admin_approved"),
    TokenRow(
        REPORTED,
        "OAUTH_APP_ACCESS_DENIED",
        "user is not admin approved to access this app",
        Misconfigured,
        "not_admin_approved",
    ),
    TokenRow(UNVERIFIED, "OAUTH_APP_ACCESS_DENIED", "", Misconfigured, "not_admin_approved"),
    TokenRow(RECORDED, "OAUTH_APP_BLOCKED", "this app is blocked by admin", Misconfigured, "app_blocked"),
    TokenRow(UNVERIFIED, "OAUTH_APP_BLOCKED", "", Misconfigured, "app_blocked"),
    TokenRow(
        REPORTED,
        "OAUTH_EC_APP_NOT_FOUND",
        "External client app is not installed in this org",
        Misconfigured,
        "app_not_installed",
    ),
    TokenRow(UNVERIFIED, "OAUTH_EC_APP_NOT_FOUND", "", Misconfigured, "app_not_installed"),
    TokenRow(DOCUMENTED, "invalid_scope", "the requested scope is not allowed", Misconfigured, "scope_missing"),
    TokenRow(REPORTED, "unsupported_grant_type", "grant type not supported", OurBug, "our_bug"),
    TokenRow(DOCUMENTED, "unsupported_response_type", "response type not supported", OurBug, "our_bug"),
    TokenRow(DOCUMENTED, "invalid_request", "invalid code verifier", OurBug, "pkce"),
    TokenRow(RECORDED, "invalid_request", "missing required code challenge", OurBug, "pkce"),
    TokenRow(DOCUMENTED, "invalid_request", "HTTPS required", OurBug, "our_bug"),
    TokenRow(DOCUMENTED, "inactive_user", "user is inactive", ReconnectNeeded, "inactive_user"),
    TokenRow(DOCUMENTED, "inactive_org", "Org is locked, closed, or suspended", Misconfigured, "inactive_org"),
    TokenRow(UNVERIFIED, "inactive_org", "", Misconfigured, "inactive_org"),
    TokenRow(DOCUMENTED, "rate_limit_exceeded", "Number of logins exceeded", TryLater, "token_endpoint_busy"),
    TokenRow(UNVERIFIED, "server_error", "", TryLater, "token_endpoint_busy"),
    TokenRow(UNVERIFIED, "temporarily_unavailable", "", TryLater, "token_endpoint_busy"),
    TokenRow(MADE_UP, "an_error_that_is_yet_to_come", "", TryLater, "token_endpoint_busy"),
]

ADMIN, ADVISOR, US, SALESFORCE, NOBODY = (
    FixedBy.FIRM_ADMIN,
    FixedBy.ADVISOR,
    FixedBy.ADVISORSTREAM,
    FixedBy.SALESFORCE,
    FixedBy.NOBODY,
)
# For each code that a run can end with: who fixes it, and whether and when the run is retried.
OF_RUNS: dict[str, tuple[FixedBy, Again]] = {
    "api_access_blocked": (ADMIN, Again.NEXT_RUN),
    "api_disabled": (ADMIN, Again.NEXT_RUN),
    "api_version_retired": (US, Again.NEXT_RUN),
    "app_blocked": (ADMIN, Again.NEXT_RUN),
    "app_not_installed": (ADMIN, Again.NEXT_RUN),
    "bad_key": (ADMIN, Again.NEXT_RUN),
    "bad_secret": (ADMIN, Again.NEXT_RUN),
    "code_expired": (NOBODY, Again.SOON),
    "concurrent_limit": (NOBODY, Again.SOON),
    "edge_busy": (SALESFORCE, Again.SOON),
    "field_encrypted": (ADMIN, Again.NEXT_RUN),
    "field_hidden": (ADMIN, Again.NEXT_RUN),
    "field_not_writable": (ADMIN, Again.NEXT_RUN),
    "inactive_org": (ADMIN, Again.NEXT_RUN),
    "inactive_user": (ADMIN, Again.AFTER_CONNECTING),
    "insufficient_access": (ADMIN, Again.NEXT_RUN),
    "ip_restricted": (ADMIN, Again.NEXT_RUN),
    "locator_expired": (SALESFORCE, Again.AT_ONCE),
    "maintenance": (SALESFORCE, Again.SOON),
    "not_admin_approved": (ADMIN, Again.NEXT_RUN),
    "object_hidden": (ADMIN, Again.NEXT_RUN),
    "org_limit": (ADMIN, Again.NEXT_RUN),
    "our_bug": (US, Again.NEXT_RUN),
    "permission_expired": (ADVISOR, Again.AFTER_CONNECTING),
    "permission_withdrawn": (ADVISOR, Again.AFTER_CONNECTING),
    "pkce": (US, Again.NEXT_RUN),
    "query_timeout": (SALESFORCE, Again.SOON),
    "query_too_large": (ADMIN, Again.NEXT_RUN),
    "redirect_mismatch": (ADMIN, Again.NEXT_RUN),
    "redirected": (ADMIN, Again.SOON),
    "request_limit": (NOBODY, Again.WHEN_FREE),
    "row_locked": (NOBODY, Again.SOON),
    "scope_missing": (ADMIN, Again.NEXT_RUN),
    "server_error": (SALESFORCE, Again.SOON),
    "server_unavailable": (SALESFORCE, Again.SOON),
    "storage_full": (ADMIN, Again.NEXT_RUN),
    "token_endpoint_busy": (SALESFORCE, Again.SOON),
    "unknown_grant_error": (NOBODY, Again.SOON),
}
# For each code that one record can be refused with: the lead's next state, and who fixes it (None: time).
OF_LEADS: dict[str, tuple[LeadState, FixedBy | None]] = {
    "concurrent_limit": (LeadState.WAITING, None),
    "converted": (LeadState.REFUSED, ADVISOR),
    "cross_reference_hidden": (LeadState.REFUSED, ADMIN),
    "deleted": (LeadState.REFUSED, ADVISOR),
    "duplicate": (LeadState.REFUSED, ADVISOR),
    "field_hidden": (LeadState.REFUSED, ADMIN),
    "field_not_writable": (LeadState.REFUSED, ADMIN),
    "field_value": (LeadState.REFUSED, ADMIN),
    "firms_own_code": (LeadState.REFUSED, ADMIN),
    "insufficient_access": (LeadState.REFUSED, ADMIN),
    "invalid_email": (LeadState.REFUSED, ADVISOR),
    "locator_expired": (LeadState.WAITING, None),
    "lookup_filter": (LeadState.REFUSED, ADMIN),
    "maintenance": (LeadState.WAITING, None),
    "not_visible": (LeadState.REFUSED, ADMIN),
    "object_hidden": (LeadState.REFUSED, ADMIN),
    "our_bug": (LeadState.REFUSED, US),
    "owner_unusable": (LeadState.REFUSED, ADMIN),
    "person_account": (LeadState.REFUSED, ADMIN),
    "query_timeout": (LeadState.WAITING, None),
    "record_locked": (LeadState.WAITING, None),
    "request_limit": (LeadState.WAITING, None),
    "required_field": (LeadState.REFUSED, ADMIN),
    "restricted_picklist": (LeadState.REFUSED, ADMIN),
    "rolled_back": (LeadState.WAITING, None),
    "row_locked": (LeadState.WAITING, None),
    "server_error": (LeadState.WAITING, None),
    "server_unavailable": (LeadState.WAITING, None),
    "session_expired": (LeadState.WAITING, None),
    "too_long": (LeadState.REFUSED, ADMIN),
    "unknown_refusal": (LeadState.REFUSED, ADMIN),
    "validation_rule": (LeadState.REFUSED, ADMIN),
    # of the whole firm: the lead goes out by itself once it is fixed
    "storage_full": (LeadState.WAITING, None),
    "query_too_large": (LeadState.WAITING, None),
    "org_limit": (LeadState.WAITING, None),
    "api_disabled": (LeadState.WAITING, None),
    "api_access_blocked": (LeadState.WAITING, None),
    "api_version_retired": (LeadState.WAITING, None),
    "field_encrypted": (LeadState.WAITING, None),
}
# For each code that a log-in can end with at the token endpoint: who fixes it.
OF_LOG_INS: dict[str, FixedBy] = {
    "app_blocked": ADMIN,
    "app_not_installed": ADMIN,
    "bad_key": ADMIN,
    "bad_secret": ADMIN,
    "code_expired": ADVISOR,
    "inactive_org": ADMIN,
    "inactive_user": ADMIN,
    "ip_restricted": ADMIN,
    "not_admin_approved": ADMIN,
    "our_bug": US,
    "pkce": US,
    "redirect_mismatch": ADMIN,
    "scope_missing": ADMIN,
    "token_endpoint_busy": SALESFORCE,
    "unknown_grant_error": ADMIN,
}


def entry(row: ErrorAnswer, key: str = "errorCode") -> dict[str, Any]:
    """Return the entry of an answer's array; a row of a collection has statusCode as its key."""
    body: dict[str, Any] = {"message": row.message, key: row.error_code}
    return body if row.fields is None else body | {"fields": row.fields}
