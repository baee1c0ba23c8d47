"""Rules of level peer about logs that forked."""

from __future__ import annotations

from p2pchat import protocol as wire
from p2pchat.core.log import batch_of, contradict
from p2pchat_conformance.awaited_frames import ScriptedLink, check
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedLog
from p2pchat_conformance.serving_rules import sent, served

# ---- forks


def forked(kit: Kit, name: str) -> tuple[ScriptedLog, ScriptedLog]:
    """Return two versions of one log of a made-up member, which differ in entry 2."""
    member = kit.member(name)
    one = member.log()
    other = member.log(run=one.id.run, hold=False, profile=False)
    other.clock = one.clock
    other.write(*one.raws)
    one.text("one thing")
    other.text("another thing")
    return one, other


def evidence(link: ScriptedLink, log: ScriptedLog) -> list[wire.Entries]:
    """Return the batches with `fork` of a log that came, if they came one directly after the other."""
    places = [place for place, one in enumerate(link.frames)
              if isinstance(one, wire.Entries) and one.fork and (one.c, one.u, one.r) == log.id]  # fmt: skip
    if len(places) == 2 and places[1] == places[0] + 1:
        return [one for one in link.frames[places[0] : places[0] + 2] if isinstance(one, wire.Entries)]
    return []


async def proved(link: ScriptedLink, log: ScriptedLog) -> None:
    """Send a mark of a forked log, and await the two batches that prove it."""
    link.send(wire.Have({link.kit.room: {log.id.user: [log.mark()]}}))
    await link.until(lambda: evidence(link, log), "two `entries` with `fork` that prove the fork")
    check(contradict(*map(batch_of, evidence(link, log))), "the two batches prove nothing")


@rule
async def another_version_of_a_log_proves_a_fork(kit: Kit) -> None:
    one, other = forked(kit, "twice")
    ada, bob, cyd = [await kit.join(name) for name in ("ada", "bob", "cyd")]
    ada.member.answers -= {"have"}
    await sent(ada, one)
    bob.send(other.batch(2))
    await bob.echoed("which of the two?")
    await proved(cyd, one)
    marks = await cyd.marks_in(kit.room)
    check(one.id.user not in marks or not marks[one.id.user], "a forked log is still in the marks")


@rule
async def evidence_of_a_log_that_is_not_held_counts(kit: Kit) -> None:
    one, other = forked(kit, "twice")
    ada, bob = await kit.join("ada"), await kit.join("bob")
    ada.send(one.batch(2, fork=True), other.batch(2, fork=True))
    await ada.echoed("you have never seen it")
    await proved(bob, other)


@rule
async def evidence_of_others_that_proves_nothing_changes_nothing(kit: Kit) -> None:
    for name in ("same", "forged"):
        link = await kit.join(f"ada-{name}")
        one, other = forked(kit, name)
        wrong = link.changed(other.batch(2, fork=True), head="00" * 64) if name == "forged" else one.batch(2, fork=True)
        link.send(one.batch(2, fork=True), wrong)
        await link.echoed(f"evidence that is {name}, which I was only told")


@rule
async def half_of_the_evidence_proves_nothing(kit: Kit) -> None:
    one, other = forked(kit, "once")
    ada, bob = await kit.join("ada"), await kit.join("bob")
    ada.member.answers -= {"have"}
    await sent(ada, one)
    bob.send(other.batch(2, fork=True), wire.Ping())
    await bob.next(wire.Pong)
    marks = await ada.marks_in(kit.room)
    check(one.mark() in marks.get(one.id.user, []), "a log left the marks after one batch with `fork`")


@rule
async def later_logs_of_who_forked_are_taken(kit: Kit) -> None:
    one, other = forked(kit, "twice")
    ada, bob = await kit.join("ada"), await kit.join("bob")
    ada.send(one.batch(2, fork=True), other.batch(2, fork=True))
    by = kit.network.guest(one.id.user)
    later = ScriptedLog(one.id._replace(run="cd" * 8), one.author, [one.mark()], by)
    later.write(later.entry("profile", {"name": "twice"}))
    later.text("echo I begin anew")
    await sent(ada, later)
    await ada.answer(kit.room, "I begin anew")
    await served(bob, later)
    places = [
        place for place, frame in enumerate(bob.frames) if isinstance(frame, wire.Entries) and frame.u == one.id.user
    ]
    check(evidence(bob, one), "what builds on a forked log was served without the evidence")
    check(
        isinstance(first := bob.frames[places[0]], wire.Entries) and first.fork,
        "the evidence came after what builds on it",
    )


@rule
async def a_mark_with_another_chain_is_wanted(kit: Kit) -> None:
    one, other = forked(kit, "twice")
    ada, bob, cyd = [await kit.join(name) for name in ("ada", "bob", "cyd")]
    ada.member.answers -= {"have"}
    await sent(ada, one)
    bob.member.held[other.id] = other
    bob.send(wire.Have({kit.room: {other.id.user: [other.mark()]}}))
    await bob.next(wire.Want, "`want` for a mark with another chain", where=lambda want: want.u == other.id.user)
    await bob.echoed("here is mine")
    await proved(cyd, one)
