"""For pytest: the fixture `p2pchat_mesh`. Installed with the package; nothing of p2pchat is loaded until it is used.

async def test_my_bot(p2pchat_mesh):
    net = await p2pchat_mesh("ada", "bob")
    ada, bob = net.peers
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from p2pchat.testing.mesh import Mesh

    MakeMesh = Callable[..., Awaitable[Mesh]]

fixture: Any = pytest.fixture  # anyio's plugin runs plain async fixtures
with suppress(ImportError):
    from pytest_asyncio import fixture


@fixture
async def p2pchat_mesh() -> AsyncIterator[MakeMesh]:
    """Make linked peers: `net = await p2pchat_mesh("ada", "bob")`; closed at the end of the test."""
    from p2pchat.testing.mesh import mesh

    async with AsyncExitStack() as stack:

        async def make(*names: str, **options: object) -> Mesh:
            return await stack.enter_async_context(mesh(*names, **options))  # type: ignore[arg-type]

        yield make
