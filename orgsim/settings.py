"""The settings of an org that can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Settings:
    """Every field may be changed at any time (`Org.change_settings`)."""

    # The most rows that the server puts on a page of a query: one number or several taken in turn (200 to 2000).
    page_sizes: int | list[int] = 2000

    # Sharing: "ReadWrite" or "Private".
    contact_access: str = "ReadWrite"
    lead_access: str = "ReadWrite"
    campaign_access: str = "ReadWrite"
    members_follow: str = "campaign"  # who sees a campaign's members: who sees the "campaign", or who sees the "person"

    # List views on a page of /listviews, if the request names no pageSize.
    list_views_a_page: int = 2000
    list_views_closed: bool = False  # then none is SOQL compatible
    individual_access: str = "ReadWrite"  # of consent records, once the org has them

    # Sessions and OAuth. instance_url None: the address of the request.
    instance_url: str | None = None
    # How data calls at another host than instance_url's are answered: "404", "420", "redirect", "reset" or "hang". None: as
    # at instance_url's.
    old_host: str | None = None
    session_minutes: float = 120
    state_on_error: bool = True

    api_warning: str | None = None  # a text of the header Warning, as of an API version that will end

    # Allowance. limit_info: "plain", "absent", or "stepping" (lags behind and steps back, as recorded).
    api_limit: int = 100_000
    limit_info: str = "plain"

    # Rules of the firm's admin, see rules.py: lists of dicts, so that they travel as JSON.
    validation_rules: list[dict[str, Any]] = field(default_factory=list)
    duplicate_rules: list[dict[str, Any]] = field(default_factory=list)
    required_fields: dict[str, list[str]] = field(default_factory=dict)
    restricted_picklists: bool = False
    refusals: list[dict[str, Any]] = field(default_factory=list)
    lead_queue: str | None = None

    def change(self, **changes: Any) -> None:
        for name, value in changes.items():
            if name not in self.__dataclass_fields__:
                raise ValueError(f"no setting is called {name}")
            setattr(self, name, value)
