"""Members of whom a mark on a later log says nothing about an earlier one, for what storage says of receipts.

A mark covers all that its log builds on. But a machine that went back to an older state may have lost a part of a log
that somebody else holds in another version. Such members are left out where a log is counted that others cover, until
a comparison finds both sides equal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import UserId

LEFT_OUT = "left out:"  # in meta, before a log of a user hosted here: the members
MAX_LOGS = 1000  # a guess: 1 MiB with few members each
MAX_MEMBERS = 1000  # of one log; a guess: 64 KiB


class LeftOut:
    """The members that are left out, by log.

    Attributes:
        logs: All logs that somebody was ever left out of.
    """

    def __init__(self, ctx: NodeContext, meta: Mapping[str, str]) -> None:
        self._ctx = ctx
        self._members: dict[LogId, tuple[UserId, ...]] = {}
        for name, line in meta.items():
            if name.startswith(LEFT_OUT):
                self._members[LogId(*name.removeprefix(LEFT_OUT).split(","))] = tuple(line.split())
        self.logs: set[LogId] = set(self._members)

    def add(self, log: LogId, members: Iterable[UserId]) -> None:
        """Leave these members out of a log."""
        known = self._members.get(log, ())
        all_members = (*known, *(member for member in members if member not in known))
        if all_members != known and len(all_members) <= MAX_MEMBERS and (known or len(self._members) < MAX_LOGS):
            self._members[log] = all_members
            self.logs.add(log)
            self._save(log)

    def lift(self, key: WriterKey, members: Collection[UserId]) -> list[tuple[LogId, UserId]]:
        """Leave these members out no more of the logs of a writer. Return what that changes."""
        lifted: list[tuple[LogId, UserId]] = []
        for log in [log for log in self._members if log.key == key]:
            gone = [member for member in self._members[log] if member in members]
            if gone:
                lifted += [(log, member) for member in gone]
                self._members[log] = tuple(member for member in self._members[log] if member not in gone)
                self._save(log)
        return lifted

    def _save(self, log: LogId) -> None:
        self._ctx.change.meta[LEFT_OUT + ",".join(log)] = " ".join(self._members[log])
