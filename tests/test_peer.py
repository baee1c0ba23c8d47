"""Forgetting peers, other event loops, and database servers."""

from __future__ import annotations

import asyncio
import logging
import os
import pydoc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from p2pchat import (
    Forgotten,
    TCPPeer,
    UnknownName,
)
from p2pchat.testing import Mesh
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.ports import free_ports


async def test_a_peer_logs_its_links_and_warnings_and_prints_nothing_unasked(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("p2pchat")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    with caplog.at_level(logging.INFO, "p2pchat"):
        async with TCPPeer(data=home / "ada", name="ada") as ada, TCPPeer(data=home / "bob", name="bob") as bob:
            assert await bob.connect(ada.port)
            await bob.broadcast("very secret")
    lines = [record.getMessage() for record in caplog.records if record.name == "p2pchat.peer"]
    assert f"peer {peer_id(ada)} listens on 127.0.0.1:{ada.port}" in lines
    assert f"link with {peer_id(ada)} at 127.0.0.1:{ada.port}: up" in lines
    assert f"the peer at port {bob.port} stopped: closed" in lines
    assert "secret" not in caplog.text


def peer_id(peer: TCPPeer) -> str:
    return str(peer.listening.to_dict()["peer_id"])[:8]


async def test_a_call_from_another_event_loop_is_refused_before_anything_is_done(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        sent = await ada.broadcast("one")
        message = await ada.message(sent.id)
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: ada.broadcast("two"), lambda: ada.send_many("room", ["two"]), lambda: message.react("+1"),
            lambda: message.edit("two"), lambda: ada.rename("eve"), lambda: ada.create_group("ops"),
        ]  # fmt: skip
        for call in calls:
            for _ in range(5):
                with pytest.raises(RuntimeError, match="another event loop"):
                    await asyncio.to_thread(asyncio.run, call())
        [kept] = await ada.history("room")
        assert (kept.text, kept.reactions, ada.me.name) == ("one", {}, "ada")
        assert [one.kind for one in ada.conversations()] == ["room"]


def test_the_help_of_a_peer_begins_with_what_a_program_needs() -> None:
    shown = pydoc.plain(pydoc.render_doc(TCPPeer))
    first = shown[: shown.index("Args:")]
    assert all(f"{name}()" in first for name in ("send", "events", "history"))
    assert "Start the peer" in shown[shown.index("__aenter__") :][:100]


async def test_a_peer_in_memory_leaves_nothing_behind(home: Path) -> None:
    port, large = int(free_ports(1)[0]), bytes(300_000)
    async with TCPPeer(port, db="memory://") as ada:
        assert ada.data is not None
        await ada.send("room", "", files=[("large", large)])
        assert sorted(path.name for path in ada.data.iterdir()) == ["identity.pem", "lock", "lock.pid"]
    assert not ada.data.exists()


async def test_a_start_in_memory_takes_no_files_from_a_profile(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        await ada.send("room", "", files=[("large", bytes(300_000))])
        [post] = await ada.history("room")
    for file in (home / "ada" / "content").iterdir():
        os.utime(file, (1, 1))  # so old that it goes if no message names it
    async with TCPPeer(data=home / "ada", db="memory://") as ada:
        await ada.send("room", "", files=[("small", b"small")])
        await (await ada.history("room"))[0].attachments[0].read()  # behind the look at the start
        assert await ada._lifecycle.started_driver.removal.sweep() == 0
    async with TCPPeer(data=home / "ada") as ada:
        assert await (await ada.message(post.id)).attachments[0].read() == bytes(300_000)


async def test_a_forgotten_peer_is_not_dialled_again_and_its_link_stays(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    there = bob.endpoint
    assert await ada.forget("bob") == Forgotten((there,), linked=True)
    assert bob.me.id in ada.links()
    assert await ada.forget(bob.me.id) == Forgotten((), linked=True)
    with pytest.raises(UnknownName, match="is not dialled"):
        await ada.forget(there)
    assert (await ada.forget(cyd.me)).endpoints == (cyd.endpoint,)


async def test_forget_refuses_the_own_peer_and_unknown_names(net: Mesh) -> None:
    ada, *_ = net.peers
    with pytest.raises(ValueError, match="itself"):
        await ada.forget("ada")
    with pytest.raises(UnknownName):
        await ada.forget("dave")
    with pytest.raises(ValueError):
        await ada.forget("no:endpoint")


async def test_an_endpoint_that_never_answered_can_be_forgotten(home: Path) -> None:
    nobody = int(free_ports(1)[0])
    async with TCPPeer(data=home / "ada") as ada:
        assert await ada.connect(nobody) is False
        assert await ada.forget(nobody) == Forgotten((f"127.0.0.1:{nobody}",), linked=False)
        with pytest.raises(UnknownName):
            await ada.forget(f"127.0.0.1:{nobody}")


async def test_a_forgotten_peer_stays_forgotten_after_a_restart(home: Path) -> None:
    async with TCPPeer(temporary=True, name="bob") as bob:
        async with TCPPeer(data=home / "ada") as ada:
            assert await ada.connect(bob.port)
        async with TCPPeer(data=home / "ada") as ada:
            await ada.wait_user("bob", timeout=60)  # it knows the address
            assert (await ada.forget("bob")).endpoints
    async with TCPPeer(data=home / "ada") as ada:
        with pytest.raises(UnknownName, match="not dialled"):
            await ada.forget(f"127.0.0.1:{bob.port}")
