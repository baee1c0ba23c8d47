"""The program of a simulated peer: says what its users write, hears what became of it, and logs all it is told.

What a real program would log it logs, as event lines (DESIGN: the command line's `--json`), so the same checker judges
both. `at` in those lines is the true time of the simulation; only `sent_at` is the peer's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.log import Entry, LogId, Ref, decode_entry, referred_id
from p2pchat.core.sync.conversations import dm_id
from p2pchat.identity.names import base32
from p2pchat.protocol import ConversationId
from p2pchat.storage.base import ReleasedEntry
from p2pchat.testing.simulation.environment import EPOCH_UTC

if TYPE_CHECKING:
    from p2pchat.testing.simulation.export_files import OpenedExport
    from p2pchat.testing.simulation.hosted_users import HostedMessage
    from p2pchat.testing.simulation.peer import SimPeer

Line = dict[str, Any]
_UNIX = datetime(1970, 1, 1)  # UTC, and no zone: isoformat() then ends with the microseconds
shown_id = lru_cache(4096)(base32)  # a history says the same few again and again


@dataclass(slots=True)
class Written:
    """One thing somebody wrote, and what became of it."""

    writer: SimPeer
    conversation: ConversationId
    to: SimPeer | None  # None: the room
    text: str
    log: LogId | None = None  # None until accepted
    seq: int = 0


def message_id(log: LogId, seq: int) -> str:
    """Return how people and programs name an entry: the same on every peer, for ever."""
    return f"{shown_id(log.conversation[:16] + log.user[:16] + log.run)}.{seq}"


def iso(utc: int) -> str:
    """Return UTC microseconds as event lines have them."""
    return (_UNIX + timedelta(microseconds=utc)).isoformat(timespec="microseconds") + "Z"


class SimProgram:
    """What runs on a peer, in all its lives.

    Attributes:
        lines: Its event log.
        hears: What it does with the effects that are for programs.
    """

    def __init__(self, peer: SimPeer) -> None:
        self.lines: list[Line] = []
        self._peer = peer
        self._sim = peer.sim
        self._place = 0  # what was handed on to it so far
        self._next_ticket = 1
        self._asked: dict[int, list[Written]] = {}
        self._gathered: list[tuple[ConversationId, list[Written]]] = []
        self._mends: set[int] = set()  # tickets of edits, deletions and reactions, and of what is said to guests
        self._words: dict[int, HostedMessage] = {}  # of guests, by ticket
        self._plugged: dict[int, OpenedExport] = {}  # by ticket
        self.hears: dict[type, Callable[[Any], None]] = {
            out.WriteAccepted: self._kept, out.WriteRefused: self._refused, out.ImportResult: self._imported,
            out.Released: self._released, out.DeliveryReceipt: self._delivered, out.ReadReceipt: self._was_read,
            out.UserJoined: self._joined, out.UserLeft: self._left, out.PresenceChanged: self._presence,
            out.TypingChanged: self._typing, out.UserNamed: self._named, out.GapShown: self._gap,
            out.WarningIssued: self._warned, out.Counted: self._counted, out.GroupUpdate: self._group_changed,
            out.DeliveryRevoked: self._undelivered,
        }  # fmt: skip

    def begin(self, place: int) -> None:
        """A process begins, of which nothing was asked yet; up to this place everything was handed on before."""
        self._place = place
        self._asked, self._gathered, self._words, self._plugged = {}, [], {}, {}

    # ---- what it asks for

    def say(self, written: Written) -> None:
        """Have something written; texts gather while a commit with own entries is in flight, as in the runtime."""
        if self._gathered and self._gathered[-1][0] == written.conversation:
            self._gathered[-1][1].append(written)
        else:
            self._gathered.append((written.conversation, [written]))
        self._say_gathered()

    def _say_gathered(self) -> None:
        if self._asked or not self._gathered:
            return
        conversation, written = self._gathered.pop(0)
        ticket = self._ticket()
        self._asked[ticket] = written
        self._said(ticket, conversation, "text", [one.text for one in written])

    def mend(self, kind: str, body: str, conversation: ConversationId, re: Ref) -> None:
        """Edit, delete or react to what `re` names there."""
        self._sim.counts[kind] += 1
        ticket = self._ticket()
        self._mends.add(ticket)
        self._said(ticket, conversation, kind, [body], re)

    def say_to_guest(self, text: str, conversation: ConversationId) -> None:
        """Write to a user whom some peer hosts, or did."""
        ticket = self._ticket()
        self._mends.add(ticket)
        self._said(ticket, conversation, "text", [text])

    def say_as(self, word: HostedMessage, text: str, conversation: ConversationId) -> None:
        """Have a guest write."""
        ticket = self._ticket()
        self._words[ticket] = word
        self._peer.put(inputs.WriteRequest(ticket, word.guest.user, conversation, "text", [text]))

    def next_carry(self, plugged: OpenedExport) -> int:
        """Return a ticket for frames of a file."""
        ticket = self._ticket()
        self._plugged[ticket] = plugged
        return ticket

    def _said(
        self, ticket: int, conversation: ConversationId, kind: str, bodies: list[str], re: Ref | None = None
    ) -> None:
        self._peer.put(inputs.WriteRequest(ticket, self._peer.user, conversation, kind, bodies, re))

    def _ticket(self) -> int:
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        return ticket

    # ---- what became of it

    def _kept(self, answer: out.WriteAccepted) -> None:
        judge = self._sim.judge
        if answer.ticket in self._mends:
            judge.accepted(self._peer, answer.log, answer.first, answer.count, 1)
            return
        if answer.ticket < 0:
            judge.grouping.kept(self._peer, answer)
            return
        if answer.ticket in self._words:
            judge.guests.kept(self._words.pop(answer.ticket), answer)
            return
        written = self._asked.pop(answer.ticket)
        judge.accepted(self._peer, answer.log, answer.first, answer.count, len(written))
        for n, one in enumerate(written):
            one.log, one.seq = answer.log, answer.first + n
            entry = decode_entry(self._peer.disk.logs[one.log][one.seq - 1])
            self.log("sent", **self._message(one.log, one.seq, entry))
        self._peer.soon(0, 0, self._say_gathered)

    def _refused(self, answer: out.WriteRefused) -> None:
        if answer.ticket < 0:
            self._sim.counts[f"group_refused_{answer.code}"] += 1
            return
        self._words.pop(answer.ticket, None)
        for one in self._asked.pop(answer.ticket, ()):  # of edits and the like nothing was noted
            del self._sim.written[one.text]
        self.log("error", code=answer.code, text=answer.text)
        self._peer.soon(0, 0, self._say_gathered)

    def _imported(self, answer: out.ImportResult) -> None:
        self._plugged.pop(answer.ticket).imported(answer)

    def _delivered(self, news: out.DeliveryReceipt) -> None:
        for member in (news.member, *news.others):
            one = replace(news, member=member, others=())
            self._sim.judge.delivered(self._peer, one)
            self._log_receipt("delivered", one)

    def _was_read(self, news: out.ReadReceipt) -> None:
        self._sim.judge.reading.was_read(self._peer, news)
        self._log_receipt("read", news)

    def _log_receipt(self, event: str, news: out.DeliveryReceipt | out.ReadReceipt) -> None:
        peer, log = self._peer, news.log
        member = self._sim.person(news.member)
        raws = peer.disk.logs.get(log, [])
        if self._sim.judge.grouping.is_group(peer, log.conversation) or log.user != peer.user:
            return
        if log.conversation in {dm_id(peer.user, guest) for guest in self._sim.guests}:
            return  # what is said to a guest has no line of its own
        for seq in range(news.first, min(news.last, len(raws)) + 1):
            if decode_entry(raws[seq - 1]).k != "text":
                continue
            self.log(event, id=message_id(log, seq), conversation_id=shown_id(log.conversation),
                     user=member.name, user_id=shown_id(member.user))  # fmt: skip

    # ---- what others wrote

    def _released(self, _: out.Released) -> None:
        self.hand_on()

    def hand_on(self) -> None:
        """Take everything that has a place, in order of place; what was taken is saved later."""
        shown = self._peer.disk.storage.places(self._place, 1 << 20)
        for one in shown:
            self._place = one.place
            self._take(one)
        if shown:
            place = self._place
            self._peer.soon(0.0, 1.0, lambda: self._peer.put(inputs.ConsumerAcked("main", place)))

    def _take(self, one: ReleasedEntry) -> None:
        peer, judge, entry = self._peer, self._sim.judge, decode_entry(one.raw)
        if judge.grouping.is_group(peer, one.log.conversation) or self._is_of_guests(one.log.conversation):
            return
        judge.showing.handed_on(peer, one, entry)
        judge.reading.handed_on(peer, one)
        if entry.k == "text" and not peer.ever_spoke_for(one.log.user):  # what is written here has no line of its own
            self.log("message", **self._message(one.log, one.seq, entry), old=one.old, gap=one.gap)

    def _is_of_guests(self, conversation: ConversationId) -> bool:
        """Say whether a direct conversation is one of guests': nothing of it is for the peer's own user."""
        node = self._peer.node
        named = node.sync.conversations.by_id.get(conversation) if node is not None else None
        return named is not None and named.naming.dm is not None and self._peer.user not in named.naming.dm

    def _message(self, log: LogId, seq: int, entry: Entry) -> Line:
        assert self._peer.node is not None
        kind = "room" if log.conversation == self._peer.node.room else "dm"
        sender = self._sim.person(log.user)
        return {
            "id": message_id(log, seq), "conversation_id": shown_id(log.conversation), "kind": kind,
            "sender": sender.name, "sender_id": shown_id(log.user), "text": entry.b, "sent_at": iso(entry.at),
            "reply_to": referred_id(log.conversation, entry.re) if entry.re else None,
            "after": [referred_id(log.conversation, ref) for ref in entry.after],
        }  # fmt: skip

    def _gap(self, news: out.GapShown) -> None:
        self._sim.counts["gap"] += 1
        self.log("gap", code="gap", about=message_id(news.log, news.seq), missing=list(news.missing), text="")

    # ---- what it is told of users

    def _joined(self, news: out.UserJoined) -> None:
        self.log("joined", user=self._sim.person(news.user).name, user_id=shown_id(news.user))

    def _left(self, news: out.UserLeft) -> None:
        self._sim.judge.showing.told_left(self._peer, news)
        self.log("left", user=self._sim.person(news.user).name, user_id=shown_id(news.user), reason=news.reason)

    def _presence(self, news: out.PresenceChanged) -> None:
        self.log("presence", user=self._sim.person(news.user).name, user_id=shown_id(news.user), status=news.status,
                 text=news.text)  # fmt: skip

    def _typing(self, news: out.TypingChanged) -> None:
        self._sim.judge.presences.told(self._peer, news)
        self.log("typing", user=self._sim.person(news.user).name, user_id=shown_id(news.user),
                 conversation_id=base32(news.conversation), typing=news.on)  # fmt: skip

    def _named(self, news: out.UserNamed) -> None:
        pass

    def _group_changed(self, news: out.GroupUpdate) -> None:
        self._sim.judge.grouping.changed(self._peer, news)

    def _undelivered(self, news: out.DeliveryRevoked) -> None:
        self._sim.judge.grouping.undelivered(self._peer, news)

    # ---- the rest

    def _warned(self, news: out.WarningIssued) -> None:
        self._sim.counts[f"warned_{news.code}"] += 1
        self.log("warning", code=news.code, text=news.text, about=news.about)

    def _counted(self, news: out.Counted) -> None:
        self._sim.counts[news.what] += news.n

    def log(self, event: str, **fields: Any) -> None:
        """Add a line to its event log."""
        line = {"event": event, "at": iso(EPOCH_UTC + round(self._sim.schedule.now * 1_000_000)), **fields}
        self.lines.append(line)
        self._sim.trace_line(self._peer, line)
