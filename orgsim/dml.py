"""Create, update and delete through the API, with Salesforce's checks and error texts.

Messages name the field's label and repeat the value. Email addresses are stored in lower case, white space around values is
removed, an empty string is null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from orgsim import ids, rules
from orgsim.errors import (
    ApiError,
    bad_request,
    entity_is_deleted,
    insufficient_access,
    invalid_cross_reference,
    not_found,
)
from orgsim.rules import Options
from orgsim.schema import ID_KINDS, Field, SObject

if TYPE_CHECKING:
    from orgsim.access import UserAccess
    from orgsim.org import Org

# Salesforce accepts some addresses that RFCs do not: its own sample data holds b.levy@expressl&t.net.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9&_-]+(?:\.[A-Za-z0-9&_-]+)+")


OPT_OUTS = ("HasOptedOutOfEmail", "PersonHasOptedOutOfEmail")


class Dml:
    """Changes by one user. A method that raises ApiError has changed nothing."""

    def __init__(self, org: Org, access: UserAccess) -> None:
        self._org = org
        self._access = access

    # -- verbs

    def create(self, sobject: SObject, payload: Mapping[str, Any], options: Options) -> str:
        """Return the new record's Id."""
        self._demand("create", sobject)
        values = self._values(sobject, payload, new=True)
        self._check_complete(sobject, values, payload)
        owner_id = values.pop("OwnerId", None) or rules.assigned_owner(
            self._org, sobject, self._access.user_id, options
        )
        values = {**self._defaults(sobject), **values, "OwnerId": owner_id}
        rules.check_required(self._org, sobject, values)
        rules.check_validation(self._org, sobject, values)
        rules.check_duplicates(self._org, self._access, sobject, values, options)
        rules.check_refusals(self._org, sobject)
        with self._org.store.transaction():
            return self._org.records.insert(sobject, values, self._access.user_id)

    def update(self, sobject: SObject, record_id: str, payload: Mapping[str, Any], options: Options) -> None:
        self._demand("edit", sobject)
        with self._org.store.lock:
            record = self._find(sobject, record_id)
            values = self._values(sobject, payload, new=False)
            self._check_change(sobject, record, values)
            self._org.locks.check(record["Id"])
            self._org.persons.check_change(sobject, record, values)
            merged = {**record, **values}
            self._check_complete(sobject, merged, payload)
            rules.check_required(self._org, sobject, merged)
            rules.check_validation(self._org, sobject, merged)
            has_new_address = values.get("Email", record.get("Email")) != record.get("Email")
            rules.check_duplicates(self._org, self._access, sobject, merged, options, record["Id"], has_new_address)
            rules.check_refusals(self._org, sobject)
            if "OwnerId" not in values:
                owner_id = rules.assigned_owner(self._org, sobject, record["OwnerId"], options)
                values |= {} if owner_id == record["OwnerId"] else {"OwnerId": owner_id}
            with self._org.store.transaction():
                self._org.records.change(record["Id"], values, self._access.user_id)
                self._org.persons.mirror(record["Id"], values, self._access.user_id)
                self._note_opt_out(record, values)

    def delete(self, sobject: SObject, record_id: str) -> str:
        self._demand("delete", sobject)
        with self._org.store.transaction():
            record = self._find(sobject, record_id)
            if not self._access.owns(record):
                raise insufficient_access()
            if sobject.name == "Contact" and self._org.persons.find_other(record["Id"]):
                # The code is documented; its text over REST is a guess.
                raise bad_request("INVALID_PERSON_ACCOUNT_OPERATION", "You can't delete a person account", [])
            for one in self._org.persons.halves_of(record["Id"]):
                self._org.records.delete(one, self._access.user_id)
            return str(record["Id"])

    def upsert(
        self,
        sobject: SObject,
        key: str,
        value: str,
        payload: Mapping[str, Any],
        options: Options,
        *,
        update_only: bool = False,
    ) -> tuple[str, bool]:
        """Return the Id and whether it was created; SeveralMatchError when several records match."""
        field = self._access.find_field(sobject, key)
        if field is None or not field.id_lookup:
            raise not_found(f"Provided external ID field does not exist or is not accessible: {key}")
        matches = self._matching(sobject, field, value)
        if len(matches) > 1:
            raise SeveralMatchError([m["Id"] for m in matches])
        if matches:
            self.update(sobject, matches[0]["Id"], payload, options)
            return matches[0]["Id"], False
        if update_only or field.name == "Id":
            raise not_found()
        return self.create(sobject, {**payload, field.name: value}, options), True

    def find_by_key(self, sobject: SObject, key: str, value: str) -> str:
        """Return the Id of the one record with this key; 404 if there is none."""
        field = self._access.find_field(sobject, key)
        if field is None or not field.id_lookup:
            raise not_found(f"Provided external ID field does not exist or is not accessible: {key}")
        matches = self._matching(sobject, field, value)
        if len(matches) > 1:
            raise SeveralMatchError([m["Id"] for m in matches])
        if not matches:
            raise not_found()
        return str(matches[0]["Id"])

    def _matching(self, sobject: SObject, field: Field, value: str) -> list[dict[str, Any]]:
        wanted = ids.to_18(value) if field.kind == "id" else value.lower()
        found = self._org.store.records(sobject, f'"{field.name}" = ? AND "IsDeleted" = 0', [wanted])
        return [r for r in found if self._access.sees(sobject, r)]

    def _note_opt_out(self, before: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Record that an opt-out was set through the API, for the front page."""
        if any(values.get(name) and not before[name] for name in OPT_OUTS):
            self._org.note_api_opt_out(before["Id"], self._access.user_id)

    # -- checks

    def _demand(self, right: str, sobject: SObject) -> None:
        if not sobject.writable:
            raise ApiError(405, "METHOD_NOT_ALLOWED", f"{sobject.name} cannot be changed in this org")
        if not self._access.may(right, sobject):
            code = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" if right == "create" else "INSUFFICIENT_ACCESS_OR_READONLY"
            message = (
                f"entity type cannot be inserted: {sobject.label}"
                if right == "create"
                else "insufficient access rights on object id"
            )
            raise ApiError(400 if right == "create" else 403, code, message, fields=[])

    def _find(self, sobject: SObject, record_id: str) -> dict[str, Any]:
        full = ids.to_18(record_id)
        if full is None or not full.startswith(sobject.prefix):
            raise bad_request("MALFORMED_ID", f"malformed id {record_id}", [])
        self._org.late.release([full])
        record = self._org.store.record(sobject, full)
        if record is None:
            purged = self._org.store.value("SELECT 1 FROM deleted WHERE id = ?", (full,))
            raise not_found() if purged else invalid_cross_reference(404)
        if record["IsDeleted"]:
            raise entity_is_deleted()
        if not self._access.sees(sobject, record):
            raise not_found()  # the answer doesn't tell whether sharing hides the record
        return record

    def _check_change(self, sobject: SObject, record: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if sobject.name == "Lead" and record["IsConverted"]:
            raise bad_request("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [])
        if values.get("OwnerId", record["OwnerId"]) != record["OwnerId"] and not self._access.owns(dict(record)):
            raise insufficient_access()

    def _check_complete(self, sobject: SObject, values: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
        required = [f.name for f in sobject.stored if not f.nillable and not f.defaulted and f.creatable]
        missing = [name for name in required if values.get(name) is None]
        if missing:
            raise bad_request("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        if sobject.name == "Lead" and payload.get("IsConverted") is True:
            raise bad_request("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "IsConverted requires a converted status", [])

    @staticmethod
    def _defaults(sobject: SObject) -> dict[str, Any]:
        return {f.name: f.default_value for f in sobject.fields if f.default_value}

    # -- values

    def _values(self, sobject: SObject, payload: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        values: dict[str, Any] = {}
        refused: list[str] = []
        for name, value in payload.items():
            if name in {"attributes", "Id", "id"} and (name == "attributes" or not new):
                continue
            found = self._access.find_field(sobject, name)
            if found is None:
                raise bad_request("INVALID_FIELD", f"No such column '{name}' on sobject of type {sobject.name}")
            writable = found.creatable if new else found.updatable
            if not writable or found.sql or not self._access.is_writable(sobject, found):
                refused.append(found.name)
            else:
                values[found.name] = self._value(sobject, found, value)
        if refused:
            raise bad_request(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {', '.join(refused)}. Please check the security settings of this field and "
                "verify that it is read/write for your profile or permission set.",
                refused,
            )
        return values

    def _value(self, sobject: SObject, field: Field, value: Any) -> Any:
        if isinstance(value, dict | list):
            raise _unreadable(field, "START_OBJECT" if isinstance(value, dict) else "START_ARRAY")
        if value is None or (isinstance(value, str) and not value.strip()):
            return 0 if field.kind == "boolean" else None
        if field.kind == "boolean":
            return _boolean(field, value)
        if field.kind in ID_KINDS:
            return self._reference(sobject, field, str(value))
        if field.kind in {"date", "datetime"}:
            return _moment(field, str(value))
        if field.kind == "int":
            return _number(field, value)
        if isinstance(value, bool):
            raise _unreadable(field, "VALUE_TRUE" if value else "VALUE_FALSE")
        return self._text(field, str(value).strip())

    def _text(self, field: Field, value: str) -> str:
        if len(value) > field.length:
            raise bad_request(
                "STRING_TOO_LONG",
                f"{field.label}: data value too large: {value} (max length={field.length})",
                [field.name],
            )
        if field.kind == "email":
            if not _ADDRESS.fullmatch(value):
                raise bad_request(
                    "INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {value}", [field.name]
                )
            return value.lower()
        restricted = field.kind == "picklist" and self._org.settings.restricted_picklists
        if restricted and value not in field.values:
            raise bad_request(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{field.label}: bad value for restricted picklist field: {value}",
                [field.name],
            )
        return value

    def _reference(self, sobject: SObject, field: Field, value: str) -> str:
        full = ids.to_18(value)
        if full is None:
            raise bad_request("MALFORMED_ID", f"{field.label}: id value of incorrect type: {value}", [field.name])
        if field.name == "OwnerId":
            self._check_owner(sobject, full)
        elif self._org.records.find(full) is None:
            raise invalid_cross_reference()
        return full

    def _check_owner(self, sobject: SObject, owner_id: str) -> None:
        if sobject.name == "Lead" and owner_id in self._org.people.queues:
            return
        owner = self._org.people.users.get(owner_id)
        if owner is None:
            raise invalid_cross_reference()
        if not owner.active:
            raise bad_request(
                "INACTIVE_OWNER_OR_USER",
                f"operation performed with inactive user [{owner_id}] as owner of {sobject.name.lower()}",
                ["OwnerId"],
            )


class SeveralMatchError(Exception):
    """An upsert key that fits several records."""

    def __init__(self, record_ids: list[str]) -> None:
        super().__init__(f"{len(record_ids)} records match")
        self.record_ids = record_ids


def _unreadable(field: Field, token: str) -> ApiError:
    return bad_request(
        "JSON_PARSER_ERROR",
        f"Cannot deserialize instance of {_JSON_NAMES.get(field.kind, 'string')} from "
        f"{token} value or request may be missing a required field at [line:1, column:2]",
    )


_JSON_NAMES = {"boolean": "boolean", "datetime": "datetime", "date": "date", "int": "int"}


def _boolean(field: Field, value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.strip().lower() in {"true", "false", "1", "0"}:
        return int(value.strip().lower() in {"true", "1"})
    raise _unreadable(field, "VALUE_STRING" if isinstance(value, str) else "VALUE_NUMBER_INT")


def _number(field: Field, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise _unreadable(field, "VALUE_STRING") from None


def _moment(field: Field, value: str) -> int | str:
    try:
        if field.kind == "date":
            return date.fromisoformat(value).isoformat()
        return parse_moment(value)
    except ValueError:
        raise _unreadable(field, "VALUE_STRING") from None


def parse_moment(value: str) -> int:
    """Read a moment as the REST API takes it, with Z or an offset; ValueError otherwise. Seconds since 1970."""
    moment = datetime.fromisoformat(value.strip().replace(" ", "+"))
    if moment.tzinfo is None:
        raise ValueError("a moment without an offset")
    return int(moment.timestamp() // 1)
