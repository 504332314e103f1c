"""The states of an advisor's connection, and how each looks. connections/state.py decides which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class AdvisorState(StrEnum):
    NOT_SET_UP = "not_set_up"
    NEEDS_RECONNECT = "needs_reconnect"
    SYNCING = "syncing"
    WAITING_FOR_ADMIN = "waiting_for_admin"
    HELD = "held"
    PAUSED = "paused"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    READY = "ready"


class Tone(StrEnum):
    """How a state looks; each has a shape and a word beside its colour."""

    PLAIN = ""
    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"


PILLS: Mapping[AdvisorState, tuple[Tone, str]] = {
    AdvisorState.NOT_SET_UP: (Tone.PLAIN, "Not available yet"),
    AdvisorState.NEEDS_RECONNECT: (Tone.WARN, "Needs reconnecting"),
    AdvisorState.SYNCING: (Tone.BUSY, "Syncing"),
    AdvisorState.WAITING_FOR_ADMIN: (Tone.BAD, "Waiting for your admin"),
    AdvisorState.HELD: (Tone.WARN, "Held for approval"),
    AdvisorState.PAUSED: (Tone.WARN, "Paused"),
    AdvisorState.CONNECTED: (Tone.GOOD, "Connected"),
    AdvisorState.DISCONNECTED: (Tone.PLAIN, "Disconnected"),
    AdvisorState.READY: (Tone.PLAIN, "Ready to connect"),
}
# For admins, on the firm board and in the list of a firm's advisors.
PILLS_FOR_ADMINS: Mapping[AdvisorState, tuple[Tone, str]] = {
    AdvisorState.NOT_SET_UP: (Tone.PLAIN, "Firm not set up"),
    AdvisorState.NEEDS_RECONNECT: (Tone.WARN, "Needs reconnecting"),
    AdvisorState.SYNCING: (Tone.BUSY, "Syncing"),
    AdvisorState.WAITING_FOR_ADMIN: (Tone.BAD, "Waiting for the firm's admin"),
    AdvisorState.HELD: (Tone.WARN, "Held"),
    AdvisorState.PAUSED: (Tone.WARN, "Paused"),
    AdvisorState.CONNECTED: (Tone.GOOD, "Connected"),
    AdvisorState.DISCONNECTED: (Tone.PLAIN, "Disconnected"),
    AdvisorState.READY: (Tone.PLAIN, "Not connected"),
}
DEACTIVATED = (Tone.PLAIN, "Deactivated")
INVITED = (Tone.WARN, "Invited")
