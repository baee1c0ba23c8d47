"""p2pchat with a fault, and p2pchat that does otherwise what it may, as candidates of the conformance kit.

examples/peer.mjs is a bot (faults.py has its faults); these are faults of what a bot leaves out. The process of one is

    python -m tests.conformance.wrong_peers NAME --data DIR --invite INVITE

which imports the package with the fault and is then `p2pchat_conformance.candidate`. `caught_by` is a rule of the kit:
it must fail for WRONG_PEERS and pass for RIGHT_PEERS.
"""

from __future__ import annotations

import runpy
import sys

from tests.mutants.mutant import Mutant, infect

WRONG_PEERS = (
    Mutant("certificates-in-records-unchecked", "anybody has every peer dial any address, as that of a member",
           "a-record-that-its-peer-did-not-sign-is-not-dialled",
           ("return record.guest is None or is_guest(network, record.id, record.guest)", "return True")),
    Mutant("dead-after-ten-seconds", "an idle link to a slow peer ends again and again", "a-dead-link-is-ended",
           ("if silence >= settings.dead_after - SLACK:", "if silence >= settings.ping_after:")),
    Mutant("dead-links-stay", "who lost its network is here for ever", "a-dead-link-is-ended",
           ("if silence >= settings.dead_after - SLACK:", "if False:")),
    Mutant("dials-who-is-not-admitted", "whoever was removed has every peer connect to an address of its choice",
           "who-is-not-admitted-is-not-dialled",
           ("        is_in = self._admission.admits_peer(record.id, member)\n", "        is_in = True\n")),
    Mutant("entries-in-milliseconds", "people see a message of 1970", "times-are-microseconds",
           ("Entry(kind, now, c + at, re, follows,", "Entry(kind, now // 1000, c + at, re, follows,")),
    Mutant("never-pings", "it is taken for dead wherever nobody writes", "a-silent-link-is-pinged",
           ("            self._ctx.send(Ping(), pinged)\n", "")),
    Mutant("shown-before-its-question", "an answer stands before its question", "an-answer-waits-for-its-question",
           ("return [ref for ref in refs if not self._is_released(log, seq, ref)]", "return []")),
    Mutant("shown-before-what-its-writer-saw", "readers see other talks than their writers",
           "an-entry-waits-for-what-its-writer-had-seen",
           ("return [ref for ref in refs if not self._is_released(log, seq, ref)]", "return []")),
    Mutant("records-in-milliseconds", "its new address never counts", "times-are-microseconds",
           ("now = self._ctx.now.utc if former is None", "now = self._ctx.now.utc // 1000 if former is None")),
    Mutant("shown-after-a-moment", "an answer stands before its question", "an-answer-waits-for-its-question",
           ("wait = max(0.0, since + self._ctx.settings.order_wait - self._ctx.now.mono)", "wait = 0.3")),
    Mutant("shown-before-what-is-coming", "an answer stands before its question",
           "what-a-peer-says-that-it-has-is-waited-for",
           ("on_its_way = left > 0 and any(self._is_coming(log, ref) for ref in missing)", "on_its_way = False")),
    Mutant("uncompared-after-statements", "the first words of a newcomer come ten seconds late",
           "statements-begin-a-comparison",
           ("            remote.dropped.clear()\n            self.anti_entropy.begin(remote)\n",
            "            remote.dropped.clear()\n")),
)  # fmt: skip

_TELL = "            self._ctx.send(Peers(told, named, by_others, gone[part], [] if page else can, seen), [link.id])\n"
RIGHT_PEERS = (
    Mutant("links-told-after-a-second", "news of links is joined", "links-are-told-to-others",
           ("wait = max(self._ctx.settings.peers_told_after, ", "wait = max(1.0, ")),
    Mutant("records-in-frames-of-their-own", "one announcement has several frames", "links-are-told-to-others",
           (_TELL, _TELL.replace("told,", "[],") + "            self._ctx.send(Peers(told), [link.id])\n")),
    Mutant("records-in-frames-before", "one announcement has several frames", "its-own-endpoints-are-told",
           (_TELL, "            self._ctx.send(Peers(told), [link.id])\n" + _TELL.replace("told,", "[],"))),
)  # fmt: skip


def main(name: str) -> None:
    infect(next(one for one in (*WRONG_PEERS, *RIGHT_PEERS) if one.name == name))
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    runpy.run_module("p2pchat_conformance.candidate", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
