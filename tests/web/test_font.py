"""The font of headings comes from our own host, and browsers keep it for good."""

from __future__ import annotations

import re

from flask.testing import FlaskClient


def test_the_font_is_ours_and_is_kept_for_good(client: FlaskClient) -> None:
    page = client.get("/login").text
    sheet = re.search(r'href="(/static/fonts\.css\?v=[0-9a-f]+)"', page)
    assert sheet
    css = client.get(sheet[1]).text
    files = re.findall(r'url\("([^"]+)"\)', css)
    assert len(files) == 2
    for file in files:
        answer = client.get(f"/static/{file}")
        assert answer.data[:4] == b"wOF2"
        assert "immutable" in answer.headers["Cache-Control"]
