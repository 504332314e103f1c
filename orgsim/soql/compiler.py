"""Compiles the tree of a statement to SQL over the store, for one user.

What the user may not see does not exist: an object without Read answers INVALID_TYPE, a hidden field INVALID_FIELD with the
text for a misspelt one. Conditions have two truth values, as in Salesforce: null differs from every value, so
`Email != 'a@b.c'` and `NOT Email = 'a@b.c'` include records without an address. Values are bound, never written into
the SQL; names come from the schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from orgsim import ids
from orgsim.errors import ApiError, bad_request
from orgsim.schema import ID_KINDS, NAME, Field, SObject
from orgsim.soql.lexer import fault_at, point_at
from orgsim.soql.nodes import (
    Comparison,
    Condition,
    Junction,
    Literal,
    Membership,
    Not,
    Ordering,
    Path,
    Query,
)

_CUSTOM_HINT = (
    "If you are attempting to use a custom {kind}, be sure to append the '{suffix}' after the {after}. "
    "Please reference your WSDL or the describe call for the appropriate names."
)
_TYPE_NAMES = {"datetime": "dateTime", "date": "date", "boolean": "boolean", "int": "int", "double": "double"}
_LITERALS = {
    "datetime": {"datetime", "literal"},
    "date": {"date", "literal"},
    "boolean": {"boolean"},
    "int": {"number"},
    "double": {"number"},
}
_SEMI_OPERATORS = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Access(Protocol):
    """What one user may see; `row_filter` returns a condition on a table alias with its values."""

    @property
    def user_id(self) -> str: ...

    def find_object(self, name: str) -> SObject | None: ...

    def find_field(self, sobject: SObject, name: str) -> Field | None: ...

    def row_filter(self, sobject: SObject, alias: str) -> tuple[str, list[Any]]: ...


@dataclass(frozen=True)
class Column:
    """One selected value: where it goes in the answer, its type, and its SQL.

    `owner` names the object behind each relationship on the way: (("Owner", "User"),).
    """

    names: tuple[str, ...]
    kind: str
    sql: str
    owners: tuple[str, ...] = ()


@dataclass
class Plan:
    """A compiled statement. `select_ids` gives the records' row numbers in order, `from_rows` the tables to read them from."""

    sobject: SObject
    text: str
    is_count: bool
    select_ids: str
    count: str
    values: list[Any]
    columns: list[Column]
    from_rows: str
    from_values: list[Any]  # of from_rows

    @property
    def is_wide(self) -> bool:
        """Return whether a long text field is selected, which makes the server use smaller pages."""
        wide = {f.name for f in self.sobject.fields if f.is_long}
        return any(c.names[-1] in wide for c in self.columns)


def compile_query(query: Query, access: Access, *, deleted_too: bool) -> Plan:
    """Return the plan; ApiError 400 as Salesforce words it. `deleted_too` is queryAll."""
    return _Compiler(query, access, deleted_too).plan()


@dataclass
class _Joins:
    """The LEFT JOINs that relationship paths need, each once. A related record that the user doesn't see nests as null."""

    prefix: str
    sql: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    known: dict[tuple[str, ...], tuple[str, SObject]] = field(default_factory=dict)


class _Compiler:
    def __init__(self, query: Query, access: Access, deleted_too: bool) -> None:
        self._query = query
        self._access = access
        self._deleted_too = deleted_too
        self._values: list[Any] = []
        self._object = self._source()
        self._filters = _Joins("w")
        self._reads = _Joins("s")

    def _source(self) -> SObject:
        found = self._access.find_object(self._query.source)
        if found is None:
            hint = _CUSTOM_HINT.format(kind="object", suffix="__c", after="entity name")
            message = f"sObject type '{self._query.source}' is not supported. {hint}"
            raise fault_at(self._query.text, self._query.source_at, "INVALID_TYPE", message)
        return found

    # -- the whole statement

    def plan(self) -> Plan:
        query = self._query
        columns = self._columns()
        where = self._where()
        tail = self._tail()
        from_ids = self._from(self._filters)
        return Plan(
            sobject=self._object,
            text=query.text,
            is_count=query.is_count,
            values=[*self._filters.values, *self._values],
            columns=columns,
            select_ids=f"SELECT t.seq FROM {from_ids} WHERE {where}{tail}",
            count=self._count(from_ids, where, tail),
            from_rows=self._from(self._reads),
            from_values=self._reads.values,
        )

    def _count(self, from_ids: str, where: str, tail: str) -> str:
        if self._query.limit is None:
            return f"SELECT count(*) FROM {from_ids} WHERE {where}"
        return f"SELECT count(*) FROM (SELECT 1 FROM {from_ids} WHERE {where}{tail})"

    def _from(self, joins: _Joins) -> str:
        return " ".join([f'"{self._object.table}" AS t', *joins.sql])

    def _where(self) -> str:
        parts = []
        if not self._deleted_too and self._object.find("IsDeleted"):
            parts.append('t."IsDeleted" = 0')
        parts.extend(self._scope())
        if self._query.where is not None:
            parts.append(self._condition(self._query.where))
        sql, values = self._access.row_filter(self._object, "t")
        if sql:
            parts.append(sql)
            self._values.extend(values)
        return " AND ".join(f"({part})" for part in parts) or "1"

    def _scope(self) -> list[str]:
        scope = (self._query.scope or "everything").lower()
        if scope not in self._object.scopes:
            raise bad_request(
                "INVALID_QUERY_SCOPE", f"Query scope '{self._query.scope}' is not supported for {self._object.name}"
            )
        if scope != "mine":
            return []
        self._values.append(self._access.user_id)
        return ['t."OwnerId" = ?']

    def _tail(self) -> str:
        query, parts = self._query, []
        if query.order_by and not query.is_count:
            parts.append("ORDER BY " + ", ".join(self._ordering(o) for o in query.order_by))
        if query.limit is not None:
            parts.append("LIMIT ?")
            self._values.append(query.limit)
        return "".join(f" {part}" for part in parts)

    # -- what is selected

    def _columns(self) -> list[Column]:
        columns: list[Column] = []
        for path in self._query.select:
            names, sql, found, owners = self._walk(path, self._reads)
            columns.append(Column(names, found.kind, sql, owners))
        self._refuse_doubles(columns)
        return columns

    def _refuse_doubles(self, columns: list[Column]) -> None:
        seen: set[tuple[str, ...]] = set()
        for column in columns:
            if column.names in seen:
                raise bad_request("INVALID_FIELD", f"duplicate field selected: {'.'.join(column.names)}")
            seen.add(column.names)

    # -- paths

    def _resolve(self, path: Path, joins: _Joins) -> tuple[Field, str]:
        _, sql, found, _ = self._walk(path, joins)
        return found, sql

    def _walk(self, path: Path, joins: _Joins) -> tuple[tuple[str, ...], str, Field, tuple[str, ...]]:
        """Return the names as Salesforce spells them, the SQL, the field, and the objects behind the relationships."""
        names = list(path.names)
        if len(names) > 1 and names[0].lower() in {(self._query.alias or "").lower(), self._object.name.lower()}:
            names.pop(0)
        current, alias, way, owners = self._object, "t", (), ()  # type: SObject, str, tuple[str, ...], tuple[str, ...]
        for name in names[:-1]:
            relation = self._relation(current, name, path)
            way = (*way, relation.relationship or "")
            alias, current = self._join(joins, way, relation, alias, path)
            owners = (*owners, current.name)
        found = self._field(current, names[-1], path)
        return (*way, found.name), f'{alias}."{found.name}"', found, owners

    def _relation(self, sobject: SObject, name: str, path: Path) -> Field:
        relation = sobject.find_relationship(name)
        if relation is None or self._access.find_field(sobject, relation.name) is None:
            hint = _CUSTOM_HINT.format(kind="relationship", suffix="__r", after="custom relationship name")
            raise fault_at(
                self._query.text,
                path.at,
                "INVALID_FIELD",
                f"Didn't understand relationship '{name}' in field path. {hint}",
            )
        return relation

    def _join(
        self, joins: _Joins, way: tuple[str, ...], relation: Field, alias: str, path: Path
    ) -> tuple[str, SObject]:
        if way not in joins.known:
            target = NAME if relation.is_polymorphic else self._access.find_object(relation.refers_to[0])
            if target is None:
                hint = _CUSTOM_HINT.format(kind="relationship", suffix="__r", after="custom relationship name")
                raise fault_at(
                    self._query.text,
                    path.at,
                    "INVALID_FIELD",
                    f"Didn't understand relationship '{way[-1]}' in field path. {hint}",
                )
            new = f"{joins.prefix}{len(joins.known)}"
            seen, values = ("", []) if target is NAME else self._access.row_filter(target, new)
            joins.values.extend(values)
            only = f" AND {seen}" if seen else ""
            joins.sql.append(f'LEFT JOIN "{target.table}" AS {new} ON {new}."Id" = {alias}."{relation.name}"{only}')
            joins.known[way] = (new, target)
        return joins.known[way]

    def _field(self, sobject: SObject, name: str, path: Path) -> Field:
        found = sobject.find(name) if sobject is NAME else self._access.find_field(sobject, name)
        if found is None:
            hint = _CUSTOM_HINT.format(kind="field", suffix="__c", after="custom field name")
            raise fault_at(
                self._query.text,
                path.at,
                "INVALID_FIELD",
                f"No such column '{name}' on entity '{sobject.name}'. {hint}",
            )
        return found

    # -- conditions

    def _condition(self, condition: Condition) -> str:
        match condition:
            case Junction():
                return f" {condition.word} ".join(f"({self._condition(c)})" for c in condition.conditions)
            case Not():
                return f"NOT coalesce(({self._condition(condition.condition)}), 0)"
            case Membership():
                return self._membership(condition)
            case Comparison():
                return self._comparison(condition)

    def _filterable(self, path: Path) -> tuple[Field, str]:
        found, sql = self._resolve(path, self._filters)
        if not found.filterable:
            raise fault_at(
                self._query.text, path.at, "INVALID_FIELD", f"field '{found.name}' can not be filtered in a query call"
            )
        return found, sql

    def _comparison(self, comparison: Comparison) -> str:
        value = comparison.value
        found, sql = self._filterable(comparison.target)
        self._check_operator(found, comparison)
        if self._is_null(found, value):
            return {"=": f"{sql} IS NULL", "!=": f"{sql} IS NOT NULL"}.get(comparison.operator, "0")
        self._check_type(found, value)
        if value.kind == "literal":
            return self._in_span(found, sql, comparison.operator, value)
        if comparison.operator == "LIKE":
            self._values.append(value.like.lower())
            return f"sf_fold({sql}) LIKE ? ESCAPE '\\'"
        sql = sql if found.kind == "email" or not found.is_text else f"sf_fold({sql})"
        self._values.append(self._bound(found, value))
        return f"{sql} {'IS NOT' if comparison.operator == '!=' else comparison.operator} ?"

    def _membership(self, condition: Membership) -> str:
        found, sql = self._filterable(condition.target)
        for value in condition.values:
            if not self._is_null(found, value):
                self._check_type(found, value)
        with_null = any(self._is_null(found, v) for v in condition.values)
        present = [self._bound(found, v) for v in condition.values if not self._is_null(found, v)]
        self._values.extend(present)
        folded = sql if found.kind == "email" or not found.is_text else f"sf_fold({sql})"
        inside = f"{folded} IN ({', '.join('?' * len(present))})"
        if condition.negated:
            return f"{sql} IS NOT NULL AND NOT {inside}" if with_null else f"{sql} IS NULL OR NOT {inside}"
        return f"{inside} OR {sql} IS NULL" if with_null else inside

    def _in_span(self, found: Field, sql: str, operator: str, value: Literal) -> str:
        assert isinstance(value.value, tuple)  # noqa: S101 (what a date literal holds)
        first, before = value.value
        bounds: list[Any] = [first, before]
        if found.kind == "date":
            bounds = [date.fromordinal(719163 + seconds // 86400).isoformat() for seconds in (first, before)]
        if operator in {"=", "!="}:
            self._values.extend(bounds)
            inside = f"({sql} >= ? AND {sql} < ?)"
            return inside if operator == "=" else f"NOT coalesce({inside}, 0)"
        at_end = operator in {">", "<="}
        self._values.append(bounds[at_end])
        return f"{sql} {'>=' if operator in {'>', '>='} else '<'} ?"

    def _is_null(self, found: Field, value: Literal) -> bool:
        return value.kind == "null" or (value.value == "" and (found.is_text or found.kind in ID_KINDS))

    def _check_operator(self, found: Field, comparison: Comparison) -> None:
        operator = comparison.operator
        wrong = (operator == "LIKE" and not found.is_text) or (found.kind == "boolean" and operator in _SEMI_OPERATORS)
        if wrong:
            raise fault_at(
                self._query.text,
                comparison.target.at,
                "INVALID_QUERY_FILTER_OPERATOR",
                f"invalid operator on {found.kind} field",
            )

    def _check_type(self, found: Field, value: Literal) -> None:
        if found.kind in ID_KINDS or found.is_text:
            if value.kind != "string":
                raise self._wrong_type(found.name, found.kind, value)
            if found.kind in ID_KINDS and ids.to_18(str(value.value)) is None:
                raise fault_at(
                    self._query.text, value.at, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.value}"
                )
        elif value.kind not in _LITERALS.get(found.kind, {"number"}):
            raise self._wrong_type(found.name, found.kind, value)

    def _wrong_type(self, name: str, kind: str, value: Literal) -> ApiError:
        quoted = kind not in _TYPE_NAMES
        how = "should be enclosed in quotes" if quoted else "should not be enclosed in quotes"
        return bad_request(
            "INVALID_FIELD",
            point_at(self._query.text, value.at) + f"value of filter criterion for field '{name}' must be of type "
            f"{_TYPE_NAMES.get(kind, 'string')} and {how}",
        )

    @staticmethod
    def _bound(found: Field, value: Literal) -> Any:
        if found.kind in ID_KINDS:
            return ids.to_18(str(value.value))
        if found.is_text:
            return str(value.value).lower()
        if isinstance(value.value, bool):
            return int(value.value)
        return value.value.isoformat() if isinstance(value.value, date) else value.value

    # -- order

    def _ordering(self, ordering: Ordering) -> str:
        target = ordering.target
        found, sql = self._resolve(target, self._filters)
        if not found.sortable:
            raise fault_at(
                self._query.text,
                target.at,
                "MALFORMED_QUERY",
                f"field '{found.name}' can not be sorted in a query call",
            )
        words = [f"sf_fold({sql})" if found.is_text else sql, "DESC" if ordering.descending else "ASC"]
        if (
            found.nillable or "." in target.text
        ):  # nulls come first in either direction unless the statement says otherwise
            words.append("NULLS LAST" if ordering.nulls_last else "NULLS FIRST")
        return " ".join(words)


def read_sql(column: Column) -> str:
    """Return the SQL that reads a column as the answer shows it; booleans remain 0 and 1."""
    if column.kind == "datetime":
        return f"strftime('%Y-%m-%dT%H:%M:%S.000+0000', {column.sql}, 'unixepoch')"
    return column.sql
