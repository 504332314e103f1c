"""What an org's admin, Salesforce's operators or the weather can change while the org runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Settings:
    """Every field may be changed at any time (`Org.change_settings`)."""

    # Queries. page_sizes: the most rows the server puts on a page, one number or several taken in turn (200 to 2000);
    # wide_page_size: the same once a 32,000-character field is selected.
    page_sizes: int | list[int] = 2000
    wide_page_size: int = 1000
    locator_seconds: int = 2 * 24 * 3600
    locators_per_user: int = 10

    # Sharing: "ReadWrite" or "Private".
    contact_access: str = "ReadWrite"
    lead_access: str = "ReadWrite"

    # Sessions and OAuth. instance_url None: the address of the request. login_url: the host in `id` and `sub`.
    instance_url: str | None = None
    login_url: str | None = None
    session_minutes: float = 120
    code_minutes: float = 15
    jwt_tokens: bool = False
    approvals_per_user: int = 5
    same_token_seconds: int = 0
    state_on_error: bool = True
    id_on_own_host: bool = False

    # Allowance. limit_info: "plain", "absent", or "stepping" (lags behind and steps back, as recorded).
    api_limit: int = 100_000
    api_overage: int = 0
    limit_info: str = "plain"
    limits_for_admins: bool = False  # GET /limits needs "View Setup and Configuration" in some orgs
    gzip: bool = False

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
