"""The public names of p2pchat for programs without asyncio: every call waits.

    from p2pchat.sync import Message, TCPPeer

    with TCPPeer(8085, "localhost:8080", name="bot") as peer:
        peer.send("bob", "hi").delivered(timeout=5)
        for event in peer.events(Message):
            print(event.sender, event.text)

All peers run on one event loop in a daemon thread; any thread may call. docs/sync.md has the rules. classes.py is
written by the build from the asynchronous classes; background.py has the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2pchat import __all__ as __all__
from p2pchat.sync.background import background as _background  # the submodule keeps its name
from p2pchat.sync.classes import Attachment as Attachment
from p2pchat.sync.classes import Conversation as Conversation
from p2pchat.sync.classes import Deleted as Deleted
from p2pchat.sync.classes import DeletedMessages as DeletedMessages
from p2pchat.sync.classes import Delivered as Delivered
from p2pchat.sync.classes import DurableEvent as DurableEvent
from p2pchat.sync.classes import Edited as Edited
from p2pchat.sync.classes import Event as Event
from p2pchat.sync.classes import EventCounts as EventCounts
from p2pchat.sync.classes import Events as Events
from p2pchat.sync.classes import Failed as Failed
from p2pchat.sync.classes import FileArrived as FileArrived
from p2pchat.sync.classes import FileProgress as FileProgress
from p2pchat.sync.classes import FileReceipt as FileReceipt
from p2pchat.sync.classes import Gap as Gap
from p2pchat.sync.classes import Group as Group
from p2pchat.sync.classes import GroupChanged as GroupChanged
from p2pchat.sync.classes import History as History
from p2pchat.sync.classes import HostedUser as HostedUser
from p2pchat.sync.classes import Joined as Joined
from p2pchat.sync.classes import KnownAddress as KnownAddress
from p2pchat.sync.classes import Left as Left
from p2pchat.sync.classes import Link as Link
from p2pchat.sync.classes import Listening as Listening
from p2pchat.sync.classes import Message as Message
from p2pchat.sync.classes import MessageChange as MessageChange
from p2pchat.sync.classes import MessageRequest as MessageRequest
from p2pchat.sync.classes import Presence as Presence
from p2pchat.sync.classes import Reaction as Reaction
from p2pchat.sync.classes import Read as Read
from p2pchat.sync.classes import Receipt as Receipt
from p2pchat.sync.classes import Receipts as Receipts
from p2pchat.sync.classes import RefusedMessages as RefusedMessages
from p2pchat.sync.classes import Renamed as Renamed
from p2pchat.sync.classes import Requested as Requested
from p2pchat.sync.classes import Sent as Sent
from p2pchat.sync.classes import Stopped as Stopped
from p2pchat.sync.classes import StoredFile as StoredFile
from p2pchat.sync.classes import TCPPeer as TCPPeer
from p2pchat.sync.classes import Typing as Typing
from p2pchat.sync.classes import Undelivered as Undelivered
from p2pchat.sync.classes import User as User
from p2pchat.sync.classes import Warned as Warned
from p2pchat.sync.classes import Whois as Whois
from p2pchat.sync.classes import backup_profile as backup_profile
from p2pchat.sync.classes import copy_database as copy_database
from p2pchat.sync.classes import import_into as import_into
from p2pchat.sync.classes import open_alone as open_alone
from p2pchat.sync.classes import open_history as open_history
from p2pchat.sync.classes import probe as probe

if TYPE_CHECKING:
    from p2pchat import AmbiguousName as AmbiguousName
    from p2pchat import Backup as Backup
    from p2pchat import Checked as Checked
    from p2pchat import ConsumerBusy as ConsumerBusy
    from p2pchat import Copied as Copied
    from p2pchat import DataLocked as DataLocked
    from p2pchat import DeletedHistory as DeletedHistory
    from p2pchat import DeliveryTimeout as DeliveryTimeout
    from p2pchat import Exported as Exported
    from p2pchat import Forgotten as Forgotten
    from p2pchat import HostPeer as HostPeer
    from p2pchat import Imported as Imported
    from p2pchat import ImportRefused as ImportRefused
    from p2pchat import Invite as Invite
    from p2pchat import InviteError as InviteError
    from p2pchat import KeptFile as KeptFile
    from p2pchat import NameTaken as NameTaken
    from p2pchat import P2PChatError as P2PChatError
    from p2pchat import PeerClosed as PeerClosed
    from p2pchat import PortInUse as PortInUse
    from p2pchat import Probed as Probed
    from p2pchat import ProfileState as ProfileState
    from p2pchat import SentReceipt as SentReceipt
    from p2pchat import Settings as Settings
    from p2pchat import StorageError as StorageError
    from p2pchat import TooLong as TooLong
    from p2pchat import UnknownName as UnknownName
    from p2pchat import __version__ as __version__
    from p2pchat import home_directory as home_directory
    from p2pchat import inspect_profile as inspect_profile
    from p2pchat import known_profiles as known_profiles
    from p2pchat import login_name as login_name
    from p2pchat import own_addresses as own_addresses
    from p2pchat import parse_invite as parse_invite
    from p2pchat import profile_directory as profile_directory
    from p2pchat import profile_invite as profile_invite
    from p2pchat import send_once as send_once
    from p2pchat import validate_name as validate_name
    from p2pchat import where_found as where_found


def in_background(function: Callable[[], Any]) -> Any:
    """Call a function on the loop of p2pchat.sync; return its result, awaited if it is awaitable.

    For a coroutine of asyncio code that belongs beside the peers. Ctrl-C cancels it.
    """
    return _background().run(function)


if not TYPE_CHECKING:  # so that type checkers find a misspelt name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'p2pchat.sync' has no attribute {name!r}")
        import p2pchat

        return getattr(p2pchat, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
