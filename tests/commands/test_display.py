"""Display of a chat: what people and programs see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pchat.commands.display import Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.standard_output import EventLogFile, StdoutWriter

AT = "2026-11-20T11:30:00.000000Z"


def said(text: str, **fields: Any) -> EventLine:
    line = {"event": "message", "at": AT, "sent_at": AT, "kind": "room", "conversation": "room", "sender": "ada"}
    return {**line, "conversation_id": "R", "text": text, "action": False, **fields}


async def shown(
    path: Path, events: list[tuple[EventLine, bool]], *, as_json: bool, log: EventLogFile | None = None
) -> list[str]:
    """Return the lines on standard output for events, each with whether it is older."""
    with open(path, "wb", buffering=0) as raw:
        display = Display(StdoutWriter(raw), log, as_json=as_json, echo=True)
        for event, older in events:
            await display.show_event(event, older=older)
        display.close()
    return path.read_text("utf-8").splitlines()


async def test_people_get_a_count_of_older_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [(said("early"), True), (said("mine", event="sent", to="room"), True), (said("news"), False)]
    log = EventLogFile(str(tmp_path / "log"))
    [line] = await shown(tmp_path / "plain", events, as_json=False, log=log)
    assert line.endswith("ada: news")
    assert capsys.readouterr().err == "-- 2 older messages: /history shows them\n"
    lines = await shown(tmp_path / "json", events, as_json=True)
    assert [json.loads(line) for line in lines] == [event for event, _ in events]
    assert (tmp_path / "log").read_text("utf-8").splitlines() == lines
    assert capsys.readouterr().err == ""


async def test_deliveries_are_notices_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent = said("hi", event="sent", kind="dm", to="bob", conversation_id="D")
    receipt = {"event": "delivered", "at": AT, "conversation_id": "D", "user": "bob", "user_id": "B"}
    [line] = await shown(tmp_path / "plain", [(sent, False), (receipt, False)], as_json=False)
    assert line.endswith("ada -> bob: hi")
    assert capsys.readouterr().err == "-- delivered to bob: your message\n"
