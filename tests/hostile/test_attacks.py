"""Attacks by an authenticated member: the link ends with the named code, or the attack is ignored and counted.

Two honest peers keep delivering messages during each attack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import pytest

from p2pchat import protocol as wire
from p2pchat.commands.standard_output import json_line
from p2pchat.core.log import Entry, encode_entry, encode_header, first_chain
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import ADD, make_statement
from p2pchat.safe_text import safe_line, safe_text
from tests.deadlines import until
from tests.hostile.attacker import NOW, Attacker, LogWriter, invented_identity
from tests.hostile.conftest import Attacked, Honest, Meet

HEX = "ab" * 32
ALL = ("0" * 64, "f" * 64)
Lie = Callable[[Attacker, Honest], Awaitable[None] | None]


def key(peer: object) -> str:
    return peer.me.key  # type: ignore[attr-defined, no-any-return]


# Attacks that end the link: code -> attack


def forged(eve: Attacker, honest: Honest) -> None:
    """An entry of bob's, signed by another user."""
    pen = eve.pen(eve.identity, eve.room)
    pen.log = pen.log._replace(user=key(honest.bob))
    pen.header = encode_header(pen.log, (), eve.network.guest(pen.log.user))
    pen.chain = first_chain(pen.header)
    eve.say(pen.say("I am bob"))


def changed(eve: Attacker, honest: Honest) -> None:
    """Another user's entry, with one word changed."""
    frame = eve.pen(invented_identity("dan"), eve.room).say("I owe eve 10")
    ((c, text),) = frame.e
    eve.say(msgspec.structs.replace(frame, e=[(c, str(text).replace("10", "99"))]))


def wrong_chain(eve: Attacker, honest: Honest) -> None:
    frame = eve.pen(eve.identity, eve.room).say("x")
    eve.say(msgspec.structs.replace(frame, prev=HEX))


def clock_back(eve: Attacker, honest: Honest) -> None:
    pen = eve.pen(eve.identity, eve.room)
    eve.say(pen.say("now"), pen.say("then", c=NOW - 1_000_000))


def evidence_of_nothing(eve: Attacker, honest: Honest) -> None:
    """Two batches that do not prove a fork."""
    pen = eve.pen(invented_identity("dan"), eve.room)
    pair = pen.say("one"), msgspec.structs.replace(pen.say("two"), h=pen.header)
    eve.say(*(msgspec.structs.replace(frame, fork=True) for frame in pair))


def long_entry(eve: Attacker, honest: Honest) -> None:
    eve.say(eve.pen(eve.identity, eve.room).write((NOW, "x" * 65_537)))


def control_character(eve: Attacker, honest: Honest) -> None:
    eve.say(eve.pen(eve.identity, eve.room).write((NOW, "a\0b")))


def false_certificate(eve: Attacker, honest: Honest) -> None:
    """A log for whose writer somebody answers who never signed that."""
    pen = eve.pen(eve.identity, eve.room)
    pen.header = encode_header(pen.log, (), wire.GuestCertificate(key(honest.bob), "ab" * 64))
    pen.chain = first_chain(pen.header)
    eve.say(pen.say("bob answers for me"))


def many_entries(eve: Attacker, honest: Honest) -> None:
    eve.say(eve.pen(eve.identity, eve.room).say(*["x"] * 257))


def many_bytes(eve: Attacker, honest: Honest) -> None:
    eve.say(eve.pen(eve.identity, eve.room).say(*["x" * 500] * 256))


def deep(eve: Attacker, honest: Honest) -> None:
    payload = b'{"t":"later","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    eve.say(wire.LENGTH.pack(len(payload)) + payload)


def huge_frame(eve: Attacker, honest: Honest) -> None:
    eve.say(b"\xff\xff\xff\xff" + bytes(1000))


def empty_frame(eve: Attacker, honest: Honest) -> None:
    eve.say(bytes(4))


def no_json(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.LENGTH.pack(9) + b"\xed\xa0\x80nonsen")


def hosts_bob(eve: Attacker, honest: Honest) -> None:
    """Presence of a user that it does not host."""
    eve.say(wire.Here([wire.Hosted(key(honest.bob), "bob", "idle", "gone fishing")]))


def reads_for_bob(eve: Attacker, honest: Honest) -> None:
    """A read mark of a user that it does not host."""
    ref = (key(honest.ada)[:32] + "ab" * 8, 1, "cd" * 32)
    eve.say(wire.ReadFrame({eve.room: {key(honest.bob): [ref]}}))


def many_read_marks(eve: Attacker, honest: Honest) -> None:
    marks = [(f"{n:048x}", 1, "cd" * 32) for n in range(257)]
    eve.say(wire.ReadFrame({eve.room: {eve.id: marks}}))


def many_users(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.Here([wire.Hosted(eve.id, "x", "online")] * 257))


def many_marks(eve: Attacker, honest: Honest) -> None:
    marks = {f"{n:064x}": [wire.Mark("ab" * 8, 1, "ab" * 32)] for n in range(1001)}
    eve.say(wire.Have({eve.room: marks}))


def many_tips(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.Have({eve.room: {eve.id: [wire.Mark(f"{n:016x}", 1, "ab" * 32) for n in range(65)]}}))


async def wants_without_end(eve: Attacker, honest: Honest) -> None:
    """200 wants at once, of 200 writers that it brought itself: 64 may be open."""
    writers = [invented_identity(f"writer {n}") for n in range(200)]
    eve.say(*(eve.pen(writer, eve.room).say("x") for writer in writers))
    await eve.until(lambda: all(eve.marks(writer.peer_id) for writer in writers))
    # Some 70 in each TLS record: the peer handles those of a record before it answers the first.
    wants = [wire.Want(n, eve.room, writer.peer_id, []) for n, writer in enumerate(writers)]
    eve.say(msgspec.structs.replace(wants[0]), *wants[1:])


def second_hello(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.Hello(v=wire.PROTOCOL_VERSION, nonce=HEX, id=HEX, sig=HEX * 2))


def second_go(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.Go("ab" * 8, 7))


def second_welcome(eve: Attacker, honest: Honest) -> None:
    eve.say(wire.Welcome())


ENDS: list[tuple[str, Lie]] = [
    ("head", wrong_chain), ("head", clock_back), ("head", false_certificate), ("malformed", control_character),
    ("limit", long_entry),
    ("limit", many_entries), ("limit", many_bytes), ("malformed", deep), ("limit", huge_frame),
    ("malformed", empty_frame), ("malformed", no_json), ("host", hosts_bob), ("host", reads_for_bob),
    ("limit", many_read_marks),
    ("limit", many_users), ("limit", many_marks), ("limit", many_tips), ("limit", wants_without_end),
    ("order", second_hello), ("order", second_go), ("order", second_welcome),
]  # fmt: skip


async def test_attacks_that_end_the_link_do_so_with_their_code(meet: Meet) -> None:
    honest = await meet()
    for number, (code, lie) in enumerate(ENDS):
        eve = await honest.eve(f"eve {number}")
        lying = lie(eve, honest)
        if lying is not None:
            await lying
        assert await honest.while_chatting(eve.wait_closed()) == code, lie.__name__
    assert honest.ada.directory.user(key(honest.bob)).status_text == ""
    posts = [post.text for post in await honest.ada.history(limit=0)]
    assert not {"I am bob", "I owe eve 99", "then", "bob answers for me"} & {*posts}
    assert honest.warned == []  # nothing that requires the user's attention


async def test_a_defect_in_checking_a_frame_ends_its_link_alone(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, eve = attacked
    monkeypatch.setitem(wire._CHECKS, wire.Unknown, lambda *_: {"": 0}["a text that somebody wrote"])
    payload = b'{"t":"of a later version"}'
    eve.say(wire.LENGTH.pack(len(payload)) + payload)
    assert await honest.while_chatting(eve.wait_closed()) == "malformed"
    (bye,) = [frame for frame in eve.frames if isinstance(frame, wire.Bye)]
    assert bye.text == "not decoded, by a defect of p2pchat (KeyError): report it"
    assert honest.warned == []


# Attacks that are counted; the link stays


def of_dan(eve: Attacker) -> LogWriter:
    return eve.pen(invented_identity(f"dan of {eve.name}"), eve.room, "da" * 8)


def false_header(eve: Attacker, honest: Honest) -> None:
    pen = of_dan(eve)
    pen.header = pen.header.replace(",", ", ", 1)
    pen.chain = first_chain(pen.header)
    eve.say(pen.say("x"))


def no_certificate_of_dan(eve: Attacker, honest: Honest) -> None:
    pen = of_dan(eve)
    pen.header = encode_header(pen.log, (), wire.GuestCertificate(key(honest.bob), "ab" * 64))
    pen.chain = first_chain(pen.header)
    eve.say(pen.say("bob answers for dan"))


def is_acknowledged(eve: Attacker, own: LogWriter) -> bool:
    return eve.marks(eve.id) == [own.mark]


OF_OTHERS: list[tuple[str, Lie]] = [
    ("head", forged),
    ("head", changed),
    ("head", evidence_of_nothing),
    ("head", no_certificate_of_dan),
    ("head", lambda eve, _: eve.say(of_dan(eve).write((NOW, "{}"), (NOW - 1, "{}")))),
    ("head", lambda eve, _: eve.say(msgspec.structs.replace(of_dan(eve).say("x"), prev=HEX))),
    ("malformed", false_header),
    ("malformed", lambda eve, _: eve.say(of_dan(eve).write((NOW, "a\0b")))),
    ("limit", lambda eve, _: eve.say(of_dan(eve).write((NOW, "x" * 65_537)))),
]


async def test_a_peer_that_passes_on_what_nobody_takes_keeps_its_link_and_is_told_once(meet: Meet) -> None:
    """A peer that forgot one check was cut off again and again, and none of its own messages arrived."""
    honest = await meet()
    for number, (code, lie) in enumerate(OF_OTHERS):
        eve = await honest.eve(f"eve {number}")
        for _ in range(3):
            lie(eve, honest)
        own = eve.pen(eve.identity, eve.room)
        eve.say(own.say("mine"))
        await honest.while_chatting(eve.until(partial(is_acknowledged, eve, own)))
        told = [frame.full for frame in eve.frames if isinstance(frame, wire.Have) and frame.full]
        assert len(told) == 1, lie
        assert honest.ada.counted[f"refuted_{code}"] > 0
    honest_peers = (honest.ada, honest.bob)
    posts = [post.text for peer in honest_peers for post in await peer.history(limit=0)]
    assert posts.count("mine") == 2 * len(OF_OTHERS)
    assert {*posts} - {"mine"} == {f"line {n} of {('bob', 'ada')[n % 2]}" for n in range(1, honest.said + 1)}
    assert not {"user_full"} & {*honest.ada.counted} and honest.warned == []
    for peer in honest_peers:  # and of nobody else is anything on a disk
        known = {key(honest.ada), key(honest.bob), *(eve.id for eve in honest.attackers)}
        assert peer._driver.node.replicator.conversations[eve.room].writers.keys() <= known


def is_member(members: MemberList, user: str) -> bool:
    return user in members.members


async def test_a_peer_that_passes_on_false_statements_keeps_its_link(meet: Meet) -> None:
    honest = await meet()
    eve, founder = await honest.eve(), honest.network.member
    assert founder is not None
    pair = (eve.network.id, founder.peer_id)
    false, good = (make_statement(*pair, one.sign, ADD, NOW, {"who": [HEX]}) for one in (eve.identity, founder))
    for text in ("{}", false.text, false.text + " "):
        eve.say(wire.Statements(s=[(text, false.signature.hex())]))
    own = eve.pen(eve.identity, eve.room)
    eve.say(wire.Statements(s=[(good.text, good.signature.hex())]), own.say("mine"))
    await honest.while_chatting(eve.until(partial(is_acknowledged, eve, own)))
    for peer in (honest.ada, honest.bob):
        members = peer._driver.node.replicator.statements.members
        assert members is not None
        await until(partial(is_member, members, HEX), "the good statement at both")
    assert honest.warned == []


async def lives_on(eve: Attacker) -> None:
    """Check that the peer still answers."""
    heard = len(eve.frames)
    eve.say(wire.Ping())
    await eve.until(lambda: len(eve.frames) > heard)


async def test_a_fork_is_reported_once_and_all_peers_agree(attacked: Attacked) -> None:
    honest, eve = attacked
    one = eve.pen(eve.identity, eve.room, "ab" * 8)
    other = eve.pen(eve.identity, eve.room, "ab" * 8)
    eve.say(one.say("to ada: yes"), other.say("to bob: no"))
    for _ in range(3):
        eve.say(one.say("and so on"), other.say("and on"))
    await honest.while_chatting(lives_on(eve))
    assert honest.warned == ["fork"]
    later = eve.pen(eve.identity, eve.room)
    eve.say(later.say("what eve writes later counts"))
    await eve.until(lambda: eve.marks(eve.id) == [later.mark])


async def test_signed_texts_that_are_no_entries_are_shown_as_unsupported_by_all(attacked: Attacked) -> None:
    honest, eve = attacked
    pen = eve.pen(eve.identity, eve.room)
    odd = ["", "no entry", '{"k":"text","at":1,"b":7}', "[" * 60_000]
    eve.say(pen.say("before"), *(pen.write((NOW + n, text)) for n, text in enumerate(odd, 10)))
    eve.say(pen.say("behind", c=NOW + 100))
    await eve.until(lambda: eve.marks(eve.id) == [pen.mark])
    await honest.while_chatting(lives_on(eve))
    shown = [
        [(post.text, post.unsupported) for post in await peer.history(limit=0) if not post.text.startswith("line")]
        for peer in (honest.ada, honest.bob)
    ]
    assert shown == [[("before", None), *len(odd) * [("", "unreadable")], ("behind", None)]] * 2
    assert honest.warned == []


async def test_clocks_from_the_future_do_not_advance_others(attacked: Attacked) -> None:
    honest, eve = attacked
    pen = eve.pen(eve.identity, eve.room)
    eve.say(pen.say("from the year 2255", c=9_000_000_000_000_000), pen.say("the end", c=2**53 - 10))
    await eve.until(lambda: eve.marks(eve.id) == [pen.mark])
    await honest.chat()
    posts = await honest.ada.history("room", limit=0)
    assert [post.text for post in posts][-2:] == ["from the year 2255", "the end"]  # on a separate page, at the end
    clocks = [log.last_c for log in honest.ada._driver.node.replicator.conversations[eve.room].by_ref.values()
              if log.id.user != eve.id]  # fmt: skip
    assert max(clocks) < NOW + 10 * 365 * 24 * 3600 * 10**6


async def chat_after_the_future(attacked: Attacked, text: str) -> tuple[Honest, list[str]]:
    """Let eve write 60 numbered texts with clocks of the next century, then ada and bob; return what these wrote."""
    honest, eve = attacked
    pen = eve.pen(eve.identity, eve.room)
    eve.say(pen.say(*map(text.format, range(60)), c=2**53 - 1_000_000))
    await eve.until(lambda: eve.marks(eve.id) == [pen.mark])
    await honest.chat()
    return honest, [f"line {n} of {'ada' if n % 2 else 'bob'}" for n in range(1, 5)]


async def test_clocks_of_the_next_century_push_nobody_s_messages_out_of_a_page(attacked: Attacked) -> None:
    honest, chatted = await chat_after_the_future(attacked, "future {}")
    newest = await honest.ada.history("room", limit=20)
    assert [post.text for post in newest] == [*chatted, *(f"future {n}" for n in range(44, 60))]
    assert [post.text for post in await honest.ada.history("room", limit=4)] == [*chatted[1:], "future 59"]
    assert [post.text for post in await honest.ada.history("room", limit=1)] == ["line 4 of bob"]
    assert len(await honest.ada.history("room", limit=0)) == 64


async def test_clocks_of_the_next_century_push_nobody_s_messages_out_of_a_search(attacked: Attacked) -> None:
    honest, chatted = await chat_after_the_future(attacked, "line {} of eve")
    found = await honest.ada.search("line of", limit=20)
    assert [post.text for post in found] == [*chatted, *(f"line {n} of eve" for n in range(44, 60))]
    found = await honest.ada.search("line of", "room", limit=4)
    assert [post.text for post in found] == [*chatted[1:], "line 59 of eve"]
    older = await honest.ada.search("line of", "room", before=found[0], limit=4)
    assert [post.text for post in older] == chatted[:1]
    assert [post.text for post in await honest.ada.search("from:ada line", limit=1)] == ["line 3 of ada"]


async def test_records_that_others_did_not_sign_are_dropped_and_of_made_up_peers_few_are_dialled(
    attacked: Attacked,
) -> None:
    honest, eve = attacked
    made_up = [eve.record(invented_identity(f"peer {n}"), f"127.0.0.1:{1 + n % 20}") for n in range(500)]
    ada, bob = key(honest.ada), key(honest.bob)
    made_up_id = invented_identity("peer 0").peer_id
    changes = [(made_up_id, ada), (made_up_id, bob), ('"at":', '"at":1')]
    false = [msgspec.structs.replace(made_up[0], text=made_up[0].text.replace(*change)) for change in changes]
    too_many = eve.record(eve.identity, *(f"10.0.0.{n + 1}:80" for n in range(9)))
    too_long = eve.record(eve.identity, "x" * 99 + ":1")
    before = {**honest.ada._driver.node.links.book.records}
    for start in range(0, len(made_up), 50):
        linked = [invented_identity(f"peer {n}").peer_id for n in range(start, start + 50)]
        eve.say(wire.Peers([*made_up[start : start + 50], *false, too_many, too_long], linked))
    eve.say(wire.Peers([eve.record(eve.identity, "224.0.0.1:80", "169.254.1.1:80", "10.0.0.1:0", "nonsense")]))
    await honest.while_chatting(lives_on(eve))
    book = honest.ada._driver.node.links.book
    for one in (ada, bob):
        assert book.records.get(one) == before.get(one)
    assert not book.addresses(eve.id)
    assert len(honest.ada._driver.node.links.by_peer) == 2


async def test_frames_about_unshared_conversations_are_ignored(attacked: Attacked) -> None:
    honest, eve = attacked
    secret = wire.Naming(dm=tuple(sorted((key(honest.ada), key(honest.bob)))))  # type: ignore[arg-type]
    await (await honest.bob.send("ada", "between the two of us")).delivered(timeout=60)
    dm = next(id for id, each in honest.ada._driver.node.replicator.conversations.items() if each.naming.dm)
    eve.say(
        wire.Want(1, dm, key(honest.bob), [], names=[secret]),
        wire.Have({dm: {key(honest.bob): []}}, names=[secret], ask=True, span=ALL),
        wire.Digest(sums={dm: HEX}, span=ALL, names=[secret]),
        wire.TypingFrame(dm, eve.id, True, names=[secret]),
        wire.ReadFrame({dm: {eve.id: []}}, names=[secret]),
        wire.Want(2, HEX, HEX, []),
        msgspec.structs.replace(eve.pen(eve.identity, dm).say("let me in"), names=[secret]),
    )
    await honest.while_chatting(lives_on(eve))
    await honest.ada._driver.settle()
    told = b"".join(wire.encode(frame) for frame in eve.frames if isinstance(frame, wire.Frame))
    assert dm.encode() not in told and b"between the two" not in told
    assert honest.ada.counted["conversation_ignored"] >= 5
    assert [post.text for post in await honest.ada.history("bob")] == ["between the two of us"]


async def test_names_that_look_alike_are_distinguished(attacked: Attacked) -> None:
    honest, eve = attacked
    for name in ("bob", "b\u043eb", "BOB", "bob\u200b", "b\u202eob", "", " bob", "#bob", "\x1b[31mbob"):
        eve.say(wire.Here([wire.Hosted(eve.id, name, "online")]))
    await honest.while_chatting(lives_on(eve))
    labels = {honest.ada.directory.user(user).label for user in (eve.id, key(honest.bob))}
    assert len(labels) == 2 and all("#" in label for label in labels)
    assert "\x1b" not in "".join(labels) and "name" in honest.warned


async def test_texts_neither_control_a_terminal_nor_forge_a_log_line(
    attacked: Attacked, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, eve = attacked
    nasty = (
        '\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\r\n12:00 bob: pay eve\u2028{"event":"stopped"}\x9b31m\u200b\U000e0041'
    )
    pen = eve.pen(eve.identity, eve.room)
    eve.say(pen.say(nasty))
    await eve.until(lambda: eve.marks(eve.id) == [pen.mark])
    [post] = [post for post in await honest.ada.history("room", limit=0) if post.text.startswith("\x1b]")]
    assert post.text == nasty  # storage keeps what was sent
    line = json_line(post.to_dict())
    assert not [c for c in line if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029"]
    for shown in (safe_text(nasty), safe_line(nasty)):
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2066", "\u200b", "\U000e0041"} & {*shown}
    assert nasty not in repr(post) and "\x1b" not in capsys.readouterr().err


async def test_digests_that_never_agree_cost_others_nothing(attacked: Attacked) -> None:
    honest, eve = attacked

    async def disagree() -> None:
        for n in range(300):
            eve.say(wire.Digest(sum=f"{n:064x}"), wire.Digest(sums={eve.room: f"{n:064x}"}, span=ALL))
            eve.say(wire.Have({eve.room: {}}, span=ALL, ask=True))
            await asyncio.sleep(0)  # lets the peers work between frames
        await lives_on(eve)

    await honest.while_chatting(disagree())


async def test_full_for_everything_withholds_nothing_from_others(attacked: Attacked) -> None:
    honest, eve = attacked
    users = [f"{n:064x}" for n in range(1000)]
    for _ in range(20):
        eve.say(wire.Have({}, full={eve.room: [key(honest.ada), key(honest.bob), *users[:998]]}))
        users = [f"{int(user, 16) + 1000:064x}" for user in users]
    heard = len(eve.frames)
    await honest.while_chatting(lives_on(eve))
    assert not [frame for frame in eve.frames[heard:] if isinstance(frame, wire.Entries)]  # eve gets no entries
    assert honest.warned == ["refused"]


async def test_unknown_logs_are_wanted_only_from_the_sender_of_their_marks(attacked: Attacked) -> None:
    honest, eve = attacked
    for start in range(0, 20_000, 500):
        marks = {f"{n:064x}": [wire.Mark(f"{n:016x}", 2**53 - 1, "ab" * 32)] for n in range(start, start + 500)}
        eve.say(wire.Have({eve.room: marks}, span=(f"{start:064x}", f"{start + 499:064x}")))
    await honest.while_chatting(lives_on(eve))
    wants = [frame for frame in eve.frames if isinstance(frame, wire.Want)]
    assert 0 < len(wants) <= 64
    sync = honest.ada._driver.node.replicator
    assert max(len(side.ahead_refs) for side in sync.context.remotes.values()) <= 10_000


async def test_invented_conversations_are_bounded(attacked: Attacked) -> None:
    honest, eve = attacked
    ada = key(honest.ada)
    for start in range(0, 12_000, 500):
        others = [invented_identity(f"x{n}").peer_id if n < 1 else f"{n:064x}" for n in range(start, start + 500)]
        names = [wire.Naming(dm=tuple(sorted((ada, other)))) for other in others]  # type: ignore[arg-type]
        eve.say(wire.Have({}, names=names))
    own = [wire.Naming(dm=tuple(sorted((ada, eve.id))))] * 500  # type: ignore[arg-type]
    eve.say(wire.Have({}, names=own))
    await honest.while_chatting(lives_on(eve))
    assert len(honest.ada._driver.node.replicator.conversations) <= 4


async def test_a_writer_with_5_000_logs_has_64_tips(attacked: Attacked) -> None:
    honest, eve = attacked
    pens = [eve.pen(eve.identity, eve.room) for _ in range(5_000)]

    async def scribble() -> None:
        await eve.flood(pen.say("x") for pen in pens)
        await eve.until(lambda: eve.is_full(eve.id))
        await lives_on(eve)

    await honest.while_chatting(scribble())
    writer = honest.ada._driver.node.replicator.conversations[eve.room].writers[eve.id]
    assert len(writer.logs) == 64
    assert len([frame for frame in eve.frames if isinstance(frame, wire.Have) and frame.full]) < 100


async def test_500_logs_that_build_on_each_other_take_one_tip_in_memory(attacked: Attacked) -> None:
    honest, eve = attacked

    async def scribble() -> LogWriter:
        pen = eve.pen(eve.identity, eve.room)
        eve.say(pen.say("x"))
        for _ in range(500):
            pen = eve.pen(eve.identity, eve.room, before=[pen.mark])
            eve.say(pen.say("x"))
        await eve.until(lambda: eve.marks(eve.id) == [pen.mark])
        return pen

    await honest.while_chatting(scribble())
    writer = honest.ada._driver.node.replicator.conversations[eve.room].writers[eve.id]
    assert len(writer.logs) == 1


MARKS = "a" + "\u0301\u0316" * 15_000
SLOW = {
    "a name of marks": encode_entry(Entry("profile", NOW, NOW, b={"name": MARKS})),
    "a text of marks": encode_entry(Entry("text", NOW, NOW, b=MARKS[:16_000])),
    "a string without an end": (1, "[" * 17 + '"' + '\\"' * 31_000),
    "many numbers": (1, '{"k":"odd","at":1,"b":[' + ",".join(["1"] * 31_000) + "]}"),
    "many keys": (1, '{"k":"odd","at":1,' + ",".join(f'"{number}":{{}}' for number in range(6000)) + "}"),
    "many brackets": (1, '{"k":"odd","at":1,"b":[' + ",".join(["[]"] * 20_000) + "]}"),
}


@pytest.mark.parametrize("what", SLOW)
async def test_no_entry_takes_long_to_read(attacked: Attacked, what: str) -> None:
    """One of 64 KB took 14 s of the core of each peer it came to."""
    honest, eve = attacked
    began = time.thread_time()
    for number in range(5):
        eve.say(eve.pen(invented_identity(f"eve {number}"), eve.room).write(SLOW[what]))
    await honest.chat()
    assert time.thread_time() - began < 1.5
