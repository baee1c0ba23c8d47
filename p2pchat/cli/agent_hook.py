"""The command `p2pchat agent hook`: what is unread, printed for the hooks of an agent's client.

The client waits for it in each turn. So it imports little, and asks the peer that runs, which has all else in memory.
It prints nothing, and ends with 0, when nothing is unread, and also when no peer answers: a message waits for the next
hook then. What it prints is marked as read afterwards: if it is killed in between, it is printed once more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from p2pchat import P2PChatError, home_directory
from p2pchat.cli.control_protocol import SOCKET_NAME, encode, read_address
from p2pchat.commands.exit_codes import DONE, UsageError

EVENTS = {"stop": "Stop", "prompt": "UserPromptSubmit", "tool": "PostToolUse"}
ANSWER_TIMEOUT = 2.0  # seconds
# Also without standard input, and when what answers is no peer.
NO_ANSWER = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, P2PChatError)


class _Peer:
    """A connection to the peer that runs in a directory. What it raises is in NO_ANSWER."""

    def __init__(self, directory: Path) -> None:
        path, address = directory / SOCKET_NAME, read_address(directory)
        if sys.platform != "win32" and path.exists():
            address = None
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(ANSWER_TIMEOUT)
            self._socket.connect(os.fspath(path))
        elif address is not None:
            self._socket = socket.create_connection((address.host, address.port), ANSWER_TIMEOUT)
        else:
            raise FileNotFoundError
        self._lines = self._socket.makefile("rb")
        if address is not None:
            self._socket.sendall(encode({"token": address.token}))
            if not address.is_answer(self._read()["answer"]):
                raise ValueError("another program listens there")
        self.user: str = self._read()["user"]

    def _read(self) -> Any:
        return json.loads(self._lines.readline())

    def ask(self, do: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the rows of an answer."""
        self._socket.sendall(encode({"do": do, **fields}))
        rows: list[dict[str, Any]] = self._read()["rows"]
        return rows

    def close(self) -> None:
        self._socket.close()


def answer_hook(words: Sequence[str]) -> int:
    """Print what is unread for an agent, in the form of its client; return the exit code.

    Args:
        words: One of EVENTS, and the agent's name, or the directory of its profile as a full path.
    """
    if len(words) != 2 or words[0] not in EVENTS:
        raise UsageError("usage: p2pchat agent hook stop|prompt|tool AGENT")
    kind, agent = words
    is_path = os.path.isabs(agent)
    try:
        said = sys.stdin.buffer.read()
        if kind == "stop" and json.loads(said)["stop_hook_active"]:
            return DONE  # this turn goes on because of a hook already
        directories = [Path(agent)]
        if not is_path:
            directories = sorted(home_directory().iterdir())
    except NO_ANSWER:
        return DONE
    for directory in directories:
        try:
            with closing(_Peer(directory)) as peer:
                if is_path or peer.user.partition("#")[0] == agent:
                    _give(peer, EVENTS[kind])
                    break
        except NO_ANSWER:
            continue
    return DONE


def _give(peer: _Peer, event: str) -> None:
    for row in peer.ask("unread_text"):
        answer: dict[str, Any] = {"decision": "block", "reason": row["text"]}
        if event != "Stop":
            answer = {"hookSpecificOutput": {"hookEventName": event, "additionalContext": row["text"]}}
        print(json.dumps(answer), flush=True)
        for where, ids in row["shown"].items():
            peer.ask("shown", to=where, ids=ids)
