"""Checks of every request before anything reads it: complete, for a host of ours, and storable in a database.

The rules here are for all requests, so that no view needs them. A refusal is a 400 or a 404, never a server error.
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

from asapp.core.forms import LARGEST_ID, whole_number
from asapp.web.headers import steady_headers
from config import Config, is_loopback

LAST_PAGE = 10**8  # times the rows of a page it still fits a database integer
MACHINES = ("/healthz", "/readyz", "/metrics")  # called by address, under any host name
HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)
ASKED_HOST = "asapp.asked_host"  # in the environ, if a machine used a name that isn't ours
NUL = "\0"  # PostgreSQL can't store it in a text

Environ = dict[str, Any]
Start = Callable[..., Any]


def asked_page() -> int:
    """Return the number of the page that the address asks for; 1 if it names none."""
    return whole_number(request.args.get("page", ""), LAST_PAGE) or 1


class Body:
    """A request's body; the server's errors about its form become the client's fault."""

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
        except Exception as error:  # each server has its own: an empty chunk, a forbidden trailer, missing data
            raise BadRequest from error


class Incoming(Request):
    @cached_property
    def args(self) -> MultiDict[str, str]:
        return without_nul(super().args)

    def _load_form_data(self) -> None:
        """Refuse a body that can't be read when it is first read; later it is empty, as error pages read it too."""
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
    """`<int:…>` in an address: up to the largest id that a row can have."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"max": LARGEST_ID, **options})


class HostCheck:
    """Answers only for the host of PUBLIC_URL, since redirects and links name the host of the request.

    If PUBLIC_URL is a loopback address, the request's may be another one. The addresses for machines answer to any name.
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
    """Return the host that a Host header names; None if it isn't valid."""
    if not HOST.fullmatch(called):
        return None
    try:
        return urlsplit(f"//{called}")
    except ValueError:
        return None


def is_asked_by_loopback() -> bool:
    """Is the host of this request the local machine?"""
    host = read_host(request.environ.get(ASKED_HOST, request.host))
    return host is not None and is_loopback(host)


def client_address(named: str) -> str:
    """Return the client address that the server or our proxy names, without port and zone; "" if it isn't one."""
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
    """Return values with a space for each NUL, as in clean_line(); a name with one then matches no row."""
    return ImmutableMultiDict(
        (name.replace(NUL, " "), value.replace(NUL, " ")) for name, value in values.items(multi=True)
    )


def json_without_nul(value: Any) -> Any:
    """Return a JSON value with a space for each NUL, in names and values."""
    if isinstance(value, str):
        return value.replace(NUL, " ")
    if isinstance(value, list):
        return [json_without_nul(each) for each in value]
    if isinstance(value, dict):
        return {json_without_nul(name): json_without_nul(each) for name, each in value.items()}
    return value


def add_host_check(app: Flask, config: Config) -> None:
    """Wrap the application; comes before the middleware that reads proxy headers, which wraps it in turn."""
    app.wsgi_app = HostCheck(app.wsgi_app, config)  # type: ignore[assignment, method-assign]


def register(app: Flask) -> None:
    """Comes before all other hooks except the request log's."""
    app.request_class = Incoming
    app.url_map.converters = {**app.url_map.converters, "int": RowId}
    app.before_request(take_in)


def take_in() -> None:
    """Read the whole request, so that its errors show before anything is done."""
    if any(NUL in value for value in (request.view_args or {}).values() if isinstance(value, str)):
        abort(404)
    if request.endpoint is not None:
        _ = request.form
