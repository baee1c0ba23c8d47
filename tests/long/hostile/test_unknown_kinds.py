"""A member of a later version writes kinds that this version does not know: a message is one line, the rest none.

The texts are what an app with surveys would write (docs/protocol-entries.md, "The kinds").
"""

from __future__ import annotations

import json

from p2pchat.commands.event_text import UNSUPPORTED
from p2pchat.protocol import Entries
from tests.hostile.attacker import NOW, Attacker, LogWriter
from tests.processes.peers import Cluster

QUESTION = "Lunch? pizza or soup"


def poll(pen: LogWriter, c: int = NOW) -> Entries:
    """Return a poll, three votes of which one is taken back, and its end."""
    ref, vote = ([pen.author.peer_id[:32] + pen.log.run, seq] for seq in (1, 4))
    texts = [
        {"k": "survey", "at": c, "b": QUESTION, "options": ["pizza", "soup"]},
        *({"k": "answer", "at": c, "re": ref, "b": {"option": option}} for option in (0, 1, 0)),
        {"k": "delete", "at": c, "re": vote},
        {"k": "end", "at": c, "re": ref},
    ]
    return pen.write(*((c + n, json.dumps(text)) for n, text in enumerate(texts)))


async def test_a_peer_prints_one_line_for_a_message_of_an_unknown_kind(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    eve = Attacker("eve", cluster.network)
    await eve.join(ada.listening["port"])
    pen = eve.pen(eve.identity, eve.room)
    eve.say(poll(pen), pen.say("behind", c=NOW + 100))
    await ada.event("message", text="behind")
    await ada.do(do="history", to="room", ref="history")
    await ada.do(do="search", to="room", words="soup", ref="search")
    history, search = [await ada.event("answer", ref=ref) for ref in ("history", "search")]
    lines = [line for line in ada.lines if line["event"] in ("message", "edited", "deleted", "reaction", "gap")]
    for rows in (lines, history["rows"], await cluster.history("ada")):
        assert [(one["text"], one.get("unsupported")) for one in rows] == [(QUESTION, "survey"), ("behind", None)]
    assert [one["text"] for one in search["rows"]] == [QUESTION]

    code, printed = await cluster.run("history", "--data", str(cluster.home / "ada"))
    assert code == 0 and printed.decode().count("eve: ") == 2
    assert f"eve: {QUESTION} {UNSUPPORTED}\n" in printed.decode()
    await eve.disconnect()
