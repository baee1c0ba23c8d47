"""What came since, in pages: for a server whose clients come back."""

from __future__ import annotations

import pytest

from p2pchat.testing import Mesh


async def test_who_comes_back_gets_what_was_shown_since_and_nothing_else(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.send("bob", "before")
    await ada.broadcast("seen")
    await net.settle()
    seen = (await bob.released(kinds=("room",)))[-1]
    net.partition([cyd], [ada, bob])
    await cyd.broadcast("written early, shown late")
    await ada.send("bob", "psst")
    await net.settle()
    net.heal()
    await net.settle()
    assert [post.text for post in await bob.released(seen)] == ["psst", "written early, shown late"]
    assert [post.text for post in await bob.released(seen, kinds=("dm",))] == ["psst"]
    assert [post.text for post in await bob.released(seen, limit=1)] == ["psst"]
    newest = (await bob.released(seen))[-1]
    assert await bob.released(newest) == []
    with pytest.raises(ValueError, match="1 message or more"):
        await bob.released(limit=0)


async def test_where_a_consumer_stands_is_kept_and_never_goes_back(net: Mesh) -> None:
    ada, bob, _ = net.peers
    for text in ("one", "two", "three"):
        await ada.send("bob", text)
    await net.settle()
    one, two, three = await bob.released(consumer="phone", kinds=("dm",))
    bob.hand_on(two, "phone")
    bob.hand_on(one, "phone")
    assert await bob.released(consumer="phone", kinds=("dm",)) == [three]
    await bob.broadcast("saved with the next commit, or soon")
    await net.crash(bob)
    bob = await net.restart(bob)
    assert [post.text for post in await bob.released(consumer="phone", kinds=("dm",))] == ["three"]
    assert await bob.released(consumer="new", kinds=("dm",)) == []
