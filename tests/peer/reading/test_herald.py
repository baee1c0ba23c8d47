"""Who came, from where, and whether for the first time; which endpoint was reached, and why another was not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from p2pchat import Joined, Link, TCPPeer
from p2pchat.runtime.connections import _reason


async def test_who_comes_is_new_once_and_from_somewhere(home: Path) -> None:
    ada = TCPPeer(data=home / "ada", name="ada")
    joined, links = ada.events(Joined), ada.events(Link, consumer="links")
    async with ada:
        for first in (True, False):
            async with TCPPeer(0, ada.port, data=home / "bob", name="bob"):
                came = await anext(joined)
                assert (came.user.name, came.first, came.address) == ("bob", first, "127.0.0.1")
                up = await anext(links)
                assert (up.state, up.endpoint, up.address, up.code) == ("up", "", "127.0.0.1", "")
            assert (await anext(links)).state == "down"
    async with TCPPeer(data=home / "ada") as ada:
        joined = ada.events(Joined)
        async with TCPPeer(0, ada.port, data=home / "bob"):
            assert not (await anext(joined)).first  # also after a restart


async def test_an_endpoint_is_answered_for_when_its_peer_has_called_first(home: Path) -> None:
    async with TCPPeer(temporary=True) as ada, TCPPeer(0, ada.port, temporary=True) as bob:
        assert await ada.connect(bob.endpoint, timeout=5)  # linked already, by the other


async def test_why_nobody_was_reached_is_a_stable_word_too(home: Path) -> None:
    async with TCPPeer(temporary=True) as other:
        nobody = other.endpoint
    peer = TCPPeer(0, nobody, temporary=True)
    events = peer.events(Link)
    async with peer:
        assert (await anext(events)).code == "nobody"
        await peer.connect(peer.port)
        link = await anext(events)
        assert (link.state, link.code) == ("refused", "self")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "no_answer"),
        (socket.gaierror(-2, "Name or service not known"), "no_name"),
        (ConnectionRefusedError(111, "Connection refused"), "nobody"),
        (OSError(113, "No route to host"), "no_way"),
        (OSError(5, "Input/output error"), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_dial_raises_has_a_word(error: Exception, code: str) -> None:
    reason, word = _reason(error)
    assert word == code and reason
