"""A page without a picture is named, unless it is left out on purpose."""

from __future__ import annotations

from devtools.screenshots.coverage import LEFT_OUT, pages_without_picture
from tests.conftest import make_config


def test_a_page_without_a_picture_is_named() -> None:
    config = make_config("sqlite:///:memory:")
    every = pages_without_picture(config, [])
    assert {"contacts.index", "connect.decide", "runs.receipt"} <= set(every)
    assert not {name for names in LEFT_OUT.values() for name in names} & set(every)
    pictures = [
        "http://127.0.0.1:5000/contacts?q=esi",
        "http://127.0.0.1:5000/settings/integrations/runs/8",
        "/nowhere",
    ]
    assert set(every) - set(pages_without_picture(config, pictures)) == {"contacts.index", "runs.receipt"}
