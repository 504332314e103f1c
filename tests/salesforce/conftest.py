"""Misbehaving servers for tests of the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.raw_server import RawServer, open_raw_server


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    with open_raw_server() as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Iterator[RawServer]:
    """Another server; the test fails if it is called."""
    with open_raw_server() as opened:
        yield opened
        assert opened.asked == []
