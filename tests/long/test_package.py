"""The package in processes of their own: what importing it loads, and what a type checker knows of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_importing_p2pchat_loads_little() -> None:
    code = "import sys, p2pchat; print({'sqlite3', 'click', 'asyncio', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "set()"


MISSPELT = """
from p2pchat import Message, TCPPeer, TCPPeers

async def main(peer: TCPPeer) -> None:
    peer.send("bob", "hi")
    async for event in peer.events(Message):
        reveal_type(event)
"""


def test_pyright_finds_a_misspelt_name_and_a_forgotten_await_and_knows_the_types(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(MISSPELT, "utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", str(tmp_path / "program.py")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    reports = json.loads(done.stdout)["generalDiagnostics"]
    found = {(each.get("rule", "-"), each["range"]["start"]["line"]) for each in reports}
    assert {("reportAttributeAccessIssue", 1), ("reportUnusedCoroutine", 4)} <= found
    assert 'Type of "event" is "Message"' in [each["message"] for each in reports]
