"""The words of a sync run. Why one failed is in messages/failures.py."""

from __future__ import annotations

from collections.abc import Mapping

from asapp.models.run import StopReason

STOPPED: Mapping[str, str] = {
    StopReason.DISCONNECTED: "Your account was disconnected while it was going on. What had been read stays.",
    StopReason.FIRM_DISABLED: "Salesforce was switched off for {firm} while it was going on. What had been read stays. The next "
    "sync, once it is on again, reads the rest.",
    StopReason.ADVISOR_INACTIVE: "Your account here was switched off while it was going on. What had been read stays.",
}


def explain_stop(code: str | None, firm: str) -> str:
    """Say why a run was cancelled. code: a key of STOPPED; None: the advisor pressed Cancel."""
    return STOPPED.get(code or "", "What had been read stays. The next sync reads the rest.").format(firm=firm)
