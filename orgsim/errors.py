"""Salesforce's errors as exceptions. The texts are Salesforce's own, with its capitals and full stops."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error of the data API: the body is an array of one {message, errorCode, fields?}.

    `fields` None leaves the key out, as most of Salesforce's answers do.
    """

    def __init__(self, status: int, code: str, message: str, *, fields: list[str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields
        self.extra: dict[str, Any] = {}

    def entry(self) -> dict[str, Any]:
        """Return the entry of the array that is the answer's body."""
        body: dict[str, Any] = {**self.extra, "message": self.message, "errorCode": self.code}
        if self.fields is not None:
            body["fields"] = self.fields
        return body

    def row(self) -> dict[str, Any]:
        """Return the error as a row of a collection shows it: the code is called statusCode there."""
        return {"statusCode": self.code, "message": self.message, "fields": self.fields or []}


class OAuthError(Exception):
    """An error of the OAuth endpoints: an object, not an array, and always 400."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


def bad_request(code: str, message: str, fields: list[str] | None = None) -> ApiError:
    return ApiError(400, code, message, fields=fields)


def not_found(message: str = "The requested resource does not exist") -> ApiError:
    return ApiError(404, "NOT_FOUND", message)


def entity_is_deleted() -> ApiError:
    return ApiError(404, "ENTITY_IS_DELETED", "entity is deleted", fields=[])


def invalid_cross_reference(status: int = 400) -> ApiError:
    return ApiError(status, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=[])


def invalid_session() -> ApiError:
    return ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")


def session_not_for_rest() -> ApiError:
    return ApiError(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")


def invalid_locator() -> ApiError:
    return bad_request("INVALID_QUERY_LOCATOR", "invalid query locator")


def insufficient_access(on: str = "object id", status: int = 403) -> ApiError:
    return ApiError(status, "INSUFFICIENT_ACCESS_OR_READONLY", f"insufficient access rights on {on}", fields=[])
