"""Every command has one answer, whatever stands in its fields."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from p2pchat.commands.command_table import commands_at
from tests.cli.control.conftest import Serve
from tests.cli.control.conftest import home as home
from tests.cli.control.conftest import serve as serve
from tests.cli.control.test_control_server import open_raw
from tests.deadlines import WAIT
from tests.odd_values import GOOD, ODD

ENDS = {"quit", "tail"}  # without an answer of their own
LAST = ("delete_history", "delete", "kick", "leave", "owner", "expel")  # what they take away is named before


async def test_every_command_has_one_answer_whatever_stands_in_its_fields(
    serve: Serve, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # exports go there
    ada, _ = await serve("ada")
    await serve("bob", f"127.0.0.1:{ada.port}")
    Path("a.txt").write_text("a")
    await ada.create_group("ops", ["bob"])
    asked: dict[str, dict[str, Any]] = {"tail": {"do": "tail", "last": 0, "ref": "tail"}}  # it tells what was sent
    for name, row in sorted(commands_at("s").items(), key=lambda each: each[0] in LAST):
        for field in row.json if name not in ENDS else ():
            message = await ada.send("bob", "a text", files=["a.txt"])
            fields = {one: GOOD[kind.kind] for one, kind in row.json.items() if kind.required}
            fields |= {one: message.id for one, kind in row.json.items() if kind.kind == "message" and one in fields}
            for number, odd in enumerate(ODD):
                ref = f"{name} {field} {number}"
                asked[ref] = {"do": name, **fields, field: odd, "ref": ref}
    reader, writer = await open_raw(home / "ada", ada)
    reader._limit = 1 << 24  # type: ignore[attr-defined]
    writing = asyncio.create_task(_write(writer, [json.dumps(one).encode() + b"\n" for one in asked.values()]))
    answers: Counter[str] = Counter()
    async with asyncio.timeout(WAIT):
        while line := await reader.readline():
            answer = json.loads(line)
            if answer["event"] in ("answer", "error", "sent") and "ref" in answer:
                answers[answer["ref"]] += 1
    await writing
    writer.close()
    assert [asked[ref] for ref in asked if answers[ref] != 1] == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def _write(writer: asyncio.StreamWriter, lines: list[bytes]) -> None:
    for line in lines:
        writer.write(line)
        await writer.drain()
    writer.write_eof()
