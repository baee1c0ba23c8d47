"""Rules of level bot about entries: the room and direct conversations, heads, which entries are valid, and what the
candidate writes in its own.

The candidate answers a direct message with its text, and a text `echo X` in the room with `X` (docs/conformance.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.log import UNREADABLE, decode_entry, first_chain
from p2pchat.core.members.statement import make_guest
from p2pchat_conformance.awaited_frames import (
    RuleBroken,
    ScriptedLink,
    check,
    now_us,
)
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.sent_frame_rules import as_object, entries_in, watch

HOUR_US = 3_600_000_000


# ---- the room and direct conversations


@rule
async def entries_are_acknowledged(kit: Kit) -> None:
    link = await kit.join("ada")
    for conversation in (kit.room, link.member.dm()):
        log, batch = link.member.say(conversation, "one", "two", "three")
        link.send(batch)
        await link.acked(log)


@rule
async def the_room_is_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    log, answer = await link.echoed("hello, room")
    check(answer["re"] == log.ref(), f"`re` of the answer is {answer.get('re')}, not {log.ref()}")
    check(answer["k"] == "text", f"the answer is of kind {answer['k']!a}")


@rule
async def direct_messages_are_answered(kit: Kit) -> None:
    watcher = await kit.join("bob")
    link = await kit.join("ada")
    for text in ("just us", 'ä 世界 \U0001f30d "\\\t\n\x7f e\u0301'):
        await link.echoed(text, link.member.dm())
    await watcher.echoed("whom did you tell?")
    seen = [text for text in watcher.texts if link.member.dm() in text]
    check(not seen, f"another member was told of the direct conversation: {seen[:1]}")


@rule
async def answers_come_unasked(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.compared()
    link.member.answers -= {"ack", "have"}
    before = len(link.frames)
    for n in range(3):
        _, batch = link.member.say(link.member.dm(), f"again {n}")
        link.send(batch)
    await link.answer(link.member.dm(), "again 2")
    fetched = [
        one
        for one in link.frames[before:]
        if isinstance(one, wire.Entries) and one.n is not None and one.c == link.member.dm()
    ]
    check(not fetched, "the candidate sent its answers for a want, of which there was none")


@rule
async def what_a_program_says_by_itself_is_not_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    log, batch = link.member.say(link.member.dm(), "nobody asked me", auto=True)
    link.send(batch)
    await link.acked(log)
    await link.echoed("and now I ask", link.member.dm())
    answers = [one["b"] for one in link.entries_of(kit.candidate, link.member.dm())]
    check("nobody asked me" not in answers, "the candidate answered a text with `auto`")


@rule
async def an_answer_says_one_hop_more(kit: Kit) -> None:
    link = await kit.join("ada")
    for hops, due in ((1, 2), (7, 8)):
        _, answer = await link.echoed(f"after {hops} programs", link.member.dm(), hops=hops)
        check(answer.get("hops") == due, f"`hops` of the answer to {hops} is {answer.get('hops')}, not {due}")
    log, batch = link.member.say(link.member.dm(), "after 8 programs", hops=8)
    link.send(batch)
    await link.acked(log)
    await link.echoed("after none", link.member.dm())
    answers = [one["b"] for one in link.entries_of(kit.candidate, link.member.dm())]
    check("after 8 programs" not in answers, "the candidate answered a text that says 8 `hops`")


@rule
async def after_names_what_was_shown_last(kit: Kit) -> None:
    link = await kit.join("ada")
    log, _ = await link.echoed("nothing before", link.member.dm())
    _, answer = await link.echoed("what was before?", link.member.dm())
    check(answer.get("after") == [log.ref()], f"`after` is {answer.get('after')}, not {[log.ref()]}")
    room, _ = await link.echoed("in the room")
    others = [await kit.join(name) for name in ("bob", "cyd", "dan")]
    logs = []
    for other in others:
        log, batch = other.member.say(kit.room, "one more")
        other.send(batch)
        await other.acked(log)
        logs.append(log)
    last, answer = await link.echoed("and now?")
    after = answer.get("after", [])
    check(len(after) == 2, f"`after` has {len(after)} items")
    check(last.ref() in after and room.ref(2) not in after and logs[0].ref() not in after,
          f"`after` is {after}: not the two entries shown last")  # fmt: skip


@rule
async def the_clock_follows_others(kit: Kit) -> None:
    link = await kit.join("ada")
    ahead = now_us() + 120_000_000
    _, answer = await link.echoed("two minutes ahead", link.member.dm(), c=ahead)
    check(answer["c"] > ahead, f"c of the answer is {answer['c']}, of what it answers {ahead}")
    other = await kit.join("bob")
    far = now_us() + HOUR_US
    _, answer = await other.echoed("an hour ahead", other.member.dm(), c=far)
    check(answer["c"] < far, "a clock an hour ahead moved the candidate's clock")


@rule
async def names_may_be_repeated(kit: Kit) -> None:
    link = await kit.join("ada")
    for _ in range(2):
        log, batch = link.member.say(link.member.dm(), "named again")
        naming = link.member.naming(link.member.dm())
        assert naming is not None
        batch.names = [naming, naming]
        link.send(batch)
        await link.acked(log)


@rule
async def foreign_conversations_are_ignored(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.round_trip()
    foreign = link.member.dm(kit.identity("eve").peer_id)
    log = link.member.log(foreign)
    link.send(log.text("not for you"), wire.Have({foreign: {link.member.id: [log.mark()]}}))
    users = sorted((link.member.id, kit.identity("zoe").peer_id))
    named = link.member.log("ab" * 32)
    link.send(link.changed(named.text("whose?"), names=[{"dm": users}]))
    await link.echoed("and this?")
    told = [text for text in link.texts if foreign in text or "ab" * 32 in text]
    check(not told, f"the candidate speaks of a conversation that is not shared: {told[:1]}")


@rule
async def a_direct_conversation_has_two_writers(kit: Kit) -> None:
    link = await kit.join("ada")
    eve = kit.identity("eve")
    log = link.member.log(link.member.dm(), user=eve)
    link.send(log.text("I am no member"))
    await link.echoed("am I one?", link.member.dm())
    told = [
        one for one in link.frames if isinstance(one, wire.Have) and eve.peer_id in one.marks.get(link.member.dm(), {})
    ]
    check(not told, "an entry of a user who is no member was acknowledged")
    answers = [one["b"] for one in link.entries_of(kit.candidate, link.member.dm())]
    check("I am no member" not in answers, "it was answered")


@rule
async def a_gap_is_fetched(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.compared()
    log, _ = await link.echoed("the beginning", link.member.dm())
    held, before = log.mark(), len(link.frames)
    log.text("lost on the way")
    link.send(log.text("behind the gap"))
    want = await link.next(wire.Want, "`want` of what the gap lacks", after=before,
                           where=lambda one: one.c == log.id.conversation and one.u == log.id.user)  # fmt: skip
    check(held in want.tips, f"`tips` of the want do not name what is held: {want.tips}")
    await link.acked(log)
    await link.answer(log.id.conversation, "lost on the way")
    await link.answer(log.id.conversation, "behind the gap")


@rule
async def what_was_written_before_is_fetched(kit: Kit) -> None:
    member = kit.member("ada")
    room, _ = member.say(kit.room, "echo before we met")
    direct, _ = member.say(member.dm(), "before we met, for you")
    link = await kit.link(member)
    await link.acked(room)
    await link.acked(direct)
    await link.answer(kit.room, "before we met", room.ref())
    await link.answer(member.dm(), "before we met, for you", direct.ref())


@rule
async def a_relayed_log_is_fetched(kit: Kit) -> None:
    """A member brings the room messages of another who is not here."""
    member, gone = kit.member("ada"), kit.identity("gone")
    log = member.log(user=gone)
    log.text("echo I wrote this and left")
    link = await kit.link(member)
    await link.acked(log)
    await link.answer(kit.room, "I wrote this and left", log.ref())


# ---- heads


@rule
async def a_wrong_head_ends_the_link(kit: Kit) -> None:
    for wrong in ("head", "prev", "e", "clock"):
        watcher = await kit.join(f"bob-{wrong}")
        link = await kit.join(f"ada-{wrong}")
        _, batch = link.member.say(kit.room, "echo signed")
        values: dict[str, dict[str, Any]] = {
            "head": {"head": "00" * 64},
            "prev": {"prev": "ab" * 32},
            "e": {"e": [(c, str(text).replace("signed", "forged")) for c, text in batch.e]},
            "clock": {"e": [(c + place, text) for place, (c, text) in enumerate(batch.e, 1)]},
        }
        link.send(link.changed(batch, **values[wrong]))
        await link.ended("head", after=f"a batch under a wrong `{wrong}`")
        await watcher.echoed("what did she say?")
        haves = [one.marks.get(kit.room, {}) for one in watcher.frames if isinstance(one, wire.Have)]
        told = any(link.member.id in marks for marks in haves)
        check(not told, f"entries under a wrong `{wrong}` are in the candidate's marks")


@rule
async def a_chain_begins_with_its_header(kit: Kit) -> None:
    link = await kit.join("ada")
    log = link.member.log(link.member.dm())
    log.chains = [bytes(32)]
    link.send(log.text("in a log that does not begin with its header"))
    await link.ended("head", after="a log whose chain does not begin with its header")


@rule
async def a_batch_continues_what_is_held(kit: Kit) -> None:
    """Entry 3 comes behind another entry 2 than the one that is held."""
    ada, bob = await kit.join("ada"), await kit.join("bob")
    log = ada.member.log()
    other = ada.member.log(run=log.id.run, hold=False, profile=False)
    other.write(*log.raws)
    log.text("one thing")
    other.text("another thing")
    ada.send(log.batch(1))
    await ada.acked(log)
    bob.send(other.text("and more of it"))
    await bob.round_trip()
    marks = (await (await kit.join("cyd")).marks_in(kit.room)).get(log.id.user, [])
    check(other.mark() not in marks, "an entry was taken that does not follow the one before it in its log")


@rule
async def an_entry_has_at_most_64_kib(kit: Kit) -> None:
    link = await kit.join("ada")
    log = link.member.log(link.member.dm())
    link.send(log.write(log.of_text("x" * 65_536)))
    await link.acked(log)
    link.send(log.write(log.of_text("x" * 65_537)))
    await link.ended("limit", after="an entry of 65,537 bytes")


@rule
async def a_clock_that_stands_ends_the_link(kit: Kit) -> None:
    link = await kit.join("ada")
    log = link.member.log(link.member.dm())
    c = now_us()
    link.send(log.write(log.entry("text", "one", c=c)))
    await link.acked(log)
    link.send(log.write(log.entry("text", "two", c=c)))
    await link.ended("head", after="an entry with the clock of the one before it")


@rule
async def a_header_has_one_form(kit: Kit) -> None:
    changes: dict[str, Callable[[str], str]] = {
        "a blank": lambda header: header.replace(",", ", ", 1),
        "another user": lambda header: header.replace('{"u":"', '{"u":"00', 1),
        "a further key": lambda header: header[:-1] + ',"x":1}',
        "no form": lambda header: "header",
    }
    for what, change in changes.items():
        link = await kit.join(f"ada-{what.replace(' ', '-')}")
        log = link.member.log(link.member.dm())
        log.header = change(log.header)
        log.chains = [first_chain(log.header)]
        link.send(log.text("with another header"))
        await link.ended("malformed", after=f"a header with {what}")


@rule
async def a_member_answers_for_a_user_with_its_signature(kit: Kit) -> None:
    link = await kit.join("ada")
    zoe, user = kit.identity("zoe"), kit.identity("of zoe")
    log = link.member.log(user=user, profile=False)
    link.send(log.text("the kit's member answers for me"))
    await link.acked(log)
    log = link.member.log(user=user, profile=False, by=kit.network.guest(zoe.peer_id))
    link.send(log.text("it answers for me with what it signed for zoe"))
    await link.echoed("the kit's member signed nothing of that kind")
    marks = (await link.marks_in(kit.room))[user.peer_id]
    check(
        log.id.run not in {mark.run for mark in marks},
        "a log with a certificate that its member did not sign was taken",
    )


@rule
async def a_log_of_a_member_that_nobody_named_is_not_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    zoe, user = kit.identity("zoe"), kit.identity("of zoe")
    by = make_guest(kit.network.id, zoe.peer_id, zoe.sign, user.peer_id)
    log = link.member.log(user=user, profile=False, by=by)
    link.send(log.text("nobody added zoe"))
    marks = await link.marks_in(kit.room)
    check(user.peer_id not in marks, "a log was taken whose member no statement names")


@rule
async def batches_may_overlap(kit: Kit) -> None:
    link = await kit.join("ada")
    log, _ = await link.echoed("one", link.member.dm())
    link.send(log.batch(1))  # has nothing new
    link.member.answers -= {"want"}
    log.text("two")
    link.send(log.batch(1))
    await link.acked(log)
    await link.answer(log.id.conversation, "two", log.ref())
    same = [one for one in link.entries_of(kit.candidate, log.id.conversation) if one["b"] == "one"]
    check(len(same) == 1, "the message that came again was answered again")


@rule
async def nothing_is_answered_twice(kit: Kit) -> None:
    member = kit.member("ada")
    link = await kit.link(member)
    log, _ = await link.echoed("only once", member.dm())
    link.cut()
    again = await kit.link(member)
    again.send(log.batch(1))
    await again.echoed("a second link", member.dm())
    answers = {(one["run"], one["seq"]) for one in [*link.entries_of(kit.candidate, member.dm()),
               *again.entries_of(kit.candidate, member.dm())] if one["b"] == "only once"}  # fmt: skip
    check(len(answers) == 1, "the message was answered on each link")


# ---- valid entries


async def taken(kit: Kit, link: ScriptedLink, *texts: str) -> None:
    """Send each entry in a log of its own in the room, and await its mark."""
    for text in texts:
        log = link.member.log(profile=False)
        link.send(log.write(log.of_text(text)))
        try:
            await link.acked(log)
        except RuleBroken as broken:
            raise RuleBroken(f"{broken}: {text[:120]}") from None


@rule
async def unknown_kinds_are_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    c = now_us()
    await taken(
        kit, link, f'{{"k":"later","at":{c},"b":{{"q":"\\u0000","n":[1,null]}}}}',
        '{"k":"","at":0}', f'{{"k":"later","at":{c},"b":"{"x" * 40_000}"}}',
        f'{{"k":"later","at":{c},"b":"echo something new","options":[1,2]}}',
    )  # fmt: skip
    await link.echoed("what was that?")
    answers = [one["b"] for one in link.entries_of(kit.candidate, kit.room)]
    check("something new" not in answers, "a message of an unknown kind was answered like a text")


@rule
async def odd_json_is_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    c = now_us()
    await taken(
        kit, link, f' {{\t"b" : "blanks",\r\n"k":"text","at":{c}}}\n',
        f'{{"\\u006b":"text","at":{c},"b":"x"}}',
        f'{{"k":1,"k":"text","at":{c},"b":"last","x":1.5,"K":null,"re":null,"t":null,"g":null}}',
        f'{{"k":"text","at":{c},"b":"","x":' + "[" * 15 + "]" * 15 + "}",
        f'{{"k":"text","at":{c},"b":"\\ud83d\\ude00 [[[[[[[[[[[[[[[[[["}}',
    )  # fmt: skip


@rule
async def entries_without_effect_are_taken(kit: Kit) -> None:
    link = await kit.join("ada")
    examples = json.loads((files(__package__) / "vectors" / "entries.json").read_text("utf-8"))["vectors"]
    odd = [one["given"]["text"] for one in examples if one["result"].get("effect") is False]
    await taken(kit, link, *odd, '{"k":"group","at":1,"b":"?"}', '{"k":"leave","at":1}')


ODD_TEXTS = (
    '{"k":"text","at":1,"b":"x","t":"yesterday"}', '{"k":"text","at":1,"b":"\\u0000"}', '{"k":"text","at":1}',
    '{"k":"text","at":1,"b":"' + "x" * 32_769 + '"}', '{"at":1,"b":"x"}', "no JSON at all", "", " \n", "\u2028" * 9,
)  # fmt: skip


@rule
async def an_odd_entry_is_taken_like_others(kit: Kit) -> None:
    link = await kit.join("ada")
    for place, odd in enumerate(ODD_TEXTS):
        log = link.member.log(link.member.dm())
        link.send(log.text("good"))
        link.send(log.write(log.of_text(odd)))
        link.send(log.text(f"after odd entry {place}"))
        try:
            await link.acked(log)
            await link.answer(link.member.dm(), f"after odd entry {place}")
        except RuleBroken as broken:
            raise RuleBroken(f"{broken}, after an entry {odd[:60]}") from None


@rule
async def a_control_character_ends_the_link(kit: Kit) -> None:
    for odd in ("a\0b", "\x1f", "no entry\x08"):
        link = await kit.join(f"ada-{ord(max(odd, key=lambda one: one < ' ')):02x}")
        log = link.member.log(link.member.dm())
        link.send(log.write(log.of_text(odd)))
        await link.ended("malformed", after=f"an entry {odd!a}")


# ---- entries that the candidate writes, on every link


@watch
def entries_without_empty_keys(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    for _, (_, said) in entries_in(frame, link):
        top = json.loads(str(said), object_pairs_hook=list)
        keys = [key for key, _ in top]
        if len(keys) != len(set(keys)):
            return f"a key twice: {str(said)[:100]}"
        if any(value is None or value == [] for key, value in top if key != "b"):
            return f"an empty key: {str(said)[:100]}"
    return ""


@watch
def entries_can_be_read(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    for _, raw in entries_in(frame, link):
        if decode_entry(raw).k == UNREADABLE:
            return f"an entry that nobody can read: {str(raw[1])[:100]}"
    return ""


@watch
def clocks_rise(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    clocks = link.memory.setdefault("clocks", {})
    for seq, (c, _) in entries_in(frame, link):
        assert isinstance(frame, wire.Entries)
        before = clocks.get((frame.c, frame.u, frame.r, seq - 1), 0)
        clocks[frame.c, frame.u, frame.r, seq] = c
        if c <= before:
            return f"entry {seq} has the clock {c}, the one before it {before}"
    return ""


@watch
def profile_begins_a_room_log(link: ScriptedLink, frame: wire.AnyFrame, text: str) -> str:
    if not isinstance(frame, wire.Entries) or frame.c != link.kit.room:
        return ""
    first = next((raw for seq, raw in entries_in(frame, link) if seq == 1), None)
    return (
        f"entry 1 is {str(first[1])[:80]}"
        if first is not None and as_object(str(first[1])).get("k") != "profile"
        else ""
    )
