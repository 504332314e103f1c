"""Migrations: from empty and from every earlier revision with rows in all its tables, one by one, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import select

from asapp import create_app
from asapp.core.database import Base, writing
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import Connection, Contact, ContactList, ListMember, RunTrigger
from asapp.models.columns import place_of
from asapp.sync import runs
from asapp.sync.execute import execute_run
from asapp.sync.run_context import JobContext
from orgsim import Running
from tests.conftest import make_config
from tests.factories import org_access
from tests.syncing import reasons_here

Tables = dict[str, list[dict[str, Any]]]
REVISIONS = [each.revision for each in ScriptDirectory("migrations").walk_revisions()][::-1]
ROWS = (1, 2)
EMPTY = {("alerts", "partner_id")}  # an alert is about a connection or a partner
LONG_AGO = datetime(2026, 5, 6, 11, 36, 42, tzinfo=UTC)
ONE_OF = re.compile(r"(\w+).*? (?:IN|= ANY) \W*(?:ARRAY\W*)?'(\w+)'")  # as each database prints it


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    """An application on a database without a table."""
    if request.param == "sqlite":
        yield from application(f"sqlite:///{tmp_path / 'empty.db'}")
        return
    server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield from application(server.url(name))
    server.drop_database(name)


def application(url: str) -> Iterator[Flask]:
    app = create_app(make_config(url))
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def test_they_are_one_chain_in_the_order_of_their_files() -> None:
    scripts = ScriptDirectory("migrations")
    assert len(scripts.get_heads()) == 1
    in_chain = [Path(each.path).name for each in scripts.walk_revisions()][::-1]
    assert in_chain == sorted(in_chain)


def reflected() -> sa.MetaData:
    found = sa.MetaData()
    found.reflect(db.engine)
    found.remove(found.tables["alembic_version"])
    return found


def fill_every_table() -> None:
    """Two rows in each table, every column filled, each pointing at the rows of the same number."""
    with db.engine.begin() as connection:
        for table in reflected().sorted_tables:
            checks = [
                ONE_OF.search(each["sqltext"]) for each in sa.inspect(connection).get_check_constraints(table.name)
            ]
            allowed = {check[1]: check[2] for check in checks if check} | {"role": "advisor"}
            for number in ROWS:
                row = {
                    column.name: allowed.get(column.name) or value_of(column, number)
                    for column in table.columns
                    if (table.name, column.name) not in EMPTY
                }
                connection.execute(table.insert().values(row))
            if connection.dialect.name == "postgresql" and "id" in table.columns:
                sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                connection.execute(sa.select(sa.func.setval(sequence, max(ROWS))))


def value_of(column: sa.Column[Any], number: int) -> Any:
    if column.foreign_keys or column.name == "id":
        return number
    kind = column.type
    if isinstance(kind, sa.DateTime):
        return LONG_AGO
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.JSON):
        return {"number": number}
    if isinstance(kind, sa.String):  # Text, too
        return f"{number} {column.name}"[: kind.length]
    if isinstance(kind, sa.LargeBinary):
        return bytes([number])
    return number


def rows_of(metadata: sa.MetaData) -> Tables:
    """All rows of these tables, with these columns."""
    with db.engine.connect() as connection:
        return {
            table.name: sorted((dict(row) for row in connection.execute(sa.select(table)).mappings()), key=repr)
            for table in metadata.sorted_tables
        }


def differences() -> list[Any]:
    """Return the differences between the database's schema and the models."""
    with db.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def test_there_is_one_line_of_migrations() -> None:
    assert len(ScriptDirectory("migrations").get_heads()) == 1
    assert REVISIONS[0] == "0001"


def test_from_empty_the_schema_is_what_the_models_say(empty: Flask) -> None:
    upgrade()
    assert differences() == []


@pytest.mark.parametrize("empty", ["postgres"], indirect=True)
def test_a_step_may_take_longer_than_a_statement_of_the_app(empty: Flask) -> None:
    """An index of a large table takes more than a minute on PostgreSQL."""
    limits: set[str] = set()

    @sa.event.listens_for(db.engine, "before_cursor_execute")
    def hear(connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().startswith("CREATE TABLE"):
            asked: Any = connection.connection.driver_connection
            limits.add(asked.execute("SHOW statement_timeout").fetchone()[0])

    upgrade()
    assert limits == {"0"}
    assert db.session.scalar(sa.text("SHOW statement_timeout")) == "1min"


@pytest.mark.slow
@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_rows_of_every_earlier_revision_come_through_to_the_newest_one_by_one(empty: Flask, revision: str) -> None:
    upgrade(revision=revision)
    fill_every_table()
    old = reflected()
    before = rows_of(old)
    assert all(len(rows) == len(ROWS) for rows in before.values())
    for step in REVISIONS[REVISIONS.index(revision) + 1 :]:
        upgrade(revision=step)
        assert rows_of(old) == before, f"{step} lost or changed something"
    assert differences() == []


@pytest.mark.slow
def test_every_migration_can_be_taken_back_with_rows_in_the_tables(empty: Flask) -> None:
    upgrade()
    fill_every_table()
    for revision in REVISIONS[-2::-1]:
        downgrade(revision=revision)
        kept = rows_of(reflected())
        assert all(len(rows) == len(ROWS) for rows in kept.values()), revision
    upgrade()
    assert differences() == []


def test_a_refusal_of_salesforces_that_was_called_our_bug_gets_its_own_words(empty: Flask) -> None:
    upgrade(revision=REVISIONS[REVISIONS.index("0010") - 1])
    fill_every_table()
    refused = sa.text("UPDATE leads SET state = 'refused', why = 'our_bug', why_detail = 'APEX_ERROR' WHERE id = 1")
    with db.engine.begin() as connection:
        connection.execute(refused)
    upgrade(revision="0010")
    with db.engine.connect() as connection:
        row = connection.execute(sa.text("SELECT why, why_detail FROM leads WHERE id = 1")).one()
    assert tuple(row) == ("unknown_refusal", "APEX_ERROR")


def test_a_check_lets_one_more_value_in_and_keeps_all_others_out(empty: Flask) -> None:
    """Also in this process, which had read the schema before."""
    upgrade(revision="0005")
    assert not is_allowed("flood")
    upgrade(revision="0016")
    assert is_allowed("flood")
    assert is_allowed("paused")
    assert not is_allowed("something else")
    if db.engine.dialect.name == "sqlite":
        with db.engine.connect() as connection:
            assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
    downgrade(revision="0005")
    assert not is_allowed("flood")


def is_allowed(kind: str) -> bool:
    """Return whether the database accepts an alert of this kind; leave nothing behind."""
    values = {"kind": kind, "partner_id": 1, "opened_at": LONG_AGO}
    with db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
        try:
            connection.execute(reflected().tables["alerts"].insert().values(values))
        except sa.exc.IntegrityError as error:
            return "ck_alerts_kind" not in str(error.orig)
        finally:
            connection.rollback()
    return True


RELEASE = "0005"  # the newest revision of 0.1.0, in the middle of the chain's numbers


def insert_old(table: str, **values: Any) -> None:
    """Insert a row into a table as it is now, with a value in every column that needs one."""
    found = sa.MetaData()
    found.reflect(db.engine, only=[table])
    columns = [each for each in found.tables[table].columns if each.name != "id"]  # it counts from 1
    needed = {each.name: value_of(each, 1) for each in columns if not each.nullable and each.server_default is None}
    with db.engine.begin() as connection:
        connection.execute(found.tables[table].insert().values(needed | values))


def test_a_database_of_release_0_1_is_upgraded_and_syncs(empty: Flask, org: Running) -> None:
    upgrade(revision=RELEASE)
    key, secret, link = "release-key", "release-secret", "https://my.example/callback"
    org.org.register_app(key, secret, [link])
    user = org.org.add_user(name="Amara Okafor", username="amara@northgate.example")
    mira, ravi = (org.org.add_contact(user, last_name=name, email=f"{name}@fjord.example") for name in ("mira", "ravi"))
    tokens = org.org.issue_tokens(user, key)
    vault: Vault = empty.extensions["asapp.vault"]

    def sealed(table: str, **values: str) -> dict[str, str]:
        return {
            f"{name}_sealed": vault.seal(text, place_of(table, "old", f"{name}_sealed"))
            for name, text in values.items()
        }

    insert_old(
        "partners",
        public_id="old",
        slug="northgate",
        name="Northgate",
        is_enabled=True,
        salesforce_url=org.url,
        api_version="62.0",
        opt_out_field="HasOptedOutOfEmail",
        opt_outs_trusted_days=7,
        keep_leads_with_advisor=True,
        api_share_percent=10,
        **sealed("partners", consumer_key=key, consumer_secret=secret),
    )
    insert_old("users", email="amara@advisor.example", name="Amara", role="advisor", partner_id=1)
    insert_old(
        "connections",
        public_id="old",
        org_id=org.org.id,
        salesforce_user_id=user,
        instance_url=org.url,
        status="connected",
        watermark=LONG_AGO,
        last_good_sync_at=LONG_AGO,
        first_synced_at=LONG_AGO,
        **sealed("connections", access_token=tokens["access_token"], refresh_token=tokens["refresh_token"]),
    )
    for salesforce_id, name in ((mira, "mira"), (ravi, "ravi")):
        who = {"salesforce_id": salesforce_id, "last_name": name, "email": f"{name}@fjord.example"}
        insert_old("contacts", connection_id=1, source="salesforce", is_lead=False, **who)
        insert_old("ledger", salesforce_id=salesforce_id, outcome="synced")
    insert_old("lists", kind="own", name="Newsletter", name_key="newsletter")
    insert_old("list_members", contact_id=2)
    org.org.update_contact(mira, HasOptedOutOfEmail=True)
    ida = org.org.add_contact(user, last_name="ida", email="ida@fjord.example")

    answer = empty.test_cli_runner().invoke(args=["db", "upgrade"])
    assert answer.exit_code == 0, answer.output
    connection = db.session.get_one(Connection, 1)
    run = runs.start_run(connection, RunTrigger.MANUAL, lambda ids: True)
    assert run
    with writing():
        execute_run(run.id, JobContext(org_access(), lambda ids: True, 15, lambda: False))
    db.session.expire_all()
    assert (run.status, run.error_code) == ("complete", None)
    assert reasons_here(connection) == {mira: "opted_out", ravi: None, ida: None}
    on_list = select(Contact.salesforce_id).join(ListMember).join(ContactList).where(ContactList.name == "Newsletter")
    assert db.session.scalars(on_list).all() == [ravi]
