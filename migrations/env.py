"""Alembic within the application: it uses the app's own database and metadata."""

from __future__ import annotations

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import MetaData

from asapp.core.database import Base, UTCDateTime, writing

metadata: MetaData = Base.metadata


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our column type by its plain SQLAlchemy name, so that a migration never depends on the application."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    engine = current_app.extensions["migrate"].db.engine
    with writing(), engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_item=render_item,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
