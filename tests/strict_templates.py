"""Templates that name an attribute which its object does not have: Jinja shows nothing; tests fail instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from jinja2 import Undefined, UndefinedError
from jinja2.utils import missing


class StrictAttribute(Undefined):
    """Undefined as always for a name that a template was not given, or a key that a mapping lacks; else an error."""

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ) -> None:
        if obj is not missing and not isinstance(obj, Mapping | Undefined | list | tuple | str):
            raise AttributeError(f"{type(obj).__name__} has no {name!r}, which a template asks for")
        super().__init__(hint, obj, name, exc)


def be_strict(app: Flask) -> None:
    app.jinja_env.undefined = StrictAttribute
