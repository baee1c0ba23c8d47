"""Peer-to-peer chat for people and programs. Every peer listens, dials and stores; there is no server.

The public names. Each is loaded when it is first used, so that `import p2pchat` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.21.0"

if TYPE_CHECKING:
    from p2pchat.backup import Backup as Backup
    from p2pchat.backup import Copied as Copied
    from p2pchat.backup import backup_profile as backup_profile
    from p2pchat.backup import copy_database as copy_database
    from p2pchat.core.log import HOP_LIMIT as HOP_LIMIT
    from p2pchat.core.log import MAX_FILE_BYTES as MAX_FILE_BYTES
    from p2pchat.core.log import MAX_FILE_NAME as MAX_FILE_NAME
    from p2pchat.core.log import MAX_FILES as MAX_FILES
    from p2pchat.core.members.admission import MadeInvite as MadeInvite
    from p2pchat.core.names import skeleton as skeleton
    from p2pchat.core.names import validate_name as validate_name
    from p2pchat.devices import add_device as add_device
    from p2pchat.devices import join_device as join_device
    from p2pchat.errors import AmbiguousName as AmbiguousName
    from p2pchat.errors import ConsumerBusy as ConsumerBusy
    from p2pchat.errors import DataLocked as DataLocked
    from p2pchat.errors import DeliveryTimeout as DeliveryTimeout
    from p2pchat.errors import ImportRefused as ImportRefused
    from p2pchat.errors import InviteError as InviteError
    from p2pchat.errors import KeyReused as KeyReused
    from p2pchat.errors import P2PChatError as P2PChatError
    from p2pchat.errors import PeerClosed as PeerClosed
    from p2pchat.errors import PortInUse as PortInUse
    from p2pchat.errors import StorageError as StorageError
    from p2pchat.errors import TooLong as TooLong
    from p2pchat.errors import UnknownName as UnknownName
    from p2pchat.export_file import Exported as Exported
    from p2pchat.export_file import Imported as Imported
    from p2pchat.identity.home import home_directory as home_directory
    from p2pchat.identity.invite_text import Invite as Invite
    from p2pchat.identity.invite_text import parse_invite as parse_invite
    from p2pchat.identity.login_key import LoginNetwork as LoginNetwork
    from p2pchat.identity.login_key import backup_key as backup_key
    from p2pchat.identity.login_key import found_anew as found_anew
    from p2pchat.identity.login_key import make_member as make_member
    from p2pchat.identity.login_key import read_login_network as read_login_network
    from p2pchat.identity.login_key import restore_key as restore_key
    from p2pchat.identity.network import validate_network_name as validate_network_name
    from p2pchat.identity.own_addresses import own_addresses as own_addresses
    from p2pchat.identity.profile import ProfileState as ProfileState
    from p2pchat.identity.profile import inspect_profile as inspect_profile
    from p2pchat.identity.profile import known_profiles as known_profiles
    from p2pchat.identity.profile import profile_directory as profile_directory
    from p2pchat.messaging.attachments import Attachment as Attachment
    from p2pchat.messaging.attachments import KeptFile as KeptFile
    from p2pchat.messaging.attachments import StoredFile as StoredFile
    from p2pchat.messaging.conversations import Conversation as Conversation
    from p2pchat.messaging.conversations import DeletedHistory as DeletedHistory
    from p2pchat.messaging.conversations import DeletedMessages as DeletedMessages
    from p2pchat.messaging.conversations import Group as Group
    from p2pchat.messaging.conversations import UnansweredConversation as UnansweredConversation
    from p2pchat.messaging.events import Delivered as Delivered
    from p2pchat.messaging.events import Event as Event
    from p2pchat.messaging.events import Failed as Failed
    from p2pchat.messaging.events import FileArrived as FileArrived
    from p2pchat.messaging.events import FileProgress as FileProgress
    from p2pchat.messaging.events import FileReceipt as FileReceipt
    from p2pchat.messaging.events import Gap as Gap
    from p2pchat.messaging.events import GroupChanged as GroupChanged
    from p2pchat.messaging.events import Hidden as Hidden
    from p2pchat.messaging.events import Joined as Joined
    from p2pchat.messaging.events import Left as Left
    from p2pchat.messaging.events import Link as Link
    from p2pchat.messaging.events import Listening as Listening
    from p2pchat.messaging.events import MemberChange as MemberChange
    from p2pchat.messaging.events import NewConversation as NewConversation
    from p2pchat.messaging.events import Presence as Presence
    from p2pchat.messaging.events import Read as Read
    from p2pchat.messaging.events import Renamed as Renamed
    from p2pchat.messaging.events import Seen as Seen
    from p2pchat.messaging.events import Stopped as Stopped
    from p2pchat.messaging.events import Typing as Typing
    from p2pchat.messaging.events import Undelivered as Undelivered
    from p2pchat.messaging.events import Warned as Warned
    from p2pchat.messaging.hosted_user import HostedUser as HostedUser
    from p2pchat.messaging.messages import Deleted as Deleted
    from p2pchat.messaging.messages import DurableEvent as DurableEvent
    from p2pchat.messaging.messages import Edited as Edited
    from p2pchat.messaging.messages import Message as Message
    from p2pchat.messaging.messages import MessageChange as MessageChange
    from p2pchat.messaging.messages import MessageOptions as MessageOptions
    from p2pchat.messaging.messages import Pinned as Pinned
    from p2pchat.messaging.messages import PollClosed as PollClosed
    from p2pchat.messaging.messages import Reaction as Reaction
    from p2pchat.messaging.messages import Sent as Sent
    from p2pchat.messaging.messages import Vote as Vote
    from p2pchat.messaging.people import Member as Member
    from p2pchat.messaging.people import People as People
    from p2pchat.messaging.receipts import Receipt as Receipt
    from p2pchat.messaging.receipts import Receipts as Receipts
    from p2pchat.messaging.subscription import Events as Events
    from p2pchat.messaging.users import Cause as Cause
    from p2pchat.messaging.users import Device as Device
    from p2pchat.messaging.users import HostPeer as HostPeer
    from p2pchat.messaging.users import User as User
    from p2pchat.messaging.users import Whois as Whois
    from p2pchat.offline import Checked as Checked
    from p2pchat.offline import History as History
    from p2pchat.offline import KnownAddress as KnownAddress
    from p2pchat.offline import import_into as import_into
    from p2pchat.offline import open_alone as open_alone
    from p2pchat.offline import open_history as open_history
    from p2pchat.once import SentReceipt as SentReceipt
    from p2pchat.once import send_once as send_once
    from p2pchat.peer import Forgotten as Forgotten
    from p2pchat.peer import TCPPeer as TCPPeer
    from p2pchat.peer_resources import login_name as login_name
    from p2pchat.reachability import Probed as Probed
    from p2pchat.reachability import probe as probe
    from p2pchat.settings import Settings as Settings
    from p2pchat.storage.search_words import where_found as where_found

_MODULES = {
    "offline": ("open_alone", "Checked", "History", "KnownAddress", "open_history", "import_into"),
    "once": ("SentReceipt", "send_once"),
    "peer_resources": ("login_name",),
    "settings": ("Settings",),
    "backup": ("Backup", "backup_profile", "Copied", "copy_database"),
    "devices": ("add_device", "join_device"),
    "export_file": ("Exported", "Imported"),
    "messaging.attachments": ("Attachment", "KeptFile", "StoredFile"),
    "messaging.conversations": ("Conversation", "DeletedHistory", "DeletedMessages", "Group", "UnansweredConversation"),
    "messaging.messages": (
        *("DurableEvent", "Message", "MessageOptions", "Sent"),
        *("MessageChange", "Deleted", "Edited", "Reaction", "Vote", "PollClosed", "Pinned"),
    ),
    "errors": (
        *("AmbiguousName", "ConsumerBusy", "DataLocked", "DeliveryTimeout", "ImportRefused", "InviteError"),
        *("KeyReused", "P2PChatError", "PeerClosed", "PortInUse", "StorageError", "TooLong", "UnknownName"),
    ),
    "messaging.events": (
        *("Delivered", "Event", "Failed", "FileArrived", "FileProgress", "FileReceipt", "Gap", "GroupChanged"),
        *("Joined", "Left", "Link", "Listening", "NewConversation", "Presence", "Read", "Renamed", "Seen", "Stopped"),
        *("Hidden", "MemberChange", "Typing", "Undelivered", "Warned"),
    ),
    "messaging.people": ("Member", "People"),
    "core.members.admission": ("MadeInvite",),
    "identity.own_addresses": ("own_addresses",),
    "identity.home": ("home_directory",),
    "identity.profile": ("ProfileState", "inspect_profile", "known_profiles", "profile_directory"),
    "identity.login_key": (
        "LoginNetwork",
        "backup_key",
        "found_anew",
        "make_member",
        "read_login_network",
        "restore_key",
    ),
    "identity.invite_text": ("Invite", "parse_invite"),
    "identity.network": ("validate_network_name",),
    "core.log": ("HOP_LIMIT", "MAX_FILES", "MAX_FILE_BYTES", "MAX_FILE_NAME"),
    "core.names": ("skeleton", "validate_name"),
    "messaging.hosted_user": ("HostedUser",),
    "peer": ("Forgotten", "TCPPeer"),
    "messaging.users": ("User", "Device", "Cause", "HostPeer", "Whois"),
    "reachability": ("Probed", "probe"),
    "messaging.subscription": ("Events",),
    "messaging.receipts": ("Receipt", "Receipts"),
    "storage.search_words": ("where_found",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


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
