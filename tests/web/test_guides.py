"""The guides: who may open them, and that what they name is what the product shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.messages.checks import TITLES
from asapp.messages.contacts import REASONS
from asapp.partners.form_fields import PartnerForm
from asapp.salesforce.probe import TO_WRITE_BACK, WITH_USER, WITHOUT_USER
from tests.conftest import PUBLIC_URL
from tests.factories import log_in, make_admin

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ("/help/advisor", "/help/salesforce-admin")
BOLD = re.compile(r"<strong>(.*?)</strong>", re.DOTALL)
# Bold words of the Salesforce admins' guide that are no labels of ours: they begin a remark.
REMARKS = {
    "No package is installed, and no data is copied",
    "Is the link from us?",
    "Another My Domain, or a sandbox that becomes production",
    "A new required field on Lead",
    "Clients move between advisors",
    "Email Opt Out hidden again",
    "A new secret",
    "A secret that leaked",
}


def text_of(response: TestResponse) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def words_of_the_product() -> str:
    pages = (path for path in (ROOT / "templates").rglob("*.html") if path.parent.name != "guides")
    return " ".join(" ".join(path.read_text() for path in (*pages, *(ROOT / "asapp").rglob("*.py"))).split())


def labels_of(guide: Path) -> Iterator[str]:
    """Yield what a guide prints in bold: mostly the labels of buttons, links and pages."""
    for bold in BOLD.findall(guide.read_text()):
        yield from (label for label in re.split(" › ", " ".join(bold.split()).rstrip(":")) if label)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_guide_is_open_to_everyone_and_prints_where_the_current_one_is(path: str, client: FlaskClient) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert f"The current one: {PUBLIC_URL}{path}" in text_of(page)
    other = next(each for each in PUBLIC if each != path)
    assert f'href="{other}"' in page.text


@pytest.mark.parametrize("path", [*PUBLIC, "/help/admin"])
def test_the_contents_lead_to_the_sections_and_pictures_are_there(path: str, app: Flask, client: FlaskClient) -> None:
    log_in(client, make_admin())
    page = client.get(path).text
    contents = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert len(contents) > 8
    assert contents == re.findall(r'<section id="([\w-]+)"', page)
    for source, *size in re.findall(r'<img src="([^"]+)" width="(\d+)" height="(\d+)"', page):
        picture = client.get(source).data
        assert [str(int.from_bytes(picture[at : at + 4], "big")) for at in (16, 20)] == size, source  # of a PNG


def test_the_advisors_guide_tells_every_reason(client: FlaskClient) -> None:
    page = text_of(client.get("/help/advisor"))
    for words in REASONS.values():
        assert words.short in page
        assert words.remedy in page


def test_the_salesforce_admins_guide_has_the_callback_of_this_installation(app: Flask, client: FlaskClient) -> None:
    page = client.get("/help/salesforce-admin").text
    assert app.extensions["asapp.config"].callback_url in page
    assert "Setup › Object Manager › Contact › Fields &amp; Relationships › Email Opt Out" in page


def test_the_salesforce_admins_guide_tells_of_every_check_and_when_it_is_made(client: FlaskClient) -> None:
    page = text_of(client.get("/help/salesforce-admin"))
    for code in WITHOUT_USER:
        assert f"{TITLES[code]} at once" in page, code
    for code in (*WITH_USER, TO_WRITE_BACK):
        assert f"{TITLES[code]} first advisor" in page, code


def test_the_salesforce_admins_guide_names_steps_by_their_headings(client: FlaskClient) -> None:
    page = text_of(client.get("/help/salesforce-admin"))
    assert re.findall(r"\bstep \d", page, re.IGNORECASE) == []
    for step in ("Turn on OAuth", "Decide who may use it", "Enter key and secret"):
        assert f". {step}" in page
        assert f"“{step}”" in page


def test_the_access_to_either_kind_of_app_can_be_ended(client: FlaskClient) -> None:
    page = text_of(client.get("/help/salesforce-admin"))
    assert "Setup › External Client Apps › OAuth Usage" in page
    assert "Setup › Connected Apps OAuth Usage › AdvisorStream Integration › Block" in page


def test_the_admins_guide_knows_every_setting_by_its_label(client: FlaskClient) -> None:
    log_in(client, make_admin())
    page = text_of(client.get("/help/admin"))
    told_otherwise = {
        "Firm name",
        "Salesforce URL",
        "Consumer Key",
        "Consumer Secret",
        "Address of the firm's page",
        "API version",
    }
    for field in PartnerForm():
        label = field.label.text.split(" in Salesforce")[0].split(" (https")[0]
        assert label in page or label in told_otherwise, label


@pytest.mark.parametrize("guide", sorted((ROOT / "templates/guides").glob("[!_]*.html")), ids=lambda path: path.stem)
def test_labels_are_those_of_the_product(guide: Path) -> None:
    shown = words_of_the_product()
    unknown = [label for label in labels_of(guide) if label not in shown and label not in REMARKS]
    assert unknown == []
