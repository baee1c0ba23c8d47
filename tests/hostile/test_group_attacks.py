"""Attacks on groups, edits, reactions and read marks, over real TLS: none has an effect or delays other peers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec

from p2pchat.core.groups.group_fact import ADD, ADMIN, HEIR, LEAVE, MAX_MEMBERS, NAME, REMOVE, fact_body, talk_id
from p2pchat.core.log import Entry, Ref, encode_entry, ref_key
from p2pchat.protocol import MAX_INT, Entries, Mark, Naming, ReadFrame
from tests.hostile.attacker import NOW, ROOM, Attacker, said_fact
from tests.hostile.conftest import QUICK, Attacked, Meet
from tests.hostile.test_attacks import key, lives_on

MANY = 2_000  # repetitions of an endless attack


class ConversationWriter:
    """Writes arbitrary entries of an attacker in one conversation, in batches."""

    def __init__(self, eve: Attacker, conversation: str, *names: Naming) -> None:
        self.eve = eve
        self.pen = eve.pen(eve.identity, conversation)
        self.names = [*names]

    def put(self, *entries: Entry) -> None:
        """Send these entries, with valid clocks."""
        raws = [encode_entry(_at(entry, NOW + self.pen.seq + n)) for n, entry in enumerate(entries, 1)]
        for start in range(0, len(raws), 100):
            self.eve.say(self.named(self.pen.write(*raws[start : start + 100])))

    def named(self, frame: Entries) -> Entries:
        return msgspec.structs.replace(frame, names=self.names)


def _at(entry: Entry, clock: int) -> Entry:
    return Entry(entry.k, clock, clock, entry.re, b=entry.b)


def entry(kind: str, body: Any, re: Ref | None = None) -> Entry:
    return Entry(kind, 0, 0, re, b=body)


async def test_a_removed_member_can_neither_write_nor_break_the_group(attacked: Attacked) -> None:
    honest, eve = attacked
    group = await honest.ada.create_group("ops", ["bob", honest.ada.directory.user(eve.id)])
    await group.remove(honest.ada.directory.user(eve.id))
    [id] = honest.ada._driver.node.groups
    naming = honest.ada._driver.node.replicator.conversations[id].naming
    ada, bob = key(honest.ada), key(honest.bob)
    crowd = [f"{n:064x}" for n in range(MAX_MEMBERS + 1)]
    cuts = [Mark("00" * 8, MAX_INT, "00" * 32)]
    removal = honest.ada._driver.node.replicator.conversations.groups[id]
    ends = {eve.id: [out.id for out in removal.outs(eve.id)]}
    bodies = [
        fact_body(ADD, ends), fact_body(ADD, crowd), fact_body(REMOVE, [bob], cuts=cuts), fact_body(ADMIN, [eve.id]),
        fact_body(HEIR, [eve.id]), fact_body(NAME, name="mine", n=7), fact_body(NAME, name="\x1b[2J", n=7),
        fact_body(LEAVE, cuts=cuts), {"k": LEAVE, "cuts": 7}, None, fact_body(REMOVE, [ada], cuts=cuts),
    ]  # fmt: skip
    for clock, body in enumerate(bodies, NOW):
        frame = said_fact(eve, eve.identity, id, body, clock)
        eve.say(msgspec.structs.replace(frame, names=[naming]))
    for before in ((), (Mark("00" * 8, 1, "00" * 32),), cuts):
        pen = eve.pen(eve.identity, talk_id(id), before=before)
        frame = pen.write(encode_entry(Entry("text", NOW, NOW, b="let me in")))
        eve.say(msgspec.structs.replace(frame, names=[naming, Naming(talk=id)]))
    await honest.while_chatting(lives_on(eve))
    await group.rename("dev")
    [view] = honest.ada._driver.node.groups.values()
    assert (view.name, view.owner, {*view.members}) == ("dev", ada, {ada, bob})
    assert eve.id in honest.ada._driver.node.replicator.conversations[id].writers  # stored and served to others
    assert "let me in" not in [getattr(post, "text", "") for post in await honest.ada.history(group, limit=0)]


async def test_endless_edits_and_reactions_change_only_their_messages(meet: Meet) -> None:
    honest = await meet(settings=replace(QUICK, order_wait=0.2, order_wait_most=0.4))
    eve = await honest.eve()
    receipt = await honest.ada.send("room", "as ada wrote it")
    await honest.ada.message(receipt.id)  # the message is in the core
    log, (_, _, seq) = [*honest.ada._driver.node.replicator.conversations[eve.room].recently_shown.items()][-1]
    of_ada = Ref(log, seq)
    writes = ConversationWriter(eve, eve.room, ROOM)
    writes.put(entry("text", "mine"))
    own = Ref(ref_key(eve.id, writes.pen.log.run), 1)
    writes.put(entry("edit", "as eve would have it", of_ada), entry("delete", None, of_ada))
    writes.put(*(entry("reaction", f"{n}", of_ada) for n in range(MANY)))
    writes.put(*(entry("edit", f"mine {n}", own) for n in range(MANY)))
    here = Ref(own.log, writes.pen.seq + 1)
    writes.put(entry("edit", "of itself", here), entry("edit", "of later", Ref(own.log, MAX_INT)), entry("text", "end"))
    await honest.while_chatting(eve.until(lambda: eve.marks(eve.id) == [writes.pen.mark]))
    async with asyncio.timeout(60):
        while "end" not in [post.text for post in await honest.ada.history("room", limit=0)]:
            await honest.chat()
    posts = {post.text: post for post in await honest.ada.history("room", limit=0)}
    assert "as ada wrote it" in posts and "as eve would have it" not in posts
    assert f"mine {MANY - 1}" in posts and "mine" not in posts
    assert [*posts["as ada wrote it"].reactions] == [f"{MANY - 1}"]


async def test_impossible_read_marks_give_no_receipt(attacked: Attacked) -> None:
    honest, eve = attacked
    refs = [ref for ref, log in honest.ada._driver.node.replicator.conversations[eve.room].by_ref.items()
            if log.id.user == key(honest.ada)]  # fmt: skip
    for start in range(0, 20_000, 250):
        made_up = [(key(honest.ada)[:32] + f"{n:016x}", MAX_INT, "ab" * 32) for n in range(start, start + 250)]
        eve.say(ReadFrame({eve.room: {eve.id: made_up}}))
    eve.say(ReadFrame({eve.room: {eve.id: [(ref, MAX_INT, "ab" * 32) for ref in refs]}}))
    eve.say(*(ReadFrame({f"{n:064x}": {eve.id: [(refs[0], 1, "ab" * 32)]}}) for n in range(250)))
    await honest.while_chatting(lives_on(eve))
    receipts = honest.ada._driver.node.replicator.receipts.marks
    assert not [log for log, positions in receipts.tracker._positions.items() if eve.id in positions]
    assert sum(map(len, receipts.early.by_log.values())) <= 10_000
