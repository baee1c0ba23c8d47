"""What an authenticated member can say to hurt others, and what becomes of it: the link is closed with the named code,
or the lie is counted and nothing else; two honest peers go on delivering meanwhile.

Each lie returns what was seen of it, "" for a link that lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from p2pchat.commands.output import json_line
from p2pchat.protocol import (
    LENGTH,
    Digest,
    Entries,
    Frame,
    Go,
    Have,
    Hello,
    Here,
    Hosted,
    Mark,
    Naming,
    Peers,
    Ping,
    ReadFrame,
    TypingFrame,
    Want,
    Welcome,
    encode,
)
from p2pchat.safe_text import safe_line, safe_text
from tests.hostile.conftest import QUICK, Honest, Meet
from tests.hostile.liar import NOW, ROOM, Liar, Pen, somebody

HEX = "ab" * 32
ALL = ("0" * 64, "f" * 64)
Lie = Callable[[Liar, Honest], None]


def key(peer: object) -> str:
    return peer.me.key  # type: ignore[attr-defined, no-any-return]


# ---- lies that end the link: code -> what is said


def forged(liar: Liar, honest: Honest) -> None:
    """An entry as bob's, signed by another."""
    frame = Pen(liar.identity, liar.room).say("I am bob")
    liar.say(msgspec.structs.replace(frame, u=key(honest.bob)))


def changed(liar: Liar, honest: Honest) -> None:
    """A true entry of another, with a word changed."""
    frame = Pen(somebody("dan"), liar.room).say("I owe eve 10")
    liar.say(msgspec.structs.replace(frame, e=[frame.e[0].replace("10", "99")]))


def wrong_chain(liar: Liar, honest: Honest) -> None:
    frame = Pen(liar.identity, liar.room).say("x")
    liar.say(msgspec.structs.replace(frame, prev=HEX))


def clock_back(liar: Liar, honest: Honest) -> None:
    pen = Pen(liar.identity, liar.room)
    liar.say(pen.say("now"), pen.say("then", c=NOW - 1_000_000))


def evidence_of_nothing(liar: Liar, honest: Honest) -> None:
    """Two batches that prove no fork."""
    pen = Pen(somebody("dan"), liar.room)
    pair = pen.say("one"), pen.say("two")
    liar.say(*(msgspec.structs.replace(frame, fork=True) for frame in pair))


def no_text(liar: Liar, honest: Honest) -> None:
    liar.say(Pen(liar.identity, liar.room).write('{"k":"text","at":1,"c":1,"b":["no text"]}'))


def long_text(liar: Liar, honest: Honest) -> None:
    liar.say(Pen(liar.identity, liar.room).say("x" * 32_769))


def long_entry(liar: Liar, honest: Honest) -> None:
    liar.say(Pen(liar.identity, liar.room).write(f'{{"k":"later","at":1,"c":1,"b":"{"x" * 65_536}"}}'))


def many_entries(liar: Liar, honest: Honest) -> None:
    liar.say(Pen(liar.identity, liar.room).say(*["x"] * 257))


def many_bytes(liar: Liar, honest: Honest) -> None:
    liar.say(Pen(liar.identity, liar.room).say(*["x" * 500] * 256))


def deep(liar: Liar, honest: Honest) -> None:
    payload = b'{"t":"later","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    liar.say(LENGTH.pack(len(payload)) + payload)


def huge_frame(liar: Liar, honest: Honest) -> None:
    liar.say(b"\xff\xff\xff\xff" + bytes(1000))


def empty_frame(liar: Liar, honest: Honest) -> None:
    liar.say(bytes(4))


def no_json(liar: Liar, honest: Honest) -> None:
    liar.say(LENGTH.pack(9) + b"\xed\xa0\x80nonsen")


def hosts_bob(liar: Liar, honest: Honest) -> None:
    """Presence of a user it does not host."""
    liar.say(Here([Hosted(key(honest.bob), "bob", "idle", "gone fishing")]))


def reads_for_bob(liar: Liar, honest: Honest) -> None:
    """A receipt in the name of a user it does not host."""
    ref = (key(honest.ada)[:16] + "ab" * 8, 1)
    liar.say(ReadFrame({liar.room: {key(honest.bob): [ref]}}, names=[ROOM]))


def many_read_marks(liar: Liar, honest: Honest) -> None:
    marks = [(f"{n:032x}", 1) for n in range(257)]
    liar.say(ReadFrame({liar.room: {liar.id: marks}}, names=[ROOM]))


def addresses(liar: Liar, honest: Honest) -> None:
    liar.say(Peers(0, [f"10.0.{n // 250}.{n % 250 + 1}:80" for n in range(257)]))


def long_address(liar: Liar, honest: Honest) -> None:
    liar.say(Peers(0, ["x" * 99 + ":1"]))


def many_users(liar: Liar, honest: Honest) -> None:
    liar.say(Here([Hosted(liar.id, "x", "online")] * 257))


def many_marks(liar: Liar, honest: Honest) -> None:
    marks = {f"{n:064x}": [Mark("ab" * 8, 1, "ab" * 8)] for n in range(1001)}
    liar.say(Have({liar.room: marks}, names=[ROOM]))


def many_tips(liar: Liar, honest: Honest) -> None:
    liar.say(Have({liar.room: {liar.id: [Mark(f"{n:016x}", 1, "ab" * 8) for n in range(65)]}}, names=[ROOM]))


def wants_without_end(liar: Liar, honest: Honest) -> None:
    """65 wants at once, of 65 writers whom it has brought itself."""
    writers = [somebody(f"writer {n}") for n in range(65)]
    liar.say(*(Pen(writer, liar.room).say("x") for writer in writers))
    liar.say(*(Want(n, liar.room, writer.peer_id, [], names=[ROOM]) for n, writer in enumerate(writers)))


def second_hello(liar: Liar, honest: Honest) -> None:
    liar.say(Hello(v=1, nonce=HEX, id=HEX, sig=HEX * 2))


def second_go(liar: Liar, honest: Honest) -> None:
    liar.say(Go("ab" * 8, 7))


def second_welcome(liar: Liar, honest: Honest) -> None:
    liar.say(Welcome())


ENDS: list[tuple[str, Lie]] = [
    ("head", forged), ("head", changed), ("head", wrong_chain), ("head", clock_back), ("head", evidence_of_nothing),
    ("malformed", no_text), ("limit", long_text), ("limit", long_entry), ("limit", many_entries),
    ("limit", many_bytes), ("malformed", deep), ("limit", huge_frame), ("malformed", empty_frame),
    ("malformed", no_json), ("host", hosts_bob), ("host", reads_for_bob), ("limit", many_read_marks),
    ("limit", addresses), ("limit", long_address),
    ("limit", many_users), ("limit", many_marks), ("limit", many_tips), ("limit", wants_without_end),
    ("order", second_hello), ("order", second_go), ("order", second_welcome),
]  # fmt: skip


async def test_lies_that_end_the_link_do_so_with_their_code_and_touch_nobody_else(meet: Meet) -> None:
    honest = await meet()
    for number, (code, lie) in enumerate(ENDS):
        liar = await honest.liar(f"eve {number}")
        lie(liar, honest)
        assert await honest.while_chatting(liar.farewell()) == code, lie.__name__
    assert honest.ada.people.user(key(honest.bob)).status_text == ""
    posts = [post.text for post in await honest.ada.history(limit=0)]
    assert not {"I am bob", "I owe eve 99", "then"} & {*posts}
    assert honest.warned == []  # nothing for a person to do


async def test_after_a_wrong_head_only_its_own_words_are_taken(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    forged(liar, honest)
    assert await liar.farewell() == "head"
    again = await honest.liar()
    dan = Pen(somebody("dan"), again.room)
    again.say(dan.say("true, but who would believe it from eve"))
    own = Pen(again.identity, again.room)
    again.say(own.say("mine"))
    await again.until(lambda: again.marks(again.id) == [own.mark])
    assert again.marks(somebody("dan").peer_id) == []
    assert honest.ada.counted["banned_batch"] == 1


# ---- lies that are counted, and the link lives on


async def lives_on(liar: Liar) -> None:
    """The peer answers still."""
    heard = len(liar.frames)
    liar.say(Ping())
    await liar.until(lambda: len(liar.frames) > heard)


async def test_a_fork_is_told_once_and_leaves_everybody_alike(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    one = Pen(liar.identity, liar.room, "ab" * 8)
    other = Pen(liar.identity, liar.room, "ab" * 8)
    liar.say(one.say("to ada: yes"), other.say("to bob: no"))
    for _ in range(3):
        liar.say(one.say("and so on"), other.say("and on"))
    await honest.while_chatting(lives_on(liar))
    assert honest.warned == ["fork"]
    later = Pen(liar.identity, liar.room)
    liar.say(later.say("what eve writes later counts"))
    await liar.until(lambda: liar.marks(liar.id) == [later.mark])


async def test_clocks_from_the_future_drag_nobody_along(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    pen = Pen(liar.identity, liar.room)
    liar.say(pen.say("from the year 2255", c=9_000_000_000_000_000), pen.say("the end", c=2**53 - 10))
    await liar.until(lambda: liar.marks(liar.id) == [pen.mark])
    await honest.chat()
    posts = await honest.ada.history("room", limit=0)
    assert [post.text for post in posts][-2:] == ["from the year 2255", "the end"]  # a page of their own, at the end
    clocks = [log.last_c for log in honest.ada._driver.node.sync.conversations.by_id[liar.room].by_ref.values()
              if log.id.user != liar.id]  # fmt: skip
    assert max(clocks) < NOW + 10 * 365 * 24 * 3600 * 10**6


async def test_addresses_are_believed_64_from_one_teller(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    peers: list[tuple[str, tuple[str, ...]]] = [
        (somebody(f"peer {n}").peer_id, (f"127.0.0.1:{1 + n % 20}",)) for n in range(5_000)
    ]
    liar.say(*(Peers(0, [], linked=peers[start : start + 250]) for start in range(0, len(peers), 250)))
    liar.say(Peers(0, ["224.0.0.1:80", "169.254.1.1:80", "10.0.0.1:0", "nonsense"]))
    await honest.while_chatting(lives_on(liar))
    book = honest.ada._driver.node.links.book
    told = [address for peer in book for address in book.addresses(peer) if address.teller == liar.id]
    assert 0 < len(told) <= 64
    assert len(honest.ada._driver.node.links.by_peer) == 2


async def test_frames_about_what_is_not_theirs_are_ignored(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    secret = Naming(dm=tuple(sorted((key(honest.ada), key(honest.bob)))))  # type: ignore[arg-type]
    await (await honest.bob.send("ada", "between the two of us")).delivered(timeout=5)
    dm = next(id for id, naming in honest.ada._driver.node.namings.items() if naming.dm)
    liar.say(
        Want(1, dm, key(honest.bob), [], names=[secret]),
        Have({dm: {key(honest.bob): []}}, names=[secret], ask=True, span=ALL),
        Digest(sums={dm: HEX}, span=ALL, names=[secret]),
        TypingFrame(dm, liar.id, True, names=[secret]),
        ReadFrame({dm: {liar.id: []}}, names=[secret]),
        Want(2, HEX, HEX, []),
        msgspec.structs.replace(Pen(liar.identity, dm).say("let me in"), names=[secret]),
    )
    await honest.while_chatting(lives_on(liar))
    await honest.ada._driver.settle()
    told = b"".join(encode(frame) for frame in liar.frames if isinstance(frame, Frame))
    assert dm.encode() not in told and b"between the two" not in told
    assert honest.ada.counted["conversation_ignored"] >= 5
    assert [post.text for post in await honest.ada.history("bob")] == ["between the two of us"]


async def test_names_that_look_alike_are_told_apart(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    for name in ("bob", "b\u043eb", "BOB", "bob\u200b", "b\u202eob", "", " bob", "#bob", "\x1b[31mbob"):
        liar.say(Here([Hosted(liar.id, name, "online")]))
    await honest.while_chatting(lives_on(liar))
    labels = {honest.ada.people.user(user).label for user in (liar.id, key(honest.bob))}
    assert len(labels) == 2 and all("#" in label for label in labels)
    assert "\x1b" not in "".join(labels) and "name" in honest.warned


async def test_texts_neither_drive_a_terminal_nor_forge_a_log_line(
    meet: Meet, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = await meet()
    liar = await honest.liar()
    nasty = (
        '\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\r\n12:00 bob: pay eve\u2028{"event":"stopped"}\x9b31m\u200b\U000e0041'
    )
    pen = Pen(liar.identity, liar.room)
    liar.say(pen.say(nasty))
    await liar.until(lambda: liar.marks(liar.id) == [pen.mark])
    [post] = [post for post in await honest.ada.history("room", limit=0) if post.text.startswith("\x1b]")]
    assert post.text == nasty  # the store keeps what was sent
    line = json_line(post.to_json())
    assert not [c for c in line if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029"]
    for shown in (safe_text(nasty), safe_line(nasty)):
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2066", "\u200b", "\U000e0041"} & {*shown}
    assert nasty not in repr(post) and "\x1b" not in capsys.readouterr().err


async def test_digests_that_never_agree_cost_others_nothing(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()

    async def disagree() -> None:
        for n in range(300):
            liar.say(Digest(sum=f"{n:064x}"), Digest(sums={liar.room: f"{n:064x}"}, span=ALL, names=[ROOM]))
            liar.say(Have({liar.room: {}}, span=ALL, ask=True))
            await asyncio.sleep(0)
        await lives_on(liar)

    await honest.while_chatting(disagree())


async def test_full_for_everything_keeps_nothing_from_others(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    users = [f"{n:064x}" for n in range(1000)]
    for _ in range(20):
        liar.say(Have({}, full={liar.room: [key(honest.ada), key(honest.bob), *users[:998]]}, names=[ROOM]))
        users = [f"{int(user, 16) + 1000:064x}" for user in users]
    heard = len(liar.frames)
    await honest.while_chatting(lives_on(liar))
    assert not [frame for frame in liar.frames[heard:] if isinstance(frame, Entries)]  # and it gets nothing
    assert honest.warned == ["refused"]


async def test_marks_about_nothing_are_wanted_of_their_teller_alone(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    for start in range(0, 20_000, 500):
        marks = {f"{n:064x}": [Mark(f"{n:016x}", 2**53 - 1, "ab" * 8)] for n in range(start, start + 500)}
        liar.say(Have({liar.room: marks}, span=(f"{start:064x}", f"{start + 499:064x}"), names=[ROOM]))
    await honest.while_chatting(lives_on(liar))
    wants = [frame for frame in liar.frames if isinstance(frame, Want)]
    assert 0 < len(wants) <= 64
    sync = honest.ada._driver.node.sync
    assert max(side.ahead_count for side in sync.context.remotes.values()) <= 10_000


async def test_conversations_about_nothing_are_bounded(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    ada = key(honest.ada)
    for start in range(0, 12_000, 500):
        others = [somebody(f"x{n}").peer_id if n < 1 else f"{n:064x}" for n in range(start, start + 500)]
        names = [Naming(dm=tuple(sorted((ada, other)))) for other in others]  # type: ignore[arg-type]
        liar.say(Have({}, names=names))
    own = [Naming(dm=tuple(sorted((ada, liar.id))))] * 500  # type: ignore[arg-type]
    liar.say(Have({}, names=own))
    await honest.while_chatting(lives_on(liar))
    assert len(honest.ada._driver.node.namings) <= 4


async def test_a_writer_with_5_000_logs_has_64_tips(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    pens = [Pen(liar.identity, liar.room) for _ in range(5_000)]

    async def scribble() -> None:
        await liar.pour(pen.say("x") for pen in pens)
        await liar.until(lambda: liar.is_full(liar.id))
        await lives_on(liar)

    await honest.while_chatting(scribble())
    writer = honest.ada._driver.node.sync.conversations.by_id[liar.room].writers[liar.id]
    assert len(writer.logs) == 64
    assert len([frame for frame in liar.frames if isinstance(frame, Have) and frame.full]) < 100


async def test_a_writer_whose_500_logs_build_on_each_other_stands_in_memory_once(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()

    async def scribble() -> Pen:
        pen = Pen(liar.identity, liar.room)
        liar.say(pen.say("x"))
        for _ in range(500):
            pen = Pen(liar.identity, liar.room, before=[pen.mark])
            liar.say(pen.say("x"))
        await liar.until(lambda: liar.marks(liar.id) == [pen.mark])
        return pen

    await honest.while_chatting(scribble())
    writer = honest.ada._driver.node.sync.conversations.by_id[liar.room].writers[liar.id]
    assert len(writer.logs) == 1


IN_ONE_READ = 256 * 1024 // 16 + 500  # frames as small as a ping in what is read at once, and the burst
Flood = Callable[[Liar, Honest], Frame | bytes]
FLOODS: dict[str, Flood] = {
    "ping": lambda liar, honest: Ping(),
    "unknown": lambda liar, honest: LENGTH.pack(13) + b'{"t":"later"}',
    "peers": lambda liar, honest: Peers(0, ["127.0.0.1:9"]),
    "here": lambda liar, honest: Here([Hosted(liar.id, "eve", "online")]),
    "digest": lambda liar, honest: Digest(sum="0" * 64),
    "want": lambda liar, honest: Want(1, liar.room, key(honest.bob), [], names=[ROOM]),
    "typing": lambda liar, honest: TypingFrame(liar.room, liar.id, True, names=[ROOM]),
    "read": lambda liar, honest: ReadFrame({liar.room: {liar.id: []}}, names=[ROOM]),
}


async def test_floods_are_read_at_100_frames_a_second_and_others_keep_their_share(meet: Meet) -> None:
    honest = await meet()
    for number, (kind, make) in enumerate(FLOODS.items()):
        liar = await honest.liar(f"eve with {kind}")
        frame = make(liar, honest)
        async with asyncio.TaskGroup() as others:
            flood = others.create_task(liar.pour(frame for _ in range(20_000)))
            while honest.ada.counted.get("flood", 0) <= number:
                await honest.chat()
            await honest.chat()
            flood.cancel()
        assert len(liar.frames) < IN_ONE_READ, kind
        await liar.gone()


async def test_a_flood_of_marks_and_of_batches_leaves_others_their_share(meet: Meet) -> None:
    honest = await meet()
    liar = await honest.liar()
    pen = Pen(liar.identity, liar.room)
    batches = [pen.say(*["x"] * 256) for _ in range(200)]
    have = Have({liar.room: {liar.id: [pen.mark], key(honest.bob): []}}, names=[ROOM])

    async def flood() -> None:
        for n in range(10):
            await liar.pour([have] * 500)
            await liar.pour(batches[20 * n : 20 * n + 20])
            await liar.pour([batches[0]] * 20)  # again and again
        await liar.until(lambda: liar.marks(liar.id) == [pen.mark])

    await honest.while_chatting(flood())


async def test_half_a_frame_and_silence_is_a_dead_link(meet: Meet) -> None:
    honest = await meet(settings=replace(QUICK, ping_after=0.3, dead_after=1.0))
    liar = await honest.liar()
    liar.say(LENGTH.pack(100_000) + b'{"t":"entries","c":"')
    assert await honest.while_chatting(liar.farewell()) == ""
    assert [frame for frame in liar.frames if isinstance(frame, Ping)]


async def test_who_wants_all_and_reads_nothing_is_cut_off_as_slow(meet: Meet) -> None:
    honest = await meet(settings=replace(QUICK, stuck_after=1.0, buffer_limit_bytes=256 * 1024))
    await honest.ada.send_many("room", ["x" * 30_000] * 500)
    liar = await honest.liar()
    liar.read_nothing()
    liar.say(Want(1, liar.room, key(honest.ada), [], names=[ROOM]))
    links = honest.ada._driver.node.links.by_peer
    clients = honest.ada._driver.connections._clients

    async def cut() -> int:
        most = 0
        while liar.id in links:
            most = max(
                most,
                *(client._written_bytes and client._transport.get_write_buffer_size() for client in clients.values()),
            )
            await asyncio.sleep(0.02)  # no event says how much is held: it is looked at now and then
        return most

    async with asyncio.timeout(10):
        assert 0 < await honest.while_chatting(cut()) < 3 * 1024 * 1024  # of 15 MB
