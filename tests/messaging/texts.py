"""What the tests of the library read back."""

from __future__ import annotations

from p2pchat import TCPPeer


async def texts(peer: TCPPeer, conversation: str = "room") -> list[str]:
    return [post.text for post in await peer.history(conversation)]
