"""The texts of a conversation, for tests."""

from __future__ import annotations

from p2pchat import TCPPeer


async def texts(peer: TCPPeer, conversation: str = "room") -> list[str]:
    return [post.text for post in await peer.history(conversation)]
