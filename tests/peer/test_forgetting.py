"""What forgetting a peer does, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import Forgotten, TCPPeer, UnknownName
from p2pchat.testing import Mesh


async def test_a_forgotten_peer_is_not_dialled_again_and_its_link_stays(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    there = bob.endpoint
    assert await ada.forget("bob") == Forgotten((there,), linked=True)
    assert bob.me.id in ada.links()
    assert await ada.forget(bob.me.id) == Forgotten((), linked=True)
    with pytest.raises(UnknownName, match="is not dialled"):
        await ada.forget(there)
    assert (await ada.forget(cyd.me)).endpoints == (cyd.endpoint,)


async def test_who_cannot_be_forgotten(net: Mesh) -> None:
    ada, *_ = net.peers
    with pytest.raises(ValueError, match="itself"):
        await ada.forget("ada")
    with pytest.raises(UnknownName):
        await ada.forget("dave")
    with pytest.raises(ValueError):
        await ada.forget("no:endpoint")


async def test_an_endpoint_typed_in_vain_is_forgotten_for_good(home: Path) -> None:
    async with TCPPeer(temporary=True) as other:
        nobody = other.port
    async with TCPPeer(data=home / "ada") as ada:
        assert await ada.connect(nobody) is False
        assert await ada.forget(nobody) == Forgotten((f"127.0.0.1:{nobody}",), linked=False)
        with pytest.raises(UnknownName):
            await ada.forget(f"127.0.0.1:{nobody}")


async def test_what_was_forgotten_is_so_after_a_restart(home: Path) -> None:
    async with TCPPeer(temporary=True, name="bob") as bob:
        async with TCPPeer(data=home / "ada") as ada:
            assert await ada.connect(bob.port)
        async with TCPPeer(data=home / "ada") as ada:
            await ada.wait_user("bob", timeout=5)  # it knew where
            assert (await ada.forget("bob")).endpoints
    async with TCPPeer(data=home / "ada") as ada:
        with pytest.raises(UnknownName, match="not dialled"):
            await ada.forget(f"127.0.0.1:{bob.port}")
