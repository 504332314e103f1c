"""`make mutants` tells which changes of the code the tests notice, and changes nothing of the working tree."""

from __future__ import annotations

import random
import subprocess
import tomllib
from pathlib import Path

import pytest

from devtools import mutants

RULES = """\
def is_late(minutes: int) -> bool:
    return minutes > 5


def fee(minutes: int) -> int:
    return minutes * 2
"""
TESTS = """\
from rules import fee, is_late


def test_five_minutes_are_not_late():
    assert [is_late(minutes) for minutes in (4, 5, 6)] == [False, False, True]


def test_a_fee_is_a_number():
    assert isinstance(fee(0), int)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in (("rules.py", RULES), ("test_rules.py", TESTS)):
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def run(tree: Path, *arguments: str) -> int:
    return mutants.main(["--seed", "1", *arguments], tree, {"rules.py": ["test_rules.py"]})


@pytest.mark.slow
def test_a_change_that_a_test_notices_and_one_that_none_does(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, "--sample", "6") == 1
    told = capsys.readouterr().out
    lines = {line.split()[2] for line in told.splitlines() if line.startswith("not noticed:")}
    assert lines == {"rules.py:6"}
    assert "-    return minutes * 2" in told
    assert told.splitlines()[-1].startswith("all ")
    assert (tree / "rules.py").read_text() == RULES, "only the copy is changed"


@pytest.mark.slow
def test_enough_is_nine_of_ten(tree: Path) -> None:
    (tree / "test_rules.py").write_text(
        TESTS.replace("isinstance(fee(0), int)", "[fee(0), fee(3), fee(5)] == [0, 6, 10]")
    )
    assert run(tree, "--sample", "3") == 0


@pytest.mark.slow
@pytest.mark.parametrize("tests", ["def test_it():\n    assert False\n", ""], ids=["red", "none"])
def test_tests_that_say_nothing_are_no_measure(tests: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "test_rules.py").write_text(tests)
    with pytest.raises(SystemExit):
        run(tree)
    assert "rules.py test_rules.py" in capsys.readouterr().err


@pytest.mark.slow
def test_a_module_without_tests_in_the_map_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tree, "elsewhere.py")
    assert "elsewhere.py" in capsys.readouterr().err


def test_conditions_and_statements_are_left_out_one_at_a_time() -> None:
    source = "query.where(A.id == 1, A.é == mine)\nand_(one, two)\n"
    assert [mutated for _, mutated in mutants.leave_out(source)] == [
        "pass\nand_(one, two)\n",
        "query.where(A.id == 1, A.é == mine)\npass\n",
        "query.where(*(), A.é == mine)\nand_(one, two)\n",
        "query.where(A.id == 1, *())\nand_(one, two)\n",
        "query.where(A.id == 1, A.é == mine)\nand_(*(), two)\n",
        "query.where(A.id == 1, A.é == mine)\nand_(one, *())\n",
    ]


def test_the_same_seed_draws_the_same_mutants() -> None:
    assert mutants.sample(RULES, 4, random.Random("1")) == mutants.sample(RULES, 4, random.Random("1"))


def test_annotations_are_no_code() -> None:
    assert mutants.meaning_of("def is_late(at: int | None) -> bool: ...") == mutants.meaning_of("def is_late(at): ...")


def test_the_map_names_files_that_are_there() -> None:
    mapped = tomllib.loads(mutants.TEST_MAP.read_text())
    missing = [
        name for module, tests in mapped.items() for name in (module, *tests) if not (mutants.ROOT / name).is_file()
    ]
    assert missing == []
