"""Refused logs, with an entry that this peer cannot take although its author signed it; and distrusted peers.

Two programs, or two versions of one, may differ in which entries are valid. Whoever passes such an entry on is not at
fault, so the link stays: this peer takes no more of that log, and tells everyone with whom it shares the conversation.
What it holds of the log stays, and is served. Later logs of the writer are accepted; the refused log counts as held
where they build on it. The batch with the entry is kept and served before them, so that others can judge it too.

A later log covers the refused part too, so its mark would count at the writer as a receipt for entries that are not
here. `Refusals` is told to each peer before any mark or sum. The writer's peers remember it by member (`Refusers`).

A refusal is one line of `meta`, with the rules it was made under. With other rules the log is taken again. If a later
log builds on it, the line stays until the missing entries have come: nobody else would announce them. Refused logs of
unknown users take at most half of the places, and those that come from one branch a quarter (limits_by_origin.py).

A peer that sent a wrong head made it up itself: little is accepted from it for a time (`DistrustedPeers`).

Source: docs/protocol.md, "Refused entries".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from p2pchat.config import Settings
from p2pchat.core.effects import Counted, WarningIssued
from p2pchat.core.limits_by_origin import OriginShares
from p2pchat.core.log import Batch, LogId, Ref, WriterKey, decode_entry, frame_of, ref_key
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import NodeContext
from p2pchat.core.sync.log_index import LogState
from p2pchat.core.sync.quota import line_of
from p2pchat.errors import LogError
from p2pchat.protocol import MAX_FRAME_BYTES, ConversationId, Decoder, Entries, PeerId, RefusedLog, UserId, encode

EVIDENCE = "refused batch:"  # in meta, before a log: the batch with its entry, as a frame
RULES = 1  # raised by a version that takes entries which its predecessors refused
PAYER = "refused from:"  # in meta, before a log of an unknown user: where it came from (quota.py)
REFUSED = "refused:"  # in meta, before a log that is refused
REFUSERS = "refusers:"  # in meta, before a log of a user hosted here: members that do not take all of it
NOBODY = "-"  # a line without members: some refused the log once
MAX_REFUSED = 1000  # logs; a guess: 1 MiB. Later ones are refused too, but not remembered: what builds on them waits
MAX_EVIDENCE = 8 << 20  # bytes of the batches of all refused logs; a guess
COST = 2 * MAX_EVIDENCE // MAX_REFUSED  # of a place, in characters of evidence
MAX_REFUSED_OF_WRITER = 16  # logs of one writer in one conversation; a guess: a faulty program is repaired before
MAX_WARNED = 16  # users in one run that cause a warning, so that made-up users cannot flood it; a guess
MAX_REFUSERS = 1000  # members of one log; a guess: 64 KiB


def rules_of(settings: Settings) -> str:
    """Return what decides which entries are valid, as one word."""
    limits = (settings.max_entry_bytes, settings.max_text_bytes, settings.max_before, settings.max_after)
    return ".".join(map(str, (RULES, *limits)))


@dataclass(slots=True)
class Refusal:
    """A log of which this peer takes no more.

    Attributes:
        held: The last entry held, 0 for none; `chain8` begins the chain there.
        needed: The last entry that later logs build on, 0 for none.
        covered: The last entry that later logs held here build on, 0 for none.
        code: The code of the fault.
        rules: The rules under which it was refused.
        evidence: The frame with the batch that holds the entry, in hex.
        payer: Where it came from if its user was unknown; otherwise "".
    """

    log: LogId
    held: int
    chain8: str
    needed: int
    covered: int
    code: str
    rules: str
    evidence: str
    payer: str

    @classmethod
    def parse(cls, log: str, line: str, evidence: str, payer: str) -> Refusal:
        held, chain8, needed, covered, code, rules = line.split()
        return cls(LogId(*log.split(",")), int(held), chain8, int(needed), int(covered), code, rules, evidence, payer)

    @property
    def frame(self) -> Entries:
        """The batch with the entry, as it is passed on: whoever gets it judges by its own rules."""
        (frame,) = Decoder(max_frame_bytes=MAX_FRAME_BYTES).feed(bytes.fromhex(self.evidence))
        assert isinstance(frame, Entries)
        return frame

    @property
    def reason(self) -> str:
        """The fault of the entry, in words for a person."""
        return "it is longer than allowed here" if self.code == "limit" else "its form is not known here"

    def __str__(self) -> str:
        return f"{self.held} {self.chain8} {self.needed} {self.covered} {self.code} {self.rules}"


def parse_refusals(meta: Mapping[str, str]) -> list[Refusal]:
    """Return the refusals that are stored in `meta`."""
    names = [name.removeprefix(REFUSED) for name, line in meta.items() if name.startswith(REFUSED) and line]
    return [
        Refusal.parse(log, meta[REFUSED + log], meta.get(EVIDENCE + log, ""), meta.get(PAYER + log, ""))
        for log in names
    ]


class Refusals:
    """The logs refused here.

    Args:
        payer: Returns where what an unknown user has here counts, by the link that brings it; "" for any other user.

    Attributes:
        by_ref: The refusals, by conversation and reference key. Empty at nearly all peers.
    """

    def __init__(
        self,
        ctx: NodeContext,
        meta: Mapping[str, str],
        names: Mapping[UserId, str],
        payer: Callable[[UserId, PeerLink | None], str],
    ) -> None:
        self._ctx = ctx
        self._names = names
        self._payer = payer
        self._unknown: OriginShares[LogId] = OriginShares(MAX_EVIDENCE, MAX_EVIDENCE // 2)  # in characters of evidence
        self._rules = rules_of(ctx.settings)
        self._most_of_writer = min(MAX_REFUSED_OF_WRITER, ctx.settings.max_tips)
        self._warned: set[UserId] = set()
        self.by_ref: dict[tuple[ConversationId, str], Refusal] = {}
        for refusal in parse_refusals(meta):
            self._put(refusal)

    def _put(self, refusal: Refusal) -> None:
        self.by_ref[refusal.log.conversation, ref_key(refusal.log.user, refusal.log.run)] = refusal
        self._unknown.remove(refusal.log)
        if refusal.payer:
            self._unknown.add(refusal.log, line_of(refusal.payer), COST + len(refusal.evidence))

    def find(self, log: LogId) -> Refusal | None:
        """Return the refusal of a log."""
        return self.by_ref.get((log.conversation, ref_key(log.user, log.run)))

    def find_at(self, log: LogId, seq: int) -> Refusal | None:
        """Return the refusal by which this entry is not taken; None if it is taken."""
        found = self.find(log)
        return found if found is not None and seq > found.held and not self.is_open(found) else None

    def cut(self, conversation: ConversationId, ref: Ref) -> int | None:
        """Return the last entry held of a refused log if this one is beyond it, so that nothing waits for it."""
        found = self.by_ref.get((conversation, ref.log))
        return found.held if found is not None and ref.seq > found.held else None

    def below(self, conversation: ConversationId, ref: Ref) -> list[Ref]:
        """Return what a refused log of which nothing is held builds on, as far as its first entry can be read."""
        found = self.by_ref[conversation, ref.log]
        try:
            before = decode_entry(found.frame.e[0]).before
        except LogError:
            return []
        return [Ref(ref_key(found.log.user, mark.run), mark.seq) for mark in before if mark.run != found.log.run]

    def is_open(self, refusal: Refusal) -> bool:
        """Return whether a log is taken again, since it was refused under other rules."""
        return refusal.rules != self._rules

    def of(self, key: WriterKey) -> list[RefusedLog]:
        """Return the refused logs of a writer as peers are told of them."""
        mine = (each for each in self.by_ref.values() if each.log.key == key)
        return [RefusedLog(each.log.run, each.held, each.chain8) for each in mine]

    def reopened(self, key: WriterKey) -> list[Refusal]:
        """Return the logs of a writer that are taken again and of which entries are missing."""
        return [each for each in self.by_ref.values() if each.log.key == key and self.is_open(each)]

    # ---- changes

    def warn_again(self) -> None:
        """Warn, at a start, of the logs that are still refused."""
        for each in [each for each in self.by_ref.values() if not self.is_open(each)]:
            if each.log.user not in self._warned:
                self._warn(each)

    def refuse(self, log: LogState, batch: Batch, code: str, link: PeerLink | None) -> bool:
        """Refuse a log from its next entry on, in a batch that came by this link. Return False if there is no room to
        remember it.
        """
        known, evidence = self.find(log.id), encode(frame_of(batch)).hex()
        payer = self._payer(log.id.user, link)
        more = COST + len(evidence) - self._unknown.amount(log.id)
        used = sum(len(each.evidence) for each in self.by_ref.values() if each is not known)
        if (
            used + len(evidence) > 2 * MAX_EVIDENCE
            or (payer and not self._unknown.has_room(line_of(payer), more))
            or (known is None and len(self.by_ref) >= MAX_REFUSED)
            or (known is None and len(self.of(log.id.key)) >= self._most_of_writer)
        ):
            self._ctx.emit(Counted("refusals_full"))
            return False
        needed, covered = (known.needed, known.covered) if known is not None else (0, 0)
        refusal = Refusal(log.id, log.seq, log.chain[:8].hex(), needed, covered, code, self._rules, evidence, payer)
        self._put(refusal)
        self._save(refusal)
        self._ctx.change.meta[EVIDENCE + ",".join(log.id)] = evidence
        if payer or (known is not None and known.payer):
            self._ctx.change.meta[PAYER + ",".join(log.id)] = payer
        self._ctx.emit(Counted("log_refused"))
        if known is None:
            self._warn(refusal)
        return True

    def on_named(self, log: LogId, seq: int, *, by_held: bool = True) -> bool:
        """Note that a later log builds on a log up to this entry. Return True if it is missing since it is refused.

        by_held: The later log is held here, so it covers this one.
        """
        found = self.find(log)
        if found is None or seq <= found.held:
            return False
        covered = max(found.covered, seq) if by_held else found.covered
        if (max(found.needed, seq), covered) != (found.needed, found.covered):
            found.needed, found.covered = max(found.needed, seq), covered
            self._save(found)
        return True

    def on_refused_whole(self, log: LogState) -> None:
        """Note that a log of which nothing is held builds on others. If it cannot be read, it may build on any."""
        for mark in log.before:
            self.on_named(log.id._replace(run=mark.run), mark.seq, by_held=False)
        for other in [] if log.before else [each for each in self.by_ref.values() if each.log.key == log.id.key]:
            if other.log != log.id and not other.needed:
                self.on_named(other.log, other.held + 1, by_held=False)

    def forget(self, refusal: Refusal) -> None:
        """Forget a log of which nothing is missing any more, or whose missing part its writer announces."""
        del self.by_ref[refusal.log.conversation, ref_key(refusal.log.user, refusal.log.run)]
        self._ctx.change.meta[REFUSED + ",".join(refusal.log)] = None
        self._ctx.change.meta[EVIDENCE + ",".join(refusal.log)] = None
        if refusal.payer:
            self._unknown.remove(refusal.log)
            self._ctx.change.meta[PAYER + ",".join(refusal.log)] = None

    def _save(self, refusal: Refusal) -> None:
        self._ctx.change.meta[REFUSED + ",".join(refusal.log)] = str(refusal)

    def _warn(self, refusal: Refusal) -> None:
        user = refusal.log.user
        if user not in self._warned and len(self._warned) >= MAX_WARNED:
            return
        self._warned.add(user)
        text = (
            f"{describe_user(self._names.get(user))} wrote something that this version of"
            f" p2pchat does not take ({refusal.reason}): it and what follows are refused here, until that program"
            " starts anew; update p2pchat here or the program there"
        )
        self._ctx.emit(WarningIssued("entry_refused", text, user, refusal.log.conversation))


class Refusers:
    """Members that do not take all of a log that a user hosted here wrote, for what storage says of receipts.

    Attributes:
        logs: All logs that some member ever refused: who has a later log need not have all of these.
    """

    def __init__(self, ctx: NodeContext, meta: Mapping[str, str]) -> None:
        self._ctx = ctx
        self._held: dict[LogId, dict[UserId, int]] = {}
        for name, line in meta.items():
            if name.startswith(REFUSERS) and line:
                self._held[LogId(*name.removeprefix(REFUSERS).split(","))] = parse_refusers(line)
        self.logs: set[LogId] = set(self._held)

    def on_told(self, log: LogId, members: Iterable[UserId], held: int) -> None:
        """Remember that these members take a log up to here only."""
        known = self._held.get(log, {})
        more = {member: held for member in members if known.get(member) != held}
        if more and len(known) + len(more) <= MAX_REFUSERS and (known or len(self._held) < MAX_REFUSED):
            self._held[log] = {**known, **more}
            self.logs.add(log)
            self._save(log)

    def lift(self, key: WriterKey, still: Container[LogId], members: Collection[UserId]) -> list[tuple[LogId, UserId]]:
        """Forget that these members refuse logs of a writer, but for those of `still`. Return what was forgotten."""
        lifted: list[tuple[LogId, UserId]] = []
        for log in [log for log in self._held if log.key == key and log not in still]:
            gone = [member for member in self._held[log] if member in members]
            if gone:
                lifted += [(log, member) for member in gone]
                self._held[log] = {member: held for member, held in self._held[log].items() if member not in gone}
                self._save(log)
        return lifted

    def _save(self, log: LogId) -> None:
        words = [f"{member}:{held}" for member, held in self._held[log].items()]
        self._ctx.change.meta[REFUSERS + ",".join(log)] = " ".join(words) or NOBODY


def parse_refusers(line: str) -> dict[UserId, int]:
    """Return the members of a stored line -> the last entry that each takes."""
    return dict(_parsed(line))


def _parsed(line: str) -> Iterator[tuple[UserId, int]]:
    for word in line.split() if line != NOBODY else ():
        member, _, held = word.partition(":")
        yield member, int(held)


# ---- distrusted peers


class DistrustedPeers:
    """Peers that sent a wrong head. For an hour, only what their own users write is accepted from them.

    Attributes:
        until: The end of that for each (monotonic). Empty at nearly all peers, so that nothing else need be asked.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self.until: dict[PeerId, float] = {}

    def add(self, peer: PeerId) -> None:
        """Distrust a peer from now on."""
        now = self._ctx.now.mono
        self.until = {each: until for each, until in self.until.items() if until > now}
        self.until[peer] = now + self._ctx.settings.wrong_head_ban

    def may_bring(self, link: PeerLink, user: UserId) -> bool:
        """Return whether entries of this user are accepted from the peer of this link."""
        return self.until.get(link.peer, 0.0) <= self._ctx.now.mono or user in link.users
