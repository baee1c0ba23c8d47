"""What event logs say of who came and went: told once, in time, and as `left` only of who said goodbye.

A peer that was killed logs no end, so nobody can tell from its log when that was: how soon a kill is noticed is not
judged here, but by the tests that kill.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pchat.testing.eventlog import Fault, Log, Session, seconds

TOLD_WITHIN = {"left": 1.0, "lost": 3.0, "timeout": 35.0}  # seconds, docs/guarantees.md
SLACK = 2.0  # seconds a busy machine may be late with its lines
AFTER_GOODBYE = ("stopped", "delivered", "read")  # a peer that leaves looks up receipts it has yet to tell, 5 s at most
MOST = max(TOLD_WITHIN.values()) + SLACK


def sights(log: Log, user: str) -> list[tuple[float, float]]:
    """Return when this peer saw a user: (from, to), in seconds."""
    found = []
    for session in log.sessions:
        since: float | None = None
        for _, line in session.of("joined", "left"):
            if line["user_id"] == user and line["event"] == "joined":
                since = seconds(line)
            elif line["user_id"] == user and since is not None:
                found.append((since, seconds(line)))
                since = None
        if since is not None:
            found.append((since, seconds(session.lines[-1])))
    return found


def alternate(log: Log) -> Iterator[Fault]:
    """In one life a user joins, leaves, joins …: nothing is told twice, and nobody leaves who never came."""
    for life in log.sessions:
        last: dict[str, str] = {}
        for number, line in life.of("joined", "left") if life.whole else ():
            event, user = line["event"], line["user_id"]
            if last.get(user, "left") == event:
                text = f"told {'again ' if user in last else ''}that {user[:8]} {event}"
                yield Fault("departure", f"{text}, who was {'here' if event == 'joined' else 'not'}", log.where(number))
            last[user] = event


def between(gone: Log, witness: Log) -> Iterator[Fault]:
    """Judge what one peer was told of the ends of the other's lives."""
    yield from _without_goodbye(gone, witness)
    for n, session in enumerate(gone.sessions):
        if session.stopped is None:
            continue
        following = gone.sessions[n + 1 : n + 2]
        again = seconds(following[0].lines[0]) if following else float("inf")
        at = seconds(session.stopped)
        for life in witness.sessions:
            before = [x for _, x in life.of("joined", "left") if x["user_id"] == gone.user_id and seconds(x) <= at]
            if before and before[-1]["event"] == "joined":
                yield from _told_of(gone, witness, life, at, again)


def _told_of(gone: Log, witness: Log, life: Session, at: float, again: float) -> Iterator[Fault]:
    """Judge what one life of a witness says after `gone` stopped at this time; it began `again` later, or never."""
    for number, line in life.of("left"):
        told = seconds(line)
        if line["user_id"] == gone.user_id and told >= at - SLACK:
            if told > again:
                break  # of a later end
            if told - at > TOLD_WITHIN.get(line["reason"], MOST) + SLACK:
                text = f"told {told - at:.1f} s late that {gone.name} was gone ({line['reason']})"
                yield Fault("departure", text, witness.where(number))
            return
    if min(seconds(life.lines[-1]), again) - at > MOST:
        yield Fault("departure", f"was never told that {gone.name} left", witness.name)


def _without_goodbye(gone: Log, witness: Log) -> Iterator[Fault]:
    """Who was told a goodbye that was none: the process went on logging."""
    spans = [
        (seconds(life.lines[0]), max((seconds(x) for x in life.lines if x["event"] not in AFTER_GOODBYE), default=0.0))
        for life in gone.sessions
    ]  # fmt: skip
    for number, line in enumerate(witness.lines):
        if line["event"] == "left" and line["user_id"] == gone.user_id and line["reason"] == "left":
            at = seconds(line)
            if any(begins < at - SLACK and at + SLACK < last for begins, last in spans):
                yield Fault("departure", f"told that {gone.name} said goodbye, which it did not", witness.where(number))
