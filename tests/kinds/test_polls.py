"""Polls: one vote of each person, until the writer closes them; in the core, the library, a terminal and JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import Message, P2PChatError, PollClosed, Sent, TCPPeer, Vote
from p2pchat.commands.display import ShownEdits
from p2pchat.commands.event_text import format_message
from p2pchat.commands.exit_codes import USAGE
from p2pchat.core.inputs import WriteRequest
from p2pchat.core.log import Entry, Marks, Ref, encode_entry, ref_key
from p2pchat.kinds.polls import VOTE
from p2pchat.protocol import Entries
from p2pchat.testing import Mesh, mesh
from tests.commands.session_output import Shown, open_session
from tests.core.scripted_nodes import NAMES, ROOM, START, Author, Peer, World
from tests.deadlines import WAIT, within

OPTIONS = ["pizza", "soup"]


# ---- the core


def asks(author: Author, at: int, kind: str = "poll") -> Entries:
    return author.write(encode_entry(Entry(kind, START + at, START + at, b="lunch?", choices=("pizza", "soup"))))


def says(author: Author, kind: str, re: Ref, at: int, body: object = None) -> Entries:
    return author.write(encode_entry(Entry(kind, START + at, START + at, re, b=body)))


def votes(peer: Peer) -> list[tuple[str, int]]:
    [one] = [one for one in peer.storage.history(ROOM, limit=0) if '"lunch?"' in str(one.raw[1])]
    return [] if one.edits is None else [(NAMES[each.log.user], each.entry.b) for each in one.edits.said(VOTE)]


def test_a_later_vote_replaces_the_earlier_one_and_none_takes_it_back() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(asks(bob, 1), says(cyd, "vote", bob.ref(1), 10, 1), says(bob, "vote", bob.ref(1), 11, 2))
    assert votes(ada) == [("cyd", 1), ("bob", 2)]
    far.say(says(cyd, "vote", bob.ref(1), 20, 2))
    assert votes(ada) == [("bob", 2), ("cyd", 2)]
    far.say(says(cyd, "vote", bob.ref(1), 30, 0))
    assert votes(ada) == [("bob", 2)]


def test_a_vote_after_the_close_does_not_count_and_the_one_before_it_does() -> None:
    """Whatever comes first: a vote that was written before the close and comes late counts."""
    ada, bob, cyd, dan = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1"), Author("dan", "d1")
    far = ada.far("bob")
    far.say(asks(bob, 1), says(cyd, "vote", bob.ref(1), 10, 1), says(cyd, "vote", bob.ref(1), 30, 2))
    assert votes(ada) == [("cyd", 2)]
    far.say(says(bob, "close", bob.ref(1), 20))
    assert votes(ada) == [("cyd", 1)]
    far.say(says(dan, "vote", bob.ref(1), 20, 1))  # at the same clock
    assert votes(ada) == [("cyd", 1)]


def test_a_second_close_by_another_program_of_the_writer_does_not_move_the_end() -> None:
    ada, bob, cyd, device = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1"), Author("bob", "b2")
    far = ada.far("bob")
    far.say(asks(bob, 1), says(bob, "close", bob.ref(1), 20))
    far.say(says(cyd, "vote", bob.ref(1), 10, 1), says(cyd, "vote", bob.ref(1), 30, 2))
    far.say(says(device, "close", bob.ref(1), 40))
    assert votes(ada) == [("cyd", 1)]
    far.say(says(Author("bob", "b3"), "close", bob.ref(1), 10))  # it was written earlier, and comes last
    assert votes(ada) == []


def was_ahead(restarts: bool) -> Peer:
    """Return a peer that wrote something while its clock was two hours ahead."""
    ada = World().peer("ada")
    ada.world.ahead = 7200.0
    ada.say("early")
    ada.world.ahead = 0.0
    if restarts:
        ada.restart()
    return ada


@pytest.mark.parametrize("restarts", [False, True])
def test_a_vote_counts_although_the_clock_of_its_writer_was_ahead(restarts: bool) -> None:
    ada, bob = was_ahead(restarts), Author("bob", "b1")
    far = ada.far("bob")
    far.say(asks(bob, 1))
    ada.put(WriteRequest(1, ada.id, ROOM, "vote", ["1"], bob.ref(1)))
    far.say(says(bob, "close", bob.ref(1), 60))
    assert votes(ada) == [("ada", 1)]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_poll_ends_when_it_is_closed_although_the_clock_of_its_writer_was_ahead(restarts: bool) -> None:
    ada, cyd = was_ahead(restarts), Author("cyd", "c1")
    far = ada.far("bob")
    ada.put(WriteRequest(1, ada.id, ROOM, "poll", ["lunch?"], marks=Marks(choices=("pizza", "soup"))))
    ada.take()
    [poll] = [one for one in ada.storage.places(0, 100) if '"lunch?"' in str(one.raw[1])]
    re = Ref(ref_key(ada.id, poll.log.run), poll.seq)
    ada.put(WriteRequest(2, ada.id, ROOM, "close", [""], re))
    far.say(says(cyd, "vote", re, 60, 1))
    assert votes(ada) == []


def test_a_vote_that_was_sent_two_hours_ahead_is_changed_at_once() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(asks(bob, 1))
    ada.world.ahead = 7200.0
    ada.change("vote", "1", bob.ref(1))
    ada.world.ahead = 0.0
    for body in ("2", "0", "1"):
        ada.change("vote", body, bob.ref(1))
        assert votes(ada) == ([("ada", int(body))] if body != "0" else [])


def test_a_close_by_a_clock_that_is_ten_minutes_behind_counts_the_votes_that_its_writer_had() -> None:
    ada, cyd, dan = World().peer("ada"), Author("cyd", "c1"), Author("dan", "d1")
    ada.world.ahead = -600.0
    far = ada.far("bob")
    ada.put(WriteRequest(1, ada.id, ROOM, "poll", ["lunch?"], marks=Marks(choices=("pizza", "soup"))))
    ada.take()
    [poll] = [one for one in ada.storage.places(0, 100) if '"lunch?"' in str(one.raw[1])]
    re = Ref(ref_key(ada.id, poll.log.run), poll.seq)
    far.say(says(cyd, "vote", re, 10, 1), says(dan, "vote", re, 11, 2))
    ada.change("close", "", re)
    assert votes(ada) == [("cyd", 1), ("dan", 2)]
    far.say(says(dan, "vote", re, 60, 1))
    assert votes(ada) == [("cyd", 1), ("dan", 2)]


def test_others_close_no_poll_and_what_is_no_poll_has_no_votes() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(asks(bob, 1), says(cyd, "close", bob.ref(1), 10), says(cyd, "vote", bob.ref(1), 20, 1))
    assert votes(ada) == [("cyd", 1)]
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    ada.far("bob").say(asks(bob, 1, "text"), says(cyd, "vote", bob.ref(1), 20, 1))
    assert votes(ada) == []


# ---- the library


def counted(post: Message | Sent) -> dict[str, list[str]]:
    return {choice: [user.name for user in users] for choice, users in post.votes.items()}


@pytest.mark.parametrize("where", ["room", "bob", "#ops"])
async def test_everybody_in_a_conversation_sees_who_voted_for_what(net: Mesh, where: str) -> None:
    ada, bob, cyd = net.peers
    await ada.create_group("ops", ["bob"])
    await net.settle()
    told, ends = ada.events(Vote), bob.events(PollClosed)
    asked = await ada.poll(where, "Lunch?", OPTIONS)
    await net.settle()
    await bob.vote(asked.id, 1)
    await bob.vote(asked.id, 2)
    await net.settle()
    async with within(WAIT, "the vote"):
        vote = await anext(told)
        while vote.option != 2:
            vote = await anext(told)
    assert vote.by.name == "bob" and counted(vote.message) == {"pizza": [], "soup": ["bob"]}
    await ada.vote(asked.id, 2)
    await ada.close_poll(asked.id)
    await net.settle()
    async with within(WAIT, "the end"):
        end = await anext(ends)
    assert counted(end.message) == {"pizza": [], "soup": ["bob", "ada"]} and end.message.closed_at is not None
    for peer in (ada, bob):
        line = (await peer.message(asked.id)).to_dict()
        assert line["poll"] and line["choices"] == OPTIONS and line["closed_at"]
        assert [(one["by"], one["option"]) for one in line["votes"]] == [("bob", 2), ("ada", 2)]
        [found] = await peer.search("soup")
        assert found.id == asked.id
    if where == "room":
        assert counted(await cyd.message(asked.id)) == counted(end.message)
    else:
        assert cyd.conversations() == [cyd.room]
    with pytest.raises(ValueError, match="this is no open poll"):
        await bob.vote(asked.id, 1)


async def test_all_keys_of_a_member_have_one_vote_and_eight_reactions_at_others() -> None:
    """The newest count, and at the member itself each: so a gateway shows its accounts what they voted."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        keys = [eve, *[await eve.host(f"eve {number}") for number in range(9)]]
        asked = await ada.poll("room", "Lunch?", OPTIONS)
        told = bob.events(Vote)
        await net.settle()
        for number, key in enumerate(keys):
            await key.vote(asked.id, 1 + number % 2)
            await key.react(asked.id, str(number))
        await bob.vote(asked.id, 1)
        await net.settle()

        async def shown(peer: TCPPeer) -> tuple[dict[str, list[str]], str]:
            post = await peer.message(asked.id)
            return counted(post), "".join(post.reactions)

        assert [await shown(peer) for peer in (ada, bob)] == [({"pizza": ["bob"], "soup": ["eve 8"]}, "23456789")] * 2
        votes, reactions = await shown(eve)
        assert [len(voters) for voters in votes.values()] == [6, 5] and reactions == "0123456789"
        assert [one.name for one in (await eve.message(asked.id)).seen_by(keys[1]).votes["soup"]][-1] == "eve 8"
        async with within(WAIT, "the last vote of eve's keys"):
            while (vote := await anext(told)).by.name != "eve 8":
                pass
        assert [(one["by"], one["option"]) for one in vote.to_dict()["votes"]] == [("eve 8", 2), ("bob", 1)]
        await keys[-1].vote(asked.id, 0)
        await net.settle()
        assert (await shown(bob))[0] == {"pizza": ["eve 7", "bob"], "soup": []}
        await ada.people.expel("eve")
        assert (await shown(ada)) == ({"pizza": ["bob"], "soup": []}, "")


async def test_an_export_carries_a_poll_with_its_votes_and_its_end(net: Mesh, tmp_path: Path) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada, bob], [cyd])
    asked = await ada.poll("room", "Lunch?", OPTIONS)
    await net.settle()
    await bob.vote(asked.id, 2)
    await net.settle()
    await ada.close_poll(asked.id)
    await ada.export(tmp_path / "exported")
    assert (await cyd.import_from(tmp_path / "exported")).problem == ""
    held = await cyd.message(asked.id)
    assert counted(held) == {"pizza": [], "soup": ["bob"]} and held.closed_at is not None


async def test_who_was_removed_from_a_group_does_not_vote_there(net: Mesh) -> None:
    ada, bob, _ = net.peers
    group = await ada.create_group("ops", ["bob"])
    asked = await ada.poll(group, "Lunch?", OPTIONS)
    await net.settle()
    await group.remove(bob.me)
    await net.settle()
    with pytest.raises(P2PChatError, match="only members"):
        await bob.vote(asked.id, 1)
    assert counted(await ada.message(asked.id)) == {"pizza": [], "soup": []}


async def test_what_cannot_be_asked_or_voted_is_refused_with_a_reason(net: Mesh) -> None:
    ada, bob, _ = net.peers
    asked, said = await ada.poll("room", "Lunch?", OPTIONS), await ada.broadcast("hi")
    await net.settle()
    for options, why in (
        ([], "2 to 8 options, not 0"),
        (["a"], "not 1"),
        (["a"] * 2, "alike"),
        (["a", "b" * 81], "80"),
    ):
        with pytest.raises(ValueError, match=why):
            await ada.poll("room", "Lunch?", options)
    for id, option, why in ((asked.id, 3, "from 0 to 2"), (asked.id, -1, "from 0 to 2"),
                            (said.id, 1, "this is no open poll")):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            await bob.vote(id, option)
    with pytest.raises(ValueError, match="only the writer"):
        await bob.close_poll(asked.id)
    with pytest.raises(ValueError, match="a poll cannot be edited"):
        await ada.edit(asked.id, "Dinner?")


# ---- commands


async def test_a_poll_is_asked_voted_on_and_closed_at_a_prompt(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    here, there = open_session(ada, shown, as_json=False), open_session(bob, shown, as_json=False)
    await here.execute([b'/poll "Lunch at one?" pizza "pea soup"'])
    await net.settle()
    await there.execute([b"/vote 2", b"/vote nonsense", b"/vote 0", b"/vote 1", b"/vote 0002"])
    await net.settle()
    [asked] = [post for post in await bob.history("room") if post.poll]
    assert counted(asked) == {"pizza": ["bob"], "pea soup": []}
    line = asked.to_dict()
    assert format_message(line, "bob", None).endswith('ada: Lunch at one? [1 pizza (1) · 2 "pea soup" (0) · /vote N]')
    told = {"event": "vote", "by": "bob", "by_id": "B", "kind": "room", "sent_at": line["sent_at"], "option": 2}
    assert format_message(told, "ada", None, line).endswith('-- bob voted "pea soup" on ada: "Lunch at one?"')
    assert format_message({**told, "option": 0}, "ada", None, line).endswith('took a vote back on ada: "Lunch at one?"')
    await here.execute([b"/poll close"])
    await net.settle()
    closed = (await bob.message(asked.id)).to_dict()
    result = '[1 pizza (1) · 2 "pea soup" (0) · closed]'
    assert format_message(closed, "bob", None).endswith(result)
    told |= {"event": "closed", "by": "ada", "by_id": "A", "votes": closed["votes"]}
    assert format_message(told, "bob", None, line).endswith(f'ada ended the votes on ada: "Lunch at one?" {result}')
    await there.execute([b"/vote 2", b"/history"])
    assert there.exit_code == USAGE and "Lunch at one? [1 pizza (1)" in shown.text


async def test_a_vote_is_for_the_poll_that_was_shown_or_for_that_of_a_line(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    there = open_session(bob, shown, as_json=False)
    first, second, third = [await ada.poll("room", question, OPTIONS) for question in ("one?", "two?", "three?")]
    await net.settle()

    async def voted(line: str) -> list[list[int]]:
        """Return bob's votes on the three."""
        await there.execute([line.encode()])
        await net.settle()
        posts = [(await ada.message(one.id)).to_dict() for one in (first, second, third)]
        return [[vote["option"] for vote in post.get("votes", ())] for post in posts]

    assert await voted("/vote 1") == [[], [], [1]]
    there.on_event((await bob.message(second.id)).to_dict())
    assert await voted("/vote 2") == [[], [2], [1]]
    await there.execute([b"/history"])
    assert await voted("/vote 3 1") == [[1], [2], [1]]
    own = await bob.poll("room", "mine?", OPTIONS)
    assert await voted("/vote 2") == [[1], [2], [1]]
    [mine] = (await bob.message(own.id)).to_dict()["votes"]
    assert mine["option"] == 2


@pytest.mark.parametrize("end", ["close_poll", "delete"])
async def test_a_vote_for_a_poll_that_ended_meanwhile_goes_to_no_other(
    net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    ada, bob, _ = net.peers
    there = open_session(bob, shown, as_json=False)
    older, last = [await ada.poll("room", question, OPTIONS) for question in ("one?", "two?")]
    await net.settle()
    there.on_event((await bob.message(last.id)).to_dict())
    await getattr(ada, end)(last.id)
    await net.settle()
    await there.execute([b"/vote 2"])
    text = "the poll shown last has ended: /vote LINE OPTION votes in another, by its line of /history"
    assert capsys.readouterr().err == f"p2pchat: {text}\n"
    await net.settle()
    assert [counted(await ada.message(one.id)).get("soup", []) for one in (older, last)] == [[], []]
    await there.execute([b"/history", b"/vote 2 2"])
    await net.settle()
    assert counted(await ada.message(older.id))["soup"] == ["bob"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/vote 3", "a vote is a number from 0 to 2"),
        ("/vote 9", "a vote is a number from 0 to 2"),
        ("/vote soup", "a vote is a number from 0 to 2"),
        ("/vote 1 2 3", "usage: /vote [N] OPTION, for example /vote 2"),
        ("/vote 4 1", "there is no line '4': /history shows lines with numbers"),
        ('/poll "Unbalanced a b', 'the quote at "Unbalanced does not end: put a " behind it'),
        ('/poll Lunch? "pea soup', 'the quote at "pea does not end: put a " behind it'),
    ],
)
async def test_a_line_that_is_wrong_says_what_is_wrong_and_writes_nothing(
    net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str], line: str, text: str
) -> None:
    ada, bob, _ = net.peers
    await ada.poll("room", "Lunch?", OPTIONS)
    await net.settle()
    await open_session(bob, shown, as_json=False).execute([line.encode()])
    assert capsys.readouterr().err == f"p2pchat: {text}\n"
    [asked] = await bob.history("room")
    assert "votes" not in asked.to_dict()


async def test_a_program_asks_votes_and_closes_with_json_commands(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    session = open_session(ada, shown)
    await session.execute([b'{"do":"poll","question":"Lunch?","options":["pizza","soup"],"ref":"7"}'])
    id = shown.rows[0]["id"]
    await session.execute([f'{{"do":"vote","id":"{id}","option":2}}'.encode()])
    assert shown.rows[0]["id"] == id
    await session.execute([f'{{"do":"close","id":"{id}"}}'.encode()])
    await net.settle()
    line = (await bob.message(id)).to_dict()
    assert line["choices"] == OPTIONS and [one["option"] for one in line["votes"]] == [2] and line["closed_at"]
    display, [vote] = ShownEdits(), line["votes"]
    display.add(line)
    assert display.includes({"id": id, "entry_id": vote["entry_id"]})
    assert display.includes({"id": id, "entry_id": line["closed_id"]})
    assert not display.includes({"id": id, "entry_id": "another"})


async def test_votes_of_ignored_people_count_in_no_line_of_a_poll_or_its_end(net: Mesh, shown: Shown) -> None:
    ada, bob, cyd = net.peers
    ends, session = bob.events(PollClosed), open_session(bob, shown, as_json=False)
    asked = await ada.poll("room", "Lunch?", OPTIONS)
    await net.settle()
    await cyd.vote(asked.id, 1)
    await net.settle()
    await bob.ignore("cyd")
    await session.display.show_event((await bob.message(asked.id)).to_dict())
    await ada.close_poll(asked.id)
    async with within(WAIT, "the end"):
        await session.display.show_event((await anext(ends)).to_dict())
    await session.execute([b"/history"])
    lines = shown.new
    assert len(lines) == 3 and all("[1 pizza (0) · 2 soup (0) · " in line for line in lines), lines
