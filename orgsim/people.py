"""The org's users and queues."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from orgsim.access import STANDARD
from orgsim.records import Records
from orgsim.schema import Schema


@dataclass
class User:
    """A person who can log in. Frozen ones keep their records but get no session."""

    id: str
    name: str
    username: str
    password: str
    email: str
    profile: str = STANDARD
    active: bool = True
    frozen: bool = False
    api_enabled: bool = True

    @property
    def can_log_in(self) -> bool:
        return self.active and not self.frozen

    @property
    def first_name(self) -> str | None:
        return self.name.rpartition(" ")[0] or None

    @property
    def last_name(self) -> str:
        return self.name.rpartition(" ")[2]

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "username": self.username,
            "email": self.email,
            "profile": self.profile,
            "active": self.active,
            "frozen": self.frozen,
            "api_enabled": self.api_enabled,
        }


class People:
    """Users by id and username, copied into the store for SOQL."""

    def __init__(self, records: Records, schema: Schema) -> None:
        self._records = records
        self._schema = schema
        self.users: dict[str, User] = {}
        self.queues: dict[str, str] = {}

    def add(
        self, name: str, username: str | None, password: str, email: str | None, profile: str, *, active: bool
    ) -> User:
        username = username or f"{_plain(name)}@northgate.example"
        if self.find_username(username):
            raise ValueError(f"Duplicate Username: {username}")
        user_id = self._records.new_ids(self._schema["User"], 1)[0]
        user = User(user_id, name, username, password, email or username, profile, active)
        self.users[user_id] = user
        self._records.insert(self._schema["User"], _columns(user), None, record_id=user_id)
        return user

    def change(self, user_id: str, **changes: Any) -> User:
        user = self.users[user_id]
        for name, value in changes.items():
            if name == "id" or name not in User.__dataclass_fields__:
                raise ValueError(f"a user has no {name}")
            setattr(user, name, value)
        self._records.change(user_id, _columns(user))
        return user

    def add_queue(self, name: str) -> str:
        queue_id = self._records.insert(self._schema["Group"], {"Name": name, "Type": "Queue"}, None)
        self.queues[queue_id] = name
        return queue_id

    def find_username(self, username: str) -> User | None:
        wanted = username.strip().lower()
        return next((u for u in self.users.values() if u.username.lower() == wanted), None)

    def name_of(self, owner_id: str) -> str:
        user = self.users.get(owner_id)
        return user.name if user else self.queues.get(owner_id, owner_id)


def _columns(user: User) -> dict[str, Any]:
    return {
        "Username": user.username,
        "FirstName": user.first_name,
        "LastName": user.last_name,
        "Email": user.email,
        "Alias": _plain(user.name)[:8],
        "IsActive": int(user.active),
        "UserType": "Standard",
    }


def _plain(name: str) -> str:
    """Return the letters of a name that may stand in an address."""
    decomposed = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(c for c in decomposed.lower().replace(" ", ".") if c.isalnum() or c == ".") or "user"
