"""Invariants of what programs and people see: one history at all peers, old entries, what a message follows, edits.

In the room, what others wrote before a peer joined is old, and later entries are not. An entry names the newest entry
that its writer had seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.edits import RelatedEntry
from p2pchat.core.log import Entry, LogId, RawEntry, Ref, decode_entry, ref_key
from p2pchat.core.replicator import JOINED
from p2pchat.core.sync.causal_order import SHARED_AHEAD
from p2pchat.kinds import KINDS
from p2pchat.kinds.kind import POINTS
from p2pchat.protocol import MAX_INT, ConversationId, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.simulated_peer import SimPeer


class DisplayInvariants:
    """The invariants of all programs of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._newest: dict[tuple[str, ConversationId], tuple[LogId, int]] = {}  # by (peer, conversation)
        self._since: dict[str, int] = {}  # peer -> the first place its process gave
        self._joined: dict[str, int | None] = {}  # peer -> when it joined
        self._held: dict[str, dict[LogId, int]] = {}  # peer -> the last entry of each log that came before it joined
        self._admitted: set[str] = set()  # peers that belonged to the network at some time
        self._outside: dict[str, tuple[int, float]] = {}  # peer -> its clock when it was not admitted, and its error

    def began(self, peer: SimPeer, next_place: int) -> None:
        """Note a start or reload, after which a peer knows only a part of the entries shown before."""
        self._since[peer.name] = next_place
        for key in [key for key in self._newest if key[0] == peer.name]:
            del self._newest[key]
        if peer.restored:
            self._held.pop(peer.name, None)
        self.note_joining(peer)

    def note_joining(self, peer: SimPeer) -> None:
        """Note, after each step, when a peer did not belong to the network yet, and what it held when it had joined."""
        if peer.node is None:
            return
        room = peer.node.replicator.conversations[self._invariants.room]
        if peer.name not in self._held and room.history_until != MAX_INT:
            self._held[peer.name] = {log.id: log.seq for log in room.by_ref.values()}
        if peer.name not in self._admitted:
            if peer.node.admission.is_member:
                self._admitted.add(peer.name)
            else:
                self._outside[peer.name] = peer.clock.now().utc, peer.clock.ahead

    def handed_on(self, peer: SimPeer, one: ReleasedEntry, entry: Entry) -> None:
        """Check an entry that a program receives, in order of place."""
        log = one.log
        key = (peer.name, log.conversation)
        if peer.byzantine:
            return
        is_byzantine = self._sim.person(log.user).byzantine
        if log.conversation == self._invariants.room and not peer.ever_spoke_for(log.user):
            self._is_of_its_age(peer, one, entry)
        if one.place < self._since.get(peer.name, 0):
            self._newest.pop(key, None)  # of an earlier session
        elif self._invariants.may_fork(log) or is_byzantine:
            self._newest.pop(key, None)  # entries of a forked log are not named
        elif entry.k == "profile":
            pass  # a profile is not read, follows nothing and is not followed
        elif (log.conversation, ref_key(log.user, log.run), one.seq) in peer.disk.ever_stubs:
            self._newest.pop(key, None)  # it came late, and is news only if it waited still
        elif log.user != peer.own:
            self._newest[key] = (log, one.seq)
        elif self._invariants.written_in.get(log) == (peer.name, peer.lives):
            shown, seq = self._newest.pop(key, (log, 0))
            newest = Ref(ref_key(shown.user, shown.run), seq)
            forked = self._invariants.may_fork(shown)  # forked since it was shown, so it is not named
            is_odd = one.raw in self._invariants.odd
            if seq and not (forked or is_odd) and (not entry.after or entry.after[-1] != newest):
                named = [f"{ref.log[32:38]} {ref.seq}" for ref in entry.after]
                text = f"{log_name(log)} {one.seq} names {named}, its writer was shown {newest.log[32:38]} {newest.seq}"
                self._invariants.fail("after", peer, text)
        else:  # its own earlier entry came back; many of them push others out of memory
            self._newest.pop(key, None)

    def _is_of_its_age(self, peer: SimPeer, one: ReleasedEntry, entry: Entry) -> None:
        joined = self.joined(peer)
        known = self._joined.setdefault(peer.name, joined)
        if known is None or peer.restored:
            known = self._joined[peer.name] = joined
        if joined != known:
            self._invariants.fail("old", peer, f"joined at {known}, and now says at {joined}")
        outside, ahead = self._outside.get(peer.name, (0, 0.0))
        if joined is not None and joined < outside and ahead == peer.clock.ahead:
            self._invariants.fail("old", peer, f"says that it joined at {joined}, and was not admitted at {outside}")
        name = f"{log_name(one.log)} {one.seq}"
        if not one.old and (joined is None or entry.c <= joined):
            self._invariants.fail("old", peer, f"{name} was written before it joined, and is shown as new")
        held = self._held.get(peer.name, {}).get(one.log, 0)  # of it some may have waited to be shown
        if one.old and joined is not None and joined < min(entry.c, one.received_at) and one.seq > held:
            self._invariants.fail("old", peer, f"{name} was written after it joined, and is shown as old")
        self._sim.counts["old in the room" if one.old else "news in the room"] += 1

    def joined(self, peer: SimPeer) -> int | None:
        """Return when a peer joined, by its clock then, as its disk says."""
        said = peer.disk.stored.meta.get(JOINED + self._invariants.room)
        return None if said is None else int(said)


# ---- edits
#
# docs/protocol.md determines how a peer shows edits, deletions and reactions, from the entries released on its disk.
# Every storage must show exactly that at each moment.


def named(one: ReleasedEntry) -> tuple[ConversationId, Ref]:
    """Return the conversation of an entry and the reference by which other entries name it."""
    return one.log.conversation, Ref(ref_key(one.log.user, one.log.run), one.seq)


def history_faults(invariants: Invariants) -> Iterator[Fault]:
    """Check that all peers have the same history in the same order."""
    sim = invariants.sim
    byzantines = {peer.own for peer in sim.all_peers if peer.byzantine} | sim.made_up.keys()
    first: dict[ConversationId, tuple[SimPeer, list[tuple[LogId, int, RawEntry]]]] = {}
    for peer in sim.honest_up:
        everywhere = {
            log.conversation
            for log in peer.disk.logs
            if invariants.concerns(peer, log) and not invariants.groups.is_group(peer, log.conversation)
        }
        for conversation in sorted(everywhere):
            shown = [
                (one.log, one.seq, one.raw)
                for one in peer.disk.storage.history(conversation, limit=0)
                if one.log.user not in byzantines and not invariants.may_fork(one.log)
            ]
            other, known = first.setdefault(conversation, (peer, shown))
            if byzantines or invariants.deletions.any:  # they may release withheld entries at any moment
                both = {*shown} & {*known}
                shown, known = [one for one in shown if one in both], [one for one in known if one in both]
            apart = conversation != invariants.room and peer is not other and not sim.can_link(peer, other)
            if shown != known and other.up and not apart:
                yield Fault("history", f"another history of {conversation[:8]} than {other.name}", peer.name)


class _Relation(NamedTuple):
    """An entry that may change how another is shown. The greatest counts."""

    c: int
    user: UserId
    run: str
    seq: int
    kind: str
    says: bool  # and takes nothing back

    @property
    def entry(self) -> tuple[UserId, str, int]:
        return self.user, self.run, self.seq


_Said = tuple[str, tuple[UserId, str, int]]


def view_faults(peer: SimPeer) -> Iterator[Fault]:
    """Yield messages whose view does not follow from the entries released on a peer's disk."""
    released = [(one, decode_entry(one.raw)) for one in peer.disk.storage.places(0, 1 << 30)]
    done: dict[tuple[ConversationId, Ref], list[_Relation]] = {}
    for one, entry in released:
        is_ahead = entry.k in KINDS and KINDS[entry.k].shared and entry.c > one.received_at + SHARED_AHEAD
        if entry.re is not None and not is_ahead and (did := _relation(one.log, one.seq, entry)) is not None:
            done.setdefault((one.log.conversation, entry.re), []).append(did)
    for one, entry in released:
        asks = entry.k in ("text", "poll") and len(set(entry.choices)) == len(entry.choices) > 0
        expected = _expected(one.log.user, entry.k, done.get(named(one), []), asks=asks)
        if _shown(one) != expected:
            text = f"shows {_shown(one)} of {log_name(one.log)} {one.seq}, which is {expected}"
            yield Fault("view", text, peer.name)


def _relation(log: LogId, seq: int, entry: Entry) -> _Relation | None:
    kind = KINDS.get(entry.k)
    if kind is None or kind.about not in ("own", "any"):
        return None
    number = entry.b if type(entry.b) is int else -1
    text = entry.b if isinstance(entry.b, str) else None
    fits = {"null": entry.b is None, "number": 0 <= number <= kind.longest, "object": False,
            "text": text is not None and (not kind.longest or len(text) <= POINTS * kind.longest)}  # fmt: skip
    says = bool(entry.b) or kind.about == "own"
    return _Relation(entry.c, log.user, log.run, seq, entry.k, says) if fits[kind.body] else None


def _expected(writer: UserId, of: str, done: list[_Relation], *, asks: bool) -> list[_Said]:
    """Return what counts of what was done to a message of a kind, the oldest first. What asks is not edited."""
    counting = [did for did in sorted(done) if KINDS[did.kind].on in ("", of)]
    counting = [did for did in counting if KINDS[did.kind].about == "any" or did.user == writer]
    ends: dict[str, int] = {}
    for did in counting:
        ends.setdefault(KINDS[did.kind].aspect, did.c)
    found: dict[tuple[str, UserId], _Relation] = {}
    for did in counting:
        kind = KINDS[did.kind]
        place = kind.aspect, "" if kind.shared else did.user
        if did.c < ends.get(kind.until, MAX_INT) and not (kind.oldest and place in found):
            found[place] = did
    return [(did.kind, did.entry) for did in sorted(found.values()) if did.says and not (asks and did.kind == "edit")]


def _shown(one: ReleasedEntry) -> list[_Said]:
    edits = one.edits
    if edits is None:
        return []
    counting = [did for did in edits.changes if did in edits.of(KINDS[did.entry.k])]
    return [(did.entry.k, _name(did)) for did in counting if did.entry.b or KINDS[did.entry.k].about == "own"]


def _name(one: RelatedEntry) -> tuple[UserId, str, int]:
    return one.log.user, one.log.run, one.seq
