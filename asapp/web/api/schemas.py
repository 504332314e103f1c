"""What calls take and answer. Requests are validated against these, answers are documented by them, and tests compare both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields
from marshmallow.validate import Length, Predicate, Range, Regexp

from asapp.contacts.sender_events import EventType
from asapp.messages.senders import MAY_SEND_REASONS, SEND_REASONS, ReasonForSenders
from asapp.messages.states import AdvisorState
from asapp.models import ContactSource, ListKind, SendState

MOST = 1000  # addresses or events in a call, rows in a page
ADVISORS_A_PAGE = 100
RECIPIENTS_A_PAGE = 1000
MOST_MINUTES = 7 * 24 * 60
SENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"
CURSOR = r"^([0-9a-f]{2})+$"
EMAIL_MAX = 254


def about(words: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"description": words, **more}}


def one_of(values: Iterable[str], words: str) -> fields.String:
    """A text in an answer with one of these values."""
    return fields.String(required=True, **about(words, enum=[str(value) for value in values]))


def one_of_reasons(reasons: Mapping[str, ReasonForSenders], words: str) -> fields.String:
    """A text in an answer with one of these reasons, each described, or null. JSON Schema wants null among the values too."""
    codes = [str(code) for code in reasons]
    told = [{"const": code, "description": reasons[code].text} for code in codes]
    described = about(words, enum=[*codes, None], oneOf=[*told, {"type": "null"}])
    return fields.String(required=True, allow_none=True, **described)


class Paged(Schema):
    cursor = fields.String(
        validate=[Regexp(CURSOR), Predicate("isprintable"), Length(2, 200)],
        **about("`next` of the page before; leave it out for the first page."),
    )


class AdvisorsQuery(Paged):
    partner = fields.String(**about("Slug of a firm."), validate=Length(1, 60))
    email = fields.String(**about("The address with which an advisor logs in."), validate=Length(1, EMAIL_MAX))
    limit = fields.Integer(load_default=ADVISORS_A_PAGE, validate=Range(1, MOST), **about("Advisors in a page."))


class RecipientsQuery(Paged):
    limit = fields.Integer(load_default=RECIPIENTS_A_PAGE, validate=Range(1, MOST), **about("Recipients in a page."))


class Whole(fields.Integer):
    """A whole number in JSON: 5 and 5.0, but not 5.5, "5" or true."""

    def _validated(self, value: Any) -> int:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if type(number) is not int:
            raise self.make_error("invalid", input=value)
        return number


class RequestBody(Schema):
    class Meta:
        unknown = RAISE


class ListOut(Schema):
    id = fields.String(required=True)
    name = fields.String(required=True)
    kind = one_of(ListKind, "`own`: made by the advisor; the others are filled by each sync.")
    active = fields.Integer(
        required=True,
        **about("Contacts on it that may be written to. Where some share an address, recipients are fewer."),
    )


class AdvisorOut(Schema):
    id = fields.String(required=True)
    name = fields.String(required=True)
    email = fields.String(required=True)
    partner = fields.String(required=True, **about("Slug of the firm."))
    state = one_of(AdvisorState, "How the advisor's connection to Salesforce is doing.")
    opt_outs_as_of = fields.DateTime(
        required=True, allow_none=True, **about("When Salesforce was last asked with success who has opted out.")
    )
    active = fields.Integer(required=True, **about("Contacts that may be written to, on whichever list."))
    lists = fields.List(fields.Nested(ListOut), required=True)


NEXT = "Hand it back as `cursor` for the next page; null at the end."


class AdvisorsOut(Schema):
    advisors = fields.List(fields.Nested(AdvisorOut), required=True)
    next = fields.String(required=True, allow_none=True, **about(NEXT))


class RecipientOut(Schema):
    contact_id = fields.String(required=True)
    salesforce_id = fields.String(required=True, allow_none=True)
    source = one_of(ContactSource, "Where the contact comes from.")
    first_name = fields.String(required=True, **about("As it is stored: escape it."))
    last_name = fields.String(required=True, **about("As it is stored: escape it."))
    email = fields.String(required=True)
    also = fields.List(
        fields.String(), required=True, **about("Ids of the list's other active contacts with the same address.")
    )
    unsubscribe_url = fields.String(required=True, **about("For the mail's text and its header List-Unsubscribe."))


class RecipientsOut(Schema):
    as_of = fields.DateTime(
        required=True, allow_none=True, **about("How old the opt-out data is. Never the time of the question.")
    )
    recipients = fields.List(fields.Nested(RecipientOut), required=True)
    next = fields.String(required=True, allow_none=True, **about(NEXT))


class SendIn(RequestBody):
    id = fields.String(
        required=True,
        validate=[Regexp(SENT_ID), Predicate("isprintable")],  # Python's `$` also matches before a final line break
        **about("Your own: the same id is the same send."),
    )
    list_id = fields.String(required=True, validate=Length(1, 100))
    max_age_minutes = Whole(
        required=True,
        validate=Range(0, MOST_MINUTES),
        **about("How old the opt-out data may be at most, where Salesforce can't be asked and the firm accepts that."),
    )


class SendOut(Schema):
    id = fields.String(required=True)
    list_id = fields.String(required=True)
    state = one_of(SendState, "`preparing` becomes one of the others within 5 minutes.")
    reason = one_of_reasons(SEND_REASONS, "Why the send is `stale` or `refused`, and who acts; null otherwise.")
    as_of = fields.DateTime(required=True, allow_none=True)
    expires_at = fields.DateTime(required=True, allow_none=True, **about("Until when recipients can be fetched."))
    recipients_url = fields.String(required=True)


class MaySendIn(RequestBody):
    advisor_id = fields.String(required=True, validate=Length(1, 100))
    emails = fields.List(fields.String(validate=Length(1, EMAIL_MAX)), required=True, validate=Length(1, MOST))


class MaySendResult(Schema):
    email = fields.String(required=True)
    may_send = fields.Boolean(required=True)
    reason = one_of_reasons(MAY_SEND_REASONS, "Why not, and who acts; null where the address may be written to.")


class MaySendOut(Schema):
    results = fields.List(fields.Nested(MaySendResult), required=True, **about("In the order of the addresses."))


class EventIn(Schema):
    id = fields.String(required=True, validate=Length(1, 100), **about("Your own. It counts once for an advisor."))
    type = fields.String(required=True, metadata={"enum": [*EventType]})
    advisor_id = fields.String(required=True, validate=Length(1, 100))
    email = fields.String(required=True, validate=Length(3, EMAIL_MAX), **about("The address that was written to."))
    at = fields.DateTime(required=True, **about("When it happened, with a time zone. The future is taken as now."))
    detail = fields.Raw(allow_none=True, **about("What the mail server said, for example. The advisor sees it."))


class Events(fields.List[Any]):
    """A list of events, documented in full but not validated: a bad one must not stop the others."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:  # noqa: ARG002
        if not isinstance(value, list):
            raise ValidationError("Not a valid list.")
        return value


class EventsIn(RequestBody):
    events = Events(fields.Nested(EventIn), required=True, validate=Length(1, MOST))


class EventResult(Schema):
    id = fields.String(required=True, allow_none=True, **about("null where the event had none that could be read."))
    result = one_of(["accepted", "duplicate", "invalid"], "`accepted` and `duplicate`: it is stored.")
    error = fields.String(required=True, allow_none=True, **about("What is wrong with an invalid event."))


class EventsOut(Schema):
    results = fields.List(fields.Nested(EventResult), required=True, **about("In the order of the events."))


class ErrorOut(Schema):
    pointer = fields.String(**about("JSON pointer to the place in the body."))
    parameter = fields.String(**about("Name of the parameter."))
    detail = fields.String(required=True)


class ProblemOut(Schema):
    type = fields.String(required=True, **about("Tells problems apart, and never changes."))
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    request_id = fields.String(required=True, **about("By which AdvisorStream finds the request in its log."))
    errors = fields.List(fields.Nested(ErrorOut), **about("With `invalid` alone."))
    state = fields.String(**about("With `send-not-ready` alone."))
    reason = fields.String(allow_none=True, **about("With `send-not-ready` alone."))
