"""Which fields of a person decide whether mail may be sent to them, and which of these the connected user can read.

A firm may name an opt-out field of its own. "Email Opt Out" counts beside it if it can be read: naming another field
never makes an opt-out stop counting. Only the named field has to be readable. A field that the user can't see is missing
from the describe and fails a query, so it is left out of the next one; a full check finds out whether it has become
visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

STANDARD_OPT_OUT = "HasOptedOutOfEmail"
STANDARD_LABEL = "Email Opt Out"
BOUNCED_AT = "EmailBouncedDate"
IS_BOUNCED = "IsEmailBounced"
BOUNCE_REASON = "EmailBouncedReason"
BOUNCES: Mapping[str, tuple[str, ...]] = {
    "Contact": (BOUNCED_AT, BOUNCE_REASON, IS_BOUNCED),
    "Lead": (BOUNCED_AT, BOUNCE_REASON),  # Lead has no third one
}


class ReadFields(NamedTuple):
    """What is read of one object. opt_outs: the firm's field first; true in any is opted out; empty: none can be read."""

    opt_outs: tuple[str, ...]
    bounces: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.opt_outs + self.bounces

    @property
    def key(self) -> str:
        """Return the stored form: the opt-out fields, and one name that stands for all bounce fields."""
        return ",".join(self.opt_outs + self.bounces[:1])

    def without(self, hidden: str) -> ReadFields | None:
        """Return the remaining fields if this one is hidden; None if nothing can be read without it.

        hidden: empty if the answer names no field; then it may be any.
        """
        name, (named, *standard) = hidden.lower(), self.opt_outs or ("",)
        if self.bounces and name in map(str.lower, self.bounces):
            return self._replace(bounces=())
        if standard and name in map(str.lower, standard):
            return self._replace(opt_outs=(named,))
        if not name and (standard or self.bounces):
            return ReadFields(self.opt_outs[:1])
        return None

    def missing(self, about: str) -> tuple[tuple[str, ...], ...]:
        """Return the groups of an object's fields that are not read; each is visible or hidden as a whole."""
        everything = all_fields(about, self.opt_outs[0])
        opt_outs = everything.opt_outs[len(self.opt_outs) :]
        return tuple(group for group in (opt_outs, () if self.bounces else everything.bounces) if group)

    def plus(self, group: tuple[str, ...], about: str) -> ReadFields:
        if group == BOUNCES[about]:
            return self._replace(bounces=group)
        return self._replace(opt_outs=self.opt_outs + group)


def all_fields(about: str, opt_out_field: str) -> ReadFields:
    """about: Contact or Lead. opt_out_field: the firm's."""
    is_standard = opt_out_field.lower() == STANDARD_OPT_OUT.lower()
    return ReadFields((opt_out_field,) if is_standard else (opt_out_field, STANDARD_OPT_OUT), BOUNCES[about])


def fields_of_key(key: str | None, about: str, opt_out_field: str) -> ReadFields:
    """Return the fields of a stored key; all fields if nothing is stored or the firm has named another field."""
    everything, names = all_fields(about, opt_out_field), (key or "").split(",")
    if names[0] != opt_out_field:
        return everything
    return ReadFields(
        tuple(name for name in everything.opt_outs if name in names), everything.bounces if BOUNCED_AT in names else ()
    )


def is_more(key: str, earlier: str | None) -> bool:
    """Is a field read that was not read before, or the firm's field a new one? Such changes have no stamp."""
    now, before = key.split(","), (earlier or "").split(",")
    return now[0] != before[0] or not set(now) <= set(before)


def name_on_person(field: str) -> str:
    """Return the name of a Contact field on a person account."""
    return f"{field[:-1]}pc" if field.lower().endswith("__c") else f"Person{field}"


def label_of(field: str) -> str:
    """Return a field's label as a Salesforce admin knows it."""
    return STANDARD_LABEL if field.lower() == STANDARD_OPT_OUT.lower() else field
