"""Typing indicators: sent to the peers of all users who can read the conversation, never stored, ended by time.

A change is sent at once. The same word is sent again at most once in three seconds for each user and conversation. At
the receiver an indicator ends after six seconds without repetition, so a lost frame does no harm. A message from the
user ends it too, without a frame, and so does the end of the membership in a group.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from functools import partial

from p2pchat.core.effects import TypingChanged
from p2pchat.core.log import WriterKey
from p2pchat.core.node_context import SLACK
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, TypingFrame, UserId

HERE = 0  # in place of a link: typing between users hosted here; links have numbers from 1


TYPING_EVERY = 3.0  # seconds between two frames that repeat the same of a user and conversation


class TypingTracker:
    """Tracks who is typing, here and elsewhere.

    Attributes:
        local: Hosted users announced as typing, and when this was last announced. The earliest comes first.
        active: Users typing elsewhere, or here if several are hosted: the link that said so, and until when it counts.
            The first to expire comes first.
    """

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.local: dict[WriterKey, float] = {}
        self.active: dict[WriterKey, tuple[int, float]] = {}
        self._sweeping = False

    # ---- sending

    def set_typing(self, user: UserId, conversation: ConversationId, on: bool) -> None:
        """Note that a hosted user types or has stopped. Repeated every few seconds while it goes on."""
        there = self._sync.conversations.get(conversation)
        if self._sync.discarded or there is None or user not in self._sync.hosted or not there.is_member(user):
            return
        self._forget_expired()
        key = (conversation, user)
        sent_at = self.local.get(key)
        if sent_at is None:
            is_due = on
        else:
            is_due = not on or self._ctx.now.mono >= sent_at + TYPING_EVERY - SLACK
        if is_due:
            self._send(key, there, on)

    def _forget_expired(self) -> None:
        """Forget users who have expired at the others."""
        oldest = self._ctx.now.mono - self._ctx.settings.typing_expires + SLACK
        for key, sent_at in list(self.local.items()):
            if sent_at > oldest:
                break
            del self.local[key]

    def _send(self, key: WriterKey, there: ConversationState, on: bool) -> None:
        self.local.pop(key, None)
        if on:
            self.local[key] = self._ctx.now.mono
        if len(self._sync.hosted) > 1:
            self._set_active(key, HERE if on else None)
        self._sync.presence.announcer.introduce()
        # Typing is not worth waiting for a link to drain, and to whom one blocks one is away.
        readers = [
            remote
            for remote in self._sync.remotes_sharing(there)
            if not remote.link.full
            and remote.link.peer not in self._sync.blocks.of(key[1])
            and any(there.is_member(user) for user in remote.link.users)
        ]
        self._sync.send_to_all(partial(TypingFrame, c=key[0], u=key[1], on=on), readers, (there.id,))

    def on_offline(self, user: UserId) -> None:
        """Tell everyone that a hosted user who is offline now types no more."""
        self._forget_expired()
        for conversation in [key[0] for key in self.local if key[1] == user]:
            self.set_typing(user, conversation, on=False)

    def on_user_unhosted(self, user: UserId) -> None:
        for key in [key for key in self.local if key[1] == user]:
            del self.local[key]
            self._set_active(key, None)

    # ---- receiving

    def on_frame(self, remote: RemoteState, frame: TypingFrame) -> LogError | None:
        """Take a typing frame. Return the fault of a peer that speaks for users it does not host."""
        self._sync.learn_namings(remote, frame.names)
        if frame.u not in remote.link.users:
            if remote.link.omits_users:
                return None
            return LogError("typing: a user who is not hosted there", code="host")
        there = self._sync.find_conversation(remote, frame.c)
        if there is not None and there.is_member(frame.u):
            self._set_active((frame.c, frame.u), remote.id if frame.on else None)
        return None

    def on_end(self, conversation: ConversationId, user: UserId) -> None:
        """Stop the indicator of a user whose message is written here or stored from elsewhere, or who left a group."""
        key = (conversation, user)
        self.local.pop(key, None)
        if key in self.active:
            self._set_active(key, None)

    def on_link_down(self, remote: RemoteState) -> None:
        """Stop the indicators that came by this link."""
        for key in [key for key, (link, _) in self.active.items() if link == remote.id]:
            self._set_active(key, None)

    def clear(self) -> None:
        """Stop all indicators: storage failed."""
        for key in list(self.active):
            self._set_active(key, None)

    def _set_active(self, key: WriterKey, link: int | None) -> None:
        """Set the link by which a user is typing; None: stopped."""
        was = self.active.pop(key, None) is not None
        if link is not None:
            self.active[key] = link, self._ctx.now.mono + self._ctx.settings.typing_expires
            self._sweep_later()
        if was != (link is not None):
            self._ctx.emit(TypingChanged(*key, on=link is not None))

    def _sweep_later(self) -> None:
        if not self._sweeping and self.active:
            self._sweeping = True
            _, until = next(iter(self.active.values()))
            self._sync.after(until - self._ctx.now.mono, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        for key, (_, until) in list(self.active.items()):
            if until > self._ctx.now.mono + SLACK:
                break
            self._set_active(key, None)
        self._sweep_later()
