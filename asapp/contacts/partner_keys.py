"""A firm's own random keys, one for each purpose, stored sealed: what they made stays valid when ENCRYPTION_KEYS rotate."""

from __future__ import annotations

import secrets

from sqlalchemy import update
from sqlalchemy.orm import InstrumentedAttribute, Session

from asapp.core.database import writing
from asapp.core.vault import Vault
from asapp.models import Partner


def partner_key(session: Session, partner: Partner, vault: Vault, column: InstrumentedAttribute[str | None]) -> bytes:
    """Return the 32-byte key that is sealed in this column of the partner; the first call creates and commits it."""
    name = column.key
    if getattr(partner, name) is None:
        partner_id, made = partner.id, Partner(public_id=partner.public_id)
        made.seal(vault, name, secrets.token_hex(32))
        session.commit()
        with writing():
            session.execute(
                update(Partner).where(Partner.id == partner_id, column.is_(None)).values({name: getattr(made, name)})
            )
            session.commit()
        session.refresh(partner)
    return bytes.fromhex(partner.unseal(vault, name))
