"""Edits, deletions, reactions and gaps: in calls, events and history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Deleted, Delivered, Edited, Gap, Joined, Message, Reaction, Sent, TCPPeer, TooLong, UnknownName
from p2pchat.core.log import Ref
from p2pchat.messaging.messages import users_with
from p2pchat.messaging.subscription import EventFeed
from p2pchat.protocol import ConversationId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing import Log, Mesh, check, mesh
from p2pchat.testing.meshes import QUICK

Summary = tuple[str, str, str]  # event, user, text


async def room_state(peer: TCPPeer) -> list[tuple[str, bool, bool, dict[str, list[str]]]]:
    """Return texts, edits, deletions and reactions in a peer's history of the room."""
    return [
        (post.text, post.edited, post.deleted, {what: [u.name for u in who] for what, who in post.reactions.items()})
        for post in await peer.history("room")
    ]


def summary(event: Any) -> Summary:
    line = event.to_dict()
    return line["event"], line.get("by") or line.get("sender"), line.get("text", line.get("reaction", ""))


async def test_edits_deletions_and_reactions_reach_everyone(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.broadcast("helo")
    await net.settle()
    [mine], [yours] = await ada.history("room"), await bob.history("room")
    await mine.edit("hello")
    await yours.react("👍")
    await net.settle()
    for peer in net.peers:
        assert await room_state(peer) == [("hello", True, False, {"👍": ["bob"]})]
    await (await cyd.history("room"))[0].react("👍")
    await yours.react("🎉")
    await net.settle()
    assert [await room_state(peer) for peer in net.peers] == [
        [("hello", True, False, {"👍": ["cyd"], "🎉": ["bob"]})]
    ] * 3
    await yours.react("")
    assert (await yours.react("")).id == yours.id
    await mine.delete()
    await net.settle()
    assert [await room_state(peer) for peer in net.peers] == [[("", False, True, {})]] * 3
    await mine.edit("after all")
    await net.settle()
    assert [await room_state(peer) for peer in net.peers] == [[("after all", True, False, {"👍": ["cyd"]})]] * 3


async def test_changes_are_events_in_order_with_the_latest_message(net: Mesh) -> None:
    ada, bob, _ = net.peers
    theirs, mine = bob.events(Message, Edited), ada.events(consumer="mine")
    receipt = await ada.broadcast("helo")
    assert summary(await anext(theirs)) == ("message", "ada", "helo")
    await ada.edit(receipt.id, "hello", ref="7")
    edited = await anext(theirs)
    assert isinstance(edited, Edited) and summary(edited) == ("edited", "ada", "hello")
    assert (edited.id, edited.message.text, edited.by) == (receipt.id, "hello", bob.user("ada"))
    line = edited.to_dict()
    assert (line["id"], line["by_id"], line["conversation"], line["old"]) == (receipt.id, ada.me.id, "room", False)
    assert "ref" not in line and "hello" not in repr(edited)
    own = [event async for event in take(mine, (Sent, Edited), 2)]
    assert [(summary(event)[0], event.to_dict()["ref"]) for event in own] == [("sent", None), ("edited", "7")]


async def take(events: Any, kinds: tuple[type, ...], count: int) -> Any:
    async with asyncio.timeout(60):
        while count:
            event = await anext(events)
            if isinstance(event, kinds):
                count -= 1
                yield event


async def test_a_message_arrives_in_its_latest_state(net: Mesh) -> None:
    """A message comes in its latest state, of many edits the newest, and of a removed reaction nothing."""
    ada, bob, cyd = net.peers
    bob.events(consumer="late").close()  # its place is stored
    secret, plan = await ada.broadcast("secret"), await ada.broadcast("at ten")
    await ada.delete(secret.id)
    for hour in ("eleven", "twelve"):
        await ada.edit(plan.id, f"at {hour}")
    await net.settle()
    await cyd.react(plan.id, "👍")
    await net.settle()
    late = bob.events(Message, Edited, Deleted, Reaction, consumer="late")
    heard = [summary(event) async for event in take(late, (object,), 5)]
    assert heard == [
        ("message", "ada", ""),
        ("message", "ada", "at twelve"),
        ("deleted", "ada", ""),
        ("edited", "ada", "at twelve"),
        ("reaction", "cyd", "👍"),
    ]


async def test_changes_are_repeated_after_a_crash_and_only_if_asked_for(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Edited, Deleted, consumer="c")
    bob.events(Message, consumer="m").close()
    receipt = await ada.broadcast("one")
    await ada.edit(receipt.id, "two")
    await ada.broadcast("three")
    assert summary(await anext(events)) == ("edited", "ada", "two")
    await net.settle()
    await net.crash(bob)
    bob = await net.restart(bob)
    again = bob.events(Edited, Deleted, consumer="c")
    assert summary(await anext(again)) == ("edited", "ada", "two")
    messages = bob.events(Message, consumer="m")
    assert [(await anext(messages)).text for _ in range(2)] == ["two", "three"]


async def test_a_late_comer_and_an_imported_file_show_the_same(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.broadcast("helo")
    await ada.edit(receipt.id, "hello")
    gone = await ada.broadcast("gone")
    await ada.delete(gone.id)
    await net.settle()
    await bob.react(receipt.id, "👍")
    await net.settle()
    dan = await net.add("dan")
    await net.settle()
    expected = [("hello", True, False, {"👍": ["bob"]}), ("", False, True, {})]
    assert await room_state(dan) == expected
    file = BytesIO()
    await ada.export(file)
    assert b"helo" in file.getvalue()  # a log is exported as it was written, with deletions
    erin = await net.add("erin")
    net.partition([ada, bob, net.peers[2], dan], [erin])
    file.seek(0)
    await erin.import_from(file)
    assert await room_state(erin) == expected


async def test_only_ones_own_messages_can_be_edited_and_deleted(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.broadcast("mine")
    await net.settle()
    with pytest.raises(ValueError, match="only the writer of a message can edit it"):
        await bob.edit(receipt.id, "yours")
    with pytest.raises(ValueError, match="only the writer of a message can delete it"):
        await bob.delete(receipt.id)
    with pytest.raises(UnknownName):
        await bob.react(receipt.id.partition(".")[0] + ".99", "👍")
    with pytest.raises(ValueError, match="no message id"):
        await ada.edit("mine", "yours")


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", ValueError, "the text is empty"),
        ("x" * 40_000, TooLong, "the limit is 32768"),
        ("\0", ValueError, "NUL"),
        (7, TypeError, "a text is a str, not int"),
    ],
)
async def test_an_edit_needs_a_valid_text(ada: TCPPeer, text: Any, error: type[Exception], says: str) -> None:
    receipt = await ada.broadcast("mine")
    with pytest.raises(error, match=says):
        await ada.edit(receipt.id, text)


async def test_a_reaction_has_eight_characters_at_most(ada: TCPPeer) -> None:
    receipt = await ada.broadcast("mine")
    family = "👨‍👩‍👧‍👦"
    await ada.react(receipt.id, family + "!")
    assert (await ada.message(receipt.id)).reactions == {family + "!": [ada.me]}
    with pytest.raises(ValueError, match="at most 8 characters, this has 9: reply instead"):
        await ada.react(receipt.id, "very nice")
    with pytest.raises(TypeError, match="a text is a str"):
        await ada.react(receipt.id, None)  # type: ignore[arg-type]


async def test_an_edit_has_a_receipt_of_its_own_and_no_event(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = ada.events(Delivered)
    receipt = await ada.send("bob", "helo")
    await receipt.delivered(timeout=60)
    edit = await ada.edit(receipt.id, "hello")
    await edit.delivered(by="bob", timeout=60)
    assert (edit.id != receipt.id, edit.status, edit.of) == (True, "delivered", [ada.user("bob")])
    last = await ada.send("bob", "bye")
    assert [(await anext(events)).id for _ in range(2)] == [receipt.id, last.id]
    assert (await bob.history("ada"))[0].text == "hello"


async def test_an_edit_can_be_marked_as_read(net: Mesh) -> None:
    ada, bob, _ = net.peers
    messages, edits = bob.events(Message, consumer="m"), bob.events(Edited, consumer="e")
    receipt = await ada.send("bob", "helo")
    (await anext(messages)).mark_read()
    await receipt.read(timeout=60)
    edit = await ada.edit(receipt.id, "hello")
    edited = await anext(edits)
    assert edit.status != "read"
    edited.mark_read()
    await edit.read(by="bob", timeout=60)


async def test_a_search_finds_the_latest_text(ada: TCPPeer) -> None:
    receipt = await ada.broadcast("helo world")
    await ada.edit(receipt.id, "hello world")
    gone = await ada.broadcast("goodbye world")
    await ada.delete(gone.id)
    assert [post.text for post in await ada.search("world")] == ["hello world"]
    assert await ada.search("helo") == []


def event_log(peer: TCPPeer) -> list[dict[str, Any]]:
    """Return the first lines of a log that is opened when all are here: on a busy machine the net may be parted for
    longer than the grace, and a user who leaves must have joined."""
    joined = [Joined(at=peer.listening.at, user=user) for user in peer.here() if user != peer.me]
    return [event.to_dict() for event in (peer.listening, *joined)]


async def test_event_logs_with_edits_keep_every_promise(net: Mesh) -> None:
    """Edits while a peer is down, two at once, and one that overtakes: checked in the event logs of all peers."""
    logs = [(peer.events(consumer="log", start="beginning"), event_log(peer)) for peer in net.peers]
    ada, bob, cyd = net.peers
    ids = [(await peer.broadcast(f"by {peer.me.name}")).id for peer in net.peers]
    await net.settle()
    net.partition([ada, bob], [cyd])
    for peer, id in zip(net.peers, ids, strict=True):
        await asyncio.gather(*(peer.edit(id, f"edit {number}") for number in range(3)))
        await peer.react(ids[0], "+1")
    await bob.delete(ids[1])
    net.heal()
    await net.settle()
    await ada.broadcast("end")
    for events, lines in logs:
        async with asyncio.timeout(60):
            while lines[-1].get("text") != "end":
                lines.append((await anext(events)).to_dict())
    histories = [[post.to_dict() for post in await peer.history("room", limit=0)] for peer in net.peers]
    logs_read = [Log(f"log {number}", lines) for number, (_, lines) in enumerate(logs)]
    kept = [Log(f"history {number}", lines) for number, lines in enumerate(histories)]
    assert check([*logs_read, *kept]) == [] and check(kept, complete=True) == []
    assert [line["text"] for line in histories[2]] == ["edit 2", "", "edit 2", "end"]
    assert any(line["event"] == "edited" for line in logs[2][1])


async def test_history_shows_edits_deletions_and_reactions(ada: TCPPeer) -> None:
    receipt = await ada.broadcast("helo")
    assert not {"edited", "deleted", "mended_at", "reactions"} & (await ada.message(receipt.id)).to_dict().keys()
    await ada.edit(receipt.id, "hello")
    reaction = await ada.react(receipt.id, "👍")
    line = (await ada.message(receipt.id)).to_dict()
    assert (line["text"], line["edited"]) == ("hello", True)
    assert line["reactions"] == [{"reaction": "👍", "by": "ada", "by_id": ada.me.id, "entry_id": reaction.id}]
    await ada.delete(receipt.id)
    line = (await ada.message(receipt.id)).to_dict()
    assert (line["text"], line["deleted"], "edited" in line, "reactions" in line) == ("", True, False, False)


async def test_messages_of_a_group_can_be_edited(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob"])
    events = bob.events(Edited, Reaction, consumer="e")
    receipt = await ops.send("helo")
    await receipt.delivered(by="bob", timeout=60)
    await ada.edit(receipt.id, "hello")
    edited = await anext(events)
    assert (edited.to_dict()["kind"], edited.to_dict()["conversation"], summary(edited)[2]) == ("group", "ops", "hello")
    await edited.message.react("+1")
    await net.settle()
    [post] = await ada.history(ops)
    assert (post.text, post.reactions) == ("hello", {"+1": [ada.user("bob")]})
    assert await cyd.history() == []


SOON = replace(QUICK, order_wait=0.2)


def frames(file: Path) -> list[bytes]:
    """Return the frames of an export, each with its length."""
    data, found = file.read_bytes(), []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(data[:end])
        data = data[end:]
    return found


async def test_a_reply_shown_before_its_message_has_a_gap_until_it_arrives(tmp_path: Path) -> None:
    """Import two files: one with bob's messages only, one with everything."""
    async with mesh("ada", "bob", "cyd", settings=SOON) as net:
        ada, bob, cyd = net.peers
        await net.settle()
        net.partition([ada, bob], [cyd])
        question = await ada.broadcast("shall we?")
        await question.delivered(by="bob", timeout=60)
        answer = await (await bob.message(question.id)).reply("yes")
        await bob.export(tmp_path / "whole")
        kept = [frame for frame in frames(tmp_path / "whole") if f'"u":"{ada.me.key}"'.encode() not in frame]
        (tmp_path / "cut").write_bytes(b"".join(kept))

        gaps, messages = cyd.events(Gap), cyd.events(Message)
        await cyd.import_from(tmp_path / "cut")
        gap, shown = await anext(gaps), await anext(messages)
        assert (shown.text, shown.gap, shown.to_dict()["gap"]) == ("yes", True, True)
        assert (gap.about, gap.missing, gap.last_seen_with) == (answer.id, (question.id,), ("ada", "bob"))
        assert gap.text == "1 earlier message is missing here"
        still = await cyd.missing(shown)
        assert still is not None
        assert (still.about, still.missing, still.last_seen_with) == (gap.about, gap.missing, gap.last_seen_with)

        await cyd.import_from(tmp_path / "whole")
        assert (await anext(messages)).text == "shall we?"
        [first, second] = await cyd.history("room")
        assert [first.text, second.text] == ["shall we?", "yes"]  # it is in its place
        assert second.gap and await cyd.missing(second) is None  # when it was shown, and now
        assert await cyd.missing(first) is None and await bob.missing(await bob.message(answer.id)) is None


async def test_users_with_an_entry_are_named_once_without_oneself() -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        await net.settle()
        of = {peer.me.name: peer.me.key for peer in net.peers}
        refs = [Ref(of[name][:32] + "01" * 8, 1) for name in ("ada", "bob")]
        assert users_with(cyd.directory, of["bob"], refs, [of["bob"]]) == ("ada", "bob")
        assert users_with(ada.directory, of["bob"], refs[:1]) == ("bob",)
        assert users_with(bob.directory, of["ada"], [Ref("77" * 24, 1)]) == ("ada",)  # a writer unknown here


async def test_a_message_is_looked_up_once_for_all_who_react_meanwhile(
    net: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of made-up users may react to one message. Looked up for each of them, it would hold up all others."""
    ada, bob, _ = net.peers
    plan = await ada.broadcast("the plan")
    guests = [await bob.host(f"guest{number}") for number in range(8)]
    events = ada.events(Reaction, consumer=None)
    for guest in guests:
        await (await guest.react(plan.id, "👍")).delivered(by="ada", timeout=60)
    asked: list[int] = []
    look_up = EventFeed.entries

    async def counted(feed: EventFeed, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        asked.append(len(named))
        return await look_up(feed, named)

    monkeypatch.setattr(EventFeed, "entries", counted)
    told = [await anext(events) for _ in guests]
    assert [(event.by.name, event.reaction) for event in told] == [(guest.name, "👍") for guest in guests]
    assert [len(event.message.reactions["👍"]) for event in told] == [8] * 8
    assert asked == [1]


@pytest.mark.parametrize(
    "one",
    [
        "\U0001f469\U0001f3fd\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468\U0001f3ff",
        "\u0915\u094d\u0937",
        "e\u0301",
    ],
)
async def test_reactions_and_options_count_what_people_call_a_character(net: Mesh, one: str) -> None:
    """A kiss of two people has ten code points, a letter of Hindi three."""
    ada, bob, _ = net.peers
    asked = await ada.send("bob", "well?", choices=(one * 8, "no"))
    await asked.delivered()
    await bob.react(asked.id, one * 8)
    poll = await ada.poll("room", "which?", [one * 80, "none"])
    await poll.delivered()
    await net.settle()
    assert list((await ada.message(asked.id)).reactions) == [one * 8]
    assert (await bob.message(poll.id)).choices == (one * 80, "none")
    with pytest.raises(ValueError, match="a reaction has at most 8 characters, this has 9: reply instead"):
        await bob.react(asked.id, one * 9)
    for too_long in (ada.send("bob", "well?", choices=(one * 9, "no")), ada.poll("room", "?", [one * 81, "no"])):
        with pytest.raises(ValueError, match="characters"):
            await too_long
