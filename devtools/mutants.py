"""How much the tests notice: `make mutants` breaks the core in small ways, one at a time, and runs the tests that belong to it.

Each mutant is a module of asapp with one change: an operator, a number or a condition (by cosmic-ray), a condition left out of a
query, or a statement left out. A sample of each module's mutants is drawn by a seed. They live in a copy of the tree, in a
temporary folder. devtools/mutants.toml says which tests belong to which module. PostgreSQL and slow tests are left out.

Exit codes: 0 at least 90 % were noticed, 1 fewer, 2 the tests are red without any change, or a module is not in the map.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parent.parent
TEST_MAP = Path(__file__).with_suffix(".toml")
ENOUGH = 0.9
CONDITIONS = ("where", "and_", "or_")  # calls whose arguments are conditions
PYTEST = ("-m", "pytest", "-x", "-n", "0", "-q", "-k", "not postgres", "-m", "not slow", "-p", "no:cacheprovider")
GREEN = 0
LONGER_S = 60.0  # than three times as long as without a change: the tests hang, which is noticed

Spot = tuple[int, int]  # line, from 1, and column, from 0


class CannotTell(Exception):
    """The tests say nothing about mutants; the text is one line that says why."""


@dataclass
class Score:
    """What became of one module's mutants. survivors: (line, diff) of each."""

    module: str
    mutants: int = 0
    survivors: list[tuple[int, str]] = field(default_factory=list)

    @property
    def noticed(self) -> int:
        return self.mutants - len(self.survivors)

    @property
    def share(self) -> float:
        return self.noticed / self.mutants if self.mutants else 1.0


def sample(source: str, size: int, chance: random.Random) -> list[tuple[int, str]]:
    """Return (line, mutated source) of up to so many mutants of a module, at most one at each spot."""
    spots = find_spots(source)
    chosen: list[tuple[int, str]] = []
    for spot in chance.sample(sorted(spots), len(spots)):
        operator, number = chance.choice(spots[spot])
        mutated = operator if number is None else mutate_code(source, get_operator(operator)(), number)
        if mutated is not None and meaning_of(mutated) != meaning_of(source):
            chosen.append((spot[0], mutated))
        if len(chosen) == size:
            break
    return chosen


def find_spots(source: str) -> dict[Spot, list[tuple[str, int | None]]]:
    """Return what can be changed at each spot: (an operator of cosmic-ray's, the number of its place) or (whole source, None)."""
    spots: dict[Spot, list[tuple[str, int | None]]] = {}
    for spot, mutated in leave_out(source):
        spots.setdefault(spot, []).append((mutated, None))
    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        if (operator := get_operator(name)).arguments():
            continue
        for number, spot in enumerate(start for node in nodes for start, _ in operator().mutation_positions(node)):
            spots.setdefault(spot, []).append((name, number))
    return spots


def leave_out(source: str) -> Iterator[tuple[Spot, str]]:
    """Yield the source with one condition, or one statement, left out of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield (node.lineno, node.col_offset), replace(source, node, "pass")
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for argument in node.args if called in CONDITIONS else ():
                yield (argument.lineno, argument.col_offset), replace(source, argument, "*()")


def replace(source: str, node: ast.expr | ast.stmt, text: str) -> str:
    lines = source.encode().splitlines(keepends=True)
    end = (node.end_lineno or node.lineno) - 1
    lines[node.lineno - 1 : end + 1] = [
        lines[node.lineno - 1][: node.col_offset] + text.encode() + lines[end][node.end_col_offset :]
    ]
    return b"".join(lines).decode()


def meaning_of(source: str) -> str:
    """Return the code without annotations, which change nothing when it runs."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def measure(copy: Path, module: str, tests: Sequence[str], size: int, seed: int) -> Score:
    """Run the tests of a module on each mutant in the sample. Raise CannotTell where they are red without any change."""
    path, began = copy / module, time.monotonic()
    if run_tests(copy, tests, None) != GREEN:
        raise CannotTell(f"the tests are red, or there are none: {module} {' '.join(tests)}")
    limit_s = 3 * (time.monotonic() - began) + LONGER_S
    source, score = path.read_text(), Score(module)
    for line, mutated in sample(source, size, random.Random(f"{seed} {module}")):
        write_newer(path, mutated)
        score.mutants += 1
        if run_tests(copy, tests, limit_s) == GREEN:
            diff = difflib.unified_diff(source.splitlines(), mutated.splitlines(), module, module, n=1, lineterm="")
            score.survivors.append((line, "\n".join(diff)))
        write_newer(path, source)
    return score


def write_newer(path: Path, text: str) -> None:
    """Write a file whose time differs from the last one's, so that what Python has compiled of that one is not used."""
    modified = path.stat().st_mtime + 10
    path.write_text(text)
    os.utime(path, (modified, modified))


def run_tests(copy: Path, tests: Sequence[str], limit_s: float | None) -> int | None:
    """Return pytest's exit code; None where it took too long and was killed with its children."""
    command, nowhere = [sys.executable, *PYTEST, *tests], subprocess.DEVNULL
    with subprocess.Popen(command, cwd=copy, start_new_session=True, stdout=nowhere, stderr=nowhere) as run:
        try:
            return run.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def copy_tree(root: Path, copy: Path) -> None:
    """Copy what git knows of, as it is in the working tree, and link what make has fetched."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file() and not (root / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    if (root / "static/vendor").is_dir():
        (copy / "static").mkdir(exist_ok=True)
        (copy / "static/vendor").symlink_to(root / "static/vendor")


def report(scores: Sequence[Score]) -> bool:
    """Print what became of the mutants; return whether enough were noticed."""
    for score in scores:
        for line, diff in score.survivors:
            print(f"\nnot noticed: {score.module}:{line}\n{diff}")
    total = Score("all", sum(each.mutants for each in scores), [one for each in scores for one in each.survivors])
    print(f"\n{'module':<40} mutants  noticed")
    for score in (*scores, total):
        print(f"{score.module:<40} {score.mutants:>7}  {score.noticed:>7}  {score.share:.0%}")
    return total.share >= ENOUGH


def main(arguments: Sequence[str], root: Path = ROOT, test_map: Mapping[str, Sequence[str]] | None = None) -> int:
    test_map = test_map or tomllib.loads(TEST_MAP.read_text())
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("modules", nargs="*", help="such as asapp/contacts/status.py; all of the map without any")
    parser.add_argument("--sample", type=int, default=10, help="mutants of each module (10)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="of an earlier run: the same ones"
    )
    asked = parser.parse_args(arguments)
    if unknown := set(asked.modules) - set(test_map):
        parser.error(f"not in {TEST_MAP.name}: {', '.join(sorted(unknown))}")
    print(f"--sample {asked.sample} --seed {asked.seed}", flush=True)
    modules = asked.modules or list(test_map)
    with TemporaryDirectory(prefix="asapp-mutants-") as folder:
        copy_tree(root, Path(folder))
        try:
            scores = [measure(Path(folder), module, test_map[module], asked.sample, asked.seed) for module in modules]
        except CannotTell as error:
            parser.error(str(error))
    return 0 if report(scores) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
