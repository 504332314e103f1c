"""What connecting needs of the configuration, handed in by whoever calls."""

from __future__ import annotations

from dataclasses import dataclass

from asapp.core.vault import Vault
from asapp.models import Partner
from asapp.salesforce.oauth import App


@dataclass(frozen=True)
class ConnectSettings:
    vault: Vault
    callback_url: str = ""  # only the log-in itself needs it
    allow_loopback: bool = False

    def app_of(self, partner: Partner) -> App:
        """Return the firm's app; raise CannotOpen where its key or secret can't be read."""
        return App(
            salesforce_url=partner.salesforce_url,
            callback_url=self.callback_url,
            consumer_key=partner.unseal(self.vault, "consumer_key_sealed"),
            consumer_secret=partner.unseal(self.vault, "consumer_secret_sealed"),
            allow_loopback=self.allow_loopback,
        )
