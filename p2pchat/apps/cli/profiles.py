"""Which peer a command is about: --data, else --port, else the only profile there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat import home_directory, inspect_profile, known_profiles, profile_directory
from p2pchat.apps.cli.program import command
from p2pchat.cli.options import WhichPeer, has_password
from p2pchat.commands.errors import Usage

if TYPE_CHECKING:
    from p2pchat.apps.cli.chat.options import ChatOptions

MOST_LISTED = 12  # profiles; who has more knows which one is meant


def find_profile(which: WhichPeer) -> Path:
    """Return the data directory that is meant; whether something is in it, its reader will say.

    Raises:
        Usage: Nothing was said, and there is no profile, or more than one.
    """
    if which.data:
        return Path(which.data)
    if which.port >= 0:
        return profile_directory(which.port)
    known = known_profiles()
    if len(known) == 1:
        return known[0]
    if not known:
        text = "start a peer first, for example p2pchat 8080, or name a profile with --data DIR"
        raise Usage(f"there is no profile in {home_directory()}: {text}")
    ports = ", ".join(f"{path.name}{' runs' if _runs(path) else ''}" for path in known[:MOST_LISTED])
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    raise Usage(f"there are several profiles ({ports}{more}): choose one with --port PORT, or --data DIR")


def _runs(directory: Path) -> bool:
    """Whether a process holds this profile now."""
    return inspect_profile(directory).holder is not None


def history_command(chat: ChatOptions, data: str) -> str:
    """Return the command that shows what a running peer has stored; `data` is its directory, "" in memory."""
    if not data or chat.db.startswith("memory:"):
        return "/history"
    which = ["--data", data] if chat.data or chat.is_temporary else ["--port", str(chat.port)]
    database = ["--db", chat.db] if chat.db and not has_password(chat.db) else []  # then it is in P2PCHAT_DB
    return command("history", *which, *database)
