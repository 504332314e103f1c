"""Malicious requests: every route of the application, every field that it reads, and values to put into them."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from flask import Flask
from werkzeug.routing import Rule

from asapp.core.forms import Form
from asapp.leads import sign_up_page
from asapp.leads.form_fields import Typed
from asapp.models import User
from asapp.web.optin import Token, write_token
from tests.mail_links import path_of_link
from tests.route_access import arguments, everything_of
from tests.two_firms import Belongings, World

ROOT = Path(__file__).resolve().parent.parent
READ = re.compile(r"""\b(?:form|args|values)(?:\.get|\.getlist)?[(\[]\s*f?"(\w+)\"""")
SENT = re.compile(r"""(?:\bname=|\bfield\()"(\w+)\"""")

VALUES = (
    *("", " ", "\0", "a\0b", "\0" * 50, "x" * 300, "x" * 9000, "y" * 70_000, "\U0001f600" * 200),
    *(
        "0",
        "-1",
        "1",
        "9" * 9,
        "9" * 10,
        "2147483647",
        "2147483648",
        "9223372036854775808",
        "9" * 400,
        "1e9",
        "0x10",
        "1.5",
    ),
    *("NaN", "Infinity", "\u0661\u0662", "\xb2", "true", "null", "None", "undefined", "[]", "{}", "[[]]", '{"a": 1}'),
    *(
        "' OR '1'='1",
        "'; DROP TABLE users; --",
        "%",
        "_",
        "%_%\\",
        "\\",
        "\\'",
        "a' AND Id != '",
        "SELECT Id FROM Contact",
    ),
    *(
        "<script>alert(1)</script>",
        "'\"><img src=x onerror=alert(1)>",
        "{{7*7}}",
        "${7*7}",
        "%s%n%(x)s",
        "{0.__class__}",
    ),
    *("=1+1", "x;=1+1", "@SUM(A1)", "\t=1", "\r\nSet-Cookie: a=b", "a\nb", "\u2028", "\x1b[31m", "\x7f", "\x85"),
    *(
        "\u200b",
        "\u202eabc",
        "\ufeff",
        "\u3164",
        "e\u0301" * 60,
        "\u0130\u0131",
        "\ufdfa" * 40,
        "\U000e0041",
        "\ud7ff\ue000",
        "\uffff",
    ),
    *(
        "../../etc/passwd",
        "..",
        ".",
        "/",
        "//evil.example",
        "https://evil.example",
        "http://[",
        "http://[::1",
        "//[",
        "http://a:b",
    ),
    *(
        "javascript:alert(1)",
        "https://x.my.salesforce.com",
        "https://\u2100.example",
        "https://a.example:99999",
        "http://%zz",
        "ldap://x",
    ),
    *(
        "a@b.example",
        "a@",
        "@",
        "a@@b",
        "\u00fc@\u00fc.example",
        f"{'a' * 64}@{'b' * 180}.example",
        "a\u200bb@x.org",
        "a@xn--.example",
    ),
    *(
        "2026-02-30",
        "0000-00-00",
        "9999-12-31",
        "2026-01-01T00:00:00Z",
        "003000000000000",
        "0035g00000AbCdEAK",
        "all",
        "add",
        "there",
    ),
)
HEADERS = (
    *("HX-Request", "HX-Current-URL", "HX-History-Restore-Request", "HX-Target", "Referer", "Origin", "User-Agent"),
    *("Accept", "Accept-Language", "If-None-Match", "If-Modified-Since", "Range", "Authorization", "X-CSRFToken"),
    *("X-Forwarded-For", "X-Request-ID", "Cookie"),
)
KINDS = (
    *(
        "application/json",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
    ),
    *(
        "application/x-www-form-urlencoded; charset=nonsense",
        "application/x-www-form-urlencoded; charset=utf-16",
        ";",
        "\xff",
    ),
)
BODIES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"--x\r\n",
    b"--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\r\n--x--\r\n',
    b"%zz=%",
    b"&&==",
)


def form_fields(form: type[Form] = Form) -> set[str]:
    """Return every field of every form class."""
    return {field.name for field in form()}.union(*map(form_fields, form.__subclasses__()))


def fields_read() -> list[str]:
    """Return every name that a view reads from a form or a query, and every name that a form sends."""
    found: set[str] = {*Typed._fields, *form_fields()}
    for pattern, folder, files in ((READ, "asapp/web", "*.py"), (SENT, "templates", "**/*.html")):
        found |= {name for path in (ROOT / folder).glob(files) for name in pattern.findall(path.read_text())}
    return sorted(found)


def texts_of(whose: Belongings) -> dict[str, str]:
    named = everything_of(whose)
    return {name: str(value[0] if isinstance(value, list) else value) for name, value in named.items()}


@dataclass
class Shot:
    """One request, stored so that it can be repeated."""

    endpoint: str
    method: str
    path: str
    who: str
    query: list[tuple[str, str]] = field(default_factory=list)
    form: list[tuple[str, str]] | None = None
    kind: str | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: str | None = None  # the field that is sent as a file
    address: str = "127.0.0.1"  # the client address that a proxy names

    @property
    def how(self) -> dict[str, Any]:
        named: dict[str, Any] = {"method": self.method, "query_string": self.query, "headers": self.headers}
        named["environ_base"] = {"REMOTE_ADDR": self.address}
        if self.form is None:
            return {**named, "data": self.body, "content_type": self.kind} if self.kind else named
        data: dict[str, Any] = {}
        for name, value in self.form:
            data.setdefault(name, []).append(value)
        if self.file:
            data[self.file] = (io.BytesIO(b"a file"), "a\udcff.txt".encode("utf-8", "replace").decode())
        return {**named, "data": data}

    def __repr__(self) -> str:
        cut = {name: repr(value)[:600] for name, value in vars(self).items() if value}
        return f"Shot({cut})"


class Gunner:
    """Makes random requests from a seed, so that a failure can be repeated."""

    def __init__(self, app: Flask, world: World, seed: object) -> None:
        self.random = Random(str(seed))
        self.fields = fields_read()
        self.rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        self.arguments = {
            (rule.rule, name): [str(value) for value in arguments(rule, name, world, world.alice)]
            for rule in self.rules
            for name in rule.arguments
        }  # as text, because the rows may be gone later
        good_token = path_of_link(world.alice.user, world.alice.contacts[0].email).rpartition("/")[2]
        for (rule, name), values in self.arguments.items():
            if name == "token" and rule.startswith("/u/"):
                values.append(good_token)
        self.belongings = [texts_of(whose) for whose in (world.alice, world.charlie)]
        self.api_key, self.advisor_id = world.api_key, world.alice.user.public_id
        self.list_id = world.alice.contact_list.public_id
        self.firm, page = world.northgate.slug, world.alice.page
        self.page_slug, self.text_id = page.slug, sign_up_page.current_text(page.user_id).id
        self.people: dict[str, User | None] = {
            "nobody": None,
            "alice": world.alice.user,
            "charlie": world.charlie.user,
            "ada": world.ada,
        }

    def every_route(self) -> list[tuple[Rule, str]]:
        return [
            (rule, method) for rule in self.rules for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        ]

    def shoot(self, rule: Rule, method: str, who: str) -> Shot:
        shot = Shot(rule.endpoint, method, self._path(rule), who, headers=self._headers())
        if self.random.random() < 0.1:
            shot.address = self.random.choice(VALUES)[:400].encode("latin-1", "replace").decode("latin-1")
        if rule.endpoint.startswith("api."):
            return self._aim_at_api(shot, rule)
        if method == "GET" or self.random.random() < 0.2:
            shot.query = self._fields(rule)
        if method == "GET":
            return shot
        if self.random.random() < 0.1:
            shot.kind, shot.body = (
                self.random.choice(KINDS).encode("latin-1", "replace").decode("latin-1"),
                self.random.choice(BODIES),
            )
            return shot
        shot.form = self._fields(rule)
        shot.file = self.random.choice(self.fields) if self.random.random() < 0.05 else None
        return shot

    def _aim_at_api(self, shot: Shot, rule: Rule) -> Shot:
        """Change the request to a call of the API: with a key most of the time, and with any JSON."""
        if self.random.random() < 0.9:
            shot.headers["Authorization"] = f"Bearer {self.api_key}"
        if shot.method == "GET":
            names = ("cursor", "limit", "partner", "email")
            shot.query = [(name, self._json_text()) for name in names if self.random.random() < 0.5]
            return shot
        meant = {name: make() for name, make in self._meant_for_api(rule).items() if self.random.random() < 0.95}
        body = self._spoilt(meant) if self.random.random() < 0.7 else meant
        shot.kind, shot.body = "application/json", json.dumps(body).encode()
        if self.random.random() < 0.1:
            shot.body = self.random.choice(BODIES)
        return shot

    def _meant_for_api(self, rule: Rule) -> dict[str, Callable[[], Any]]:
        advisor_id, list_id, draw = self.advisor_id, self.list_id, self.random.choice
        number = self.random.randrange

        def told() -> dict[str, Any]:
            types = ("unsubscribed", "complained", "bounced")
            at = f"20{number(10, 40)}-0{number(1, 10)}-11T09:15:00Z"
            email = f"z{number(50)}@fjord.example"
            return {"id": f"e{number(50)}", "type": draw(types), "advisor_id": advisor_id, "email": email, "at": at}

        return {
            "api.events": {"events": lambda: [told() for _ in range(number(1, 4))]},
            "api.may_send": {"advisor_id": lambda: advisor_id, "emails": lambda: [f"z{number(50)}@fjord.example"]},
            "api.prepare_send": {
                "id": lambda: f"s{number(50)}",
                "list_id": lambda: list_id,
                "max_age_minutes": lambda: number(100),
            },
        }[rule.endpoint]

    def _spoilt(self, value: Any, depth: int = 0) -> Any:
        """Return the value with parts of it replaced by hostile text."""
        if isinstance(value, dict) and self.random.random() < 0.9:
            return {name: self._spoilt(each, depth + 1) for name, each in value.items()}
        if isinstance(value, list) and self.random.random() < 0.9:
            return [self._spoilt(each, depth + 1) for each in value]
        return value if self.random.random() < 0.6 else self._json_value()

    def _json_value(self) -> Any:
        odd = (None, True, -1, 0, 2**31, 2**63, 10**30, 1.5, 1e308, [], {}, [[]], {"a": {"b": []}}, "\ud800")
        return self.random.choice(odd) if self.random.random() < 0.4 else self._json_text()

    def _json_text(self) -> str:
        return self.random.choice(VALUES)[:5000]

    def _path(self, rule: Rule) -> str:
        """Return an address of the route, with arguments that a user has or with any text at all."""

        def fill(found: re.Match[str]) -> str:
            if self.random.random() < 0.3:
                return quote(self.random.choice(VALUES)[:2000], safe="") or "%00"
            return quote(self.random.choice(self.arguments[rule.rule, found[1]]), safe="")

        return re.sub(r"<(?:[^:<>]+:)?(\w+)>", fill, rule.rule)

    def _fields(self, rule: Rule) -> list[tuple[str, str]]:
        """Return some or all of the fields, with valid or hostile values, some of them twice."""
        meant = self._meant(rule)
        names = [name for name in self.fields if self.random.random() < self.random.choice((0.1, 0.5, 0.95))]
        names += [name for name in meant if self.random.random() < 0.8]
        self.random.shuffle(names)
        names += names[: self.random.randrange(3)]
        share = self.random.choice((0.05, 0.3, 0.9))  # the share of hostile values
        budget, chosen = 400_000, []
        for name in names:
            value = self.random.choice(VALUES) if name not in meant or self.random.random() < share else meant[name]
            budget -= len(value.encode("utf-8", "replace"))
            chosen.append((name, value if budget > 0 else ""))
        return chosen

    def _meant(self, rule: Rule) -> dict[str, str]:
        meant = {
            **self.random.choice(self.belongings),
            "first_name": "Zoë",
            "last_name": "Groß",
            "email": f"z{self.random.randrange(10**6)}@fjord.example",
            "consent": "yes",
            "name": f"Firm {self.random.randrange(10**6)}",
            "url": "https://northgate.my.salesforce.com",
            "firm": self.firm,
            "heading": "Letters",
            "words": "Yes.",
            "frame_hosts": "https://a.example",
            "do": self.random.choice(("add", "remove", "delete", "restore", "there")),
            "website": "",
        }
        if rule.endpoint == "optin.sign_up":
            token = Token(self.page_slug, self.text_id, f"form {self.random.randrange(10**9)}", time.time() - 5)
            meant["csrf_token"] = write_token(token)
        return meant

    def _headers(self) -> dict[str, str]:
        chosen = {"HX-Request": "true"} if self.random.random() < 0.3 else {}
        for name in HEADERS:
            if self.random.random() < 0.08:
                value = self.random.choice(VALUES)[:4000]
                chosen[name] = re.sub(r"[\0\r\n]", "", value).encode("latin-1", "replace").decode("latin-1")
        return chosen
