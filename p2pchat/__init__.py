"""Peer-to-peer chat for people and programs. Every peer listens, dials and stores; there is no server.

The public names. Each is loaded when it is first used, so that `import p2pchat` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from p2pchat.backup import Backup, Copied, backup_profile, copy_database
    from p2pchat.config import Settings
    from p2pchat.core.log import MAX_FILE_BYTES, MAX_FILE_NAME, MAX_FILES
    from p2pchat.core.names import skeleton, validate_name
    from p2pchat.errors import (
        AmbiguousName,
        ConsumerBusy,
        DataLocked,
        DeliveryTimeout,
        ImportRefused,
        InviteError,
        NameTaken,
        P2PChatError,
        PeerClosed,
        PortInUse,
        StorageError,
        TooLong,
        UnknownName,
    )
    from p2pchat.export_file import Exported, Imported
    from p2pchat.identity.network_and_invites import Invite, parse_invite
    from p2pchat.identity.own_addresses import own_addresses
    from p2pchat.identity.profile import (
        ProfileState,
        home_directory,
        inspect_profile,
        known_profiles,
        profile_directory,
    )
    from p2pchat.messaging.attachments import Attachment, KeptFile
    from p2pchat.messaging.conversations import Conversation, DeletedHistory, DeletedMessages, MessageRequest
    from p2pchat.messaging.events import (
        Delivered,
        Event,
        Failed,
        FileArrived,
        FileProgress,
        FileReceipt,
        Gap,
        GroupChanged,
        Joined,
        Left,
        Link,
        Listening,
        Many,
        Presence,
        Read,
        Renamed,
        Requested,
        Stopped,
        Typing,
        Undelivered,
        Warned,
    )
    from p2pchat.messaging.groups import Group
    from p2pchat.messaging.hosted_user import HostedUser
    from p2pchat.messaging.messages import Deleted, Edited, Message, Reaction, Sent
    from p2pchat.messaging.receipts import Receipt, Receipts
    from p2pchat.messaging.stored_files import StoredFile
    from p2pchat.messaging.subscription import Events
    from p2pchat.messaging.users import HostPeer, User, Whois
    from p2pchat.offline import Checked, History, KnownAddress, RefusedMessages, import_into, open_alone, open_history
    from p2pchat.once import SentReceipt, send_once
    from p2pchat.peer import Forgotten, TCPPeer
    from p2pchat.peer_resources import login_name, profile_invite
    from p2pchat.reachability import Probed, probe
    from p2pchat.storage.search_words import where_found

_MODULES = {
    "offline": ("open_alone", "Checked", "History", "KnownAddress", "RefusedMessages", "open_history", "import_into"),
    "once": ("SentReceipt", "send_once"),
    "peer_resources": ("login_name", "profile_invite"),
    "config": ("Settings",),
    "backup": ("Backup", "backup_profile", "Copied", "copy_database"),
    "export_file": ("Exported", "Imported"),
    "messaging.attachments": ("Attachment", "KeptFile"),
    "messaging.conversations": ("Conversation", "DeletedHistory", "DeletedMessages", "MessageRequest"),
    "messaging.messages": ("Message", "Sent", "Deleted", "Edited", "Reaction"),
    "errors": (
        *("AmbiguousName", "ConsumerBusy", "DataLocked", "DeliveryTimeout", "ImportRefused", "InviteError"),
        *("NameTaken", "P2PChatError", "PeerClosed", "PortInUse", "StorageError", "TooLong", "UnknownName"),
    ),
    "messaging.events": (
        *(
            "Delivered",
            "Event",
            "Failed",
            "FileArrived",
            "FileProgress",
            "FileReceipt",
            "Gap",
            "GroupChanged",
            "Joined",
            "Left",
            "Link",
        ),
        *("Listening", "Many", "Presence", "Read", "Renamed", "Requested", "Stopped", "Typing", "Undelivered"),
        "Warned",
    ),
    "messaging.groups": ("Group",),
    "identity.own_addresses": ("own_addresses",),
    "identity.profile": ("ProfileState", "inspect_profile", "home_directory", "known_profiles", "profile_directory"),
    "identity.network_and_invites": ("Invite", "parse_invite"),
    "core.log": ("MAX_FILES", "MAX_FILE_BYTES", "MAX_FILE_NAME"),
    "core.names": ("skeleton", "validate_name"),
    "messaging.hosted_user": ("HostedUser",),
    "peer": ("Forgotten", "TCPPeer"),
    "messaging.users": ("User", "HostPeer", "Whois"),
    "reachability": ("Probed", "probe"),
    "messaging.subscription": ("Events",),
    "messaging.receipts": ("Receipt", "Receipts"),
    "messaging.stored_files": ("StoredFile",),
    "storage.search_words": ("where_found",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "__version__",
    "AmbiguousName",
    "Attachment",
    "Backup",
    "Checked",
    "ConsumerBusy",
    "Conversation",
    "Copied",
    "DataLocked",
    "Deleted",
    "DeletedHistory",
    "DeletedMessages",
    "Delivered",
    "DeliveryTimeout",
    "Edited",
    "Event",
    "Events",
    "Exported",
    "Failed",
    "FileArrived",
    "FileProgress",
    "FileReceipt",
    "Forgotten",
    "Gap",
    "Group",
    "GroupChanged",
    "History",
    "HostPeer",
    "HostedUser",
    "ImportRefused",
    "Imported",
    "Invite",
    "InviteError",
    "Joined",
    "KeptFile",
    "KnownAddress",
    "Left",
    "Link",
    "Listening",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "MAX_FILE_NAME",
    "Many",
    "Message",
    "MessageRequest",
    "NameTaken",
    "P2PChatError",
    "PeerClosed",
    "PortInUse",
    "Presence",
    "Probed",
    "ProfileState",
    "Reaction",
    "Read",
    "Receipt",
    "Receipts",
    "RefusedMessages",
    "Renamed",
    "Requested",
    "Sent",
    "SentReceipt",
    "Settings",
    "Stopped",
    "StorageError",
    "StoredFile",
    "TCPPeer",
    "TooLong",
    "Typing",
    "Undelivered",
    "UnknownName",
    "User",
    "Warned",
    "Whois",
    "backup_profile",
    "copy_database",
    "home_directory",
    "import_into",
    "inspect_profile",
    "known_profiles",
    "login_name",
    "open_alone",
    "open_history",
    "own_addresses",
    "parse_invite",
    "probe",
    "profile_directory",
    "profile_invite",
    "send_once",
    "skeleton",
    "validate_name",
    "where_found",
]


if not TYPE_CHECKING:  # so that type checkers find a misspelt name

    def __getattr__(name: str) -> object:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'p2pchat' has no attribute {name!r}")
        value = getattr(import_module(f"p2pchat.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
