"""The pytest fixture `p2pchat_mesh`, installed with the package. It loads p2pchat only when a test uses it.

async def test_my_bot(p2pchat_mesh):
    net = await p2pchat_mesh("ada", "bob")
    ada, bob = net.peers

A test that cannot use it fails before it begins, with what to do: see why_not.
"""

from __future__ import annotations

import inspect
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


# ---- tests that cannot use it

_AUTO = 'set asyncio_mode = "auto" in the configuration of pytest'
_INSTALL = f"install pytest-asyncio, then mark the test with @pytest.mark.asyncio or {_AUTO}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a test with `p2pchat_mesh` that nobody would run fail, with what to do."""
    if isinstance(item, pytest.Function) and "p2pchat_mesh" in item.fixturenames:
        if why := why_not(item):
            pytest.fail(f"p2pchat_mesh cannot be used here: {why}", pytrace=False)


def why_not(test: pytest.Function) -> str:
    """Return why a test cannot use the fixture, and what to do; "" if it can."""
    runs_asyncio = test.config.pluginmanager.hasplugin("asyncio")  # pytest-asyncio
    is_of_anyio = "anyio_backend" in test.fixturenames
    if not (inspect.iscoroutinefunction(test.obj) or hasattr(test.obj, "hypothesis")):
        return 'the test is not async: write `async def`, and `net = await p2pchat_mesh("ada", "bob")`'
    if is_of_anyio and not runs_asyncio:
        return ""
    if is_of_anyio:
        return "anyio runs the test, and pytest-asyncio the fixture: mark the test with @pytest.mark.asyncio instead"
    if not runs_asyncio:
        return f"no plugin runs async tests: {_INSTALL}"
    if test.get_closest_marker("asyncio") is None:
        return f"pytest-asyncio is in strict mode: mark the test with @pytest.mark.asyncio, or {_AUTO}"
    return ""
