"""Rules of level bot about comparisons of what is held, and about receipts: who has and who has read what."""

from __future__ import annotations

from p2pchat import protocol as wire
from p2pchat_conformance.awaited_frames import (
    HIGHEST,
    LOWEST,
    SPAN,
    check,
)
from p2pchat_conformance.runner import Kit, rule

HOUR_US = 3_600_000_000


# ---- comparing


@rule
async def a_different_sum_is_answered_with_sums(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.echoed("something in the room")
    link.member.answers -= {"digest"}
    before = len(link.frames)
    link.send(wire.Digest(sum="ab" * 32))
    page = await link.next(wire.Digest, "`digest` with `sums`", after=before, where=lambda one: one.sums is not None)
    assert page.span is not None and page.sums is not None
    check(page.span[0] == LOWEST, f"the first page begins at {page.span[0][:8]}…")
    check(kit.room in page.sums or page.span[1] < kit.room, "the room is not in the sums")
    await link.until(lambda: any(one.span and one.span[1] == HIGHEST for one in link.frames[before:]
                                 if isinstance(one, wire.Digest)), "page of sums up to the highest id")  # fmt: skip


@rule
async def an_equal_sum_is_answered_when_asked(kit: Kit) -> None:
    member = kit.member("ada")
    member.wants_all = True
    link = await kit.link(member)
    await link.echoed("all of it", member.dm())
    total = await link.in_step()
    before = len(link.frames)
    member.answers -= {"digest"}
    link.send(wire.Digest(sum=total, ask=True))
    answer = await link.next(wire.Digest, "`digest` with the equal sum", after=before)
    check(answer.sum == total, f"the sum is {answer.sum} and not {total}")
    check(not answer.ask, "the answer asks")


@rule
async def marks_that_are_asked_for_are_sent(kit: Kit) -> None:
    link = await kit.join("ada")
    log, answer = await link.echoed("marks, please", link.member.dm())
    link.member.answers -= {"have"}
    marks = await link.marks_in(link.member.dm())
    check(marks.get(link.member.id) == [log.mark()], f"the marks of the log sent are {marks.get(link.member.id)}")
    tips = marks.get(kit.candidate, [])
    check([tip.run for tip in tips] == [answer["run"]] and tips[0].seq >= answer["seq"], "its own mark is missing")
    alone = (link.member.id, link.member.id)
    marks = await link.marks_in(link.member.dm(), alone)
    check(set(marks) == {link.member.id}, f"of one user were asked the marks, and {len(marks)} came")


@rule
async def a_page_of_sums_is_answered_with_marks(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.echoed("sums, please", link.member.dm())
    link.member.answers -= {"have", "digest"}
    before = len(link.frames)
    link.send(wire.Digest(sums={link.member.dm(): "ab" * 32}, span=SPAN))
    await link.next(wire.Have, "`have` with `span` and `ask` for the differing conversation", after=before,
                    where=lambda one: link.member.dm() in one.marks and one.span is not None and one.ask)  # fmt: skip
    await link.next(wire.Have, "`have` that asks for the conversation that the page did not list", after=before,
                    where=lambda one: kit.room in one.marks and one.span is not None and one.ask)  # fmt: skip


@rule
async def each_want_gets_an_end(kit: Kit) -> None:
    link = await kit.join("ada")
    link.member.answers -= {"have"}
    nobody = kit.identity("nobody").peer_id
    link.send(wire.Want(71, kit.room, nobody, []), wire.Want(72, kit.room, kit.candidate, []))
    for n in (71, 72):
        await link.end_of(n)
    foreign = link.member.dm(nobody)
    link.send(wire.Want(73, foreign, nobody, []))
    end = await link.end_of(73)
    check(not end.marks.get(foreign, {}).get(nobody), "marks of a conversation that is not shared")


# ---- receipts


@rule
async def what_was_answered_is_read(kit: Kit) -> None:
    link = await kit.join("ada")
    log, _ = await link.echoed("read this", link.member.dm())
    ref = (*log.ref(1), log.mark(1).chain)
    where = log.id.conversation
    await link.next(
        wire.ReadFrame,
        "`read` of the message that was answered",
        where=lambda one: ref in one.marks.get(where, {}).get(kit.candidate, []),
    )


@rule
async def a_read_that_asks_is_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send(wire.ReadFrame({}, ask=True))
    await link.next(wire.ReadFrame, "`read` with `all`", where=lambda one: one.all)


@rule
async def read_marks_that_are_asked_for_are_sent(kit: Kit) -> None:
    link = await kit.join("ada")
    log, _ = await link.echoed("read this too", link.member.dm())
    await link.next(wire.ReadFrame, "`read`", where=lambda one: one.marks)
    before = len(link.frames)
    link.send(wire.ReadFrame({}, ask=True))
    page = await link.next(wire.ReadFrame, "`read` with all marks", after=before, where=lambda one: one.all)
    marks = page.marks.get(log.id.conversation, {}).get(kit.candidate, [])
    read = (*log.ref(1), log.mark(1).chain)
    check(read in marks, "the message that was answered is not among the read marks")


@rule
async def typing_is_no_fault(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send(
        wire.TypingFrame(link.member.dm(), link.member.id, True), wire.TypingFrame("ab" * 32, link.member.id, True)
    )
    link.send(wire.TypingFrame(link.member.dm(), link.member.id, False))
    await link.round_trip()
