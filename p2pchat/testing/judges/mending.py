"""Edits, deletions and reactions in simulations: who does them to what, and what must be shown of it then.

The judge works out anew what is to be shown, from the entries released on one disk and by the words of
docs/protocol.md: at each moment every storage must show that. So, once all is at rest and all hold the same, all show
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.log import Entry, LogId, Ref, decode_entry, ref_key
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Shown
from p2pchat.testing.checker import Fault
from p2pchat.testing.invariants.protocol import log_name

if TYPE_CHECKING:
    from p2pchat.testing.simulation.peer import SimPeer
    from p2pchat.testing.simulation.simulation import Simulation

OFTEN = 0.4  # of the steps in which somebody writes to the room
LOOKED_BACK = 30  # entries; what is older is left alone
REACTIONS = ("👍", "🎉", "no", "")
MOST_CHARACTERS = 8  # of a reaction

Named = tuple[ConversationId, Ref]


def mend_something(sim: Simulation, number: int) -> None:
    """Now and then somebody edits, deletes or reacts; drawn from a chance of its own: all else stays as it is drawn."""
    chance = Random(f"{sim.seed} mends {number}")
    honest = [peer for peer in sim.up if not peer.liar]
    if not honest or chance.random() > OFTEN:
        return
    peer = chance.choice(honest)
    recent = peer.disk.storage.history(None, limit=LOOKED_BACK)
    texts = [one for one in recent if decode_entry(one.raw).k == "text"]
    own = [one for one in texts if one.log.user == peer.user]
    for _ in range(chance.choice((1, 1, 2, 4))):
        if own and chance.random() < 0.6:
            kind = chance.choice(("edit", "edit", "delete"))
            body = f"{peer.name} mends {chance.random()}" if kind == "edit" else ""
            peer.mend(kind, body, *_naming(chance.choice(own[-4:])))
        elif texts:
            peer.mend("reaction", chance.choice(REACTIONS), *_naming(chance.choice(texts[-4:])))
        if not peer.up:
            return


def _naming(one: Shown) -> Named:
    return one.log.conversation, Ref(ref_key(one.log.user, one.log.run), one.seq)


class _Did(NamedTuple):
    """One entry that may change how another is shown; the greatest counts."""

    c: int
    user: UserId
    run: str
    seq: int
    kind: str
    body: str

    @property
    def entry(self) -> tuple[UserId, str, int]:
        return self.user, self.run, self.seq


def view_faults(peer: SimPeer) -> Iterator[Fault]:
    """What this peer shows of each message must follow from what was released on its disk, and from nothing else."""
    released = [(one, decode_entry(one.raw)) for one in peer.disk.storage.places(0, 1 << 30)]
    done: dict[Named, list[_Did]] = {}
    for one, entry in released:
        if entry.re is not None and (did := _did(one.log, one.seq, entry)) is not None:
            done.setdefault((one.log.conversation, entry.re), []).append(did)
    for one, _ in released:
        expected = _expected(one.log.user, done.get(_naming(one), []))
        if _shown(one) != expected:
            text = f"shows {_shown(one)} of {log_name(one.log)} {one.seq}, which is {expected}"
            yield Fault("view", text, peer.name)


def _did(log: LogId, seq: int, entry: Entry) -> _Did | None:
    said = entry.b if isinstance(entry.b, str) else ""
    well = {"edit": isinstance(entry.b, str), "delete": entry.b is None, "reaction": len(said) <= MOST_CHARACTERS}
    return _Did(entry.c, log.user, log.run, seq, entry.k, said) if well.get(entry.k) else None


def _expected(writer: UserId, done: list[_Did]) -> tuple[object, list[object]]:
    """Return which edit or deletion counts, and which reactions, the oldest first."""
    own = max((did for did in done if did.kind != "reaction" and did.user == writer), default=None)
    by_user: dict[UserId, _Did] = {}
    for did in sorted(did for did in done if did.kind == "reaction"):
        by_user[did.user] = did
    return own and own.entry, [did.entry for did in sorted(by_user.values()) if did.body]


def _shown(one: Shown) -> tuple[object, list[object]]:
    if one.mended is None:
        return None, []
    newest = one.mended.newest
    reactions: list[object] = [(each.log.user, each.log.run, each.seq) for each in one.mended.reactions]
    return newest and (newest.log.user, newest.log.run, newest.seq), reactions
