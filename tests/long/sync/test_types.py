"""Complaints of mypy about programs: a forgotten await, and the types of p2pchat.sync."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

FORGOTTEN = """
from p2pchat import Joined, Message, TCPPeer

async def main(peer: TCPPeer) -> None:
    peer.send("bob", "hi")  # unused-coroutine
    peer.room.send("hi")  # unused-coroutine
    receipt = await peer.send("bob", "hi")
    receipt.delivered()  # unused-coroutine
    message = await peer.wait_for(Message, where=lambda event: event.text == "hi")
    reveal_type(message)  # p2pchat.messaging.messages.Message
    message.txt  # attr-defined
    either = await peer.wait_for(Message, Joined)
    either.text  # union-attr
"""
TYPED = """
from p2pchat import Joined as OtherJoined
from p2pchat.sync import Joined, Message, TCPPeer, probe

with TCPPeer(8085, "localhost:8080") as peer:
    peer.send("bob", "hi").delivered(timeout=5)
    for event in peer.events(Message, Joined):
        if isinstance(event, Message):
            reveal_type(event.reply("yes").status)  # str
            event.user  # attr-defined
        else:
            reveal_type(event)  # p2pchat.sync.classes.Joined
    peer.sent("bob", "hi")  # attr-defined
    peer.send("bob", 1)  # arg-type
    reveal_type(peer.wait_for(Message, timeout=5))  # p2pchat.sync.classes.Message
    reveal_type(probe(8080))  # p2pchat.reachability.Probed
"""
_SAID = re.compile(r'^(\w+)\.py:(\d+): (?:error: .*\[([\w-]+)\]|note: Revealed type is "(?:builtins\.)?(.+)")$', re.M)


def marked(code: str) -> list[tuple[int, str]]:
    """Return the lines with a comment, each with its word."""
    lines = enumerate(code.splitlines(), 1)
    return [(number, line.partition("  # ")[2]) for number, line in lines if "  # " in line]


def test_mypy_finds_a_forgotten_await_and_knows_the_types_of_p2pchat_sync(tmp_path: Path) -> None:
    programs = {"forgotten": FORGOTTEN, "typed": TYPED}
    for name, code in programs.items():
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
    cache = ROOT / ".mypy_cache" / "programs"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={cache}", "--follow-imports=silent"),
            *(f"{name}.py" for name in programs),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    said: dict[str, list[tuple[int, str]]] = {name: [] for name in programs}
    for name, line, code, revealed in _SAID.findall(done.stdout):
        said[name].append((int(line), code or revealed))
    assert said == {name: marked(code) for name, code in programs.items()}, done.stdout + done.stderr
