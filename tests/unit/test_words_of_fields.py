"""Texts for a firm's Salesforce admin name the field that the firm has chosen, as its Salesforce calls it."""

from __future__ import annotations

import pytest

from asapp.messages.failures import Facts, Occasion, explain

OWN, STANDARD = "Do_Not_Email__c", "HasOptedOutOfEmail"


@pytest.mark.parametrize("code", ["lead_opt_out_hidden", "opt_out_hidden"])
def test_the_text_about_leads_names_the_firms_own_field(code: str) -> None:
    own = explain(Occasion.LEADS_UNFOLLOWED, code, Facts(opt_out_field=OWN))
    standard = explain(Occasion.LEADS_UNFOLLOWED, code, Facts(opt_out_field=STANDARD))
    assert OWN in own.forward
    assert "Email Opt Out" not in own.forward
    assert "Email Opt Out (HasOptedOutOfEmail)" in standard.forward


def test_the_text_about_contacts_names_the_firms_own_field() -> None:
    own = explain(Occasion.SYNC, "opt_out_hidden", Facts("Northgate", "amara@northgate.example", opt_out_field=OWN))
    assert f"› {OWN} ›" in own.forward
    assert "Email Opt Out" not in own.happened + own.forward
    standard = explain(Occasion.SYNC, "opt_out_hidden", Facts("Northgate", "amara@x.example", opt_out_field=STANDARD))
    assert "HasOptedOutOfEmail (Email Opt Out)" in standard.forward
