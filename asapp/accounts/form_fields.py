"""What is entered about a person with an account."""

from __future__ import annotations

from enum import StrEnum

from wtforms import ValidationError

from asapp.core.formats import is_zone_name
from asapp.core.forms import EmailAddress, Form, PersonName, Text
from asapp.models import Digest, LeadMails

NAME_MAX = 120
PASSKEY_NAME_MAX = 60


class NameForm(Form):
    name = PersonName("Name", NAME_MAX)


class ProfileForm(NameForm):
    time_zone = Text("Time zone", clean=str)
    digest = Text("What changed among your contacts", clean=str)
    lead_mails = Text("When someone signs up on your page", clean=str)

    def validate_digest(self, field: Text) -> None:
        _check_choice(field, Digest)

    def validate_lead_mails(self, field: Text) -> None:
        _check_choice(field, LeadMails)

    def validate_time_zone(self, field: Text) -> None:
        if field.data and not is_zone_name(field.data):
            raise ValidationError("Choose one of the list.")


class PersonForm(NameForm):
    email = EmailAddress("Email")

    def validate_email(self, field: EmailAddress) -> None:
        field.data = field.data.lower()


class PasskeyForm(Form):
    name = Text("Name", PASSKEY_NAME_MAX, "Enter a name by which you will know it.")


class MoveForm(Form):
    partner = Text("To", clean=str)
    contacts = Text("Contacts that came from the firm's Salesforce", clean=str)

    @property
    def keeps_contacts(self) -> bool:
        return bool(self.contacts.data == "keep")


def _check_choice(field: Text, choices: type[StrEnum]) -> None:
    """An empty field leaves the choice as it is."""
    if field.data and field.data not in set(choices):
        raise ValidationError("Choose one of these.")
