"""Databases that were restored from old copies, lost, or copied, over real processes and with ordinary file commands.

Entries that others hold come back by themselves, new messages reach everyone, and other peers are not affected.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from p2pchat.testing import Log, causes, check
from p2pchat.testing.process_mesh import Child, Line
from tests.processes.peers import Cluster
from tests.processes.settings_override import changes

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]

ARRIVES = 60.0  # seconds
SHORT_PAUSES = {  # pauses from [0, 2.5 s): links last 1 s, as counted replacements must
    "redial_first": 2.5, "redial_most": 2.5, "redial_never_reached_most": 2.5,
    "clone_patience": 3.0,  # longer than any pause: the unlinked copy dials within it, and is turned away
    "clone_replacements": 2,
}  # fmt: skip
NOTICED = 60.0  # seconds; about 10 are needed
Identities = list[tuple[str, str, str, str]]  # id, text, sender, sent_at: the same on every peer


async def meet(*children: Child) -> None:
    for one in children:
        for other in children:
            if one is not other:
                await one.event("joined", user=other.name)


async def says(child: Child, to: str, *texts: str) -> None:
    """Have a peer send these texts; they are accepted when this returns."""
    for text in texts:
        await child.do(do="send", to=to, text=text)
    await child.wait(lambda line: line["event"] == "sent" and line["text"] in texts, count=len(texts))


async def hears(child: Child, *texts: str) -> list[Line]:
    return await child.wait(lambda line: line["event"] == "message" and line["text"] in texts, count=len(texts))


async def history(cluster: Cluster, name: str, to: str = "room") -> Identities:
    lines = [line for line in await cluster.history(name) if to in ("", line["conversation"])]
    return [(line["id"], line["text"], line["sender"], line["sent_at"]) for line in lines]


async def alike(cluster: Cluster, *names: str) -> Identities:
    """Wait until these peers have the same history of the room; return it."""
    deadline = time.monotonic() + ARRIVES
    while True:
        one, *others = [await history(cluster, name) for name in names]
        if all(other == one for other in others):
            return one
        assert time.monotonic() < deadline, [len(one), *map(len, others)]


def warnings(*children: Child) -> list[str]:
    """Return the codes of their warnings, but for those of a busy disk."""
    codes = [line["code"] for child in children for line in child.lines if line["event"] == "warning"]
    return [code for code in codes if code not in ("storage_slow", "storage_works")]


def judge(cluster: Cluster, *names: str, **explained: set[str]) -> None:
    """Check the logs; `explained` are the causes that the logs of some peers show."""
    logs = [Log.read(cluster.log(name)) for name in names]
    assert [str(fault) for fault in check(logs)] == []
    found: dict[str, set[str]] = {}
    for cause in causes(logs):
        found.setdefault(Path(cause.where.rpartition(":")[0]).stem, set()).add(cause.rule)
    assert found == explained


def put_back(cluster: Cluster, name: str, copy: Path) -> None:
    shutil.rmtree(cluster.home / name)
    shutil.copytree(copy, cluster.home / name)


async def test_a_restored_old_copy_catches_up(quick: Cluster, tmp_path: Path) -> None:
    ada = quick.child("ada")
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    cyd = quick.child("cyd", ada.endpoint)
    await asyncio.gather(bob.start(), cyd.start())
    await meet(ada, bob, cyd)
    port = bob.listening["port"]
    await says(bob, "room", "early")
    await asyncio.gather(hears(ada, "early"), hears(cyd, "early"))
    assert await bob.leave() == 0
    shutil.copytree(quick.home / "bob", tmp_path / "copy")

    bob = quick.child("bob", port=port)
    await bob.start()
    await meet(bob, cyd)
    await says(bob, "room", "later 1", "later 2")
    await says(bob, "ada", "later, to you alone")
    await asyncio.gather(hears(ada, "later 1", "later 2", "later, to you alone"), hears(cyd, "later 1", "later 2"))
    await says(ada, "room", "meanwhile")
    await hears(bob, "meanwhile")
    await ada.event("delivered", user="bob")
    await cyd.leave()
    await ada.leave()
    await says(bob, "room", "nobody else ever had this")
    bob.kill()
    await bob.ended()

    put_back(quick, "bob", tmp_path / "copy")
    bob = quick.child("bob", port=port)
    await bob.start()
    await says(bob, "room", "written at once, knowing nothing of later")
    ada, cyd = quick.child("ada", port=ada.listening["port"]), quick.child("cyd", bob.endpoint)
    await asyncio.gather(ada.start(), cyd.start())
    await meet(ada, bob, cyd)
    back = await bob.wait(lambda line: line["event"] in ("sent", "message"), count=5)
    assert {line["text"] for line in back} == {
        "written at once, knowing nothing of later", "later 1", "later 2", "later, to you alone", "meanwhile",
    }  # fmt: skip
    await says(bob, "room", "and now I know")
    for other in (ada, cyd):
        new = await hears(other, "written at once, knowing nothing of later", "and now I know")
        assert [line["text"] for line in new] == ["written at once, knowing nothing of later", "and now I know"]
    await bob.wait(lambda line: line["event"] == "delivered" and line["user"] == "ada", count=2)

    shown = await alike(quick, "ada", "bob", "cyd")
    assert [text for _, text, sender, _ in shown if sender == "bob"] == [
        "early", "later 1", "later 2", "written at once, knowing nothing of later", "and now I know",
    ]  # fmt: skip
    assert await history(quick, "bob", "ada") == await history(quick, "ada", "bob") != []
    assert warnings(ada, bob, cyd) == []
    judge(quick, "ada", "bob", "cyd", bob={"restored"})
    code, said = await quick.run("check", *(str(quick.log(name)) for name in ("ada", "bob", "cyd")))
    assert code == 0 and b" restored: starts on an older disk, without " in said and b": no faults" in said


async def test_a_lost_database_comes_back_from_others(quick: Cluster) -> None:
    ada = quick.child("ada")
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    await meet(ada, bob)
    await says(bob, "room", *(f"bob {number}" for number in range(30)))
    await says(ada, "room", *(f"ada {number}" for number in range(30)))
    await says(bob, "ada", "only you")
    await asyncio.gather(hears(ada, "bob 29", "only you"), hears(bob, "ada 29"))
    await bob.event("delivered", user="ada")
    before = [await history(quick, "bob"), await history(quick, "bob", "ada")]
    bob.kill()
    await bob.ended()
    for file in (quick.home / "bob").glob("history.db*"):
        file.unlink()

    bob = quick.child("bob", ada.endpoint)  # the address book is lost too
    await bob.start()
    await bob.wait(lambda line: line["event"] in ("sent", "message"), count=61)
    assert [await history(quick, "bob"), await history(quick, "bob", "ada")] == before
    await says(bob, "room", "as if nothing had been")
    await hears(ada, "as if nothing had been")
    await alike(quick, "ada", "bob")
    assert warnings(ada, bob) == []
    judge(quick, "ada", "bob", bob={"restored"})


async def test_a_backup_replaces_the_lost_original(quick: Cluster, tmp_path: Path) -> None:
    ada = quick.child("ada")
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    await meet(ada, bob)
    await says(bob, "room", "before the backup")
    await hears(ada, "before the backup")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", "backup", str(tmp_path / "safe"), "--data", str(quick.home / "bob")),
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "P2PCHAT_HOME": str(quick.home)},
    )
    assert await process.wait() == 0
    await says(bob, "room", "after the backup")
    await says(ada, "bob", "burning?")
    await asyncio.gather(hears(ada, "after the backup"), hears(bob, "burning?"))
    bob.kill()
    await bob.ended()
    shutil.rmtree(quick.home / "bob")
    await says(ada, "bob", "are you all right?")

    shutil.copytree(tmp_path / "safe", quick.home / "bob")
    again = quick.child("bob")  # at another port, without an endpoint: it remembers
    await again.start()
    assert again.listening["user_id"] == bob.listening["user_id"]
    await hears(again, "burning?", "are you all right?")
    await again.event("sent", text="after the backup")
    await says(again, "room", "all is here")
    await hears(ada, "all is here")
    assert [text for _, text, _, _ in await alike(quick, "ada", "bob")] == [
        "before the backup", "after the backup", "all is here",
    ]  # fmt: skip
    assert warnings(ada, again) == []
    judge(quick, "ada", "bob", bob={"restored"})


async def test_one_directory_on_two_machines_is_reported_and_harms_no_other_peer(quick: Cluster) -> None:
    """Run the peer with the middle one of three ids twice: one of the others elects links to it, the other does not.

    Both others and both processes report it, also the process whose links stay.
    """
    paused = changes(SHORT_PAUSES)
    first = quick.child("ada", changes=paused)
    await first.start()
    others = [quick.child(name, first.endpoint, changes=paused) for name in ("bob", "cyd")]
    await asyncio.gather(*(other.start() for other in others))
    await meet(first, *others)
    ada, bob, cyd = sorted((first, *others), key=lambda child: str(child.listening["user_id"]))
    await says(bob, "room", "one of me")
    await asyncio.gather(hears(ada, "one of me"), hears(cyd, "one of me"))
    await bob.leave()
    shutil.copytree(quick.home / bob.name, quick.home / "copy")

    words = {bob.name: (), "copy": ("--name", bob.name)}
    both = [quick.child(home, *words[home], changes=paused) for home in words]
    await asyncio.gather(*(one.start() for one in both))
    talk = asyncio.create_task(keep_talking(ada, cyd))
    all_of_them = (ada, cyd, *both)
    told = await asyncio.gather(*(one.event("warning", NOTICED, code="two_processes") for one in all_of_them))
    names = [f"the key of '{bob.name}'"] * 2 + ["this peer's key"] * 2
    for line, name in zip(told, names, strict=True):
        assert line["text"] == f"two processes seem to use {name}: stop one of them"
        assert line["about"] == bob.listening["user_id"]
    await asyncio.gather(says(both[0], "room", "I am the first"), says(both[1], "room", "I am the second"))
    talk.cancel()
    spoken = await asyncio.gather(talk, return_exceptions=True)
    assert isinstance(spoken[0], asyncio.CancelledError), spoken
    assert ada.count("left", user=cyd.name) == cyd.count("left", user=ada.name) == 0

    for one in both:
        await one.leave()
    # Each of the two runs alone again: it sends what it wrote, and gets what the other wrote.
    for home, mine in zip(words, ("I am the first", "I am the second"), strict=True):
        one = quick.child(home, *words[home], changes=paused)
        await one.start()
        await asyncio.gather(hears(ada, mine), hears(cyd, mine))
        shown = [text for _, text, _, _ in await alike(quick, ada.name, cyd.name, home)]
        await one.leave()
    assert {"I am the first", "I am the second"} <= {*shown}
    copied = {name: {"copied"} for name in ("ada", "bob", "cyd", "copy")}
    judge(quick, *copied, **copied)


async def keep_talking(ada: Child, cyd: Child) -> None:
    """Let two unaffected peers write on, and check that each line arrives."""
    for number in range(1000):
        await says(ada, "room", f"undisturbed {number}")
        await cyd.event("message", text=f"undisturbed {number}")
        await asyncio.sleep(0.2)  # the pace of the conversation
