"""Rules of level peer about what is passed on: entries of others, tips, and addresses; and the order of display."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import msgspec

from p2pchat import protocol as wire
from p2pchat.core.mesh.peer_exchange import is_signed
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat_conformance.awaited_frames import RuleSkipped, ScriptedLink, check
from p2pchat_conformance.entry_rules import ODD_TEXTS
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedLog

VERBATIM = (
    ' {"b":"blanks" ,"k":"text", "at":1}\n',
    '{"k":"later","at":1,"b":{"q":[1,2.50,null]},"later":"\\u0061"}',
    '{"k":"text","at":1,"re":null,"b":"\\u00e9 \\/"}',
)  # each would change if it were encoded again
SOON = 2.0  # seconds: a moment, and less than an entry waits for what no linked peer has
ORDER_WAIT = 4.5  # seconds: nearly as long as it does
WAITED = 6.5  # seconds: more than for what no linked peer has
GIVES_NOTHING = 9.5  # seconds after which who gave nothing of it may count for nothing


async def sent(link: ScriptedLink, log: ScriptedLog, after: int = 0) -> None:
    """Send what follows an entry of a log, one batch for each head, and await its mark."""
    link.send(*log.batches(after))
    await link.acked(log)


async def served(link: ScriptedLink, log: ScriptedLog, **want: Any) -> list[wire.Entries]:
    """Want everything of the writer of a log in its conversation; return the batches that come."""
    link.wants += 1
    number, after = link.wants, len(link.frames)
    link.send(wire.Want(number, log.id.conversation, log.id.user, **{"tips": [], **want}))
    await link.end_of(number)
    return [
        one for one in link.frames[after:] if isinstance(one, wire.Entries) and one.u == log.id.user and not one.fork
    ]


def numbers(batches: list[wire.Entries]) -> list[tuple[str, int]]:
    return [(batch.r, seq) for batch in batches for seq, _ in enumerate(batch.e, batch.first)]


# ---- serving


@rule
async def others_entries_are_served_verbatim(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    for text in VERBATIM:
        log.write(log.of_text(text))
    await sent(ada, log)
    batches = await served(bob, log)
    raws = [raw for batch in batches for raw in batch.e]
    check(raws == log.raws, f"of {log.raws} came {raws}")


@rule
async def a_direct_log_is_served_to_its_two_users_alone(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log(ada.member.dm())
    log.text("between the two of us")
    await sent(ada, log)
    batches = await served(bob, log, names=[dm_naming(ada.member.id, kit.candidate)])
    check(not batches, "a third member was served a direct conversation")


@rule
async def odd_entries_are_served_verbatim(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    for odd in ODD_TEXTS:
        log.write(log.of_text(odd))
    await sent(ada, log)
    raws = [raw for batch in await served(bob, log) for raw in batch.e]
    check(raws == log.raws, f"of {log.raws} came {raws}")


@rule
async def a_want_is_answered_with_its_number(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    log.text("one")
    await sent(ada, log)
    bob.send(wire.Want(17, kit.room, ada.member.id, []))
    end = await bob.end_of(17)
    batches = [one for one in bob.frames if isinstance(one, wire.Entries) and one.u == ada.member.id]
    check(batches, "nothing was served")
    check({batch.n for batch in batches} == {17}, f"`n` of the batches is {[batch.n for batch in batches]}")
    check(bob.frames.index(batches[-1]) < bob.frames.index(end), "a batch came after the end of its want")
    check(end.marks == {kit.room: {ada.member.id: [log.mark()]}}, f"the marks at the end are {end.marks}")


@rule
async def what_is_held_already_is_not_served(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    log.text("two")
    log.text("three", "four")
    await sent(ada, log)
    got = numbers(await served(bob, log, tips=[log.mark(2)]))
    check(got == [(log.id.run, 3), (log.id.run, 4)], f"after a tip at entry 2 came {got}")


@rule
async def unknown_tips_are_ignored(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    log.text("two")
    await sent(ada, log)
    for tip in (wire.Mark("ab" * 8, 4, "cd" * 32), wire.Mark(log.id.run, 2, "cd" * 32)):
        got = numbers(await served(bob, log, tips=[tip], older=[tip]))
        check(got == [(log.id.run, 1), (log.id.run, 2)], f"after the unknown tip {tip} came {got}")


@rule
async def older_marks_are_common_ground(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    first = ada.member.log()
    first.text("in the first run")
    second = ada.member.log(before=[first.mark()])
    await sent(ada, first)
    await sent(ada, second)
    unknown = wire.Mark("ab" * 8, 4, "cd" * 32)
    got = numbers(await served(bob, first, tips=[unknown], older=[first.mark()]))
    check(got == [(second.id.run, 1)], f"with `older` at the first log came {got}")
    got = numbers(await served(bob, first, tips=[second.mark()]))
    check(not got, f"after the only tip came {got}")


@rule
async def logs_are_served_after_those_they_build_on(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    logs = [ada.member.log()]
    for _ in range(3):
        logs.append(ada.member.log(before=[logs[-1].mark()]))
    for log in logs:
        await sent(ada, log)
    got = [run for run, _ in numbers(await served(bob, logs[0]))]
    check(got == [log.id.run for log in logs], f"logs written as {[log.id.run for log in logs]} came as {got}")


@rule
async def served_batches_keep_their_limits(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    for part in range(3):
        log.text(*(f"{part}.{n}" for n in range(150)))
    for _ in range(5):
        log.text("x" * 30_000)
    await sent(ada, log)
    batches = await served(bob, log)
    check(
        [seq for _, seq in numbers(batches)] == list(range(1, len(log.raws) + 1)), "not every entry came once, in order"
    )
    for batch in batches:
        size = sum(len(str(text).encode()) for _, text in batch.e)
        check(len(batch.e) <= 256, f"a batch of {len(batch.e)} entries")
        check(size <= 96 * 1024, f"a batch of {size} bytes")


@rule
async def the_same_is_wanted_from_one_link_only(kit: Kit) -> None:
    log = kit.member("gone").log()
    log.text("both of us have it")
    links = [await kit.join(name) for name in ("ada", "bob")]
    for link in links:
        link.member.held[log.id] = log
        link.member.answers -= {"want"}
        link.send(wire.Have({kit.room: {log.id.user: [log.mark()]}}))

    def wants(link: ScriptedLink) -> list[wire.Want]:
        return [one for one in link.frames if isinstance(one, wire.Want) and one.u == log.id.user]

    awaited = "`want` on one of two links"
    waiting = [asyncio.ensure_future(link.until(partial(wants, link), awaited)) for link in links]
    done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    await asyncio.gather(*done)
    for link in links:
        await link.echoed(f"asked {link.label}")
    counts = [len(wants(link)) for link in links]
    check(sorted(counts) == [0, 1], f"the same was wanted {counts[0]} times from one link and {counts[1]} from another")
    asked = links[counts.index(1)]
    asked.member.serve(asked, wants(asked)[0])
    await asked.acked(log)


@rule
async def what_a_lost_link_was_to_bring_is_wanted_again(kit: Kit) -> None:
    log = kit.member("gone").log()
    log.text("both of us have it")
    ada, bob = await kit.join("ada"), await kit.join("bob")
    await ada.compared()  # else a comparison finds the log, and it may be wanted of the other one first
    await bob.compared()
    mark = wire.Have({kit.room: {log.id.user: [log.mark()]}})
    ada.member.held[log.id] = log
    ada.member.answers -= {"want"}
    ada.send(mark)
    await ada.next(wire.Want, "`want` of what a mark names", where=lambda one: one.u == log.id.user)
    bob.member.held[log.id] = log
    bob.send(mark)
    await bob.round_trip()
    ada.cut()
    await bob.acked(log)


@rule
async def a_mark_that_was_heard_is_wanted(kit: Kit) -> None:
    log = kit.member("gone").log()
    log.text("echo heard of it")
    link = await kit.join("ada")
    await link.echoed("now compared")
    link.member.held[log.id] = log
    link.send(wire.Have({kit.room: {log.id.user: [log.mark()]}}))
    await link.acked(log)
    await link.answer(kit.room, "heard of it", log.ref())


@rule
async def the_sum_is_repeated_until_compared(kit: Kit) -> None:
    member = kit.member("ada")
    member.answers -= {"digest", "have"}
    member.log()
    link = await kit.link(member)
    await link.next(wire.Digest, "`digest` with `ask`, because the first was not answered",
                    where=lambda one: one.sum is not None and one.ask)  # fmt: skip


# ---- logs of one user


@rule
async def a_log_without_its_predecessor_is_dropped(kit: Kit) -> None:
    ada = await kit.join("ada")
    await ada.compared()
    ada.member.answers -= {"want", "have"}
    first = ada.member.log(ada.member.dm())
    first.text("of an earlier run")
    second = ada.member.log(ada.member.dm(), before=[first.mark()])
    ada.send(second.text("of a later run"))
    await ada.echoed("and of this one")
    runs = [mark.run for mark in (await ada.marks_in(ada.member.dm()))[ada.member.id]]
    check(second.id.run not in runs, "a log was taken without the one it builds on")
    await sent(ada, first)
    await sent(ada, second)


@rule
async def covered_logs_are_no_tips(kit: Kit) -> None:
    ada = await kit.join("ada")
    first, beside = ada.member.log(), ada.member.log()
    second = ada.member.log(before=[first.mark()])
    partly = ada.member.log()
    partly.text("named at entry 1 only")
    third = ada.member.log(before=[partly.mark(1)])
    for log in (first, beside, second, partly, third):
        await sent(ada, log)
    marks = (await ada.marks_in(kit.room))[ada.member.id]
    expected = {log.mark() for log in (beside, second, partly, third)}
    check(set(marks) == expected, f"the tips are {sorted(marks)}, and not {sorted(expected)}")


@rule
async def a_65th_tip_is_refused(kit: Kit) -> None:
    ada = await kit.join("ada")
    ada.member.answers -= {"have"}
    logs = [ada.member.log(ada.member.dm(), hold=n < 64) for n in range(65)]
    where, user = ada.member.dm(), ada.member.id
    for log in logs[:64]:
        ada.send(log.text("one more device"))
    await ada.next(
        wire.Have, "`have` with 64 tips", where=lambda one: len(one.marks.get(where, {}).get(user, ())) == 64
    )
    ada.send(logs[64].text("one device too many"))
    await ada.next(wire.Have, "`have` with `full`", where=lambda one: user in one.full.get(where, ()))
    marks = (await ada.marks_in(where))[user]
    check(len(marks) == 64, f"{len(marks)} tips are held")
    check(logs[64].mark() not in marks, "the last one was taken in place of another")


@rule
async def nothing_is_pushed_to_who_is_full(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    for link in (ada, bob):
        await link.compared()
    await bob.until(lambda: not bob.open_wants, "end of a want")
    bob.member.answers -= {"have"}
    bob.send(wire.Have({}, full={kit.room: [kit.candidate]}))
    await bob.round_trip()
    known = len(bob.frames)
    await ada.echoed("while bob is full")
    await bob.round_trip()
    later = [one for one in bob.frames[known:] if isinstance(one, wire.Entries) and one.u == kit.candidate]
    check(not later, "entries were pushed after `full`")
    number = bob.member.want(bob, kit.room, kit.candidate)
    await bob.end_of(number)
    texts = [one.get("b") for one in bob.entries_of(kit.candidate, kit.room)]
    check("while bob is full" in texts, "it was wanted again, and not served")


# ---- the order in which entries are shown


async def waits(kit: Kit, key: str) -> None:
    """Send a text that refers to one that is not here yet; it must be answered after that one."""
    ada, bob = await kit.join("ada"), await kit.join("bob")
    missing = ada.member.log(hold=False)  # a comparison would bring it
    missing.text(f"echo the first {key}")
    bob.member.answers -= {"want"}
    ref = missing.ref()
    log = bob.member.log()
    log.text(f"echo the second {key}", **{key: ref if key == "re" else [ref]})
    log.text(f"echo the third {key}")
    began = time.monotonic()
    await sent(bob, log)
    cyd = await kit.join("cyd")
    await asyncio.sleep(SOON)
    await cyd.echoed(f"anything before the first {key}?")
    is_late = time.monotonic() > began + ORDER_WAIT
    early = [str(one.get("b")) for one in cyd.entries_of(kit.candidate, kit.room)]
    texts = [f"the {place} {key}" for place in ("first", "second", "third")]
    check(is_late or not {*texts} & {*early}, "an entry was shown before what it follows")
    await sent(ada, missing)
    for text in texts:
        await cyd.answer(kit.room, text)
    order = [one["b"] for one in cyd.entries_of(kit.candidate, kit.room) if one["b"] in texts]
    check(order == texts, f"the answers came in the order {order}")


@rule
async def an_answer_waits_for_its_question(kit: Kit) -> None:
    await waits(kit, "re")


@rule
async def an_entry_waits_for_what_its_writer_had_seen(kit: Kit) -> None:
    await waits(kit, "after")


@rule
async def what_a_peer_says_that_it_has_is_waited_for(kit: Kit) -> None:
    bob, cyd = await kit.join("bob"), await kit.join("cyd")
    missing = kit.member("gone").log()
    missing.text("echo what somebody has")
    log = bob.member.log(hold=False)
    log.text("echo what follows it", re=missing.ref())
    bob.member.answers -= {"want"}
    began = time.monotonic()
    bob.send(wire.Have({kit.room: {missing.id.user: [missing.mark()]}}))
    await sent(bob, log)
    await asyncio.sleep(began + WAITED - time.monotonic())
    await cyd.echoed("anything without it?")
    texts = [one["b"] for one in cyd.entries_of(kit.candidate, kit.room)]
    if time.monotonic() < began + GIVES_NOTHING:
        check("what follows it" not in texts, "an entry was shown while a linked peer had what it follows")
    await sent(bob, missing)
    for text in ("what somebody has", "what follows it"):
        await cyd.answer(kit.room, text)


# ---- peers and addresses


@rule
async def marks_reach_those_who_miss_the_writer(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    for link in (ada, bob):
        await link.compared()
    bob.member.answers -= {"digest", "have"}  # so no comparison tells it
    log, batch = ada.member.say(kit.room, "for everybody")
    ada.send(batch)
    await bob.acked(log)


@rule
async def links_are_told_to_others(kit: Kit) -> None:
    bob = await kit.join("bob")
    ada = kit.member("ada")
    endpoint = await kit.listen(ada)
    link = await kit.link(ada)
    await bob.next(wire.Peers, "`peers` with ada in `linked`", where=lambda one: ada.id in one.linked)
    await bob.next(wire.Peers, "`peers` with her record in `records`",
                   where=lambda one: any(endpoint in of.e for of in one.records))  # fmt: skip
    link.leave()
    await bob.next(wire.Peers, "`peers` with ada in `gone`", where=lambda one: ada.id in one.gone)


@rule
async def a_new_link_is_told_of_all_others(kit: Kit) -> None:
    others = [await kit.join(name) for name in ("ada", "bob", "cyd")]
    for other in others:
        await other.round_trip()
    link = await kit.join("dan")
    ids = {other.member.id for other in others}

    def linked() -> set[str]:
        return {id for one in link.frames if isinstance(one, wire.Peers) for id in one.linked}

    await link.until(lambda: ids <= linked(), "`peers` with all that it is linked with in `linked`")


@rule
async def records_that_a_peer_did_not_sign_are_not_passed_on(kit: Kit) -> None:
    bob, ada, dan = await kit.join("bob"), await kit.join("ada"), await kit.join("dan")
    true = dan.member.record("127.0.0.1:1")
    false = msgspec.structs.replace(true, text=true.text.replace("127.0.0.1:1", "127.0.0.1:2"))
    ada.send(wire.Peers([false], [dan.member.id]))
    await ada.round_trip()
    dan.send(wire.Peers([true]))
    await bob.next(wire.Peers, "`peers` with the record that dan signed", where=lambda one: true in one.records)
    told = [record for frame in bob.frames if isinstance(frame, wire.Peers) for record in frame.records]
    check(false not in told, "a record that nobody signed so was passed on")


@rule
async def records_are_passed_on_verbatim(kit: Kit) -> None:
    bob, dan = await kit.join("bob"), await kit.join("dan")
    record = dan.member.record("127.0.0.1:1")
    text = record.text.replace("{", '{ "later": [1.50, null, {"x": "\\u0061"}], ', 1)
    signed = dan.member.identity.sign(b"p2pchat/peer/2\0" + bytes.fromhex(kit.network.id) + text.encode())
    record = wire.PeerRecord(text, signed.hex())
    dan.send(wire.Peers([record]))
    await bob.next(wire.Peers, "`peers` with the record of dan as it came", where=lambda one: record in one.records)


@rule
async def of_two_records_of_a_peer_the_newer_counts(kit: Kit) -> None:
    bob, dan = await kit.join("bob"), await kit.join("dan")
    older = dan.member.record("127.0.0.1:1")
    newer = dan.member.record("127.0.0.1:2", at=older.at + 1)
    dan.send(wire.Peers([newer]))
    await bob.next(wire.Peers, "`peers` with the newer record", where=lambda one: newer in one.records)
    dan.send(wire.Peers([older]))
    await dan.round_trip()
    cyd = await kit.join("cyd")
    await cyd.next(
        wire.Peers, "`peers` with dan's record", where=lambda one: dan.member.id in {each.id for each in one.records}
    )
    told = [record for frame in cyd.frames if isinstance(frame, wire.Peers) for record in frame.records]
    check(newer in told and older not in told, "an older record took the place of a newer one")


@rule
async def its_own_endpoints_are_told(kit: Kit) -> None:
    link = await kit.join("ada")
    own = await link.records()
    if not kit.endpoint and not own:
        raise RuleSkipped("the candidate tells no endpoints")
    check(own, "its own record is not in its first `peers`")
    check(is_signed(kit.network.id, own[0]), "it did not sign its own record, or its member the certificate in it")
    port = kit.endpoint.rpartition(":")[2]
    check(
        not port or any(one.endswith(f":{port}") for one in own[0].e),
        f"its record has {own[0].e}, and it listens at {kit.endpoint}",
    )


@rule
async def an_older_process_of_the_decider_is_refused(kit: Kit) -> None:
    ada = kit.member("ada", decides=True)
    first = await kit.dial(ada)
    await first.prove()
    await first.go(1, run="a1" * 8)
    await first.introduce()
    second = await kit.dial(ada)
    await second.prove()
    await second.go(1, run="b2" * 8)
    await second.introduce()
    await first.ended("replaced", after="`go` of another run")
    late = await kit.dial(ada)
    await late.prove()
    await late.go(2, run="a1" * 8)
    await late.ended("replaced", after="`go` of an older run")
    await second.echoed("the newer process")
