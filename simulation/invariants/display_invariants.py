"""Invariants of what programs and people see: one history at all peers, old entries, what a message follows, edits.

For a newcomer, entries up to the first marks it received are old, and later ones are not. An entry names the newest
entry that its writer had seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.log import Entry, LogId, RawEntry, Ref, decode_entry, ref_key
from p2pchat.protocol import ConversationId, Digest, Have, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer


LAST = "f" * 64  # ends the span of the last page


class DisplayInvariants:
    """The invariants of all programs of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._newest: dict[tuple[str, ConversationId], tuple[LogId, int]] = {}  # by (peer, conversation)
        self._since: dict[str, int] = {}  # peer -> the first place its process gave
        self._first: dict[str, dict[LogId, tuple[int, int]]] = {}  # peer -> log of the room -> (shown, first mark)
        self._claimed: dict[str, set[UserId]] = {}  # peer -> users whose first marks came from a byzantine peer
        self._known_at: dict[str, float] = {}  # peer -> when it had received all first marks

    def began(self, peer: SimPeer, next_place: int) -> None:
        """Note a start or reload, after which a peer knows only a part of the entries shown before."""
        self._since[peer.name] = next_place
        for key in [key for key in self._newest if key[0] == peer.name]:
            del self._newest[key]
        if self.is_new(peer):
            self._first.pop(peer.name, None)
            self._known_at.pop(peer.name, None)

    def is_new(self, peer: SimPeer) -> bool:
        """Return whether this peer has not yet received the marks of the room."""
        room = peer.node.sync.conversations.by_id.get(self._invariants.room) if peer.node else None
        return room is not None and room.is_newcomer

    def frames_got(self, peer: SimPeer, end: WireEnd, frames: Sequence[object]) -> None:
        """Note the first marks that a newcomer receives."""
        self._limit_by_writer(peer, end.other.owner, frames)
        if not peer.byzantine and not self.is_new(peer):
            self._known_at.setdefault(peer.name, self._sim.now)
        if peer.byzantine or peer.fails or peer.low or not self.is_new(peer):
            return
        if end.other.owner.byzantine:
            claims = [frame.marks.get(self._invariants.room, {}) for frame in frames if isinstance(frame, Have)]
            self._claimed.setdefault(peer.name, set()).update(*claims)
            return
        if peer.node is None or end.link not in peer.node.links.up:
            return
        for frame in frames:
            if isinstance(frame, Digest) and frame.sum and frame.sum == peer.digest_for(end.other.owner):
                return  # it holds everything, so what follows is new
            if isinstance(frame, Have) and self._invariants.room in frame.marks:
                users = frame.marks[self._invariants.room]
                known = self._first.setdefault(peer.name, {})
                for user, marks in users.items():
                    for mark in marks if len(marks) <= self._sim.settings.max_tips else ():
                        log = peer.node.sync.conversations.by_id[self._invariants.room].log(user, mark.run)
                        span = (
                            log.released if log else 0,
                            mark.seq,
                        )  # entries shown before are new
                        known.setdefault(LogId(self._invariants.room, user, mark.run), span)
                if frame.span is not None and frame.span[1] == LAST:
                    return  # it is no longer a newcomer

    def _limit_by_writer(self, peer: SimPeer, writer: SimPeer, frames: Sequence[object]) -> None:
        """Take a lower mark of a log from its writer, who is believed how far it goes.

        It leaves out an entry that is stored, and passed on from there, until it is told that the commit has ended.
        """
        known = self._first.get(peer.name, {})
        for frame in frames:
            of_writer = frame.marks.get(self._invariants.room, {}) if isinstance(frame, Have) else {}
            for mark in of_writer.get(writer.user, ()):
                log = LogId(self._invariants.room, writer.user, mark.run)
                if log in known:
                    known[log] = (known[log][0], min(known[log][1], mark.seq))

    def handed_on(self, peer: SimPeer, one: ReleasedEntry, entry: Entry) -> None:
        """Check an entry that a program receives, in order of place."""
        log = one.log
        key = (peer.name, log.conversation)
        if peer.byzantine:
            return
        is_byzantine = self._sim.person(log.user).byzantine
        if not (peer.ever_spoke_for(log.user) or is_byzantine or self._invariants.may_fork(log)):
            self._is_of_its_age(peer, one)
        if one.place < self._since.get(peer.name, 0):
            self._newest.pop(key, None)  # of an earlier session
        elif self._invariants.may_fork(log) or is_byzantine:
            self._newest.pop(key, None)  # entries of a forked log are not named
        elif entry.k == "profile":
            pass  # a profile is not read, follows nothing and is not followed
        elif log.user != peer.user:
            self._newest[key] = (log, one.seq)
        elif self._invariants.written_in.get(log) == (peer.name, peer.lives):
            shown, seq = self._newest.pop(key, (log, 0))
            newest = Ref(ref_key(shown.user, shown.run), seq)
            forked = self._invariants.may_fork(shown)  # forked since it was shown, so it is not named
            is_odd = one.raw in self._invariants.odd
            if seq and not (forked or is_odd) and (not entry.after or entry.after[-1] != newest):
                named = [f"{ref.log[16:22]} {ref.seq}" for ref in entry.after]
                text = f"{log_name(log)} {one.seq} names {named}, its writer was shown {newest.log[16:22]} {newest.seq}"
                self._invariants.fail("after", peer, text)
        else:  # its own earlier entry came back; many of them push others out of memory
            self._newest.pop(key, None)

    def _is_of_its_age(self, peer: SimPeer, one: ReleasedEntry) -> None:
        shown, marked = self._first.get(peer.name, {}).get(one.log, (0, 0))
        # A restored peer says that its log ends earlier, and is believed. So is the only host of a user who wrote at
        # another one, which is away.
        guest = self._sim.guests.get(one.log.user)
        is_behind = self._sim.person(one.log.user).restored or (guest is not None and len(guest.former) > 1)
        if shown < one.seq <= marked and not one.old and not is_behind:
            self._invariants.fail(
                "old", peer, f"{log_name(one.log)} {one.seq} was there before it, and is shown as new"
            )
        written = self._invariants.written_at(one.log, one.seq)
        known = self._known_at.get(peer.name)
        if one.log.user in self._claimed.get(peer.name, ()):
            return  # a log that does not exist is not shown, and others may be older
        is_late = one.old and known is not None and written > known
        if self._invariants.deletions.any and not peer.disk.before(one.log):
            return  # it begins behind a deletion: it cannot be told from an ancestor of the logs that were announced
        if is_late and not (self._sim.person(one.log.user).restored or self._began_apart(peer, one.log)):
            self._invariants.fail("old", peer, f"{log_name(one.log)} {one.seq} was written later, and is shown as old")

    def _began_apart(self, peer: SimPeer, log: LogId) -> bool:
        """Return whether a log builds on none of those of its writer that were announced to a newcomer.

        A hosted user may write where these are missing, and a peer does so after it deleted them.
        """
        known = {each.run for each in self._first.get(peer.name, {}) if each.user == log.user}
        if not known or not (log.user in self._sim.guests or self._invariants.deletions.any):
            return False
        runs = [log.run]
        for run in runs:
            runs += [mark.run for mark in peer.disk.before(log._replace(run=run)) if mark.run not in runs]
        return known.isdisjoint(runs)


# ---- edits
#
# docs/protocol.md determines how a peer shows edits, deletions and reactions, from the entries released on its disk.
# Every storage must show exactly that at each moment.

MOST_CHARACTERS = 8  # of a reaction


def named(one: ReleasedEntry) -> tuple[ConversationId, Ref]:
    """Return the conversation of an entry and the reference by which other entries name it."""
    return one.log.conversation, Ref(ref_key(one.log.user, one.log.run), one.seq)


def history_faults(invariants: Invariants) -> Iterator[Fault]:
    """Check that all peers have the same history in the same order."""
    sim = invariants.sim
    byzantines = {peer.user for peer in sim.all_peers if peer.byzantine} | sim.made_up.keys()
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
    body: str

    @property
    def entry(self) -> tuple[UserId, str, int]:
        return self.user, self.run, self.seq


def view_faults(peer: SimPeer) -> Iterator[Fault]:
    """Yield messages whose view does not follow from the entries released on a peer's disk."""
    released = [(one, decode_entry(one.raw)) for one in peer.disk.storage.places(0, 1 << 30)]
    done: dict[tuple[ConversationId, Ref], list[_Relation]] = {}
    for one, entry in released:
        if entry.re is not None and (did := _relation(one.log, one.seq, entry)) is not None:
            done.setdefault((one.log.conversation, entry.re), []).append(did)
    for one, entry in released:
        asks = entry.k == "text" and len(set(entry.choices)) == len(entry.choices) > 0
        expected = _expected(one.log.user, done.get(named(one), []), asks=asks)
        if _shown(one) != expected:
            text = f"shows {_shown(one)} of {log_name(one.log)} {one.seq}, which is {expected}"
            yield Fault("view", text, peer.name)


def _relation(log: LogId, seq: int, entry: Entry) -> _Relation | None:
    said = entry.b if isinstance(entry.b, str) else ""
    well = {"edit": isinstance(entry.b, str), "delete": entry.b is None, "reaction": len(said) <= MOST_CHARACTERS}
    return _Relation(entry.c, log.user, log.run, seq, entry.k, said) if well.get(entry.k) else None


def _expected(writer: UserId, done: list[_Relation], *, asks: bool) -> tuple[object, list[object]]:
    """Return the edit or deletion that counts, and the reactions, oldest first. What asks is not edited."""
    own = max((did for did in done if did.kind != "reaction" and did.user == writer), default=None)
    if asks and own is not None and own.kind == "edit":
        own = None
    by_user: dict[UserId, _Relation] = {}
    for did in sorted(did for did in done if did.kind == "reaction"):
        by_user[did.user] = did
    return own and own.entry, [did.entry for did in sorted(by_user.values()) if did.body]


def _shown(one: ReleasedEntry) -> tuple[object, list[object]]:
    if one.edits is None:
        return None, []
    newest = one.edits.newest
    reactions: list[object] = [(each.log.user, each.log.run, each.seq) for each in one.edits.reactions]
    return newest and (newest.log.user, newest.log.run, newest.seq), reactions
