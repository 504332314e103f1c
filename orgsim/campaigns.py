"""Campaigns and their members: a contact, a lead, both (a converted lead) or an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orgsim.org import Org

REFERENCE_OF = {"003": "ContactId", "00Q": "LeadId", "001": "AccountId"}


class Campaigns:
    def __init__(self, org: Org) -> None:
        self._org = org

    def add(self, owner_id: str, name: str, *, active: bool = True, **fields: Any) -> str:
        sobject = self._org.schema["Campaign"]
        values = {**self._org.columns(sobject, fields), "Name": name, "OwnerId": owner_id, "IsActive": int(active)}
        return self._org.records.insert(sobject, {"NumberOfContacts": 0, "NumberOfLeads": 0, **values}, owner_id)

    def change(self, campaign_id: str, **fields: Any) -> None:
        self._org.records.change(campaign_id, self._org.columns(self._org.schema["Campaign"], fields))

    def delete(self, campaign_id: str) -> None:
        """Delete a campaign for good, with its members."""
        for member in self._members('"CampaignId" = ?', [campaign_id]):
            self._org.records.purge(member["Id"])
        self._org.records.purge(campaign_id)

    def add_members(self, campaign_id: str, people: list[str], status: str) -> list[str]:
        """Return the Ids of the new members; a person who is one already is left out."""
        with self._org.store.transaction():
            known = {
                one[reference]
                for one in self._members('"CampaignId" = ?', [campaign_id])
                for reference in REFERENCE_OF.values()
            }
            new = [each for each in people if each not in known]
            sobject, now = self._org.schema["CampaignMember"], self._org.clock.seconds()
            columns = [
                *REFERENCE_OF.values(),
                "CampaignId",
                "Status",
                "CreatedDate",
                "LastModifiedDate",
                "SystemModstamp",
            ]
            rows = []
            for each in new:
                references = dict.fromkeys(REFERENCE_OF.values())
                person = self._org.records.get(each)
                references[REFERENCE_OF[each[:3]]] = each
                references["ContactId"] = references["ContactId"] or person.get("ConvertedContactId")
                rows.append([*references.values(), campaign_id, status, now, now, now])
            made = self._org.records.insert_many(sobject, columns, rows)
            self._count(campaign_id)
        return made

    def remove_member(self, campaign_id: str, person_id: str) -> None:
        """Remove a person from a campaign, for good: members have no Recycle Bin. ValueError if it is no member."""
        where = f'"CampaignId" = ? AND "{REFERENCE_OF[person_id[:3]]}" = ?'
        found = self._members(where, [campaign_id, person_id])
        if not found:
            raise ValueError(f"{person_id} is no member of {campaign_id}")
        for member in found:
            self._org.records.purge(member["Id"])
        self._count(campaign_id)

    def members(self, campaign_id: str) -> list[dict[str, Any]]:
        return self._members('"CampaignId" = ?', [campaign_id])

    def follow_conversion(self, lead_id: str, contact_id: str) -> None:
        """Let the memberships of a converted lead have its contact too."""
        self._repoint('"LeadId" = ?', lead_id, contact_id)

    def follow_merge(self, winner_id: str, loser_ids: list[str]) -> None:
        """Give the memberships of merged contacts to the winner, who may then have two in a campaign."""
        for loser_id in loser_ids:
            self._repoint('"ContactId" = ?', loser_id, winner_id)

    def _repoint(self, where: str, old_id: str, contact_id: str) -> None:
        if contact_id.startswith("003"):
            self._org.store.execute(
                f'UPDATE "sf_CampaignMember_rows" SET "ContactId" = ?, "SystemModstamp" = ? WHERE {where}',
                (contact_id, self._org.clock.seconds(), old_id),
            )

    def _members(self, where: str, values: list[str]) -> list[dict[str, Any]]:
        return list(self._org.store.records(self._org.schema["CampaignMember"], where, values))

    def _count(self, campaign_id: str) -> None:
        kinds = [member["Type"] for member in self.members(campaign_id)]
        counts = {"NumberOfContacts": kinds.count("Contact"), "NumberOfLeads": kinds.count("Lead")}
        self._org.records.change(campaign_id, counts)
