"""/list and /who where there is more than anybody looks at."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat import Message
from p2pchat.commands.conversation_commands import listed
from p2pchat.commands.people_commands import MAX_LISTED
from p2pchat.testing import mesh
from tests.commands.shown import Shown, session

MANY = MAX_LISTED + 5


async def test_people_are_shown_what_is_unread_and_what_was_written_last(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown, as_json=False)
        await asyncio.gather(*(ada.create_group(f"group {number}") for number in range(MANY)))
        await ada.send("#group 3", "the newest")
        await bob.send("ada", "psst")
        async for event in ada.events(Message, consumer="test", start="beginning"):
            took.on_event(event.to_json())
            break
        await ada.send("#group 7", "newer still")
        await took.execute([b"/list", b"/list all"])
        lines = shown.text.splitlines()
        some, more, every = lines[:MAX_LISTED], lines[MAX_LISTED], lines[MAX_LISTED + 1 :]
        assert some[:4] == ["-- room (here)", "-- bob: 1 unread", '-- #"group 7"', '-- #"group 3"']
        assert more == "-- and 7 more: /list all shows them too"
        assert len(every) == MANY + 2 and every[0] == some[0] and set(some) < set(every)
        assert [one.address for one in listed(ada, took.unread)[0][:3]] == ["room", "@bob", "#group 7"]  # as Alt-1 goes


async def test_programs_get_every_row(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        await asyncio.gather(*(ada.create_group(f"group {number}") for number in range(MANY)))
        ada.people.learn((f"{number:064x}", f"user {number}") for number in range(MANY))
        await session(ada, shown).execute([b'{"do":"list"}', b'{"do":"who"}'])
        assert [len(line["rows"]) for line in shown.lines] == [MANY + 1, MANY + 1]


async def test_of_very_many_users_people_are_shown_all_who_are_here(shown: Shown) -> None:
    async with mesh("ada", "zoe") as net:
        ada = net.peers[0]
        ada.people.learn((f"{number:064x}", f"user {number}") for number in range(MANY))  # as if they had written
        await session(ada, shown, as_json=False).execute([b"/who", b"/who all"])
        lines = shown.text.splitlines()
        some, more, every = lines[:MAX_LISTED], lines[MAX_LISTED], lines[MAX_LISTED + 1 :]
        assert [line.split(":")[0] for line in some[:3]] == ["-- ada", "-- zoe", '-- "user 0"']
        assert more == "-- and 7 more offline: /who all shows them too"
        assert len(every) == MANY + 2


async def test_it_knows_no_other_word(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada") as net:
        await session(net.peers[0], shown, as_json=False).execute([b"/list everything", b"/who else"])
        said = capsys.readouterr().err
        assert "/list [all]" in said and "/who [all]" in said
