"""What is entered about a person with an account."""

from __future__ import annotations

from asapp.core.forms import EmailAddress, Form, PersonName, Text

NAME_MAX = 120


class NameForm(Form):
    name = PersonName("Name", NAME_MAX)


class PersonForm(NameForm):
    email = EmailAddress("Email")

    def validate_email(self, field: EmailAddress) -> None:
        field.data = field.data.lower()


class MoveForm(Form):
    partner = Text("To", clean=str)
    contacts = Text("Contacts that came from the firm's Salesforce", clean=str)

    @property
    def keeps_contacts(self) -> bool:
        return bool(self.contacts.data == "keep")
