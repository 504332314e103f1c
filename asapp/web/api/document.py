"""The OpenAPI document, made from the calls and their schemas, and the documentation page."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Flask, Response, current_app, render_template
from flask.typing import ResponseReturnValue
from flask_smorest import Api
from markupsafe import Markup

from asapp.models import Scope
from asapp.web.api import schemas
from asapp.web.api.problems import Problem
from asapp.web.current import config

blueprint = Blueprint("api_docs", __name__, url_prefix="/api")

DOCUMENT = "asapp.api_document"
VERSION = "1"
OPTIONS = {
    "title": "AdvisorStream API for senders",
    "version": VERSION,
    "openapi_version": "3.1.0",
    "info": {"description": "Who may be written to, and what became of the mails. Explained at /api/docs."},
    "components": {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key that begins with asapp_"}}
    },
}


class Described(Api):  # type: ignore[misc]  # flask-smorest has no types
    """Describes calls, and leaves errors to web/errors.py."""

    DEFAULT_ERROR_RESPONSE_NAME = None
    ERROR_SCHEMA = schemas.ProblemOut

    def _register_error_handlers(self) -> None:
        pass

    def _register_pagination_header(self) -> None:
        pass  # a page's body has its own `next`


def describe(app: Flask, calls: Blueprint) -> None:
    """Add the calls to the application, and store the document about them."""
    api = Described(app, spec_kwargs=dict(OPTIONS))
    api.register_blueprint(calls)
    app.extensions[DOCUMENT] = api.spec.to_dict()


@blueprint.get("/v1/openapi.json")
def openapi() -> ResponseReturnValue:
    return Response(orjson.dumps(current_app.extensions[DOCUMENT]), content_type="application/json")


@blueprint.get("/docs")
def page() -> ResponseReturnValue:
    document = current_app.extensions[DOCUMENT]
    return render_template(
        "api/docs.html",
        calls=[
            Call(path, method, described, document)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
            if isinstance(described, dict)
        ],
        problems=list(Problem),
        scopes=list(Scope),
        base_url=config().public_url,
        with_code=with_code,
    )


class Call:
    """A call, as the page shows it."""

    def __init__(self, path: str, method: str, described: dict[str, Any], document: dict[str, Any]) -> None:
        self.path, self.method, self._described, self._document = path, method.upper(), described, document
        self.anchor = f"{method}-{path.removeprefix('/api/v1/').replace('/', '-').replace('{', '').replace('}', '')}"
        self.summary = described["summary"]
        self.description = described.get("description", "")
        self.scope = described["security"][0]["key"][0]
        self.parameters = [each for each in described.get("parameters", []) if each["in"] == "query"]

    @property
    def body(self) -> list[dict[str, Any]]:
        content = self._described.get("requestBody", {}).get("content", {})
        return self._fields(content["application/json"]["schema"]) if content else []

    @property
    def answer(self) -> list[dict[str, Any]]:
        content = next(each["content"] for code, each in self._described["responses"].items() if code < "300")
        return self._fields(content["application/json"]["schema"])

    @property
    def responses(self) -> list[tuple[str, str]]:
        return [(code, each["description"]) for code, each in sorted(self._described["responses"].items())]

    def _fields(self, schema: dict[str, Any], prefix: str = "") -> list[dict[str, Any]]:
        """Return [{name, type, words, values, meanings}], with the members of an object after the object.

        meanings: [(value, what it means)] where the values are described; values: their list where they are not.
        """
        schema = self._resolved(schema)
        found = []
        for name, given in schema.get("properties", {}).items():
            member = self._resolved(given)
            items = self._resolved(member["items"]) if "items" in member else member
            path = f"{prefix}{name}" + ("[]" if "items" in member else "")
            meanings = [(each["const"], each["description"]) for each in member.get("oneOf", ()) if "const" in each]
            values = () if meanings else [str(value) for value in member.get("enum", ()) if value is not None]
            found.append(
                {
                    "name": path,
                    "type": type_of(member),
                    "words": member.get("description", ""),
                    "values": " · ".join(values),
                    "meanings": meanings,
                }
            )
            found += self._fields(items, f"{path}.") if items.get("type") == "object" else []
        return found

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        named = schema.get("$ref", "").rpartition("/")[2]
        return self._document["components"]["schemas"][named] if named else schema


def with_code(text: str) -> Markup:
    """Return the text with `backticks` rendered as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def type_of(schema: dict[str, Any]) -> str:
    """Return the type as text: `string or null`."""
    kinds = schema.get("type", "any")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    return words.replace("string", "time") if schema.get("format") == "date-time" else words
