"""The test client, which checks every page that it opens.

    response = client.get("/contacts")                          # fails unless the page is sound
    response = client.post("/logout")                           # carries a CSRF token by itself
    response = client.post("/logout", forged=True)              # … and doesn't
    response = client.get("/contacts", part=True)               # as htmx asks for it

Sound: no server error; on a page one title, one h1, one main; no duplicate ids; what labels and descriptions point at
is there; a CSRF field in each form that posts; nothing inline that the content policy would block; elements closed in order.
"""

from __future__ import annotations

import secrets
from collections import Counter
from html.parser import HTMLParser
from typing import Any

from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from werkzeug.test import TestResponse

from asapp.core.extensions import db

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))
POINTERS = ("for", "aria-describedby", "aria-labelledby", "aria-controls", "data-copy", "list", "form")


class CheckingClient(FlaskClient):
    def open(
        self, *args: Any, forged: bool = False, part: bool = False, broken: bool = False, **kwargs: Any
    ) -> TestResponse:
        """forged: without a CSRF token. part: as htmx asks. broken: a server error is expected."""
        headers = dict(kwargs.pop("headers", None) or {})
        if part:
            headers.setdefault("HX-Request", "true")
        if kwargs.get("method", "GET").upper() not in SAFE_METHODS and not forged:
            headers.setdefault("X-CSRFToken", self.csrf_token())
        db.session.rollback()  # a test's open transaction must not block the request's
        with self.application.app_context():  # as in production: `g` keeps the last user
            response = super().open(*args, headers=headers, buffered=True, **kwargs)
        db.session.expire_all()  # the test's objects are loaded again
        assert broken or response.status_code < 500, f"{response.request.path} answered {response.status}"
        if response.mimetype == "text/html" and not 300 <= response.status_code < 400:
            problems = problems_of(response.text)
            assert not problems, f"{response.request.path}: {'; '.join(problems)}"
        return response

    def csrf_token(self) -> str:
        """Return the CSRF token for a form of this client's session."""
        with self.session_transaction() as session:
            seed = session.setdefault("csrf_token", secrets.token_hex(20))
        return URLSafeTimedSerializer(self.application.secret_key or "", salt="wtf-csrf-token").dumps(seed)


def problems_of(html: str) -> list[str]:
    """Return what is wrong with a page or a part of one."""
    if not html.strip():
        return []
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.problems(is_page=html.lstrip().lower().startswith("<!doctype"))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.wanted: set[str] = set()
        self.found: list[str] = []
        self.open_form: str | None = None
        self.title = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        attrs = {name: value or "" for name, value in attributes}
        if tag not in VOID:
            self.open_tags.append(tag)
        self.tags[tag] += 1
        if "id" in attrs:
            self.ids[attrs["id"]] += 1
        for name in POINTERS:
            self.wanted |= set(attrs.get(name, "").split())
        self._look_for_inline(tag, attrs)
        if tag == "form":
            self.open_form = attrs.get("action", "?") if attrs.get("method", "").lower() == "post" else None
        if tag == "input" and attrs.get("name") == "csrf_token" and attrs.get("value"):
            self.open_form = None
        if tag == "img" and "alt" not in attrs:
            self.found.append("an img without alt")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open_tags.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags[-1] != tag:
            self.found.append(f"</{tag}> closes {self.open_tags[-1:] or 'nothing'} in line {self.getpos()[0]}")
        if tag in self.open_tags:
            while self.open_tags.pop() != tag:
                pass
        if tag == "form" and self.open_form and not self.open_form.startswith("/u/"):  # its address is signed
            self.found.append(f"the form that posts to {self.open_form} has no CSRF field")

    def handle_data(self, data: str) -> None:
        if self.open_tags[-1:] == ["title"] and "svg" not in self.open_tags:
            self.title += data
        if self.open_tags[-1:] == ["script"] and data.strip():
            self.found.append("an inline script")

    def _look_for_inline(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "style" or "style" in attrs:
            self.found.append(f"an inline style on <{tag}>")
        self.found += [f"{name} on <{tag}>" for name in attrs if name.startswith(("on", "hx-on"))]

    def problems(self, is_page: bool) -> list[str]:
        found = list(self.found)
        found += [f"the id {name} stands {times} times" for name, times in self.ids.items() if times > 1]
        if self.open_tags:
            found.append(f"never closed: {', '.join(self.open_tags)}")
        if is_page:
            found += [f"{self.tags[tag]} <{tag}>" for tag in ("h1", "main", "title") if self.tags[tag] != 1]
            found += [f"nothing has the id {name}" for name in sorted(self.wanted - set(self.ids))]
            if not self.title.partition(" · ")[0].strip():
                found.append("no title of its own")
        return found
