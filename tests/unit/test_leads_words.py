"""The text of a waiting lead."""

from __future__ import annotations

import pytest

from asapp.leads.delivery import LEAD_RULES
from asapp.messages.failures import Facts, FixedBy, Occasion, explain
from asapp.salesforce.errors import DATA_ERRORS, DATA_STATUSES, TOKEN_ERRORS, Misconfigured

SORTED = (*DATA_ERRORS.values(), *DATA_STATUSES.values(), *TOKEN_ERRORS.values())
OUT_OF_TABLE = {"api_access_blocked", "foreign_host", "key_missing", "field_encrypted"}
CODES = {row.code for row in SORTED if issubclass(row.kind, Misconfigured)} | OUT_OF_TABLE


@pytest.mark.parametrize("code", sorted(CODES - LEAD_RULES))
def test_a_wrong_set_up_names_the_person_who_fixes_it(code: str) -> None:
    wait = explain(Occasion.LEAD_WAITS, code, Facts())
    who = {FixedBy.ADVISORSTREAM: "AdvisorStream's team", FixedBy.FIRM_ADMIN: "Salesforce admin"}
    assert who[wait.fixed_by] in wait.do_next
    assert "goes out by itself" in wait.do_next


@pytest.mark.parametrize("code", sorted(LEAD_RULES))
def test_what_the_firms_rules_for_leads_refuse_can_be_retried(code: str) -> None:
    assert "Retry" in explain(Occasion.LEAD_REFUSED, code, Facts()).do_next
