"""Which fields of a person decide whether mail may be sent to them, and which of these the connected user can read.

A firm may name up to three opt-out fields. "Email Opt Out" counts beside them if it can be read: naming other fields
never makes an opt-out stop counting. Only the named fields have to be readable. A field that the user can't see is missing
from the describe and fails a query, so it is left out of the next one; a full check finds out whether it has become
visible.

A named field may be that of a related record, such as `Individual.HasOptedOutSolicit`. That record has sharing of its
own: if a person has one and it can't be seen, whether they opted out is unknown, and unknown counts as opted out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

STANDARD_OPT_OUT = "HasOptedOutOfEmail"
STANDARD_LABEL = "Email Opt Out"
BOUNCED_AT = "EmailBouncedDate"
IS_BOUNCED = "IsEmailBounced"
IS_PERSON, ACCOUNT_ID = "IsPersonAccount", "AccountId"
PERSONS = (IS_PERSON, ACCOUNT_ID)
BOUNCE_REASON = "EmailBouncedReason"
BOUNCES: Mapping[str, tuple[str, ...]] = {
    "Contact": (BOUNCED_AT, BOUNCE_REASON, IS_BOUNCED),
    "Lead": (BOUNCED_AT, BOUNCE_REASON),  # Lead has no third one
}


class ReadFields(NamedTuple):
    """What is read of one object. opt_outs: the firm's first; true in any is opted out; empty: none can be read."""

    opt_outs: tuple[str, ...]
    bounces: tuple[str, ...] = ()
    named: int = 1  # how many of opt_outs are the firm's
    persons: tuple[str, ...] = ()  # what tells a person account, and leads to it; empty where there are none

    @property
    def opt_out_columns(self) -> tuple[str, ...]:
        """Return what is queried to know who opted out: the fields, and of a related record also the reference to it."""
        return self.opt_outs + tuple(reference_of(name) for name in self.related)

    @property
    def names(self) -> tuple[str, ...]:
        return self.opt_out_columns + self.bounces + self.persons

    @property
    def related(self) -> tuple[str, ...]:
        """Return the opt-out fields that are those of a related record."""
        return tuple(name for name in self.opt_outs if "." in name)

    @property
    def key(self) -> str:
        """Return the stored form: the firm's fields, the other opt-out field, and one name each for bounces and persons."""
        others = (*self.opt_outs[self.named :], *self.bounces[:1], *self.persons[:1])
        return ",".join((key_of(self.opt_outs[: self.named]), *others))

    def without(self, hidden: str) -> ReadFields | None:
        """Return the remaining fields if this one is hidden; None if nothing can be read without it.

        hidden: empty if the answer names no field; then it may be any.
        """
        name, named, standard = hidden.lower(), self.opt_outs[: self.named], self.opt_outs[self.named :]
        if self.bounces and name in map(str.lower, self.bounces):
            return self._replace(bounces=())
        if self.persons and name in map(str.lower, self.persons):
            return self._replace(persons=())
        if standard and name in map(str.lower, standard):
            return self._replace(opt_outs=named)
        if not name and (standard or self.bounces or self.persons):
            return self._replace(opt_outs=named, bounces=(), persons=())
        return None

    def missing(self, everything: ReadFields) -> tuple[tuple[str, ...], ...]:
        """Return the groups of fields that are not read, among all; each is visible or hidden as a whole."""
        opt_outs = everything.opt_outs[len(self.opt_outs) :]
        bounces = () if self.bounces else everything.bounces
        persons = () if self.persons else everything.persons
        return tuple(group for group in (opt_outs, bounces, persons) if group)

    def plus(self, group: tuple[str, ...], about: str) -> ReadFields:
        if group == BOUNCES[about]:
            return self._replace(bounces=group)
        if group == PERSONS:
            return self._replace(persons=group)
        return self._replace(opt_outs=self.opt_outs + group)


def all_fields(about: str, named: Sequence[str], *, has_persons: bool = False) -> ReadFields:
    """about: Contact or Lead. named: the firm's opt-out fields. has_persons: does the org use person accounts?"""
    persons = PERSONS if has_persons and about == "Contact" else ()
    has_standard = STANDARD_OPT_OUT.lower() in map(str.lower, named)
    return ReadFields((*named, *(() if has_standard else (STANDARD_OPT_OUT,))), BOUNCES[about], len(named), persons)


def fields_of_key(key: str | None, everything: ReadFields) -> ReadFields:
    """Return the fields of a stored key, among all; all if nothing is stored or the firm has named other fields."""
    named, (stored, *others) = everything.opt_outs[: everything.named], (key or "").split(",")
    if stored != key_of(named):
        return everything
    standard = tuple(name for name in everything.opt_outs[len(named) :] if name in others)
    return everything._replace(
        opt_outs=(*named, *standard),
        bounces=everything.bounces if BOUNCED_AT in others else (),
        persons=everything.persons if PERSONS[0] in others else (),
    )


def key_of(named: Sequence[str]) -> str:
    """Return the part of a stored key that the firm's own fields make."""
    return "+".join(named)


def is_more(key: str, earlier: str | None) -> bool:
    """Is a field read that was not read before, or has the firm named other fields? Such changes have no stamp."""
    now, before = key.split(","), (earlier or "").split(",")
    return now[0] != before[0] or not set(now) <= set(before)


def reference_of(related: str) -> str:
    """Return the field that refers to the record of a related field: IndividualId for Individual.HasOptedOutSolicit."""
    relation = related.partition(".")[0]
    return f"{relation[:-1]}c" if relation.lower().endswith("__r") else f"{relation}Id"


def find_named(hidden: str, named: Sequence[str]) -> str | None:
    """Return the firm's opt-out field that can't be read if this one is hidden; None if it is none of them.

    hidden: as an answer names it: a field, a relationship or a reference; empty if it names none.
    """
    if not hidden:
        return named[0]
    parts = {name: {name, *name.split("."), reference_of(name) if "." in name else name} for name in named}
    return next((name for name in named if hidden.lower() in map(str.lower, parts[name])), None)


def field_to_write(named: Sequence[str]) -> str:
    """Return the field that says "opted out" in Salesforce: the firm's first that is the person's own, else Email Opt Out."""
    return next((name for name in named if "." not in name), STANDARD_OPT_OUT)


def name_on_person(field: str) -> str:
    """Return the name of a Contact field on a person account."""
    return f"{field[:-1]}pc" if field.lower().endswith("__c") else f"Person{field}"


def label_of(field: str) -> str:
    """Return a field's label as a Salesforce admin knows it."""
    return STANDARD_LABEL if field.lower() == STANDARD_OPT_OUT.lower() else field
