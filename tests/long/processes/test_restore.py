"""One directory on two machines, over real processes."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from p2pchat.testing import Log, causes, check
from p2pchat.testing.process_mesh import Child
from tests.deadlines import WAIT, within
from tests.processes.peers import Cluster, linked_directly
from tests.processes.settings_override import changes

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT_PAUSES = {  # pauses from [0, 2.5 s): links last 1 s, as counted replacements must
    "redial_first": 2.5, "redial_most": 2.5, "redial_never_reached_most": 2.5,
    "clone_patience": 3.0,  # longer than any pause: the unlinked copy dials within it, and is turned away
    "clone_replacements": 2,
}  # fmt: skip


async def says(child: Child, text: str, *readers: Child) -> None:
    """Have a peer send a text, and wait until these have it."""
    await child.send(text)
    for reader in readers:
        await reader.event("message", text=text)


async def room(cluster: Cluster, *names: str) -> list[str]:
    """Return the texts of the room in the history of these peers, once it is the same at all."""
    async with within(WAIT, "the same history at all"):
        while True:
            all_lines = [await cluster.history(name) for name in names]
            rooms = [[(line["id"], line["text"]) for line in lines if line["kind"] == "room"] for lines in all_lines]
            if all(each == rooms[0] for each in rooms):
                return [text for _, text in rooms[0]]


def judge(cluster: Cluster, *names: str, **explained: set[str]) -> None:
    """Check the logs; `explained` are the causes that the logs of some peers show."""
    logs = [Log.read(cluster.log(name)) for name in names]
    assert [str(fault) for fault in check(logs)] == []
    found: dict[str, set[str]] = {}
    for cause in causes(logs):
        found.setdefault(Path(cause.where.rpartition(":")[0]).stem, set()).add(cause.rule)
    assert found == explained


async def test_one_directory_on_two_machines_is_reported_and_harms_no_other_peer(quick: Cluster) -> None:
    """Run the peer with the middle one of three ids twice: one of the others elects links to it, the other does not.

    Both others and both processes report it, also the process whose links stay.
    """
    quick.changes = changes(SHORT_PAUSES)
    peers = [await quick.add(name) for name in ("ada", "bob", "cyd")]
    ada, bob, cyd = sorted(peers, key=lambda child: str(child.listening["user_id"]))
    await says(bob, "one of me", ada, cyd)
    await linked_directly(ada, cyd)
    await bob.leave()
    shutil.copytree(quick.home / bob.name, quick.home / "copy")

    words = {bob.name: (), "copy": ("--name", bob.name)}
    both = [quick.child(home, *words[home]) for home in words]
    await asyncio.gather(*(one.start() for one in both))
    talk = asyncio.create_task(keep_talking(ada, cyd))
    all_of_them = (ada, cyd, *both)
    told = await asyncio.gather(*(one.event("warning", code="two_processes") for one in all_of_them))
    names = [f"the key of '{bob.name}'"] * 2 + ["this peer's key"] * 2
    for line, name in zip(told, names, strict=True):
        by = [f", says the user '{one.name}'" for one in (ada, cyd)] if name == "this peer's key" else []
        assert line["text"] in [f"two processes seem to use {name}{one}: stop one of them" for one in ("", *by)]
        assert line["about"] == bob.listening["user_id"]
    await asyncio.gather(says(both[0], "I am the first"), says(both[1], "I am the second"))
    talk.cancel()
    spoken = await asyncio.gather(talk, return_exceptions=True)
    assert isinstance(spoken[0], asyncio.CancelledError), spoken
    undisturbed = {ada.name, cyd.name}
    lines = [*ada.lines, *cyd.lines]
    assert [line for line in lines if line["event"] == "left" and line["user"] in undisturbed] == []

    for one in both:
        await one.leave()
    # Each of the two runs alone again: it sends what it wrote, and gets what the other wrote.
    for home, mine in zip(words, ("I am the first", "I am the second"), strict=True):
        one = quick.child(home, *words[home])
        await one.start()
        for other in (ada, cyd):
            await other.event("message", text=mine)
        shown = await room(quick, ada.name, cyd.name, home)
        await one.leave()
    assert {"I am the first", "I am the second"} <= {*shown}
    copied = {name: {"copied"} for name in ("ada", "bob", "cyd", "copy")}
    judge(quick, *copied, **copied)


async def keep_talking(ada: Child, cyd: Child) -> None:
    """Let two unaffected peers write on, and check that each line arrives."""
    for number in range(1000):
        await says(ada, f"undisturbed {number}", cyd)
        await asyncio.sleep(0.2)  # the pace of the conversation
