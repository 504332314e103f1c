"""The forms for a contact and for a list, with the messages for bad input."""

from __future__ import annotations

from typing import NamedTuple

from wtforms import ValidationError

from asapp.core.forms import EmailAddress, Form, PersonName, Text, Tick

LIST_NAME_MAX = 60


class Details(NamedTuple):
    """The fields of a contact that is entered by hand."""

    first_name: str
    last_name: str
    email: str


class ContactForm(Form):
    first_name = PersonName("First name", 40, may_be_empty=True)
    last_name = PersonName("Last name", 80, may_be_empty=True)
    email = EmailAddress("Email")
    keep_same_address = Tick("Keep this address all the same")

    def validate_last_name(self, field: PersonName) -> None:
        if not field.data and not self.first_name.data:
            raise ValidationError("Enter a name.")

    @property
    def details(self) -> Details:
        return Details(**self.typed)


class ListForm(Form):
    name = Text("Name of the list", LIST_NAME_MAX, "Enter a name for the list.")

    def validate_name(self, field: Text) -> None:
        if ";" in field.data:
            raise ValidationError("Leave out the semicolon: the export puts it between two lists.")


def check_details(details: Details) -> Details:
    """Return the details cleaned; raise InvalidFields."""
    clean = ContactForm.entered(**details._asdict()).checked()
    return Details(clean["first_name"], clean["last_name"], clean["email"])


def check_list_name(name: str) -> str:
    """Return the name cleaned; raise InvalidFields."""
    clean: str = ListForm.entered(name=name).checked()["name"]
    return clean
