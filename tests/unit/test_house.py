"""What `make lint` can't say about the floors, read from the code; the offender is named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield (dotted name, parsed code) of every module of asapp."""
    for path in sorted((ROOT / "asapp").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports when it runs (not what only its annotations need), as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, *places: str) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def offenders(*, libraries: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, tree in modules()
        if not is_below(name, *allowed)
        for imported in imports_of(tree)
        if is_below(imported, *libraries)
    ]


@pytest.mark.parametrize(
    ("names", "allowed"),
    [(("flask.request", "flask.session"), "asapp.web"), (("os.environ", "os.getenv"), "config")],
    ids=["the request", "the environment"],
)
def test_it_is_read_in_one_place_only(names: tuple[str, ...], allowed: str) -> None:
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if not is_below(name, allowed)
        for imported in imports_of(tree)
        if is_below(imported, *names)
    ]
    assert found == []


def test_imports_stand_at_the_top_of_a_module() -> None:
    """One inside a function hides an arrow between two packages. Only create_app() may: a worker has no pages."""
    found = {
        name
        for name, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for imported in imports_of(function)
        if is_below(imported, "asapp")
    }
    assert found == {"asapp"}


def test_salesforce_knows_no_tables() -> None:
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if is_below(name, "asapp.salesforce")
        for imported in imports_of(tree)
        if is_below(imported, "sqlalchemy", "flask_sqlalchemy")
    ]
    assert found == []


def test_only_the_domain_commits() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if is_below(name, "asapp.web", "asapp.models", "asapp.salesforce")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "commit"
    ]
    assert found == []
