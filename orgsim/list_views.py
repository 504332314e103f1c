"""List views: saved filters of an object, described as the SOQL that draws them, for the user who asks.

A view holds columns and a filter as its owner wrote them. What is described leaves out every column and every condition whose
field the user may not see: so a view can read as if it had no filter at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orgsim import ids
from orgsim.errors import bad_request, not_found
from orgsim.queries import run_query
from orgsim.schema import ID_KINDS, NAME, Field, SObject

if TYPE_CHECKING:
    from orgsim.access import UserAccess
    from orgsim.org import Org

PREFIX = "00B"
NO_CONDITION: Mapping[str, Any] = {"conditions": [], "conjunction": "and"}
HIDDEN_COLUMNS = ("Id", "CreatedDate", "LastModifiedDate", "SystemModstamp")
DEFAULT_RESULTS, MOST_RESULTS = 25, 2000
_OPERATORS = {
    "equals": "=",
    "notEquals": "!=",
    "lessThan": "<",
    "lessThanOrEqualTo": "<=",
    "greaterThan": ">",
    "greaterThanOrEqualTo": ">=",
    "like": "LIKE",
}


@dataclass(frozen=True)
class ListView:
    """One list view. `where` is a leaf {field, operator, values} or a group {conditions, conjunction}; values as SOQL has them.

    `only_for`: the users who see it; None is everybody.
    """

    id: str
    sobject: str
    label: str
    developer_name: str
    columns: tuple[str, ...] = ("Name",)
    where: Mapping[str, Any] = field(default_factory=lambda: NO_CONDITION)
    scope: str = "everything"
    only_for: frozenset[str] | None = None
    soql_compatible: bool = True

    @property
    def filter(self) -> str:
        """Return the view's own condition as SOQL; empty if it has none."""
        return _condition(self.where)


class ListViews:
    """The list views of one org, in the order they were made."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._views: dict[str, ListView] = {}
        self._made = 0

    def __iter__(self) -> Iterator[ListView]:
        return iter(list(self._views.values()))

    def add(self, sobject: str, label: str, *, developer_name: str | None = None, **more: Any) -> str:
        """Return the Id of a new view. ValueError for an object or a field that is not there."""
        name = developer_name or "".join(word.capitalize() for word in label.split() if word.isalnum()) or "View"
        self._made += 1
        view_id = ids.make(PREFIX, self._org.records.pod, 90_000 + self._made * 17)
        self._store(ListView(view_id, self._org.schema[sobject].name, label, name, **_frozen(more)))
        return view_id

    def change(self, view_id: str, **changes: Any) -> None:
        """Change a view as its owner does; its Id stays, and no event tells of it."""
        self._store(replace(self.get(view_id), **_frozen(changes)))

    def delete(self, view_id: str) -> None:
        del self._views[self.get(view_id).id]

    def get(self, view_id: str) -> ListView:
        """Return a view; KeyError if it is not there."""
        return self._views[ids.to_18(view_id) or ""]

    def _store(self, view: ListView) -> None:
        sobject = self._org.schema[view.sobject]
        for path in (*view.columns, *_fields_of(view.where)):
            first = path.split(".")[0]
            if not sobject.find(first) and not sobject.find_relationship(first):
                raise ValueError(f"{sobject.name} has no field {path}")
        self._views[view.id] = view

    # -- what the API answers

    def listed(self, access: UserAccess, sobject: SObject, version: str, first: int, count: int) -> dict[str, Any]:
        """Return a page of the views that the user sees, by label."""
        found = sorted((v for v in self if self._shows(access, v, sobject)), key=lambda v: v.label.lower())
        root = f"/services/data/v{version}/sobjects/{sobject.name}/listviews"
        rest = f"{root}?pageSize={count}&offset={first + count}" if first + count < len(found) else None
        page = found[first : first + count]
        return {
            "done": rest is None,
            "listviews": [self._entry(v, root) for v in page],
            "nextRecordsUrl": rest,
            "size": len(page),
            "sobjectType": sobject.name,
        }

    def entry(self, access: UserAccess, sobject: SObject, view_id: str, version: str) -> dict[str, Any]:
        view = self.find(access, sobject, view_id)
        return self._entry(view, f"/services/data/v{version}/sobjects/{sobject.name}/listviews")

    def find(self, access: UserAccess, sobject: SObject, view_id: str) -> ListView:
        """Return a view that the user sees; 404 for one that is deleted, not shared or of another object."""
        view = self._views.get(ids.to_18(view_id) or "")
        if view is None or not self._shows(access, view, sobject):
            raise not_found()
        return view

    def is_compatible(self, view: ListView) -> bool:
        return view.soql_compatible and not self._org.settings.list_views_closed

    def _entry(self, view: ListView, root: str) -> dict[str, Any]:
        own = f"{root}/{view.id}"
        return {
            "describeUrl": f"{own}/describe",
            "developerName": view.developer_name,
            "id": view.id,
            "label": view.label,
            "resultsUrl": f"{own}/results",
            "soqlCompatible": self.is_compatible(view),
            "url": own,
        }

    @staticmethod
    def _shows(access: UserAccess, view: ListView, sobject: SObject) -> bool:
        return view.sobject == sobject.name and (view.only_for is None or access.user_id in view.only_for)

    def describe(self, access: UserAccess, sobject: SObject, view_id: str) -> dict[str, Any]:
        view = self.find(access, sobject, view_id)
        where = visible_condition(access, sobject, view.where)
        columns = _columns(access, sobject, view)
        return {
            "columns": columns,
            "id": view.id[:15],  # 15 characters here, 18 in the list
            "orderBy": [
                {"fieldNameOrPath": path, "nullsPosition": "first", "sortDirection": "ascending"}
                for path in _order(columns)
            ],
            "query": _query(sobject, view, columns, where) if self.is_compatible(view) else None,
            "scope": view.scope,
            "sobjectType": sobject.name,
            "whereCondition": where,
        }

    def results(self, access: UserAccess, sobject: SObject, view_id: str, limit: int, offset: int) -> dict[str, Any]:
        """Return a page of the view's rows as a screen shows them: every value is text."""
        if not 1 <= limit <= MOST_RESULTS or offset < 0:
            raise bad_request("INVALID_QUERY_FILTER_OPERATOR", "limit must be between 1 and 2000")
        view, described = self.find(access, sobject, view_id), self.describe(access, sobject, view_id)
        if described["query"] is None:
            raise bad_request("ILLEGAL_QUERY_PARAMETER_VALUE", "The list view is not SOQL compatible")
        answer = run_query(
            self._org, access, f"{described['query']} LIMIT {limit + offset}", deleted_too=False, version="66.0"
        )
        rows = answer["records"][offset : offset + limit]
        paths = [c["fieldNameOrPath"] for c in described["columns"]]
        kinds = [c["type"] for c in described["columns"]]
        return {
            "columns": described["columns"],
            "developerName": view.developer_name,
            "done": len(rows) < limit,
            "id": view.id,
            "label": view.label,
            "records": [
                {
                    "columns": [
                        {"fieldNameOrPath": path, "value": _shown(row, path, kind)}
                        for path, kind in zip(paths, kinds, strict=True)
                    ]
                }
                for row in rows
            ],
            "size": len(rows),
        }


def _frozen(changes: dict[str, Any]) -> dict[str, Any]:
    """Return changes as a view keeps them; over HTTP they arrive as lists."""
    if changes.get("only_for") is not None:
        changes["only_for"] = frozenset(changes["only_for"])
    if "columns" in changes:
        changes["columns"] = tuple(changes["columns"])
    return changes


# -- conditions


def _fields_of(where: Mapping[str, Any]) -> Iterator[str]:
    if "conditions" in where:
        for one in where["conditions"]:
            yield from _fields_of(one)
    else:
        yield where["field"]


def visible_condition(access: UserAccess, sobject: SObject, where: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the filter without the conditions on fields that the user may not see; an empty group if none is left."""
    return _visible(access, sobject, where) or NO_CONDITION


def _visible(access: UserAccess, sobject: SObject, where: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "conditions" not in where:
        return where if _find(access, sobject, where["field"]) else None
    left = [one for one in (_visible(access, sobject, each) for each in where["conditions"]) if one]
    if len(left) < 2:
        return left[0] if left else None
    return {"conditions": left, "conjunction": where["conjunction"]}


def _condition(where: Mapping[str, Any]) -> str:
    """Return the condition as SOQL, groups in parentheses."""
    if "conditions" in where:
        word = f" {where['conjunction'].upper()} "
        parts = (f"({_condition(one)})" if "conditions" in one else _condition(one) for one in where["conditions"])
        return word.join(parts)
    name, operator, values = where["field"], where["operator"], where["values"]
    if operator in {"in", "notIn"}:
        return f"{name} {'NOT IN' if operator == 'notIn' else 'IN'} ({', '.join(values)})"
    if operator == "notLike":
        return f"(NOT {name} LIKE {values[0]})"
    return f"{name} {_OPERATORS[operator]} {values[0]}"


# -- columns


def _find(access: UserAccess, sobject: SObject, path: str) -> Field | None:
    """Return the field at the end of a path if the user may see all of it."""
    *way, last = path.split(".")
    for name in way:
        relation = sobject.find_relationship(name)
        if relation is None or access.find_field(sobject, relation.name) is None:
            return None
        target = NAME if relation.is_polymorphic else access.find_object(relation.refers_to[0])
        if target is None:
            return None
        sobject = target
    return sobject.find(last) if sobject is NAME else access.find_field(sobject, last)


def _columns(access: UserAccess, sobject: SObject, view: ListView) -> list[dict[str, Any]]:
    shown = [path for path in view.columns if _find(access, sobject, path)]
    hidden = [name for name in HIDDEN_COLUMNS if name not in shown]
    if any(path.startswith("Owner.") for path in shown):
        hidden += [path for path in ("Owner.Id", "OwnerId") if path not in shown]
    return [
        *(_column(access, sobject, path, number) for number, path in enumerate(shown)),
        *(_column(access, sobject, path, None) for path in hidden),
    ]


def _column(access: UserAccess, sobject: SObject, path: str, number: int | None) -> dict[str, Any]:
    """Return a column; without a number it is one that only the query has."""
    found = _find(access, sobject, path)
    assert found is not None  # noqa: S101 (the caller has looked)
    is_sorted = number == 0
    numeric = found.kind in {"phone", "int", "double", "date", "datetime"}
    labels = (
        ("9-0", "0-9") if numeric else ("Low to High", "High to Low") if found.kind == "picklist" else ("Z-A", "A-Z")
    )
    return {
        "ascendingLabel": labels[0] if number is not None else None,
        "descendingLabel": labels[1] if number is not None else None,
        "fieldNameOrPath": path,
        "hidden": number is None,
        "label": found.label,
        "selectListItem": f"toLabel({path})" if found.kind == "picklist" else path,
        "sortDirection": "ascending" if is_sorted else None,
        "sortIndex": 0 if is_sorted else None,
        "sortable": number is not None,
        "type": found.kind,
    }


def _order(columns: list[dict[str, Any]]) -> list[str]:
    first = columns[0]["fieldNameOrPath"]
    return list(dict.fromkeys((first, "Id")))


def _query(sobject: SObject, view: ListView, columns: list[dict[str, Any]], where: Mapping[str, Any]) -> str:
    selected = ", ".join(c["selectListItem"] for c in columns)
    scope = "" if view.scope == "everything" else f" USING SCOPE {view.scope}"
    condition = _condition(where)
    filtered = f" WHERE {condition}" if condition else ""
    order = ", ".join(f"{path} ASC NULLS FIRST" for path in _order(columns))
    return f"SELECT {selected} FROM {sobject.name}{scope}{filtered} ORDER BY {order}"


# -- rows on a screen


def _shown(row: dict[str, Any], path: str, kind: str) -> str | None:
    value: Any = row
    for name in path.split("."):
        value = None if value is None else value.get(name)
    if value is None:
        return None
    if kind == "datetime":
        return datetime.fromisoformat(value).astimezone(UTC).strftime("%a %b %d %H:%M:%S GMT %Y")
    if kind in ID_KINDS or not isinstance(value, bool):
        return str(value)
    return "true" if value else "false"
