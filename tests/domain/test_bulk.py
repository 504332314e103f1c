"""Values that go to PostgreSQL many at a time."""

from __future__ import annotations

import pytest
from sqlalchemy import String, create_engine, func, literal, select

from asapp.core.bulk import BytesArray
from tests.databases import PostgresDatabases


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None],
        [None, None],
        [b""],
        [b"\\x00", b"{,}", b'"', None, b"NULL"],
        [bytes(range(256)), bytes(32), b"\xff" * 32],
    ],
)
def test_bytes_reach_postgresql_as_they_are(values: list[bytes | None], postgres_databases: PostgresDatabases) -> None:
    with postgres_databases.borrowed() as url:
        engine = create_engine(url)
        with engine.connect() as connection:
            listed = func.unnest(literal(values, BytesArray()))
            found = connection.scalars(select(func.encode(listed, "hex", type_=String)))
            assert list(found) == [None if each is None else each.hex() for each in values]
        engine.dispose()
