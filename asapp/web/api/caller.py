"""Who calls the API: the owner of the key in the header Authorization."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from flask import g, request

from asapp.accounts import api_keys
from asapp.accounts.api_keys import FoundKey
from asapp.models import Scope
from asapp.web.api.problems import Problem, Refusal
from asapp.web.networks import client_network

P = ParamSpec("P")
R = TypeVar("R")

BLUEPRINT = "api"
CALLS_OF_A_KEY = "600 per minute"
WRONG_KEYS_FROM_AN_ADDRESS = "60 per minute"
REALM = 'Bearer realm="asapp"'


def find_caller() -> None:
    """Look up the key of an API call. A wrong one is refused later, after the limit of wrong ones."""
    if request.blueprint == BLUEPRINT:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        g.api_key = api_keys.find_by_key(key.strip()) if scheme.lower() == "bearer" else None


def demand_key() -> None:
    if g.api_key is None:
        error = ', error="invalid_token"' if "Authorization" in request.headers else ""
        raise Refusal(Problem.NOT_AUTHENTICATED, headers={"WWW-Authenticate": REALM + error})
    api_keys.record_use(g.api_key)


def calling_key() -> FoundKey:
    return cast(FoundKey, g.api_key)


def scope_required(scope: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Demand that the key has this scope, before anything else in the request is checked."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if scope not in calling_key().scopes:
                headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'}
                raise Refusal(Problem.MISSING_SCOPE, f"This call needs the scope {scope}.", headers)
            return view(*args, **kwargs)

        return guarded

    return decorate


def rate() -> str:
    return CALLS_OF_A_KEY if g.api_key else WRONG_KEYS_FROM_AN_ADDRESS


def counted_as() -> str:
    return f"api-key-{g.api_key.id}" if g.api_key else client_network()
