"""The pytest fixture `p2pchat_mesh`, installed with the package. It loads p2pchat only when a test uses it.

async def test_my_bot(p2pchat_mesh):
    net = await p2pchat_mesh("ada", "bob")
    ada, bob = net.peers

A test that no plugin runs fails in pytest itself (8.4 or later).
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
    """Return the decorator of asynchronous fixtures: pytest-asyncio's own, or pytest's, which anyio's plugin runs."""
    try:
        import pytest_asyncio
    except ImportError:
        return cast("Callable[[F], F]", pytest.fixture)
    return cast("Callable[[F], F]", pytest_asyncio.fixture)


@_async_fixture()
async def p2pchat_mesh() -> AsyncIterator[MakeMesh]:
    """Return a function that makes linked peers, closed after the test: `net = await p2pchat_mesh("ada", "bob")`."""
    from p2pchat.testing.meshes import mesh

    async with AsyncExitStack() as stack:

        async def make(*names: str, **options: object) -> Mesh:
            return await stack.enter_async_context(mesh(*names, **options))  # type: ignore[arg-type]

        yield make
