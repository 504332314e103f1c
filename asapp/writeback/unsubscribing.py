"""Stores what a person told us, and the records that Salesforce has to be told about, in one transaction.

The only way in for unsubscribes and events: what contacts/suppressions.py stores by itself tells Salesforce nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from asapp.contacts import suppressions
from asapp.contacts.suppressions import UNDO_WITHIN, Address, Happened
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import SuppressionSource, SuppressionStep
from asapp.writeback import outbox
from asapp.writeback.outbox import Enqueue

TOLD_OF = (SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED)


def unsubscribe(address: Address, source: SuppressionSource, *, whole_firm: bool, vault: Vault) -> None:
    """Store that a person wants no more mail from this advisor, or from everybody at the firm. Repeatable. Commits.

    Salesforce is told once the person can no longer undo it.
    """
    stopped = suppressions.store_unsubscribe(address, source, whole_firm=whole_firm, vault=vault)
    outbox.add_for(stopped, UNDO_WITHIN)
    db.session.commit()


def record(happened: Collection[Happened], enqueue: Enqueue) -> list[Happened]:
    """Store what happened and derive what holds now; return what of it was new.

    A sender's own id counts once for an advisor. A time in the future becomes now. Commits, and enqueues a delivery for each
    connection that has something to tell.
    """
    new = suppressions.store(happened)
    connection_ids = outbox.add_for({each.address for each in happened if each.step in TOLD_OF})
    db.session.commit()
    if connection_ids:
        enqueue(sorted(connection_ids))
    return new
