"""/list, /go and the commands of groups."""

from __future__ import annotations

import asyncio
import json

from p2pchat import GroupChanged, Left, Message, Settings, TCPPeer, Undelivered
from p2pchat.commands.conversation_commands import listed
from p2pchat.commands.exit_codes import DONE, FAILED, NO_SUCH_NAME, USAGE
from p2pchat.commands.people_commands import MAX_LISTED
from p2pchat.commands.session import Session
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session
from tests.deadlines import WAIT, until


class GroupLines:
    """The group events of a peer, as text."""

    def __init__(self, peer: TCPPeer, session: Session, shown: Shown) -> None:
        self._events = peer.events(GroupChanged, Message, consumer=None)
        self._took, self._shown = session, shown

    async def lines(self, count: int) -> list[str]:
        """Show `count` events and return the new lines, without their times."""
        for _ in range(count):
            line = (await anext(self._events)).to_dict()
            self._took.on_event(line)
            await self._took.display.show_event(line)
        return [line if line.startswith("-- ") else line.partition(" ")[2] for line in self._shown.new]


async def test_group_switches_to_it_and_members_see_changes(shown: Shown) -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, carol = net.peers
        session = open_session(ada, shown, as_json=False)
        group_lines = GroupLines(ada, session, shown)
        await session.execute([b"/group ops bob", b"anybody awake?"])
        ops = ada.group("ops")
        assert session.current == ops
        assert await group_lines.lines(1) == [
            "-- now in #ops: what you type goes there",
            "-- you created #ops with bob",
        ]
        await session.execute([b"/add carol"])
        await net.settle()
        assert [post.text for post in await carol.history(carol.group("ops"))] == ["anybody awake?"]
        await carol.group("ops").send("I am")
        assert await group_lines.lines(2) == ["-- you added carol to #ops", "[#ops] carol: I am"]
        await session.execute([b"/members", b"/rename night shift", b"/kick carol", b"/owner bob", b"/leave"])
        members = ["-- ada: online (you) (owner)", "-- bob: online", "-- carol: online"]
        lines = await group_lines.lines(4)
        assert [line.partition(" since")[0].replace(" since", "") for line in lines[1:3]] == members[1:]
        assert lines[3:] == [
            "-- now in the room: what you type goes there",
            '-- you renamed #ops to #"night shift"',
            '-- you removed carol from #"night shift"',
            '-- you made bob the owner of #"night shift"',
            '-- you left #"night shift"',
        ]
        await net.settle()
        assert [user.name for user in bob.group("night shift").members] == ["bob"]


async def test_a_user_sees_changes_that_concern_them(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        group_lines = GroupLines(bob, open_session(bob, shown, as_json=False), shown)
        ops = await ada.create_group("ops", ["bob"])
        assert await group_lines.lines(1) == ["-- ada added you to #ops"]
        await ops.hand_over("bob")
        assert await group_lines.lines(1) == ["-- ada made you the owner of #ops"]
        await net.settle()
        await bob.group("ops").hand_over("ada")
        await net.settle()
        await ops.remove("bob")
        assert await group_lines.lines(2) == ["-- you made ada the owner of #ops", "-- ada removed you from #ops"]
        await ops.rename("secret")  # bob is no longer a member
        assert await group_lines.lines(1) == []


async def test_the_owner_makes_admins_who_add_and_remove(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        mine, theirs = open_session(ada, shown, as_json=False), open_session(bob, shown, as_json=False)
        changes = GroupLines(ada, mine, shown)
        await mine.execute([b"/group ops bob"])
        assert (await changes.lines(1))[1:] == ["-- you created #ops with bob"]
        await mine.execute([b"/admin bob"])
        assert await changes.lines(1) == ["-- you made bob an admin of #ops"]
        await mine.execute([b"/members"])
        assert [line.partition(" (")[2] for line in shown.new] == ["you) (owner)", "admin)"]
        await net.settle()
        await theirs.execute([b"/go #ops", b"/add cyd", b"/kick bob", b"/kick ada", b"/unadmin bob"])
        assert (await changes.lines(1))[1:] == ["-- bob added cyd to #ops"]
        await net.settle()
        assert cyd.group("ops").admins == [cyd.user("bob")]
        await mine.execute([b"/unadmin bob"])
        assert await changes.lines(1) == ["-- you made bob a plain member of #ops"]


async def test_errors_of_group_commands_give_advice(shown: Shown) -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, _ = net.peers
        await ada.create_group("ops", ["bob"])
        await net.settle()
        mine, theirs = open_session(ada, shown), open_session(bob, shown)
        await mine.execute(
            [b"/go ops", b"/add bob", b"/kick carol", b"/kick ada", b"/owner carol", b"/owner ada", b"/rename ops"]
        )
        await mine.execute([b"/admin carol", b"/admin ada", b"/unadmin bob"])
        await mine.execute([b"/leave", b"/group ops", b"/group ops carol"])
        await theirs.execute(
            [b"/go #ops", b"/add carol", b"/admin bob", b"/rename mine", b"/leave", b"/leave", b"/go #ops", b"/leave"]
        )
        assert [line["text"] for line in shown.lines if line["event"] == "error"] == [
            "bob is already in #ops",
            "carol is not in #ops: /members lists the members",
            "to leave yourself, hand the group over first: /owner NAME, then /leave",
            "carol is not in #ops: /add first",
            "you own #ops already",
            "it is already called #ops",
            "carol is not in #ops: /add first",
            "ada is already an admin of #ops",
            "bob is no admin of #ops",
            "you own #ops: hand it over first, /owner NAME",
            *["this group exists already: /go #ops"] * 2,
            *["only ada, the owner of #ops, can do that"] * 3,
            "/leave works in a group: /go #NAME first, or create one: /group NAME MEMBER",
            "you are no longer in #ops: /go switches to another conversation",
        ]
        assert mine.exit_code == theirs.exit_code == USAGE


async def test_a_pipe_is_told_what_nobody_gets_after_leaving(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await ada.create_group("ops", ["bob"])
        await net.settle()
        left = bob.events(Left, consumer=None)
        await ada.aclose()
        await anext(left)
        session = open_session(bob, shown, as_json=False)
        await session.execute([b"/go #ops", b"goodbye", b"/leave --yes"])
        assert shown.new[-1] == '-- nobody in #ops has "goodbye", and nobody gets it now'
        assert not bob.group("ops").is_member


async def test_refusals_of_json_commands_name_people_and_no_typed_commands(shown: Shown) -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, carol = net.peers
        await ada.create_group("ops", ["bob"])
        await net.settle()
        mine, theirs = open_session(ada, shown), open_session(bob, shown)
        for command in (
            {"do": "kick", "to": "#ops", "users": [carol.me.id]},
            {"do": "kick", "to": "#ops", "users": [ada.me.id]},
            {"do": "kick", "to": "#ops", "users": ["A" * 52]},
            {"do": "owner", "to": "#ops", "user": carol.me.id},
            {"do": "leave", "to": "#ops"},
        ):
            await mine.execute([json.dumps(command).encode()])
        await theirs.execute([b'{"do":"leave","to":"#ops"}'] * 2)
        assert [line["text"] for line in shown.lines if line["event"] == "error"] == [
            "carol is not in #ops",
            "to leave yourself, hand the group over first",
            "AAAAAAAA is not in #ops",
            "carol is not in #ops",
            "you own #ops: hand it over first",
            "you are no longer in #ops",
        ]


async def test_only_go_accepts_a_bare_group_name(shown: Shown) -> None:
    async with mesh("ada", "bob", "ops") as net:
        ada = net.peers[0]
        ops, bob = await ada.create_group("ops"), await ada.create_group("night")
        session = open_session(ada, shown)
        await session.execute([b"/go night"])
        assert session.current == bob
        await session.execute([b"/go ops"])
        assert session.current == bob
        assert shown.lines[-1]["text"] == "'ops' could be @ops, #ops: use one of these"
        await session.execute([b"/go #ops"])
        assert session.current == ops
        await session.execute([b"/go @ops", b"/msg ops psst", b"/msg night psst"])
        assert session.current.kind == "dm"
        assert shown.lines[-1]["text"] == "nobody here is called 'night'; the group is #night"
        assert session.exit_code == NO_SUCH_NAME
        assert [post.to for post in await ada.history("ops")] == ["ops"]  # type: ignore[union-attr]


async def test_group_commands_as_json(shown: Shown) -> None:
    async with mesh("ada", "bob", "carol") as net:
        session = open_session(net.peers[0], shown)
        await session.execute(
            [
                b'{"do":"group","name":"ops","members":["bob"],"ref":"1"}',
                b'{"do":"add","to":"#ops","users":["carol"]}',
                b'{"do":"kick","to":"#ops","users":["bob"]}',
                b'{"do":"rename","to":"#ops","name":"night"}',
                b'{"do":"send","to":"#night","text":"hello"}',
                b'{"do":"members","to":"#night"}',
                b'{"do":"owner","to":"#night","user":"carol"}',
                b'{"do":"leave","to":"#night"}',
                b'{"do":"leave","to":"carol"}',
                b'{"do":"add","to":"#night","users":"bob"}',
            ]
        )
        lines = shown.lines
        answers = [(line["command"], line["rows"]) for line in lines if line["event"] == "answer"]
        members = [[row["members"] for row in rows] for command, rows in answers if command != "members"]
        assert members == [[["ada", "bob"]], [["ada", "bob", "carol"]], [["ada", "carol"]]] + [
            [["ada", "carol"]]
        ] * 2 + [[["carol"]]]
        assert [(row["user"], row["owner"]) for row in dict(answers)["members"]] == [("ada", True), ("carol", False)]
        assert [line["text"] for line in lines if line["event"] == "error"] == [
            "'carol' is not a group: write #NAME",
            "`users` must be a list of strings",
        ]


async def test_undeliverable_messages_are_not_waited_for(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        ops = await ada.create_group("ops", ["bob"])
        await net.settle()
        session = open_session(bob, shown)
        events = bob.events(Undelivered, consumer=None)
        net.partition([ada], [bob])
        await session.execute([b'{"do":"send","to":"#ops","text":"still there?"}'])
        assert session.sender.has_undelivered() and session.exit_code == DONE
        await ops.remove("bob")
        net.heal()
        session.on_event((await anext(events)).to_dict())
        assert not session.sender.has_undelivered() and await session.sender.drain(0) == []
        assert session.exit_code == FAILED


async def test_a_group_message_waits_for_members_online_and_names_those_away(shown: Shown) -> None:
    async with mesh("ada", "bob", "carol") as net:
        ada, bob, carol = net.peers
        await ada.create_group("ops", ["bob", "carol"])
        await net.settle()
        await carol.aclose()
        await net.settle()
        session = open_session(ada, shown)
        await session.execute([b"/go ops", b"hello"])
        assert await session.sender.drain(10) == ["carol"] and session.sender.has_undelivered()
        await bob.aclose()
        await net.settle()
        await session.execute([b"anybody?"])
        assert await session.sender.drain(0) == ["bob", "carol"] and session.sender.has_undelivered()


MANY = MAX_LISTED + 5


async def test_list_shows_unread_and_latest_conversations(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        await asyncio.gather(*(ada.create_group(f"group {number}") for number in range(MANY)))
        await ada.send("#group 3", "the newest")
        await bob.send("ada", "psst")
        async for event in ada.events(Message, consumer="test", start="beginning"):
            session.on_event(event.to_dict())
            break
        await ada.send("#group 7", "newer still")
        await session.execute([b"/list", b"/list -a"])
        lines = shown.text.splitlines()
        some, more, every = lines[:MAX_LISTED], lines[MAX_LISTED], lines[MAX_LISTED + 1 :]
        assert some[:4] == ["-- room (here)", "-- bob: 1 unread; new: bob", '-- #"group 7"', '-- #"group 3"']
        assert more == "-- and 7 more: /list -a shows them too"
        assert len(every) == MANY + 2 and every[0] == some[0] and set(some) < set(every)
        assert [one.address for one in listed(ada, session.unread)[0][:3]] == [
            "room",
            "@bob",
            "#group 7",
        ]


async def test_list_says_who_is_new_what_has_no_place_and_how_many_are_blocked(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd", "dan", logins=True, settings=Settings(max_unanswered_groups=0)) as net:
        _, bob, _, dan = net.peers
        await (await dan.send("bob", "psst")).delivered(timeout=WAIT)
        await dan.create_group("ops", ["bob"])
        await until(lambda: len(bob.unanswered()) == 2, "bob's inbox has both")
        await bob.block("cyd")
        session = open_session(bob, shown, as_json=False)
        await session.execute([b"/list"])
        assert shown.text.splitlines() == [
            "-- room (here)",
            "-- dan; new: dan, admitted by ada",
            "-- not taken: #ops by dan, admitted by ada; too many of theirs are unanswered: write to them to have it"
            " come",
            "-- 1 person is blocked: /block",
        ]
        await open_session(bob, shown).execute([b'{"do":"list"}'])
        *_, direct, group = json.loads(shown.new[-1])["rows"]
        assert {**direct, **group}.items() >= {"begun_by": "dan", "admitted_by": "ada", "new": True}.items()
        assert (direct.get("has_place", True), group["has_place"], group["kind"]) == (True, False, "group")


async def test_list_and_who_give_programs_every_row(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        await asyncio.gather(*(ada.create_group(f"group {number}") for number in range(MANY)))
        ada.directory.learn((f"{number:064x}", f"user {number}") for number in range(MANY))
        await open_session(ada, shown).execute([b'{"do":"list"}', b'{"do":"who"}'])
        assert [len(line["rows"]) for line in shown.lines] == [MANY + 1, MANY + 1]


async def test_who_shows_who_is_here_and_with_whom_one_talks(shown: Shown) -> None:
    async with mesh("ada", "zoe", "bob", "cron") as net:
        ada, _, bob, cron = net.peers
        await (await ada.send("bob", "see you")).delivered(timeout=60)
        await (await cron.broadcast("backup finished")).delivered(timeout=60)
        for gone in (bob, cron):
            await gone.aclose()
        await net.settle()
        await open_session(ada, shown, as_json=False).execute([b"/who", b"/who -a"])
        lines = [line.split(" since ")[0] for line in shown.new]
        here = ["-- ada: online (you)", "-- zoe: online", "-- bob: offline"]
        assert lines[:4] == [*here, "-- and 1 more offline: /who -a shows them too"]
        assert lines[4:] == [*here, "-- cron: offline"]
        await open_session(ada, shown).execute([b'{"do":"who"}'])
        assert "cron" in [row["user"] for row in json.loads(shown.new[-1])["rows"]]


async def test_who_shows_everyone_online_and_some_of_very_many_others(shown: Shown) -> None:
    async with mesh("ada", "zoe") as net:
        ada = net.peers[0]
        ada.directory.learn((f"{number:064x}", f"user {number}") for number in range(MANY))  # as if they had written
        await asyncio.gather(*(ada.send(f"user {number}", "hello") for number in range(MANY)))
        await open_session(ada, shown, as_json=False).execute([b"/who", b"/who -a"])
        lines = shown.text.splitlines()
        some, more, every = lines[:MAX_LISTED], lines[MAX_LISTED], lines[MAX_LISTED + 1 :]
        assert [line.split(":")[0] for line in some[:3]] == ["-- ada", "-- zoe", '-- "user 0"']
        assert more == "-- and 7 more offline: /who -a shows them too"
        assert len(every) == MANY + 2
