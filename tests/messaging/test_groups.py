"""Groups: members, events, names."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pchat import (
    AmbiguousName,
    Events,
    GroupChanged,
    Message,
    P2PChatError,
    Sent,
    TCPPeer,
    Undelivered,
    UnknownName,
    open_history,
)
from p2pchat.testing import mesh


def texts_of(posts: Sequence[Message | Sent]) -> list[str]:
    return [f"{post.sender.name}: {post.text}" for post in posts]


async def group_texts(*peers: TCPPeer) -> list[str]:
    """Return the texts in #ops, which must be the same for all of these."""
    found = [texts_of(await peer.history("#ops")) for peer in peers]
    assert all(one == found[0] for one in found)
    return found[0]


async def test_a_program_that_did_not_read_when_it_was_added_finds_the_group_after_its_start() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await ada.create_group("ops", ["bob"])
        await net.settle()
        bob = await net.restart(bob)
        assert [(group.name, group.is_member) for group in bob.groups()] == [("ops", True)]
        async with bob.events(GroupChanged) as changes:
            await bob.group("ops").leave()
            assert (await anext(changes)).change == "left"  # the first one that it is told


async def test_an_offline_member_gets_everything_from_any_member_and_the_writer_a_receipt() -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, carol = net.peers
        await net.crash(carol)
        ops = await ada.create_group("ops", ["bob", "carol"])
        receipt = await ops.send("the deploy begins")
        await receipt.delivered(by="bob", timeout=60)
        assert receipt.status == "accepted"
        await ada.aclose()  # its owner, and the only writer

        carol = await net.restart(carol)
        await net.settle()
        assert await group_texts(bob, carol) == ["ada: the deploy begins"]
        assert [user.name for user in carol.group("ops").members] == ["ada", "bob", "carol"]
        await carol.group("ops").send("on it")

        ada = await net.restart(ada)
        await net.settle()
        assert await group_texts(ada, bob, carol) == ["ada: the deploy begins", "carol: on it"]
        again = await ada.receipt(receipt.id)
        await again.delivered(timeout=60)
        assert {user.name for user in again.delivered_to} == {"bob", "carol"} and len(again.of) == 2
        read = await anext(carol.events(Message, consumer="reads", start="beginning"))
        read.mark_read()
        await again.read(by="carol", timeout=60)


async def test_a_removed_member_gets_its_undelivered_messages_reported() -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, carol = net.peers
        ops = await ada.create_group("ops", ["bob", "carol"])
        await net.settle()
        first = await carol.send("#ops", "before")
        await first.delivered(timeout=60)
        undelivered = carol.events(Undelivered, consumer=None)
        net.partition([ada, bob], [carol])
        lost = await carol.send("#ops", "behind the cut")
        edit = await (await carol.message(lost.id)).edit("behind it")
        await ops.remove("carol")
        await ops.send("without carol")
        net.heal()
        await net.settle()
        told = await anext(undelivered)
        assert told.ids == (lost.id, edit.id)
        assert told.text.startswith("2 messages, edits, deletions or reactions to #ops reached nobody")
        assert await group_texts(ada, bob) == ["carol: before", "ada: without carol"]
        with pytest.raises(P2PChatError, match="only members can write"):
            await carol.send("#ops", "still there?")

        await ops.add("carol")
        await net.settle()
        await (await carol.send("#ops", "back")).delivered(timeout=60)
        await net.settle()
        assert await group_texts(ada, bob, carol) == ["carol: before", "ada: without carol", "carol: back"]
        assert {user.name for user in carol.group("ops").members} == {"ada", "bob", "carol"}


async def test_receipts_do_not_wait_for_a_member_who_leaves_without_the_message() -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, _, carol = net.peers
        ops = await ada.create_group("ops", ["bob", "carol"])
        await net.settle()
        await net.crash(carol)
        one, two = await ops.send("one"), await ops.send("two")
        await one.delivered(by="bob", timeout=60)
        assert one.status == "accepted"
        await ops.remove("carol")
        await one.delivered(timeout=60)
        assert (one.status, [user.name for user in two.of]) == ("delivered", ["bob"])


async def test_a_message_names_its_group() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        ops = await ada.create_group("ops", ["bob"])
        came = bob.events(Message, consumer="came")
        changed = bob.events(GroupChanged, consumer=None)
        await ops.send("hello")
        message = await anext(came)
        line = message.to_dict()
        assert (line["kind"], line["group"], line["conversation"]) == ("group", "ops", "ops")
        assert message.conversation == bob.group("#ops") == bob.find(line["conversation_id"])
        await (await message.reply("hello yourself")).delivered(timeout=60)
        await ops.rename("deploys")
        change = await anext(changed)
        while change.change == "created":
            change = await anext(changed)
        assert (change.change, change.to_dict()["former"], change.group.name) == ("renamed", "ops", "deploys")
        assert texts_of(await bob.history("#deploys")) == ["ada: hello", "bob: hello yourself"]


async def test_groups_with_one_name_are_distinguished_by_their_ids() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        mine, other = await ada.create_group("ops"), await bob.create_group("ops", ["ada"])
        await net.settle()
        with pytest.raises(AmbiguousName) as error:
            ada.find("#ops")
        labels = {f"#{group.full_label}" for group in (mine, other)}
        assert set(error.value.candidates) == labels == {group.address for group in ada.groups()}
        assert ada.find(mine.address) == mine
        assert [group.name for group in bob.groups()] == ["ops"]


async def test_operations_of_a_group_are_no_messages() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        ops = await ada.create_group("ops", ["bob"])
        await ops.send("hello")
        await net.settle()
        await bob.group("ops").leave()
        await net.settle()
        assert texts_of(await ada.history()) == texts_of(await bob.history()) == ["ada: hello"]
        assert [talk.name for talk in ada.conversations()] == ["room", "ops"]
        with pytest.raises(P2PChatError, match="only members can write"):
            await bob.send("#ops", "one more")


async def test_a_change_already_reported_is_not_repeated_after_a_restart() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        found: list[object] = []

        async def show(events: Events[object]) -> None:
            async for event in events:
                found.append(event)

        chats = [peer.events(GroupChanged, Message, Sent, consumer="chat") for peer in (ada, bob)]
        showing = [asyncio.create_task(show(events)) for events in chats]
        await ada.create_group("ops", ["bob"])
        await net.settle()
        for peer in (ada, bob):
            await peer.aclose()
        await asyncio.gather(*showing)
        assert len(found) == 2
        ada, bob = await net.restart(ada), await net.restart(bob)
        again = [peer.events(GroupChanged, Message, Sent, consumer="chat") for peer in (ada, bob)]
        await ada.send("#ops", "hello")
        assert [type(await anext(events)) for events in again] == [Sent, Message]


async def test_what_was_written_right_before_leaving_reaches_who_is_online() -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, _ = net.peers
        ops = await ada.create_group("ops", ["bob", "cyd"])
        await net.settle()
        written = [await bob.send("#ops", text) for text in ("done", "bye")]
        await bob.group("ops").leave()
        await net.settle()
        assert texts_of(await ada.history(ops)) == ["bob: done", "bob: bye"]
        assert {user.name for user in written[-1].delivered_to} == {"ada", "cyd"}


async def test_an_export_of_a_group_contains_its_operations() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        net.partition([ada], [bob])
        ops = await ada.create_group("ops", ["bob"])
        await ops.send("by file")
        await ada.broadcast("not of the group")
        file = io.BytesIO()
        exported = await ada.export(file, "#ops")
        assert (exported.entries, exported.conversations) == (2, 1)  # an operation and a message
        file.seek(0)
        assert (await bob.import_from(file)).new == 2
        assert texts_of(await bob.history()) == ["ada: by file"]
        assert [user.name for user in bob.group("ops").members] == ["ada", "bob"]


async def test_a_history_knows_groups_by_name_without_a_running_peer(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path) as ada:
        ops, _ = await ada.create_group("ops"), await ada.create_group("silent")
        await ops.send("hello")
        await ops.rename("deploys")
    async with open_history(tmp_path) as history:
        assert texts_of(await history.history("#deploys")) == ["ada: hello"]
        assert texts_of(await history.history("#silent")) == []
        assert [(group.name, group.is_member, group.owner) for group in history.groups()] == [
            ("deploys", True, history.me), ("silent", True, history.me),
        ]  # fmt: skip
        [post] = await history.history()
        assert (post.to_dict()["group"], post.conversation.address) == ("deploys", "#deploys")
        with pytest.raises(UnknownName, match="the group is #deploys"):
            history.find("deploys")
