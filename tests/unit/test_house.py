"""Rules about the packages that `make lint` can't check, read from the code; a failure names the module."""

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
    """An import inside a function hides a dependency between packages. Only create_app() may have one: a worker has no pages."""
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


TAKES_IN = "asapp.writeback.unsubscribing"
STORES = {"store", "store_unsubscribe"}  # of contacts/suppressions.py: they tell Salesforce nothing


def test_what_a_person_said_comes_in_by_one_way() -> None:
    callers = {
        name
        for name, tree in modules()
        if name != "asapp.contacts.suppressions" and STORES & names_of("asapp.contacts.suppressions", tree)
    }
    assert callers == {TAKES_IN}


def names_of(module: str, tree: ast.AST) -> set[str]:
    """Return what a module uses of another, imported by name or as an attribute of it."""
    imported = {name.removeprefix(f"{module}.") for name in imports_of(tree) if name.startswith(f"{module}.")}
    last = module.rpartition(".")[2]
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == last
    }
    return imported | used


def test_only_the_domain_commits() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if is_below(name, "asapp.web", "asapp.models", "asapp.salesforce")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "commit"
    ]
    assert found == []


DOMAIN = tuple(
    f"asapp.{package}"
    for package in (
        *("audit", "contacts", "connections", "leads", "sync", "sends", "writeback", "panel"),
        *("accounts", "partners", "alerts", "health"),
    )
)
QUESTIONS = ("is_", "are_", "can_", "has_", "get_", "find_", "count_", "iter_")
STATEMENTS = ("insert", "update", "delete", "upsert", "insert_ignore")
WRITERS = ("change_rows", "change_rows_returning", "insert_many", "update_many", "upsert_many")
OF_SESSIONS = ("add", "add_all", "delete", "merge")


def functions_of_the_domain() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield (dotted name, code) of every function and method in a package of the domain."""
    for name, tree in modules():
        if is_below(name, *DOMAIN):
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    yield f"{name}.{node.name}", node


def calls_in(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield (what it is called on, name) of each call in a function."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id


def writes(owner: str, called: str) -> bool:
    if owner.endswith(("session", "session()")):
        return called in OF_SESSIONS
    return called in WRITERS or (not owner and called in STATEMENTS)


def test_what_is_named_like_a_question_writes_nothing() -> None:
    found = [
        f"{name} calls {called}"
        for name, function in functions_of_the_domain()
        if function.name.startswith(QUESTIONS)
        for owner, called in calls_in(function)
        if called == "commit" or writes(owner, called)
    ]
    assert found == []


def test_helpers_leave_the_commit_to_the_verb_that_calls_them() -> None:
    found = [
        name
        for name, function in functions_of_the_domain()
        if function.name.startswith("_") and not function.name.startswith("__")
        for _, called in calls_in(function)
        if called == "commit"
    ]
    assert found == []


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "asapp").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
