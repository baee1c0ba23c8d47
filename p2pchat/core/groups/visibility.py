"""What of a talk is seen: the one rule, for all logs of one user there.

An entry is visible if a cut covers it, or if its writer is a member who has not left and it cites a gen not below the
one that added the writer. A cut covers what its marks name and all that builds below it. What is visible of a log is
the longest beginning of it in which every entry is: a prefix, whatever its writer cites.

Source: docs/protocol.md, "Groups".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from p2pchat.core.groups.state import VisibilityRule
from p2pchat.core.records import Cite
from p2pchat.protocol import Mark, RunId


class LogView(Protocol):
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


class CutCoverage:
    """What the cuts of one rule cover.

    Attributes:
        upto: By run up to which entry.
        is_known: All logs that the cuts name or build on have begun here, so nothing else can turn out to be covered.
    """

    def __init__(self, cuts: Sequence[Mark], views: Mapping[RunId, LogView]) -> None:
        self.upto: dict[RunId, int] = {}
        self.is_known = True
        self._chains: dict[tuple[RunId, int], str] = {}
        todo = list(cuts)
        while todo:
            mark = todo.pop()
            self._chains[mark.run, mark.seq] = mark.chain8
            if mark.run not in self.upto:
                view = views.get(mark.run)
                if view is not None and view.seq:
                    todo += view.before
                else:
                    self.is_known = False
            self.upto[mark.run] = max(mark.seq, self.upto.get(mark.run, 0))

    def chain8(self, run: RunId, seq: int) -> str:
        """Return the beginning of a log's chain where a cut ends it; "" elsewhere."""
        return self._chains.get((run, seq), "")


class VisibleEnd(NamedTuple):
    """Up to which entry a log is visible; `chain8` begins its chain there, "" at the log's own end or at 0."""

    seq: int
    chain8: str = ""


def visible_ends(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView]) -> dict[RunId, VisibleEnd]:
    """Return how far each of these logs of one user is visible, under all sights together."""
    coverages = [CutCoverage(rule.cuts, views) for rule in rules]
    ends: dict[RunId, VisibleEnd] = {}
    for run, view in views.items():
        each = [_visible_end(rule, coverage, run, view) for rule, coverage in zip(rules, coverages, strict=True)]
        ends[run] = min(each, key=lambda end: end.seq, default=VisibleEnd(0))
    return ends


def _visible_end(rule: VisibilityRule, coverage: CutCoverage, run: RunId, view: LogView) -> VisibleEnd:
    seq = min(coverage.upto.get(run, 0), view.seq)
    chain8 = coverage.chain8(run, seq)
    for at, cite in enumerate(view.cites if rule.added is not None else ()):
        following = view.cites[at + 1] if at + 1 < len(view.cites) else None
        last = following.first - 1 if following else view.seq
        if last <= seq:
            continue
        if rule.added is None or cite.gen < rule.added:
            break
        seq, chain8 = last, following.chain8 if following else ""
    return VisibleEnd(seq, "" if seq in (0, view.seq) else chain8)


def may_be_visible(
    rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], run: RunId, seq: int, gen: int
) -> bool:
    """Say whether entry seq, the next of its log, citing gen, is visible or may turn out to be.

    The second is so while something that the cuts name has not come: it may build on this log.
    """
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        covered = seq <= coverage.upto.get(run, 0) or (run not in coverage.upto and not coverage.is_known)
        if not covered and not (rule.added is not None and gen >= rule.added and _is_whole(rule, views, run)):
            return False
    return bool(rules)


def stored_may_be_visible(
    rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], run: RunId, seq: int
) -> bool:
    """Say whether an entry that is here is visible, or may turn out to be once all that the cuts name has come."""
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        is_seen = seq <= _visible_end(rule, coverage, run, views[run]).seq
        if not is_seen and (run in coverage.upto or coverage.is_known):
            return False
    return bool(rules)


def _is_whole(rule: VisibilityRule, views: Mapping[RunId, LogView], run: RunId) -> bool:
    """Say whether all that is here of a log is visible: what comes behind an entry that is not never is."""
    view = views.get(run)
    return view is None or _visible_end(rule, CutCoverage(rule.cuts, views), run, view).seq == view.seq


def is_wanted(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], mark: Mark) -> bool:
    """Say whether a mark tells of something that is not here and may be visible."""
    view = views.get(mark.run)
    seq = view.seq if view is not None else 0
    if mark.seq <= seq:
        return False
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        covered = seq < coverage.upto.get(mark.run, 0) or (mark.run not in coverage.upto and not coverage.is_known)
        if not covered and (rule.added is None or not _is_whole(rule, views, mark.run)):
            return False
    return bool(rules)
