"""The house's rules about who imports whom, read from the code; the offender is named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = ("accounts", "partners", "connections", "contacts", "leads", "sync", "alerts")
OUTER = ("web", "jobs", "cli", "factory")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield (dotted name, parsed code) of every module of asapp."""
    for path in sorted((ROOT / "asapp").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imports_of(tree: ast.Module) -> Iterator[str]:
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
    ("libraries", "allowed"),
    [
        (("requests", "authlib", "simple_salesforce", "urllib3"), ("asapp.salesforce", "orgsim")),
        (("rq", "rq_scheduler"), ("asapp.jobs",)),
        (("flask.request", "flask.session"), ("asapp.web", "orgsim", "asapp.factory")),
        (("os.environ", "os.getenv"), ()),
    ],
    ids=["speaking to Salesforce", "RQ", "the request", "the environment"],
)
def test_a_library_is_used_in_its_room_only(libraries: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    assert offenders(libraries=libraries, allowed=allowed) == []


def test_the_domain_knows_nothing_of_what_is_outside() -> None:
    outer = tuple(f"asapp.{place}" for place in OUTER)
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if is_below(name, *(f"asapp.{place}" for place in (*DOMAIN, "salesforce", "models")))
        for imported in imports_of(tree)
        if is_below(imported, *outer)
    ]
    assert found == []


def test_salesforce_and_models_know_nothing_of_the_rules() -> None:
    domain = tuple(f"asapp.{place}" for place in DOMAIN)
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if is_below(name, "asapp.salesforce", "asapp.models")
        for imported in imports_of(tree)
        if is_below(imported, *domain)
    ]
    assert found == []


def test_salesforce_knows_no_tables() -> None:
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if is_below(name, "asapp.salesforce")
        for imported in imports_of(tree)
        if is_below(imported, "asapp.models", "sqlalchemy", "flask_sqlalchemy")
    ]
    assert found == []


def test_the_simulated_org_knows_nothing_of_us() -> None:
    found = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if is_below(name, "orgsim")
        for imported in imports_of(tree)
        if is_below(imported, "asapp", "config") and not is_below(imported, "orgsim")
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
