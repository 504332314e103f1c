"""CSV files for spreadsheets: every cell is quoted, and none is run as a formula, with any separator."""

from __future__ import annotations

import csv
import io
import time

import pytest

from asapp.core.csv_files import FORMULA_STARTS, csv_header, csv_rows, neutral

INVISIBLE = (
    *(
        " ",
        "  ",
        "\xa0",
        "\x01",
        "\u3000",
        "\u200b",
        "\u200b\u200b",
        "\ufeff",
        "\xad",
        "\u2060",
        "\u202e",
        "\u2066",
        "\u3164",
    ),
    *("\u2800", "\u115f", "\uffa0", "\u034f", "\ufe0f", "\U000e0041"),
)


@pytest.mark.parametrize("start", FORMULA_STARTS)
@pytest.mark.parametrize("before", ["", *INVISIBLE])
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(before: str, start: str) -> None:
    assert neutral(f"{before}{start}1+1") == f"'{before}{start}1+1"


@pytest.mark.parametrize("text", ["\tAnn", "\rAnn", "\nAnn"])
def test_a_cell_that_begins_with_a_tab_or_a_line_gets_one(text: str) -> None:
    assert neutral(text) == f"'{text}"


@pytest.mark.parametrize("separator", [";", "\t", "|", "\n", "\r\n"])
@pytest.mark.parametrize("before", ["", '"', '""', *INVISIBLE])
def test_a_formula_behind_another_separator_gets_one(separator: str, before: str) -> None:
    assert neutral(f"x{separator}{before}=1+1") == f"x{separator}'{before}=1+1"


@pytest.mark.parametrize(
    "text", ["", "Anne-Marie", "O'Brien", "a=b", " Ann", "1-2", "Ann; Bob", "a@b.example", "x,=1", "'=1"]
)
def test_what_no_spreadsheet_would_run_stays(text: str) -> None:
    assert neutral(text) == text


def test_a_tab_behind_another_separator_gets_one() -> None:
    assert neutral("x;\t=1") == "x;'\t'=1"


def test_every_cell_is_quoted_and_comes_back_as_it_was() -> None:
    cells = ['Jo "Joe"', "Smith, Jr.\nEsq.", None, 7, "ü;x"]
    text = csv_rows([cells])
    assert text == '"Jo ""Joe""","Smith, Jr.\nEsq.","","7","ü;x"\r\n'
    assert next(csv.reader(io.StringIO(text, newline=""))) == ['Jo "Joe"', "Smith, Jr.\nEsq.", "", "7", "ü;x"]


def test_the_header_stands_as_in_the_contract() -> None:
    assert csv_header(("salesforce_id", "lists")) == "salesforce_id,lists\r\n"


def test_a_long_cell_takes_no_longer_than_its_length() -> None:
    began = time.process_time()
    for filling in (" ", "\u200b", "\t", ";", '"', ";\u200b"):
        neutral(filling * (100_000 // len(filling)))
    assert time.process_time() - began < 2
