"""A fake token source for tests of the Salesforce client."""

from __future__ import annotations

ORIGIN = "https://northgate.my.salesforce.com"


class Tokens:
    """A TokenSource that returns the tokens it was given, and records each request for a new one."""

    def __init__(self, instance_url: str = ORIGIN, access_token: str = "old-token", fresh: str = "new-token") -> None:
        self.instance_url = instance_url
        self.current = access_token
        self.fresh = fresh
        self.moves_to: str | None = None
        self.stale: list[str] = []

    def access_token(self) -> str:
        return self.current

    def refresh(self, stale: str) -> str:
        self.stale.append(stale)
        self.current = self.fresh
        self.instance_url = self.moves_to or self.instance_url
        return self.current
