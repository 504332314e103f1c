"""The state of an advisor's connection: exactly one, the first that applies.

Order and names are those of DESIGN.md, "Rules: connecting" 2. The panel, the firm's board, Leads and Contacts use it.
"""

from __future__ import annotations

from datetime import datetime

from asapp.messages.states import AdvisorState
from asapp.models import Connection, Partner


def state_of(
    partner: Partner | None,
    connection: Connection | None,
    now: datetime,
    *,
    is_syncing: bool = False,
    waits_for_admin: bool = False,
    held: int = 0,
) -> AdvisorState:
    """Return the state. Arguments that a page doesn't need may be left out; then the states that depend on them don't
    occur.

    connection: the current one, or the one disconnected last. is_syncing: it has an active run. waits_for_admin: its last
    run failed, and only the firm's Salesforce admin can fix that. held: contacts that an approval would make inactive.
    """
    is_connected = connection is not None and not connection.is_disconnected
    questions: tuple[tuple[AdvisorState, bool], ...] = (
        (AdvisorState.NOT_SET_UP, partner is None or not partner.is_ready),
        (AdvisorState.NEEDS_RECONNECT, connection is not None and connection.needs_reconnect),
        (AdvisorState.SYNCING, is_connected and is_syncing),
        (AdvisorState.WAITING_FOR_ADMIN, is_connected and waits_for_admin),
        (AdvisorState.HELD, is_connected and held > 0),
        (AdvisorState.PAUSED, is_connected and partner is not None and partner.is_paused(now)),
        (AdvisorState.CONNECTED, is_connected),
        (AdvisorState.DISCONNECTED, connection is not None),
    )
    return next((state for state, is_true in questions if is_true), AdvisorState.READY)
