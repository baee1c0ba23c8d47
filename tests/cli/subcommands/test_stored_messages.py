"""`p2pchat history`: messages by conversation, time and words, as text and as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.__main__ import main

History = Callable[..., list[str]]


async def talk(data: Path) -> None:
    async with TCPPeer(0, name="ada", data=data / "ada") as ada, TCPPeer(0, ada.endpoint, name="bob") as bob:
        await ada.wait_user("bob", timeout=60)
        for text in ("one", "two", "the deploy failed", "deploy again"):
            said = await ada.broadcast(text)
        await ada.send("bob", "psst\n12:00 bob: not by him")
        await bob.wait_user("ada", timeout=60)
        await said.delivered(timeout=60)
        receipt = await (await bob.message(said.id)).reply("thanks")
        await receipt.delivered(timeout=60)


@pytest.fixture
def history(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> History:
    """Run it over what ada has stored; returns the lines it prints."""
    asyncio.run(talk(tmp_path))

    def run(*words: str, code: int = 0) -> list[str]:
        capfd.readouterr()
        assert main(["history", "--data", str(tmp_path / "ada"), *words]) == code
        return capfd.readouterr().out.splitlines()

    return run


def test_everything_or_one_conversation_oldest_first(history: History) -> None:
    lines = [json.loads(line) for line in history("--json")]
    assert [(line["event"], line["kind"]) for line in lines] == [("sent", "room")] * 4 + [
        ("sent", "dm"),
        ("message", "room"),
    ]
    shown = history("bob")
    assert len(shown) == 2 and shown[0].endswith("ada -> bob: psst") and shown[1].startswith("    | ")
    told, answer = history("room")[-2:]
    assert told.endswith(" ada: deploy again") and answer.endswith(' bob (to ada: "deploy again"): thanks')


def test_the_room_is_there_before_anything_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def say_nothing() -> None:
        async with TCPPeer(0, name="ada", data=tmp_path / "ada"):
            pass

    asyncio.run(say_nothing())
    assert main(["history", "room", "--data", str(tmp_path / "ada")]) == 0
    assert capfd.readouterr() == ("", "")
    exported = str(tmp_path / "exported")
    assert main(["export", exported, "--conversation", "room", "--data", str(tmp_path / "ada")]) == 0


def test_limits_times_and_searches(history: History) -> None:
    def texts(*words: str) -> list[str]:
        return [json.loads(line)["text"] for line in history("room", "--json", *words)]

    assert texts("--search", "DEPLOY failed") == ["the deploy failed"]
    assert texts("--search", '"deploy failed"') == ["the deploy failed"]
    assert texts("--search", "deploy", "--limit", "1") == ["deploy again"]
    assert texts("--search", "from:bob", "--since", "1h") == ["thanks"]
    assert [json.loads(line)["found"] for line in history("--search", "fail deploy", "--json")] == [[[4, 10], [11, 17]]]
    assert history("--search", "?", code=2) == []
    assert texts("--since", "1h", "-n", "2") == ["deploy again", "thanks"]
    assert texts("--since", "1h")[:2] == ["one", "two"]
    assert texts("--before", "1h") == []


def test_an_unknown_name(history: History) -> None:
    assert history("nobody", code=4) == []
