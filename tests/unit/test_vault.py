"""Encryption at rest: a value opens only in its own place, and keys can be replaced."""

from __future__ import annotations

import pytest

from asapp.core.vault import CannotOpen, Vault, key_id
from asapp.models import Partner
from asapp.models.columns import new_public_id

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
PLACE = "connections:5f0c:access_token_sealed"


def test_what_is_sealed_opens_again() -> None:
    vault = Vault([OLD])
    sealed = vault.seal("00Dxx!tökén", PLACE)
    assert "00Dxx" not in sealed
    assert vault.open(sealed, PLACE) == "00Dxx!tökén"


def test_the_same_text_is_sealed_differently_each_time() -> None:
    vault = Vault([OLD])
    assert vault.seal("token", PLACE) != vault.seal("token", PLACE)


@pytest.mark.parametrize(
    "place",
    [
        "connections:5f0d:access_token_sealed",
        "connections:5f0c:refresh_token_sealed",
        "partners:5f0c:access_token_sealed",
        "",
    ],
)
def test_it_opens_at_its_own_place_only(place: str) -> None:
    vault = Vault([OLD])
    with pytest.raises(CannotOpen, match="another place, or altered"):
        vault.open(vault.seal("token", PLACE), place)


def test_an_altered_value_does_not_open() -> None:
    vault = Vault([OLD])
    sealed = vault.seal("token", PLACE)
    version, key, box = sealed.split(".")
    for changed in (box[:-2] + ("AA" if box[-2:] != "AA" else "BB"), box[4:], ""):
        with pytest.raises(CannotOpen):
            vault.open(f"{version}.{key}.{changed}", PLACE)


@pytest.mark.parametrize("value", ["", "plain text", "v1.abc", "v2.{key}.AAAA", "v1.00000000.AAAA", "v1.{key}.ü"])
def test_what_is_no_sealed_value_does_not_open(value: str) -> None:
    with pytest.raises(CannotOpen):
        Vault([OLD]).open(value.format(key=key_id(OLD)), PLACE)


def test_the_first_key_seals_and_all_open() -> None:
    sealed_before = Vault([OLD]).seal("token", PLACE)
    both = Vault([NEW, OLD])
    assert both.open(sealed_before, PLACE) == "token"
    assert not both.is_current(sealed_before)
    sealed_now = both.seal("token", PLACE)
    assert both.is_current(sealed_now)
    assert Vault([NEW]).open(sealed_now, PLACE) == "token"


def test_a_missing_key_is_named() -> None:
    sealed = Vault([OLD]).seal("token", PLACE)
    with pytest.raises(CannotOpen, match=key_id(OLD)):
        Vault([NEW]).open(sealed, PLACE)


def test_the_id_of_a_key_tells_nothing_of_it() -> None:
    assert key_id(OLD) != key_id(NEW)
    assert len(key_id(OLD)) == 8


def test_a_row_seals_only_once_it_has_its_public_id() -> None:
    vault = Vault([OLD])
    with pytest.raises(ValueError, match="public_id"):
        Partner().seal(vault, "consumer_key_sealed", "key")
    partner = Partner(public_id=new_public_id())
    partner.seal(vault, "consumer_key_sealed", "key")
    assert partner.unseal(vault, "consumer_key_sealed") == "key"
    partner.seal(vault, "consumer_key_sealed", None)
    assert partner.consumer_key_sealed is None
