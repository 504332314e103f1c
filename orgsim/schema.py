"""The objects and fields of the org, as describe shows them to an admin.

Column names in the store are the API names. Lengths, labels and flags follow recorded describes of Contact and Lead.
There is no field HasEmailOptOut; "Email Opt Out" is HasOptedOutOfEmail.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

LEAD_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
LEAD_STATUSES = ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")

_SOAP = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "datetime": "xsd:dateTime",
    "date": "xsd:date",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
}


@dataclass(frozen=True)
class Field:
    """One field. `kind` is Salesforce's type; `sql` an expression for computed ones; `editable` = create and update."""

    name: str
    label: str
    kind: str = "string"
    length: int = 0
    nillable: bool = True
    creatable: bool = True
    updatable: bool = True
    permissionable: bool = True
    defaulted: bool = False
    id_lookup: bool = False
    refers_to: tuple[str, ...] = ()
    relationship: str | None = None
    values: tuple[str, ...] = ()
    default_value: str | None = None
    sql: str | None = None
    encrypted: bool = False  # at rest, by the probabilistic scheme: it can be read and written, but not filtered by

    @property
    def is_long(self) -> bool:
        return self.kind == "textarea" and self.length > 255

    @property
    def filterable(self) -> bool:
        return not self.is_long and not self.encrypted

    @property
    def sortable(self) -> bool:
        return self.filterable

    @property
    def is_text(self) -> bool:
        return self.kind in TEXT_KINDS

    @property
    def is_polymorphic(self) -> bool:
        return len(self.refers_to) > 1


TEXT_KINDS = frozenset({"string", "textarea", "email", "phone", "url", "picklist"})
ID_KINDS = frozenset({"id", "reference"})


@dataclass(frozen=True)
class SObject:
    """One object. `table` is what the store reads; `scopes` lists what USING SCOPE accepts.

    `joined` is the SQL of a view over the stored rows, for an object that shows copies of other records' fields; `copies` are the
    fields that only the view has.
    """

    name: str
    label: str
    plural: str
    prefix: str
    fields: tuple[Field, ...]
    writable: bool = True
    scopes: tuple[str, ...] = ("everything",)
    joined: str = ""
    copies: frozenset[str] = frozenset()
    by_lower: dict[str, Field] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self.by_lower.update({f.name.lower(): f for f in self.fields})

    @property
    def table(self) -> str:
        return f"sf_{self.name}"

    @property
    def rows_table(self) -> str:
        """Return the table that is written to."""
        return f"{self.table}_rows" if self.joined else self.table

    @property
    def has_bin(self) -> bool:
        """Return whether deleted records go to the Recycle Bin."""
        return self.find("IsDeleted") is not None and not self.joined

    def find(self, name: str) -> Field | None:
        return self.by_lower.get(name.lower())

    def find_relationship(self, name: str) -> Field | None:
        wanted = name.lower()
        return next((f for f in self.fields if f.relationship and f.relationship.lower() == wanted), None)

    @property
    def stored(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.sql is None)


def _text(name: str, label: str, length: int, **more: Any) -> Field:
    return Field(name, label, "string", length, **more)


def _fixed(name: str, label: str, kind: str, **more: Any) -> Field:
    return Field(name, label, kind, creatable=False, updatable=False, permissionable=False, **more)


def _reference(name: str, label: str, to: tuple[str, ...], relationship: str, **more: Any) -> Field:
    return Field(name, label, "reference", 18, refers_to=to, relationship=relationship, **more)


def _audit() -> tuple[Field, ...]:
    locked: dict[str, Any] = {"nillable": False, "creatable": False, "updatable": False, "permissionable": False}
    return (
        _fixed("CreatedDate", "Created Date", "datetime", nillable=False, defaulted=True),
        _reference("CreatedById", "Created By ID", ("User",), "CreatedBy", **locked),
        _fixed("LastModifiedDate", "Last Modified Date", "datetime", nillable=False, defaulted=True),
        _reference("LastModifiedById", "Last Modified By ID", ("User",), "LastModifiedBy", **locked),
        _fixed("SystemModstamp", "System Modstamp", "datetime", nillable=False, defaulted=True),
        _fixed("LastActivityDate", "Last Activity", "date"),
        _fixed("LastViewedDate", "Last Viewed Date", "datetime"),
        _fixed("LastReferencedDate", "Last Referenced Date", "datetime"),
    )


def _head(label: str, name: str) -> tuple[Field, ...]:
    return (
        Field(
            "Id",
            f"{label} ID",
            "id",
            18,
            nillable=False,
            creatable=False,
            updatable=False,
            permissionable=False,
            defaulted=True,
            id_lookup=True,
        ),
        _fixed("IsDeleted", "Deleted", "boolean", nillable=False, defaulted=True),
        _reference(
            "MasterRecordId",
            "Master Record ID",
            (name,),
            "MasterRecord",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
    )


_NAME_SQL = """CASE WHEN "FirstName" IS NULL THEN "LastName" ELSE "FirstName" || ' ' || "LastName" END"""


def _person() -> tuple[Field, ...]:
    return (
        _text("LastName", "Last Name", 80, nillable=False, permissionable=False),
        _text("FirstName", "First Name", 40, permissionable=False),
        Field(
            "Salutation",
            "Salutation",
            "picklist",
            40,
            permissionable=False,
            values=("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx."),
        ),
        _text(
            "Name",
            "Full Name",
            121,
            nillable=False,
            creatable=False,
            updatable=False,
            permissionable=False,
            sql=_NAME_SQL,
        ),
    )


def _reachable() -> tuple[Field, ...]:
    return (
        Field("Phone", "Phone", "phone", 40),
        Field("Fax", "Fax", "phone", 40),
        Field("MobilePhone", "Mobile Phone", "phone", 40),
        Field("Email", "Email", "email", 80, id_lookup=True),
    )


def _tail() -> tuple[Field, ...]:
    return (
        _text("EmailBouncedReason", "Email Bounced Reason", 255, permissionable=False),
        Field("EmailBouncedDate", "Email Bounced Date", "datetime", permissionable=False),
        _text("Jigsaw", "Data.com Key", 20),
        _reference("IndividualId", "Individual ID", ("Individual",), "Individual", permissionable=False),
        Field("HasOptedOutOfEmail", "Email Opt Out", "boolean", nillable=False, defaulted=True),
        Field("DoNotCall", "Do Not Call", "boolean", nillable=False, defaulted=True),
    )


def _street(prefix: str) -> tuple[Field, ...]:
    label = f"{prefix} " if prefix else ""
    return (
        Field(f"{prefix}Street", f"{label}Street", "textarea", 255),
        _text(f"{prefix}City", f"{label}City", 40),
        _text(f"{prefix}State", f"{label}State/Province", 80),
        _text(f"{prefix}PostalCode", f"{label}Zip/Postal Code", 20),
        _text(f"{prefix}Country", f"{label}Country", 80),
    )


_CONTACT = SObject(
    "Contact",
    "Contact",
    "Contacts",
    "003",
    (
        *_head("Contact", "Contact"),
        _reference("AccountId", "Account ID", ("Account",), "Account"),
        *_person(),
        *_street("Other"),
        *_street("Mailing"),
        *_reachable(),
        Field("HomePhone", "Home Phone", "phone", 40),
        Field("OtherPhone", "Other Phone", "phone", 40),
        Field("AssistantPhone", "Asst. Phone", "phone", 40),
        _reference("ReportsToId", "Reports To ID", ("Contact",), "ReportsTo"),
        _text("Title", "Title", 128),
        _text("Department", "Department", 80),
        _text("AssistantName", "Assistant's Name", 40),
        Field("LeadSource", "Lead Source", "picklist", 255, values=LEAD_SOURCES),
        Field("Birthdate", "Birthdate", "date"),
        Field("Description", "Contact Description", "textarea", 32000),
        _reference("OwnerId", "Owner ID", ("User",), "Owner", nillable=False, defaulted=True, permissionable=False),
        *_audit(),
        *_tail(),
        _fixed(
            "IsEmailBounced",
            "Is Email Bounced",
            "boolean",
            nillable=False,
            defaulted=True,
            sql='("EmailBouncedDate" IS NOT NULL)',
        ),
    ),
    scopes=("delegated", "everything", "mine", "mru", "team"),
)

_LEAD = SObject(
    "Lead",
    "Lead",
    "Leads",
    "00Q",
    (
        *_head("Lead", "Lead"),
        *_person(),
        _text("Title", "Title", 128),
        _text("Company", "Company", 255, nillable=False, permissionable=False),
        *_street(""),
        *_reachable(),
        Field("Website", "Website", "url", 255),
        Field("Description", "Description", "textarea", 32000),
        Field("LeadSource", "Lead Source", "picklist", 255, values=LEAD_SOURCES),
        Field(
            "Status",
            "Status",
            "picklist",
            255,
            nillable=False,
            defaulted=True,
            permissionable=False,
            values=LEAD_STATUSES,
            default_value=LEAD_STATUSES[0],
        ),
        Field(
            "Industry", "Industry", "picklist", 255, values=("Banking", "Consulting", "Finance", "Insurance", "Other")
        ),
        Field("Rating", "Rating", "picklist", 255, values=("Hot", "Warm", "Cold")),
        Field("NumberOfEmployees", "Employees", "int"),
        _reference(
            "OwnerId", "Owner ID", ("Group", "User"), "Owner", nillable=False, defaulted=True, permissionable=False
        ),
        Field(
            "IsConverted", "Converted", "boolean", nillable=False, updatable=False, permissionable=False, defaulted=True
        ),
        _fixed("ConvertedDate", "Converted Date", "date"),
        _reference(
            "ConvertedAccountId",
            "Converted Account ID",
            ("Account",),
            "ConvertedAccount",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
        _reference(
            "ConvertedContactId",
            "Converted Contact ID",
            ("Contact",),
            "ConvertedContact",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
        _reference(
            "ConvertedOpportunityId",
            "Converted Opportunity ID",
            ("Opportunity",),
            "ConvertedOpportunity",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
        Field("IsUnreadByOwner", "Unread By Owner", "boolean", nillable=False, defaulted=True, permissionable=False),
        *_audit(),
        *_tail(),
    ),
    scopes=("everything", "mine", "mru", "team"),
)

_ACCOUNT = SObject(
    "Account",
    "Account",
    "Accounts",
    "001",
    (
        *_head("Account", "Account"),
        _text("Name", "Account Name", 255, nillable=False, permissionable=False),
        Field("Phone", "Account Phone", "phone", 40),
        _reference("OwnerId", "Owner ID", ("User",), "Owner", nillable=False, defaulted=True, permissionable=False),
        *_audit(),
    ),
    scopes=("everything", "mine", "mru", "team"),
)

_USER = SObject(
    "User",
    "User",
    "Users",
    "005",
    (
        _fixed("Id", "User ID", "id", length=18, nillable=False, defaulted=True, id_lookup=True),
        _text("Username", "Username", 80, nillable=False, permissionable=False, id_lookup=True),
        _text("LastName", "Last Name", 80, nillable=False, permissionable=False),
        _text("FirstName", "First Name", 40, permissionable=False),
        _text("Name", "Full Name", 121, nillable=False, creatable=False, updatable=False, sql=_NAME_SQL),
        Field("Email", "Email", "email", 128, nillable=False, permissionable=False, id_lookup=True),
        _text("Alias", "Alias", 8, nillable=False),
        Field("IsActive", "Active", "boolean", nillable=False),
        Field("UserType", "User Type", "picklist", 40, nillable=False),
        _fixed("CreatedDate", "Created Date", "datetime", nillable=False),
        _fixed("LastModifiedDate", "Last Modified Date", "datetime", nillable=False),
        _fixed("SystemModstamp", "System Modstamp", "datetime", nillable=False),
    ),
    writable=False,
)

_GROUP = SObject(
    "Group",
    "Group",
    "Groups",
    "00G",
    (
        _fixed("Id", "Group ID", "id", length=18, nillable=False),
        _text("Name", "Name", 40, nillable=False),
        _text("Type", "Type", 40, nillable=False),
        _fixed("CreatedDate", "Created Date", "datetime", nillable=False),
        _fixed("LastModifiedDate", "Last Modified Date", "datetime", nillable=False),
        _fixed("SystemModstamp", "System Modstamp", "datetime", nillable=False),
    ),
    writable=False,
)

_ORGANIZATION = SObject(
    "Organization",
    "Organization",
    "Organizations",
    "00D",
    (
        _fixed("Id", "Organization ID", "id", length=18, nillable=False),
        _text("Name", "Name", 80, nillable=False),
        _text("OrganizationType", "Edition", 40),
        Field("IsSandbox", "Is Sandbox", "boolean", nillable=False),
        _text("InstanceName", "Instance Name", 10),
        _fixed("TrialExpirationDate", "Trial Expiration Date", "datetime"),
        _text("NamespacePrefix", "Namespace Prefix", 15),
        _text("DefaultContactAccess", "Default Contact Access", 40),
        _text("DefaultLeadAccess", "Default Lead Access", 40),
        _fixed("CreatedDate", "Created Date", "datetime", nillable=False),
        _fixed("LastModifiedDate", "Last Modified Date", "datetime", nillable=False),
        _fixed("SystemModstamp", "System Modstamp", "datetime", nillable=False),
    ),
    writable=False,
)

_CAMPAIGN = SObject(
    "Campaign",
    "Campaign",
    "Campaigns",
    "701",
    (
        *_head("Campaign", "Campaign")[:2],
        _text("Name", "Name", 80, nillable=False, permissionable=False),
        _reference("ParentId", "Parent Campaign ID", ("Campaign",), "Parent"),
        Field("Type", "Type", "picklist", 255, values=("Conference", "Webinar", "Email", "Other")),
        Field("Status", "Status", "picklist", 40, values=("Planned", "In Progress", "Completed", "Aborted")),
        Field("StartDate", "Start Date", "date"),
        Field("EndDate", "End Date", "date"),
        Field("IsActive", "Active", "boolean", nillable=False, defaulted=True),
        _fixed("NumberOfContacts", "Contacts in Campaign", "int", nillable=False, defaulted=True),
        _fixed("NumberOfLeads", "Leads in Campaign", "int", nillable=False, defaulted=True),
        _reference("OwnerId", "Owner ID", ("User",), "Owner", nillable=False, defaulted=True, permissionable=False),
        *_audit(),
    ),
    writable=False,
    scopes=("everything", "mine", "mru"),
)

_CAMPAIGN_MEMBER = SObject(
    "CampaignMember",
    "Campaign Member",
    "Campaign Members",
    "00v",
    (
        *_head("Campaign Member", "CampaignMember")[:2],
        _reference("CampaignId", "Campaign ID", ("Campaign",), "Campaign", nillable=False, permissionable=False),
        _reference("ContactId", "Contact ID", ("Contact",), "Contact", permissionable=False),
        _reference("LeadId", "Lead ID", ("Lead",), "Lead", permissionable=False),
        _reference("AccountId", "Account ID", ("Account",), "Account", permissionable=False),
        _reference(
            "LeadOrContactId",
            "Related Record ID",
            ("Account", "Contact", "Lead"),
            "LeadOrContact",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
        _reference(
            "LeadOrContactOwnerId",
            "Related Record Owner ID",
            ("Group", "User"),
            "LeadOrContactOwner",
            creatable=False,
            updatable=False,
            permissionable=False,
        ),
        Field("Status", "Status", "picklist", 40, values=("Sent", "Responded"), default_value="Sent"),
        _fixed(
            "HasResponded", "Responded", "boolean", nillable=False, defaulted=True, sql="(\"Status\" = 'Responded')"
        ),
        _fixed("Type", "Type", "string", length=40),
        _fixed("Name", "Name", "string", length=203),
        _fixed("FirstName", "First Name", "string", length=40),
        _fixed("LastName", "Last Name", "string", length=80),
        _fixed("Email", "Email", "email", length=80),
        _fixed("HasOptedOutOfEmail", "Email Opt Out", "boolean", nillable=False, defaulted=True),
        *_audit()[:5],
    ),
    writable=False,
    copies=frozenset(
        {
            "IsDeleted",
            "LeadOrContactId",
            "LeadOrContactOwnerId",
            "Type",
            "Name",
            "FirstName",
            "LastName",
            "Email",
            "HasOptedOutOfEmail",
        }
    ),
    # A member shows its person's fields as they are now, without a stamp of its own; a deleted person is no member.
    joined="""
        SELECT m.*, 0 AS "IsDeleted",
          coalesce(m."ContactId", m."LeadId", m."AccountId") AS "LeadOrContactId",
          coalesce(c."OwnerId", l."OwnerId", a."OwnerId") AS "LeadOrContactOwnerId",
          CASE WHEN m."ContactId" IS NOT NULL THEN 'Contact' WHEN m."LeadId" IS NOT NULL THEN 'Lead' ELSE 'Account' END AS "Type",
          coalesce(c."Name", l."Name", a."Name") AS "Name", coalesce(c."FirstName", l."FirstName") AS "FirstName",
          coalesce(c."LastName", l."LastName") AS "LastName", coalesce(c."Email", l."Email") AS "Email",
          coalesce(c."HasOptedOutOfEmail", l."HasOptedOutOfEmail", 0) AS "HasOptedOutOfEmail"
        FROM "sf_CampaignMember_rows" AS m
          LEFT JOIN "sf_Contact" AS c ON c."Id" = m."ContactId"
          LEFT JOIN "sf_Lead" AS l ON l."Id" = m."LeadId" AND m."ContactId" IS NULL
          LEFT JOIN "sf_Account" AS a ON a."Id" = m."AccountId" AND m."ContactId" IS NULL AND m."LeadId" IS NULL
        WHERE coalesce(c."IsDeleted", l."IsDeleted", a."IsDeleted") = 0""",
)

# The fields of a polymorphic Owner: those that users and queues have in common. Email is not among them.
NAME = SObject(
    "Name",
    "Name",
    "Names",
    "",
    (
        _fixed("Id", "ID", "id", length=18, nillable=False),
        _text("Name", "Name", 121),
        _text("Type", "Type", 40),
    ),
    writable=False,
)

# The consent record of a person; an org has the object once "Data Protection and Privacy" is on.
INDIVIDUAL = SObject(
    "Individual",
    "Individual",
    "Individuals",
    "0PK",
    (
        *_head("Individual", "Individual"),
        *_person(),
        _reference("OwnerId", "Owner ID", ("User",), "Owner", nillable=False, defaulted=True, permissionable=False),
        *_audit(),
        *(
            Field(name, label, "boolean", nillable=False, defaulted=True)
            for name, label in (
                ("HasOptedOutProcessing", "Don't Process"),
                ("HasOptedOutProfiling", "Don't Profile"),
                ("HasOptedOutSolicit", "Don't Market"),
                ("HasOptedOutTracking", "Don't Track"),
                ("ShouldForget", "Forget this Individual"),
            )
        ),
    ),
)

STANDARD = (_ACCOUNT, _CONTACT, _GROUP, _LEAD, _ORGANIZATION, _USER, _CAMPAIGN, _CAMPAIGN_MEMBER)
PEOPLE = ("Contact", "Lead")


class Schema:
    """The objects of one org: the standard ones, and the custom fields that its admin added."""

    def __init__(self) -> None:
        self.objects: dict[str, SObject] = {o.name: o for o in STANDARD}

    def __getitem__(self, name: str) -> SObject:
        return self.objects[name]

    def find(self, name: str) -> SObject | None:
        """Object names are not case-sensitive."""
        return next((o for key, o in self.objects.items() if key.lower() == name.lower()), None)

    def of_id(self, record_id: str) -> SObject | None:
        """Return the object that an Id's first three characters stand for."""
        return next((o for o in self.objects.values() if o.prefix == record_id[:3]), None)

    def add_object(self, new: SObject) -> None:
        self.objects[new.name] = new

    def add_field(self, object_name: str, new: Field) -> None:
        old = self.objects[object_name]
        if old.find(new.name):
            raise ValueError(f"{object_name} has a field {new.name} already")
        self._set_fields(old, (*old.fields, new))

    def set_nillable(self, object_name: str, name: str) -> None:
        old = self.objects[object_name]
        self._set_fields(old, tuple(replace(f, nillable=True) if f.name == name else f for f in old.fields))

    def set_encrypted(self, object_name: str, name: str, encrypted: bool) -> None:
        old = self.objects[object_name]
        self._set_fields(old, tuple(replace(f, encrypted=encrypted) if f.name == name else f for f in old.fields))

    def _set_fields(self, old: SObject, fields: tuple[Field, ...]) -> None:
        self.objects[old.name] = replace(old, fields=fields, by_lower={})


def describe_field(one: Field, *, can_create: bool, can_update: bool) -> dict[str, Any]:
    """Return the field as /describe shows it."""
    textual = one.is_text or one.kind in ID_KINDS
    return {
        "aggregatable": one.kind != "boolean" and one.filterable,
        "aiPredictionField": False,
        "autoNumber": False,
        "byteLength": one.length * 3 if textual and one.kind not in ID_KINDS else one.length,
        "calculated": False,
        "calculatedFormula": None,
        "cascadeDelete": False,
        "caseSensitive": False,
        "compoundFieldName": "Name" if one.name in {"FirstName", "LastName", "Salutation"} else None,
        "controllerName": None,
        "createable": one.creatable and can_create,
        "custom": one.name.endswith("__c"),
        "defaultValue": False if one.kind == "boolean" else None,
        "defaultValueFormula": None,
        "defaultedOnCreate": one.defaulted,
        "dependentPicklist": False,
        "deprecatedAndHidden": False,
        "digits": 8 if one.kind == "int" else 0,
        "displayLocationInDecimal": False,
        "encrypted": one.encrypted,
        "externalId": False,
        "extraTypeInfo": "plaintextarea" if one.kind == "textarea" else None,
        "filterable": one.filterable,
        "filteredLookupInfo": None,
        "formulaTreatNullNumberAsZero": False,
        "groupable": one.filterable and one.kind not in {"datetime"},
        "highScaleNumber": False,
        "htmlFormatted": False,
        "idLookup": one.id_lookup,
        "inlineHelpText": None,
        "label": one.label,
        "length": one.length,
        "mask": None,
        "maskType": None,
        "name": one.name,
        "nameField": one.name == "Name",
        "namePointing": one.is_polymorphic,
        "nillable": one.nillable,
        "permissionable": one.permissionable,
        "picklistValues": [
            {
                "active": True,
                "defaultValue": value == one.default_value,
                "label": value,
                "validFor": None,
                "value": value,
            }
            for value in one.values
        ],
        "polymorphicForeignKey": one.is_polymorphic,
        "precision": 0,
        "queryByDistance": False,
        "referenceTargetField": None,
        "referenceTo": list(one.refers_to),
        "relationshipName": one.relationship,
        "relationshipOrder": None,
        "restrictedDelete": False,
        "restrictedPicklist": False,
        "scale": 0,
        "searchPrefilterable": False,
        "soapType": _SOAP.get(one.kind, "xsd:string"),
        "sortable": one.sortable,
        "type": one.kind,
        "unique": False,
        "updateable": one.updatable and can_update,
        "writeRequiresMasterRead": False,
    }
