"""Invariants of content: what is told as arrived is what was sent, and goes only to members of its conversation.

No peer asks for a piece again that it was told is verified and stored, also after a kill. Once a mesh is at rest,
everybody has what it wants: what is small and shown, and what its program asked for, as far as a linked member has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from p2pchat.core.content.content_requests import PREFIX
from p2pchat.core.content.pieces import count_pieces, piece_size
from p2pchat.core.effects import ContentArrived, ContentStopped, Counted, Effect, GivePieces
from p2pchat.core.inputs import ContentOpened, Input, LeavesStored, PiecesStored
from p2pchat.core.log import Batch, FileRef, LogId, Ref, attachments_of, decode_entry, ref_key
from p2pchat.protocol import Frame, Holds, Pull
from p2pchat.storage.contract import files_of
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer

OF_FILES = ("Pull", "Lacks", "Piece", "Holds")  # frames, at any time: somebody may ask for what nobody has


class ContentInvariants:
    """The invariants of content of one simulation.

    Attributes:
        all_content: What was ever sent, in the order in which it was made.
        all_named: Every attachment of every message.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self.all_content: list[bytes] = []
        self.all_named: list[tuple[LogId, int, FileRef]] = []
        self._sent: dict[str, bytes] = {}  # by root
        self._named: dict[str, list[tuple[LogId, int]]] = {}  # messages, by root
        self._had: dict[tuple[str, str], set[int]] = {}  # by peer and root: pieces told to its core as stored
        self._taking: dict[str, tuple[str, SimPeer]] = {}  # by peer: the newest piece of a link, by root
        self._wanted: dict[tuple[str, str], tuple[LogId, int, FileRef]] = {}  # asked for, by peer and root
        self._let_go: set[tuple[str, str]] = set()  # by peer and root: deleted, given up or not kept
        self._stopped: set[tuple[str, int, str]] = set()  # by peer, life and root: the store could not keep it
        self._charged: set[str] = set()  # peers that left something out, for a quota

    # ---- what was sent

    def kept(self, root: str, data: bytes) -> None:
        """Note content that somebody is about to send."""
        if root not in self._sent:
            self._sent[root] = data
            self.all_content.append(data)

    def stored(self, batch: Batch) -> None:
        """Note the attachments of entries that become durable somewhere."""
        for seq, raw in enumerate(batch.raws, batch.first) if self._sent else ():
            for file in attachments_of(decode_entry(raw)):
                named = self._named.setdefault(file.root, [])
                if (batch.log, seq) not in named:
                    named.append((batch.log, seq))
                    self.all_named.append((batch.log, seq, file))

    # ---- the store

    def told(self, peer: SimPeer, input: Input) -> None:
        """Note what a core is told of its store, and check that nothing verified is gone."""
        if isinstance(input, PiecesStored):
            self._had.setdefault((peer.name, input.root), set()).update(input.right)
            giver = peer.other_end(input.link)
            if giver is not None:
                self._taking[peer.name] = input.root, giver
            self._sim.counts["piece_stored"] += len(input.right)
            self._sim.counts["piece_refused"] += len(input.wrong)
        elif isinstance(input, (ContentOpened, LeavesStored)):
            had = self._had.get((peer.name, input.root), set())
            if input.missing is None or not had.isdisjoint(input.missing):
                lost = had if input.missing is None else had.intersection(input.missing)
                for index in sorted(lost)[:1]:
                    self._fail("kept", peer, f"lost piece {index} of {input.root[:8]}, which was verified")
            self._sim.counts["content_resumed"] += bool(had) and bool(input.missing)

    def taking(self, peer: SimPeer) -> tuple[str, SimPeer | None]:
        """Return of what a peer took a piece last, and of whom."""
        return self._taking.get(peer.name, ("", None))

    def deleted(self, peer: SimPeer, root: str) -> None:
        """Note that some content is not here any more."""
        self._had.pop((peer.name, root), None)

    def let_go(self, peer: SimPeer, root: str) -> None:
        """Note that some content goes in a moment."""
        self._wanted.pop((peer.name, root), None)
        self._let_go.add((peer.name, root))

    def lost_power(self, peer: SimPeer) -> None:
        """Note that what was not synced may be gone: partial content alone."""
        for name, root in list(self._had):
            if name == peer.name and f"{root}.part" in peer.files.names():
                del self._had[name, root]

    # ---- links

    def given(self, peer: SimPeer, order: GivePieces) -> None:
        """Check that content goes to a member of a conversation in which a message that is shown names it."""
        other = peer.other_end(order.link)
        if peer.byzantine or other is None:
            return
        self._sim.counts["pull_given"] += 1
        if not any(self._may_have(peer, other, log, seq) for log, seq in self._named.get(order.root, ())):
            self._fail("member", peer, f"gives {other.name} some of {order.root[:8]}, which no message there names")

    def _may_have(self, peer: SimPeer, other: SimPeer, log: LogId, seq: int) -> bool:
        is_named = bool(files_of(peer.disk.storage.entry(log, seq))) or peer.disk.owes_deletion(log, seq)
        return is_named and self._is_member(peer, other, log)

    def _is_member(self, peer: SimPeer, other: SimPeer, log: LogId) -> bool:
        groups = self._invariants.groups
        return self._invariants.concerns(other, log) or groups.was_ever_in(peer, other, log.conversation)

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: Sequence[WireEnd]) -> None:
        """Check that no piece is asked for that is here, and that content that is told as here is."""
        if isinstance(frame, Holds) and not peer.byzantine:
            self._sim.counts["file_told"] += len(frame.has)
            for root in frame.has:
                self._check_told(peer, root, ends)
        if isinstance(frame, Pull) and not peer.byzantine:
            again = self._had.get((peer.name, frame.root), set()).intersection(
                range(frame.first, frame.first + frame.count)
            )
            for index in sorted(again)[:1]:
                self._fail("asked", peer, f"asks again for piece {index} of {frame.root[:8]}, which was verified")

    def _check_told(self, peer: SimPeer, root: str, ends: Sequence[WireEnd]) -> None:
        """Check that content is whole and right, and that a message of a conversation of the other end named it."""
        data = self._sent.get(root)
        if data is None or self._whole(peer, root, len(data)) != data:
            self._fail("held", peer, f"tells that it has {root[:8]}, which is not whole there")
        for other in [end.other.owner for end in ends]:  # a deletion may be on the disk, and not told to the core yet
            if not any(self._is_member(peer, other, log) for log, _ in self._named.get(root, ())):
                self._fail("member", peer, f"tells {other.name} of {root[:8]}, which no message there names")

    # ---- programs

    def asked(self, peer: SimPeer, log: LogId, seq: int, file: FileRef) -> None:
        """Note that a program wants some content."""
        self._wanted[peer.name, file.root] = log, seq, file
        self._stopped.discard((peer.name, peer.lives, file.root))

    def ended(self, peer: SimPeer) -> None:
        """Forget what a program asked for just before its process ended, or its disk went back: it had no answer.

        What it had let go before it asked is let go again then, also where its disk went back to before both.
        """
        stored = peer.disk.storage.meta().keys()
        for name, root in list(self._wanted):
            if name == peer.name and PREFIX + root not in stored:
                del self._wanted[name, root]

    def given_up(self, peer: SimPeer, root: str) -> None:
        self._wanted.pop((peer.name, root), None)
        self._let_go.add((peer.name, root))

    def stopped(self, peer: SimPeer, news: ContentStopped) -> None:
        self._sim.counts["content_stopped"] += 1
        self._wanted.pop((peer.name, news.root), None)
        self._let_go.add((peer.name, news.root))
        self._stopped.add((peer.name, peer.lives, news.root))

    def was_stopped(self, peer: SimPeer, root: str) -> bool:
        """Return whether the store of this process could not keep some content."""
        return (peer.name, peer.lives, root) in self._stopped

    def arrived(self, peer: SimPeer, news: ContentArrived) -> None:
        """Check that what is told as arrived is here, and what was sent."""
        self._sim.counts["content_arrived"] += 1
        if self._content_of(peer, news.file) != self._sent.get(news.file.root):
            self._fail("content", peer, f"tells that {news.file} arrived, which is not what was sent")

    def _content_of(self, peer: SimPeer, file: FileRef) -> bytes | None:
        """Return what is here as whole content; None if there is none."""
        return self._whole(peer, file.root, file.size)

    def _whole(self, peer: SimPeer, root: str, size: int) -> bytes | None:
        assert peer.content is not None
        if not peer.content.store.is_whole(root, size):
            return None
        return b"".join(peer.content.store.read(root, index) or b"" for index in range(count_pieces(size)))

    def handled(self, peer: SimPeer, effects: Sequence[Effect]) -> None:
        """Note that a peer leaves something out for a quota."""
        if any(isinstance(effect, Counted) and effect.what == "content_quota" for effect in effects):
            self._charged.add(peer.name)

    # ---- at rest

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield what somebody wants and has not, although a linked member of its conversation has it."""
        for peer in honest if self._sent else ():
            assert peer.content is not None
            for log, seq, file in self._wants(peer):
                if peer.content.store.is_whole(file.root, file.size) or self.was_stopped(peer, file.root):
                    continue
                holders = [other for other in honest if other is not peer and self._can_give(other, peer, file)]
                if holders:
                    text = f"{file} of {log_name(log)} {seq} did not come, and {holders[0].name} has it"
                    yield Fault("content", text, peer.name)

    def untold(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield what a peer knows wrongly of the content of a linked one."""
        for peer in honest if self._sent else ():
            for other in honest:
                if other is not peer and peer.end_to(other) is not None:
                    yield from self._wrongly_known(peer, other)

    def _wrongly_known(self, peer: SimPeer, other: SimPeer) -> Iterator[Fault]:
        assert peer.node is not None and other.content is not None and other.node is not None
        for root, data in self._sent.items():
            is_known = other.node.peer in peer.node.replicator.transfers.receipts.holders(root)
            is_there = other.content.store.is_whole(root, len(data))
            if is_known and not is_there and self._may_ask(peer, other, root):
                yield Fault("held", f"takes {other.name} to have {root[:8]}, and it has it not", peer.name)
            elif is_there and not is_known and self._is_shared(peer, other, root):
                yield Fault("held", f"does not know that {other.name} has {root[:8]}", peer.name)

    def _may_ask(self, peer: SimPeer, other: SimPeer, root: str) -> bool:
        """Return whether a peer has a message that names it, of a conversation that both are in; else it never asks."""
        found = peer.disk.storage.referring([root]).get(root, [])
        return any(self._invariants.concerns(peer, log) and self._invariants.concerns(other, log) for log, _ in found)

    def _is_shared(self, peer: SimPeer, other: SimPeer, root: str) -> bool:
        """Return whether both have a message that names it, of a conversation that both are in."""
        here, there = (one.disk.storage.referring([root]).get(root, []) for one in (peer, other))
        return any(
            each in there and self._invariants.concerns(peer, each[0]) and self._invariants.concerns(other, each[0])
            for each in here
        )

    def _wants(self, peer: SimPeer) -> Iterator[tuple[LogId, int, FileRef]]:
        """Yield what a program asked for, and what comes by itself."""
        for (name, _), (log, seq, file) in self._wanted.items():
            if name == peer.name and file in files_of(peer.disk.storage.entry(log, seq)):
                yield log, seq, file
        most = self._sim.settings.auto_fetch_bytes
        if peer.name in self._charged or not most:
            return
        shown = peer.disk.storage.places(0, 1 << 30)
        # An edit that restores a deleted message does not bring its files back (docs/files.md).
        deleted = {
            (one.log.conversation, decode_entry(one.raw).re) for one in shown if '"k":"delete"' in str(one.raw[1])
        }
        for one in shown:
            if (one.log.conversation, Ref(ref_key(one.log.user, one.log.run), one.seq)) in deleted:
                continue
            if '"files"' in str(one.raw[1]) and one.log.user not in peer.speaks_for and not self._is_byzantine(one.log):
                for file in files_of(peer.disk.storage.entry(one.log, one.seq)):
                    is_left = (peer.name, file.root) in self._let_go
                    if file.size <= most and not is_left and self._invariants.concerns(peer, one.log):
                        yield one.log, one.seq, file

    def _is_byzantine(self, log: LogId) -> bool:
        return self._sim.person(log.user).byzantine

    def _can_give(self, other: SimPeer, peer: SimPeer, file: FileRef) -> bool:
        """Return whether a peer has some content and may give it, whichever message another one names for it."""
        assert other.content is not None
        if other.end_to(peer) is None or not other.content.store.is_whole(file.root, file.size):
            return False
        named = [(log, seq) for log, seq in self._named[file.root] if peer.disk.storage.entry(log, seq) is not None]
        return all(
            self._invariants.concerns(other, log)
            and any(each.root == file.root for each in files_of(other.disk.storage.entry(log, seq)))  # no other version
            for log, seq in named
        )

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check everything that is whole, and every piece that is noted, on a disk."""
        if peer.content is None:
            return
        store = peer.content.store
        for root in [name for name in peer.files.names() if "." not in name] if self._sent else ():
            data = self._sent.get(root)
            size = len(data) if data is not None else -1
            if data is None or not store.is_whole(root, size):
                yield Fault("content", f"{root[:8]} is kept as whole, and nobody sent it", peer.name)
                continue
            for index in range(count_pieces(size)):
                start = index * 256 * 1024
                if store.read(root, index) != data[start : start + piece_size(size, index)]:
                    yield Fault("content", f"piece {index} of {root[:8]} is not what was sent", peer.name)

    def _fail(self, rule: str, peer: SimPeer, text: str) -> None:
        if not peer.byzantine:
            self._invariants.fail(rule, peer, text)
