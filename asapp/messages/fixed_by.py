"""Who can fix what went wrong: stated beside the words of each error, so that no page has to infer it from a text."""

from __future__ import annotations

from enum import StrEnum


class FixedBy(StrEnum):
    NOBODY = "nobody"  # it passes by itself
    ADVISOR = "advisor"
    FIRM_ADMIN = "firm_admin"  # the firm's Salesforce admin
    ADVISORSTREAM = "advisorstream"
    SALESFORCE = "salesforce"
