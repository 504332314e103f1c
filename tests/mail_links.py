"""Links of mails, as the recipient has them, and events as the sender reports them, where no job is enqueued."""

from __future__ import annotations

from collections.abc import Collection

from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.suppressions import Happened
from asapp.contacts.unsubscribe_links import LinkMaker, link_key
from asapp.core.extensions import db
from asapp.models import User
from asapp.writeback import unsubscribing
from tests.factories import org_access


def path_of_link(advisor: User, email: str) -> str:
    """Return the path of the link in a mail from this advisor to this address."""
    partner, vault = advisor.partner, org_access().vault
    assert partner is not None
    hashed = address_hash(email, address_key(db.session(), partner, vault))
    return LinkMaker(partner, advisor, link_key(db.session(), partner, vault), "").url(hashed)


def record(happened: Collection[Happened]) -> list[Happened]:
    """Store what happened as an event of the sender's does."""
    return unsubscribing.record(happened, enqueue=lambda connection_ids: None)
