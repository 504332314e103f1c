"""A person at a browser without scripts: opens pages, fills in fields by their labels, presses buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

import requests
from lxml import html

TIMEOUT_S = 30.0


class LostError(Exception):
    """The page is not the expected one; the text says what was looked for and what was there."""


class Page:
    def __init__(self, answer: requests.Response) -> None:
        self.url = answer.url
        self.status = answer.status_code
        self.text = answer.text
        # the bytes, since a page may declare its encoding itself
        self.tree: Any = html.fromstring(answer.content or b"<html></html>", base_url=answer.url)

    @property
    def heading(self) -> str:
        return next((_words(found) for found in self.tree.iter("h1")), "")

    @property
    def main(self) -> str:
        """Return the text of the page without its frame."""
        found = self.tree.xpath("//main") or [self.tree]
        return " ".join(" ".join(found[0].itertext()).split())

    def find_button(self, label: str) -> Any | None:
        """Return the first button whose text begins with the label."""
        for found in self.tree.xpath("//button | //input[@type='submit']"):
            if _begins(_words(found) or found.get("value", ""), label):
                return found
        return None

    def has_button(self, label: str) -> bool:
        return self.find_button(label) is not None

    def find_link(self, label: str = "", *, to: str = "") -> str | None:
        """Return the address of the first link whose text begins with the label and that leads to `to`."""
        for found in self.tree.xpath("//a[@href]"):
            address: str = urljoin(self.url, found.get("href"))
            if _begins(_words(found), label) and address.startswith(to):
                return address
        return None

    def get_field(self, label: str) -> Any:
        for found in self.tree.iter("label"):
            if _begins(_words(found), label):
                inside = found.xpath(".//input | .//select | .//textarea")
                target = self.tree.xpath("//*[@id=$id]", id=found.get("for")) if found.get("for") else inside
                if target:
                    return target[0]
        raise self.lost(f'a field "{label}"')

    def get_form(self, button: Any) -> Any:
        named = self.tree.xpath("//form[@id=$id]", id=button.get("form")) if button.get("form") else []
        found = named or button.xpath("ancestor::form")
        if not found:
            raise self.lost(f'a form around "{_words(button)}"')
        return found[0]

    def find(self, xpath: str) -> Any | None:
        return next(iter(self.tree.xpath(xpath)), None)

    def lost(self, wanted: str) -> LostError:
        return LostError(f"{self.url} ({self.status}) does not have {wanted}. It says: {self.main[:400]}")


class Visitor:
    def __init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy and no .netrc between us and loopback

    def open(self, url: str) -> Page:
        return self._page(self.session.get(url, timeout=TIMEOUT_S))

    def press(self, page: Page, button: str, fields: Mapping[str, str] | None = None) -> Page:
        """Fill in fields by their labels, press the button, follow redirects."""
        found = page.find_button(button)
        if found is None:
            raise page.lost(f'a button "{button}"')
        form = page.get_form(found)
        for label, value in (fields or {}).items():
            page.get_field(label).value = value
        values = [*form.form_values()]
        if found.get("name"):
            values.append((found.get("name"), found.get("value", "")))
        url = urljoin(page.url, found.get("formaction") or form.get("action") or page.url)
        if (form.get("method") or "get").lower() == "get":
            return self._page(self.session.get(url, params=values, timeout=TIMEOUT_S))
        # browsers send where a form came from, and some CSRF checks ask for it
        return self._page(self.session.post(url, data=values, headers={"Referer": page.url}, timeout=TIMEOUT_S))

    def get_json(self, url: str) -> Any:
        answer = self.session.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
        found = answer.json()
        return found["result"] if isinstance(found, dict) and "result" in found else found

    def _page(self, answer: requests.Response) -> Page:
        page = Page(answer)
        if page.status >= 400:
            raise LostError(f"{page.url} answered {page.status}: {page.main[:400]}")
        return page


def _words(element: Any) -> str:
    return " ".join(element.text_content().split())


def _begins(words: str, label: str) -> bool:
    return words.lower().startswith(label.lower())
