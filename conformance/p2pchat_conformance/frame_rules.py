"""Rules of level bot about frames: lengths, JSON, types, what is ignored; and about the users who are announced."""

from __future__ import annotations

from p2pchat import protocol as wire
from p2pchat.core.log import LogId
from p2pchat.core.mesh.handshake import host_message
from p2pchat.core.names import name_fault
from p2pchat_conformance.awaited_frames import (
    HIGHEST,
    LOWEST,
    check,
    framed,
    now_us,
)
from p2pchat_conformance.runner import Kit, rule

HOUR_US = 3_600_000_000


# ---- frames


@rule
async def pings_are_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send(*[wire.Ping()] * 5)
    await link.until(lambda: sum(isinstance(one, wire.Pong) for one in link.frames) >= 5, "five `pong` for five `ping`")
    await link.echoed("five pings")
    check(sum(isinstance(one, wire.Pong) for one in link.frames) == 5, "more pongs than pings")


@rule
async def many_frames_at_once_are_all_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send(*[wire.Ping()] * 560)
    await link.until(lambda: sum(isinstance(one, wire.Pong) for one in link.frames) >= 560, "560 `pong` for 560 `ping`")


@rule
async def frames_arrive_in_any_pieces(kit: Kit) -> None:
    link = await kit.join("ada")
    _, batch = link.member.say(kit.room, "echo in pieces")
    data = link._encoded(batch)
    for place in range(0, len(data), 7):
        link.writer.write(data[place : place + 7])
        await link.writer.drain()
    await link.answer(kit.room, "in pieces")
    texts = [link.member.say(kit.room, f"echo together {n}")[1] for n in range(3)]
    link.send(*texts)
    for n in range(3):
        await link.answer(kit.room, f"together {n}")


async def closes_with(kit: Kit, code: str, *frames: bytes) -> None:
    """Send each of these on a link of its own, and await a bye with this code."""
    for place, data in enumerate(frames):
        link = await kit.join(f"ada-{place}")
        link.send(data)
        await link.ended(code, after=f"{data[:90]!r}")


@rule
async def lengths_are_limited(kit: Kit) -> None:
    await closes_with(kit, "malformed", wire.LENGTH.pack(0))
    await closes_with(kit, "limit", wire.LENGTH.pack(256 * 1024 + 1), wire.LENGTH.pack(0xFFFFFFFF))


@rule
async def utf_8_is_strict(kit: Kit) -> None:
    await closes_with(
        kit, "malformed", framed(b'{"t":"ping","x":"\xff"}'), framed(b'{"t":"ping","x":"\xed\xa0\x80"}'),
        framed(b'\xef\xbb\xbf{"t":"ping"}'),
    )  # fmt: skip


@rule
async def json_is_strict(kit: Kit) -> None:
    await closes_with(
        kit, "malformed", framed('{"t":"ping","x":NaN}'), framed('{"t":"ping","x":-Infinity}'),
        framed('{"t":"ping"}{}'), framed('["ping"]'), framed('{"x":1}'),
        framed('{"t":7}'), framed('{"t":"ping",}'),
    )  # fmt: skip
    link = await kit.join("bob")
    link.send(framed(' {"t" : "ping"}\r\n\t '))
    await link.next(wire.Pong)


@rule
async def half_a_surrogate_pair_is_refused(kit: Kit) -> None:
    await closes_with(kit, "malformed", framed('{"t":"ping","x":"\\ud800"}'), framed('{"t":"ping","\\udc00":1}'))
    link = await kit.join("bob")
    link.send(framed('{"t":"ping","x":"\\ud83d\\ude00"}'))
    await link.next(wire.Pong)


@rule
async def integers_fit_53_bits(kit: Kit) -> None:
    await closes_with(
        kit, "malformed", framed('{"t":"ping","x":9007199254740992}'), framed('{"t":"ping","x":[-9007199254740992]}'),
        framed('{"t":"ping","x":1e400}'),
    )  # fmt: skip
    link = await kit.join("bob")
    link.send(framed('{"t":"ping","x":9007199254740991}'), framed('{"t":"ping","x":9007199254740993.0,"y":1e20}'))
    await link.until(lambda: sum(isinstance(one, wire.Pong) for one in link.frames) >= 2, "a `pong` for each `ping`")


@rule
async def frames_nest_16_deep(kit: Kit) -> None:
    await closes_with(kit, "malformed", framed('{"t":"ping","x":' + "[" * 16 + "]" * 16 + "}"))
    link = await kit.join("bob")
    link.send(framed('{"t":"ping","x":' + "[" * 15 + "]" * 15 + ',"y":"' + "[" * 40 + '"}'))
    await link.next(wire.Pong)


@rule
async def types_are_exact(kit: Kit) -> None:
    odd = ("8080.0", '"8080"', "1e3", "-1", "true", "9007199254740992")
    wants = [f'{{"t":"want","n":{value},"c":"{LOWEST}","u":"{LOWEST}","tips":[]}}' for value in odd]
    await closes_with(kit, "malformed", *map(framed, wants))


@rule
async def fields_have_their_types(kit: Kit) -> None:
    await closes_with(
        kit, "malformed", framed('{"t":"have","marks":[]}'), framed(f'{{"t":"digest","sum":"{LOWEST}","ask":1}}'),
        framed('{"t":"here","users":{}}'), framed('{"t":"here"}'),
        framed(f'{{"t":"want","n":"1","c":"{LOWEST}","u":"{LOWEST}","tips":[]}}'),
        framed(f'{{"t":"want","n":-1,"c":"{LOWEST}","u":"{LOWEST}","tips":[]}}'),
    )  # fmt: skip


@rule
async def hex_is_lower_case(kit: Kit) -> None:
    await closes_with(
        kit,
        "malformed",
        framed('{"t":"digest","sum":"%s"}' % ("A" * 64)),
        framed('{"t":"digest","sum":"%s"}' % ("a" * 63)),
    )


@rule
async def no_mark_of_entry_0(kit: Kit) -> None:
    link = await kit.join("bob")
    marks = f'{{"{kit.room}":{{"{link.member.id}":[["{"ab" * 8}",0,"{"cd" * 32}"]]}}}}'
    await closes_with(kit, "malformed", framed('{"t":"have","marks":' + marks + "}"))


@rule
async def spans_go_upwards(kit: Kit) -> None:
    await closes_with(kit, "malformed", framed(f'{{"t":"digest","sums":{{}},"span":["{HIGHEST}","{LOWEST}"]}}'))


@rule
async def a_digest_has_a_sum_or_sums(kit: Kit) -> None:
    span = f'"span":["{LOWEST}","{HIGHEST}"]'
    await closes_with(
        kit, "malformed", framed('{"t":"digest"}'), framed(f'{{"t":"digest","sums":{{}},"sum":"{LOWEST}",{span}}}'),
        framed(f'{{"t":"digest",{span},"sum":"{LOWEST}"}}'),
    )  # fmt: skip


@rule
async def names_are_of_one_kind(kit: Kit) -> None:
    first, second = sorted((kit.candidate, kit.identity("zoe").peer_id))
    digest = '{"t":"digest","sum":"%s","names":[%s]}'
    await closes_with(
        kit, "malformed", framed(digest % (LOWEST, f'{{"dm":["{second}","{first}"]}}')),
        framed(digest % (LOWEST, f'{{"dm":["{first}","{second}"],"talk":"{LOWEST}"}}')),
    )  # fmt: skip


@rule
async def unknown_fields_are_ignored(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send({"t": "ping", "from": "a later version", "x": {"y": [None, 1.5, "z"]}})
    await link.next(wire.Pong)
    log, batch = link.member.say(kit.room, "echo with a field more")
    link.send(link.changed(batch, names=[{"channel": "later"}], later=[1]))
    await link.acked(log)
    await link.answer(kit.room, "with a field more")


@rule
async def unknown_frames_are_ignored(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send({"t": "hologram", "v": 3}, {"t": ""}, {"t": "file", "v": 1, "room": kit.room}, {"t": "constructor"})
    await link.round_trip()


@rule
async def the_last_of_repeated_keys_counts(kit: Kit) -> None:
    link = await kit.join("ada")
    link.send(framed('{"t":"bye","code":"left","t":"ping"}'))
    await link.next(wire.Pong)
    link.send(framed('{"t":"ping","t":"hologram"}'))
    await link.round_trip()
    check(sum(isinstance(one, wire.Pong) for one in link.frames) == 2, "the first `t` counted")


@rule
async def false_and_empty_are_read_as_absent(kit: Kit) -> None:
    link = await kit.join("ada")
    log, batch = link.member.say(kit.room, "echo nothing in it")
    link.send(link.changed(batch, fork=False))
    link.send({"t": "here", "users": [], "gone": [], "more": False})
    await link.acked(log)
    await link.answer(kit.room, "nothing in it")


@rule
async def frames_before_a_fault_count(kit: Kit) -> None:
    watcher = await kit.join("bob")
    link = await kit.join("ada")
    await link.round_trip()
    _, batch = link.member.say(kit.room, "echo before the fault")
    link.send(batch, framed("[]"))
    await link.ended("malformed", after="a frame that is no object")
    await watcher.answer(kit.room, "before the fault")


@rule
async def a_bye_is_not_answered(kit: Kit) -> None:
    link = await kit.join("ada")
    await link.round_trip()
    link.send(wire.Bye("left"))
    await link.ended(after="a `bye`")
    check(not any(isinstance(one, wire.Bye) for one in link.frames), "the candidate answered a `bye` with a `bye`")


# ---- users


@rule
async def the_list_of_users_may_have_pages(kit: Kit) -> None:
    member = kit.member("ada")
    link = await kit.link(member, introduce=False)
    own = wire.Here(member.here().users, more=True)
    await link.introduce(wire.Here([], more=True), own, wire.Here([]))
    await link.echoed("in pages", member.dm())


@rule
async def unknown_status_is_taken(kit: Kit) -> None:
    member = kit.member("ada")
    link = await kit.link(member, introduce=False)
    await link.introduce(wire.Here([wire.Hosted(member.id, "ada", "on the phone", text="…", since=now_us())]))
    await link.echoed("which status?", member.dm())


@rule
async def the_candidate_has_a_name(kit: Kit) -> None:
    link = await kit.join("ada")
    own = link.member.told.get(kit.candidate)
    check(own, "`here` does not have the user whose id is the peer id")
    assert own is not None
    check(not name_fault(own.name), f"{own.name!a} is no name")
    _, answer = await link.echoed("who are you?")
    log = LogId(kit.room, kit.candidate, answer["run"])
    await link.until(lambda: any(one["k"] == "profile" for one in link.entries_of(log.user, kit.room)),
                     "`profile` entry of the candidate in the room")  # fmt: skip
    profiles = [one for one in link.entries_of(log.user, kit.room) if one["k"] == "profile"]
    check(profiles[-1]["b"]["name"] == own.name, "the name in `here` is not that of the newest `profile`")


@rule
async def nobody_speaks_for_others_users(kit: Kit) -> None:
    eve = kit.identity("eve").peer_id
    link = await kit.join("ada")
    link.send(wire.Here([wire.Hosted(eve, "eve", "online")]))
    await link.ended("host", after="`here` with a user that is not hosted and without a certificate")
    link = await kit.join("bob")
    ref = link.member.log().ref()
    link.send(wire.ReadFrame({kit.room: {eve: [(str(ref[0]), 1, "00" * 32)]}}))
    await link.ended("host", after="`read` of a user that is not hosted")
    link = await kit.join("cyd")
    link.send(wire.TypingFrame(kit.room, eve, True))
    await link.ended("host", after="`typing` of a user that is not hosted")


@rule
async def wrong_certificates_are_refused(kit: Kit) -> None:
    now, week = now_us() // 1000, 7 * 24 * 3_600_000
    for name, start, end, good in (
        ("old", now - week, now - 25 * 3_600_000, True), ("long", now, now + week + 1, True),
        ("backwards", now, now - 1, True), ("early", now + 25 * 3_600_000, now + week, True),
        ("forged", now, now + week, False),
    ):  # fmt: skip
        member = kit.member(name)
        user = kit.identity(f"user {name}")
        signed = host_message(kit.network.id, user.peer_id, member.id if good else kit.candidate, start, end)
        member.hosted[user.peer_id] = user
        member.certificates[user.peer_id] = wire.Cert(start, end, user.sign(signed).hex())
        link = await kit.link(member, introduce=False)
        link.send(wire.Peers(), member.here())
        await link.ended("host", after=f"`here` with a user whose certificate is {name}")


@rule
async def nobody_speaks_for_a_user_that_is_gone(kit: Kit) -> None:
    now, week = now_us() // 1000, 7 * 24 * 3_600_000
    member, user = kit.member("ada"), kit.identity("eve")
    signed = host_message(kit.network.id, user.peer_id, member.id, now, now + week)
    member.hosted[user.peer_id] = user
    member.certificates[user.peer_id] = wire.Cert(now, now + week, user.sign(signed).hex())
    link = await kit.link(member)
    link.send(wire.TypingFrame(kit.room, user.peer_id, True))
    await link.round_trip()
    link.send(wire.Here([], gone=[user.peer_id]), wire.TypingFrame(kit.room, user.peer_id, True))
    await link.ended("host", after="`typing` of a user that is hosted no longer")


@rule
async def users_with_certificates_are_met(kit: Kit) -> None:
    now, week = now_us() // 1000, 7 * 24 * 3_600_000
    member, user = kit.member("ada"), kit.identity("eve")
    start, end = now - week, now - 23 * 3_600_000
    member.hosted[user.peer_id] = user
    member.certificates[user.peer_id] = wire.Cert(
        start, end, user.sign(host_message(kit.network.id, user.peer_id, member.id, start, end)).hex()
    )
    link = await kit.link(member)
    conversation = member.dm(own=user.peer_id)
    log = member.log(conversation, user=user)
    link.send(log.text("for a hosted user"))
    await link.acked(log)
    await link.answer(conversation, "for a hosted user", log.ref())
