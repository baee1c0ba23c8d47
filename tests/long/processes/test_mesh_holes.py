"""A mesh with a hole: two peers that cannot reach each other, and a third that reaches both and carries nothing."""

from __future__ import annotations

import json
import time

from tests.deadlines import WAIT
from tests.processes.commands import one_loop
from tests.processes.peers import Cluster
from tests.processes.settings_override import changes

pytestmark = one_loop
GOSSIP = 4.0  # seconds; what a peer has it says at once within 0.3 of it, and otherwise after half of it
SLOW = changes({"gossip_within": GOSSIP, "digest_every": 40.0})


async def test_what_two_write_that_cannot_reach_each_other_goes_by_the_third(quick: Cluster) -> None:
    quick.changes = SLOW
    ada = quick.child("ada", "--no-carry")
    await ada.start(WAIT)
    bob, cyd = (quick.child(name, ada.endpoint, "--no-listen") for name in ("bob", "cyd"))
    for child in (bob, cyd):
        await child.start(WAIT)
        await child.event("joined", WAIT, user="ada")
    for one, other in ((bob, "cyd"), (cyd, "bob")):
        told = await one.event("presence", WAIT, user=other)
        assert (told["status"], told["text"]) == ("unreachable", "ada")
    for one, far in ((bob, cyd), (cyd, bob)):
        took, n = GOSSIP, 0
        while took > GOSSIP / 2:  # on a busy machine some are late
            n, begun = n + 1, time.monotonic()
            assert n < 6, "what two write that cannot reach each other waits for gossip"
            await one.send(f"{one.name} {n}")
            await far.event("message", WAIT, text=f"{one.name} {n}")
            took = time.monotonic() - begun

    code, out = await quick.run("users", "--json", "--data", str(quick.home / "bob"))
    [row] = [row for row in map(json.loads, out.splitlines()) if row["user"] == "cyd"]
    assert (code, row["status"], row["text"]) == (0, "unreachable", "ada")
    code, out, _ = await quick.talk("users", "--data", str(quick.home / "bob"))
    assert code == 0 and b"cyd cannot be reached from here; ada says it can" in out
    words = ("send", "cyd", "just us", "--wait", "delivered", "--timeout", "1", "--data", str(quick.home / "bob"))
    code, _, err = await quick.talk(*words)
    assert code == 3 and b"saved; cyd can get it once linked: cannot be reached from here; ada says it can" in err
    assert cyd.count("message", text="just us") == 0

    assert await cyd.leave() in (0, 3)
    told = await bob.event("presence", WAIT, user="cyd", status="offline")
    cyd = quick.child("cyd", ada.endpoint, "--host", "127.0.0.1")  # now bob can dial it
    await cyd.start(WAIT)
    await cyd.event("message", WAIT, text="just us")
    await bob.event("joined", WAIT, user="cyd")
