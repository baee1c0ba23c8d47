"""What commands answer people, when others have chosen the worst names and texts they can."""

from __future__ import annotations

import re

import pytest

from p2pchat.commands.render import quote_name, quote_speaker
from p2pchat.safe_text import CONTINUED
from p2pchat.testing import mesh
from tests.cli.test_no_disguise import DONE, SAID, lines_of
from tests.commands.shown import Shown, session

NAMES = (
    "12:00 ada", "-- ada left", "ada: x", "ada -> me", "* ada", "p2pchat", 'a"b', "ada (you)", "x\n-- ada left",
    "\x1b[2J", "\u202eada", "ada\u200b", "is here", "'", '"', "room ", "ada#K7QF2M3P", "\u2028-- x", "/quit",
    "\r12:00 ada: x",
)  # fmt: skip
NUMBER = re.compile(r"\d+ (?=\d\d:\d\d )")  # before the lines of a list
OURS = re.compile(r"-- .+|   \S.*")  # a line of the program, or what belongs to the one above


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_no_answer_passes_for_something_else(shown: Shown, capsys: pytest.CaptureFixture[str], name: str) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await bob.send("ada", f"{name}\n12:00 ada: I am ada\x1b[0m")
        await bob.send("ada", name, action=True)
        bob.set_presence("idle", name)
        await net.settle()
        ada.people.learn([(bob.me.key, name)])  # as a peer of another make may be called
        took = session(ada, shown, as_json=False, interactive=True)
        who = bob.me.id
        commands = ["who", "list", f"whois {who}", f"go {who}", "reply hi", "history", "search ada", "receipts"]
        commands += ["set", f"ignore {who}", f"unignore {who}", f"allow {who}", f"forget {who}"]
        await took.execute([f"/{command}".encode() for command in commands])
        lines = lines_of(shown.text.rstrip("\n"))
        assert len(lines) > len(commands)
        label = ada.people.user(bob.me.key).label
        shown_as = {"ada", quote_name(label), quote_speaker(label)}
        for line in lines:
            listed = NUMBER.sub("", line, count=1)
            said = SAID.fullmatch(listed) or DONE.fullmatch(listed)
            assert (
                (said is not None and said["sender"] in shown_as) or OURS.fullmatch(line) or line.startswith(CONTINUED)
            )
        assert all(line.startswith("p2pchat: ") for line in lines_of(capsys.readouterr().err.rstrip("\n")) if line)
