"""The program of a simulated peer: it writes its users' texts, receives the results and keeps an event log.

It logs the same event lines as the command line with `--json`, so one checker serves both. `at` in these lines is the
true time of the simulation. Only `sent_at` is by the peer's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from random import Random
from typing import TYPE_CHECKING, Any

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.log import Entry, FileRef, LogId, Marks, Ref, decode_entry, message_id, referred_id
from p2pchat.core.names import base32
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.written_keys import hash_key
from p2pchat.errors import ImportRefused
from p2pchat.messaging.events import iso
from p2pchat.protocol import ConversationId, Entries, Statements, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Line
from simulation.virtual_time import EPOCH_UTC

ASK_RATE = 0.2  # of texts that are questions with choices
CHOICES = ("yes", "no")

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer

IMPORTED_AT_ONCE = 200  # units of an export file, six frames; few, so that a file takes several steps
shown_id: Callable[[str], str] = lru_cache(4096)(base32)  # a history shows few ids many times


@dataclass(slots=True)
class WrittenMessage:
    """A message written at a peer by its own user or one that it hosts, and its place once accepted."""

    at: SimPeer
    user: UserId
    to: SimPeer | None  # None: the room or a group
    text: str = ""
    log: LogId | None = None  # None until accepted
    seq: int = 0


class SimProgram:
    """The program that runs on a peer, in all its sessions.

    Attributes:
        lines: The event log.
        handlers: The handler of each effect for programs.
    """

    def __init__(self, peer: SimPeer) -> None:
        self.lines: list[Line] = []
        self._peer = peer
        self._sim = peer.sim
        self._place = 0  # the last place it has taken
        self._next_ticket = 1
        self._asked: dict[int, tuple[int, list[WrittenMessage]]] = {}  # how many entries, and those expected to arrive
        # Texts of its own user, those with files by themselves.
        self._gathered: list[tuple[ConversationId, list[WrittenMessage], tuple[FileRef, ...]]] = []
        self._writing = 0  # the ticket of those in flight; 0 for none
        self._deletions: dict[int, inputs.PruneRequest] = {}  # under way, by ticket
        self._imports: dict[int, tuple[ExportReader, list[Entries | Statements]]] = {}  # what was handed in, by ticket
        self.handlers: dict[type, Callable[[Any], None]] = {
            out.WriteAccepted: self._kept, out.WriteRefused: self._refused, out.ImportResult: self._imported,
            out.Released: self._released, out.DeliveryReceipt: self._delivered, out.ReadReceipt: self._was_read,
            out.UserJoined: self._joined, out.UserLeft: self._left, out.PresenceChanged: self._presence,
            out.UserForgotten: self._forgotten,
            out.TypingChanged: self._typing, out.UserNamed: self._named, out.GapShown: self._gap,
            out.WarningIssued: self._warned, out.Counted: self._counted, out.GroupUpdate: self._group_changed,
            out.DeliveryRevoked: self._undelivered, out.PruneResult: self._pruned, out.ConversationBegun: self._begun,
            out.OwnStateChanged: lambda news: None,
            out.ContentProgress: lambda news: None, out.FileHeld: self._held, out.ContentArrived: self._arrived,
            out.ContentStopped: self._ended, out.MemberChanged: self._member,
        }  # fmt: skip

    def begin(self, place: int) -> None:
        """Begin a session. Everything up to this place was taken before."""
        self._place = place
        self._asked, self._gathered, self._writing, self._imports, self._deletions = {}, [], 0, {}, {}
        self._choices: dict[tuple[UserId, str], tuple[int, str]] = {}  # ticket and text of the newest

    # ---- requests

    def say(self, text: str, conversation: ConversationId, to: SimPeer | None) -> WrittenMessage:
        """Write a message. Texts gather while a commit of own entries is in flight, as in the runtime."""
        written = WrittenMessage(self._peer, self._peer.own, to, text)
        if self._gathered and self._gathered[-1][0] == conversation and not self._gathered[-1][2]:
            self._gathered[-1][1].append(written)
        else:
            self._gathered.append((conversation, [written], ()))
        self._write_gathered()
        return written

    def send_files(
        self, text: str, conversation: ConversationId, to: SimPeer | None, files: tuple[FileRef, ...]
    ) -> None:  # fmt: skip
        """Write a message with files, whose content is here."""
        self._gathered.append((conversation, [WrittenMessage(self._peer, self._peer.own, to, text)], files))
        self._write_gathered()

    def _write_gathered(self) -> None:
        if self._gathered and not self._writing:
            conversation, written, files = self._gathered.pop(0)
            self._writing = self._next_ticket
            self.write(conversation, "text", [one.text for one in written], written=written, files=files)

    def write(
        self, conversation: ConversationId, kind: str, bodies: list[str], re: Ref | None = None, *,
        user: UserId | None = None, written: Sequence[WrittenMessage] = (), files: tuple[FileRef, ...] = (),
        above: int = 0, key: str = "",
    ) -> None:  # fmt: skip
        """Write entries at once, as its own user or as one that it hosts. `written` are those expected to arrive."""
        ticket = self._ticket()
        self._asked[ticket] = len(bodies), [*written]
        asks = kind == "text" and Random(f"{self._sim.seed} {self._peer.name} asks {ticket}").random() < ASK_RATE
        self._sim.counts["asked"] += asks
        request = inputs.WriteRequest(
            ticket, user or self._peer.own, conversation, kind, bodies, re,
            marks=Marks(
                files, choices=CHOICES if asks or kind == "poll" else (), hops=int(asks), key=hash_key(key, bodies),
            ), above=above,
        )  # fmt: skip
        self._peer.put(request)

    def choose(self, user: UserId, key: str, text: str) -> None:
        """Choose something for a user of this peer, again until it is stored or another choice replaces it."""
        ticket = self._ticket()
        self._asked[ticket] = 1, []
        self._choices[user, key] = ticket, text
        self._peer.put(inputs.OwnStateSet(ticket, user, {key: text}))

    def _choose_again(self, ticket: int) -> None:
        for (user, key), (newest, text) in [*self._choices.items()]:
            if newest == ticket and user in self._peer.speaks_for:
                self.choose(user, key, text)

    def import_file(self, data: bytes) -> None:
        """Import an export file as `p2pchat import` does: a few frames at a time, the next when those are durable."""
        counts, reader = self._sim.counts, ExportReader(self._sim.invariants.room, self._sim.settings)
        counts["export_carried"] += 1
        try:
            reader.feed(data)
            reader.finish()
        except ImportRefused:
            counts["export_no_file"] += 1
            return
        if reader.problem:
            counts["export_damaged"] += 1
        self._import_more(reader)

    def _import_more(self, reader: ExportReader) -> None:
        frames = reader.take(IMPORTED_AT_ONCE)
        if frames:
            ticket = self._ticket()
            self._imports[ticket] = reader, frames
            self._sim.invariants.crowd.imports(self._peer, frames)
            self._peer.put(inputs.ImportRequest(ticket, frames))

    def delete(self, conversation: ConversationId, user: UserId, before: int) -> None:
        """Delete what is stored of a conversation, step by step."""
        ticket = self._ticket()
        self._deletions[ticket] = inputs.PruneRequest(ticket, conversation, user, before)
        self._peer.put(self._deletions[ticket])

    def _ticket(self) -> int:
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        return ticket

    # ---- results

    def _kept(self, answer: out.WriteAccepted) -> None:
        if answer.ticket < 0:  # asked by FaultInjector.ask
            count, written = (
                answer.count,
                [WrittenMessage(self._peer, self._peer.own, None) for _ in range(answer.count)],
            )
        elif not answer.ticket:  # what the core takes back by itself
            count, written = answer.count, []
            self._sim.counts["taken_back"] += 1
        else:
            count, written = self._asked.pop(answer.ticket)
            if not answer.count:
                self._sim.counts["written_before"] += 1
                return
        self._sim.invariants.accepted(self._peer, answer, count, written)
        if answer.ticket == self._writing or answer.kind == "poll":
            for seq in range(answer.first, answer.first + answer.count):
                entry = decode_entry(self._peer.disk.logs[answer.log][seq - 1])
                if entry.is_message:  # an odd writer may have signed anything
                    self.log("sent", **self._message(answer.log, seq, entry))
        if answer.ticket == self._writing:
            self._writing = 0
            self._peer.soon(0, 0, self._write_gathered)

    def _refused(self, answer: out.WriteRefused) -> None:
        if answer.ticket < 0:
            self._sim.counts[f"group_refused_{answer.code}"] += 1
            return
        if self._deletions.pop(answer.ticket, None) is not None or not answer.ticket:
            return
        del self._asked[answer.ticket]
        if any(ticket == answer.ticket for ticket, _ in self._choices.values()):
            self._peer.soon(1.0, 2.0, partial(self._choose_again, answer.ticket))
            return
        if answer.ticket == self._writing:
            self._writing = 0
        self.log("error", code=answer.code, text=answer.text)
        self._peer.soon(0, 0, self._write_gathered)

    def _begun(self, news: out.ConversationBegun) -> None:
        self._sim.invariants.inbox.begun(self._peer, news)

    def _imported(self, answer: out.ImportResult) -> None:
        reader, frames = self._imports.pop(answer.ticket)
        self._sim.invariants.imported(self._peer, frames, answer)
        counts = self._sim.counts
        counts["export_brought"] += answer.new
        counts["export_known"] += answer.known
        counts["export_foreign"] += answer.foreign
        for code, entries in answer.refused.items():
            counts[f"export_refused_{code}"] += entries
        if answer.failed:
            counts["export_failed"] += 1
        else:
            self._peer.soon(0.0, 0.1, lambda: self._import_more(reader))

    def _pruned(self, answer: out.PruneResult) -> None:
        request = self._deletions.pop(answer.ticket)
        self._sim.counts["deleted"] += answer.messages
        self._sim.counts["deletion_kept"] += answer.kept
        if answer.more:
            self._peer.soon(0.0, 0.1, lambda: self.delete(request.conversation, request.user, request.before))

    def _delivered(self, news: out.DeliveryReceipt) -> None:
        for member in (news.member, *news.others):
            one = news.replace(member=member, others=())
            self._sim.invariants.receipts.delivered(self._peer, one)
            self._log_receipt("delivered", one)

    def _was_read(self, news: out.ReadReceipt) -> None:
        self._sim.invariants.receipts.was_read(self._peer, news)
        self._log_receipt("read", news)

    def _log_receipt(self, event: str, news: out.DeliveryReceipt | out.ReadReceipt) -> None:
        peer, log = self._peer, news.log
        member = self._sim.person(news.member)
        raws = peer.disk.logs.get(log, [])
        if self._sim.invariants.groups.is_group(peer, log.conversation) or log.user != peer.own:
            return
        if news.member in self._sim.people:
            return  # each of its machines has a log, and one of them has the message
        if log.conversation in {dm_id(self._sim.invariants.room, peer.own, guest) for guest in self._sim.guests}:
            return  # messages to hosted users have no line
        for seq in range(news.first, min(news.last, len(raws)) + 1):
            if not decode_entry(raws[seq - 1]).is_message:
                continue
            self.log(event, id=message_id(log, seq), conversation_id=shown_id(log.conversation),
                     user=member.name, user_id=shown_id(member.user))  # fmt: skip

    # ---- messages of others

    def _released(self, _: out.Released) -> None:
        self.take_released()

    def take_released(self) -> None:
        """Take all released entries in order of place. The position is saved later."""
        shown = self._peer.disk.storage.places(self._place, 1 << 20)
        for one in shown:
            self._place = one.place
            self._take(one)
        if shown:
            place = self._place
            self._peer.soon(0.0, 1.0, lambda: self._peer.acked.update(main=place))

    def _take(self, one: ReleasedEntry) -> None:
        peer, invariants, entry = self._peer, self._sim.invariants, decode_entry(one.raw)
        if invariants.groups.is_group(peer, one.log.conversation):
            invariants.groups.handed_on(peer, one, entry)
            return
        invariants.taken.handed_on(peer, one)
        if self._is_of_guests(one.log.conversation):
            return
        invariants.display.handed_on(peer, one, entry)
        if entry.k != "profile":
            invariants.receipts.handed_on(peer, one)
        is_other = not peer.ever_spoke_for(one.log.user)  # entries written here have no `message` line
        if entry.is_message and is_other:
            self.log("message", **self._message(one.log, one.seq, entry), old=one.old, gap=one.gap)

    def _is_of_guests(self, conversation: ConversationId) -> bool:
        """Return whether a direct conversation is between hosted users, and not for the peer's own user."""
        node = self._peer.node
        named = node.replicator.conversations.get(conversation) if node is not None else None
        return named is not None and named.naming.dm is not None and self._peer.own not in named.naming.dm

    def _message(self, log: LogId, seq: int, entry: Entry) -> Line:
        assert self._peer.node is not None
        kind = "room" if log.conversation == self._peer.node.room else "dm"
        sender, text = self._sim.person(log.user), str(entry.b or "")
        return {
            "id": message_id(log, seq), "conversation_id": shown_id(log.conversation), "kind": kind,
            "sender": sender.name, "sender_id": shown_id(log.user), "text": text, "sent_at": iso(entry.at),
            "reply_to": referred_id(log.conversation, entry.re) if entry.re else None,
            "after": [referred_id(log.conversation, ref) for ref in entry.after],
        }  # fmt: skip

    def _gap(self, news: out.GapShown) -> None:
        self._sim.counts["gap"] += 1
        refs = [Ref(log, int(seq)) for log, _, seq in (each.partition(".") for each in news.missing)]
        missing = [referred_id(news.log.conversation, ref) for ref in refs]
        self.log("gap", code="gap", about=message_id(news.log, news.seq), missing=missing, text="")

    # ---- files

    def _arrived(self, news: out.ContentArrived) -> None:
        if self._peer.content is not None:
            self._peer.content.on_arrived(news)

    def _ended(self, news: out.ContentStopped) -> None:
        if self._peer.content is not None:
            self._peer.content.on_stopped(news)

    def _held(self, news: out.FileHeld) -> None:
        self._sim.counts["file_held" if news.has else "file_not_held"] += len(news.users)

    # ---- users

    def _joined(self, news: out.UserJoined) -> None:
        self.log("joined", user=self._sim.person(news.user).name, user_id=shown_id(news.user))

    def _member(self, news: out.MemberChanged) -> None:
        self._sim.counts[f"member_{news.change}"] += 1

    def _left(self, news: out.UserLeft) -> None:
        self._sim.invariants.presence.on_left(self._peer, news)
        self.log("left", user=self._sim.person(news.user).name, user_id=shown_id(news.user), reason=news.reason)

    def _presence(self, news: out.PresenceChanged) -> None:
        self.log("presence", user=self._sim.person(news.user).name, user_id=shown_id(news.user), status=news.status,
                 text=news.text)  # fmt: skip

    def _forgotten(self, news: out.UserForgotten) -> None:
        self._sim.counts["user_forgotten"] += 1

    def _typing(self, news: out.TypingChanged) -> None:
        self._sim.invariants.presence.on_typing(self._peer, news)
        self.log("typing", user=self._sim.person(news.user).name, user_id=shown_id(news.user),
                 conversation_id=base32(news.conversation), typing=news.on)  # fmt: skip

    def _named(self, news: out.UserNamed) -> None:
        pass

    def _group_changed(self, news: out.GroupUpdate) -> None:
        self._sim.invariants.groups.changed(self._peer, news)

    def _undelivered(self, news: out.DeliveryRevoked) -> None:
        self._sim.invariants.groups.undelivered(self._peer, news)

    # ---- the rest

    def _warned(self, news: out.WarningIssued) -> None:
        self._sim.counts[f"warned_{news.code}"] += 1
        self.log("warning", code=news.code, text=news.text, about=news.about)

    def _counted(self, news: out.Counted) -> None:
        self._sim.counts[news.what] += 1
        if news.what == "forks_ignored":
            self._sim.invariants.without_room.add(self._peer.user)

    def log(self, event: str, **fields: Any) -> None:
        """Add a line to the event log."""
        line = {"event": event, "at": iso(EPOCH_UTC + round(self._sim.schedule.now * 1_000_000)), **fields}
        self.lines.append(line)
        self._sim.trace_line(self._peer, line)
