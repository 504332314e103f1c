"""What people may type about a contact or a list, and what we say when it won't do."""

from __future__ import annotations

from typing import NamedTuple

from asapp.core.forms import InvalidFields, clean_address, clean_line, email_problem, name_problem

FIRST_NAME_MAX = 40
LAST_NAME_MAX = 80
LIST_NAME_MAX = 60


class Details(NamedTuple):
    """The fields of a contact that was entered by hand."""

    first_name: str
    last_name: str
    email: str


def check_details(details: Details) -> Details:
    """Return the details cleaned; raise InvalidFields."""
    clean = Details(clean_line(details.first_name), clean_line(details.last_name), clean_address(details.email))
    errors: dict[str, str] = {}
    if not clean.first_name and not clean.last_name:
        errors["last_name"] = "Enter a name."
    if clean.first_name and (problem := name_problem(clean.first_name, FIRST_NAME_MAX)):
        errors["first_name"] = problem
    if clean.last_name and (problem := name_problem(clean.last_name, LAST_NAME_MAX)):
        errors["last_name"] = problem
    if problem := email_problem(clean.email):
        errors["email"] = problem
    if errors:
        raise InvalidFields(errors)
    return clean


def check_list_name(name: str) -> str:
    """Return the name cleaned; raise InvalidFields."""
    clean = clean_line(name)
    if not clean:
        raise InvalidFields({"name": "Enter a name for the list."})
    if len(clean) > LIST_NAME_MAX:
        raise InvalidFields({"name": f"Use {LIST_NAME_MAX} characters or fewer; this has {len(clean)}."})
    if ";" in clean:
        raise InvalidFields({"name": "Leave out the semicolon: the export puts it between two lists."})
    return clean
