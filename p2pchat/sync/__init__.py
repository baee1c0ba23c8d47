"""The public names of p2pchat for programs without asyncio: every call waits.

    from p2pchat.sync import Message, TCPPeer

    with TCPPeer(8085, "localhost:8080", name="bot") as peer:
        peer.send("bob", "hi").delivered(timeout=5)
        for event in peer.events(Message):
            print(event.sender, event.text)

All peers run on one event loop in a daemon thread; any thread may call. docs/sync.md has the rules. classes.py is made
from the asynchronous classes; background.py has the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2pchat.sync.background import background as _background  # the submodule keeps its name
from p2pchat.sync.classes import (
    Attachment,
    Conversation,
    Deleted,
    DeletedMessages,
    Delivered,
    Edited,
    Event,
    Events,
    Failed,
    FileArrived,
    FileProgress,
    FileReceipt,
    Gap,
    Group,
    GroupChanged,
    History,
    HostedUser,
    Joined,
    KnownAddress,
    Left,
    Link,
    Listening,
    Many,
    Message,
    MessageRequest,
    Presence,
    Reaction,
    Read,
    Receipt,
    Receipts,
    RefusedMessages,
    Renamed,
    Requested,
    Sent,
    Stopped,
    StoredFile,
    TCPPeer,
    Typing,
    Undelivered,
    User,
    Warned,
    Whois,
    backup_profile,
    copy_database,
    import_into,
    open_alone,
    open_history,
    probe,
)

if TYPE_CHECKING:
    from p2pchat import (
        AmbiguousName,
        Backup,
        Checked,
        ConsumerBusy,
        Copied,
        DataLocked,
        DeletedHistory,
        DeliveryTimeout,
        Exported,
        Forgotten,
        HostPeer,
        Imported,
        ImportRefused,
        Invite,
        InviteError,
        KeptFile,
        NameTaken,
        P2PChatError,
        PeerClosed,
        PortInUse,
        Probed,
        ProfileState,
        SentReceipt,
        Settings,
        StorageError,
        TooLong,
        UnknownName,
        __version__,
        home_directory,
        inspect_profile,
        known_profiles,
        login_name,
        own_addresses,
        parse_invite,
        profile_directory,
        profile_invite,
        send_once,
        validate_name,
        where_found,
    )

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
