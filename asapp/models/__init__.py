"""Tables, their constraints, and questions about state that one row can answer."""

from __future__ import annotations

from asapp.models.alert import Alert, AlertKind, AlertMail
from asapp.models.api_key import ApiKey, Scope
from asapp.models.attempt_count import AttemptCount
from asapp.models.audit import Action, ActorKind, AuditEntry, AuditIdentity
from asapp.models.blocked import BlockedAddress, BlockedBy, Tombstone, TombstoneKind
from asapp.models.connection import Connection, ConnectionStatus, OAuthState, PendingGrant
from asapp.models.contact import (
    Contact,
    ContactList,
    ContactSource,
    Departure,
    DepartureState,
    LedgerEntry,
    LedgerOutcome,
    ListKind,
    ListMember,
    Reason,
)
from asapp.models.first_steps import FirstSteps
from asapp.models.heartbeat import Heartbeat
from asapp.models.lead import (
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    ConsentText,
    Lead,
    LeadState,
    LinkedKind,
    OptInPage,
    Review,
    ToCheck,
    Unfollowed,
)
from asapp.models.login_session import LoginSession, Visit
from asapp.models.mail_choice import Digest, LeadMails, MailChoice
from asapp.models.org_call import OrgCall
from asapp.models.partner import ApiUsage, CheckVerdict, Partner, PartnerCheck, SetupLink
from asapp.models.passkey import Passkey, PasskeyChallenge, PasskeyPurpose
from asapp.models.provider_identity import ProviderIdentity
from asapp.models.restoration import Restoration
from asapp.models.run import RunChange, RunPhase, RunStatus, RunTrigger, SyncRun
from asapp.models.salesforce_list import SalesforceList
from asapp.models.second_factor import RecoveryCode, SecondFactor
from asapp.models.send import Send, SendReason, SendState
from asapp.models.suppression import (
    Suppression,
    SuppressionEvent,
    SuppressionSource,
    SuppressionStep,
    SuppressionWords,
)
from asapp.models.undo import Undo, UndoKind
from asapp.models.user import PasswordLink, PasswordLinkKind, Role, User
from asapp.models.waiting_mail import WaitingKind, WaitingMail
from asapp.models.write_back import OptOutWrite, Untold, WriteBackState, WrittenKind

__all__ = [
    "Action",
    "ActorKind",
    "Alert",
    "AlertKind",
    "AlertMail",
    "ApiKey",
    "ApiUsage",
    "AttemptCount",
    "AuditEntry",
    "AuditIdentity",
    "BlockedAddress",
    "BlockedBy",
    "CheckVerdict",
    "Connection",
    "ConnectionStatus",
    "ConsentEvent",
    "ConsentKind",
    "ConsentSource",
    "ConsentText",
    "Contact",
    "ContactList",
    "ContactSource",
    "Departure",
    "DepartureState",
    "Digest",
    "FirstSteps",
    "Heartbeat",
    "Lead",
    "LeadMails",
    "LeadState",
    "LedgerEntry",
    "LedgerOutcome",
    "LinkedKind",
    "ListKind",
    "ListMember",
    "LoginSession",
    "MailChoice",
    "OAuthState",
    "OptInPage",
    "OptOutWrite",
    "OrgCall",
    "Partner",
    "PartnerCheck",
    "Passkey",
    "PasskeyChallenge",
    "PasskeyPurpose",
    "PasswordLink",
    "PasswordLinkKind",
    "PendingGrant",
    "ProviderIdentity",
    "Reason",
    "RecoveryCode",
    "Restoration",
    "Review",
    "Role",
    "RunChange",
    "RunPhase",
    "RunStatus",
    "RunTrigger",
    "SalesforceList",
    "Scope",
    "SecondFactor",
    "Send",
    "SendReason",
    "SendState",
    "SetupLink",
    "Suppression",
    "SuppressionEvent",
    "SuppressionSource",
    "SuppressionStep",
    "SuppressionWords",
    "SyncRun",
    "ToCheck",
    "Tombstone",
    "TombstoneKind",
    "Undo",
    "UndoKind",
    "Unfollowed",
    "Untold",
    "User",
    "Visit",
    "WaitingKind",
    "WaitingMail",
    "WriteBackState",
    "WrittenKind",
]
