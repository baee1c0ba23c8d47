"""Event logs written line by line, and the faults that the checker finds in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from p2pchat.testing.eventlog_checker import check
from p2pchat.testing.eventlog_parser import Line, Log

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Writer:
    """Writes the log of one peer line by line; without `at`, a line is one second after the previous one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._at = 0.0

    def line(self, event: str, *, at: float | None = None, **fields: Any) -> Writer:
        self._at = self._at + 1.0 if at is None else at
        self.lines.append({"event": event, "at": iso(self._at), **fields})
        return self

    def listening(self, **more: Any) -> Writer:
        return self.line("listening", user=self.name, user_id=id_of(self.name), **more)

    def sent(self, id: str, *, kind: str = "room", **more: Any) -> Writer:
        return self._message("sent", id, self.name, kind, more)

    def message(self, id: str, sender: str, *, kind: str = "room", **more: Any) -> Writer:
        return self._message("message", id, sender, kind, more)

    def delivered(self, id: str, user: str, **more: Any) -> Writer:
        return self.line("delivered", id=id, user=user, user_id=id_of(user), **more)

    def read(self, id: str, user: str, **more: Any) -> Writer:
        return self.line("read", id=id, user=user, user_id=id_of(user), **more)

    def joined(self, user: str, **more: Any) -> Writer:
        return self.line("joined", user=user, user_id=id_of(user), **more)

    def left(self, user: str, reason: str, **more: Any) -> Writer:
        return self.line("left", user=user, user_id=id_of(user), reason=reason, **more)

    def group(self, change: str, *members: str, target: str = "", name: str = "ops") -> Writer:
        whom, ids = id_of(target) if target else None, [id_of(one) for one in members]
        more: dict[str, Any] = {"by_id": "ADA", "target_id": whom, "member_ids": ids}
        return self.line("group", conversation_id="GROUP", group=name, change=change, **more)

    def stopped(self, **more: Any) -> Writer:
        return self.line("stopped", reason="left", **more)

    def log(self) -> Log:
        return Log(self.name, self.lines)

    def _message(self, event: str, id: str, sender: str, kind: str, more: dict[str, Any]) -> Writer:
        said = {
            "id": id, "conversation_id": kind.upper(), "kind": kind, "sender": sender, "sender_id": id_of(sender),
            "text": f"text of {id}", "sent_at": iso(0),
        }  # fmt: skip
        return self.line(event, **(said | more))


def id_of(name: str) -> str:
    return name.upper()


def iso(at: float) -> str:
    return (BEGIN + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rules(*writers: Writer, complete: bool = False) -> list[str]:
    return [fault.rule for fault in check([writer.log() for writer in writers], complete=complete)]


def ada() -> Writer:
    return Writer("ada").listening().joined("bob")


def bob() -> Writer:
    return Writer("bob").listening().joined("ada")
