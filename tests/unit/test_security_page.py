"""docs/security.md is handed to firms: it has to name every table that there is."""

from __future__ import annotations

import re

import asapp.models  # noqa: F401 - they register their tables
from asapp.core.database import Base
from tests.unit.test_house import ROOT

PAGE = (ROOT / "docs/security.md").read_text()


def test_every_table_is_under_what_is_held_and_says_how_long() -> None:
    held = PAGE.split("## What is held")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in held.splitlines() if line.startswith("| ")]
    told = {table for _what, tables, how_long in rows for table in re.findall(r"`(\w+)`", tables) if how_long}
    (without_people,) = re.findall(r"^No data of people: (.*)$", held, re.MULTILINE)
    told |= set(re.findall(r"`(\w+)`", without_people))
    assert told == set(Base.metadata.tables)
