"""Checks whether a firm's set-up in its org is right. They change nothing and follow no redirect.

Without a user: the org's discovery page, the authorize endpoint, and the token endpoint with an invented code. A check
passes only if a request that must be refused is refused (an unregistered callback, a wrong secret): an endpoint that
refuses nothing, or refuses something else first, proves nothing.

With a user's token: describe of Contact and Lead, which shows what this user may see and do.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from asapp.salesforce import errors
from asapp.salesforce.calls import CallKind, Listener, MadeCall
from asapp.salesforce.errors import LimitReached, Misconfigured, OurBug, SalesforceError, TryLater, sort_token_error
from asapp.salesforce.fields import IS_PERSON, STANDARD_OPT_OUT, field_to_write
from asapp.salesforce.oauth import NEEDED_SCOPES, SCOPES, App, code_of_callback_error
from asapp.salesforce.session import LimitedSession, OrgSession

TIMEOUT_S = (3.05, 8.0)  # a person waits for the page
WITHOUT_USER = ("host", "key", "secret", "callback", "pkce")
WITH_USER = ("scopes", "api", "opt_out", "persons", "lead", "allowance")
OPT_OUTS = ("opt_out", "opt_out_2", "opt_out_3")  # a check for each opt-out field that the firm names
TO_WRITE_BACK = "opt_out_write"  # checked only if the firm wants Salesforce told of unsubscribes
MADE_UP_CODE = "setup-check"
SENT_WITH_A_LEAD = ("FirstName", "LastName", "Email", "Company", "LeadSource")
NEED_NO_VALUE = ("boolean",)
FIELDS_NAMED = 8
NOT_FOUND = 404  # how a host that the org has left may answer
AWAY = {
    "no_connection": "unreachable",
    "no_answer": "no_answer",
    "redirected": "moved",
    "token_endpoint_busy": "token_busy",
}
NEEDS_ID = frozenset({"id", "full", "openid", "profile"})


@dataclass(frozen=True)
class Finding:
    """The result of a check. is_good None: not known. why: a key of messages/checks.py. detail: names, figures; no secret."""

    code: str
    is_good: bool | None
    why: str
    detail: str = ""


@dataclass(frozen=True)
class OptOutField:
    """A field as describe shows it, in Salesforce's own spelling; empty if it isn't shown."""

    name: str
    is_checkbox: bool


@dataclass(frozen=True)
class UserFindings:
    findings: tuple[Finding, ...]
    contact_fields: tuple[OptOutField, ...]  # the firm's opt-out fields on Contact; empty: not checked
    usage: tuple[int, int] | None  # (used, allowed) calls of the org
    has_person_accounts: bool | None = None  # None: not checked
    may_leads_lack_company: bool | None = None


# ---- without a user


def check_app(app: App) -> tuple[Finding, ...]:
    """Run every check that needs no user; one finding for each of WITHOUT_USER, "scopes" only if it was refused."""
    found: dict[str, Finding] = {}
    try:
        with LimitedSession(app.salesforce_url, app.allow_loopback, on_call=_as_probes(app.on_call)) as session:
            _put(found, _check_host(session, app))
            if found["host"].is_good:
                _put(found, *_check_authorize(session, app))
                _put(found, *_check_token(session, app))
    except TryLater as error:
        why = "unreachable" if error.code == "no_connection" else "no_answer"
        if "host" not in found:
            _put(found, Finding("host", False if why == "unreachable" else None, why, _host(app)))
    except Misconfigured:
        _put(found, Finding("host", False, "not_salesforce"))
    _put(found, *(Finding(code, None, _why_unasked(found)) for code in WITHOUT_USER if code not in found))
    return tuple(found.values())


def _why_unasked(found: Mapping[str, Finding]) -> str:
    """Return why a check without a user was not made, from what was found before it."""
    if not found["host"].is_good:
        return "host_away" if found["host"].is_good is None else "host_first"
    is_key_bad = "key" in found and found["key"].is_good is False
    return "key_first" if is_key_bad else "no_answer"


def _as_probes(listener: Listener | None) -> Listener | None:
    """Return a listener that is told that the calls for a token are made in order to be refused."""
    if listener is None:
        return None

    def tell(call: MadeCall) -> None:
        listener(replace(call, kind=CallKind.PROBE) if call.kind == CallKind.TOKEN else call)

    return tell


def _put(found: dict[str, Finding], *findings: Finding) -> None:
    """Add findings: a bad one replaces any other, a known one replaces an unknown one."""
    for finding in findings:
        known = found.get(finding.code)
        if known is None or known.is_good is None or finding.is_good is False:
            found[finding.code] = finding


def _host(app: App) -> str:
    return urlsplit(app.salesforce_url).netloc


def _check_host(session: LimitedSession, app: App) -> Finding:
    answer = session.get(f"{app.salesforce_url}/.well-known/openid-configuration", timeout=TIMEOUT_S)
    if answer.status_code >= 500 or answer.status_code in (420, 429):
        return Finding("host", None, "error_status", str(answer.status_code))
    if 300 <= answer.status_code < 400:
        return Finding("host", False, "moved", _host(app))
    endpoint = str(_object(answer).get("token_endpoint") or "")
    if answer.status_code != 200 or not endpoint.startswith(f"{app.salesforce_url}/"):
        return Finding("host", False, "not_an_org", _host(app))
    return Finding("host", True, "answers", _host(app))


def _check_authorize(session: LimitedSession, app: App) -> list[Finding]:
    """Start log-ins that are never finished: a real one, one with a wrong callback, and one without PKCE."""
    objection = _objection(session, app, app.callback_url, with_pkce=True)
    if objection is not None:
        return _sort_objection(objection)
    known = [Finding("key", True, "known")]
    wrong = _objection(session, app, f"{app.callback_url}not-registered", with_pkce=True)
    is_compared = wrong is not None and wrong[0] == "redirect_mismatch"
    known.append(Finding("callback", True if is_compared else None, "registered" if is_compared else "no_objection"))
    bare = _objection(session, app, app.callback_url, with_pkce=False)
    is_required = bare is not None and bare[0] == "pkce"
    known.append(Finding("pkce", True, "required" if is_required else "accepted"))
    return known


def _sort_objection(objection: tuple[str, str]) -> list[Finding]:
    code, description = objection
    if code == "bad_key":
        return [Finding("key", False, "bad_key", description)]
    if code in ("app_not_installed", "app_blocked", "not_admin_approved"):
        return [Finding("key", False, code, description)]
    known = [Finding("key", True, "known")]
    if code == "redirect_mismatch":
        return [
            *known,
            Finding("callback", False, "redirect_mismatch", description),
            Finding("pkce", None, "callback_first"),
        ]
    if code == "pkce":
        return [*known, Finding("pkce", False, "refused", description), Finding("callback", None, "pkce_first")]
    if code == "scope_missing":
        unasked = [Finding(code, None, "scopes_first") for code in ("callback", "pkce")]
        return [*known, Finding("scopes", False, "scope_refused", description), *unasked]
    return [Finding("callback", None, "other_answer", description), Finding("pkce", None, "other_answer", description)]


def _objection(session: LimitedSession, app: App, callback_url: str, with_pkce: bool) -> tuple[str, str] | None:
    """Return why Salesforce refuses a log-in (a code of oauth.CALLBACK_ERRORS, and its own text), or None."""
    asked = {
        "response_type": "code",
        "client_id": app.consumer_key,
        "redirect_uri": callback_url,
        "scope": SCOPES,
        "state": MADE_UP_CODE,
    }
    if with_pkce:
        challenge = create_s256_code_challenge(secrets.token_urlsafe(48))  # type: ignore[no-untyped-call]
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    answer = session.get(app.endpoint("authorize"), params=asked, timeout=TIMEOUT_S)
    if answer.status_code >= 500 or answer.status_code in (420, 429):
        raise TryLater("no_answer", f"status {answer.status_code}")
    refusal = _error_in(answer)
    if refusal is None:
        return None if answer.status_code < 400 else ("other_answer", f"status {answer.status_code}")
    error, description = refusal
    if "code challenge" in description.lower():
        return "pkce", description
    return code_of_callback_error(error, description), description or error


def _error_in(answer: requests.Response) -> tuple[str, str] | None:
    """Return (error, error_description) from the redirect target, or from a body that has nothing else."""
    query = urlsplit(answer.headers.get("Location", "")).query
    body = answer.text[:500].strip() if answer.status_code >= 400 or answer.text[:6] == "error=" else ""
    for text in (query, body):
        values = parse_qs(text)
        if "error" in values:
            return _quotable(values["error"][0]), _quotable(values.get("error_description", [""])[0])
    values = {name: [str(value)] for name, value in _object(answer).items()}
    if "error" in values:
        return _quotable(values["error"][0]), _quotable(values.get("error_description", [""])[0])
    return None


def _check_token(session: LimitedSession, app: App) -> list[Finding]:
    """Send an invented code. Whether key and secret are checked before the code, the second call shows."""
    error = _token_error(session, app, app.consumer_secret)
    if error.code == "bad_key":
        return [Finding("key", False, "bad_key", error.words)]
    if error.code == "bad_secret":
        return [Finding("key", True, "known"), Finding("secret", False, "bad_secret", error.words)]
    if error.code == "redirect_mismatch":
        callback = [Finding("callback", False, "redirect_mismatch", error.words)]
    elif error.code in ("code_expired", "unknown_grant_error"):
        callback = []
    else:
        return [Finding("secret", None, "other_answer", error.words or error.detail)]
    control = _token_error(session, app, secrets.token_hex(32))
    if control.code == "bad_secret":
        return [*callback, Finding("key", True, "known"), Finding("secret", True, "accepted")]
    return [*callback, Finding("secret", None, "same_answer")]


def _token_error(session: LimitedSession, app: App, consumer_secret: str) -> SalesforceError:
    """Return the token endpoint's answer to an invented code, with its text unchanged for quoting. Raises TryLater."""
    answer = session.post(
        app.endpoint("token"),
        data={
            "grant_type": "authorization_code",
            "code": MADE_UP_CODE,
            "client_id": app.consumer_key,
            "client_secret": consumer_secret,
            "redirect_uri": app.callback_url,
            "code_verifier": secrets.token_urlsafe(48),
        },
        timeout=TIMEOUT_S,
    )
    body = _object(answer)
    error = sort_token_error(answer.status_code, body or None)
    error.words = _quotable(str(body.get("error_description") or ""))
    if error.code == "token_endpoint_busy":
        raise error
    return error


# ---- with a user's token


def asked_with_user(opt_out_fields: Sequence[str], writes_back: bool) -> tuple[str, ...]:
    """Return the checks that need a user's token. writes_back: does the firm want Salesforce told of unsubscribes?"""
    return (*WITH_USER, *OPT_OUTS[1 : len(opt_out_fields)], *((TO_WRITE_BACK,) if writes_back else ()))


def check_with_session(
    session: OrgSession,
    api_version: str,
    opt_out_fields: Sequence[str],
    lead_source: str,
    *,
    writes_back: bool = False,
) -> UserFindings:
    """Run the checks that need a user; a finding for each of asked_with_user() but "scopes". Raises only ReconnectNeeded."""
    found: dict[str, Finding] = {}
    on_contact: list[OptOutField] = []
    has_persons = may_lack_company = None
    unasked = "api_first"
    try:
        try:
            contact = _describe(session, api_version, "Contact")
            _put(found, Finding("api", True, "answers", f"version {api_version}"))
            lead = _describe(session, api_version, "Lead")
            on_contact = [_find_opt_out(session, api_version, contact, name) for name in opt_out_fields]
            on_lead = [_find_opt_out(session, api_version, lead, name) for name in opt_out_fields]
            for code, name, *fields in zip(OPT_OUTS, opt_out_fields, on_contact, on_lead, strict=False):
                _put(found, _judge_opt_out(code, contact, lead, name, *fields))
            if contact is not None:
                has_persons = bool(find_field(contact, IS_PERSON).name)
                _put(found, Finding("persons", True, "persons_used" if has_persons else "persons_none"))
            if lead is not None:
                may_lack_company = _may_be_blank(lead, "Company")
            _put(found, _judge_lead(lead, lead_source))
            if writes_back:
                _put(found, _judge_writing(contact, lead, field_to_write(opt_out_fields)))
        finally:
            usage = session.usage
        _put(found, _judge_allowance(usage))
    except LimitReached:
        _put(found, Finding("allowance", None, "used_up"))
        usage, unasked = None, "calls_first"
    except (Misconfigured, OurBug) as error:
        _put(found, Finding("api", False, _why_no_api(error), error.detail))
        usage = None
    except TryLater as error:
        found["api"] = _why_api_is_away(session, error)
        usage, unasked = None, "api_away"
    asked = asked_with_user(opt_out_fields, writes_back)
    _put(found, *(Finding(code, None, unasked) for code in asked if code not in (*found, "scopes")))
    return UserFindings(tuple(found.values()), tuple(on_contact), usage, has_persons, may_lack_company)


def find_opt_out_fields(session: OrgSession, api_version: str, names: Sequence[str]) -> list[OptOutField]:
    """Return these fields on Contact as this user sees them; raises SalesforceError."""
    contact = _describe(session, api_version, "Contact")
    return [_find_opt_out(session, api_version, contact, name) for name in names]


def judge_scopes(scopes: str, has_refresh_token: bool) -> Finding:
    """scopes: as the token answer listed them, separated by spaces; empty if it left them out."""
    granted = set(scopes.split())
    if not granted:
        return Finding("scopes", None, "not_listed")
    missing = [name for name, any_of in (("api", NEEDED_SCOPES["api"]), ("id", NEEDS_ID)) if not granted & any_of]
    if not has_refresh_token or not granted & NEEDED_SCOPES["refresh"]:
        missing.append("refresh_token")
    if missing:
        return Finding("scopes", False, "scopes_missing", ", ".join(missing))
    return Finding("scopes", True, "present", ", ".join(sorted(granted)))


def find_field(described: Mapping[str, Any] | None, name: str) -> OptOutField:
    for field in _fields(described):
        if str(field.get("name", "")).lower() == name.lower():
            return OptOutField(str(field["name"]), field.get("type") == "boolean")
    return OptOutField("", False)


def _find_opt_out(session: OrgSession, api_version: str, described: Mapping[str, Any] | None, name: str) -> OptOutField:
    """As find_field(), also for a field of a related record, which costs a call."""
    relation, _, field = name.rpartition(".")
    if not relation:
        return find_field(described, name)
    to = next(
        (each for each in _fields(described) if str(each.get("relationshipName")).lower() == relation.lower()), {}
    )
    targets = to.get("referenceTo")
    if not isinstance(targets, list) or len(targets) != 1:
        return OptOutField("", False)
    found = find_field(_describe(session, api_version, str(targets[0])), field)
    return OptOutField(f"{to['relationshipName']}.{found.name}" if found.name else "", found.is_checkbox)


def _describe(session: OrgSession, api_version: str, sobject: str) -> Mapping[str, Any] | None:
    """Return the object as this user sees it; None if the user may not see it at all."""
    url = f"{session.origin}/services/data/v{api_version}/sobjects/{sobject}/describe"
    try:
        body = _get(session, url).json()
    except errors.ObjectHidden:
        return None
    except OurBug as error:
        if error.detail != "NOT_FOUND":
            raise
        return None
    return body if isinstance(body, dict) else None


def _get(session: OrgSession, url: str) -> requests.Response:
    try:
        return session.get(url, timeout=TIMEOUT_S)
    except TryLater as error:
        if error.code != "session_ended_again":
            raise
        return session.get(url, timeout=TIMEOUT_S)  # if it is refused again, the API itself is closed


def _judge_opt_out(
    code: str,
    contact: Mapping[str, Any] | None,
    lead: Mapping[str, Any] | None,
    name: str,
    on_contact: OptOutField,
    on_lead: OptOutField,
) -> Finding:
    if contact is None:
        return Finding(code, False, "contact_hidden", "Contact")
    is_related = "." in name
    if not on_contact.name:
        return Finding(code, False, "related_hidden" if is_related else "field_hidden", name)
    if not on_contact.is_checkbox:
        return Finding(code, False, "no_checkbox", on_contact.name)
    if lead is not None and not on_lead.is_checkbox:
        return Finding(code, False, "hidden_on_lead", on_contact.name)
    if is_related:
        return Finding(code, True, "related_visible", on_contact.name)
    if on_contact.name == STANDARD_OPT_OUT:
        return Finding(code, True, "visible", on_contact.name)
    seen = [find_field(each, STANDARD_OPT_OUT).name for each in (contact, lead) if each is not None]
    return Finding(code, True, "visible_both" if all(seen) else "visible_alone", on_contact.name)


def _judge_writing(contact: Mapping[str, Any] | None, lead: Mapping[str, Any] | None, name: str) -> Finding:
    """May this user set the opt-out field? The field on Lead doesn't matter if the user sees no Leads."""
    if contact is None or not find_field(contact, name).name:
        return Finding(TO_WRITE_BACK, False, "not_seen", name)
    for described, why in ((contact, "locked_on_contact"), (lead, "locked_on_lead")):
        if described is None:
            continue
        if not described.get("updateable"):
            return Finding(
                TO_WRITE_BACK, False, "no_edit", str(described.get("labelPlural") or described.get("name") or "")
            )
        field = next((each for each in _fields(described) if str(each.get("name", "")).lower() == name.lower()), {})
        if not field.get("updateable"):
            return Finding(TO_WRITE_BACK, False, why, find_field(contact, name).name)
    return Finding(TO_WRITE_BACK, True, "writable", find_field(contact, name).name)


def _judge_lead(lead: Mapping[str, Any] | None, lead_source: str) -> Finding:
    if lead is None:
        return Finding("lead", False, "lead_hidden")
    if not lead.get("createable"):
        return Finding("lead", False, "no_create")
    by_name = {str(field.get("name")): field for field in _fields(lead)}
    locked = [name for name in SENT_WITH_A_LEAD if not by_name.get(name, {}).get("createable")]
    if locked:
        return Finding("lead", False, "fields_locked", ", ".join(locked))
    required = [name for name, field in by_name.items() if name not in SENT_WITH_A_LEAD and _is_required(field)]
    if required:
        return Finding("lead", False, "fields_required", _listed(required))
    source = by_name["LeadSource"]
    values = [value.get("value") for value in source.get("picklistValues") or () if value.get("active", True)]
    if source.get("restrictedPicklist") and lead_source not in values:
        return Finding("lead", False, "source_restricted", lead_source)
    return Finding("lead", True, "creatable", _listed(name for name in SENT_WITH_A_LEAD if _is_required(by_name[name])))


def _may_be_blank(described: Mapping[str, Any], name: str) -> bool:
    return any(field.get("name") == name and field.get("nillable") is True for field in _fields(described))


def _is_required(field: Mapping[str, Any]) -> bool:
    needs_value = not field.get("nillable", True) and not field.get("defaultedOnCreate", False)
    return bool(field.get("createable")) and needs_value and field.get("type") not in NEED_NO_VALUE


def _judge_allowance(usage: tuple[int, int] | None) -> Finding:
    if usage is None:
        return Finding("allowance", None, "not_listed")
    used, allowed = usage
    figures = f"{used:,} of {allowed:,}"
    return Finding("allowance", True, "left", figures) if used < allowed else Finding("allowance", None, "used_up")


def _why_api_is_away(session: OrgSession, error: TryLater) -> Finding:
    """Return what happened instead of an answer: another address, no connection, an error of Salesforce's, no time left."""
    why = "nothing_there" if session.status == NOT_FOUND else AWAY.get(error.code)
    if why is None and session.status is not None:
        return Finding("api", None, "error_status", str(session.status))
    return Finding("api", None, why or "no_answer", urlsplit(session.origin).netloc)


def _why_no_api(error: SalesforceError) -> str:
    return error.code if error.code in ("api_disabled", "api_access_blocked", "api_version_retired") else "refused"


def _fields(described: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    fields = (described or {}).get("fields")
    return [field for field in fields if isinstance(field, Mapping)] if isinstance(fields, list) else []


def _listed(names: Iterable[str]) -> str:
    all_names = [name for name in names if errors.FIELD.fullmatch(name)]
    more = len(all_names) - FIELDS_NAMED
    return ", ".join(all_names[:FIELDS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _quotable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:120]


def _object(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
