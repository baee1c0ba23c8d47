"""The prompt in a real terminal: typing under load, history, completion, pastes, editor, signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import sys
from pathlib import Path
from random import Random

import pytest

from p2pchat import Left, Message, TCPPeer
from tests.deadlines import WAIT
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

OWN = r"^\d\d:\d\d ada: {}  (✓ delivered \d/\d here|· saved)$"


def said(shown: Terminal, speaker: str) -> list[str]:
    """Return the lines of one speaker on a terminal, without times."""
    lines = [re.sub(r"^\d\d:\d\d ", "", line) for line in shown.all_lines]
    return [line.removeprefix(f"{speaker}: ") for line in lines if line.startswith(f"{speaker}: ")]


async def texts_of(peer: TCPPeer, count: int) -> list[str]:
    """Wait for `count` messages of others and return their texts."""
    texts: list[str] = []
    async with asyncio.timeout(WAIT):
        async for message in peer.events(Message, consumer=None, start="beginning"):
            texts.append(message.text)
            if len(texts) >= count:
                break
    return texts


async def test_incoming_lines_leave_the_typed_text_whole(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    text = "the quick brown fox jumps over the lazy dog"
    sending = asyncio.ensure_future(bob.send_many("room", [f"line {number}" for number in range(200)]))
    for letter in text:
        await ada.key(letter)
        await ada.prompts("room>")
    await sending
    await ada.until(lambda: said(ada, "bob") == [f"line {number}" for number in range(200)], "all lines, in order")
    await ada.prompts(f"room> {text}")
    await ada.key("enter")
    await ada.shows_line(OWN.format(text))
    assert await texts_of(bob, 1) == [text]


async def test_input_history_survives_a_restart_without_invites(terminal: OpenTerminal, home: Path) -> None:
    data = home / "ada"
    ada = await terminal("0", "--name", "ada", "--data", str(data))
    await ada.prompts("room>")
    await ada.line("first words")
    await ada.line("/msg nobody p2pchat:abcdefgh2345@localhost:1")
    await ada.answers("second", "second")
    await ada.line("/quit")
    assert await ada.ended() == 3
    assert stat.S_IMODE((data / "input_history").stat().st_mode) == 0o600
    assert "p2pchat:" not in (data / "input_history").read_text()

    ada = await terminal("0", "--data", str(data))
    await ada.prompts("room>")
    await ada.key("up", "up")
    await ada.prompts("room> second")
    await ada.key("up")
    await ada.prompts("room> first words")
    await ada.key("c-c")
    await ada.prompts("room>")
    await ada.key("c-r")
    await ada.type("fir")
    await ada.until(lambda: "first words" in ada.prompt and "search" in ada.prompt, "the search")
    await ada.key("enter")
    await ada.prompts("room> first words")


async def test_tab_completes_commands_names_and_conversations(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    port = await port_of(ada)
    anna, annabel = await peer("Anna Maria", port), await peer("annabel", port)
    await ada.shows("annabel is here")
    await ada.shows("Anna Maria")
    await annabel.broadcast("hello")
    await ada.shows("annabel: hello")
    await ada.type("/hi")
    await ada.key("tab")
    await ada.prompts("room> /history ")
    await ada.key("c-c")
    await ada.type("/re")
    await ada.key("tab")
    await ada.prompts("room> /reply ")
    await ada.key("c-u")
    await ada.type("ann")
    await ada.key("tab")
    await ada.prompts("room> annabel: ")
    await ada.key("tab")
    await ada.prompts("room> Anna Maria: ")
    await ada.key("c-c")
    await anna.broadcast("me too")
    await ada.shows("me too")
    await ada.type("hear, hear (@an")
    await ada.key("tab")
    await ada.prompts("room> hear, hear (@Anna Maria ")
    await ada.key("c-u")
    await ada.type("/msg @a")
    await ada.key("tab")
    await ada.prompts('room> /msg @"Anna Maria" ')
    await ada.key("c-u")
    await ada.type("/msg a")
    await ada.key("tab")
    await ada.prompts('room> /msg "Anna Maria" ')
    await ada.line("psst")
    assert sorted(await texts_of(anna, 2)) == ["hello", "psst"]  # annabel's takes another way
    await ada.type("/go anna")
    await ada.key("tab", "enter")
    await ada.shows('──── "Anna Maria" ────')
    await ada.prompts('"Anna Maria">')


async def test_a_paste_is_one_message(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.paste("one\ntwo\r\nthree\n")
    await ada.until(lambda: "three" in ada.lines[-1])
    await ada.key("enter")
    assert await texts_of(bob, 1) == ["one\ntwo\nthree"]
    await ada.shows_line(r"^    \| three  ✓")

    many = "\n".join(f"row {number}" for number in range(12))
    await ada.paste(many)
    await ada.prompts("send 12 lines as one message? yes/no/edit")
    await ada.line("no")
    await ada.shows("-- not sent; Up brings it back")
    await ada.until(lambda: ada.prompt == "room>")
    await ada.key("up")
    await ada.until(lambda: ada.lines[-1] == "row 11", "the paste")
    await ada.key("c-c")
    await ada.until(lambda: ada.prompt == "room>")
    await ada.type("see: ")
    await ada.paste(many)
    await ada.prompts("send 12 lines")
    await ada.line("y")
    assert await texts_of(bob, 2) == ["one\ntwo\nthree", f"see: {many}"]

    await ada.paste(many)
    await ada.prompts("send 12 lines")
    await ada.line("edit")
    await ada.until(lambda: ada.lines[-1] == "row 11")
    await ada.line("!")
    assert (await texts_of(bob, 3))[2] == f"{many}!"


async def test_an_invite_is_sent_only_after_a_question(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    invite = f"p2pchat:{'AFOB65VC' * 9}@localhost:1"
    await ada.paste(f"join: {invite}")
    await ada.key("enter")
    await ada.prompts("whoever reads this invite can join: send it? yes/no/edit")
    await ada.line("no")
    await ada.until(lambda: "".join(ada.lines).endswith(f"> join: {invite}"), "the line again")
    await ada.shows("-- not sent")
    await ada.key("c-c")
    await ada.line("without it")
    await ada.prompts_after(invite, "whoever reads")
    await ada.line("yes")
    assert await texts_of(bob, 2) == ["without it", invite]
    await ada.until(lambda: f" ada: {invite}" in "".join(ada.all_lines), "the invite in one piece")
    for command in ("/me has", "/reply 0", "/edit 0"):
        await ada.prompts_after(f"{command} {invite}", "whoever reads")
        await ada.line("no")
        await ada.until(lambda: "".join(ada.lines).endswith(f"{command} {invite}"), "the line again")  # noqa: B023
        await ada.key("c-c")


async def test_the_reason_why_a_long_line_is_refused_can_be_seen(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.paste("word " * 7000 + "end")
    await ada.until(lambda: "".join(ada.lines).endswith("end"))
    await ada.key("enter")
    await ada.until(lambda: "too long: 35,003 bytes" in "\n".join(ada.lines) and ada.prompt == "room>", "the reason")
    await ada.key("up")
    await ada.until(lambda: "".join(ada.lines).endswith("word end"), "the line")


async def test_a_pasted_tab_is_sent_and_shown_as_spaces(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.paste("all:\n\techo /wh\tx")
    await ada.until(lambda: ada.lines[-1] == "    echo /wh    x", "the paste, nothing completed")
    await ada.key("enter")
    assert await texts_of(bob, 1) == ["all:\n\techo /wh\tx"]
    await ada.shows_line(r"^    \|     echo /wh    x  ✓")
    await bob.broadcast("\tback")
    await ada.shows_line(r"bob:     back$")


async def test_a_paste_never_runs_as_a_command(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.paste("/quit")
    await ada.prompts("room> //quit")  # visibly a text
    await ada.key("enter")
    await ada.paste("/quit\nnow")
    await ada.until(lambda: ada.lines[-1] == "now")
    await ada.key("enter")
    assert await texts_of(bob, 2) == ["/quit", "/quit\nnow"]


@pytest.mark.parametrize("keys", [("c-x", "c-e"), ("c-x", "e")])
async def test_an_editor_edits_the_line_and_output_waits(
    terminal: OpenTerminal, peer: StartPeer, tmp_path: Path, keys: tuple[str, ...]
) -> None:
    gate = tmp_path / "gate"
    editor = tmp_path / "editor"
    wait = f'echo EDITING; read answer; printf \'%s, %s\' "$(cat $1)" "$answer" > $1; : > {gate}'
    editor.write_text(f"#!/bin/sh\n{wait}\n")
    editor.chmod(0o755)
    ada, bob = await ada_and("bob", terminal, peer, env={"VISUAL": "", "EDITOR": str(editor)})
    await ada.type("draft")
    await ada.key(*keys)
    await ada.shows("EDITING")
    receipt = await bob.broadcast("while you edit")
    await receipt.delivered(timeout=60)
    assert "while you edit" not in ada.text
    await ada.answers("edited", "bob: while you edit")
    await receipt.read(timeout=60)
    await ada.prompts("room> draft, edited")
    assert gate.exists() and ada.text.index("EDITING") < ada.text.index("while you edit")
    await ada.key("enter")
    assert await texts_of(bob, 1) == ["draft, edited"]


async def test_sigterm_does_not_wait_for_the_editor(terminal: OpenTerminal, peer: StartPeer, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        f"#!/bin/sh\ntrap 'echo $1 > {tmp_path / 'ended'}; exit 1' TERM\necho EDITING; while :; do read x; done\n"
    )
    editor.chmod(0o755)
    ada, bob = await ada_and("bob", terminal, peer, env={"VISUAL": str(editor)})
    await ada.type("draft")
    await ada.key("c-x", "e")
    await ada.shows("EDITING")
    left = asyncio.create_task(bob.wait_for(Left, timeout=60))
    await asyncio.sleep(0)  # bob listens from here on
    ada.signal(signal.SIGTERM)
    assert (await ada.ended(), (await left).reason) == (0, "left")
    assert not Path((tmp_path / "ended").read_text().strip()).exists()


async def test_ctrl_c_says_how_to_leave_and_a_second_one_leaves(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    how = "Ctrl-C again, or /quit, leaves the chat"
    await ada.key("c-c")
    await ada.shows(how)
    await ada.until(lambda: how not in ada.text, "the end of the two seconds")
    await ada.type("never sent")
    await ada.prompts("room> never sent")
    await ada.key("c-c")
    await ada.until(lambda: ada.prompt == "room>")
    await ada.shows(how)
    await ada.type("nor this")
    await ada.prompts("room> nor this")
    await ada.key("c-c")  # clears the line again
    await ada.until(lambda: ada.prompt == "room>")
    await ada.key("c-c", "c-c")  # the first one leaves, or the second if two seconds have passed
    assert await ada.ended() == 130
    assert not [text for text in ("never sent", "nor this", "room>", how) if text in ada.text]


async def test_quit_may_have_words_behind_it(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.line("/quit bye")
    assert await ada.ended() == 0, ada.text[-600:]


async def test_ctrl_d_on_an_empty_line_leaves(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.type("x")
    await ada.key("left", "c-d")
    await ada.until(lambda: ada.prompt == "room>")
    await ada.key("c-d")
    assert await ada.ended() == 0, ada.text[-600:]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
async def test_a_signal_ends_in_order_and_restores_the_terminal(terminal: OpenTerminal, name: str) -> None:
    script = (
        "stty -a > before; $0 -m p2pchat 0 --name ada; echo code $?; stty -a > after; cmp before after && echo same"
    )
    shell = await terminal(command=("sh", "-c", f"cd $P2PCHAT_HOME/..; {script}", sys.executable))
    await shell.prompts("room>")
    pid = await _child_of(shell)
    os.kill(pid, getattr(signal, name))
    await shell.shows("code 0")
    await shell.shows("same")
    assert await shell.ended() == 0
    assert "room>" not in shell.text


async def _child_of(shell: Terminal) -> int:
    assert shell.process is not None
    listed = await asyncio.create_subprocess_exec(
        "ps", "-o", "pid=", "--ppid", str(shell.process.pid), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await listed.communicate()
    return int(out.split()[0])


async def chat_in_shell(terminal: OpenTerminal, peer: StartPeer) -> tuple[Terminal, TCPPeer]:
    """Return a terminal with a shell in which ada's chat runs, and a peer that has met her."""
    shell = await terminal(command=("bash", "--norc", "--noprofile", "-i"), env={"PS1": "shell$ "})
    await shell.prompts("shell$")
    await shell.prompts_after(f"{sys.executable} -m p2pchat 0 --name ada", "room>")
    bob = await peer("bob", await port_of(shell))
    await shell.shows("bob is here")
    return shell, bob


async def test_ctrl_z_suspends_and_fg_continues(terminal: OpenTerminal, peer: StartPeer) -> None:
    shell, bob = await chat_in_shell(terminal, peer)
    await shell.type("half a li")
    await shell.prompts("room> half a li")
    await shell.key("c-z")
    await shell.shows("Stopped")
    await shell.prompts("shell$")
    await shell.line("echo it echoes")
    await shell.until(lambda: shell.text.count("it echoes") == 2)
    for text in ("after fg", "after another"):
        await shell.prompts_after("fg", "room> half a li")
        await bob.broadcast(text)
        await shell.shows_line(rf"^\d\d:\d\d bob: {text}$")
        await shell.prompts("room> half a li")
        assert shell.text.count("room> ") == 1
        if text == "after fg":
            await shell.key("c-z")
            await shell.prompts("shell$")
    await shell.line("ne")
    await shell.shows("ada: half a line")
    await shell.prompts_after("/quit", "shell$")


async def test_colours_respect_no_color(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await bob.broadcast("hi")
    await ada.shows("bob: hi")
    codes = {
        int(code) for codes in re.findall(rb"\x1b\[([\d;]*)m", bytes(ada.raw)) for code in codes.split(b";") if code
    }
    assert codes & set(range(30, 38)) | codes & set(range(90, 98))
    assert codes <= {0, 1, 2, 31, 32, 35, 36, 94, 95}

    grey = await terminal("0", str(await port_of(ada)), "--name", "cyd", env={"NO_COLOR": "1"})
    await grey.shows("bob is here")
    await bob.broadcast("again")
    await grey.shows("bob: again")
    codes = {
        int(code) for codes in re.findall(rb"\x1b\[([\d;]*)m", bytes(grey.raw)) for code in codes.split(b";") if code
    }
    assert codes <= {0, 1, 2}


@pytest.mark.parametrize("term", ["dumb", ""])
async def test_a_dumb_terminal_gets_plain_lines(terminal: OpenTerminal, term: str) -> None:
    ada = await terminal("0", "--name", "ada", env={"TERM": term})
    await ada.shows("listens on")
    await ada.answers("/list", "room")
    assert b"\x1b" not in ada.raw
    await ada.key("c-d")
    assert await ada.ended() == 0, ada.text[-600:]


async def test_a_narrower_window_keeps_one_copy_of_the_line(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    line = " ".join(f"word{number}" for number in range(12, 21))
    await ada.type(line)
    await ada.prompts(f"room> {line[:60]}")
    above = [row for row in ada.all_lines if "is here" in row]
    for columns in (60, 33, 20):
        await ada.quiet(0.4)  # what was drawn shortly before is not erased
        ada.resize(columns, 24)
        await ada.until(lambda: "".join(ada.lines).endswith(line[-9:]))
        await ada.type("x")
        await ada.key("backspace")
        await bob.broadcast(f"at {columns}")
        await ada.shows(f"at {columns}")
        await ada.until(lambda: "".join(ada.lines).endswith(f"> {line}"))
    assert "".join(ada.all_lines).count("word12") == 1
    assert "".join(above) in "".join(ada.all_lines)


async def test_a_prompt_that_fills_its_rows_takes_no_line_with_it(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=60)
    await bob.broadcast("the line above")
    await ada.shows("bob: the line above")
    line = "x" * (90 - len("ada to room> "))
    await ada.type(line)
    await ada.until(lambda: "".join(ada.lines).endswith(f"> {line}"))
    await ada.quiet(0.4)
    ada.resize(30, 24)
    await ada.quiet(0.4)
    await bob.broadcast("the next one")
    await ada.until(lambda: said(ada, "bob") == ["the line above", "the next one"], "both lines")
    await ada.until(lambda: "".join(ada.lines).endswith(f"> {line}"))


@pytest.mark.parametrize("seed", range(4))
async def test_a_dragged_edge_loses_no_message(terminal: OpenTerminal, peer: StartPeer, seed: int) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=60)
    line = "typing " + " ".join(f"word{number}" for number in range(30))
    await ada.type(line)
    await ada.until(lambda: "".join(ada.lines).endswith("word29"))
    random = Random(seed)
    drags = 0
    while not drags or ada.told_late > 0.08:  # a size told later than any terminal does proves nothing: drag again
        if drags == 20:
            pytest.skip("this machine is too busy to tell sizes in time")
        drags += 1
        ada.told_late = 0.0
        texts = [f"text-{drags}-{number}" for number in range(7)]
        for number in range(14):
            if number % 2:
                await bob.broadcast(texts[number // 2])
            ada.resize(random.randint(25, 60), 24, told_after=0.2)
            await asyncio.sleep(0.15)  # as a hand drags
        await asyncio.sleep(0.2)  # until the last size is told
    await ada.until(lambda: all(f"bob: {text}" in "".join(ada.all_lines) for text in texts), "all messages")
    await ada.until(lambda: "".join(ada.lines).endswith("word29"))


async def test_a_line_for_a_wider_window_is_not_cut(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=60)
    ada.screen.resize(24, 30)  # ada's program is not told yet
    text = "words up to the end of what is a long row"
    await bob.broadcast(text)
    await ada.until(lambda: text in "".join(row.ljust(30) for row in ada.all_lines), "all of the line")


async def test_a_prompt_in_the_top_row_leaves_no_copy(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=60)
    await ada.line("/clear")
    await ada.until(lambda: ada.lines == ["ada to room>"])
    await ada.type("half a line")
    await ada.quiet(0.4)
    ada.resize(50, 24)
    await ada.quiet(0.4)
    for text in ("one", "two", "three"):
        await bob.broadcast(text)
        await ada.shows(f"bob: {text}")
    await ada.prompts("room> half a line")
    assert said(ada, "bob") == ["one", "two", "three"]
    assert ada.text.count("room>") == 1
