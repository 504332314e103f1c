"""Every text column has a rule for deleted firms and erased advisors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests_mock
from flask import Flask
from sqlalchemy import JSON, LargeBinary, String, cast, func, literal, select, update

from asapp.audit import entries
from asapp.audit.entries import ITSELF
from asapp.core.database import Base
from asapp.core.extensions import db
from asapp.models import Action
from asapp.partners import erasure, offboarding
from asapp.partners.form_fields import TEXTS
from tests.factories import org_access
from tests.two_firms import Belongings, World, make_world, rows_of

# Deleted with the firm and with the advisor.
ROWS_GO = {
    *("alert_mails", "alerts", "blocked_addresses", "connections", "contacts", "departures", "ledger", "list_members"),
    *("lists", "oauth_states", "opt_in_pages", "password_links", "pending_grants", "run_changes", "sync_runs"),
    *(
        "tombstones",
        "opt_out_writes",
        "sends",
        "second_factors",
        "recovery_codes",
        "passkeys",
        "passkey_challenges",
        "suppression_words",
        "salesforce_lists",
        "login_sessions",
        "visits",
        "mail_choices",
        "provider_identities",
        "first_steps",
        "undos",
        "restorations",
    ),
}
ROWS_GO_WITH_THE_FIRM = {"api_keys", "api_usage", "partner_checks", "setup_links"}
EMPTIED = {
    "users": {"email", "name", "earlier_names", "password_hash", "session_nonce", "time_zone"},
    "audit_identities": {"name", "email", "client_address"},
    "leads": {
        *("first_name", "last_name", "email", "search_key", "address_hash", "details"),
        *("why", "why_detail", "why_words", "lease"),
    },
}
EMPTIED_WITH_THE_FIRM = {
    "partners": {
        *("name", "slug", "salesforce_url", "lead_company", "lead_source", "privacy_url", "disclosure"),
        *("consumer_key_sealed", "consumer_secret_sealed", "pending_secret_sealed", "address_key_sealed"),
    }
}
# Not personal. The link key of a deleted firm stays, so that its links still work.
STAYS = {
    "partners": {"public_id", "api_version", "opt_out_field", "more_opt_out_fields", "paused_why", "link_key_sealed"},
    "users": {"role", "public_id"},
    "suppressions": {"address_hash"},  # they keep the key of a deleted firm: an advisor may have moved
    "suppression_events": {"address_hash", "step", "source", "sender_event_id"},
    "leads": {"public_id", "state", "salesforce_id", "linked_kind", "linked_contact_id", "owner_id"},
    "audit_entries": {"action", "actor_kind", "subject_type", "details"},
    "consent_texts": {"heading", "words"},  # stored with a placeholder for the advisor's name
    "consent_events": {"key", "kind", "source"},
    "attempts": {"key"},
    "heartbeats": {"name"},
    "org_calls": {"kind", "outcome"},
    "waiting_mails": {"public_id", "kind", "content_sealed", "lease"},  # until it is sent
}


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        made = make_world()
        for whose in (made.alice, made.charlie):
            entries.record_export(Action.EXPORTED, replace(ITSELF, client_address="192.0.2.7").who_is(whose.user))
        fill_what_is_emptied()
        yield made


def fill_what_is_emptied() -> None:
    for table in (Base.metadata.tables["users"], Base.metadata.tables["leads"]):
        texts = [table.c[column] for column in EMPTIED[table.name] if isinstance(table.c[column].type, String)]
        marked = {column.name: literal(f"{column.name[:10]}-") + cast(table.c.id, String) for column in texts}
        db.session.execute(update(table).values(marked))
    users = Base.metadata.tables["users"]
    db.session.execute(update(users).values(earlier_names=[[1, "An earlier name"]]))
    firms = update(Base.metadata.tables["partners"])
    db.session.execute(
        firms.values({column: f"{column} of the firm" for column in TEXTS} | {"pending_secret_sealed": "-"})
    )
    db.session.commit()


def text_columns() -> dict[str, set[str]]:
    """{table: columns} of the whole database."""
    return {
        table.name: {column.name for column in table.columns if isinstance(column.type, String | JSON | LargeBinary)}
        for table in Base.metadata.sorted_tables
    }


def values_of(columns: dict[str, set[str]], ids: list[int]) -> set[str]:
    """Return the values of these columns in the rows of these people or firms."""
    db.session.rollback()
    found = set()
    for name in columns:
        table = Base.metadata.tables[name]
        is_theirs = table.c.get("user_id", table.c.id).in_(ids)
        for column in columns[name]:
            values = db.session.scalars(select(table.c[column]).where(is_theirs))
            found |= {f"{name}.{column}: {value}" for value in values if value}
    return found


def test_every_column_that_can_hold_a_text_is_decided_about() -> None:
    decided = {name: columns for name, columns in STAYS.items() if name not in EMPTIED | EMPTIED_WITH_THE_FIRM}
    for name, columns in (EMPTIED | EMPTIED_WITH_THE_FIRM).items():
        decided[name] = columns | STAYS.get(name, set())
    there = {name: columns for name, columns in text_columns().items() if name not in ROWS_GO | ROWS_GO_WITH_THE_FIRM}
    assert there == decided


def test_an_erased_advisor_leaves_nothing_in_them(world: World) -> None:
    ids = [world.alice.user.id]
    before = values_of(EMPTIED, ids)
    filled = {value.partition(":")[0] for value in before}
    assert filled == {f"{table}.{column}" for table, columns in EMPTIED.items() for column in columns}
    erasure.erase_account(world.alice.user, org_access())
    assert not before & values_of(EMPTIED, ids)
    assert tables_with_rows_of(world.alice) <= STAYS.keys() | EMPTIED.keys()


def test_a_deleted_firm_leaves_nothing_in_them(world: World) -> None:
    firm, advisors = [world.northgate.id], [world.alice.user.id, world.bob.user.id]
    of_the_firm = values_of(EMPTIED_WITH_THE_FIRM, firm)
    filled = {value.partition(":")[0] for value in of_the_firm}
    assert filled == {f"partners.{column}" for column in EMPTIED_WITH_THE_FIRM["partners"]}
    before = values_of(EMPTIED, advisors) | of_the_firm
    offboarding.delete_partner(world.northgate, org_access())
    assert not before & (values_of(EMPTIED, advisors) | values_of(EMPTIED_WITH_THE_FIRM, firm))
    for whose in (world.alice, world.bob):
        assert tables_with_rows_of(whose) <= STAYS.keys() | EMPTIED.keys()
    for table in (Base.metadata.tables[name] for name in ROWS_GO_WITH_THE_FIRM):
        assert db.session.scalar(select(func.count()).where(table.c.partner_id.in_(firm))) == 0, table.name


def tables_with_rows_of(whose: Belongings) -> set[str]:
    return {name for name, rows in rows_of(whose.user).items() if rows}
