"""Names and addresses as people type them: invisible characters are removed, and a web address is refused as a name."""

from __future__ import annotations

import pytest

from asapp.accounts.users import normal_email
from asapp.contacts.form_fields import Details, check_details, check_list_name
from asapp.core.forms import InvalidFields, clean_address, clean_line
from asapp.leads.form_fields import PageForm, Typed, check_typed

# zero-width space, soft hyphen, fillers, a braille blank, a tag, marks of direction, joiners and a variant alone, byte order
INVISIBLE = (
    *("\u200b", "\u00ad", "\u3164", "\u115f", "\uffa0", "\u2800", "\U000e0041", "\u202e", "\u2066", "\u200e", "\u061c"),
    *("\u200d", "\u200c", "\ufe0f", "\u2060", "\ufeff", "\u034f", "\u00a0", "\u2003", "\x00"),
)
BLANK = ("\u2800", "\u00a0", "\u2003", "\x00")  # between two letters these are visible, as a gap
MEI = Typed("Mei", "Chou", "mei@harbour.example", True)


@pytest.mark.parametrize("character", INVISIBLE)
def test_what_cant_be_seen_is_no_name(character: str) -> None:
    assert clean_line(character * 3) == ""
    with pytest.raises(InvalidFields) as signing_up:
        check_typed(MEI._replace(first_name=character, last_name=character * 2))
    assert set(signing_up.value.errors) == {"first_name", "last_name"}
    with pytest.raises(InvalidFields) as by_hand:
        check_details(Details(character, character, "a@b.example"))
    assert by_hand.value.errors == {"last_name": "Enter a name."}
    with pytest.raises(InvalidFields, match="name"):
        check_list_name(character)
    with pytest.raises(InvalidFields, match="words"):
        PageForm.entered(heading="Letters", words=f"{character}\n{character}").checked()


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("Ann\u202eAdvisor", "AnnAdvisor"),
        ("\u202aAnn Advisor\u202c", "Ann Advisor"),
        ("An\u200bn", "Ann"),
        ("Ann\u2800\u2800Advisor", "Ann Advisor"),
        ("e\u200b\u0301", "é"),
    ],
)
def test_a_name_is_kept_as_it_looks(typed: str, seen: str) -> None:
    assert clean_line(typed) == seen


@pytest.mark.parametrize(
    "name",
    [
        "می‌خواهم",
        "क्‍ष",
        "👩‍💻 Team",
        "👩🏽‍⚕️",
        "葛\U000e0100城",
        "❤️ Clients",
        "O’Brien-Ní Bhriain",
        "J.P. St.John",
        "A",
        ".",
    ],
)
def test_what_belongs_to_a_name_stays(name: str) -> None:
    assert clean_line(name) == name


@pytest.mark.parametrize("character", [each for each in INVISIBLE if each not in BLANK])
def test_an_address_is_the_one_that_it_looks_like(character: str) -> None:
    assert clean_address(f"a{character}b@x.example") == "ab@x.example"
    assert normal_email(f"A{character}b@x.Example{character}") == "ab@x.example"
    assert check_typed(MEI._replace(email=f"m{character}ei@harbour.example")) == MEI
    assert check_details(Details("A", "B", f"a{character}@b.example")).email == "a@b.example"


@pytest.mark.parametrize(
    "name",
    [
        "http://evil.example",
        "HTTPS://x",
        "www.evil.example",
        "Click evil.example/win",
        "javascript:alert(1)",
        "mailto:x",
        "evil.com",
        "Evil.COM.",
        "Win at evil.co.uk now",
        "a@evil.io",
        "my-evil.app",
        "evil.com?win=1",
        "evil.com:443",
        "evil.example#win",
        "evil\u3002com/x",
        "evil\uff0ecom",
        "evil\uff61com",
        "http\uff1a//evil.com",
    ],
)
def test_a_web_address_is_no_name(name: str) -> None:
    with pytest.raises(InvalidFields) as signing_up:
        check_typed(MEI._replace(first_name=name))
    assert signing_up.value.errors == {"first_name": "This looks like a web address. Enter a name."}
    with pytest.raises(InvalidFields) as by_hand:
        check_details(Details(name, name, "a@b.example"))
    assert set(by_hand.value.errors) == {"first_name", "last_name"}


@pytest.mark.parametrize("name", ["\U0001d159", "\u0301\u0302", ".", "👋", "- -"])
def test_what_has_no_letter_is_no_name(name: str) -> None:
    assert clean_line(name)
    with pytest.raises(InvalidFields) as signing_up:
        check_typed(MEI._replace(first_name=name))
    assert signing_up.value.errors == {"first_name": "This has no letter in it. Enter your first name."}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "J. R. Smith",
            "J.R. Smith",
            "St. John",
            "St.John",
            "Ravi Kumar, Ph.D.",
            "Ravi Kumar, B.Com",
            "Dr. med. Groß",
        ),
        *(
            "M.de Vries",
            "J.Co",
            "Li Na (李娜)",
            "می‌خواهم",
            "क्‍ष",
            "3rd",
            "Anna-Maria",
            "O’Brien",
            "de la Cruz Jr.",
            "Fa. Compagnie",
        ),
    ],
)
def test_a_name_with_dots_is_a_name(name: str) -> None:
    assert check_typed(MEI._replace(first_name=name, last_name=name)).first_name == name
