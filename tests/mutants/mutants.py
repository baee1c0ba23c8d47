"""Twelve one-line mutants of the core, each a mistake that somebody might make, and how they are hunted.

A mutant is the package with one line changed. It is put into a copy and plays random histories, like those of
tests/core/test_histories.py, until a promise is broken: the simulation is worth something as long as all of them are
caught, each by what is meant for it. To see one fall: `python -m tests.mutants.mutants "skip the head"`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "p2pchat"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed line: in `file` (below p2pchat/core) the only `old` becomes `new`.

    `why` says what is wrong with it, `sign` is what must be said of it, within so many `seeds`.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    sign: str
    seeds: int = 60


MUTANTS = (
    Mutant(
        "acknowledge before commit", "sync/sync.py",
        "self._in_flight[ticket] = InFlight(change, step)",
        "self._in_flight[ticket] = InFlight(change, step); self._apply(change); self._acknowledge(step)",
        "a crash loses what somebody believes delivered", ": uncommitted: ",
    ),
    Mutant(
        "push before commit", "sync/sync.py",
        "self._in_flight[ticket] = InFlight(change, step)",
        "self._in_flight[ticket] = InFlight(change, step); [self.serve.push(self.conversations.by_id[b.log[0]], log, b)"
        " for b in change.batches if (log := self.conversations.by_id[b.log[0]].log(*b.log[1:])) and log.own]",
        "others have what its writer may lose, and then writes again under the same number", ": uncommitted: ",
    ),
    Mutant(
        "reuse a number after restart", "node.py",
        "self.run: RunId = draw(8).hex()",
        "self.run: RunId = peer[:16]",
        "a restored backup makes two different entries with one number", "this log was begun before",  # storage refuses
    ),
    Mutant(
        "skip the head", "sync/spans.py",
        "return verify(self.log.id.user, bytes.fromhex(piece.frame.head), message)",
        "return True",
        "whoever relays a log can write in another's name", ": invented: ",
    ),
    Mutant(
        "skip the chain", "sync/intake.py",
        "if chain != span.chain:",
        "if False:",
        "an author that tells two peers two stories goes unnoticed", ": proof: ",
    ),
    Mutant(
        "forget marks at link-up", "sync/compare.py",
        "self._insist(side, self._ctx.settings.gossip_within)",
        "pass",
        "who was away learns what was missed only by chance", ": compare: ",
    ),
    Mutant(
        "no anti-entropy", "node.py",
        "self.sync.random_digest()",
        "pass",
        "what was overlooked once is never found", ": anti-entropy: ",
    ),
    Mutant(
        "equal digest acknowledges nothing", "sync/compare.py",
        "for user in sorted(self._shelf.hosted.keys() & conversation.writers.keys()):",
        "for user in ():",
        "an acknowledgement that was lost stays lost", ": receipt: ",
    ),
    Mutant(
        "go without n", "mesh/election.py",
        "(returned or (standing.run == run and standing.n > n))",
        "returned",
        "a late `go` wins, and both links of two that cross are closed", ": replaced: ",
    ),
    Mutant(
        "want closed by any have", "sync/compare.py",
        "if frame.end is not None:",
        "for frame.end in list(side.wants):",
        "what is being answered is asked for again, elsewhere", ": want: ",
    ),
    Mutant(
        "a file needs no head", "sync/intake.py",
        "if span.is_signed(pieces[count - 1]):",
        "if span.is_signed(pieces[count - 1]) or not hasattr(span.source, 'side'):",
        "whoever passes a file on can write in another's name", ": invented: ",
    ),
    Mutant(
        "imported before commit", "sync/carrying.py",
        "waits = load.undecided or load.commits or load.ticket in self._shelf.step.loads",
        "waits = load.undecided",
        "a file is thrown away, and a crash takes what it brought", ": imported: ",
    ),
)  # fmt: skip


def breed(mutant: Mutant, directory: Path) -> None:
    """Put the mutant into a directory, as package p2pchat. ValueError when its line is not there exactly once."""
    shutil.copytree(PACKAGE, directory / "p2pchat", ignore=shutil.ignore_patterns("__pycache__"))
    file = directory / "p2pchat" / "core" / mutant.file
    text = file.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its line stands {text.count(mutant.old)} times in core/{mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def hunt(mutant: Mutant) -> str:
    """Play histories with the mutant until a promise is broken; return what was said about it, "" if never."""
    with tempfile.TemporaryDirectory() as name:
        breed(mutant, Path(name))
        command = [sys.executable, "-m", "p2pchat.testing", "--quiet", "--count", str(mutant.seeds)]
        command += ["--until", mutant.sign]
        environment = os.environ | {"PYTHONPATH": name, "PYTHONUTF8": "1"}
        done = subprocess.run(command, cwd=name, env=environment, capture_output=True, encoding="utf-8", check=False)
        return done.stdout + done.stderr


if __name__ == "__main__":
    for chosen in MUTANTS:
        if chosen.name in sys.argv[1:] or not sys.argv[1:]:
            print(f"-- {chosen.name}: {chosen.why}\n{hunt(chosen)}")
