"""Links in mails, as their recipients have them."""

from __future__ import annotations

from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.unsubscribe_links import LinkMaker, link_key
from asapp.core.extensions import db
from asapp.models import User
from tests.factories import org_access


def path_of_link(advisor: User, email: str) -> str:
    """Return the path of the link in a mail from this advisor to this address."""
    partner, vault = advisor.partner, org_access().vault
    assert partner is not None
    hashed = address_hash(email, address_key(db.session(), partner, vault))
    return LinkMaker(partner, advisor, link_key(db.session(), partner, vault), "").url(hashed)
