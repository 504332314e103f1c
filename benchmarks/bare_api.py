"""The least that the calls of senders can cost, by the same gunicorn: Flask, sqlite3 or psycopg, orjson, nothing of asapp.

`GET /recipients` streams a list as lines, with the same bytes in each as asapp writes: one plain SELECT of the columns that a
line needs, of the same table, in whatever order the rows come, no ORM, and no rule but the one column that tells here who is
none. The Id and the signed link of a contact stand in no column, so they are made here too, as fast as we could. `?bare=1`
leaves them out and writes the row's own id instead: what the SELECT and its JSON cost alone.

`POST /may-send` hashes the addresses and looks for them by the index, and knows no reason. `POST /events` writes the rows of
events and of what holds in one transaction, and reads nothing. Neither asks for a key or counts calls.
"""

from __future__ import annotations

import hmac
import json
import os
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson
import psycopg
from flask import Flask, Response, request

app = Flask("bare_api")
URL = os.environ["DATABASE_URL"]
FACTS = json.loads(os.environ["BENCH_FACTS"])
IS_SQLITE = URL.startswith("sqlite")
USER_ID = int(FACTS["user_id"])
HASH_KEY, SIGN_KEY = bytes.fromhex(FACTS["hash_key"]), bytes.fromhex(FACTS["sign_key"])
AT_ONCE = 500  # rows: of 1,000 the lines are a third slower to write
COLUMNS = "id, salesforce_id, source, first_name, last_name, email, address_hash"
WHO = f"FROM contacts WHERE user_id = {USER_ID} AND NOT opted_out"
Row = Sequence[Any]


def connect() -> Any:
    if IS_SQLITE:
        connection = sqlite3.connect(URL.removeprefix("sqlite:///"), isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-64000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection
    return psycopg.connect(URL.replace("+psycopg", "", 1))


def iter_rows(columns: str) -> Iterator[list[Row]]:
    """Yield rows, many at a time; memory stays flat."""
    connection = connect()
    try:
        if IS_SQLITE:
            cursor = connection.execute(f"SELECT {columns} {WHO}")
        else:
            cursor = connection.cursor(name="all", binary=True)
            cursor.execute(f"SELECT {columns} {WHO}")
        while rows := cursor.fetchmany(AT_ONCE):
            yield rows
    finally:
        connection.close()


def iter_bare() -> Iterator[bytes]:
    """Yield lines without what is derived."""
    for rows in iter_rows("id, salesforce_id, source, first_name, last_name, email"):
        yield b"".join(
            [
                orjson.dumps(
                    {
                        "contact_id": contact_id,
                        "salesforce_id": salesforce_id,
                        "source": source,
                        "first_name": first_name,
                        "last_name": last_name,
                        "email": email,
                        "also": [],
                    },
                    option=orjson.OPT_APPEND_NEWLINE,
                )
                for contact_id, salesforce_id, source, first_name, last_name, email in rows
            ]
        )


def iter_lines() -> Iterator[bytes]:
    """Yield lines as asapp writes them."""
    prefix = bytes.fromhex(FACTS["link_prefix"])
    id_state = blake2b(key=SIGN_KEY, person=b"contact", digest_size=16)
    link_state = blake2b(prefix, key=SIGN_KEY, digest_size=16)
    start = FACTS["base_url"] + urlsafe_b64encode(prefix).decode()
    for rows in iter_rows(COLUMNS):
        id_parts: list[bytes] = []
        link_parts: list[bytes] = []
        for row in rows:
            (id_hash := id_state.copy()).update(b"%d" % row[0])
            (link_hash := link_state.copy()).update(row[6])
            id_parts += (id_hash.digest(), b"\0\0")
            link_parts += (row[6], link_hash.digest())
        ids = urlsafe_b64encode(b"".join(id_parts)).decode()
        links = urlsafe_b64encode(b"".join(link_parts)).decode()
        yield b"".join(
            [
                orjson.dumps(
                    {
                        "contact_id": ids[24 * n : 24 * n + 22],
                        "salesforce_id": salesforce_id,
                        "source": source,
                        "first_name": first_name,
                        "last_name": last_name,
                        "email": email,
                        "also": [],
                        "unsubscribe_url": start + links[64 * n : 64 * n + 64],
                    },
                    option=orjson.OPT_APPEND_NEWLINE,
                )
                for n, (_, salesforce_id, source, first_name, last_name, email, _) in enumerate(rows)
            ]
        )


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.get("/recipients")
def recipients() -> Response:
    return Response(iter_bare() if request.args.get("bare") else iter_lines(), content_type="application/x-ndjson")


def hash_of(email: str) -> bytes:
    return hmac.digest(HASH_KEY, email.lower().encode(), "sha256")


@app.post("/may-send")
def may_send() -> Response:
    emails = orjson.loads(request.get_data())["emails"]
    hashes = [hash_of(email) for email in emails]
    connection = connect()
    try:
        if IS_SQLITE:
            places = ",".join("?" * len(hashes))
            rows = connection.execute(f"SELECT address_hash {WHO} AND address_hash IN ({places})", hashes).fetchall()
        else:
            rows = connection.execute(
                f"SELECT address_hash {WHO} AND address_hash = ANY(%s)", (hashes,), binary=True
            ).fetchall()
    finally:
        connection.close()
    known = {row[0] for row in rows}
    results = [
        {"email": email, "may_send": hashed in known, "reason": None if hashed in known else "not_a_contact"}
        for email, hashed in zip(emails, hashes, strict=True)
    ]
    return Response(orjson.dumps({"results": results}), content_type="application/json")


EVENT_COLUMNS = "partner_id, user_id, address_hash, step, source, at, recorded_at, sender_event_id"
HELD_COLUMNS = "partner_id, user_id, address_hash, changed_at, unsubscribed_at"


@app.post("/events")
def events() -> Response:
    now = datetime.now(UTC)
    told = orjson.loads(request.get_data())["events"]
    ids = (int(FACTS["partner_id"]), USER_ID)
    stored: list[Row] = []
    held: list[Row] = []
    for each in told:
        hashed, at = hash_of(each["email"]), datetime.fromisoformat(each["at"])
        stored.append((*ids, hashed, each["type"], "sender", at, now, each["id"]))
        held.append((*ids, hashed, now, at))
    connection = connect()
    try:
        write_sqlite(connection, stored, held) if IS_SQLITE else write_postgresql(connection, stored, held)
    finally:
        connection.close()
    results = [{"id": each["id"], "result": "accepted", "error": None} for each in told]
    return Response(orjson.dumps({"results": results}), content_type="application/json")


def write_sqlite(connection: Any, stored: list[Row], held: list[Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, columns, rows in (("suppression_events", EVENT_COLUMNS, stored), ("suppressions", HELD_COLUMNS, held)):
        places = ",".join("?" * len(columns.split(",")))
        texts = [[value.isoformat(" ")[:26] if isinstance(value, datetime) else value for value in row] for row in rows]
        connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", texts)
    connection.execute("COMMIT")


def write_postgresql(connection: Any, stored: list[Row], held: list[Row]) -> None:
    cursor = connection.cursor()
    for table, columns, rows in (("suppression_events", EVENT_COLUMNS, stored), ("suppressions", HELD_COLUMNS, held)):
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    connection.commit()
