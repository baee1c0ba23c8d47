"""The session at the beginning of docs/protocol.md, recorded between two nodes with the keys of the test vectors.

Nonces, runs and the clock are fixed, so every frame is the same each time. `python -m tests.docs.test_first_minute`
prints the frames whole; `--short` as the page shows them; `--write` writes them into the page, where their number and
senders are as before.
"""

from __future__ import annotations

import re
import sys

from p2pchat.core import effects as out
from p2pchat.core.durable_changes import Change
from p2pchat.core.inputs import Connect, ConversationOpened, ListeningAt, Stop
from p2pchat.core.members.statement import parse_statement, room_id
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Frame, encode
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core import scripted_nodes
from tests.core.scripted_nodes import Far, World
from tests.docs.pages import ROOT
from tests.vectors.material import FOUNDER, MEMBER, SEEDS, K, N
from tests.vectors.members import ADDED

IDENTITIES = {name: Identity.from_seed(SEEDS[name]) for name in ("ada", "bob")}
ADA, BOB = (IDENTITIES[name].peer_id for name in ("ada", "bob"))
MEMBERS = {"bob": Identity.from_seed(SEEDS["founder"]), "ada": Identity.from_seed(SEEDS["member"])}
ROOM = room_id(N.hex())
DM = dm_id(ROOM, ADA, BOB)
SHORT = {ADA: "ADA", BOB: "BOB", FOUNDER: "F", MEMBER: "M", ROOM: "ROOM", DM: "DM", "0" * 64: "00…", "f" * 64: "ff…"}


class Peer(scripted_nodes.Peer):
    """A node with a key of the test vectors, whose frames are recorded."""

    def record(self, frame: Frame) -> None:
        assert isinstance(self.world, Recorder)
        self.world.frames.append((self.name, encode(frame)[4:].decode()))

    def _send(self, frame: Frame, other: Far | tuple[scripted_nodes.Peer, int] | None) -> None:
        self.record(frame)
        super()._send(frame, other)

    def _one(self, effect: out.Effect) -> None:
        if isinstance(effect, out.Close) and effect.bye is not None:
            self.record(effect.bye)
        super()._one(effect)

    def _line(self, effect: out.Effect) -> str:
        return ""


class Recorder(World):
    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[str, str]] = []  # sender, JSON

    def recorded(self, name: str, port: int) -> Peer:
        member, storage = MEMBERS[name], TemporaryStorage()
        storage.commit([Change(statements=[parse_statement(N.hex(), ADDED[0], bytes.fromhex(ADDED[1]))])])
        network = NetworkCredentials(N.hex(), K.hex(), FOUNDER, member=member.peer_id, sign=member.sign)
        peer = Peer(self, name, storage, Settings(), IDENTITIES[name], network)
        self.peers.append(peer)
        peer.put(ListeningAt((f"192.0.2.7:{port}",)))
        return peer


def first_minute() -> list[tuple[str, str]]:
    """Return the frames of the session: sender and JSON."""
    world = Recorder()
    bob = world.recorded("bob", 8081)
    bob.say("anyone here?", to=ROOM)
    world.pass_time(60)
    ada = world.recorded("ada", 8080)
    ada.put(Connect("192.0.2.7:1", BOB))
    world.pass_time(2)
    ada.say("hello bob", to=ROOM)
    world.pass_time(2)
    ada.put(ConversationOpened(dm_naming(ADA, BOB)))
    ada.say("just us", to=DM)
    world.pass_time(2)
    bob.choose(f"contact:{ADA}")
    bob.read()
    world.pass_time(1)
    ada.put(Stop())
    world.settle()
    return world.frames


def shortened(frame: str) -> str:
    """Return a frame as the page shows it: names for ids, and six digits of all other long hex values."""
    return re.sub(r"[0-9a-f]{32,}", lambda found: SHORT.get(found[0], found[0][:6] + "…"), frame)


SHOWN = re.compile(r"^(ada|bob)  (\{.*\})$(?=\n      \S)", re.MULTILINE)  # each with a line of comment
PAGE = ROOT / "docs" / "protocol.md"


def write_page() -> None:
    frames = iter(first_minute())
    text = SHOWN.sub(lambda found: f"{found[1]}  {shortened(next(frames)[1])}", PAGE.read_text("utf-8"))
    PAGE.write_text(text, "utf-8", newline="\n")


def test_the_page_shows_the_session_as_recorded() -> None:
    section = PAGE.read_text("utf-8").partition("\n## The first minute on the wire\n")[2].partition("\n## ")[0]
    assert SHOWN.findall(section) == [(name, shortened(frame)) for name, frame in first_minute()]
    assert f"ADA = `{ADA}`" in section and f"BOB = `{BOB}`" in section
    assert f"F = `{FOUNDER}`" in section and f"M = `{MEMBER}`" in section
    assert f"ROOM = `{ROOM}`" in section and f"DM = `{DM}`" in section


if __name__ == "__main__":
    if "--write" in sys.argv:
        write_page()
        sys.exit()
    for name, frame in first_minute():
        print(f"{name}  {shortened(frame) if '--short' in sys.argv else frame}")
