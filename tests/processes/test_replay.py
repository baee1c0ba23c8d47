"""A day of a public chat through five peers, which leave, are killed and return during it.

The recorded traffic is read from P2PCHAT_TEST_IRC, or from ../shared/data beside the repository; if there is none,
similar traffic is generated. The checker reads every log.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pchat.testing import Log, check
from p2pchat.testing.process_mesh import Child
from tests.processes.peers import ROOT, Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]

NAMES = ("ada", "bob", "cyd", "dan", "eva")
RECORDED = ROOT.parent / "shared/data/irc/ubuntu-2004-11-15.jsonl"
LINES = 1200

Said = dict[str, str]


def traffic() -> list[Said]:
    """Return the recorded lines, oldest first: `kind` message or action, `nick`, `text`."""
    path = Path(os.environ.get("P2PCHAT_TEST_IRC", RECORDED))
    if not path.is_file():
        return list(generated(random.Random(20041115)))
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [line for line in lines if line["kind"] in ("message", "action") and line["text"].strip()]


def generated(chance: random.Random) -> Iterator[Said]:
    """Generate lines of many speakers, a few of whom write most; with bursts, odd characters and some actions."""
    words = [
        "ubuntu",
        "apt-get",
        "ok",
        "http://x/?a=1&b=2",
        "~/.bashrc",
        "ü",
        "世界",
        ":)",
        "<tag>",
        "\\n",
        '"q"',
        "|",
        "#1",
    ]
    speakers = [f"nick{number}|{chance.choice('`^_-[]')}" for number in range(120)]
    for _ in range(LINES):
        nick = speakers[min(int(chance.expovariate(0.05)), len(speakers) - 1)]
        text = " ".join(chance.choices(words, k=chance.randint(1, 25)))
        yield {"kind": chance.choice(["message"] * 30 + ["action"]), "nick": nick, "text": text}


def voice(nick: str) -> int:
    """Return the peer that writes for a nick; the same in every run."""
    return zlib.crc32(nick.encode()) % len(NAMES)


class Replay:
    """Five peers, the lines that wait for offline peers, and the number of lines each peer wrote."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.up: dict[str, Child] = {}
        self.waiting: dict[str, list[Said]] = {name: [] for name in NAMES}
        self.ports: dict[str, int] = {}

    async def start(self, name: str, *endpoints: str) -> None:
        """Start a peer, at its earlier port and without endpoints if it has run before."""
        child = self.cluster.child(name, *endpoints, port=self.ports.get(name, 0))
        await child.start()
        self.ports[name] = child.listening["port"]
        self.up[name] = child
        for said in self.waiting[name]:
            await self.say(name, said)
        self.waiting[name].clear()

    async def say(self, name: str, said: Said) -> None:
        """Have a peer write a line, now or when it is back."""
        if name in self.up:
            await self.up[name].do(do="send", text=said["text"], action=said["kind"] == "action")
        else:
            self.waiting[name].append(said)

    async def leave(self, name: str) -> None:
        child = self.up.pop(name)
        assert await child.leave() in (0, 3)  # 3: a recipient was killed before it acknowledged

    async def kill(self, name: str) -> None:
        child = self.up.pop(name)
        child.kill()
        await child.ended()


async def test_a_day_of_real_chat_with_peers_leaving_and_returning(quick: Cluster) -> None:
    replay = Replay(quick)
    said = traffic()
    await replay.start("ada")
    for name in NAMES[1:]:
        await replay.start(name, replay.up["ada"].endpoint)

    step = len(said) // 8
    happens = {
        1 * step: lambda: replay.leave("bob"),
        2 * step: lambda: replay.kill("cyd"),
        3 * step: lambda: replay.start("bob"),
        4 * step: lambda: replay.leave("ada"),  # the only endpoint given to the others
        5 * step: lambda: replay.start("cyd"),
        6 * step: lambda: replay.start("ada"),
        7 * step: lambda: replay.kill("eva"),
    }
    for number, line in enumerate(said):
        if number in happens:
            await happens[number]()
        await replay.say(NAMES[voice(line["nick"])], line)
    await replay.start("eva")

    # A writer's lines arrive in order: a peer that has the last line of each writer has all lines.
    for name, child in replay.up.items():
        await child.do(do="send", text=f"the last of {name}")
    for name, child in replay.up.items():
        for other in NAMES:
            if other != name:
                await child.event("message", text=f"the last of {other}")
    for name in NAMES:
        last = await replay.up[name].event("sent", text=f"the last of {name}")
        for other in NAMES:
            if other != name:
                await replay.up[name].event("delivered", id=last["id"], user=other)
    assert [await child.leave() for child in replay.up.values()] == [0] * len(NAMES)

    logs = [Log.read(quick.log(name)) for name in NAMES]
    assert [str(fault) for fault in check(logs, complete=True)] == []
    sent = {message for log in logs for message in log.sent}
    assert len(sent) > 0.8 * len(said)  # lines that a killed process had not read were never accepted
    for log in logs:
        assert set(log.received) == sent - set(log.sent)
