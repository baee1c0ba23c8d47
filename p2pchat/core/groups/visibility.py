"""What of a talk is seen: the one rule, for all logs of one user there.

An entry is visible if a cut covers it, or if its writer is a member who has not left and it cites a gen not below the
one that added the writer. A cut covers what its marks name and all that builds below it. What is visible of a log is
the longest beginning of it in which every entry is: a prefix, whatever its writer cites.

Source: docs/protocol.md, "Groups".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from p2pchat.core.groups.state import Sight
from p2pchat.core.records import Cite
from p2pchat.protocol import Mark, RunId


class Strip(Protocol):
    """A log, as far as its visible part depends on it."""

    @property
    def seq(self) -> int:
        """How many entries of it are here."""

    @property
    def before(self) -> tuple[Mark, ...]:
        """What it builds on."""

    @property
    def cites(self) -> Sequence[Cite]:
        """Which gens it cites, from which entry on."""


class Reach:
    """What the cuts of one sight cover.

    Attributes:
        upto: By run up to which entry.
        is_known: All logs that the cuts name or build on have begun here, so nothing else can turn out to be covered.
    """

    def __init__(self, cuts: Sequence[Mark], strips: Mapping[RunId, Strip]) -> None:
        self.upto: dict[RunId, int] = {}
        self.is_known = True
        self._chains: dict[tuple[RunId, int], str] = {}
        todo = list(cuts)
        while todo:
            mark = todo.pop()
            self._chains[mark.run, mark.seq] = mark.chain8
            if mark.run not in self.upto:
                strip = strips.get(mark.run)
                if strip is not None and strip.seq:
                    todo += strip.before
                else:
                    self.is_known = False
            self.upto[mark.run] = max(mark.seq, self.upto.get(mark.run, 0))

    def chain8(self, run: RunId, seq: int) -> str:
        """Return the beginning of a log's chain where a cut ends it; "" elsewhere."""
        return self._chains.get((run, seq), "")


class End(NamedTuple):
    """Up to which entry a log is visible; `chain8` begins its chain there, "" at the log's own end or at 0."""

    seq: int
    chain8: str = ""


def ends_of(sights: Sequence[Sight], strips: Mapping[RunId, Strip]) -> dict[RunId, End]:
    """Return how far each of these logs of one user is visible, under all sights together."""
    reaches = [Reach(sight.cuts, strips) for sight in sights]
    ends: dict[RunId, End] = {}
    for run, strip in strips.items():
        each = [_end(sight, reach, run, strip) for sight, reach in zip(sights, reaches, strict=True)]
        ends[run] = min(each, key=lambda end: end.seq, default=End(0))
    return ends


def _end(sight: Sight, reach: Reach, run: RunId, strip: Strip) -> End:
    seq = min(reach.upto.get(run, 0), strip.seq)
    chain8 = reach.chain8(run, seq)
    for at, cite in enumerate(strip.cites if sight.added is not None else ()):
        following = strip.cites[at + 1] if at + 1 < len(strip.cites) else None
        last = following.first - 1 if following else strip.seq
        if last <= seq:
            continue
        if sight.added is None or cite.gen < sight.added:
            break
        seq, chain8 = last, following.chain8 if following else ""
    return End(seq, "" if seq in (0, strip.seq) else chain8)


def may_be_seen(sights: Sequence[Sight], strips: Mapping[RunId, Strip], run: RunId, seq: int, gen: int) -> bool:
    """Say whether entry seq, the next of its log, citing gen, is visible or may turn out to be.

    The second is so while something that the cuts name has not come: it may build on this log.
    """
    for sight in sights:
        reach = Reach(sight.cuts, strips)
        covered = seq <= reach.upto.get(run, 0) or (run not in reach.upto and not reach.is_known)
        if not covered and not (sight.added is not None and gen >= sight.added and _is_whole(sight, strips, run)):
            return False
    return bool(sights)


def may_turn_out(sights: Sequence[Sight], strips: Mapping[RunId, Strip], run: RunId, seq: int) -> bool:
    """Say whether an entry that is here is visible, or may turn out to be once all that the cuts name has come."""
    for sight in sights:
        reach = Reach(sight.cuts, strips)
        is_seen = seq <= _end(sight, reach, run, strips[run]).seq
        if not is_seen and (run in reach.upto or reach.is_known):
            return False
    return bool(sights)


def _is_whole(sight: Sight, strips: Mapping[RunId, Strip], run: RunId) -> bool:
    """Say whether all that is here of a log is visible: what comes behind an entry that is not never is."""
    strip = strips.get(run)
    return strip is None or _end(sight, Reach(sight.cuts, strips), run, strip).seq == strip.seq


def is_wanted(sights: Sequence[Sight], strips: Mapping[RunId, Strip], mark: Mark) -> bool:
    """Say whether a mark tells of something that is not here and may be visible."""
    strip = strips.get(mark.run)
    seq = strip.seq if strip is not None else 0
    if mark.seq <= seq:
        return False
    for sight in sights:
        reach = Reach(sight.cuts, strips)
        covered = seq < reach.upto.get(mark.run, 0) or (mark.run not in reach.upto and not reach.is_known)
        if not covered and (sight.added is None or not _is_whole(sight, strips, mark.run)):
            return False
    return bool(sights)
