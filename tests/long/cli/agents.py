"""Agents for tests: `p2pchat mcp` as a process, driven by the SDK's client; and people as processes beside them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from p2pchat import inspect_profile
from p2pchat.testing.process_mesh import PATIENCE, Child
from tests.ports import free_ports

LOOKS_EVERY = 0.05  # seconds between two looks at an inbox


class Agent:
    """A client of the tools of one agent.

    Attributes:
        client: The SDK's.
    """

    def __init__(self, client: Client, directory: Path) -> None:
        self.client = client
        self._directory = directory
        self._pid = inspect_profile(directory).holder

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool; return its structured answer, which the client has checked against the tool's schema."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        found: dict[str, Any] | None = result.structured_content
        assert found is not None
        return found

    async def refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool that refuses; return what it says."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error and result.structured_content is None
        [block] = result.content
        return str(block.text)  # type: ignore[union-attr]

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def until_unread(self, count: int) -> None:
        """Wait until the inbox has so many messages, without marking them."""
        async with asyncio.timeout(PATIENCE):
            while True:
                [contents] = (await self.client.read_resource("p2pchat://inbox")).contents
                if len(json.loads(contents.text)["messages"]) >= count:  # type: ignore[union-attr]
                    return
                await asyncio.sleep(LOOKS_EVERY)

    async def until_known(self, *names: str) -> None:
        """Wait until these members are known: other agents may have just started."""
        async with asyncio.timeout(PATIENCE):
            while not {*names} <= {one["name"] for one in (await self.call("who"))["members"]}:
                await asyncio.sleep(LOOKS_EVERY)

    def kill(self) -> None:
        """Kill the process that runs the agent's peer (kill -9)."""
        assert self._pid
        os.kill(self._pid, 9)

    @property
    def runs(self) -> bool:
        """Whether its process still runs the peer."""
        return inspect_profile(self._directory).holder == self._pid

    async def gone(self) -> None:
        """Wait until its calls end, because its process has."""
        while self.runs:
            await asyncio.sleep(LOOKS_EVERY)


@asynccontextmanager
async def agent(
    home: Path, beside: Child | str, name: str, *options: str, port: int = 0, failpoint: str = "", **how: Any
) -> AsyncIterator[Agent]:
    """Start an agent that is linked with a person's peer.

    Args:
        beside: That peer, or its endpoint.
        failpoint: Where it kills itself (tests/processes/failpoints.py).
        how: Options of the SDK's client.
    """
    port = port or int(free_ports(1)[0])
    endpoint = beside if isinstance(beside, str) else beside.endpoint
    words = ["mcp", str(port), endpoint, "--name", name, *options]
    async with started(home, words, failpoint, **how) as client:
        yield Agent(client, home / str(port))


@asynccontextmanager
async def started(home: Path, words: Sequence[str], failpoint: str = "", **how: Any) -> AsyncIterator[Client]:
    """Start `p2pchat WORDS`, and connect to it."""
    module = ["tests.processes.failpoints", failpoint] if failpoint else ["p2pchat"]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", *module, *words],
        env={**os.environ, "P2PCHAT_HOME": str(home)},
    )
    async with Client(parameters, **how) as client:
        yield client


@asynccontextmanager
async def person(name: str, home: Path, *, port: int = 0) -> AsyncIterator[Child]:
    """Start the peer of a person."""
    child = Child(name, home, port=port or int(free_ports(1)[0]))
    await child.start()
    try:
        yield child
    finally:
        await child.destroy()
