"""Rules of level full about export files: their form, and what of them is taken.

The commands of docs/conformance.md name files. The kit and the candidate read each other's files, so these rules need
both on one machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.log import LogId, batch_of, head_message, verify
from p2pchat.core.members.statement import ADD, make_statement
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import Mark
from p2pchat_conformance.awaited_frames import RuleSkipped, ScriptedLink, check, framed, mentioned, now_us
from p2pchat_conformance.group_rules import order, ordered
from p2pchat_conformance.member_rules import guest_of, pair
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedLog

# ---- files the candidate writes


def place(kit: Kit, name: str) -> Path:
    """Return the path of a new file that both can reach."""
    if not kit.is_near:
        raise RuleSkipped("the candidate is on another machine")
    return kit.directory / f"{name}-{kit.draw('file', 4).hex()}"


def read_frames(data: bytes) -> list[wire.AnyFrame]:
    decoder = wire.Decoder(max_frame_bytes=wire.MAX_FRAME_BYTES)
    frames = decoder.feed(data)
    check(decoder.fault is None, f"the file cannot be read: {decoder.fault}")
    return frames


async def exported(kit: Kit, link: ScriptedLink) -> list[wire.AnyFrame]:
    path = place(kit, "export")
    await ordered(link, f"/export {path}")
    return read_frames(path.read_bytes())


@rule
async def a_file_begins_and_ends_as_one(kit: Kit) -> None:
    link = await kit.join("ada")
    frames = await exported(kit, link)
    first, last = frames[0], frames[-1]
    check(first == wire.File(wire.FILE_VERSION, kit.room), f"the first frame is {first}")
    check(isinstance(last, wire.FileEnd), f"the last frame is {last}")
    batches = [one for one in frames[1:-1] if isinstance(one, wire.Entries)]
    said = [one for one in frames[1:-1] if isinstance(one, wire.Statements)]
    check(len(said) + len(batches) == len(frames) - 2, "a frame between them is neither `statements` nor `entries`")
    check(frames[1 : 1 + len(said)] == said, "`statements` does not stand before all `entries`")
    count = sum(len(one.e) for one in batches if not one.fork)
    check(isinstance(last, wire.FileEnd) and last.entries == count, f"`entries` of the last frame is not {count}")
    check(all(one.n is None for one in batches), "a batch in a file answers no want, and has `n`")


@rule
async def a_file_has_everything_in_order(kit: Kit) -> None:
    link = await kit.join("ada")
    logs = [link.member.log()]
    logs.append(link.member.log(before=[logs[0].mark()]))
    direct = link.member.log(link.member.dm())
    direct.text("in a direct conversation")
    for log in (*logs, direct):
        link.send(log.batch(1))
        await link.acked(log)
    seen: dict[LogId, int] = {}
    named: set[str] = set()
    for one in await exported(kit, link):
        if not isinstance(one, wire.Entries):
            continue
        id, batch = LogId(one.c, one.u, one.r), batch_of(one)
        check(one.c in named or one.names, "the first frame of a conversation has no `names`")
        named.add(one.c)
        if one.fork:
            continue
        check(one.first == seen.get(id, 0) + 1, f"a batch begins with entry {one.first} after {seen.get(id, 0)}")
        check(verify(one.u, batch.head, head_message(id, batch.last, batch.chain)), "a wrong head")
        seen[id] = batch.last
        if id == logs[1].id:
            check(logs[0].id in seen, "a log comes before the one that it builds on")
    check({log.id for log in (*logs, direct)} <= seen.keys(), "a log that was acknowledged is not in the file")


@rule
async def a_file_has_all_statements(kit: Kit) -> None:
    link, zoe = await kit.join("ada"), kit.identity("zoe")
    said = kit.say(ADD, who=[zoe.peer_id])
    link.send(wire.Statements(s=[pair(said)]))
    await link.round_trip()  # the statement was read
    found = [one for one in await exported(kit, link) if isinstance(one, wire.Statements)]
    missing = {pair(one) for one in kit.said} - {one for frame in found for one in frame.s}
    check(not missing, f"{len(missing)} of {len(kit.said)} statements are not in the file")
    check(found[0].founder == kit.network.founder, f"`founder` of the first `statements` is {found[0].founder}")


# ---- files the candidate reads


def file_of(
    kit: Kit, *frames: wire.Frame | bytes, room: str = "", v: int = wire.FILE_VERSION, end: bool = True
) -> bytes:
    """Return a file with these frames, each named as the room where it has a conversation."""
    parts = [wire.encode(wire.File(v, room or kit.room))]
    for frame in frames:
        if isinstance(frame, wire.Entries):
            frame.names = [wire.Naming(room=True)]
        parts.append(frame if isinstance(frame, bytes) else wire.encode(frame))
    count = sum(len(one.e) for one in frames if isinstance(one, wire.Entries) and not one.fork)
    return b"".join([*parts, *([wire.encode(wire.FileEnd(count))] if end else [])])


async def imported(kit: Kit, link: ScriptedLink, data: bytes, *, good: bool = True) -> None:
    path = place(kit, "import")
    path.write_bytes(data)
    await (ordered if good else order)(link, f"/import {path}")


def writer(kit: Kit, name: str) -> ScriptedLog:
    """Return a log in the room of somebody who has no link."""
    log = kit.member(name).log()
    log.text(f"echo {name} wrote this")
    return log


async def held(kit: Kit, link: ScriptedLink, log: ScriptedLog) -> list[Mark]:
    return (await link.marks_in(kit.room, (log.id.user, log.id.user))).get(log.id.user, [])


@rule
async def a_file_is_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    log = writer(kit, "gone")
    await imported(kit, link, file_of(kit, log.batch(1)))
    check(await held(kit, link, log) == [log.mark()], "the log in the file is not held")
    await link.answer(kit.room, "gone wrote this", log.ref())


@rule
async def statements_in_a_file_are_taken(kit: Kit) -> None:
    link, zoe = await kit.join("ada"), kit.identity("zoe")
    said = kit.say(ADD, who=[zoe.peer_id])
    log = writer(kit, "gone")
    await imported(kit, link, file_of(kit, wire.Statements(founder=kit.network.founder, s=[pair(said)]), log.batch(1)))
    await link.next(
        wire.Statements, "`statements` with a statement that came in a file", where=lambda one: pair(said) in one.s
    )
    check(await held(kit, link, log) == [log.mark()], "the log behind the statements is not held")


@rule
async def made_up_statements_in_a_file_are_skipped(kit: Kit) -> None:
    link, zoe = await kit.join("ada"), kit.identity("zoe")
    founder, log = kit.network.founder, writer(kit, "gone")
    forged = make_statement(kit.network.id, founder, zoe.sign, ADD, now_us(), {"who": [zoe.peer_id]})
    await imported(kit, link, file_of(kit, wire.Statements(founder=founder, s=[pair(forged)]), log.batch(1)))
    check(await held(kit, link, log) == [log.mark()], "the log behind a made-up statement is not held")
    again = await guest_of(kit, "guest", zoe)
    await again.ended("member", after="a certificate of a member whom a forged statement in a file adds")


@rule
async def other_files_are_refused(kit: Kit) -> None:
    link = await kit.join("ada")
    others: tuple[tuple[str, dict[str, Any]], ...] = (
        ("later", {"v": wire.FILE_VERSION + 1}),
        ("earlier", {"v": wire.FILE_VERSION - 1}),
        ("elsewhere", {"room": "ab" * 32}),
        ("headless", {}),
    )
    for name, changes in others:
        log = writer(kit, name)
        data = file_of(kit, log.batch(1), **changes)
        if name == "headless":
            data = data[len(wire.encode(wire.File(wire.FILE_VERSION, kit.room))) :]
        await imported(kit, link, data, good=False)
        check(not await held(kit, link, log), f"something was taken from a file that is {name}")


@rule
async def a_malformed_frame_of_a_file_is_skipped(kit: Kit) -> None:
    link = await kit.join("ada")
    first, second = writer(kit, "first"), writer(kit, "second")
    odd = (framed('{"t":"entries"}'), framed("[]"), framed('{"t":"hologram"}'), framed("\xff".encode("latin-1")))
    await imported(kit, link, file_of(kit, first.batch(1), *odd, second.batch(1)))
    for log in (first, second):
        check(await held(kit, link, log) == [log.mark()], "what stands beside a malformed frame was not taken")


@rule
async def nothing_is_read_behind_a_wrong_length(kit: Kit) -> None:
    for wrong in (wire.LENGTH.pack(0), wire.LENGTH.pack(256 * 1024 + 1)):
        link = await kit.join(f"ada-{wrong.hex()}")
        first, second = writer(kit, "first"), writer(kit, "second")
        await imported(kit, link, file_of(kit, first.batch(1), wrong, second.batch(1)), good=False)
        check(await held(kit, link, first) == [first.mark()], "what comes before the wrong length was not taken")
        check(not await held(kit, link, second), "what comes behind a wrong length was read")


@rule
async def a_file_that_was_cut_off_is_taken_as_far_as_it_goes(kit: Kit) -> None:
    link = await kit.join("ada")
    first, second = writer(kit, "first"), writer(kit, "second")
    data = file_of(kit, first.batch(1), second.batch(1), end=False)
    await imported(kit, link, data[:-20], good=False)
    check(await held(kit, link, first) == [first.mark()], "the batch before the cut was not taken")
    check(not await held(kit, link, second), "half a batch was taken")


@rule
async def a_wrong_head_in_a_file_blames_nobody(kit: Kit) -> None:
    link = await kit.join("ada")
    log = writer(kit, "gone")
    log.text("and this")
    wrong = log.batch(3)
    wrong.head = "00" * 64
    await imported(kit, link, file_of(kit, log.batch(1, 2), wrong))
    check(await held(kit, link, log) == [log.mark(2)], "the batch before the wrong head was not taken, or that one was")
    link.send(log.batch(3))  # who brings it now is not blamed
    await link.acked(log)


@rule
async def a_gap_in_a_file_is_not_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    log = writer(kit, "gone")
    await link.compared()
    link.member.answers -= {"want", "have"}
    await imported(kit, link, file_of(kit, log.batch(2)))
    check(not await held(kit, link, log), "a batch behind a gap was taken")
    await imported(kit, link, file_of(kit, log.batch(1, 1)))
    check(await held(kit, link, log) == [log.mark(1)], "the batch behind the gap was kept for later")


@rule
async def foreign_conversations_in_a_file_are_not_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    one, other = kit.member("gone"), kit.member("away")
    foreign = one.log(dm_id(kit.room, one.id, other.id))
    batch = foreign.text("between the two of us")
    users = sorted((one.id, other.id))
    room = writer(kit, "known")
    named = framed(wire.encode(wire.Entries(batch.c, batch.u, batch.r, 1, batch.prev, batch.e, batch.head, names=[
        wire.Naming(dm=(users[0], users[1]))]))[4:])  # fmt: skip
    await imported(kit, link, file_of(kit, named, room.batch(1)))
    check(await held(kit, link, room) == [room.mark()], "what stands beside it was not taken")
    frames = await exported(kit, link)
    check(not [one for one in frames if foreign.id.conversation in mentioned(one)], "it was stored")
