"""Who writes just now, and where: told to those who can read it, never stored, over by itself.

A hosted user's word goes to the peers that host members of the conversation, at most one frame in three seconds for
each user and conversation: what changes within them is told when they are over, if it still differs. What was said and
not said again for six seconds is over at the receiver, so nothing hangs on a frame that is lost. A message ends it
too: whoever has sent one is not writing it any more, and that needs no frame.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pchat.core.context import Timer
from p2pchat.core.effects import Counted, Send, TypingChanged
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.progress import Key, RemoteState, SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, UserId
from p2pchat.protocol import TypingFrame as TypingFrame

HERE = 0  # for a link: what a user hosted here says to others hosted here; links have numbers from 1
_SLACK = 0.001  # seconds: deadlines are sums of floats


@dataclass(slots=True)
class _TypingState:
    """What a hosted user says of itself in one conversation."""

    wanted: bool = False
    told: bool = False  # what the others believe
    at: float = float("-inf")  # of the last frame, monotonic
    timer: Timer | None = None


class TypingIndicators:
    """Who is typing, here and elsewhere.

    Attributes:
        heard: Who types elsewhere, or here where several are hosted: the link that said so, and until when it counts;
            the first to expire first.
    """

    def __init__(self, shelf: SyncContext) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._said: dict[Key, _TypingState] = {}
        self.heard: dict[Key, tuple[int, float]] = {}
        self._sweeping = False

    # ---- telling

    def say(self, user: UserId, conversation: ConversationId, on: bool) -> None:
        """A hosted user types there, or has stopped; said again every few seconds while it goes on."""
        there = self._shelf.conversations.by_id.get(conversation)
        if self._shelf.dead or there is None or user not in self._shelf.hosted or not there.is_member(user):
            return
        key = (conversation, user)
        if not on and key not in self._said:
            return
        said = self._said.setdefault(key, _TypingState())
        said.wanted = on
        if self._ctx.now.mono < said.at + self._ctx.settings.typing_every - _SLACK:
            return  # the timer of that frame sees to it
        if said.wanted or said.told:
            self._send(key, there, said)

    def _send(self, key: Key, there: ConversationState, said: _TypingState) -> None:
        if said.timer is not None:
            said.timer.cancel()
        said.told, said.at = said.wanted, self._ctx.now.mono
        said.timer = self._shelf.after(self._ctx.settings.typing_every, lambda: self._due(key, said))
        if len(self._shelf.hosted) > 1:
            self._hear(key, HERE if said.told else None)
        self._shelf.presence.introduce()
        knowing: list[int] = []
        for side in self._shelf.sharing(there):
            users = self._shelf.presence.users_of(side.link.id)
            if side.link.full or not any(there.is_member(user) for user in users):
                continue  # nothing that is only true now waits for a link to drain
            if there.id in side.named:
                knowing.append(side.link.id)
            else:
                self._shelf.send(TypingFrame(c=key[0], u=key[1], on=said.told), side, there.id)
        if knowing:
            self._ctx.emit(Send(TypingFrame(c=key[0], u=key[1], on=said.told), knowing))

    def _due(self, key: Key, said: _TypingState) -> None:
        """Another frame may be sent; what nobody believes any more is forgotten."""
        there = self._shelf.conversations.by_id.get(key[0])
        left = said.at + self._ctx.settings.typing_expires - self._ctx.now.mono
        said.timer = None
        if said.wanted != said.told and there is not None:
            self._send(key, there, said)
        elif said.told and left > _SLACK:
            said.timer = self._shelf.after(left, lambda: self._due(key, said))
        else:
            del self._said[key]

    def unhost(self, user: UserId) -> None:
        """This peer speaks for a user no more."""
        for key in [key for key in self._said if key[1] == user]:
            timer = self._said.pop(key).timer
            if timer is not None:
                timer.cancel()
            self._hear(key, None)

    # ---- hearing

    def got(self, side: RemoteState, frame: TypingFrame) -> LogError | None:
        """Take a peer's word on a user it hosts; returns the fault of one who speaks for others."""
        self._shelf.learn(side, frame.names)
        if frame.u not in self._shelf.presence.users_of(side.link.id):
            return LogError("typing: a user who is not hosted there", code="host")
        there = self._shelf.named(side, frame.c)
        if there is None:
            return None
        if not there.is_member(frame.u):
            self._ctx.emit(Counted("typing_ignored"))
            return None
        self._hear((frame.c, frame.u), side.link.id if frame.on else None)
        return None

    def wrote(self, conversation: ConversationId, user: UserId) -> None:
        """Something that a user wrote there is kept, or about to be: it is being written no more."""
        key = (conversation, user)
        said = self._said.get(key)
        if said is not None:
            said.wanted = said.told = False
        if key in self.heard:
            self._hear(key, None)

    def link_down(self, side: RemoteState) -> None:
        """Whoever typed at the far end of that link is not heard any more."""
        for key in [key for key, (link, _) in self.heard.items() if link == side.link.id]:
            self._hear(key, None)

    def end(self) -> None:
        """Nothing is heard any more: storage failed."""
        for key in list(self.heard):
            self._hear(key, None)

    def _hear(self, key: Key, link: int | None) -> None:
        """Somebody types as that link says; None: no more."""
        was = self.heard.pop(key, None) is not None
        if link is not None:
            self.heard[key] = link, self._ctx.now.mono + self._ctx.settings.typing_expires
            self._sweep_later()
        if was != (link is not None):
            self._ctx.emit(TypingChanged(*key, on=link is not None))

    def _sweep_later(self) -> None:
        if not self._sweeping and self.heard:
            self._sweeping = True
            _, until = next(iter(self.heard.values()))
            self._shelf.after(until - self._ctx.now.mono, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        for key, (_, until) in list(self.heard.items()):
            if until > self._ctx.now.mono + _SLACK:
                break
            self._hear(key, None)
        self._sweep_later()
