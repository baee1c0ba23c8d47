"""Rules of level full about hosted users: their certificates, their announcements, and their conversations.

The commands of docs/conformance.md host users.
"""

from __future__ import annotations

from p2pchat import protocol as wire
from p2pchat.core.log import verify
from p2pchat.core.mesh.handshake import host_message
from p2pchat_conformance.awaited_frames import ScriptedLink, check, mentioned, now_us
from p2pchat_conformance.group_rules import ordered
from p2pchat_conformance.runner import Kit, rule

WEEK_MS = 7 * 24 * 3_600_000


async def hosted(kit: Kit, link: ScriptedLink) -> tuple[str, wire.Hosted]:
    """Let the candidate host one more user; return the name and the announcement."""
    name = f"h{kit.draw('user', 4).hex()}"
    await ordered(link, f"/host {name}")
    here = await link.next(
        wire.Here, f"`here` with {name}", where=lambda one: any(user.name == name for user in one.users)
    )
    return name, next(user for user in here.users if user.name == name)


@rule
async def hosted_users_are_certified(kit: Kit) -> None:
    link = await kit.join("ada")
    _, user = await hosted(kit, link)
    cert = user.cert
    check(cert is not None, "it has no certificate")
    assert cert is not None
    check(0 < cert.until_ms - cert.from_ms <= WEEK_MS, f"it is good from {cert.from_ms} until {cert.until_ms}")
    now = now_us() // 1000
    check(cert.from_ms - 60_000 <= now < cert.until_ms, "it is not good now")
    message = host_message(kit.network.id, user.id, kit.candidate, cert.from_ms, cert.until_ms)
    check(verify(user.id, bytes.fromhex(cert.sig), message), "its signature is wrong")


@rule
async def hosted_users_answer_with_their_own_key(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    _, user = await hosted(kit, ada)
    await bob.until(lambda: user.id in bob.member.told, "`here` with the new user on another link")
    for link in (ada, bob):
        conversation = link.member.dm(user.id)
        log, batch = link.member.say(conversation, f"to the new user from {link.label}")
        link.send(batch)
        await link.acked(log)
        await link.answer(conversation, f"to the new user from {link.label}", log.ref(), user=user.id)
        first = next(place for place, text in enumerate(link.texts) if user.id in text)
        check(isinstance(link.frames[first], wire.Here), f"the first frame about the user is {link.texts[first][:80]}")


@rule
async def a_new_link_is_told_of_all_users(kit: Kit) -> None:
    ada = await kit.join("ada")
    users = [(await hosted(kit, ada))[1] for _ in range(2)]
    bob = await kit.join("bob")
    missing = [user.name for user in users if user.id not in bob.member.told]
    check(not missing and kit.candidate in bob.member.told, f"the first list of users lacks {missing}")
    await bob.echoed("and you yourself?", bob.member.dm())


@rule
async def a_user_that_is_hosted_no_longer_is_gone(kit: Kit) -> None:
    ada = await kit.join("ada")
    name, user = await hosted(kit, ada)
    conversation = ada.member.dm(user.id)
    await ordered(ada, f"/unhost {name}")
    await ada.next(wire.Here, "`here` with the user in `gone`", where=lambda one: user.id in one.gone)
    log = ada.member.log(conversation)
    before = len(ada.frames)
    ada.send(log.text("are you there?"))
    await ada.echoed("who is there?", ada.member.dm())
    told = [one for one in ada.frames[before:] if conversation in mentioned(one)]
    check(not told, "a message to a user who is hosted no longer was acknowledged")


@rule
async def conversations_are_named_again_with_one_user_more(kit: Kit) -> None:
    """Let the candidate send names again: each of its frames is judged anyway, and here it sends some."""
    ada = await kit.join("ada")
    await ada.echoed("before the new user", ada.member.dm())
    await hosted(kit, ada)
    await ada.echoed("after it", ada.member.dm())
    await ada.echoed("after it, in the room")
