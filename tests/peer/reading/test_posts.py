"""Messages found again: by their words, by their id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import Receipt, Settings, TCPPeer, UnknownName, open_history
from p2pchat.messaging import search
from p2pchat.testing import Mesh


async def test_a_search_finds_the_newest_oldest_first(net: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LOOKED_THROUGH", 3)  # so that many pages are read
    ada, bob, cyd = net.peers
    for number in range(8):
        await ada.broadcast(f"Tea number {number} at the STRASSE")
        await bob.broadcast("nothing of the kind")
    await ada.send("bob", "tea for two, number 9")
    await net.settle()
    found = await cyd.search("tea number", limit=3)
    assert [post.text for post in found] == [f"Tea number {number} at the STRASSE" for number in (5, 6, 7)]
    older = await cyd.search("TEA", "room", before=found[0], limit=2)
    assert [post.text[11] for post in older] == ["3", "4"]
    assert [post.text for post in await bob.search("number tea two")] == ["tea for two, number 9"]
    assert [post.text for post in await bob.search("two", bob.find("ada"))] == ["tea for two, number 9"]
    assert await bob.search("two", "room") == []
    assert await cyd.search("two") == []
    assert len(await ada.search("straße")) == 8
    assert await ada.search("tea", since=datetime.now(UTC) + timedelta(hours=1)) == []


@pytest.mark.parametrize(("words", "limit"), [("", 50), ("  ", 50), ("tea", 0)])
async def test_a_search_for_nothing_is_refused(net: Mesh, words: str, limit: int) -> None:
    with pytest.raises(ValueError):
        await net.peers[0].search(words, limit=limit)


async def test_a_message_is_found_by_its_id(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    first = await ada.broadcast("are you there?")
    secret = await ada.send("bob", "psst")
    await net.settle()
    assert (await cyd.message(first.id)).text == "are you there?"
    assert (await ada.message(secret.id)).event == "sent"
    answer = await (await bob.message(first.id)).reply("yes")
    await net.settle()
    told = await cyd.message(answer.id)
    assert told.reply_to is not None and (await cyd.message(told.reply_to)).sender.name == "ada"
    with pytest.raises(UnknownName):
        await cyd.message(secret.id)
    with pytest.raises(UnknownName):
        await cyd.message(first.id.partition(".")[0] + ".999")
    with pytest.raises(ValueError):
        await cyd.message("psst")


async def test_a_history_nobody_runs_is_searched_too(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=Settings(start_timeout=0.0)) as ada:
        receipt = await ada.broadcast("remember the milk")
        await ada.broadcast("and the bread")
    async with open_history(tmp_path / "ada") as history:
        assert [post.text for post in await history.search("milk", "room")] == ["remember the milk"]
        assert (await history.message(receipt.id)).text == "remember the milk"


async def test_a_receipt_names_who_lacks_it(net: Mesh) -> None:
    ada, _, cyd = net.peers
    await net.crash(cyd)
    receipt: Receipt = await ada.send("cyd", "for later")
    assert (receipt.status, [user.name for user in receipt.missing]) == ("accepted", ["cyd"])
    cyd = await net.restart(cyd)
    await receipt.delivered(timeout=20)
    assert (receipt.status, receipt.missing) == ("delivered", [])
