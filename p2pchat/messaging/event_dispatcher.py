"""Dispatching of events: effects of the core become events for the programs that read or wait.

What is worth an event is decided by the core. EventDispatcher gives live events to the open subscriptions. Messages are
read from the Feed (subscription.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from p2pchat.bounded import remember
from p2pchat.core import effects as fx
from p2pchat.core.durable_changes import ReadMark, Stored
from p2pchat.core.log import LogId, Ref, message_id, referred_id
from p2pchat.core.names import base32, suffix
from p2pchat.core.node import Node
from p2pchat.errors import PeerClosed, StorageError
from p2pchat.kinds import HIDDEN_KINDS
from p2pchat.messaging import events as ev
from p2pchat.messaging.access_policy import Audience, Conversations, audience_of
from p2pchat.messaging.conversations import Group, GroupDirectory
from p2pchat.messaging.events import aware
from p2pchat.messaging.messages import users_with
from p2pchat.messaging.receipts import Kind, ReceiptTracker, ReceiptUpdate
from p2pchat.messaging.subscription import EventFeed, Subscription
from p2pchat.messaging.users import UserDirectory
from p2pchat.messaging.viewer import Viewer
from p2pchat.program_log import ProgramLog
from p2pchat.protocol import PeerId, UserId

_log = ProgramLog("p2pchat.peer")

HANDLED_WITHIN = 0.5  # seconds a program may take with its last event while the peer closes; later it is repeated
COMPLETED_WITHIN = 5.0  # seconds to look up receipts of earlier runs while the peer closes; the rest is dropped
MAX_MET = 10_000  # users of whom nothing but that they were here is known; a guess
# Warnings that hosted users get too.
FOR_ALL_USERS = frozenset({"name", "storage", "storage_slow", "storage_works", "disk_low", "disk_enough"})


class EventDispatcher:
    """Turns effects into events and gives them to subscriptions.

    Attributes:
        endpoints: The state of the newest attempt to link, by endpoint: up, down, trying, refused.
        links_changed: Set when a link comes up or ends.
        handlers: What takes the effects that concern programs, by their type.
    """

    def __init__(
        self,
        people: UserDirectory,
        tracker: ReceiptTracker,
        groups: GroupDirectory,
        conversations: Conversations,
        feed: EventFeed,
    ) -> None:
        self._people = people
        self._tracker = tracker
        self._groups = groups
        self._conversations = conversations
        self._feed = feed
        self.endpoints: dict[str, str] = {}
        self.links_changed: asyncio.Event = asyncio.Event()
        self._addresses: dict[PeerId, str] = {}  # of linked peers; a user's own peer has the user's id
        self._met: dict[UserId, None] = {}  # users who were here, those of the last runs first
        self._admitted: dict[UserId, fx.MemberChanged] = {}  # members who have not been here since
        self._subjects = 0
        self._percents: dict[str, int] = {}  # told of content that is fetched, by root
        self.handlers: dict[type, Callable[[Any], None]] = {
            fx.WriteAccepted: self._on_accepted,
            fx.Released: self._on_released,
            fx.DeliveryReceipt: self._on_delivered,
            fx.ReadReceipt: self._on_read,
            fx.LinkChanged: self._on_link_changed,
            fx.UserJoined: self._on_joined,
            fx.UserLeft: self._on_left,
            fx.MemberChanged: self._on_member,
            fx.PresenceChanged: self.on_presence,
            fx.UserForgotten: self._on_forgotten,
            fx.TypingChanged: self._on_typing,
            fx.UserNamed: self._on_named,
            fx.GapShown: self._on_gap,
            fx.WarningIssued: self._on_warning,
            fx.WriteRefused: self._on_refused,
            fx.GroupUpdate: self._on_group,
            fx.ConversationBegun: self._on_begun,
            fx.DeliveryRevoked: self._on_revoked,
            fx.ContentProgress: self._on_content_progress,
            fx.ContentArrived: self._on_content_arrived,
            fx.ContentStopped: self._on_content_stopped,
            fx.FileHeld: self._on_file_held,
            ReadMark: self._on_own_read,
        }

    def load(self, stored: Stored) -> None:
        """Take who was here in former runs, as far as something was stored of them: addresses, deliveries."""
        self._meet(one.peer for one in stored.addresses if one.verified_at or one.told)
        self._meet(mark.member for mark in stored.delivered)

    def _meet(self, users: Iterable[UserId]) -> None:
        for user in users:
            remember(self._met, user, None, MAX_MET)

    # ---- the end

    async def drain(self, closer: asyncio.Task[Any] | None) -> None:
        """Return no more messages, let programs acknowledge those they handle, and complete receipts that wait."""
        readers = self._feed.readers
        for reader in readers:
            reader.stop_messages()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDLED_WITHIN):
                for reader in readers:
                    await reader.handled(closer)
        with suppress(TimeoutError, StorageError, PeerClosed):
            async with asyncio.timeout(COMPLETED_WITHIN):
                for reader in readers:
                    await reader.complete_receipts()

    def close(self, last: ev.Event | None) -> None:
        """End every subscription, after a last event if there is one; waiting calls raise PeerClosed."""
        self._tracker.close()
        for reader in self._feed.readers:
            if last is not None:
                reader.push("stopped", last)
            reader.end()

    # ---- effects

    def dispatch(self, effect: fx.Effect) -> None:
        """Handle an effect that concerns programs."""
        self.handlers[type(effect)](effect)

    def _on_accepted(self, effect: fx.WriteAccepted) -> None:
        is_message = effect.kind not in HIDDEN_KINDS  # receipts of edits and the like cause no events
        updates = self._tracker.add(
            effect.log, effect.first, effect.count, effect.members, effect.here, guests=effect.guests,
            is_message=is_message,
        )  # fmt: skip
        self._push_receipts(updates)

    def _on_released(self, effect: fx.Released) -> None:
        for reader in self._feed.readers:
            reader.wake()

    def _is_of_names(self, id: LogId, first: int, last: int) -> bool:
        """Return whether entries are names alone, which nobody wrote as messages."""
        conversation = self._conversations().get(id.conversation)
        log = None if conversation is None else conversation.log(id.user, id.run)
        return log is not None and all(seq in log.profiles for seq in range(first, last + 1))

    def _on_delivered(self, effect: fx.DeliveryReceipt) -> None:
        readers = self._readers_of(effect.log, "delivered")
        if readers and self._is_of_names(effect.log, effect.first, effect.last):
            readers = []
        updates = self._tracker.delivered(
            effect.log, effect.first, effect.last, effect.member, effect.others, is_reported=bool(readers)
        )
        _push(updates, readers)

    def _on_read(self, effect: fx.ReadReceipt) -> None:
        read = (effect.log, effect.first, effect.last, effect.member)
        self.on_taken(*read)  # a reader of a message has it, received in any way
        self._push_receipts(self._tracker.read(*read))

    def _on_own_read(self, mark: ReadMark) -> None:
        """Report a mark that is durable to its reader."""
        key = mark.log.conversation
        if not mark.taken:
            self.emit(("seen", key), lambda viewer: ev.Seen(conversation=viewer.conversation(key)), (mark.reader,))

    def on_taken(self, log: LogId, first: int, last: int, member: UserId) -> None:
        """Report that a user of this peer took entries first..last of a log (HostedUser.deliver_when_taken)."""
        self._push_receipts(self._tracker.take(log, first, last, member))

    def _push_receipts(self, updates: list[ReceiptUpdate]) -> None:
        """Report updates, which are of one log and of one kind."""
        if updates:
            _push(updates, self._readers_of(updates[0].log, updates[0].kind))

    def _readers_of(self, log: LogId, kind: Kind) -> list[Subscription]:
        return [reader for reader in self._feed.readers if reader.wants_receipts(log, kind)]

    def _on_link_changed(self, effect: fx.LinkChanged) -> None:
        self.links_changed.set()
        if effect.endpoint:
            self.endpoints[effect.endpoint] = effect.state
        if effect.state == "up":
            remember(self._people.facts.carriers, effect.peer, effect.via, MAX_MET)
        if effect.host and not effect.via:
            self._addresses[effect.peer] = effect.host
        elif effect.state == "down":
            self._addresses.pop(effect.peer, None)
        _log_soon(
            logging.INFO,
            "link with %s at %s: %s%s",
            suffix(effect.peer) or "?", effect.endpoint or "(incoming)", effect.state,
            f" ({effect.reason})" if effect.reason else "",
        )  # fmt: skip
        link = ev.Link(
            peer=effect.peer,
            endpoint=effect.endpoint,
            state=effect.state,
            reason=effect.reason,
            code=effect.code,
            address="" if effect.via else effect.host,
            via=effect.via,
        )
        self.emit(("link", effect.peer or effect.endpoint), lambda viewer: link, (self._people.me,))

    def _on_joined(self, effect: fx.UserJoined) -> None:
        user, address = effect.user, self._addresses.get(effect.user, "")
        facts = self._people.facts
        remember(facts.carriers, user, facts.via(user), MAX_MET)
        first = not self._people.name(user) and user not in self._met
        self._meet([user])
        if (admitted := self._admitted.pop(self._users.member_of(user), None)) is not None:
            self._push_member(admitted)

        def joined(viewer: Viewer) -> ev.Event:
            shown = address if viewer.directory is self._people else ""  # addresses are for the operator of this peer
            return ev.Joined(user=viewer.directory.user(user), first=first, address=shown)

        self.emit(None, joined, but=user)

    def _on_left(self, effect: fx.UserLeft) -> None:
        user, reason = effect.user, effect.reason
        self.emit(None, lambda viewer: ev.Left(user=viewer.directory.user(user), reason=reason), but=user)

    def _on_member(self, effect: fx.MemberChanged) -> None:
        """Report a change of a member; that it was admitted when it is here, and has a name."""
        if effect.change == "admitted" and not self._people.name(effect.users[0]):
            remember(self._admitted, effect.user, effect, MAX_MET)
        else:
            self._push_member(effect)

    def follow(self, node: Node) -> None:
        """Take who is a member, and what is known of users, from the node that runs now."""
        self._users = node.member_directory
        self._people.facts.follow(node)

    def _push_member(self, effect: fx.MemberChanged) -> None:
        if effect.change in ("expelled", "dropped"):
            for group in self._groups.all():
                for member in filter(self._users.is_out, group.members):
                    self._tracker.remove_member(group.talk, member)
        user, by = map(self._users.speaker, (effect.user, effect.by))

        def changed(viewer: Viewer) -> ev.Event:
            directory = viewer.directory
            users = tuple(map(directory.user, effect.users))
            return ev.MemberChange(
                user=directory.user(user), by=directory.user(by), change=effect.change, users=users, count=effect.count
            )

        self.emit(None, changed)

    def on_presence(self, effect: fx.PresenceChanged, me: UserId = "") -> None:
        """Report the presence of a user to all, or to one user, who sees it otherwise than before."""
        since = aware(effect.since) if effect.since else None

        def presence(viewer: Viewer) -> ev.Event:
            user = viewer.directory.user(effect.user)
            text = viewer.directory.status_text(effect.status, effect.text)
            return ev.Presence(user=user, status=effect.status, text=text, since=since)

        self.emit(("presence", effect.user, me), presence, (me,) if me else None)

    def _on_forgotten(self, effect: fx.UserForgotten) -> None:
        self._people.forget(effect.user)

    def _on_typing(self, effect: fx.TypingChanged) -> None:
        key, user = effect.conversation, effect.user

        def typing(viewer: Viewer) -> ev.Event:
            return ev.Typing(user=viewer.directory.user(user), conversation=viewer.conversation(key), typing=effect.on)

        self.emit(("typing", key, user), typing, audience_of(self._conversations(), key), but=user)

    def _on_named(self, effect: fx.UserNamed) -> None:
        id, name = effect.user, effect.name
        before, former = self._people.name(id), self._people.label(id)
        self._people.learn([(id, name)])
        self._people.set_about(id, effect.about)
        if before and before != name and not effect.old:

            def renamed(viewer: Viewer) -> ev.Event:
                return ev.Renamed(user=viewer.directory.user(id), name=name, before=before, former=former)

            self.emit(("renamed", id), renamed, but=id)

    def _on_gap(self, effect: fx.GapShown) -> None:
        log = effect.log
        refs = [_ref(text) for text in effect.missing]
        missing = tuple(referred_id(log.conversation, ref) for ref in refs)

        def gap(viewer: Viewer) -> ev.Event:
            labels = users_with(viewer.directory, log.user, refs, effect.last_seen_with)
            return ev.Gap(about=message_id(log, effect.seq), missing=missing, last_seen_with=labels)

        self.emit(None, gap, audience_of(self._conversations(), log.conversation))

    def _on_group(self, effect: fx.GroupUpdate) -> None:
        former = self._groups.name(effect.talk)
        self._groups.learn(effect.talk, effect.name)
        if effect.change in ("removed", "left"):
            self._tracker.remove_member(effect.talk, effect.target)
        audience = (*effect.members, effect.by, effect.target)

        def changed(viewer: Viewer) -> ev.Event:
            people, group = viewer.directory, viewer.conversation(effect.talk)
            assert isinstance(group, Group)
            return ev.GroupChanged(
                group=group,
                change=effect.change,
                by=people.user(effect.by),
                target=people.user(effect.target) if effect.target else None,
                members=people.present(effect.members),
                name=effect.name,
                former=former if effect.change == "renamed" else "",
                expelled=people.user(effect.by).expelled,
                log=effect.log,
                seq=effect.seq,
            )

        self.emit(None, changed, audience)

    def _on_begun(self, effect: fx.ConversationBegun) -> None:
        if self._users.is_out(effect.user):
            return
        by = self._users.admitter(effect.user)

        def begun(viewer: Viewer) -> ev.Event:
            there, user = viewer.conversation(effect.conversation), viewer.directory.user(effect.user)
            admitted_by = viewer.directory.user(by) if by else None
            return ev.NewConversation(conversation=there, user=user, admitted_by=admitted_by)

        self.emit(None, begun, (effect.host,))

    def _on_revoked(self, effect: fx.DeliveryRevoked) -> None:
        ids = tuple(message_id(effect.log, seq) for seq in range(effect.first, effect.last + 1))

        def undelivered(viewer: Viewer) -> ev.Event:
            group = viewer.conversation(effect.log.conversation)
            assert isinstance(group, Group)
            return ev.Undelivered(group=group, ids=ids)

        self.emit(None, undelivered, (effect.log.user,))

    def _on_content_progress(self, effect: fx.ContentProgress) -> None:
        file, percent = effect.file, effect.stored * 100 // max(1, effect.file.size)
        if self._percents.get(file.root, 0) >= percent:  # it was told, or is nothing to tell
            return
        self._percents[file.root] = percent
        progress = ev.FileProgress(
            log=effect.log, seq=effect.seq, name=file.name, size=file.size, root=file.root, stored=effect.stored
        )
        audience = audience_of(self._conversations(), effect.log.conversation)
        self.emit(("file", file.root), lambda viewer: progress, audience)

    def _on_content_arrived(self, effect: fx.ContentArrived) -> None:
        file = effect.file
        self._percents.pop(file.root, None)
        arrived = ev.FileArrived(log=effect.log, seq=effect.seq, name=file.name, size=file.size, root=file.root)
        audience = audience_of(self._conversations(), effect.log.conversation)
        self.emit(("file", file.root), lambda viewer: arrived, audience)

    def _on_content_stopped(self, effect: fx.ContentStopped) -> None:
        self._percents.pop(effect.root, None)

    def _on_file_held(self, effect: fx.FileHeld) -> None:
        log, file, has = effect.log, effect.file, effect.has
        in_room = audience_of(self._conversations(), log.conversation) is None
        for user in effect.users[-1:] if in_room else effect.users:  # a gateway's thousands of users have it at once
            count, of = self._tracker.count_files(log, effect.seq, file)

            def receipt(viewer: Viewer, user: UserId = user, count: int = count, of: int = of) -> ev.Event:
                return ev.FileReceipt(
                    log=log, seq=effect.seq, name=file.name, size=file.size, root=file.root,
                    user=viewer.directory.user(user), has=has, count=count, of=of,
                )  # fmt: skip

            self.emit(("file_receipt", log, effect.seq, file.root, user), receipt, (log.user,))

    def _on_warning(self, effect: fx.WarningIssued) -> None:
        _log_soon(logging.WARNING, "%s: %s", effect.code, effect.text)
        is_for_all = effect.code in FOR_ALL_USERS
        there = None if is_for_all else audience_of(self._conversations(), effect.conversation)
        audience = None if there is None else (self._people.me, *there)
        warned = ev.Warned(code=effect.code, text=effect.text, about=base32(effect.about))
        self.emit(None, lambda viewer: warned, audience)

    def _on_refused(self, effect: fx.WriteRefused) -> None:
        failed = ev.Failed(code=effect.code, text=effect.text)
        self.emit(None, lambda viewer: failed, (self._people.me,))

    def emit(
        self, subject: object, make: Callable[[Viewer], ev.Event], audience: Audience = None, *, but: UserId = ""
    ) -> None:
        """Give a live event to the subscriptions of the users it concerns. It is made once for each user.

        Args:
            subject: The event replaces an unread one of the same subject; None replaces nothing.
            but: This user gets no event.
        """
        if subject is None:
            self._subjects += 1
            subject = self._subjects
        made: dict[UserId, ev.Event] = {}
        for reader in self._feed.readers:
            me = reader.viewer.directory.me
            if reader.access.hears(audience) and not (me == but and me in reader.access.mine):
                if me not in made:
                    made[me] = make(reader.viewer)
                reader.push(subject, made[me], audience)


def _log_soon(level: int, text: str, *values: object) -> None:
    """Log in a turn of its own: a handler of the program may call this peer."""
    asyncio.get_running_loop().call_soon(partial(_log.log, level, text, *values))


def _push(updates: Sequence[ReceiptUpdate], readers: Sequence[Subscription]) -> None:
    for update in updates:
        for reader in readers:
            reader.push_receipts(update)


def _ref(text: str) -> Ref:
    log, _, seq = text.partition(".")
    return Ref(log, int(seq))
