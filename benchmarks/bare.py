"""The least that a page for a logged-in user can cost: Flask, flask-login, the user loaded by SQLAlchemy."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from flask_login import LoginManager, UserMixin, login_required
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = Flask("bare")
app.secret_key = os.environ["SECRET_KEY"]
login_manager = LoginManager(app)
engine = create_engine(os.environ["DATABASE_URL"])


@event.listens_for(engine, "connect")
def on_connect(connection: Any, _record: Any) -> None:
    if engine.dialect.name == "sqlite":
        connection.execute("PRAGMA journal_mode=WAL")


class Base(DeclarativeBase):
    pass


class User(UserMixin, Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    session_nonce: Mapped[str]


@login_manager.user_loader
def load_user(session_id: str) -> User | None:
    user_id, _, nonce = session_id.partition(".")
    with Session(engine, expire_on_commit=False) as session:
        user = session.get(User, int(user_id))
    return user if user is not None and user.session_nonce == nonce else None


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.get("/settings/integrations/salesforce")
@login_required
def page() -> str:
    return "<p>Here you are.</p>"
