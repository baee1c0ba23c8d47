"""Logins: homes of their own, each with its peers, which join each other's networks by invites."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from p2pchat.testing.process_mesh import Child, Line
from tests.deadlines import WAIT
from tests.processes.peers import Cluster


class Login(Cluster):
    """One login with its home, in which each profile is a directory by its name."""

    async def peer(self, name: str, *words: str, invite: str = "", port: int = 0, points: Sequence[str] = ()) -> Child:
        child = self.child(name, *words, *(["--invite", invite] if invite else []), port=port, points=points, log=False)
        await child.start(WAIT)
        return child

    async def refused(self, name: str, *words: str) -> tuple[str, str]:
        """Start a peer that must end with exit code 1; return the code and the text of its error line."""
        child = await self.peer(name, *words)
        error = await child.event("error", WAIT)
        assert await child.ended(WAIT) == 1
        return error["code"], error["text"]

    async def rows(self, *words: str) -> list[Line]:
        """Return what a command prints with --json."""
        code, out, err = await self.talk(*words, "--json")
        assert code == 0, err.decode()
        return [json.loads(line) for line in out.splitlines()]

    async def invite(self, child: Child, *words: str) -> str:
        [row] = await self.rows("invite", "--data", str(self.home / child.name), "--advertise", child.endpoint, *words)
        return str(row["invite"])

    async def members(self, name: str) -> dict[str, str]:
        """Return the role of each member by the names of its users."""
        rows = await self.rows("members", "--data", str(self.home / name))
        return {" ".join(row["users"]) or row["user"]: row["role"] for row in rows}

    async def invites(self, name: str) -> list[Line]:
        return await self.rows("invite", "--list", "--data", str(self.home / name))

    async def decide(self, name: str, *words: str) -> None:
        await self.rows(*words, "--data", str(self.home / name))


async def says(child: Child, text: str) -> str:
    """Wait until a line on its standard error has this text; return the line."""
    deadline = time.monotonic() + WAIT
    while not (found := [line for line in child.complaints if text in line]):
        assert time.monotonic() < deadline, child.complaints
        await asyncio.sleep(0.05)  # poll: its lines are read by a task
    return found[0]


async def met(*children: Child) -> None:
    for one in children:
        for other in children:
            if one is not other:
                await one.event("joined", WAIT, user=other.name)
