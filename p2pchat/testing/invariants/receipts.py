"""Invariants of receipts, presence and typing, and the actions that cause them.

A writer gets no receipt from a member that never had the entry, and no receipt twice in a session. In half of the
histories programs mark entries read: at once, later or never. A few users turn read receipts off. A writer gets no read
receipt for an unread entry, none before delivery, and none from or for a user who turned them off. A running peer
sends no read mark that is not on its disk. At rest every writer has the read marks on the disks of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core import inputs
from p2pchat.core.effects import (
    Commit,
    DeliveryReceipt,
    Effect,
    GroupUpdate,
    ReadReceipt,
    Released,
    Send,
    TypingChanged,
)
from p2pchat.core.inputs import Input, MarkedRead, ReceiptsChosen, Stop
from p2pchat.core.log import LogId, Ref, decode_entry, ref_key
from p2pchat.core.records import Change, Prune, ReadMark, Stored
from p2pchat.core.sync.conversations import dm_id
from p2pchat.core.sync.refusals import REFUSERS, parse_refusers
from p2pchat.core.sync.rosters import guests_having
from p2pchat.protocol import ConversationId, Frame, ReadFrame, TypingFrame, UserId
from p2pchat.storage.base import ReleasedEntry
from p2pchat.storage.memory import MemoryStorage
from p2pchat.testing.eventlog import Fault, Log
from p2pchat.testing.invariants.protocol import log_name

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Invariants
    from p2pchat.testing.simulation.hosted_users import SimHostedUser
    from p2pchat.testing.simulation.network import WireEnd
    from p2pchat.testing.simulation.peer import SimPeer
    from p2pchat.testing.simulation.program import Written
    from p2pchat.testing.simulation.simulation import Simulation


READ_IN = 0.5  # the part of histories
WANT_NONE = 0.15  # the part of users that turn receipts off
LATER = (0.0, 0.0, 0.01, 0.5, 5.0, 30.0, -1.0)  # seconds until an entry is read; -1 for never


class ReceiptInvariants:
    """Marks entries as read, and checks the receipts."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._reads = Random(f"{self._sim.seed} reading").random() < READ_IN
        self._said: dict[tuple[UserId, LogId], int] = {}  # (reader, log) -> marked read by its program
        self._delivered: set[tuple[LogId, int, UserId]] = set()  # (log, seq, member) as reported to writers
        self._seen: set[tuple[object, ...]] = set()  # within one session: (peer, session, event, log, seq, member)
        # (peer, session, event, log, member) -> known at its start
        self._known: dict[tuple[str, int, str, LogId, UserId], int] = {}
        self._reported_to: dict[tuple[str, int], dict[tuple[LogId, UserId], int]] = {}  # (peer, session) -> deliveries

    def wants_none(self, peer: SimPeer) -> bool:
        """Return whether a user turned read receipts off."""
        return self._reads and Random(f"{self._sim.seed} {peer.name} wants receipts").random() < WANT_NONE

    # ---- reading

    def started(self, peer: SimPeer) -> None:
        """Choose receipts again after a start."""
        if self.wants_none(peer):
            peer.put(ReceiptsChosen(peer.user, False))

    def handed_on(self, peer: SimPeer, one: ReleasedEntry) -> None:
        """Perhaps schedule the reading of an entry that a program received."""
        if not self._reads or peer.byzantine or one.log.user == peer.user:
            return
        drawn = Random(f"{self._sim.seed} {peer.name} {peer.lives} reads {one.place}")
        seconds = drawn.choice(LATER)
        if seconds >= 0:
            peer.soon(seconds, seconds, lambda: self._read(peer, one))

    def _read(self, peer: SimPeer, one: ReleasedEntry) -> None:
        if self._invariants.at_rest:
            return  # no more actions at rest
        for each in peer.disk.storage.places(0, one.place, [one.log.conversation]):  # at most so many
            if each.place <= one.place:
                key = (peer.user, each.log)
                self._said[key] = max(each.seq, self._said.get(key, 0))
        self._sim.counts["read"] += 1
        peer.put(MarkedRead(peer.user, one.log, one.seq, one.place))

    def frame_sent(self, peer: SimPeer, frame: Frame) -> None:
        """Check that the read marks in a frame are durable; a peer that stops sends its last ones with their commit."""
        if not isinstance(frame, ReadFrame) or not frame.marks or peer.byzantine or peer.handling is Stop:
            return
        stored = peer.disk.storage.load_users(peer.speaks_for).reads
        durable = {
            (mark.log.conversation, mark.reader, ref_key(mark.log.user, mark.log.run)): mark.seq for mark in stored
        }
        for conversation, readers in frame.marks.items():
            for reader, marks in readers.items():
                for ref, seq in marks:
                    if durable.get((conversation, reader, ref), 0) < seq:
                        self._invariants.fail("read", peer, f"{reader[:8]} {ref} {seq}: sent before it was on disk")

    # ---- receipts

    def hosting(self, peer: SimPeer, stored: Stored) -> None:
        """Note the marks with which a process starts, or begins to host a user."""
        every = stored.stays or peer.disk.storage.load([]).stays
        marks = [("delivered", *each) for each in guests_having(stored.delivered, every)]
        # A node reports read marks of users it hosts at that time, so marks of others are not known yet.
        marks += [
            ("read", mark.log, mark.reader, mark.seq) for mark in stored.reads if mark.log.user in peer.speaks_for
        ]
        for event, log, member, seq in marks:
            key = (peer.name, peer.lives, event, log, member)
            self._known[key] = max(seq, self._known.get(key, 0))

    def delivered(self, peer: SimPeer, news: DeliveryReceipt) -> None:
        """Check a delivery receipt."""
        member, log = self._sim.person(news.member), news.log
        if peer.byzantine:
            return
        if not member.byzantine and not self._invariants.may_fork(log):
            if member.had(log) < news.last:
                self._invariants.fail("delivered", peer, f"{member.name} never had {log_name(log)} {news.last}")
        elif news.member in self._sim.by_user and not (member.byzantine or member.restored):
            here, there = (each.disk.logs.get(log, []) for each in (peer, self._sim.by_user[news.member]))
            if min(len(here), len(there)) >= news.last and here[: news.last] != there[: news.last]:
                self._invariants.fail("delivered", peer, f"{member.name} has another {log_name(log)} {news.last}")
        self._reported(peer, "delivered", news, "receipt")
        reported = self._reported_to.setdefault((peer.name, peer.lives), {})
        reported[log, news.member] = max(news.last, reported.get((log, news.member), 0))
        self._delivered |= {(log, seq, news.member) for seq in range(news.first, news.last + 1)}

    def _reported(self, peer: SimPeer, event: str, news: DeliveryReceipt | ReadReceipt, rule: str) -> None:
        """Check that a receipt is neither known before the session nor reported in it before."""
        what = f"{log_name(news.log)} {news.last} {event}, {self._sim.person(news.member).name}"
        session = (peer.name, peer.lives, event, news.log)
        if news.first <= self._known.get((*session, news.member), 0):
            self._invariants.fail(rule, peer, f"{what}: known before its start")
        for seq in range(news.first, news.last + 1):
            receipt = (*session, seq, news.member)
            if receipt in self._seen:
                self._invariants.fail(rule, peer, f"{what}: {seq} is reported twice")
            self._seen.add(receipt)

    def lacking(self, written: Written, member: SimPeer | SimHostedUser) -> Iterator[Fault]:
        """Yield a fault if the delivery of a message to a member was never reported to its writer."""
        log = written.log
        if log is not None and (log, written.seq, member.user) not in self._delivered:
            text = f"no receipt of {member.name} for {log_name(log)} {written.seq}"
            yield Fault("receipt", text, written.at.name)

    def forgotten(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, deliveries that were reported in this session and are not known any more."""
        for peer in honest:
            for (log, user), last in self._reported_to.get((peer.name, peer.lives), {}).items():
                if peer.node is not None and log.user in peer.speaks_for:
                    known = peer.node.sync.delivery_receipts.position(log, user)
                    if user not in peer.speaks_for and known < last and log.user != user:
                        text = f"{log_name(log)} {last} was delivered to {self._sim.person(user).name}, now {known}"
                        yield Fault("receipt_kept", text, peer.name)

    def was_read(self, peer: SimPeer, news: ReadReceipt) -> None:
        """Check a read receipt."""
        reader = self._sim.by_user[news.member]
        if peer.byzantine or reader.byzantine:
            return
        what = f"{reader.name} has read {log_name(news.log)} {news.last}"
        is_late = news.log in self._invariants.odd and not self._invariants.refuses(
            reader, news.log
        )  # after an upgrade
        is_marked = self._said.get((news.member, news.log), 0) >= news.last
        is_marked |= reader.disk.pruned.get(news.log, 0) >= news.last  # it is not among what was shown any more
        if not (is_marked or is_late or self._invariants.may_fork(news.log)):
            self._invariants.fail("read", peer, f"{what}: its program did not mark it")
        if (self.wants_none(peer) and news.log.user == peer.user) or self.wants_none(reader):
            self._invariants.fail("read", peer, f"{what}: reported, though one of the two turned receipts off")
        self._reported(peer, "read", news, "read")
        for seq in range(news.first, news.last + 1):
            if reader is not peer and (news.log, seq, news.member) not in self._delivered:
                self._invariants.fail("read", peer, f"{what}: {seq} was never delivered")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, read entries whose writer has no read receipt."""
        if not self._reads:
            return
        yield from self._unequal(honest)
        for reader in honest:
            if reader.linked and reader.node is not None and reader.node.sync.read_receipts.has_unsent:
                yield Fault("unread", "has unsent read marks", reader.name)
        marks = {peer.user: peer.disk.storage.load([peer.user]).reads for peer in honest}
        for reader in honest:
            for mark in marks[reader.user]:
                writer = self._sim.by_user.get(mark.log.user)
                is_known = writer is None or writer not in honest or self._knows(writer, mark)
                if writer is not None and self._invariants.deletions.any and not writer.disk.has(mark.log, mark.seq):
                    continue  # lost with its disk, and deleted by those who held it
                if writer is not None and self._invariants.deletions.hides_fork(mark.log, writer, reader):
                    continue
                if writer is not None and mark.reader == reader.user and not is_known:
                    text = f"does not know that {reader.name} has read {log_name(mark.log)} {mark.seq}"
                    yield Fault("unread", text, writer.name)

    def _unequal(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield linked peers whose sums of read marks differ."""
        for reader in honest:
            for writer in honest:
                if reader.node is None or writer.node is None or writer.user not in reader.node.links.by_peer:
                    continue
                remote = reader.node.sync.context.remotes.get(reader.node.links.by_peer[writer.user].id)
                total = reader.node.sync.read_receipts.sum_for(remote) if remote is not None else ""
                if (
                    total
                    and reader is not writer
                    and writer.node.sync.read_receipts.announced_sum(reader.user) != total
                ):
                    yield Fault("unread", f"has read marks that {writer.name} lacks", reader.name)

    def _knows(self, writer: SimPeer, mark: ReadMark) -> bool:
        reader = self._sim.by_user[mark.reader]
        if writer.node is None or not self._sim.can_link(writer, reader) or self._invariants.may_fork(mark.log):
            return True
        if self._invariants.is_odd_writer(mark.log.user):
            return True  # its logs arrive in another order than they were written
        if reader.node is not None and mark.log.conversation in reader.node.sync.requests.by_id:
            return True  # it is told once the reader answers
        if self.wants_none(writer) or self.wants_none(reader):
            return True
        if writer.node.sync.read_receipts.tracker.position(mark.log, mark.reader) >= mark.seq:
            return True
        return any(member == mark.reader for member, _ in writer.disk.storage.readers(mark.log, mark.seq))


# ---- presence and typing
#
# Presence and typing are not stored or acknowledged: the latest value counts, and typing expires. They must cause no
# commit, reach no peer outside the conversation and report nothing that no user set. A change of typing is sent at
# once, the same word again only after a time. At rest every peer sees the latest presence of all, and nobody types. The
# actions draw from a chance of their own.

WITH_PRESENCE = 0.4  # the part of histories
WORDS = (("online", ""), ("idle", ""), ("idle", "lunch"), ("idle", "back at one"), ("offline", ""))
CLOCKS_DIFFER = 0.01  # seconds by which two clocks may differ within three seconds
Typist = tuple[ConversationId, UserId]


class Chatter:
    """The actions of users: they set their presence and type."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._talks = Random(f"{sim.seed} words").random() < WITH_PRESENCE

    def step(self, number: int) -> None:
        """Perhaps let some users act."""
        chance = Random(f"{self._sim.seed} words {number}")
        for _ in range(chance.choice((0, 1, 1, 4)) if self._talks else 0):
            up = self._sim.honest_up
            if up:
                self._say(chance, chance.choice(up), up)

    def write_last(self) -> None:
        """Let every user set a last presence, which must arrive; some type without stopping."""
        chance = Random(f"{self._sim.seed} last words")
        for peer in self._sim.up if self._talks else ():
            for _ in range(chance.choice((1, 1, 3))):
                peer.set_presence(*chance.choice(WORDS))
            if chance.random() < 0.5:
                peer.types()

    def _say(self, chance: Random, peer: SimPeer, up: list[SimPeer]) -> None:
        if chance.random() < 0.5:
            peer.set_presence(*chance.choice(WORDS))
        else:
            other = chance.choice(up)
            peer.types(None if other is peer else other, on=chance.random() < 0.8)


class PresenceInvariants:
    """The invariants of presence and typing."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        # (peer, loads, typist) -> the last typing frame, unless a message ended it: when, its word, to whom
        self._sent: dict[tuple[str, int, Typist], tuple[float, bool, list[WireEnd]]] = {}
        self._typed: set[Typist] = set()  # every typist so far

    def handled(self, peer: SimPeer, input: Input, effects: list[Effect]) -> None:
        """Check that presence and typing of a local user cause no commit, and that a change of typing is sent."""
        ended = [(input.conversation, input.user)] if isinstance(input, inputs.WriteRequest) else []
        for effect in effects:
            ended += [each.log.key for each in effect.stretches] if isinstance(effect, Released) else []
            if isinstance(effect, GroupUpdate) and effect.change in ("removed", "left"):
                ended.append((effect.talk, effect.target))
        for typist in ended:
            self._sent.pop((peer.name, peer.loads, typist), None)
        if not isinstance(input, (inputs.PresenceSet, inputs.TypingSet)) or peer.byzantine:
            return
        if isinstance(input, inputs.PresenceSet) and input.status == "offline":
            for name, loads, (conversation, user) in list(self._sent):
                if (name, loads, user) == (peer.name, peer.loads, input.user):
                    self._check_change(peer, inputs.TypingSet(user, conversation, on=False), effects)
        if isinstance(input, inputs.TypingSet):
            self._typed.add((input.conversation, input.user))
            self._check_change(peer, input, effects)
        if any(isinstance(effect, Commit) for effect in effects):
            self._invariants.fail("stored", peer, f"stores something because of {type(input).__name__}")

    def _check_change(self, peer: SimPeer, input: inputs.TypingSet, effects: list[Effect]) -> None:
        assert peer.node is not None
        key = peer.name, peer.loads, (input.conversation, input.user)
        at, on, ends = self._sent.get(key, (0.0, input.on, []))
        expires = self._sim.settings.typing_expires - CLOCKS_DIFFER
        if on == input.on or (on and self._since(peer, at) >= expires):
            return
        sync = peer.node.sync.context
        if sync.discarded:  # storage failed: nothing is sent until it works again
            return
        can_hear = any(end.link in sync.remotes and not sync.remotes[end.link].link.full for end in ends)
        sent = [one.frame for one in effects if isinstance(one, Send)]
        if any(isinstance(frame, TypingFrame) and frame.c == input.conversation for frame in sent):
            return
        if can_hear:
            self._invariants.fail("typing", peer, f"did not send at once: typing {'on' if input.on else 'off'}")
        self._sent[key] = self._sim.now, input.on, []  # a change that nobody could be sent

    def _since(self, peer: SimPeer, at: float) -> float:
        """Return the seconds since a time, by the clock of a peer."""
        return (self._sim.now - at) * peer.clock.rate

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """Check a typing frame that is sent."""
        if not isinstance(frame, TypingFrame) or peer.byzantine:
            return
        key = peer.name, peer.loads, (frame.c, frame.u)
        at, on, earlier = self._sent.get(key, (float("-inf"), False, []))
        since = self._since(peer, at)
        if on == frame.on and 0 < since < self._sim.settings.typing_every - CLOCKS_DIFFER:
            self._invariants.fail("typing", peer, f"sent it again after {since:.3f} s")
        in_parts = on == frame.on and since == 0  # links that know the conversation get a frame of their own
        self._sent[key] = self._sim.now, frame.on, [*earlier, *ends] if in_parts else ends
        for end in ends:
            other = end.other.owner.user
            if frame.c not in (self._invariants.room, dm_id(frame.u, other)):
                self._invariants.fail("leak", peer, f"sends {end.other.owner.name} who types where it may not read")

    def on_typing(self, peer: SimPeer, news: TypingChanged) -> None:
        """Check who types, as reported to a program."""
        person = self._sim.person(news.user)
        never_typed = (news.conversation, news.user) not in self._typed
        if news.on and never_typed and not (person.byzantine or peer.byzantine):
            self._invariants.fail("invented", peer, f"hears that {person.name} types")

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check, at rest, the presence that this peer shows of the others, and the last event of its program."""
        assert peer.node is not None
        session = Log(peer.name, peer.lines).sessions[-1]
        here = {line["user"]: line["event"] == "joined" for _, line in session.of("joined", "left")}
        for other in self._sim.all_peers:
            if other.byzantine or other is peer or not self._sim.can_link(peer, other):
                continue
            if here.get(other.name, False) != other.up:
                state = "up" if other.up else "down"
                yield Fault("presence", f"{other.name} is {state}, and was reported otherwise", peer.name)
            seen = peer.node.presence.status(other.user)[:2]
            if other.up and seen != other.status:
                yield Fault("word", f"sees {other.name} as {seen}, who said {other.status}", peer.name)
        for guest in self._sim.guests.values():
            is_here = any(at is peer or peer.end_to(at) is not None for at in guest.here())
            status = peer.node.presence.status(guest.user)[0]
            if is_here != (status == "online"):
                where = [at.name for at in guest.here()]
                yield Fault("word", f"sees {guest.name} as {status}; its hosts are {where}", peer.name)
        types = {(line["user"], line["conversation_id"]): line["typing"] for _, line in session.of("typing")}
        byzantines = {other.name for other in self._sim.all_peers if other.byzantine}  # may type again at any time
        for name in sorted({user for (user, _), on in types.items() if on} - byzantines):
            yield Fault("typing", f"{name} types for ever", peer.name)


# ---- deletion
#
# What is deleted on one peer changes no mark, no sum and no receipt, and stays away. In a history with deletions some
# entries are nowhere any more: a peer that lacks them, or what builds on them, is not expected to get them. The fields
# of Stored in SAME stay as they were.

SAME = ("forked", "delivered", "stays", "reads", "next_place", "users", "consumers", "group_entries")


class DeletionInvariants:
    """The invariants of deletion.

    Attributes:
        any: True once something was deleted in this history.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self.any: bool = False

    def stored(self, peer: SimPeer, prune: Prune) -> None:
        """Check a deletion that becomes durable: what hosted users wrote is held by another peer."""
        self.any = True
        if peer.byzantine or prune.log.user not in peer.speaks_for or self._invariants.may_fork(prune.log):
            return
        others = [other for other in self._sim.all_peers if other is not peer]
        is_claimed = any(other.byzantine for other in others)  # it may have lied
        if not is_claimed and all(other.disk.ever.get(prune.log, 0) < prune.upto for other in others):
            self._invariants.fail("kept", peer, f"deletes {prune.upto} entries of {prune.log.run[:6]} that nobody has")

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Compare a disk with what it would be without its deletions."""
        if not peer.disk.pruned:
            return
        whole, storage = MemoryStorage(self._sim.settings), peer.disk.storage
        bare = [_without_deletions(change) for change in peer.disk.changes]
        whole.commit(bare)
        expected, found = whole.load(peer.speaks_for), storage.load(peer.speaks_for)
        tips = [facts.replace(pruned=0) for facts in found.tips]
        if tips != expected.tips or any(getattr(found, name) != getattr(expected, name) for name in SAME):
            yield Fault("marks_stay", "a deletion has changed marks or receipts", peer.name)
        here = {(one.log, one.seq, one.place, one.raw) for one in storage.places(0, 1 << 30)}
        entries = whole.places(0, 1 << 30)
        left = {
            (one.log, one.seq, one.place, one.raw) for one in entries if not self.is_deleted(peer, one.log, one.seq)
        }
        if here != left:
            yield Fault("deleted", f"shows {len(here)} entries and not the {len(left)} it did not delete", peer.name)

    def is_deleted(self, peer: SimPeer, log: LogId, seq: int) -> bool:
        """Return whether a peer deleted this entry."""
        return seq <= peer.disk.pruned.get(log, 0)

    def is_gone(self, peer: SimPeer, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether a peer deleted the entry that a reference names."""
        return any(
            log.conversation == conversation and ref_key(log.user, log.run) == ref.log and ref.seq <= upto
            for log, upto in peer.disk.pruned.items()
        )

    def can_serve(self, one: SimPeer, peer: SimPeer, log: LogId) -> bool:
        """Return whether a peer that holds more of a log can serve it to another, which can take it."""
        held = len(peer.disk.logs.get(log, ()))
        if one.disk.pruned.get(log, 0) > held:
            return False
        before = decode_entry(one.disk.logs[log][0]).before if not held else ()
        below = {log._replace(run=mark.run): mark.seq for mark in before}
        return all(
            len(peer.disk.logs.get(each, ())) >= seq and not self._hides_fork(peer, each) for each, seq in below.items()
        )

    def hides_fork(self, log: LogId, *peers: SimPeer) -> bool:
        """Return whether one of these peers deleted all of a log of this writer here that may fork.

        That peer cannot prove the fork. So its marks of this writer may imply nothing at another one.
        """
        return any(self._hides_fork(peer, each) for peer in peers for each in peer.disk.pruned if each.key == log.key)

    def ended_below(self, log: LogId, at: SimPeer, host: SimPeer) -> bool:
        """Return whether a host lost the end of a log that its writer's peer deleted, so that it never comes back.

        Users count as having what their host held most, and who came since has no receipt of less.
        """
        return len(host.disk.logs.get(log, ())) < min(host.disk.ever.get(log, 0), at.disk.pruned.get(log, 0))

    def keeps_refusal(self, log: LogId, seq: int, at: SimPeer, user: UserId, peer: SimPeer) -> bool:
        """Return whether a log counts as refused by a user although that user's peer may hold it now.

        An equal sum ends a refusal. A peer that lacks what was deleted never has one.
        """
        refusers = parse_refusers(at.disk.storage.meta().get(REFUSERS + ",".join(log), ""))
        return refusers.get(user, seq) < seq and self.lacks_deleted(peer)

    def _hides_fork(self, peer: SimPeer, log: LogId) -> bool:
        return self._invariants.may_fork(log) and peer.disk.pruned.get(log, 0) >= len(peer.disk.logs.get(log, ())) > 0

    def lacks_deleted(self, peer: SimPeer) -> bool:
        """Return whether a peer lacks entries that another one holds, and that nobody can serve to it.

        Or it deleted a log of which another may hold another version.
        """
        if any(self._hides_fork(peer, log) for log in peer.disk.pruned):
            return True
        return self.any and any(
            len(raws) > len(peer.disk.logs.get(log, ())) and self._invariants.concerns(peer, log)
            for other in self._sim.honest_up
            for log, raws in other.disk.logs.items()
        )


def _without_deletions(change: Change) -> Change:
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    return Change(**fields | {"pruned": []})
