"""The current conversation, unread counts, joins and delivery marks in a real terminal."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import Message, TCPPeer
from p2pchat.cli.terminal.device import BELL_EVERY
from tests.deadlines import WAIT
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, ada_bob_and_cyd, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

TIME = re.compile(r"^\d\d:\d\d ")


def without_times(shown: Terminal) -> list[str]:
    return [TIME.sub("", line) for line in shown.all_lines]


async def everything_is_up(shown: Terminal) -> None:
    """Wait until all own lines are printed: /clear takes effect after them."""
    await shown.key("c-l")
    await shown.until(lambda: len(shown.lines) == 1)


async def test_a_mark_behind_joined_emoji_is_drawn_with_its_row(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob, _ = await ada_bob_and_cyd(terminal, peer)
    await ada.answers("👨\u200d👩\u200d👧\u200d👦 fam", "✓ delivered")
    async with asyncio.timeout(WAIT):
        async for message in bob.events(Message, consumer=None, start="beginning"):
            message.mark_read()
            break
    await ada.shows("✓✓ read 1/2 here")
    drawn = ada.raw.decode(errors="replace")  # the last character may have come in part
    at = drawn.index("✓✓ read 1/2 here")
    assert "\x1b[A" not in drawn[drawn.rindex("fam", 0, at) : at]  # else it is put where the row was thought to end


async def test_the_screen_of_a_short_talk(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("hello bob", "hello bob  ✓ delivered 1/1 here")
    await bob.broadcast("hello\nada")
    await ada.shows("    | ada")  # else the notice of a first message may come before it
    psst = await bob.send("ada", "psst")
    await psst.delivered(timeout=60)
    await ada.shows("bob -> ada: psst")
    await ada.type("and")
    await ada.prompts("[bob 1] room> and")
    start = next(i for i, line in enumerate(without_times(ada)) if "bob is here" in line)
    assert without_times(ada)[start:] == [
        "-- bob is here for the first time",
        "ada: hello bob  ✓ delivered 1/1 here",
        "bob: hello",
        "    | ada",
        "-- new: bob",
        "bob -> ada: psst",
        "[bob 1] ada to room> and",
    ]


async def test_a_restart_shows_the_last_lines_once(terminal: OpenTerminal, peer: StartPeer, home: Path) -> None:
    data = home / "ada"
    ada, bob = await ada_and("bob", terminal, peer, "--data", str(data))
    await bob.send_many("room", [f"line {number}" for number in range(30)])
    await ada.shows("bob: line 29")
    await ada.line("/quit")
    assert await ada.ended() in (0, 3)

    again = await terminal("0", "--data", str(data))
    await again.shows("──── now ────")
    lines = without_times(again)
    now = lines.index("──── now ────")
    assert lines[now - 20 : now] == [f"bob: line {number}" for number in range(10, 30)]
    assert "bob: line 9" not in lines
    await bob.connect(f"localhost:{await port_of(again)}")
    await again.shows("bob is here")
    await bob.broadcast("line 30")
    await again.shows("bob: line 30")
    assert [line for line in without_times(again)[now + 1 :] if line.startswith("bob:")] == ["bob: line 30"]


async def test_messages_of_earlier_runs_are_counted_and_unread(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    data = home / "ada"
    async with TCPPeer(0, name="ada", data=data) as before:  # reads no events
        bob = await peer("bob", before.port)
        await bob.wait_user("ada", timeout=60)
        await (await bob.send("ada", "one")).delivered(timeout=60)
        await (await bob.send("ada", "two")).delivered(timeout=60)
        await (await bob.broadcast("to all")).delivered(timeout=60)
    ada = await terminal("0", "--data", str(data))
    await ada.shows("-- 2 older messages in bob: see /go bob")
    await ada.prompts("[bob 2] room>")
    assert without_times(ada).count("bob: to all") == 1
    await ada.key("m-a")
    await ada.prompts("bob>")
    await ada.shows("bob -> ada: two")


@pytest.mark.parametrize("receipts", ["on", "off"])
async def test_what_was_not_read_is_unread_after_a_restart(
    terminal: OpenTerminal, peer: StartPeer, home: Path, receipts: str
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    for line in (f"/set receipts {receipts}", "/set notify none bob", "/who"):
        await ada.line(line)
    await ada.shows("-- bob: online")
    await bob.send("ada", "one")
    await bob.send("ada", "two, ada")
    await ada.prompts("[bob 2 @1] room>")
    await ada.line("/quit")
    assert await ada.ended() in (0, 3)

    ada = await terminal("0", *data)
    await ada.prompts("[bob 2 @1] room>")
    await ada.answers("/list", "-- bob: 2 unread, 1 with your name")
    await ada.key("m-a")
    await ada.prompts("bob>")
    await ada.shows("bob -> ada: two, ada")
    await ada.line("/quit")
    assert await ada.ended() in (0, 3)

    ada = await terminal("0", *data)
    await ada.line("/list")
    await ada.shows_line(r"^-- bob \(muted\)$")
    await ada.prompts("room>")


async def test_a_newcomer_sees_the_end_of_the_history(terminal: OpenTerminal, peer: StartPeer) -> None:
    bob = await peer("bob")
    await bob.send_many("room", [f"line {number}" for number in range(30)])
    ada = await terminal("0", str(bob.port), "--name", "ada")
    await ada.shows("-- 30 older messages, the last 20 below: see /history 30")
    await ada.shows("──── now ────")
    lines = without_times(ada)
    before = lines.index("──── before you joined ────")
    assert lines[before + 1 : before + 22] == [*[f"bob: line {number}" for number in range(10, 30)], "──── now ────"]
    await ada.prompts("room>")
    await bob.broadcast("welcome")
    await ada.shows("bob: welcome")


async def test_a_newcomer_shown_the_whole_history_gets_no_notice(terminal: OpenTerminal, peer: StartPeer) -> None:
    bob = await peer("bob")
    await bob.broadcast("hello?")
    ada = await terminal("0", str(bob.port), "--name", "ada")
    await ada.shows("──── now ────")
    assert [line for line in without_times(ada) if "hello?" in line or "older" in line] == ["bob: hello?"]
    group = await bob.create_group("ops")
    await group.send("from before")
    await group.add(await bob.wait_user("ada", timeout=60))
    await ada.shows("-- 1 older message in #ops: see /go #ops")
    await group.rename("night")  # while ada is in the room: shown when she goes there
    await group.send("under another name")  # comes after the rename
    await ada.prompts("[#night 1] room>")
    await ada.line("/go #night")
    await ada.shows_line(r"-- bob renamed #ops .*#night")
    assert "──── #night ────" in ada.all_lines


async def test_keys_switch_to_unread_conversations(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob, cyd = await ada_bob_and_cyd(terminal, peer)
    await ada.prompts_after("/go cyd", "cyd>")
    await ada.answers("hello cyd", "hello cyd  ✓ delivered")  # else what cyd writes is new
    await ada.prompts_after("/go bob", "bob>")
    await ada.shows("──── bob ────")
    await (await cyd.broadcast("nothing much")).delivered(timeout=60)
    await ada.prompts("[room 1] bob>")
    await cyd.send("ada", "psst")
    await ada.shows("cyd -> ada: psst")
    await ada.prompts("[room 1] bob>")
    await cyd.broadcast("what says Ada?")
    await ada.shows_line(r"^\d\d:\d\d \[room\] cyd: what says Ada\?")
    await ada.prompts("[room 2 @1] bob>")
    assert "nothing much" not in ada.text and ada.title == "(2) bob - p2pchat"
    await bob.send("ada", "here I am")
    await ada.shows("bob -> ada: here I am")
    await ada.key("m-a")  # the conversation with a mention
    await ada.prompts("room>")
    await ada.shows("cyd: nothing much")
    await ada.key("m-u")  # nothing is unread: the one that was shown last
    await ada.prompts("cyd>")
    await ada.until(lambda: ada.text.count("cyd -> ada: psst") == 2, "the last lines of the conversation")
    assert ada.text.count("what says Ada?") == 2  # once more behind what is new, without a hole
    await ada.key("m-1")
    await ada.prompts("room>")
    await ada.key("m-2")
    await ada.prompts("bob>")
    await ada.until(lambda: ada.title == "bob - p2pchat")


async def test_the_bell_rings_for_mentions_and_direct_messages(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers(
        "/msg bob hello", "ada -> bob: hello"
    )  # else what bob writes is new, and only its first line rings
    await bob.broadcast("the adapter is broken")
    await ada.shows("adapter")
    assert ada.screen.bells == 0
    began = time.monotonic()
    await bob.broadcast("ada: yours?")
    await bob.send("ada", "is it?")
    await ada.shows("is it?")
    bells = ada.screen.bells
    assert bells == 1 or (bells == 2 and time.monotonic() - began > BELL_EVERY)  # else the second came too soon
    await ada.line("/set bell off")
    await ada.answers("/set desktop on", "desktop on")
    async with asyncio.timeout(WAIT):
        while b"\x1b]9;p2pchat: bob: 4;3;x\x07" not in ada.raw:  # at most one in two seconds
            await (await bob.send("ada", "4;3;x")).delivered(timeout=60)
    assert ada.screen.bells == bells


async def test_notify_of_single_conversations(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("/set notify none bob", "notify in bob none")
    await bob.send("ada", "psst, ada")
    await ada.prompts("[bob 1 @1] room>")  # counted, not shown, no bell
    await ada.answers("/go bob", "psst, ada")
    await ada.answers("/set notify all room", "notify in room all")
    assert ada.screen.bells == 0
    await bob.broadcast("tea is ready")
    await ada.shows("[room] bob: tea is ready")
    assert ada.screen.bells == 1


async def test_joins_are_shown_while_few_are_here(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    port = await port_of(ada)
    people = [await peer(f"user{number}", port) for number in range(1, 8)]
    for number in range(1, 8):
        await ada.shows(f"user{number} is here")
    await peer("user8", port)
    await people[0].wait_user("user8", timeout=60)
    await people[0].broadcast("we are nine")
    await ada.shows("we are nine")
    assert "user8 is here" not in ada.text
    await ada.shows("-- more than 8 people are here: who comes and goes is no longer shown (/set")
    await ada.answers("/set joins on", "-- joins on")
    await people[1].aclose()
    await ada.shows("user2 left")


async def test_own_lines_show_delivery_marks(terminal: OpenTerminal, peer: StartPeer, home: Path) -> None:
    ada, bob, _ = await ada_bob_and_cyd(terminal, peer)
    port = await port_of(ada)
    await ada.answers("to both", "to both  ✓ delivered 2/2")
    await bob.aclose()
    await ada.shows("bob left")
    await ada.answers("cyd is not alone", "cyd is not alone  ✓ delivered 1/1 here")
    await ada.line("/msg bob for later")
    await ada.shows_line(r"ada -> bob: for later  · saved$")
    await ada.shows('-- bob is offline: "for later" is saved, and delivered when they are back')
    await everything_is_up(ada)
    await peer("bob", port)
    await ada.shows("-- delivered to bob: your message")
    assert "for later" not in ada.text


async def test_the_mark_and_receipts_count_the_same_people(terminal: OpenTerminal, peer: StartPeer) -> None:
    """A gateway has the message for its accounts too; those who were offline count neither here nor there."""
    ada = await terminal("0", "--name", "ada", columns=160)
    port = await port_of(ada)
    bob, gate = await peer("bob", port), await peer("gate", port)
    zoe = await gate.host("zoe")
    zoe.set_presence("online")
    for name in ("bob", "gate", "zoe"):
        await ada.shows(f"{name} is here")
    zoe.set_presence("offline")
    await ada.shows("zoe left")
    await bob.wait_user("gate", timeout=60)
    messages = bob.events(Message)
    await ada.answers("who counts?", "who counts?  ✓ delivered 2/2")
    (await anext(messages)).mark_read()
    await ada.shows("who counts?  ✓✓ read 1/2 here")
    await ada.line("/receipts")
    who = "bob has read it, gate has it, a gateway keeps it for zoe"
    await ada.shows_line(rf'"who counts\?": delivered 2 of 2 here, read 1 of 2 here; {who}')


async def test_what_a_gateway_has_for_somebody_away_is_not_called_delivered(
    terminal: OpenTerminal, peer: StartPeer
) -> None:
    ada = await terminal("0", "--name", "ada", columns=160)
    gate = await peer("gate", await port_of(ada))
    await gate.host("zoe")
    await ada.shows("gate is here")
    await ada.prompts_after("/group ops gate zoe", "#ops>")
    await ada.answers("hello both", "hello both  ✓ delivered 1/2, ✓ at a gateway 1/2")
    await ada.line("/msg zoe see you")
    await ada.shows_line(r"ada -> zoe: see you  ✓ at a gateway$")
    await ada.line("/receipts")
    await ada.shows_line(r'"see you": at a gateway 1 of 1; a gateway keeps it for zoe, seen or not$')


async def test_later_deliveries_in_a_group_are_told(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob, cyd = await ada_bob_and_cyd(terminal, peer)
    port = await port_of(ada)
    await ada.prompts_after("/group ops bob cyd", "#ops>")
    await cyd.aclose()
    await ada.shows("cyd left")
    await ada.answers("one is here", "one is here  ✓ delivered 1/2")
    await bob.aclose()
    await ada.shows("bob left")
    await ada.answers("nobody is", "nobody is  · saved", '-- nobody in #ops is online: "nobody is" is saved')
    await everything_is_up(ada)
    await peer("bob", port)
    await ada.shows("-- delivered to bob: 1 of 2 messages")
    await peer("cyd", port)
    one_by_one = ["-- delivered to cyd: 1 of 2 messages", "-- delivered to cyd: your message"]  # when cyd is slow
    await ada.until(
        lambda: (
            "-- delivered to cyd: all 2 messages" in ada.all_lines
            or [line for line in ada.all_lines if "delivered to cyd" in line] == one_by_one
        )
    )


async def test_changes_of_a_group_are_shown_in_their_place(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob, _ = await ada_bob_and_cyd(terminal, peer)
    group = await bob.create_group("ops", ["ada"])
    await ada.shows("bob added you to #ops")
    await group.send("before")
    await ada.prompts("[#ops 1] room>")
    await group.add(await bob.wait_user("cyd", timeout=60))
    await bob.send("ada", "now cyd")
    await ada.shows("bob -> ada: now cyd")
    await group.send("after")
    await ada.prompts("[#ops 2 · bob 1] room>")  # shown, but nobody answered bob yet
    await ada.answers("/go #ops", "bob: after")
    await ada.prompts("[bob 1] #ops>")
    lines = without_times(ada)
    opened = lines[lines.index("──── #ops ────") + 1 : -1]
    assert opened == ["bob: before", "-- bob added cyd to #ops", "bob: after"]


async def test_a_removed_member_sees_nobody_type(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    group = await bob.create_group("ops", ["ada"])
    await ada.shows("bob added you to #ops")
    await ada.prompts_after("/go #ops", "#ops>")
    group.typing()
    await ada.shows("bob is typing …")
    await group.remove("ada")
    await ada.shows("bob removed you from #ops")
    await ada.type("x")
    await ada.prompts("#ops> x")
    assert not [line for line in ada.lines if "typing" in line]
    await ada.key("c-c")
    await ada.answers("/list", "-- #ops (here) (you are no longer in it)")


async def test_an_own_line_waits_for_its_mark(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    port = await port_of(ada)
    await ada.answers("anybody?", "anybody?  · saved")
    await ada.shows('-- nobody is here yet: "anybody?" is saved, and delivered when someone joins')
    await everything_is_up(ada)
    bob = await peer("bob", port)
    await ada.shows("-- delivered to bob: your message")
    await ada.answers("again", "again  ✓ delivered 1/1")
    assert [post.text for post in await bob.history("room")] == ["anybody?", "again"]
    order = [line for line in without_times(ada) if line.startswith("ada: ")]
    assert order == ["ada: again  ✓ delivered 1/1 here"]


@pytest.mark.parametrize("columns", [20, 40])
async def test_narrow_terminals_show_everything(terminal: OpenTerminal, peer: StartPeer, columns: int) -> None:
    ada = await terminal("0", "--name", "ada", columns=columns, rows=10)
    await ada.until(lambda: ">" in ada.prompt)
    port = int((await ada.shows_line(r"127\.0\.0\.1:(\d+),"))[1])
    bob = await peer("bob", port)
    await bob.wait_user("ada", timeout=60)
    await bob.send("ada", "a secret of some length that needs rows")
    await bob.broadcast("x" * 100)
    await ada.until(lambda: ada.text.count("x") >= 100)
    await ada.prompts("[bob 1] room>" if columns == 40 else "1>")
    await ada.type("0123456789 0123456789 0123456789")
    await ada.until(lambda: ada.lines[-1].endswith("9"))
    assert all(len(line) <= columns for line in ada.all_lines)
    await ada.key("enter")


async def test_a_long_address_and_a_tick_stay_whole(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    address = "https://example.org/" + "path/" * 40 + "?q=1"
    await bob.broadcast(f"look at {address} before noon")
    await ada.shows_line(r"^    \| before noon$")
    await ada.until(lambda: address.encode() in ada.raw)  # one row, which the terminal wraps; above the prompt
    assert f"bob: look at {address}    | before noon" in "".join(ada.all_lines)
    await ada.line(f"mine: {address}")
    await ada.shows_line(r"^    \| ✓ delivered 1/1 here$")
    await ada.line("x" * 62)  # the tick would fit, but not its word
    await ada.shows_line(r"ada: x{62}$")
    await ada.until(lambda: sum(line == "    | ✓ delivered 1/1 here" for line in ada.all_lines) == 2)
    await everything_is_up(ada)
    assert f"mine: {address}".encode() in ada.raw


async def test_clear_keeps_the_prompt(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.answers("words", "words  · saved", "-- nobody is here")
    await ada.line("/clear")
    await ada.until(lambda: ada.lines == ["ada to room>"])
    await ada.type("more")
    await ada.key("c-l")
    await ada.until(lambda: ada.lines == ["ada to room> more"])


async def test_a_rule_marks_a_new_day(terminal: OpenTerminal, peer: StartPeer) -> None:
    bob = await peer("bob")
    await bob.broadcast("before midnight")
    midnight = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    while datetime.now(UTC) < midnight:  # by the clock
        await asyncio.sleep((midnight - datetime.now(UTC)).total_seconds())
    await bob.broadcast("after midnight")
    ada = await terminal("0", str(bob.port), "--name", "ada", env={"TZ": f"HERE{midnight:%H:%M:%S}"})  # now 0:00
    await ada.shows("──── now ────")
    today, yesterday = midnight.date(), midnight.date() - timedelta(days=1)
    assert [line for line in without_times(ada) if "midnight" in line or "────" in line] == [
        "──── before you joined ────",
        f"──── {yesterday:%A} {yesterday.day} {yesterday:%B %Y} ────",
        "bob: before midnight",
        f"──── {today:%A} {today.day} {today:%B %Y} ────",
        "bob: after midnight",
        "──── now ────",
    ]


async def test_leaving_a_group_is_asked_about_if_nobody_has_the_last_message(
    terminal: OpenTerminal, peer: StartPeer
) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=120)
    group = await bob.create_group("ops", ["ada"])
    await ada.shows("bob added you to #ops")
    await group.send("anybody?")
    await ada.answers("/go ops", "bob: anybody?")
    await bob.aclose()
    await ada.shows("bob left")
    await ada.answers("goodbye", "goodbye  · saved")
    question = 'nobody in #ops has "goodbye", and nobody gets it once you left: leave? yes/no'
    for answer in ("no", "yes"):
        await ada.line("/leave")
        await ada.until(lambda: ada.prompt.startswith(question), "the question")
        await ada.line(answer)
        await ada.prompts("#ops>" if answer == "no" else "room>")
    await ada.shows("-- you are still in #ops")
    await ada.shows("-- you left #ops")


@pytest.mark.parametrize("plain", [(), ("--plain",)], ids=["prompt", "plain"])
@pytest.mark.parametrize("line", ["/go bob", "/msg bob"])
async def test_an_opened_conversation_shows_its_last_lines(
    terminal: OpenTerminal, peer: StartPeer, line: str, plain: tuple[str, ...]
) -> None:
    ada, bob = await ada_and("bob", terminal, peer, *plain)
    await ada.answers("/msg bob hello", "delivered")  # else what bob writes is new, and unread until it is opened
    for number in range(7):
        await bob.send("ada", f"line {number}")
        await ada.shows(f"bob -> ada: line {number}")
    for count in (2, 3):  # though they were all seen, also since the last time it was opened
        await ada.line(line)
        await ada.until(lambda: ada.text.count("bob -> ada: line 6") == count, "its last lines")  # noqa: B023
        assert [ada.text.count(f"line {number}") for number in range(7)] == [1, 1, *([count] * 5)]


async def test_an_opened_conversation_without_messages_says_so(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, _ = await ada_and("bob", terminal, peer)
    await ada.answers("/go bob", "-- no messages here yet")
