"""The REST data API: one request in, one reply out, for whole requests and for the parts of a composite."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from orgsim import composite, sobject_collections
from orgsim.dml import Dml, SeveralMatchError
from orgsim.errors import ApiError, bad_request, not_found
from orgsim.limits import limits
from orgsim.list_views import DEFAULT_RESULTS
from orgsim.queries import batch_size, next_page, run_query
from orgsim.record_view import read_record
from orgsim.rest_messages import ApiRequest, Reply
from orgsim.schema import SObject, describe_field
from orgsim.trouble import Request as Asked

if TYPE_CHECKING:
    from orgsim.call_log import Call
    from orgsim.org import Org

OLDEST, NEWEST = 31, 66
_RETIRED = range(21, OLDEST)
_VERSION = re.compile(r"v(\d{2})\.0")
_SEASONS = ("Winter", "Spring", "Summer")


Handler = Callable[["RestApi", ApiRequest], Reply]


def versions() -> list[dict[str, str]]:
    """All API versions that answer, oldest first: three a year."""
    listed = []
    for number in range(OLDEST, NEWEST + 1):
        year, season = divmod(number - OLDEST + 2, 3)
        name = _SEASONS[season]
        apostrophe = "’" if number == 42 else "'"
        label = f"{name} {apostrophe}{14 + year}"
        listed.append({"label": label, "url": f"/services/data/v{number}.0", "version": f"{number}.0"})
    return listed


def check_version(segment: str) -> str:
    """Return "59.0" for "v59.0"; 410 for retired versions, 404 for unknown ones."""
    match = _VERSION.fullmatch(segment)
    if match and int(match[1]) in _RETIRED:
        raise ApiError(410, "UNSUPPORTED_API_VERSION", f"API version {match[1]}.0 is retired and no longer supported")
    if match is None or not OLDEST <= int(match[1]) <= NEWEST:
        raise not_found()
    return f"{match[1]}.0"


def kind_of(method: str, parts: tuple[str, ...]) -> str:
    """Return the tag of a request, which faults match and the log shows."""
    match parts:
        case ():
            return "resources"
        case ("query" | "queryAll",):
            return "query"
        case ("query" | "queryAll", _):
            return "query_more"
        case ("composite", "sobjects", *_):
            return "collections"
        case ("composite",) | ("limits",) as one:
            return one[0]
        case ("sobjects", _, "listviews", *_):
            return "list_views"
        case ("sobjects",) | ("sobjects", _, "describe"):
            return "describe"
        case ("sobjects", _, _, _) if method != "GET":
            return "upsert" if method == "PATCH" else "delete"
        case ("sobjects", *_):
            return {"POST": "create", "PATCH": "update", "DELETE": "delete"}.get(method, "read")
        case _:
            return "unknown"


def tags_of(method: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kind, and for a collection also what is done to its rows."""
    kind = kind_of(method, parts)
    done = {"POST": "create", "PATCH": "update", "DELETE": "delete"}.get(method)
    return (kind, done) if kind == "collections" and done and len(parts) == 2 else (kind,)


class RestApi:
    """Dispatches requests to the resources of one org."""

    def __init__(self, org: Org) -> None:
        self.org = org

    def handle(self, request: ApiRequest) -> Reply:
        """Return the reply; errors become Salesforce's array of one."""
        try:
            handler = _find_handler(request)
            return handler(self, request)
        except ApiError as error:
            return Reply(error.status, [error.entry()])
        except SeveralMatchError as error:
            root = f"/services/data/v{request.version}/sobjects/{request.parts[1]}"
            return Reply(300, [f"{root}/{one}" for one in error.record_ids])

    def handle_part(self, outer: ApiRequest, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Run a subrequest of a composite: the same session, faults of its own, and not counted as a call."""
        path, _, query = url.partition("?")
        segments = [unquote(s) for s in path.split("/") if s]
        if segments[:2] == ["services", "data"]:
            segments = segments[2:]
        try:
            version = check_version(segments[0] if segments else "")
        except ApiError as error:
            return Reply(error.status, [error.entry()])
        params = parse_params(query)
        parts = tuple(segments[1:])
        tags = frozenset({"subrequest", *tags_of(method, parts)})
        part = replace(
            outer,
            method=method,
            parts=parts,
            params=params,
            version=version,
            tags=tags,
            short_by=0,
            headers={k.lower(): str(v) for k, v in headers.items()},
            body=b"" if body is None else body,
        )
        note_soql(outer.call, params)
        fault = self.org.trouble.pick(
            Asked(method, path, tags, [params["q"]] if "q" in params else [], outer.session.user.id)
        )
        if fault is not None and fault.replacement is not None:
            answer = fault.replacement
            return Reply(answer.status, answer.body if not isinstance(answer.body, bytes) else answer.body.decode())
        if fault is not None and fault.behaviour == "short_page":
            part.short_by = int(fault.details.get("by", 1))
        return self.handle(part)

    # -- objects

    def find_object(self, request: ApiRequest, name: str | None = None) -> SObject:
        found = request.access.find_object(name or request.parts[1])
        if found is None:
            raise not_found()
        return found

    def dml(self, request: ApiRequest) -> Dml:
        return Dml(self.org, request.access)


def parse_params(query: str) -> dict[str, str]:
    """Decode a query string; the last of several values of a name counts."""
    pairs = (piece.partition("=") for piece in query.split("&") if piece)
    return {unquote(name.replace("+", " ")): unquote(value.replace("+", " ")) for name, _, value in pairs}


def note_soql(call: Call, params: Mapping[str, str]) -> None:
    if "q" in params:
        call.soql = (*call.soql, params["q"])


# -- resources


def _resources(api: RestApi, request: ApiRequest) -> Reply:
    root = f"/services/data/v{request.version}"
    listed = {name: f"{root}/{name}" for name in ("sobjects", "limits", "query", "queryAll", "composite")}
    return Reply(200, {**listed, "identity": api.org.grants.identity_url(request.session.user)})


def _query(api: RestApi, request: ApiRequest) -> Reply:
    if "q" not in request.params:
        raise bad_request("MALFORMED_QUERY", "A query string has to be specified")
    answer = run_query(
        api.org,
        request.access,
        request.params["q"],
        deleted_too=request.parts[0] == "queryAll",
        version=request.version,
        batch=batch_size(request.headers.get("sforce-query-options")),
        short_by=request.short_by,
    )
    return Reply(200, answer)


def _query_more(api: RestApi, request: ApiRequest) -> Reply:
    header = request.headers.get("sforce-query-options")
    return Reply(
        200,
        next_page(
            api.org,
            request.access,
            request.parts[1],
            batch=batch_size(header) if header else None,
            short_by=request.short_by,
        ),
    )


def _limits(api: RestApi, _request: ApiRequest) -> Reply:
    return Reply(200, limits(api.org.settings.api_limit, api.org.api_used()))


def _describe_global(api: RestApi, request: ApiRequest) -> Reply:
    listed = [_summary(o, request) for o in api.org.schema.objects.values() if request.access.find_object(o.name)]
    return Reply(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": listed})


def _summary(sobject: SObject, request: ApiRequest) -> dict[str, Any]:
    may = request.access.may
    root = f"/services/data/v{request.version}/sobjects/{sobject.name}"
    return {
        "activateable": False,
        "createable": sobject.writable and may("create", sobject),
        "custom": False,
        "customSetting": False,
        "deepCloneable": False,
        "deletable": sobject.writable and may("delete", sobject),
        "deprecatedAndHidden": False,
        "feedEnabled": True,
        "hasSubtypes": False,
        "isInterface": False,
        "isSubtype": False,
        "keyPrefix": sobject.prefix,
        "label": sobject.label,
        "labelPlural": sobject.plural,
        "layoutable": True,
        "mergeable": sobject.find("MasterRecordId") is not None,
        "mruEnabled": True,
        "name": sobject.name,
        "queryable": True,
        "replicateable": True,
        "retrieveable": True,
        "searchable": True,
        "triggerable": True,
        "undeletable": sobject.find("IsDeleted") is not None,
        "updateable": sobject.writable and may("edit", sobject),
        "urls": {"rowTemplate": f"{root}/{{ID}}", "describe": f"{root}/describe", "sobject": root},
    }


def _basic(api: RestApi, request: ApiRequest) -> Reply:
    return Reply(200, {"objectDescribe": _summary(api.find_object(request), request), "recentItems": []})


def _describe(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    changed = api.org.metadata_changed_at
    modified = {"Last-Modified": format_datetime(changed, usegmt=True)}
    since = request.headers.get("if-modified-since")
    if since and _is_before(changed.timestamp(), since):
        return Reply(304, None, modified)
    access = request.access
    fields = [
        describe_field(
            f,
            can_create=access.is_writable(sobject, f) and access.may("create", sobject),
            can_update=access.is_writable(sobject, f) and access.may("edit", sobject),
        )
        for f in access.visible_fields(sobject)
    ]
    scopes = [{"label": scope.title(), "name": scope} for scope in sobject.scopes]
    return Reply(
        200,
        {
            "actionOverrides": [],
            "childRelationships": [],
            "compactLayoutable": True,
            "fields": fields,
            "listviewable": None,
            "lookupLayoutable": None,
            "namedLayoutInfos": [],
            "recordTypeInfos": [],
            "supportedScopes": scopes,
            **_summary(sobject, request),
        },
        modified,
    )


def _is_before(changed: float, header: str) -> bool:
    try:
        return changed < parsedate_to_datetime(header).timestamp()
    except ValueError:
        return False


# -- records


def _create(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    made = api.dml(request).create(sobject, request.json_object(), request.options)
    location = {"Location": f"/services/data/v{request.version}/sobjects/{sobject.name}/{made}"}
    return Reply(201, {"id": made, "success": True, "errors": []}, location)


def _read(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    wanted = [n for n in request.params.get("fields", "").split(",") if n]
    record = read_record(api.org, request, sobject, request.parts[2], wanted)
    if record is None:
        raise not_found()
    return Reply(200, record)


def _update(api: RestApi, request: ApiRequest) -> Reply:
    api.dml(request).update(api.find_object(request), request.parts[2], request.json_object(), request.options)
    return Reply(204)


def _delete(api: RestApi, request: ApiRequest) -> Reply:
    api.dml(request).delete(api.find_object(request), request.parts[2])
    return Reply(204)


def _upsert(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    made, created = api.dml(request).upsert(
        sobject,
        request.parts[2],
        request.parts[3],
        request.json_object(),
        request.options,
        update_only=request.params.get("updateOnly", "").lower() == "true",
    )
    if not created and float(request.version) < 46:
        return Reply(204)
    location = {"Location": f"/services/data/v{request.version}/sobjects/{sobject.name}/{made}"} if created else {}
    return Reply(201 if created else 200, {"id": made, "success": True, "errors": [], "created": created}, location)


def _read_by_key(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    record_id = api.dml(request).find_by_key(sobject, request.parts[2], request.parts[3])
    record = read_record(api.org, request, sobject, record_id, [])
    return Reply(200, record)


# -- list views


def _list_views(api: RestApi, request: ApiRequest) -> Reply:
    """Return a page of the user's list views; ?pageSize= is not documented, and clients send it."""
    count = _whole(request, "pageSize", api.org.settings.list_views_a_page)
    first = _whole(request, "offset", 0)
    sobject = api.find_object(request)
    return Reply(200, api.org.list_views.listed(request.access, sobject, request.version, first, max(1, count)))


def _recent_list_views(api: RestApi, request: ApiRequest) -> Reply:
    return _list_views(api, request)


def _list_view(api: RestApi, request: ApiRequest) -> Reply:
    sobject = api.find_object(request)
    return Reply(200, api.org.list_views.entry(request.access, sobject, request.parts[3], request.version))


def _describe_list_view(api: RestApi, request: ApiRequest) -> Reply:
    return Reply(200, api.org.list_views.describe(request.access, api.find_object(request), request.parts[3]))


def _list_view_results(api: RestApi, request: ApiRequest) -> Reply:
    limit, offset = _whole(request, "limit", DEFAULT_RESULTS), _whole(request, "offset", 0)
    sobject = api.find_object(request)
    return Reply(200, api.org.list_views.results(request.access, sobject, request.parts[3], limit, offset))


def _whole(request: ApiRequest, name: str, default: int) -> int:
    text = request.params.get(name, "")
    return int(text) if text.isdigit() else default


# -- routes


def _find_handler(request: ApiRequest) -> Handler:
    """Return the handler of a path and method; 404 or 405 (naming what is allowed)."""
    methods = _route(request.parts)
    method = request.method
    if methods is None:
        raise not_found()
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        allowed = ",".join(methods)
        raise ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{method}' not allowed. Allowed are {allowed}")
    return handler


def _route(parts: tuple[str, ...]) -> dict[str, Handler] | None:
    match parts:
        case ():
            return {"GET": _resources}
        case ("query" | "queryAll",):
            return {"GET": _query}
        case ("query" | "queryAll", _):
            return {"GET": _query_more}
        case ("limits",):
            return {"GET": _limits}
        case ("composite", *rest):
            return _composite_route(tuple(rest))
        case ("sobjects", *rest):
            return _sobject_route(tuple(rest))
        case _:
            return None


def _sobject_route(parts: tuple[str, ...]) -> dict[str, Handler] | None:
    match parts:
        case ():
            return {"GET": _describe_global}
        case (_,):
            return {"GET": _basic, "POST": _create}
        case (_, "describe"):
            return {"GET": _describe}
        case (_, "listviews", *rest):
            return _list_view_route(tuple(rest))
        case (_, _):
            return {"GET": _read, "PATCH": _update, "DELETE": _delete}
        case (_, _, _):
            return {"GET": _read_by_key, "PATCH": _upsert}
        case _:
            return None


def _list_view_route(parts: tuple[str, ...]) -> dict[str, Handler] | None:
    match parts:
        case ():
            return {"GET": _list_views}
        case ("recent",):
            return {"GET": _recent_list_views}
        case (_,):
            return {"GET": _list_view}
        case (_, "describe"):
            return {"GET": _describe_list_view}
        case (_, "results"):
            return {"GET": _list_view_results}
        case _:
            return None


def _composite_route(parts: tuple[str, ...]) -> dict[str, Handler] | None:
    match parts:
        case ():
            return {"POST": composite.run_composite}
        case ("sobjects",):
            return {
                "POST": sobject_collections.create,
                "PATCH": sobject_collections.update,
                "DELETE": sobject_collections.delete,
            }
        case ("sobjects", _):
            return {"GET": sobject_collections.retrieve, "POST": sobject_collections.retrieve}
        case ("sobjects", _, _):
            return {"PATCH": sobject_collections.upsert}
        case _:
            return None
