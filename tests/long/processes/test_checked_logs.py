"""`p2pchat check --complete` on logs as people keep them: of a network that expelled somebody, and two of one peer."""

from __future__ import annotations

import json
from pathlib import Path

from p2pchat.testing.eventlog_checker import causes, check
from p2pchat.testing.eventlog_parser import Log
from tests.processes.commands import one_loop
from tests.processes.logins import Login, met

pytestmark = one_loop


async def test_what_was_written_after_an_expulsion_is_not_lost_and_two_logs_of_one_peer_are_one(
    logins: list[Login], tmp_path: Path
) -> None:
    first, second, third = logins
    logs = {name: tmp_path / f"{name}.jsonl" for name in ("ada", "bob", "eve")}
    ada = await first.peer("ada", "--log", str(logs["ada"]))
    bob = await second.peer("bob", "--log", str(logs["bob"]), invite=await first.invite(ada))
    eve = await third.peer("eve", "--log", str(logs["eve"]), invite=await first.invite(ada))
    await met(ada, bob, eve)
    for one in (ada, bob, eve):
        await one.send(f"I am {one.name}")
    sent = await ada.send("to bob alone", to="bob")
    await bob.event("message", id=sent["id"])
    await bob.do(do="read", id=sent["id"])
    await ada.do(do="react", id=sent["id"], reaction="+1")
    await ada.event("read", id=sent["id"])
    await eve.event("message", text="I am bob")
    await first.decide("ada", "expel", "eve", "--yes")
    await bob.event("member", change="expelled")
    await eve.event("member", change="expelled")
    await eve.send("written after it")
    await eve.send("written after it, too", to="bob")
    await ada.send("not for eve")
    await bob.event("message", text="not for eve")
    await bob.send("nor this")
    await ada.event("message", text="nor this")
    for one in (eve, bob, ada):
        await one.leave()
    both = [Log.read(path) for path in logs.values()]
    assert [*causes(both), *check(both, complete=True)] == []
    printed = tmp_path / "ada.txt"
    printed.write_text("".join(json.dumps(line) + "\n" for line in ada.lines))
    assert [*causes(twice := [*both, Log.read(printed)]), *check(twice, complete=True)] == []
