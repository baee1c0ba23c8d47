"""What a completion script asks while somebody types: names to write to, ports of profiles. Quick, and never loud.

Not in the registry: only scripts call it, as `p2pchat completion names|ports`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from p2pchat import known_profiles, open_history
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.cli.command_table import DB, WHICH_PEER, Command
from p2pchat.cli.options import database_url, parse_words, which_peer
from p2pchat.safe_text import safe_line

NAMES = Command("completion names", "", "", "", (*WHICH_PEER, DB))


def names(argv: Sequence[str]) -> list[str]:
    """Return whom one can write to: the room, then everybody but oneself, then the groups one is in.

    Raises:
        Usage: Which peer is meant is not clear. P2PChatError: Its files cannot be read.
    """
    _, given, typed = parse_words(NAMES, argv)
    directory = find_profile(which_peer(given, typed))
    return asyncio.run(_names(str(directory), database_url(given["db"])))


async def _names(directory: str, db: str) -> list[str]:
    async with open_history(directory, db=db or None) as history:
        labels = [user.label for user in history.users() if not user.is_me]
        labels += [group.address for group in history.groups() if group.is_member]
    return ["room", *(label for label in labels if label == safe_line(label))]


def ports() -> list[str]:
    """Return the ports that have a profile here."""
    return [path.name for path in known_profiles()]
