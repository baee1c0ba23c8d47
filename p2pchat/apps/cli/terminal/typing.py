"""Who types: others are told that somebody does here, and those who do elsewhere stand above the prompt.

Told is only a text, never a command, and only where few read it: to one other, to a small group, or while so few are
here that they are told who comes and goes. In a room of many everybody would hear of somebody all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from p2pchat import Conversation, Group, P2PChatError, TCPPeer
from p2pchat.apps.cli.terminal.colours import DIM
from p2pchat.commands.columns import Row
from p2pchat.commands.format import shown_name, shown_names
from p2pchat.commands.session import Session
from p2pchat.commands.settings import QUIET_ABOVE, ChatSettings

SAID_EVERY = 1.0  # seconds between two words to the peer, which tells others more seldom


class Typist:
    """Tells others what somebody does at this prompt.

    Args:
        clock: Seconds.
    """

    def __init__(self, peer: TCPPeer, session: Session, clock: Callable[[], float]) -> None:
        self._peer = peer
        self._session = session
        self._clock = clock
        self._in: Conversation | None = None  # where others were told that one types
        self._said_at = 0.0

    def line(self, text: str) -> None:
        """The line in the prompt has changed."""
        try:
            here = self._session.current if is_text(text) else None
        except P2PChatError:  # an open network that has met nobody yet
            here = None
        if here is not None and here == self._in and self._clock() < self._said_at + SAID_EVERY:
            return
        if here is not None and not self._is_told(here):
            here = None
        if self._in is not None and self._in != here:
            self._say(self._in, on=False)
        self._in = here
        if here is not None:
            self._said_at = self._clock()
            self._say(here, on=True)

    def sent(self) -> None:
        """What was in the prompt goes out: that alone says that it is not being typed any more."""
        self._in = None

    def _say(self, where: Conversation, *, on: bool) -> None:
        try:
            where.typing(on)
        except P2PChatError:  # the peer is closing
            pass

    def _is_told(self, where: Conversation) -> bool:
        if not self._session.settings.is_on("typing", where.id):
            return False
        if where.kind == "dm":
            return True
        if isinstance(where, Group):
            return len(where.members) <= QUIET_ABOVE
        return len(self._peer.here()) <= QUIET_ABOVE


def is_text(line: str) -> bool:
    """Whether a line is on its way to others: not blank, and no command."""
    return bool(line.strip()) and (not line.startswith("/") or line.startswith("//"))


class Typists:
    """Those who type elsewhere, by what event lines say."""

    def __init__(self) -> None:
        self._typing: dict[tuple[str, str], str] = {}  # (conversation, user) -> label, in the order they began

    def __bool__(self) -> bool:
        return bool(self._typing)

    def noticed(self, line: Mapping[str, Any]) -> None:
        """Take a `typing` line."""
        key = (line["conversation_id"], line["user_id"])
        if line["typing"]:
            self._typing[key] = line["user"]
        else:
            self._typing.pop(key, None)

    def row(
        self, here: str, is_direct: Callable[[str], bool], settings: ChatSettings, ignores: Callable[[str], bool]
    ) -> Row | None:
        """Return what stands above the prompt; None while nobody types. Who is not to be shown is forgotten.

        Args:
            here: The id of the conversation of the moment.
            is_direct: Whether this id is of a direct conversation: who types there is told elsewhere too.
        """
        for where, user in list(self._typing):
            if ignores(user) or not settings.is_on("typing", where):
                del self._typing[where, user]
        in_front = [label for (where, _), label in self._typing.items() if where == here]
        aside = [label for (where, _), label in self._typing.items() if where != here and is_direct(where)]
        said = [f"{shown_names(in_front)} {'are' if len(in_front) > 1 else 'is'} typing …"] if in_front else []
        said += [f"{shown_name(label)} is typing to you …" for label in aside]
        return [(DIM, "   ".join(said))] if said else None
