"""The peers that are known here: does any of them answer? One is enough, it tells of all others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from p2pchat import KnownAddress, Probed, probe
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning
from p2pchat.commands.format import shown_names

MOST_ASKED = 8  # of those reached last
PROBE_WITHIN = 3.0  # seconds


async def peers(known: Sequence[KnownAddress], data: str) -> Iterator[Finding]:
    """Ask those reached last, each at every address it has; `known` stands in that order."""
    labels = list(dict.fromkeys(one.user.label for one in known))[:MOST_ASKED]
    asked = [one for one in known if one.user.label in labels]
    found = await asyncio.gather(*(probe(one.endpoint, data=data, timeout=PROBE_WITHIN) for one in asked))
    best: dict[str, Probed] = {}
    for one, answer in zip(asked, found, strict=True):
        if one.user.label not in best or answer.verdict == "reached":
            best[one.user.label] = answer
    return judged({label: answer for label, answer in best.items() if answer.verdict != "self"})


def judged(best: Mapping[str, Probed]) -> Iterator[Finding]:
    """Say who answers, by label; nothing when nobody is known."""
    here = [label for label, answer in best.items() if answer.verdict == "reached"]
    if here:
        yield ok("peers", f"{len(here)} of {len(best)} known here answer: {shown_names(here)}")
    elif best:
        first = next(iter(best.values()))
        text = f"nobody known here answers: {shown_names(list(best))}"
        yield warning("peers", text, f"start one of them, or see why: p2pchat doctor {first.endpoint}")
