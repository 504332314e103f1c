"""Texts for a firm's Salesforce admin name the field that the firm has chosen, as its Salesforce calls it."""

from __future__ import annotations

import pytest

from asapp.messages import runs as sync_words
from asapp.messages.leads import trouble_of

OWN, STANDARD = "Do_Not_Email__c", "HasOptedOutOfEmail"


@pytest.mark.parametrize("code", ["lead_opt_out_hidden", "opt_out_hidden"])
def test_the_text_about_leads_names_the_firms_own_field(code: str) -> None:
    own, standard = trouble_of(code, OWN), trouble_of(code, STANDARD)
    assert own
    assert standard
    assert OWN in own[1]
    assert "Email Opt Out" not in own[1]
    assert "Email Opt Out (HasOptedOutOfEmail)" in standard[1]


def test_no_trouble_has_no_words() -> None:
    assert trouble_of(None, OWN) is None
    assert trouble_of("leads_hidden", OWN)
    assert trouble_of("something else", OWN) == ("Salesforce doesn't let us see what becomes of your leads.", "")


def test_the_text_about_contacts_names_the_firms_own_field() -> None:
    own = sync_words.explain("opt_out_hidden", sync_words.About("Northgate", "amara@northgate.example", OWN))
    assert f"› {OWN} ›" in own.forward
    assert "Email Opt Out" not in own.happened + own.forward
    standard = sync_words.explain("opt_out_hidden", sync_words.About("Northgate", "amara@northgate.example", STANDARD))
    assert "HasOptedOutOfEmail (Email Opt Out)" in standard.forward
