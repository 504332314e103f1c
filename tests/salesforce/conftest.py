"""Servers that misbehave, for tests of the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire import Wire, open_wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    with open_wire() as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Iterator[Wire]:
    """Another server, which nobody is to call."""
    with open_wire() as opened:
        yield opened
        assert opened.asked == []
