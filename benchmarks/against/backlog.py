"""A backlog: messages written one by one while the receiver is offline, and fetched when it returns.

The clock starts when the receiver has opened its store or connected to its server. It stops when the receiver's program
has taken everything and the writer's side has the acknowledgements. Memory is the peak of each process in this time,
minus its memory when both were idle before the first message.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.against import systems as s
from benchmarks.against.deployment import PAIR, Deployment, ready
from benchmarks.against.usage import cpu_of
from benchmarks.against.work_result import SystemResult, WorkResult, figures_of
from benchmarks.against.works import Say, Size
from benchmarks.workers import WorkFailed

COMPARED = (s.MANY, s.JETSTREAM, s.REDIS)  # a server that fsyncs reads equally fast, but writing takes minutes


def backlog(home: Path, size: Size, say: Say) -> WorkResult:
    """Let every receiver leave and return several times, in turn."""
    left_out: list[str] = []
    with ready(size.chosen(COMPARED), home, PAIR, left_out, say) as deployments:
        found = figures_of([deployment.system for deployment in deployments])
        for deployment in deployments:
            deployment.round(1)
        idle = [deployment.resident() for deployment in deployments]
        for number in range(size.rounds):
            for deployment, figures, before in zip(deployments, found, idle, strict=True):
                say(f"round {number + 1} of {size.rounds}, {deployment.system.name} writes for an offline receiver")
                _play(deployment, figures, size.backlog, before)
    words = f"a backlog of {size.backlog:,}, written one by one, fetched on return"
    return WorkResult("backlog", words, "/s", found, left_out)


def _play(deployment: Deployment, figures: SystemResult, messages: int, idle: list[int]) -> None:
    taker, giver = deployment.workers
    taker.put({"do": "leave"})
    taker.get()
    giver.put({"do": "keep", "messages": messages})
    giver.get()
    deployment.messages += messages
    deployment.forget_peaks()
    worked = [cpu_of(pid) for pid in deployment.pids]
    taker.put({"do": "back"})
    back = taker.get()
    dial = [[deployment.reported[1]]]
    taker.put({"do": "meet", "dial": dial, "links": [[1]]})
    taker.get()
    taker.put({"do": "round", "taken": deployment.messages})
    giver.put({"do": "kept_is_taken"})
    took, knows = taker.get(), giver.get()
    if took["taken"] != [deployment.messages]:
        raise WorkFailed(f"{deployment.system.name}: {took['taken'][0]} taken of {deployment.messages}")
    figures.values.append(messages / (max(took["at"], knows["at"]) - back["begun"]))
    spent = sum(cpu_of(pid) for pid in deployment.pids) - sum(worked)
    figures.more["CPU us/message"] = 1e6 * spent / messages
    grown = [max(0, peak - before) / 1024 for peak, before in zip(deployment.peaks(), idle, strict=True)]
    for words, mib in zip(("receiver: + MiB", "writer: + MiB", "server: + MiB"), grown, strict=False):
        figures.more[words] = max(mib, figures.more.get(words, 0.0))
