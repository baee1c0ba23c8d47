"""Visibility of entries in a group's talk: one rule, for all logs of one user there; what former members may read.

An entry is visible if a cut covers it, or if its writer is a member that has not left and the entry cites a gen not
below the one that added the writer. A cut covers what its marks name and everything those logs build on. The visible
part of a log is the longest prefix in which every entry is visible, independent of its writer's citations.

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from p2pchat.core.durable_changes import Cite
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.groups.group_state import VisibilityRule
from p2pchat.core.log import Entry
from p2pchat.protocol import Mark, RunId, UserId


class LogView(Protocol):
    """The facts of a log on which its visible part depends."""

    @property
    def seq(self) -> int:
        """The number of its entries that are here."""

    @property
    def before(self) -> tuple[Mark, ...]:
        """The marks it builds on."""

    @property
    def cites(self) -> Sequence[Cite]:
        """The gens it cites, and from which entry on."""


class CutCoverage:
    """Coverage of the cuts of one rule.

    Attributes:
        upto: The last covered entry, by run.
        is_known: All logs that the cuts name or build on have begun here, so that nothing else can prove to be covered.
    """

    def __init__(self, cuts: Sequence[Mark], views: Mapping[RunId, LogView]) -> None:
        self.upto: dict[RunId, int] = {}
        self.is_known: bool = True
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
        """Return the beginning of a log's chain where a cut ends the log; "" elsewhere."""
        return self._chains.get((run, seq), "")


class VisibleEnd(NamedTuple):
    """The last visible entry of a log. `chain8` begins its chain there; "" at the log's own end or at 0."""

    seq: int
    chain8: str = ""


def visible_ends(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView]) -> dict[RunId, VisibleEnd]:
    """Return how far each of one user's logs is visible, under all rules together."""
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
    """Return whether entry seq, the next of its log, citing gen, is visible or may become visible.

    It may still become visible while logs named by the cuts are missing, since those may build on this log.
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
    """Return whether a stored entry is visible, or may become visible once all logs named by the cuts have come."""
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        is_seen = seq <= _visible_end(rule, coverage, run, views[run]).seq
        if not is_seen and (run in coverage.upto or coverage.is_known):
            return False
    return bool(rules)


def _is_whole(rule: VisibilityRule, views: Mapping[RunId, LogView], run: RunId) -> bool:
    """Return whether all stored entries of a log are visible. An entry after an invisible one never is."""
    view = views.get(run)
    return view is None or _visible_end(rule, CutCoverage(rule.cuts, views), run, view).seq == view.seq


def is_wanted(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], mark: Mark) -> bool:
    """Return whether a mark names entries that are missing here and may be visible."""
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


def may_read(group: GroupReplica, user: UserId, entry: Entry) -> bool:
    """Return whether a user may read a visible entry of the talk.

    A user who left the group, or was removed, may read what was written by those who did not know that yet.
    """
    if group.is_present(user):
        return True
    if entry.g is None or group.state is None or user not in group.members_at(entry.g[0]):
        return False
    left = [leave.c for leave in group.state.leaves.get(user, ()) if leave.gen <= entry.g[0]]
    return not left or entry.c <= max(left)
