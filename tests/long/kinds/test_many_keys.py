"""What many keys of one member cost who looks at a message."""

from __future__ import annotations

import asyncio

from p2pchat.storage.message_queries import OF_A_MEMBER
from p2pchat.testing import mesh


async def test_one_look_at_a_message_reads_a_bounded_number_of_the_keys_of_a_member() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        keys = await asyncio.gather(*(eve.host(f"eve {number}") for number in range(OF_A_MEMBER + 20)))
        said = await eve.broadcast("hi")
        await net.settle()
        await asyncio.gather(*(key.react(said.id, "+1") for key in keys))
        await eve.edit(said.id, "hello")
        await net.settle()
        await bob.react(said.id, "-1")
        await net.settle()
        for peer, most in ((ada, OF_A_MEMBER), (eve, len(keys) + 1)):
            post = await peer.message(said.id)
            assert post.text == "hello" and post._edits is not None
            assert len(post._edits.changes) == most + 1  # and bob
            assert [user.name for user in post.reactions["-1"]] == ["bob"]
        assert len((await ada.message(said.id)).reactions["+1"]) == 8
