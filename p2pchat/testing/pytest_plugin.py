"""For pytest: the fixture `p2pchat_mesh`. Installed with the package; nothing of p2pchat is loaded until it is used.

async def test_my_bot(p2pchat_mesh):
    net = await p2pchat_mesh("ada", "bob")
    ada, bob = net.peers
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from p2pchat.testing.meshes import Mesh

    MakeMesh = Callable[..., Awaitable[Mesh]]

F = TypeVar("F", bound=Callable[..., Any])


def _async_fixture() -> Callable[[F], F]:
    """pytest-asyncio has a fixture of its own; anyio's plugin runs plain ones."""
    try:
        import pytest_asyncio
    except ImportError:
        return cast("Callable[[F], F]", pytest.fixture)
    return cast("Callable[[F], F]", pytest_asyncio.fixture)


@_async_fixture()
async def p2pchat_mesh() -> AsyncIterator[MakeMesh]:
    """Make linked peers: `net = await p2pchat_mesh("ada", "bob")`; closed at the end of the test."""
    from p2pchat.testing.meshes import mesh

    async with AsyncExitStack() as stack:

        async def make(*names: str, **options: object) -> Mesh:
            return await stack.enter_async_context(mesh(*names, **options))  # type: ignore[arg-type]

        yield make
