"""The lint of words finds each banned word in prose, and leaves code, data and good words alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.words import PLACES, Finding, find_words, main

# written in pieces, so that this file holds none of them
WRITTEN = "who-ever who-m a-new men-ds Men-ded some-body No-body of-+which are-+to+be is-+to+be Mean-while"
BANNED = [word.replace("-", "").replace("+", " ") for word in WRITTEN.split()]
KINDS = {
    "a docstring": ("a.py", '"""One.\n\nA line with {} in it.\n"""\n', 3),
    "a docstring of a function": ("a.py", 'def a() -> None:\n    """Return {} now."""\n', 2),
    "a comment": ("a.py", "x = 1  # so {} it is\n", 1),
    "a document": ("README.md", "# Title\n\nA line with {} in it.\n", 3),
    "a page": ("page.html", "<p>\nA line with {} in it.</p>\n", 2),
    "a comment of a page": ("page.html", "{{# so {} it is #}}\n", 1),
    "a mail": ("mail.txt", "A line with {} in it.\n", 1),
    "a script": ("a.js", "f(); // so {} it is\n", 1),
    "a stylesheet": ("a.css", "a {{}}\n/* so\n {} it is */\n", 3),
}


@pytest.mark.parametrize("word", BANNED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_banned_word_is_found(kind: str, word: str) -> None:
    name, text, line = KINDS[kind]
    assert find_words(name, text.format(word)) == [Finding(line, word)]


def test_two_words_are_found_across_the_end_of_a_line() -> None:
    assert find_words("a.py", "# what is to" + "\n# be done\n") == [Finding(1, "is to" + " be")]


@pytest.mark.parametrize("name", ["open_door", "start_and_ring", "Parcel", "LeadParcel", "bell", "fixed_by_mender"])
def test_a_name_that_paints_a_picture_is_found(name: str) -> None:
    assert find_words("a.py", f"x = 1\n{name} = 2\n") == [Finding(2, name)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", '"""A recommended string, amended; in the meantime, meanwhile."""\n'),
        ("a.py", f'text = "{BANNED[0]}"\n'),
        ("a.py", f'row = {{"{BANNED[0]}": 1}}  # as the page asks\n'),
        ("a.py", "string_of_bellows = during = doorstep = 1\n"),
        ("a.js", f'f("{BANNED[0]}"); // a word in data\n'),
        ("a.css", f".{BANNED[0]} {{}} /* a class */\n"),
        ("a.png", f"{BANNED[0]}\n"),
    ],
)
def test_code_data_and_other_words_pass(name: str, text: str) -> None:
    assert find_words(name, text) == []


def test_each_place_is_printed_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pages" / "vendor").mkdir(parents=True)
    (tmp_path / "pages" / "page.html").write_text(f"<p>\n  Ask {BANNED[0]}.\n")
    (tmp_path / "pages" / "vendor" / "theirs.html").write_text(BANNED[0])
    assert main(["pages"], tmp_path) == 1
    assert capsys.readouterr().out == f"pages/page.html:2: {BANNED[0]}: Ask {BANNED[0]}.\n"


def test_good_words_print_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("A person reads this.\n")
    assert main(["README.md"], tmp_path) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_places_exist_and_are_clean() -> None:
    assert PLACES
    assert main() == 0
