"""What comes in, before anything reads it: whole or refused, for a host that is ours, and nothing that no database can hold.

Every rule here is about all requests, so that no view has to know it. A refusal is a 400 or a 404, never a bug of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flask import Flask, Request, abort, request
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing import IntegerConverter
from werkzeug.wrappers import Response

from asapp.core.forms import LARGEST_ID
from asapp.web.headers import steady_headers
from config import Config, is_loopback

LAST_PAGE = 10**8  # times the rows of a page it is still a number that a database knows
MACHINES = ("/healthz", "/readyz", "/metrics")  # asked by address, whatever the host is called
HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)
ASKED_HOST = "asapp.asked_host"  # in the environ, where a machine asked by a name that isn't ours
NUL = "\0"  # PostgreSQL has no place for it in any text

Environ = dict[str, Any]
Start = Callable[..., Any]


class Body:
    """A request's body as the server hands it on, whose own complaints about its form are the client's fault."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def read(self, *size: int) -> bytes:
        return self._read(self._raw.read, *size)

    def readline(self, *size: int) -> bytes:
        return self._read(self._raw.readline, *size)

    @staticmethod
    def _read(read: Callable[..., bytes], *size: int) -> bytes:
        try:
            return read(*size)
        except Exception as error:  # each server has its own: a chunk of no length, a forbidden trailer, no more data
            raise BadRequest from error


class Incoming(Request):
    @cached_property
    def args(self) -> MultiDict[str, str]:
        return without_nul(super().args)

    def _load_form_data(self) -> None:
        """A body that can't be read is refused where it is read first, and empty from then on: error pages read it too."""
        if "form" in self.__dict__:
            return
        try:
            super()._load_form_data()
            if None in self.form or None in self.files:  # a part without a name
                raise BadRequest
        except HTTPException:
            self.__dict__.update(form=ImmutableMultiDict(), files=ImmutableMultiDict())
            raise
        self.__dict__["form"] = without_nul(self.form)


class RowId(IntegerConverter):
    """`<int:…>` in an address: as large as the Id of a row can be."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"max": LARGEST_ID, **options})


class FrontDoor:
    """Answers for the host of PUBLIC_URL alone: a redirect or a link names the host that the request came for.

    Where PUBLIC_URL is a loopback address, so may the request's be. The addresses for machines answer by any name.
    """

    def __init__(self, app: Callable[[Environ, Start], Iterable[bytes]], config: Config) -> None:
        self._app = app
        self._public = urlsplit(config.public_url)
        self._headers = steady_headers(config)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if not self.is_ours(environ):
            if environ.get("PATH_INFO") not in MACHINES:
                refusal = Response("This host is not known here.\n", 400, self._headers)
                return refusal(environ, start)
            environ[ASKED_HOST] = environ.get("HTTP_HOST", "")
            environ["HTTP_HOST"] = self._public.netloc
        environ["wsgi.input"] = Body(environ["wsgi.input"])
        environ["REMOTE_ADDR"] = client_address(environ.get("REMOTE_ADDR", ""))
        return self._app(environ, start)

    def is_ours(self, environ: Environ) -> bool:
        host = read_host(environ.get("HTTP_HOST") or environ.get("SERVER_NAME", ""))
        if host is None:
            return False
        return host.hostname == self._public.hostname or (is_loopback(host) and is_loopback(self._public))


def read_host(called: str) -> SplitResult | None:
    """Return what a Host header names; None for what is no host."""
    if not HOST.fullmatch(called):
        return None
    try:
        return urlsplit(f"//{called}")
    except ValueError:
        return None


def is_asked_by_loopback() -> bool:
    """Did this request ask for a host of this very machine?"""
    host = read_host(request.environ.get(ASKED_HOST, request.host))
    return host is not None and is_loopback(host)


def client_address(named: str) -> str:
    """Return the address that the server or a proxy of ours names, without port and zone; "" for what is none."""
    bare = named.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ip_address(bare.partition("%")[0]))
    except ValueError:
        return ""


def without_nul(values: MultiDict[str, str]) -> ImmutableMultiDict[str, str]:
    """Return values with a space for each NUL, as clean_line() has it; what named a row names none then."""
    return ImmutableMultiDict(
        (name.replace(NUL, " "), value.replace(NUL, " ")) for name, value in values.items(multi=True)
    )


def json_without_nul(value: Any) -> Any:
    """The same for what JSON can hold, in names and values."""
    if isinstance(value, str):
        return value.replace(NUL, " ")
    if isinstance(value, list):
        return [json_without_nul(each) for each in value]
    if isinstance(value, dict):
        return {json_without_nul(name): json_without_nul(each) for name, each in value.items()}
    return value


def add_front_door(app: Flask, config: Config) -> None:
    """Comes before what reads the headers of proxies, which stands around it."""
    app.wsgi_app = FrontDoor(app.wsgi_app, config)  # type: ignore[assignment, method-assign]


def register(app: Flask) -> None:
    """Comes before all other hooks but the request log's."""
    app.request_class = Incoming
    app.url_map.converters = {**app.url_map.converters, "int": RowId}
    app.before_request(take_in)


def take_in() -> None:
    """Read the whole request, so that what is wrong with it shows before anything was done."""
    if any(NUL in value for value in (request.view_args or {}).values() if isinstance(value, str)):
        abort(404)
    if request.endpoint is not None:
        _ = request.form
