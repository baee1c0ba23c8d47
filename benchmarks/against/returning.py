"""A backlog: messages are written one by one while the receiver is offline, and fetched when it returns.

The clock starts when the receiver has opened its store or connected to its server, and stops when its program has taken
everything and the writer's side knows it. Memory is the peak of each process meanwhile, minus its memory when both were
idle before anything was written.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.against import systems as s
from benchmarks.against.contest import PAIR, Contest, ready
from benchmarks.against.found import Figures, Found, figures_of
from benchmarks.against.usage import cpu_of
from benchmarks.against.works import Say, Size
from benchmarks.workers import WorkFailed

COMPARED = (s.MANY, s.JETSTREAM, s.REDIS)  # a fsyncing server is read as fast, and writing to it takes minutes


def backlog(home: Path, size: Size, say: Say) -> Found:
    """Let every receiver leave and return several times, in turn."""
    left_out: list[str] = []
    with ready(size.chosen(COMPARED), home, PAIR, left_out, say) as contests:
        found = figures_of([contest.system for contest in contests])
        for contest in contests:
            contest.round(1)
        idle = [contest.resident() for contest in contests]
        for number in range(size.rounds):
            for contest, figures, before in zip(contests, found, idle, strict=True):
                say(f"round {number + 1} of {size.rounds}, {contest.system.name} writes for somebody who is away")
                _play(contest, figures, size.backlog, before)
    words = f"a backlog of {size.backlog:,}, written one by one, fetched on return"
    return Found("backlog", words, "/s", found, left_out)


def _play(contest: Contest, figures: Figures, messages: int, idle: list[int]) -> None:
    taker, giver = contest.workers
    taker.put({"do": "leave"})
    taker.get()
    giver.put({"do": "keep", "messages": messages})
    giver.get()
    contest.messages += messages
    contest.forget_peaks()
    worked = [cpu_of(pid) for pid in contest.pids]
    taker.put({"do": "back"})
    back = taker.get()
    dial = [[contest.told[1]]]
    taker.put({"do": "meet", "dial": dial, "links": [[1]]})
    taker.get()
    taker.put({"do": "round", "taken": contest.messages})
    giver.put({"do": "kept_is_taken"})
    took, knows = taker.get(), giver.get()
    if took["taken"] != [contest.messages]:
        raise WorkFailed(f"{contest.system.name}: {took['taken'][0]} taken of {contest.messages}")
    figures.values.append(messages / (max(took["at"], knows["at"]) - back["begun"]))
    spent = sum(cpu_of(pid) for pid in contest.pids) - sum(worked)
    figures.more["CPU us/message"] = 1e6 * spent / messages
    grown = [max(0, peak - before) / 1024 for peak, before in zip(contest.peaks(), idle, strict=True)]
    for words, mib in zip(("receiver: + MiB", "writer: + MiB", "server: + MiB"), grown, strict=False):
        figures.more[words] = max(mib, figures.more.get(words, 0.0))
