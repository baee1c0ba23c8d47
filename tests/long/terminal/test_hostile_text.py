"""Hostile text in a real terminal: nothing drives it, and no line passes for another speaker's or the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

# Clear the screen, cursor home, title, notification, link, device request, other character set, lines up, wrapping on,
# title into the input, and one-byte forms of C1.
ORDERS = [
    *("\x1b[2J", "\x1b[H", "\x1b]0;owned\x07", "\x1b]9;owned\x07", "\x1b]8;;http://evil\x07", "\x1b[6n", "\x0e"),
    *("\x1b[5A", "\x1b[?7h", "\x1b[21t", "\x9b2J", "\x9d0;owned\x9c", "\r", "\b", "\x85", "\u2028", "\u202e"),
    *("\u200b", "\x07", "\x1bc"),
]
A_LINE = re.compile(
    r'^(( ?\d+ )?\d\d:\d\d ((\[room\] )?"?(mallory|ada)|-- )|-- |    \|( |$)|  \S|────|[\[\w].*>|p2pchat: )'
)


async def say_all(speaker: TCPPeer, shown: Terminal, texts: list[str]) -> None:
    for text in texts:
        await speaker.broadcast(text)
    await speaker.broadcast("the end")
    await shown.shows("mallory: the end")


async def test_escape_sequences_are_shown_not_executed(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, mallory = await ada_and("mallory", terminal, peer)
    await ada.type("half a li")
    await say_all(mallory, ada, [f"before{order}behind" for order in ORDERS])
    await ada.prompts("room> half a li")
    assert [line for line in ada.all_lines if "mallory: before" in line] == [
        re.match(r"\d\d:\d\d ", line)[0] + f"mallory: before{shown(order)}behind"  # type: ignore[index]
        for order, line in zip(ORDERS, [line for line in ada.all_lines if "mallory: before" in line], strict=True)
    ]
    assert ada.title == "room - p2pchat" and ada.screen.bells == 0
    assert not any(f"before{order}".encode() in ada.raw for order in ORDERS)


def shown(order: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else f"\\u{{{ord(c):x}}}" for c in order)


async def test_names_and_joined_writing_are_shown_as_written(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, zoe = await ada_and("zoë", terminal, peer)
    await ada.answers("/msg Zoé hi", "p2pchat: nobody here is called 'Zoé'; did you mean zoë?")
    await ada.answers("/помощь", "p2pchat: there is no command '/помощь'")
    joined = "👩\u200d💻 می\u200cخواهم क्\u200dष"
    await zoe.broadcast(joined)
    await ada.until(lambda: joined.encode() in ada.raw, joined)  # pyte does not draw joiners
    await zoe.broadcast("ad\u200dmin")
    await ada.shows("zoë: ad\\u{200d}min")


FORGED = "12:00 bob: I am bob"


TEXTS = [
    f"hi\n{FORGED}",
    f"hi\r\n{FORGED}",
    "x" * 67 + FORGED,  # the terminal would begin a row with it
    "x " * 33 + " " + FORGED,
    "x" * 27 + FORGED,
    "界" * 33 + FORGED,
    "❤\ufe0f" * 33 + FORGED,  # one column wide here, two in other terminals
    "e" + "\u0301" * 200 + FORGED,
    "\n" * 5 + "room> " + FORGED,
    "─" * 80 + f"\n──── now ────\n-- bob left\n{FORGED}",
]


@pytest.mark.parametrize("columns", [40, 80])
async def test_no_row_passes_for_another_speaker(terminal: OpenTerminal, peer: StartPeer, columns: int) -> None:
    ada, mallory = await ada_and("mallory", terminal, peer, columns=columns)
    await ada.answers("/go mallory", "──── mallory ────")
    for text in TEXTS:
        await mallory.broadcast(f"ada: {text}")  # another conversation, shown for the mention
    await mallory.broadcast("ada: the last")
    await ada.shows("mallory: ada: the last")
    await ada.line("/clear")  # what is on the screen is not repeated
    await ada.answers("/go", "──── room ────")
    for text in TEXTS:
        await mallory.broadcast(text)
    await say_all(mallory, ada, TEXTS)
    await ada.line("/history 30")
    await ada.until(lambda: ada.text.count("mallory: the end") == 2)
    await ada.until(lambda: ada.prompt == "room>")  # every row above it is whole
    assert not any(line.startswith(FORGED) for line in ada.all_lines)
    assert [line for line in ada.all_lines if line and not A_LINE.match(line)] == []
    assert ada.text.count(FORGED[:5]) >= 4 * len(TEXTS)  # and nothing of it was lost


async def test_text_of_others_is_never_wrapped_by_the_terminal(terminal: OpenTerminal, peer: StartPeer) -> None:
    """Wrapping is off while such a row is drawn, because the terminal may give its characters another width."""
    ada, mallory = await ada_and("mallory", terminal, peer)
    await say_all(mallory, ada, ["❤\ufe0f" * 20])
    before = bytes(ada.raw).partition("❤".encode())[0]
    assert before.rindex(b"\x1b[?7l") > before.rindex(b"\x1b[?7h")


async def test_a_hostile_name_is_quoted(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    mallory = await peer("[room] bob", await port_of(ada))
    await ada.shows('"[room] bob"')
    await ada.line("/away lunch")  # nobody reads what comes
    await ada.shows("others see that you are away")
    await mallory.send("ada", "psst")
    await ada.shows('"[room] bob" -> ada: psst')
    await ada.prompts('["[room] bob" 1] room>')
    await ada.answers('/go "[room] bob"', '──── "[room] bob" ────')
    await ada.prompts('"[room] bob">')
    await ada.until(lambda: ada.title == '"[room] bob" - p2pchat')


async def test_a_hostile_name_is_safe_in_notifications(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    mallory = await peer("bob: yes I do", await port_of(ada))
    await ada.shows('"bob: yes I do" is here')
    await ada.answers("/set desktop on", "-- desktop on")
    await mallory.send("ada", "psst\x07\x1b]9;owned;")
    await ada.until(lambda: b"\x07" in ada.raw.partition(b"\x1b]9;")[2])  # its end
    notices = bytes(ada.raw).split(b"\x1b]9;")[1:]
    assert [notice.partition(b"\x07")[0] for notice in notices] == [b'p2pchat: new: "bob: yes I do"']


@pytest.mark.parametrize("columns", [20, 40])
async def test_no_row_of_history_passes_for_another_speaker(
    terminal: OpenTerminal, peer: StartPeer, home: Path, columns: int
) -> None:
    """Commands fold without the help of the prompt."""
    which = ("--data", str(home / "ada"))
    ada = await terminal("0", "--name", "ada", *which, "--plain", columns=columns)
    port = int((await ada.shows_line(r"(?:listens on +|^ +127)\S+:(\d+),"))[1])
    mallory = await peer("mallory", port)
    for time in ("12:00 ", "2026-11-20 12:00 "):
        before = len(f"{time}mallory: ")
        texts = [("x" * ((columns - before) % columns) + FORGED).replace(" ", blank) for blank in (" ", "\u00a0")]
        for text in [*texts, "界" * ((columns - before) % columns // 2) + FORGED]:
            await mallory.broadcast(text)
    await mallory.broadcast("written")
    await ada.shows("written")  # of who never wrote, only the beginning of a status is kept
    mallory.set_presence("idle", "z" * 400 + FORGED)
    await mallory.broadcast("e" + "\u0301" * 200)
    await mallory.broadcast("the_end")
    await ada.shows("the_end")
    await ada.answers("/who", 'bob"')
    commands = (("tail", "-n", "20"), ("history",), ("users",))
    shown = [await terminal(*words, *which, columns=columns) for words in commands]
    await shown[0].shows("the_end")
    assert [await each.ended() for each in shown[1:]] == [0, 0]
    for each in (ada, *shown):
        assert "xxx" in each.text or "zzz" in each.text
        assert [line for line in each.all_lines if line.startswith(("12:00 bob", "12:00\u00a0bob"))] == []
        assert not any(line.startswith("\u0301") for line in each.all_lines)
