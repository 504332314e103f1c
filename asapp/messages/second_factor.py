"""What the mail about a changed second step says."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class FactorChange(StrEnum):
    """What a person changed about their own second step."""

    APP_SET_UP = "app_set_up"
    APP_ADDED = "app_added"
    PASSKEY_SET_UP = "passkey_set_up"
    CODES_RENEWED = "codes_renewed"
    TURNED_OFF = "turned_off"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"


FACTOR_CHANGES: Mapping[FactorChange, str] = {
    FactorChange.APP_SET_UP: "an authenticator app was set up, with ten new recovery codes",
    FactorChange.APP_ADDED: "an authenticator app was set up beside your passkeys",
    FactorChange.PASSKEY_SET_UP: "it was turned on with a passkey, and ten recovery codes were made",
    FactorChange.CODES_RENEWED: "new recovery codes were made, and the earlier ones no longer work",
    FactorChange.TURNED_OFF: "it was turned off, and your password alone logs you in",
    FactorChange.PASSKEY_ADDED: "a passkey was added",
    FactorChange.PASSKEY_REMOVED: "a passkey was removed",
}
