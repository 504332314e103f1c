"""The simulated Salesforce org: a WSGI application that answers as Salesforce does. This page lists what it can be told to do.

README.md says what it is for. It is a package of its own: tests and the demo reach it by address, like any org. Everything in it
runs by the org's own clock. One process, many threads, one lock.

In one process (tests)
----------------------
::

    from orgsim import Org, start

    org = Org(name="Northgate Wealth")
    org.register_app("KEY", "SECRET", ["http://localhost/callback/"])
    amara = org.add_user(name="Amara Okafor", username="amara@northgate.example", password="practice1")
    rose = org.add_contact(amara, first_name="Rose", last_name="Gonzalez", email="rose@edge.com")
    with start(org) as running:                       # start(org, port=0, tls=ssl_context_or_None)
        running.url                                   # "http://127.0.0.1:41234"
        org.issue_tokens(amara, "KEY")                # what /services/oauth2/token would answer, as a dict
        org.calls.since(mark)                         # what was asked

`Org` (all ids are 18 characters, moments are aware UTC datetimes with whole seconds, times in seconds)

=================================================================== =================================================
``Org(*, name, seed=0, database=":memory:", sandbox=False, ...)``    ``seed`` makes ids, tokens and locators repeatable
``id, name, settings, clock, calls, trouble``                        see below
``add_user(*, name, username=None, password="practice1",             -> user id. Profiles: "Standard User",
email=None, profile="Standard User", active=True)``                  "System Administrator" (sees everything)
``change_user(user_id, *, active, frozen, profile, api_enabled,      only what is given changes
name, email, password)``
``users()``, ``add_queue(name)``                                     list of dicts; -> ``00G`` id
``add_contact(owner_id, *, last_name, first_name=None, email=None,   -> ``003`` id; other fields by API name
opted_out=False, account_id=DEFAULT, stamp=None, **fields)``         (``Phone="..."``); account_id=None: private contact
``add_contacts(rows)``                                               -> ids; rows are dicts with the same keys and
                                                                     "owner_id"; a million take seconds
``update_contact(contact_id, *, stamp=None, **fields)``              same names (``email=``, ``opted_out=``, ``Phone=``)
``opt_out(id)``, ``opt_in(id)``, ``give(id, owner_id)``              contacts and leads alike
``bounce(id, reason="550 5.1.1 user unknown")``                      EmailBouncedDate and EmailBouncedReason, as bounce
                                                                     management sets them; a new address keeps them
``delete(id)``, ``undelete(id)``, ``purge(id)``                      to the Recycle Bin; back; delete for good
``merge(winner_id, loser_ids)``                                      losers: IsDeleted + MasterRecordId; winner stamped
``hide_contact(id)``, ``show_contact(id)``                           seen by admins only; the stamp stays
``contacts(owner_id=None, *, deleted=False)``, ``contact(id)``       the store itself: dicts by API name, datetimes,
                                                                     bools; deleted=True: those in the bin as well.
                                                                     ``contact`` of a purged one is None
``begin_late(verb, *args, visible_in=None, **kwargs)``               a transaction that stamps now and shows later: verb
                                                                     is any of add_contact, update_contact, give, opt_out,
                                                                     delete ..., -> ``Late(handle, id)``
``commit_late(handle)``                                              commits it now; by itself ``visible_in`` seconds later.
                                                                     Another change to its record commits it first
``on_next_page(hook, *, times=None)``                                hook(locator, offset) runs between a page and the
                                                                     next; returns a function that removes it
``hide_field(sobject, field, *, profile=None, user_id=None)``,       absent from describe, INVALID_FIELD in SOQL and on
``show_field(...)``                                                  write. No profile: all but System Administrators
``lock_field(sobject, field)``, ``unlock_field(...)``                readable, not writable (same arguments)
``encrypt_field(sobject, field)``, ``decrypt_field(...)``            at rest: readable, and not usable in WHERE, ORDER BY
                                                                     and duplicate rules
``deny_object(sobject, *rights, profile=None, user_id=None)``,       rights: "read", "create", "edit", "delete"; no read:
``allow_object(...)``                                                INVALID_TYPE, as in an org
``expire_locators(user_id=None)``                                    the next page answers INVALID_QUERY_LOCATOR
``register_app(key, secret, callback_urls, scopes=(...), *, name,    -> App; ``change_app(key, **changes)`` takes also:
require_pkce=True, require_secret=True, rotate=False, ...)``         installed, blocked, admin_approved_only, allowance
``issue_tokens(user_id, key, scopes=None)``                          token answer without a browser
``grants.approvals``                                                 live approvals by refresh token, a dict
``expire_sessions(user_id=None)``                                    access tokens end, refreshing works
``revoke_approvals(user_id=None, key=None)``                         refresh tokens end as well
``use_up_allowance(left=0)``, ``restore_allowance()``, ``api_used()``  the org-wide calls of the last 24 hours
``add_lead(owner_id, *, last_name, company, ...)``, ``leads(...)``,  like contacts; ``convert_lead(id)`` -> contact id
``lead(id)``, ``update_lead(id, **fields)``
``add_field(sobject, "X__c", *, kind="boolean", label, length)``     a custom field
``change_without_stamp(id, **fields)``                               what formulas and roll-ups do
``add_account(owner_id, name)``                                      -> ``001`` id
``add_person(owner_id, *, last_name, ...)``                          a person account: -> ``001`` id, ``003`` id
``refuse_person_contacts(refused=True)``                             saves of a person's contact answer
                                                                     INVALID_PERSON_ACCOUNT_OPERATION, of the account work
``use_person_accounts()``, ``name_survivors(named=True)``,           on, for good; whether the contact of a merged account
``flip_person(contact_id, account_id=None)``                         names the survivor; business <-> person, same Ids.
                                                                     Persons are deleted, restored and merged by account
``move(old_host="404")``                                             to another host of this machine: -> its address. How
                                                                     the old one answers data calls: "404", "420",
                                                                     "redirect", "reset" or "hang"; log-ins stay there
``use_individuals()``, ``add_individual(owner_id, *, last_name,      consent records (Individual), with sharing of their
**fields)``, ``give_individual(id, individual_id)``,                 own (setting individual_access); to change one moves
``update_individual(id, **fields)``                                  no stamp of the contacts and leads that refer to it
``lock_record(id, *, times=None)``, ``unlock_record(id)``            the next saves answer UNABLE_TO_LOCK_ROW
``begin_approval(id)``, ``end_approval(id)``                         saves answer ENTITY_IS_LOCKED
``opted_out_by_api()``                                               whose Email Opt Out was set through the API, newest
                                                                     first: Id, Name, Email, user_id, user, at
``add_list_view(sobject, label, *, developer_name, columns,           -> ``00B`` id; ``where`` is a leaf {field, operator,
where, scope, only_for, soql_compatible)``                           values} or a group {conditions, conjunction}, values
                                                                     written as in SOQL; ``only_for``: ids of the users
                                                                     who see it (None: everybody)
``change_list_view(id, **changes)``, ``delete_list_view(id)``        the same names; the id stays
``add_campaign(owner_id, name, *, active=True, **fields)``,          -> ``701`` id; ``change_campaign(id, IsActive=False)``
``change_campaign``, ``delete_campaign(id)``
``add_members(campaign_id, people, *, status="Sent")``,              people: contacts, leads, accounts; -> ``00v`` ids.
``remove_member(campaign_id, person_id)``                            Removing is for good
``change_settings(**changes)``                                       the fields of ``Settings`` in settings.py: page_sizes,
                                                                     contact_access ("ReadWrite" or "Private"; also
                                                                     lead_access, campaign_access, individual_access),
                                                                     members_follow ("campaign" or "person"), instance_url,
                                                                     session_minutes, api_warning and the firm's own
                                                                     rules (validation_rules, duplicate_rules,
                                                                     required_fields, lead_queue: shapes in rules.py)
=================================================================== =================================================

``clock``: ``now()``, ``advance(seconds)``, ``set(moment)``, ``freeze()``, ``run()``. A frozen clock moves only by advance.

``calls``: a log, oldest first; ``len(calls)``, ``mark()``, ``since(mark)``, ``clear()``, ``counted(mark=0)`` (API calls that
count against the allowance). Each ``Call`` has number, at, method, path, tags, soql (a tuple: every query in it), user_id,
status (0: no answer was sent), counted, ms, cookies.

``trouble``: ``add(answer, *, kind=None, method=None, path=None, soql=None, user_id=None, times=None, after=0,
probability=1.0, seed=0, for_seconds=None, **details)`` -> ``Fault`` (``hits``, ``remove()``); ``clear()``; ``faults``.

- ``kind``: one of the request's tags. Every request has its area (``data``, ``oauth``) and one of ``versions resources
  describe list_views query query_more limits composite collections create read update delete upsert
  authorize token revoke userinfo openid``; token requests also ``token_code`` or ``token_refresh``,
  collections also ``create``, ``update`` or ``delete``.
  Subrequests of a composite have ``subrequest`` and their own kind, not ``data``; a row of a collection has ``row`` alone.
- ``path`` and ``soql`` are substrings. ``after=k`` lets k matching requests through first; ``times=n`` ends after n hits.
- ``answer`` is a name from ``orgsim.answers.ANSWERS`` (errors of Salesforce, e.g. ``session_expired``,
  ``request_limit``, ``server_unavailable_html``, ``edge_420``, ``unable_to_lock_row``, ``oauth_inactive_user``), or a behaviour:
  ``slow`` (seconds), ``slow_after`` (works, then waits), ``hang`` (seconds=3600), ``reset`` (before the work), ``reset_after``
  (the work is done, the answer is lost), ``late_work`` (no answer; the work is done ``seconds`` later by the org's clock),
  ``truncated``, ``truncated_json``, ``wrong_content_type``, ``html``, ``empty``, ``redirect`` (location, status=302),
  ``huge`` (mb), ``foreign_next`` (nextRecordsUrl on another host), ``short_page`` (fewer rows than asked), ``no_limit_info``;
  or ``Answer(status, body, content_type, headers)``. In this process ``slow`` and ``slow_after`` take ``gate``, a
  ``threading.Event`` that ends the wait.

Over HTTP (other processes, the front page)
-------------------------------------------
``POST /practice/api/<verb>`` with a JSON object of the arguments above by name (``add_contact`` {"owner_id": ...,
"last_name": ...}, ``merge`` {"winner_id": ..., "loser_ids": [...]}) answers 200 ``{"result": ...}`` or 400 ``{"error": "..."}``.
Moments travel as ``2026-05-06T11:36:42.000+0000``. Verbs: every method of the table except hooks, and ``add_trouble``
{"answer": ..., ...} -> fault number, ``remove_trouble`` {"number"}, ``clear_trouble``, ``advance_clock`` {"seconds"},
``set_clock`` {"moment"}, ``freeze_clock``, ``run_clock``, ``clear_calls``, ``between_pages``
{"actions": [["update_contact", {...}], ...], "times": 1}.
``GET /practice/api/state`` (id, name, now, users, apps, counts, faults, api_used), ``GET /practice/api/contacts`` and
``/practice/api/leads`` (?owner_id=, ?deleted=1), ``GET /practice/api/calls`` (?since=mark).

As a process: ``python -m orgsim --port 8065 --seed demo --key KEY --secret SECRET --callback URL`` prints one line
(``listening on http://127.0.0.1:8065``) once it answers. ``--seed demo`` is the firm in seed.py: Amara Okafor owns 2,500 of its
6,000 contacts; log-ins stand on its log-in page.
"""

from __future__ import annotations

from orgsim.answers import Answer
from orgsim.clock import OrgClock
from orgsim.org import ADMIN, STANDARD, Org
from orgsim.seed import Firm, seed_contacts, seed_demo
from orgsim.server import Running, start
from orgsim.settings import Settings

__all__ = [
    "ADMIN",
    "STANDARD",
    "Answer",
    "Firm",
    "Org",
    "OrgClock",
    "Running",
    "Settings",
    "seed_contacts",
    "seed_demo",
    "start",
]
