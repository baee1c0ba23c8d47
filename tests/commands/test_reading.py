"""What was said and found again, and who has what one wrote."""

from __future__ import annotations

import pytest

from p2pchat.commands.errors import NO_SUCH_NAME, USAGE
from p2pchat.testing import mesh
from tests.commands.shown import Shown, session


async def test_a_search_looks_where_one_is_and_says_how_to_widen(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown, as_json=False)
        await bob.broadcast("the backup failed")
        await bob.broadcast("all is well")
        await bob.send("ada", "Backup of the other disk failed too")
        await net.settle()
        await took.execute([b"/search FAILED backup"])
        found, how = shown.new
        assert found.endswith(" bob: the backup failed")
        assert how == "-- 1 match in the room; /go elsewhere to search there"
        took._display.notifier.history_command = "p2pchat history --port 8080"
        await took.execute([b"/go bob", b"/search it's"])
        assert shown.new[-1] == ("-- no matches in bob; everywhere: p2pchat history --port 8080 --search 'it'\"'\"'s'")
        await took.execute([b"/search disk"])
        assert len(shown.new) == 2


async def test_a_search_shows_at_most_the_newest_fifty(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        took = session(ada, shown, as_json=False)
        await ada.send_many("room", [f"line {number}" for number in range(60)])
        await took.execute([b"/search line"])
        *found, how = shown.new
        assert [line.rpartition(" ")[2] for line in found] == [str(number) for number in range(10, 60)]
        assert how.startswith("-- the newest 50 matches in the room")


async def test_a_program_searches_everywhere_unless_it_says_where(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        await bob.broadcast("one backup")
        await bob.send("ada", "two backups")
        await net.settle()
        await took.execute(
            [b'{"do":"search","words":"backup"}', b'{"do":"search","words":"backup","to":"bob","ref":"s"}']
        )
        everywhere, there = shown.lines
        assert [row["text"] for row in everywhere["rows"]] == ["one backup", "two backups"]
        assert ([row["text"] for row in there["rows"]], there["ref"]) == (["two backups"], "s")
        await took.execute([b'{"do":"search","words":" "}', b'{"do":"search","words":"x","limit":0}'])
        assert [line["code"] for line in shown.lines[2:]] == ["usage", "usage"]


async def test_receipts_name_who_has_it_and_who_lacks_it(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, _, cyd = net.peers
        took = session(ada, shown, as_json=False)
        await took.execute([b"to all of you"])
        await net.settle()
        await net.crash(cyd)
        await took.execute([b"/msg cyd for later", b"/receipts"])
        [room] = shown.new
        assert room[:3] == "-- " and room[8:] == ' "to all of you": delivered 2 of 2; bob, cyd have it'
        await took.execute([b"/go cyd", b"/receipts 1"])
        assert shown.new[-1][8:] == ' "for later": accepted; cyd does not have it yet'


async def test_receipts_for_programs_are_rows(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        receipt = await ada.send("bob", "one")
        await ada.broadcast("two")
        other = await bob.broadcast("mine")
        await net.settle()
        ask = f'{{"do":"receipts","id":"{receipt.id}"}}'
        await took.execute([b'{"do":"receipts","limit":9}', ask.encode(), b"/receipts 1"])
        everything, one, here = ([(row["text"], row["status"]) for row in line["rows"]] for line in shown.lines)
        assert everything == [("one", "delivered"), ("two", "delivered")]
        assert one == [("one", "delivered")]
        assert here == [("two", "delivered")]
        row = shown.rows[0]
        assert (row["delivered_to"], row["delivered_to_ids"], row["missing"]) == (["bob"], [bob.me.id], [])
        await took.execute([f'{{"do":"receipts","id":"{other.id}"}}'.encode()])
        assert took.exit_code == NO_SUCH_NAME


async def test_who_wrote_nothing_has_no_receipts(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        await net.peers[1].broadcast("hi")
        await net.settle()
        await session(net.peers[0], shown, as_json=False).execute([b"/receipts"])
        assert shown.new == ["-- you have not written here yet"]


@pytest.mark.parametrize(
    "line", ["/history 0", "/history x", "/receipts -1", "/history ²", '{"do":"history","limit":0}']
)
async def test_a_count_is_above_0(shown: Shown, line: str) -> None:
    async with mesh("ada") as net:
        took = session(net.peers[0], shown)
        await took.execute([line.encode()])
        assert took.exit_code == USAGE
