"""Scripted members of a network: fixed keys, and what they write, hold and answer.

A scripted member uses the frames, keys and hashes of p2pchat and none of its decisions, so it can also break each rule.
While it is linked it does by itself what a small honest peer does: it answers pings, compares, serves what it holds,
and acknowledges what it takes. A rule takes any of these answers away (`answers`) and sends its own frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.content.pieces import PIECE_BYTES, leaf_of
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.log import (
    NO_SUM,
    LogId,
    RawEntry,
    before_of,
    encode_header,
    extend_chain,
    first_chain,
    hash_of,
    head_message,
    mark_hash,
    ref_key,
)
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.sync.conversation_state import SHARED_TAG, TIPS_TAG
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.protocol import ConversationId, Mark, Naming, UserId
from p2pchat_conformance.awaited_frames import LOWEST, SPAN, KitContext, ScriptedLink, compact, now_us


class ScriptedLog:
    """One log: its entries, chains and heads. With its author's key it can be written on."""

    def __init__(
        self, id: LogId, author: Identity | None = None, before: Sequence[Mark] = (),
        by: wire.GuestCertificate | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.author = author
        self.before: tuple[Mark, ...] = tuple(before)
        self.header: str = encode_header(id, self.before, by)
        self.raws: list[RawEntry] = []
        self.chains: list[bytes] = [first_chain(self.header)]
        self.heads: dict[int, str] = {}
        self.clock: int = 0

    def entry(self, k: str, b: object = None, *, c: int | None = None, **keys: object) -> RawEntry:
        """Return a next entry, its clock and its text. Keys with the value None are left out; `g` is the last one."""
        members = {"k": k, "at": now_us(), **keys, "b": b}
        members["g"] = members.pop("g", None)
        return self.of_text(compact({key: value for key, value in members.items() if value is not None}), c)

    def of_text(self, text: str, c: int | None = None) -> RawEntry:
        """Return a next entry with this text."""
        self.clock = c if c is not None else max(now_us(), self.clock + 1)
        return self.clock, text

    def write(self, *raws: RawEntry) -> wire.Entries:
        """Append these entries, unchanged, and return the batch with its head."""
        assert self.author is not None
        first = len(self.raws) + 1
        for raw in raws:
            self.raws.append(raw)
            self.chains.append(extend_chain(self.chains[-1], [raw]))
        self.heads[len(self.raws)] = self.author.sign(head_message(self.id, len(self.raws), self.chains[-1])).hex()
        return self.batch(first)

    def text(self, *texts: str, **keys: Any) -> wire.Entries:
        """Append texts as one batch; the first entry of a log in the room is a profile."""
        return self.write(*(self.entry("text", text, **keys) for text in texts))

    def batch(self, first: int, last: int | None = None, n: int | None = None, fork: bool = False) -> wire.Entries:
        """Return entries `first` to `last`, which has a head; None for the last one."""
        last = last or len(self.raws)
        prev, head = self.chains[first - 1].hex(), self.heads[last]
        header = self.header if first == 1 or fork else ""
        return wire.Entries(*self.id, first, prev, self.raws[first - 1 : last], head, header, n, fork)

    def batches(self, after: int = 0, n: int | None = None) -> list[wire.Entries]:
        """Return what follows an entry, one batch for each head."""
        found = []
        for last in sorted(end for end in self.heads if end > after):
            found.append(self.batch(after + 1, last, n))
            after = last
        return found

    def take(self, frame: wire.Entries) -> None:
        """Append what is new in a batch of the candidate."""
        chain = bytes.fromhex(frame.prev)
        if frame.first == 1 and not self.raws:
            self.header, self.before, self.chains = frame.h, before_of(frame), [chain]
        if frame.first > len(self.raws) + 1 or self.chains[frame.first - 1] != chain:
            return
        for place, raw in enumerate(frame.e, frame.first):
            chain = extend_chain(chain, [raw])
            if place > len(self.raws):
                self.raws.append(raw)
                self.chains.append(chain)
        self.heads[len(self.raws)] = frame.head

    def mark(self, seq: int | None = None) -> Mark:
        seq = len(self.raws) if seq is None else seq
        return Mark(self.id.run, seq, self.chains[seq].hex())

    def ref(self, seq: int | None = None) -> list[object]:
        """Return the reference to an entry, None for the last one."""
        return [ref_key(self.id.user, self.id.run), seq or len(self.raws)]

    def holds(self, mark: Mark) -> bool:
        return mark.seq < len(self.chains) and self.chains[mark.seq].hex() == mark.chain


def pieces_of(data: bytes) -> list[bytes]:
    """Return the pieces of content."""
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]


ALL_ANSWERS = frozenset({"pong", "digest", "have", "want", "ack", "pull"})


@dataclass(eq=False)
class ScriptedMember:
    """One member that the kit plays.

    Attributes:
        hosted: Further users of this member, by id.
        held: The logs it holds, its own and others'.
        told: What the candidate's users are: the newest item of `here` for each.
        answers: What it does by itself, of ALL_ANSWERS.
        wants_all: Fetch the logs of everybody, not only those of the candidate's users.
        shared: Conversations beside the room and direct ones, by id.
        learns: Take the groups that the candidate names as shared.
        can: What it says in its `peers`.
        contents: What it gives to whoever pulls it, by root.
        lists: Lists of leaves that it gives for these roots, in place of those of `contents`.
    """

    kit: KitContext
    name: str
    identity: Identity
    hosted: dict[UserId, Identity] = field(default_factory=dict)
    held: dict[LogId, ScriptedLog] = field(default_factory=dict)
    told: dict[UserId, wire.Hosted] = field(default_factory=dict)
    answers: set[str] = field(default_factory=lambda: set(ALL_ANSWERS))
    wants_all: bool = False
    shared: dict[ConversationId, Naming] = field(default_factory=dict)
    learns: bool = False
    can: tuple[str, ...] = ()
    contents: dict[str, bytes] = field(default_factory=dict)
    lists: dict[str, bytes] = field(default_factory=dict)
    port: int = 0
    certificates: dict[UserId, wire.Cert] = field(default_factory=dict)
    _runs: int = 0

    @property
    def id(self) -> str:
        return self.identity.peer_id

    @property
    def decides(self) -> bool:
        """True if this member is the decider of its pair with the candidate."""
        return self.id < self.kit.candidate

    def record(self, *endpoints: str, at: int = 0) -> wire.PeerRecord:
        """Return its record with these endpoints, by default one made now."""
        network = self.kit.network
        at = at or time.time_ns() // 1000
        return make_record(network.id, self.id, self.identity.sign, at, endpoints, network.guest(self.id))

    # ---- what it writes

    def run(self) -> str:
        """Return a new run."""
        self._runs += 1
        return self.kit.draw(f"run {self.name} {self._runs}", 8).hex()

    def log(self, conversation: str = "", *, before: Sequence[Mark] = (), user: Identity | None = None,
            run: str = "", hold: bool = True, profile: bool = True,
            by: wire.GuestCertificate | None = None) -> ScriptedLog:  # fmt: skip
        """Begin a log; "" is the room, where it begins with a profile. With `hold` it is held and served.

        The member of the kit answers for its writer, unless `by` names another one.
        """
        author = user or self.identity
        by = by or self.kit.network.guest(author.peer_id)
        id = LogId(conversation or self.kit.room, author.peer_id, run or self.run())
        log = ScriptedLog(id, author, before, by)
        self.kit.logs.setdefault(id, []).append(log)
        if hold:
            self.held[id] = log
        if id.conversation == self.kit.room and profile:
            log.write(log.entry("profile", {"name": self.name}))
        return log

    def say(self, conversation: str, *texts: str, **keys: Any) -> tuple[ScriptedLog, wire.Entries]:
        """Write texts into the newest log of this member there, or a new one; return the log and all that is new."""
        there = [log for log in self.held.values() if log.id[:2] == (conversation, self.id)]
        log = there[-1] if there else self.log(conversation)
        first = len(log.raws) + 1 if there else 1
        log.write(*(log.entry("text", text, **keys) for text in texts))
        return log, log.batch(first)

    def dm(self, user: UserId = "", own: UserId = "") -> ConversationId:
        """Return the direct conversation of one of its users with the candidate's own user, or another of its users."""
        return dm_id(self.kit.room, own or self.id, user or self.kit.candidate)

    # ---- what it shares and holds

    def naming(self, conversation: ConversationId) -> Naming | None:
        """Return what an id stands for; None for one that it does not share with the candidate."""
        if conversation == self.kit.room:
            return Naming(room=True)
        if conversation in self.shared:
            return self.shared[conversation]
        for own in (self.id, *self.hosted):
            for user in self.told or (self.kit.candidate,):
                if dm_id(self.kit.room, own, user) == conversation:
                    return dm_naming(own, user)
        return None

    def learn(self, names: Iterable[Naming]) -> None:
        for naming in names:
            if naming.group:
                self.shared.update(group_namings(*naming.group))

    def conversations(self) -> list[ConversationId]:
        """Return the shared conversations with entries, in order."""
        return sorted({id.conversation for id, log in self.held.items() if log.raws and self.naming(id.conversation)})

    def tips(self, conversation: ConversationId, user: UserId) -> list[Mark]:
        logs = [log for id, log in self.held.items() if id[:2] == (conversation, user) and log.raws]
        covered = {mark for log in logs for mark in log.before}
        return [log.mark() for log in logs if log.mark() not in covered]

    def marks(self, conversation: ConversationId) -> dict[UserId, list[Mark]]:
        users = sorted({id.user for id in self.held if id.conversation == conversation})
        return {user: tips for user in users if (tips := self.tips(conversation, user))}

    @property
    def total(self) -> str:
        """The sum of everything shared."""
        sums = sorted((conversation, sum) for conversation, sum in self.sums.items() if sum != NO_SUM)
        return hash_of(SHARED_TAG, [bytes.fromhex(sum) for _, sum in sums])

    @property
    def sums(self) -> dict[ConversationId, str]:
        return {conversation: self._sum_of(conversation) for conversation in self.conversations()}

    def _sum_of(self, conversation: ConversationId) -> str:
        hashes = [
            mark_hash(LogId(conversation, user, tip.run), tip.seq, bytes.fromhex(tip.chain))
            for user, tips in self.marks(conversation).items() for tip in tips
        ]  # fmt: skip
        return hash_of(TIPS_TAG, sorted(hashes))

    def here(self) -> wire.Here:
        """Return the announcement of its own user and of hosted ones."""
        own = wire.Hosted(self.id, self.name, "online", since=now_us())
        further = [
            wire.Hosted(user, f"{self.name}-{place}", "online", cert=self.certificates.get(user))
            for place, user in enumerate(self.hosted, 1)
        ]
        return wire.Here([own, *further])

    # ---- what it does by itself

    def on_frame(self, link: ScriptedLink, frame: wire.AnyFrame) -> None:
        if isinstance(frame, wire.Ping) and "pong" in self.answers:
            link.send(wire.Pong())
        elif isinstance(frame, wire.Here):
            self.told.update({user.id: user for user in frame.users})
            for user in frame.gone:
                self.told.pop(user, None)
        elif isinstance(frame, wire.Digest) and "digest" in self.answers:
            self._on_digest(link, frame)
        elif isinstance(frame, wire.Have):
            self._on_have(link, frame)
        elif isinstance(frame, wire.Want) and "want" in self.answers:
            self.serve(link, frame)
        elif isinstance(frame, wire.Entries) and "ack" in self.answers and not frame.fork:
            self._on_entries(link, frame)
        elif isinstance(frame, wire.Pull) and "pull" in self.answers:
            self.give(link, frame)

    def _on_digest(self, link: ScriptedLink, frame: wire.Digest) -> None:
        own = self.sums
        if frame.sum is not None:
            total = self.total
            if frame.sum != total:
                link.send(wire.Digest(sums=own, span=SPAN))
            elif frame.ask:
                link.send(wire.Digest(sum=total))
            return
        assert frame.sums is not None and frame.span is not None
        first, last = frame.span
        within = {one for one in own if first <= one <= last} | {one for one in frame.sums if self.naming(one)}
        for one in sorted(within):
            if frame.sums.get(one, LOWEST) != own.get(one, LOWEST):
                link.send(wire.Have({one: self.marks(one)}, span=SPAN, ask=True))

    def _on_have(self, link: ScriptedLink, frame: wire.Have) -> None:
        if frame.end is not None:
            link.open_wants.pop(frame.end, None)
        if "have" not in self.answers:
            return
        for conversation, users in frame.marks.items():
            if frame.span is not None and frame.ask and self.naming(conversation):
                first, last = frame.span
                own = {user: tips for user, tips in self.marks(conversation).items() if first <= user <= last}
                link.send(wire.Have({conversation: own}, span=frame.span))
            for user, tips in users.items():
                missing = any(not self.has(LogId(conversation, user, tip.run), tip) for tip in tips)
                if missing and frame.end is None and (self.wants_all or user in self.told):
                    self.want(link, conversation, user)

    def has(self, log: LogId, mark: Mark) -> bool:
        return log in self.held and self.held[log].holds(mark)

    def want(self, link: ScriptedLink, conversation: ConversationId, user: UserId) -> int:
        """Ask for what a user wrote; return the number of the want."""
        if (conversation, user) in link.open_wants.values():
            return 0
        link.wants += 1
        link.open_wants[link.wants] = (conversation, user)
        link.send(wire.Want(link.wants, conversation, user, self.tips(conversation, user)))
        return link.wants

    def serve(self, link: ScriptedLink, want: wire.Want) -> None:
        """Answer a want with all that is held after its tips."""
        logs = {id.run: log for id, log in self.held.items() if id[:2] == (want.c, want.u) and log.raws}
        below: dict[str, int] = {}
        known = [tip for tip in want.tips if tip.run in logs and logs[tip.run].holds(tip)]
        while known:
            tip = known.pop()
            below[tip.run] = max(tip.seq, below.get(tip.run, 0))
            known += [mark for mark in logs[tip.run].before if mark.run in logs]
        for run, log in logs.items():
            for batch in log.batches(below.get(run, 0), want.n):
                link.send(batch)
        marks = {want.c: {want.u: self.tips(want.c, want.u)}} if self.naming(want.c) else {}
        link.send(wire.Have(marks, end=want.n))

    def give(self, link: ScriptedLink, pull: wire.Pull) -> None:
        """Answer a pull with pieces or the list of leaves, or with `lacks`."""
        if pull.root not in self.contents:
            link.send(wire.Lacks(pull.n))
            return
        pieces = pieces_of(self.contents[pull.root])
        last = pull.first + pull.count
        if not pull.count:
            pieces, last = pieces_of(self.lists.get(pull.root, b"".join(map(leaf_of, pieces)))), len(pieces)
        link.send(*(wire.Piece(pull.n, index, pieces[index]) for index in range(pull.first, min(last, len(pieces)))))

    def _on_entries(self, link: ScriptedLink, frame: wire.Entries) -> None:
        id = LogId(frame.c, frame.u, frame.r)
        log = self.held.get(id)
        if log is None:
            log = self.held[id] = ScriptedLog(id)
        had = len(log.raws)
        log.take(frame)
        if len(log.raws) > had and self.naming(frame.c):
            link.send(wire.Have({frame.c: {frame.u: self.tips(frame.c, frame.u)}}))


def group_namings(group: ConversationId, owner: UserId, run: str) -> dict[ConversationId, Naming]:
    """Return the names of a group and of its talk."""
    return {group: Naming(group=(group, owner, run)), talk_id(group): Naming(talk=group)}
