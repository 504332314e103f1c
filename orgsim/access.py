"""Who may see and do what: profiles, field-level security, object permissions, sharing.

A profile is a name. "System Administrator" sees every field and every record. A restriction names a profile or a user; without
either it applies to all users except System Administrators.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from orgsim.schema import Field, Schema, SObject

ADMIN = "System Administrator"
STANDARD = "Standard User"
SHARED = frozenset({"Contact", "Individual", "Lead"})  # objects with sharing; everybody sees the records of the others
RIGHTS = ("read", "create", "edit", "delete")


class Viewer(Protocol):
    """A user, as far as permissions go."""

    @property
    def id(self) -> str: ...

    @property
    def profile(self) -> str: ...


class Sharing(Protocol):
    """The org-wide defaults: "ReadWrite" or "Private"."""

    @property
    def contact_access(self) -> str: ...

    @property
    def lead_access(self) -> str: ...

    @property
    def campaign_access(self) -> str: ...

    @property
    def members_follow(self) -> str: ...

    @property
    def individual_access(self) -> str: ...


@dataclass(frozen=True)
class AppliesTo:
    """The users that a restriction applies to: one, those of a profile, or all but System Administrators."""

    profile: str | None = None
    user_id: str | None = None

    def includes(self, viewer: Viewer) -> bool:
        if self.user_id is not None:
            return viewer.id == self.user_id
        if self.profile is not None:
            return viewer.profile == self.profile
        return viewer.profile != ADMIN


@dataclass
class Permissions:
    """Restrictions of one org. Without any, users may see and do everything that sharing allows."""

    hidden: set[tuple[str, str, AppliesTo]] = field(default_factory=set)
    locked: set[tuple[str, str, AppliesTo]] = field(default_factory=set)
    denied: set[tuple[str, str, AppliesTo]] = field(default_factory=set)

    def is_hidden(self, viewer: Viewer, sobject: str, name: str) -> bool:
        return any(o == sobject and f == name and applies_to.includes(viewer) for o, f, applies_to in self.hidden)

    def is_locked(self, viewer: Viewer, sobject: str, name: str) -> bool:
        return any(o == sobject and f == name and applies_to.includes(viewer) for o, f, applies_to in self.locked)

    def may(self, viewer: Viewer, right: str, sobject: str) -> bool:
        rights = {right, "read"}
        return not any(o == sobject and r in rights and applies_to.includes(viewer) for o, r, applies_to in self.denied)


class UserAccess:
    """What one user sees of the schema and the records; the compiler's Access."""

    def __init__(self, viewer: Viewer, schema: Schema, permissions: Permissions, sharing: Sharing) -> None:
        self._viewer = viewer
        self._schema = schema
        self._permissions = permissions
        self._sharing = sharing

    @property
    def user_id(self) -> str:
        return self._viewer.id

    @property
    def is_admin(self) -> bool:
        return self._viewer.profile == ADMIN

    def may(self, right: str, sobject: SObject) -> bool:
        return self._permissions.may(self._viewer, right, sobject.name)

    def find_object(self, name: str) -> SObject | None:
        found = self._schema.find(name)
        return found if found and self.may("read", found) else None

    def find_field(self, sobject: SObject, name: str) -> Field | None:
        found = sobject.find(name)
        if found and self._permissions.is_hidden(self._viewer, sobject.name, found.name):
            return None
        return found

    def visible_fields(self, sobject: SObject) -> list[Field]:
        return [f for f in sobject.fields if self.find_field(sobject, f.name)]

    def is_writable(self, sobject: SObject, one: Field) -> bool:
        return not self._permissions.is_locked(self._viewer, sobject.name, one.name)

    def _is_private(self, sobject: SObject) -> bool:
        levels = {"Lead": self._sharing.lead_access, "Individual": self._sharing.individual_access}
        return levels.get(sobject.name, self._sharing.contact_access) == "Private"

    def row_filter(self, sobject: SObject, alias: str) -> tuple[str, list[Any]]:
        """Return the condition for the rows that the user sees, and its values. A contact without an account is private."""
        if self.is_admin:
            return "", []
        if sobject.name == "Campaign":
            return (
                (f'{alias}."OwnerId" = ?', [self.user_id]) if self._sharing.campaign_access == "Private" else ("", [])
            )
        if sobject.name == "CampaignMember":
            return self._member_filter(alias)
        if sobject.name not in SHARED:
            return "", []
        if self._is_private(sobject):
            return f'{alias}._restricted = 0 AND {alias}."OwnerId" = ?', [self.user_id]
        if sobject.name != "Contact":
            return f"{alias}._restricted = 0", []
        owned = f'({alias}."AccountId" IS NOT NULL OR {alias}."OwnerId" = ?)'
        return f"{alias}._restricted = 0 AND {owned}", [self.user_id]

    def _member_filter(self, alias: str) -> tuple[str, list[Any]]:
        """Return the condition for the campaign members that the user sees: by their campaign, or by their person."""
        follow = {"campaign": ("Campaign", "CampaignId"), "person": ("Contact", "ContactId")}[
            self._sharing.members_follow
        ]
        name, reference = follow
        visible, values = self.row_filter(self._schema[name], "o")
        if not visible:
            return "", []
        seen = f'EXISTS (SELECT 1 FROM "sf_{name}" AS o WHERE o."Id" = {alias}."{reference}" AND {visible})'
        return (f'({seen} OR {alias}."ContactId" IS NULL)' if name == "Contact" else seen), values

    def sees(self, sobject: SObject, record: dict[str, Any]) -> bool:
        """Return whether the user sees this record, as stored."""
        if self.is_admin:
            return True
        if sobject.name == "Campaign":
            return self._sharing.campaign_access != "Private" or bool(record["OwnerId"] == self.user_id)
        if sobject.name not in SHARED:
            return True
        if record["_restricted"]:
            return False
        if self._is_private(sobject) or (sobject.name == "Contact" and record["AccountId"] is None):
            return bool(record["OwnerId"] == self.user_id)
        return True

    def owns(self, record: dict[str, Any]) -> bool:
        """Return whether the user may delete the record or change its owner: only the owner and admins may, despite sharing."""
        return self.is_admin or bool(record["OwnerId"] == self.user_id)
