"""Pins: the newest pin or unpin of all people counts; in the core, the library, a terminal and JSON lines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import P2PChatError, Pinned, TCPPeer
from p2pchat.commands.event_text import format_message
from p2pchat.core.log import Entry, Ref, decode_entry, encode_entry
from p2pchat.core.sync.causal_order import SHARED_AHEAD
from p2pchat.kinds.pins import PIN
from p2pchat.messaging.viewer import LAST_CHANGED
from p2pchat.protocol import Entries
from p2pchat.testing import Mesh, mesh
from tests.commands.session_output import Shown, open_session
from tests.core.scripted_nodes import NAMES, ROOM, START, Author, Peer, World
from tests.deadlines import WAIT, until, within

# ---- the core


def pin(author: Author, re: Ref, at: int, body: int) -> Entries:
    return author.write(encode_entry(Entry("pin", START + at, START + at, re, b=body)))


def pinned(peer: Peer) -> list[tuple[str, int]]:
    [one] = [one for one in peer.storage.history(ROOM, limit=0) if '"hi"' in str(one.raw[1])]
    return [] if one.edits is None else [(NAMES[each.log.user], each.entry.b) for each in one.edits.of(PIN)]


def test_the_newest_pin_or_unpin_of_all_people_counts_in_whatever_order_they_come() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("hi"), pin(cyd, bob.ref(1), 20, 1))
    assert pinned(ada) == [("cyd", 1)]
    far.say(pin(bob, bob.ref(1), 30, 0))
    assert pinned(ada) == [("bob", 0)]
    far.say(pin(Author("dan", "d1"), bob.ref(1), 25, 1))  # it comes last, and was written before
    assert pinned(ada) == [("bob", 0)]


@pytest.mark.parametrize("ahead", [SHARED_AHEAD, SHARED_AHEAD + 1, START, 2**52 - START - 1, 2**53 - START - 1])
def test_what_was_pinned_by_a_clock_far_ahead_is_unpinned_at_once(ahead: int) -> None:
    """What is more than a day ahead does not count at all."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("hi"), pin(Author("cyd", "c1"), bob.ref(1), ahead, 1))
    assert pinned(ada) == ([("cyd", 1)] if ahead == SHARED_AHEAD else [])
    ada.world.seconds += 1
    for body in ("0", "1", "0"):
        ada.change("pin", body, bob.ref(1))
        assert pinned(ada) == [("ada", int(body))]
        ada.say("and a text")
        assert decode_entry(ada.storage.places(0, 100)[-1].raw).c < START + 1_000_100


# ---- the library


async def texts(peer: TCPPeer, where: str) -> list[str]:
    return [post.text for post in await peer.head(where)]


@pytest.mark.parametrize("where", ["room", "bob", "#ops"])
async def test_everybody_in_a_conversation_sees_what_is_pinned_and_may_unpin_it(net: Mesh, where: str) -> None:
    ada, bob, cyd = net.peers
    await ada.create_group("ops", ["bob"])
    await net.settle()
    there = {"bob": "ada"}.get(where, where)
    first, second = await ada.send(where, "one"), await ada.send(where, "two")
    await net.settle()
    told = ada.events(Pinned)
    await bob.pin(second.id)
    await net.settle()
    async with within(WAIT, "the event"):
        event = await anext(told)
    assert (event.by.name, event.pinned, event.message.text, [one.name for one in event.message.pins]) == (
        "bob",
        True,
        "two",
        ["bob"],
    )
    await ada.pin(first.id)
    await net.settle()
    assert await texts(ada, where) == await texts(bob, there) == ["one", "two"]
    await ada.unpin(second.id)  # whoever pinned it
    await net.settle()
    assert await texts(ada, where) == await texts(bob, there) == ["one"]
    line = (await bob.message(first.id)).to_dict()
    assert [one["by"] for one in line["pins"]] == ["ada"] and "pins" not in (await bob.message(second.id)).to_dict()
    await ada.delete(first.id)
    await net.settle()
    assert await texts(bob, there) == []
    if where == "room":
        assert await texts(cyd, where) == []
    else:
        assert cyd.conversations() == [cyd.room]


async def test_who_was_removed_from_a_group_pins_nothing_there_and_exports_have_pins(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    group = await ada.create_group("ops", ["bob"])
    said = await ada.send(group, "rules")
    await net.settle()
    await group.remove(bob.me)
    await net.settle()
    with pytest.raises(P2PChatError, match="only members"):
        await bob.pin(said.id)
    net.partition([ada, bob], [cyd])
    hello = await ada.broadcast("hello")
    await net.settle()
    await bob.pin(hello.id)
    await net.settle()
    await ada.export(tmp_path / "exported")
    assert (await cyd.import_from(tmp_path / "exported")).problem == ""
    assert await texts(cyd, "room") == ["hello"]


# ---- commands


async def test_a_message_is_pinned_listed_and_unpinned_at_a_prompt(
    net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, bob, _ = net.peers
    session = open_session(bob, shown, as_json=False)
    await ada.send("bob", "at ten")
    await net.settle()
    await session.execute([b"/go ada", b"/history", b"/pin 1"])
    await net.settle()
    [post] = await bob.head("ada")
    line = post.to_dict()
    assert format_message(line, "bob", None).endswith("ada -> bob: at ten (pinned)")
    told = {"event": "pinned", "by": "bob", "by_id": "B", "kind": "dm", "sent_at": line["sent_at"], "pinned": True}
    assert format_message(told, "ada", None, line).endswith('-- bob pinned ada: "at ten"')
    assert format_message({**told, "pinned": False}, "ada", None).endswith("-- bob unpinned a message")
    capsys.readouterr()
    await session.execute([b"/go room", b"/pins", b"/go ada", b"/pins"])
    assert "-- nothing is pinned here" in shown.text
    assert '-- pinned: ada: "at ten"; /pins shows all 1' in capsys.readouterr().err
    await session.execute([b"/unpin 1"])
    assert await bob.head("ada") == []


async def test_a_program_pins_and_unpins_with_json_commands(net: Mesh, shown: Shown) -> None:
    ada, _, _ = net.peers
    session = open_session(ada, shown)
    id = (await ada.broadcast("hi")).id
    await session.execute([f'{{"do":"pin","id":"{id}"}}'.encode(), b'{"do":"pins","to":"room"}'])
    assert [row["id"] for row in shown.rows] == [id]
    await session.execute([f'{{"do":"unpin","id":"{id}"}}'.encode(), b'{"do":"pins","to":"room"}'])
    assert shown.rows == []


async def test_what_the_expelled_pin_or_unpin_counts_for_nothing() -> None:
    """Eve unpins at bob's peer, which has heard of nothing yet."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        first, second = await ada.broadcast("rules"), await ada.broadcast("noise")
        await net.settle()
        await ada.pin(first.id)
        await net.settle()
        net.partition([ada], [bob, eve])
        await ada.people.expel("eve")
        unpinned, pinned = await eve.unpin(first.id), await eve.pin(second.id)
        await until(lambda: unpinned.delivered_to and pinned.delivered_to, "bob has them, who heard of nothing yet")
        net.heal()
        await net.settle()
        for peer in (ada, bob):
            assert await texts(peer, "room") == ["rules"]


async def test_what_somebody_said_counts_for_nothing_while_it_is_expelled() -> None:
    """Also what came before, with a clock that nobody can outdo; after a pardon it counts again."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        said, asked = await ada.broadcast("rules"), await ada.poll("room", "lunch?", ["pizza", "soup"])
        await net.settle()
        await eve.pin(said.id)
        await eve.react(said.id, "+1")
        await eve.vote(asked.id, 1)
        await net.settle()

        async def shown(peer: TCPPeer) -> list[int]:
            message, poll = await peer.message(said.id), await peer.message(asked.id)
            return [len(message.pins), len(message.reactions), len(poll.votes["pizza"]), len(await peer.head("room"))]

        assert [await shown(peer) for peer in (ada, bob)] == [[1] * 4] * 2
        await ada.people.expel("eve")
        await until(lambda: bob.user("eve").expelled, "bob knows it")
        assert [await shown(peer) for peer in (ada, bob)] == [[0] * 4] * 2
        await ada.people.pardon("eve")
        await until(lambda: not bob.user("eve").expelled, "bob knows it")
        assert [await shown(peer) for peer in (ada, bob)] == [[1] * 4] * 2


async def test_who_pinned_more_than_are_looked_at_hides_no_pin_once_it_is_expelled() -> None:
    async with mesh("ada", "eve", logins=True) as net:
        ada, eve = net.peers
        rules, *noise = await asyncio.gather(*(ada.broadcast(f"{number}") for number in range(LAST_CHANGED + 1)))
        await ada.pin(rules.id)
        await net.settle()
        await asyncio.gather(*(eve.pin(one.id) for one in noise))
        await net.settle()
        assert "0" not in await texts(ada, "room")
        await ada.people.expel("eve")
        assert await texts(ada, "room") == ["0"]


async def test_whom_an_account_blocks_hides_no_pins_of_others_from_it() -> None:
    async with mesh("ada", "eve") as net:
        ada, eve = net.peers
        zoe = await ada.host("zoe")
        rules, *noise = await asyncio.gather(*(ada.broadcast(f"{number}") for number in range(LAST_CHANGED + 1)))
        await ada.pin(rules.id)
        await net.settle()
        await asyncio.gather(*(eve.pin(one.id) for one in noise))
        await net.settle()
        assert "0" not in [post.text for post in await zoe.head("room")]
        await zoe.block("eve")
        assert [post.text for post in await zoe.head("room")] == ["0"]


async def test_the_thirty_pinned_last_are_shown_and_none_of_an_ignored_writer_to_people(
    net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, bob, _ = net.peers
    for number in range(32):
        await ada.pin((await ada.broadcast(f"rule {number}")).id)
    assert await texts(ada, "room") == [f"rule {number}" for number in range(31, 1, -1)]
    await net.settle()
    session = open_session(bob, shown, as_json=False)
    await bob.ignore("ada")
    capsys.readouterr()
    await session.execute([b"/go cyd", b"/go room", b"/pins"])
    assert "nothing is pinned here" in shown.text and "pinned" not in capsys.readouterr().err
    await bob.unignore("ada")
    await session.execute([b"/go room", b"/pins"])
    assert '-- pinned: ada: "rule 31"; /pins shows all 30' in capsys.readouterr().err
    last = shown.text.rstrip().splitlines()[-1]
    assert last.startswith(" 1 ") and last.endswith("ada: rule 31 (pinned)")


async def test_an_older_pin_that_comes_late_is_no_event(net: Mesh) -> None:
    """A program that goes by events would show it, though another person unpinned the message later."""
    ada, bob, cyd = net.peers
    said, other = await ada.broadcast("rules"), await ada.broadcast("other")
    await net.settle()
    net.partition([ada, cyd], [bob])
    await bob.pin(said.id)
    told = ada.events(Pinned)
    await cyd.pin(said.id)
    await cyd.unpin(said.id)
    async with within(WAIT, "the end of the pin"):
        while (event := await anext(told)).pinned:
            pass
        assert event.by.name == "cyd"
    net.heal()
    await net.settle()
    await ada.pin(other.id)
    async with within(WAIT, "the next pin"):
        event = await anext(told)
    assert (event.by.name, event.message.text) == ("ada", "other")
    await net.settle()
    assert await texts(ada, "room") == await texts(bob, "room") == ["other"]
