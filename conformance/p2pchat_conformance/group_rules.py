"""Rules of level full about groups: who is a member, and what additions, removals, leaves and admins do.

In half of them the kit owns the group and the candidate is a member. In the other half the candidate owns it, and the
commands of docs/conformance.md change it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.groups.group_fact import group_id, run_of, talk_id
from p2pchat.core.log import LogId, RawEntry
from p2pchat.protocol import Mark, UserId
from p2pchat_conformance.awaited_frames import ScriptedLink, check
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedLog, ScriptedMember, group_namings
from p2pchat_conformance.serving_rules import numbers, served

DONE = "done"  # the candidate's answer to a command that it carried out


async def order(link: ScriptedLink, command: str) -> str:
    """Send a command to the candidate and return what it answers."""
    log, batch = link.member.say(link.member.dm(), command)
    link.send(batch)
    ref = log.ref()

    def answers() -> list[Any]:
        came = link.entries_of(link.kit.candidate, link.member.dm())
        return [one["b"] for one in came if one.get("re") == ref and one["k"] == "text"]

    await link.until(answers, f"answer to {command.split()[0]}")
    return str(answers()[0])


async def ordered(link: ScriptedLink, command: str) -> None:
    """Send a command that the candidate must carry out."""
    answer = await order(link, command)
    check(answer == DONE, f"{command.split()[0]} was answered with {answer[:80]!a}, and not with {DONE!r}")


def shown(user: UserId) -> str:
    """Return an id as people see it."""
    return base64.b32encode(bytes.fromhex(user)).decode().rstrip("=")


class ScriptedGroup:
    """A group that a member of the kit owns; its facts and its talk."""

    def __init__(self, owner: ScriptedMember, *others: str) -> None:
        self.owner = owner
        self.name: str = f"s{owner.kit.draw('name', 4).hex()}"
        self.tips: dict[str, Mark] = {}
        kit = owner.kit
        about: dict[UserId, list[str]] = {user: [] for user in (owner.id, *others)}
        salt = kit.draw("salt", 16).hex()
        raw = ScriptedLog(LogId(kit.room, owner.id, owner.run())).entry(
            "group", {"k": "create", "who": about, "name": self.name, "salt": salt}
        )
        self.id: str = group_id(kit.room, owner.id, raw)
        self.talk: str = talk_id(self.id)
        self.first: ScriptedLog = self.log_of(owner, raw)
        self.share(owner)

    def share(self, *members: ScriptedMember) -> None:
        """Let these members speak of the group."""
        for member in members:
            member.shared.update(group_namings(self.id, self.owner.id, self.first.id.run))

    def log_of(self, by: ScriptedMember, raw: RawEntry) -> ScriptedLog:
        """Return the log of a member with a fact in it, which builds on its last one."""
        before = [self.tips[by.id]] if by.id in self.tips else []
        run = run_of(self.id, by.id, tuple(before), by.kit.network.guest(by.id), raw)
        log = by.log(self.id, before=before, run=run)
        log.write(raw)
        self.tips[by.id] = log.mark()
        return log

    def say_fact(
        self, by: ScriptedMember, kind: str, who: dict[UserId, list[str]] | None = None, **fields: object
    ) -> ScriptedLog:
        """Let a member say a fact; return its log."""
        about = {"who": who} if who else {}
        entry = ScriptedLog(LogId(self.id, by.id, by.run())).entry("group", {"k": kind, **about, **fields})
        return self.log_of(by, entry)

    def say(self, member: ScriptedMember, text: str) -> tuple[ScriptedLog, wire.Entries]:
        return member.say(self.talk, text)

    async def echoed(self, link: ScriptedLink, text: str) -> dict[str, Any]:
        """Let a member say `echo TEXT` in the talk; return the candidate's answer."""
        log, batch = self.say(link.member, f"echo {text}")
        link.send(batch)
        await link.acked(log)
        return await link.answer(self.talk, text, log.ref())


def fact_id(log: ScriptedLog) -> str:
    return log.mark().chain[:32]


async def founded(kit: Kit, *names: str) -> tuple[ScriptedGroup, list[ScriptedLink]]:
    """Return a group of the candidate and these members, the first of which owns it, and their links."""
    links = [await kit.join(name) for name in names]
    group = ScriptedGroup(links[0].member, kit.candidate, *(link.member.id for link in links[1:]))
    group.share(*(link.member for link in links))
    await said(links[0], group.first)
    return group, links


async def said(link: ScriptedLink, *logs: ScriptedLog) -> None:
    """Send facts, and wait until they are taken."""
    for log in logs:
        link.send(log.batch(1))
    for log in logs:
        await link.acked(log)


def log_in(group: ScriptedGroup, link: ScriptedLink) -> ScriptedLog:
    """Return what a member wrote in the talk."""
    return next(log for id, log in link.member.held.items() if id[:2] == (group.talk, link.member.id))


def texts(link: ScriptedLink, conversation: str) -> list[object]:
    return [one.get("b") for one in link.entries_of(link.kit.candidate, conversation)]


# ---- the candidate as a member


@rule
async def a_member_of_a_group_answers_there(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(ada, "the first word")
    await group.echoed(bob, "the second word")


@rule
async def a_group_is_told_to_its_members_only(kit: Kit) -> None:
    zoe = await kit.join("zoe")
    group, (ada,) = await founded(kit, "ada")
    await group.echoed(ada, "among us")
    naming = wire.Naming(group=(group.id, ada.member.id, group.first.id.run))
    zoe.send(wire.Want(5, group.id, ada.member.id, [], names=[naming]))
    await zoe.end_of(5)
    await zoe.echoed("did you hear of a group?")
    told = [text for text in zoe.texts if (group.id in text or group.talk in text) and '"end":5' not in text]
    check(not told, f"somebody who was never named was told: {told[:1]}")
    check(not [one for one in zoe.frames if isinstance(one, wire.Entries) and one.c == group.id], "and was served")


@rule
async def a_log_that_names_an_unknown_fact_waits_for_it(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "before it")
    await ada.compared()
    ada.member.answers -= {"want", "have", "digest"}
    added = group.say_fact(ada.member, "add", {bob.member.id: []})
    log = bob.member.log(group.talk, before=[added.mark(), log_in(group, bob).mark()])
    bob.send(log.text("echo after it"))
    await ada.echoed("meanwhile")
    await bob.round_trip()
    check("after it" not in texts(bob, group.talk), "an entry of a log that names an unknown fact was shown")
    ada.send(added.batch(1))
    await bob.acked(log)
    await bob.answer(group.talk, "after it", log.ref())


@rule
async def who_is_no_member_is_not_shown(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    zoe = kit.member("zoe")
    log = zoe.log(group.talk)
    log.text("echo let me in")
    ada.member.held[log.id] = log
    ada.send(log.batch(1))
    await group.echoed(bob, "who was that?")
    check("let me in" not in texts(bob, group.talk), "an entry of a user who is no member was shown")


@rule
async def a_fact_of_a_plain_member_has_no_effect(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    zoe = kit.member("zoe")
    await said(bob, group.say_fact(bob.member, "add", {zoe.id: []}))
    log = zoe.log(group.talk)
    log.text("echo invited by bob")
    bob.member.held[log.id] = log
    bob.send(log.batch(1))
    await group.echoed(ada, "I invited nobody")
    check("invited by bob" not in texts(bob, group.talk), "an addition by a plain member counted")


@rule
async def an_odd_fact_is_taken_without_effect(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await said(ada, group.say_fact(ada.member, "remove", {bob.member.id: [], ada.member.id: []}))
    said_by_bob, batch = group.say(bob.member, "echo still a member")
    bob.send(batch)
    await bob.answer(group.talk, "still a member", said_by_bob.ref())


@rule
async def a_fact_in_another_log_is_refused(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    log = ada.member.log(group.id, hold=False)
    ada.send(log.write(log.entry("group", {"k": "remove", "who": {bob.member.id: []}})))
    await ada.ended("malformed", after="a fact in another log")
    await group.echoed(bob, "nothing happened")


@rule
async def another_create_entry_is_not_taken(kit: Kit) -> None:
    ada = await kit.join("ada")
    group = ScriptedGroup(ada.member, kit.candidate)
    raw, other = group.first.raws[0], "ab" * 32
    run = run_of(other, ada.member.id, (), kit.network.guest(ada.member.id), raw)
    log = ada.member.log(other, run=run)
    log.write(raw)
    ada.member.shared.update(group_namings(other, ada.member.id, run))
    ada.send(log.batch(1))
    await said(ada, group.first)
    await group.echoed(ada, "the true one")
    marks = [one.marks.get(other) for one in ada.frames if isinstance(one, wire.Have)]
    check(
        not any(users and any(users.values()) for users in marks),
        "a group was taken whose first entry has another hash",
    )


@rule
async def nothing_is_shown_beyond_a_cut(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "before the removal")
    log = log_in(group, bob)
    held = log.mark()
    await said(ada, group.say_fact(ada.member, "remove", {bob.member.id: []}, cuts=[list(held)]))
    bob.send(log.text("echo after the removal"))
    await group.echoed(ada, "he is gone")
    check("after the removal" not in texts(ada, group.talk), "an entry beyond the cut was shown")
    marks = (await ada.marks_in(group.talk)).get(bob.member.id)
    check(marks == [held], f"the marks of the removed member are {marks}, and the cut is at {held}")
    beyond = [seq for _, seq in numbers(await served(ada, log)) if seq > held.seq]
    check(not beyond, f"entries beyond the cut were served: {beyond}")


@rule
async def a_batch_that_reaches_a_cut_is_taken(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "what you know of me")
    bob.member.answers -= {"want", "have"}
    log = log_in(group, bob)
    first = len(log.raws) + 1
    log.write(log.entry("text", "echo up to the cut"), log.entry("text", "echo beyond the cut"))
    end = log.mark(first)
    await said(ada, group.say_fact(ada.member, "remove", {bob.member.id: []}, cuts=[list(end)]))
    ada.member.held[log.id] = log
    ada.send(log.batch(first))  # its writer is no member any more; another brings it
    await ada.answer(group.talk, "up to the cut", log.ref(first))
    await group.echoed(ada, "and nothing else")
    check("beyond the cut" not in texts(ada, group.talk), "an entry beyond the cut was shown")
    marks = (await ada.marks_in(group.talk)).get(bob.member.id)
    check(marks == [end], f"the marks of the removed member are {marks}, and the cut is at {end}")


@rule
async def who_is_added_again_names_that_in_a_new_log(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "the first time")
    log = log_in(group, bob)
    gone = group.say_fact(ada.member, "remove", {bob.member.id: []}, cuts=[list(log.mark())])
    back = group.say_fact(ada.member, "add", {bob.member.id: [fact_id(gone)]})
    await said(ada, gone, back)
    stale = bob.member.log(group.talk, before=[log.mark()])
    bob.send(stale.text("echo in between"))
    fresh = bob.member.log(group.talk, before=[back.mark(), log.mark()])
    bob.send(fresh.text("echo back again"))
    await bob.answer(group.talk, "back again", fresh.ref())
    check("in between" not in texts(bob, group.talk), "what lies between a cut and the adding was shown")


@rule
async def an_admin_removes_plain_members_alone(kit: Kit) -> None:
    group, (ada, bob, cyd) = await founded(kit, "ada", "bob", "cyd")
    for link in (bob, cyd):
        await group.echoed(link, f"{link.label} is a member")
    await said(ada, group.say_fact(ada.member, "admin", {bob.member.id: []}))
    cuts = [list(log_in(group, cyd).mark())]
    gone = group.say_fact(bob.member, "remove", {cyd.member.id: []}, cuts=cuts)
    await said(bob, gone)
    await said(bob, group.say_fact(bob.member, "remove", {ada.member.id: []}))
    batch = log_in(group, cyd).text("echo cyd again")
    cyd.send(batch)
    await group.echoed(ada, "ada is still here")
    check("cyd again" not in texts(ada, group.talk), "a member whom an admin had removed was shown")
    for kind in ("add", "admin"):
        await said(ada, group.say_fact(ada.member, kind, {cyd.member.id: [fact_id(gone)]}))
    cyd.send(batch)
    await group.echoed(ada, "cyd is an admin")
    check("cyd again" not in texts(ada, group.talk), "what a member wrote while it was out was shown later")


@rule
async def a_newcomer_is_served_the_history(kit: Kit) -> None:
    group, (ada, _) = await founded(kit, "ada", "cyd")
    newcomer = await kit.join("dan")
    await group.echoed(ada, "long ago")
    group.share(newcomer.member)
    await said(ada, group.say_fact(ada.member, "add", {newcomer.member.id: []}))
    for conversation, what in ((group.id, "facts"), (group.talk, "talk")):
        newcomer.wants += 1
        newcomer.send(wire.Want(newcomer.wants, conversation, ada.member.id, []))
        await newcomer.end_of(newcomer.wants)
        found = newcomer.entries_of(ada.member.id, conversation)
        check(found, f"nothing of the {what} was served to the new member")


@rule
async def who_has_left_is_not_shown(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "before I leave")
    log = log_in(group, bob)
    await said(bob, group.say_fact(bob.member, "leave", cuts=[list(log.mark())]))
    bob.send(log.text("echo after I left"))
    await group.echoed(ada, "bob has left")
    check("after I left" not in texts(ada, group.talk), "an entry of a member who had left was shown")


@rule
async def a_removal_that_an_addition_did_not_know_holds(kit: Kit) -> None:
    group, (ada, bob, cyd) = await founded(kit, "ada", "bob", "cyd")
    await group.echoed(cyd, "cyd is a member")
    await said(ada, group.say_fact(ada.member, "admin", {bob.member.id: []}))
    cuts = [list(log_in(group, cyd).mark())]
    one = group.say_fact(ada.member, "remove", {cyd.member.id: []}, cuts=cuts)
    other = group.say_fact(bob.member, "remove", {cyd.member.id: []}, cuts=cuts)
    back = group.say_fact(ada.member, "add", {cyd.member.id: [fact_id(one)]})
    await said(ada, one, back)
    await said(bob, other)
    cyd.send(cyd.member.log(group.talk, before=[back.mark()]).text("echo cyd again"))
    await group.echoed(ada, "who is still here?")
    check("cyd again" not in texts(ada, group.talk), "an addition ended a removal that it does not name")


@rule
async def a_leave_is_written(kit: Kit) -> None:
    group, (ada,) = await founded(kit, "ada")
    answer = await group.echoed(ada, "a last word")
    await ordered(ada, f"/leave {group.name}")
    leaves: list[dict[str, Any]] = []

    def there() -> list[Any]:
        leaves[:] = [one for one in ada.entries_of(kit.candidate, group.id) if one["b"]["k"] == "leave"]
        return leaves

    await ada.until(there, "fact that the candidate left")
    cuts = leaves[0]["b"]["cuts"]
    check([cut[:2] for cut in cuts] == [[answer["run"], answer["seq"]]], f"its cuts are {cuts}")


# ---- the candidate as the owner


async def created(kit: Kit, *names: str) -> tuple[str, ScriptedLog, list[ScriptedLink]]:
    """Let the candidate create a group; return its name, the log that makes it, and the links."""
    links = [await kit.join(name) for name in names]
    for link in links:
        link.member.learns = True
    name = f"g{kit.draw('name', 4).hex()}"
    others = [shown(link.member.id) for link in links[1:]]
    await ordered(links[0], " ".join(["/group", name, *others]))
    for link in links:
        await fact_of(link, "create")
    return name, (await fact_of(links[0], "create"))[1], links


async def fact_of(link: ScriptedLink, kind: str) -> tuple[dict[str, Any], ScriptedLog]:
    """Wait for a fact of the candidate; return its body, and its log as a member has it."""
    found: list[tuple[dict[str, Any], ScriptedLog]] = []

    def there() -> bool:
        groups = {id for id, naming in link.member.shared.items() if naming.group}
        logs = [log for id, log in link.member.held.items() if id.conversation in groups and log.raws]
        bodies = [(json.loads(str(log.raws[0][1]))["b"], log) for log in logs if log.id.user == link.kit.candidate]
        found[:] = [(body, log) for body, log in bodies if body["k"] == kind]
        return bool(found)

    await link.until(there, f"fact of the kind {kind}")
    return found[0]


@rule
async def a_group_is_created(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    body, _ = await fact_of(ada, "create")
    check(len(log.raws) == 1, "its log has more entries")
    expected = group_id(kit.room, kit.candidate, log.raws[0])
    check(expected == log.id.conversation, "the id of the group is not the hash of the entry that makes it")
    who: dict[UserId, list[str]] = {kit.candidate: [], ada.member.id: [], bob.member.id: []}
    check((body["name"], body["who"]) == (name, who), f"it is {body}")
    salt = body.get("salt", "")
    check(len(salt) == 32 and set(salt) <= set("0123456789abcdef"), f"`salt` is {salt!a}")


@rule
async def an_addition_ends_what_took_somebody_out(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    await ordered(ada, f"/remove {name} {shown(bob.member.id)}")
    _, gone = await fact_of(ada, "remove")
    await ordered(ada, f"/add {name} {shown(bob.member.id)}")
    body, back = await fact_of(bob, "add")
    check(body["who"] == {bob.member.id: [fact_id(gone)]}, f"it says {body['who']}")
    check(gone.mark() in back.before and log.mark() in gone.before, "a fact does not build on the one before")


@rule
async def a_removal_is_cut_and_told(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    mine, batch = ada.member.say(talk_id(log.id.conversation), "echo I was here")
    ada.send(batch)
    await ada.acked(mine)
    await ordered(bob, f"/remove {name} {shown(ada.member.id)}")
    body, _ = await fact_of(ada, "remove")  # the removed member learns of it
    check(body["who"] == {ada.member.id: []}, f"it is about {body['who']}")
    cuts = [tuple(one) for one in body["cuts"]]
    check(cuts == [tuple(mine.mark())], f"`cuts` are {cuts}, and ada's mark is {mine.mark()}")


@rule
async def a_group_is_handed_over(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    await ordered(bob, f"/hand-over {name} {shown(ada.member.id)}")
    body, _ = await fact_of(ada, "heir")
    check(body["who"] == {ada.member.id: []} and body.get("n", 0) == 0, f"it says {body}")
    group = log.id.conversation
    raw = ScriptedLog(LogId(group, ada.member.id, ada.member.run())).entry(
        "group", {"k": "remove", "who": {bob.member.id: []}}
    )
    mine = ada.member.log(group, run=run_of(group, ada.member.id, (), kit.network.guest(ada.member.id), raw))
    mine.write(raw)
    await said(ada, mine)
    _, batch = bob.member.say(talk_id(group), "echo as a former member")
    bob.send(batch)
    adas, batch = ada.member.say(talk_id(group), "echo as the owner")
    ada.send(batch)
    await ada.answer(talk_id(group), "as the owner", adas.ref())
    check("as a former member" not in texts(ada, talk_id(group)), "a member whom the new owner removed was shown")
