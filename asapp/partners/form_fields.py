"""What admins enter about a firm: each setting is declared here, once.

A field with a column is a setting: the page asks for it, the domain checks and stores it, and the audit log quotes its
changes. Its default is the column's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wtforms import ValidationError

from asapp.core.forms import EmailAddress, Form, Number, PersonName, Secret, Text, Tick
from asapp.leads.form_fields import clean_text
from asapp.salesforce.hosts import NotSalesforce, is_login_host, normalise_url
from asapp.salesforce.soql import FIELD_PATH

NAME_MAX = 120
PASTED_URL_MAX, URL_MAX = 2000, 255
KEY_MAX = 512
SLUG_MAX = 50
RESERVED_SLUGS = frozenset({"new", "preview"})  # they are addresses of other pages
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
API_VERSION = re.compile(r"[1-9][0-9]\.0")
OLDEST_API_VERSION = 60  # older ones are still answered; Salesforce ends them one after the other
OPT_OUT_FIELD_MAX, MORE_OPT_OUT_FIELDS_MAX = 80, 120
MORE_OPT_OUT_FIELDS = 2
LEAD_TEXT_MAX = 255
DISCLOSURE_MAX = 2000


class AppDetails(NamedTuple):
    """The app in the firm's Salesforce; url is the origin that has the API."""

    url: str
    key: str
    secret: str


class AppForm(Form):
    """What a firm's own Salesforce admin enters."""

    url = Text("Salesforce URL", clean=str)
    key = Text("Consumer Key", clean=str.strip)
    secret = Secret("Consumer Secret", clean=str.strip)
    allow_loopback = has_secret = may_wait = False

    def check(self, allow_loopback: bool, *, has_secret: bool = False, may_wait: bool = False) -> AppDetails:
        """Return the cleaned input; raise InvalidFields.

        has_secret: an empty secret keeps the stored one. may_wait: key and secret may both be entered later.
        """
        self.allow_loopback, self.has_secret, self.may_wait = allow_loopback, has_secret, may_wait
        clean = self.checked()
        return AppDetails(clean["url"], clean["key"], clean["secret"])

    @property
    def is_app_later(self) -> bool:
        return self.may_wait and not self.key.data and not self.secret.data

    def validate_url(self, field: Text) -> None:
        if self.is_app_later and not field.data.strip():
            field.data = ""
            return
        try:
            field.data = origin_of(field.data, self.allow_loopback)
        except NotSalesforce as problem:
            raise ValidationError(str(problem)) from None

    def validate_key(self, field: Text) -> None:
        if not self.is_app_later:
            _check_credential(field)

    def validate_secret(self, field: Text) -> None:
        if not self.is_app_later and (field.data or not self.has_secret):
            _check_credential(field)


class PartnerForm(AppForm):
    """What an admin enters. A setting that the form doesn't have keeps its value, or its default."""

    name = Text("Firm name", NAME_MAX, "Enter the firm's name.")
    slug = Text("Address of the firm's page", column="slug", clean=str.strip)
    api_version = Text("API version", column="api_version", clean=str.strip)
    opt_out_field = Text("Opt-out field", column="opt_out_field", clean=str.strip)
    more_opt_out_fields = Text("More opt-out fields", column="more_opt_out_fields")
    opt_outs_trusted_days = Number("Trust opt-outs for (days)", 1, 60, column="opt_outs_trusted_days")
    company_automatic = Tick("Leave Company out where Salesforce allows it", column="is_company_automatic")
    lead_company = Text("Company", column="lead_company")
    lead_source = Text("Lead source", column="lead_source")
    keep_leads = Tick("Keep the lead with the advisor", column="keep_leads_with_advisor")
    brings_in_open_leads = Tick("Bring in open Leads too", column="brings_in_open_leads")
    privacy_url = Text("Privacy notice (https address)", column="privacy_url", clean=str.strip)
    disclosure = Text("Disclosure", DISCLOSURE_MAX, column="disclosure", clean=clean_text)
    confirms_sign_ups = Tick("Confirm sign-ups by email", column="confirms_sign_ups")
    skip_bounced = Tick("Don't email addresses that bounced in Salesforce", column="skip_bounced")
    writes_opt_outs_back = Tick("Tell Salesforce when someone unsubscribes", column="writes_opt_outs_back")
    sends_on_data_of_hours = Number(
        "When Salesforce can't be asked before a send, go on with data up to (hours old)",
        1,
        168,
        column="sends_on_data_of_hours",
        may_be_empty=True,
    )
    sync_interval = Number("Sync every (minutes)", 5, 10_080, column="sync_interval_minutes", may_be_empty=True)
    api_share = Number("Share of daily API calls (%)", 1, 100, column="api_share_percent")

    @property
    def settings(self) -> dict[str, Any]:
        """Return {column: value} for the settings that the form has; an empty slug is left out."""
        asked = {field.column: field.data for field in self if field.column and field.is_asked}
        return {column: value for column, value in asked.items() if value != "" or column != "slug"}

    def validate_slug(self, field: Text) -> None:
        slug = field.data = field.data.lower()
        if slug and (not SLUG.fullmatch(slug) or len(slug) > SLUG_MAX or slug in RESERVED_SLUGS):
            raise ValidationError(
                f"Use up to {SLUG_MAX} small letters, digits and hyphens between them, such as northgate-wealth."
            )

    def validate_api_version(self, field: Text) -> None:
        field.data = field.data.removeprefix("v")
        if not API_VERSION.fullmatch(field.data):
            raise ValidationError("Enter a version such as 66.0.")
        if float(field.data) < OLDEST_API_VERSION:
            raise ValidationError(
                f"Enter {OLDEST_API_VERSION}.0 or a newer version: Salesforce ends old ones, and syncs would stop with them."
            )

    def opt_out_fields(self, stored: Sequence[str] = ()) -> tuple[str, ...]:
        """Return all opt-out fields, as entered; stored: for those that the form doesn't have."""
        first = (self.opt_out_field.data,) if self.opt_out_field.is_asked else tuple(stored[:1])
        more = _names_in(self.more_opt_out_fields.data) if self.more_opt_out_fields.is_asked else stored[1:]
        return (*first, *more)

    def validate_opt_out_field(self, field: Text) -> None:
        if not FIELD_PATH.fullmatch(field.data) or len(field.data) > OPT_OUT_FIELD_MAX:
            raise ValidationError("Enter the field's API name, such as HasOptedOutOfEmail.")

    def validate_more_opt_out_fields(self, field: Text) -> None:
        names = _names_in(field.data)
        field.data = ", ".join(names)
        if not all(FIELD_PATH.fullmatch(name) for name in names):
            raise ValidationError("Enter API names with commas between them, such as Client_No_Mail__c.")
        if len(names) > MORE_OPT_OUT_FIELDS or len(field.data) > MORE_OPT_OUT_FIELDS_MAX:
            raise ValidationError(
                f"Enter up to {MORE_OPT_OUT_FIELDS} names, of {MORE_OPT_OUT_FIELDS_MAX} characters together."
            )
        every = [name.lower() for name in self.opt_out_fields()]
        if len(set(every)) < len(every):
            raise ValidationError("Name each field once; the one above counts already.")
        if sum(name.count(".") == 1 for name in every) > 1:
            raise ValidationError("Only one of the fields may be that of a related record.")

    def validate_privacy_url(self, field: Text) -> None:
        if field.data and not is_https_address(field.data):
            raise ValidationError(
                "Enter an address that begins with https://, such as https://www.example.com/privacy."
            )

    def validate_lead_company(self, field: Text) -> None:
        if not 0 < len(field.data) <= LEAD_TEXT_MAX:
            label = field.label.text.lower()
            raise ValidationError(f"Enter a {label} of up to {LEAD_TEXT_MAX} characters; new leads carry it.")

    validate_lead_source = validate_lead_company


class RecipientForm(Form):
    """The firm's Salesforce admin, who gets a setup link."""

    admin_name = PersonName("Name of the firm's Salesforce admin", NAME_MAX, "Enter a name; the page greets with it.")
    admin_email = EmailAddress("Their email")


# Columns of the settings, as the audit log quotes them.
SETTINGS = tuple(field.column for field in PartnerForm() if field.column)
# Settings with a text of the firm's own, which is erased with the firm; those that are only technical stay.
TECHNICAL = ("slug", "api_version", "opt_out_field", "more_opt_out_fields")
TEXTS = tuple(field.column for field in PartnerForm() if type(field) is Text and field.column not in ("", *TECHNICAL))


def _names_in(listed: str | None) -> list[str]:
    return (listed or "").replace(",", " ").split()


def origin_of(pasted: str, allow_loopback: bool) -> str:
    """Return the address to store; raise NotSalesforce with a message for the person who pasted it."""
    if len(pasted) > PASTED_URL_MAX:
        raise NotSalesforce("That is too long for an address.")
    url = normalise_url(pasted, allow_loopback)
    if is_login_host(url):
        raise NotSalesforce(
            "All firms log in there. Enter the firm's own address, which ends in my.salesforce.com; Setup › My Domain shows it."
        )
    if len(url) > URL_MAX:
        raise NotSalesforce("That is too long for an address.")
    return url


def is_https_address(text: str) -> bool:
    """Can a page link there? An address with https, a host, and nothing that a browser reads otherwise."""
    try:
        url = urlsplit(text)
        has_host = bool(url.hostname) and url.username is None
    except ValueError:
        return False
    return url.scheme == "https" and has_host and len(text) <= URL_MAX and text.isprintable() and " " not in text


def _check_credential(field: Text) -> None:
    label, value = field.label.text, field.data
    if not value:
        raise ValidationError(f"Enter the {label} of the firm's app in Salesforce.")
    if len(value) > KEY_MAX or not value.isascii() or not value.isprintable() or " " in value:
        raise ValidationError(f"This is not a {label}: it is one word of letters, digits and marks. Copy it again.")
