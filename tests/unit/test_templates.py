"""Rules for the source of templates."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TEMPLATES = Path(__file__).parents[2] / "templates"
IDS = re.compile(r"""\sid="([\w-]+)"|action\(url_for\("[\w.]+"\), "([\w-]+)\"""")
TAKES_AWAY = re.compile(
    r"""<button class="[^"]*danger[^"]*" id="([\w-]+)"|action\([^)]*\), "([\w-]+)",[^\n]*"danger\""""
)


def test_a_button_that_takes_something_away_shares_its_id_with_nothing() -> None:
    """htmx gives the focus to the element of the same id: it must never move to such a button by itself."""
    texts = [path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.html")]
    used = Counter(one or two for text in texts for one, two in IDS.findall(text))
    confirming = {one or two for text in texts for one, two in TAKES_AWAY.findall(text)}
    assert {"confirm-disconnect", "switch", "approve"} <= confirming
    assert {name: used[name] for name in confirming if used[name] != 1} == {}


def test_the_link_that_leaves_a_question_is_called_cancel_everywhere() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.html")}
    assert [name for name, text in texts.items() if re.search(r">\s*Keep( it| them| the contact)?\s*</a>", text)] == []
