"""Rules of level full about groups: who is a member, what is cited, what a removal, a leave and an addition do.

In half of them the kit owns the group and the candidate is a member. In the other half the candidate owns it, and the
commands of docs/conformance.md change it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.groups.group_state import operation_hash, talk_id
from p2pchat.core.log import LogId, RawEntry
from p2pchat.protocol import UserId
from p2pchat_conformance.awaited_frames import ScriptedLink, check
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedLog, ScriptedMember, group_namings
from p2pchat_conformance.serving_rules import numbers, served

DONE = "done"  # the candidate's answer to a command that it carried out
Cut = tuple[UserId, str, int, str]


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
    """A group that a member of the kit owns; its operations and its talk."""

    def __init__(self, owner: ScriptedMember, *others: str) -> None:
        self.owner = owner
        self.name: str = f"s{owner.kit.draw('name', 4).hex()}"
        self.gen: int = 1
        self.members: dict[str, int] = {owner.id: 1} | dict.fromkeys(others, 1)
        self.cuts: list[Cut] = []
        kit = owner.kit
        body = {**self._body(), "salt": kit.draw("salt", 16).hex()}
        raw = ScriptedLog(LogId(kit.room, owner.id, owner.run())).entry("group", body)
        self.id: str = operation_hash(kit.room, raw)
        self.talk: str = talk_id(self.id)
        self.log: ScriptedLog = owner.log(self.id)
        self.log.write(raw)
        self.operation: RawEntry = raw
        self.share(owner)

    def share(self, *members: ScriptedMember) -> None:
        """Let these members speak of the group."""
        for member in members:
            member.shared.update(group_namings(self.id, self.owner.id, self.log.id.run))

    def _body(self) -> dict[str, Any]:
        return {"gen": self.gen, "name": self.name, "owner": self.owner.id, "members": self.members, "cuts": self.cuts}

    def change(self, *, add: Iterable[str] = (), remove: Iterable[str] = (), cuts: Iterable[Cut] = ()) -> wire.Entries:
        """Write the next operation; return its batch."""
        self.gen += 1
        kept = {user: gen for user, gen in self.members.items() if user not in set(remove)}
        self.members = kept | dict.fromkeys(add, self.gen)
        self.cuts = [*self.cuts, *cuts]
        return self._write(self._body())

    def _write(self, body: dict[str, Any]) -> wire.Entries:
        self.operation = self.log.entry("group", body)
        return self.log.write(self.operation)

    @property
    def cite(self) -> list[object]:
        """The newest operation, as entries of the talk cite it."""
        return [self.gen, operation_hash(self.owner.kit.room, self.operation)[:32]]

    def say(
        self, member: ScriptedMember, text: str, cite: list[object] | None = None
    ) -> tuple[ScriptedLog, wire.Entries]:
        return member.say(self.talk, text, g=cite or self.cite)

    async def echoed(self, link: ScriptedLink, text: str) -> dict[str, Any]:
        """Let a member say `echo TEXT` in the talk; return the candidate's answer."""
        log, batch = self.say(link.member, f"echo {text}")
        link.send(batch)
        await link.acked(log)
        return await link.answer(self.talk, text, log.ref())


async def founded(kit: Kit, *names: str) -> tuple[ScriptedGroup, list[ScriptedLink]]:
    """Return a group of the candidate and these members, the first of which owns it, and their links."""
    links = [await kit.join(name) for name in names]
    group = ScriptedGroup(links[0].member, kit.candidate, *(link.member.id for link in links[1:]))
    group.share(*(link.member for link in links))
    links[0].send(group.log.batch(1))
    await links[0].acked(group.log)
    return group, links


def cut(log: ScriptedLog) -> Cut:
    mark = log.mark()
    return log.id.user, mark.run, mark.seq, mark.chain


def texts(link: ScriptedLink, conversation: str) -> list[object]:
    return [one.get("b") for one in link.entries_of(link.kit.candidate, conversation)]


# ---- the candidate as a member


@rule
async def a_member_of_a_group_answers_there(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    answer = await group.echoed(ada, "the first word")
    check(answer.get("g") == group.cite, f"`g` of the answer is {answer.get('g')}, and not {group.cite}")
    await group.echoed(bob, "the second word")


@rule
async def a_group_is_told_to_its_members_only(kit: Kit) -> None:
    zoe = await kit.join("zoe")
    group, (ada,) = await founded(kit, "ada")
    await group.echoed(ada, "among us")
    zoe.send(
        wire.Want(
            5, group.id, ada.member.id, [], names=[wire.Naming(group=(group.id, ada.member.id, group.log.id.run))]
        )
    )
    await zoe.end_of(5)
    await zoe.echoed("did you hear of a group?")
    told = [text for text in zoe.texts if (group.id in text or group.talk in text) and '"end":5' not in text]
    check(not told, f"somebody who was never named was told: {told[:1]}")
    check(not [one for one in zoe.frames if isinstance(one, wire.Entries) and one.c == group.id], "and was served")


@rule
async def an_unknown_citation_waits_for_the_group(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "before it")
    await ada.compared()
    ada.member.answers -= {"want", "have", "digest"}
    change = group.change(add=[kit.identity("cyd").peer_id])
    log, batch = group.say(bob.member, "echo of a later gen")
    bob.send(batch)
    await ada.echoed("meanwhile")
    await bob.round_trip()
    check("of a later gen" not in texts(bob, group.talk), "an entry that cites an unknown operation was shown")
    ada.send(change)
    await bob.acked(log)
    await bob.answer(group.talk, "of a later gen", log.ref())


@rule
async def a_talk_entry_without_a_citation_is_dropped(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    bob.member.answers -= {"want", "have"}
    log = bob.member.log(group.talk)
    bob.send(log.text("echo without g"))
    await group.echoed(ada, "with g")
    marks = (await ada.marks_in(group.talk)).get(bob.member.id, [])
    check(not marks, f"it was taken: {marks}")
    await bob.round_trip()


@rule
async def who_is_no_member_is_not_shown(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    zoe = kit.member("zoe")
    log = zoe.log(group.talk)
    log.text("echo let me in", g=group.cite)
    ada.member.held[log.id] = log
    ada.send(log.batch(1))
    await group.echoed(bob, "who was that?")
    check("let me in" not in texts(bob, group.talk), "an entry of a user who is no member was shown")


@rule
async def an_operation_of_another_has_no_effect(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    zoe = kit.member("zoe")
    mine = bob.member.log(group.id)
    body = {**group._body(), "gen": 2, "members": {**group.members, zoe.id: 2}}
    raw = mine.entry("group", body)
    bob.send(mine.write(raw))
    await bob.acked(mine)
    log = zoe.log(group.talk)
    log.text("echo invited by bob", g=[2, operation_hash(kit.room, raw)[:32]])
    bob.member.held[log.id] = log
    bob.send(log.batch(1))
    await group.echoed(ada, "I invited nobody")
    check("invited by bob" not in texts(bob, group.talk), "an operation of a member who is not the owner counted")


@rule
async def an_odd_operation_is_taken_without_effect(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    cite = group.cite
    log = ada.member.log(group.id, before=[group.log.mark()])
    body = {**group._body(), "gen": 2, "members": {ada.member.id: 3, kit.candidate: 1}}  # a gen above its own
    ada.send(log.write(log.entry("group", body)))
    await ada.acked(log)
    said, batch = group.say(bob.member, "echo still a member", cite)
    bob.send(batch)
    await bob.answer(group.talk, "still a member", said.ref())


@rule
async def another_create_entry_is_not_taken(kit: Kit) -> None:
    ada = await kit.join("ada")
    group = ScriptedGroup(ada.member, kit.candidate)
    log = ScriptedLog(LogId("ab" * 32, ada.member.id, "cd" * 8), ada.member.identity)
    log.write(group.operation)
    ada.member.held[log.id] = log
    ada.member.shared.update(group_namings(log.id.conversation, ada.member.id, log.id.run))
    ada.send(log.batch(1))
    ada.send(group.log.batch(1))
    await ada.acked(group.log)
    await group.echoed(ada, "the true one")
    marks = [one.marks.get(log.id.conversation) for one in ada.frames if isinstance(one, wire.Have)]
    check(
        not any(users and any(users.values()) for users in marks),
        "a group was taken whose first entry has another hash",
    )


@rule
async def nothing_is_shown_beyond_a_cut(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    cite = group.cite
    await group.echoed(bob, "before the removal")
    log = next(log for id, log in bob.member.held.items() if id[:2] == (group.talk, bob.member.id))
    held = log.mark()
    ada.send(group.change(remove=[bob.member.id], cuts=[cut(log)]))
    await ada.acked(group.log)
    bob.send(log.text("echo after the removal", g=cite))
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
    log = next(log for id, log in bob.member.held.items() if id[:2] == (group.talk, bob.member.id))
    cite, first = group.cite, len(log.raws) + 1
    log.write(log.entry("text", "echo up to the cut", g=cite), log.entry("text", "echo beyond the cut", g=cite))
    end = log.mark(first)
    ada.send(group.change(remove=[bob.member.id], cuts=[(bob.member.id, *end)]))
    await ada.acked(group.log)
    ada.member.held[log.id] = log
    ada.send(log.batch(first))  # its writer is no member any more; another brings it
    await ada.answer(group.talk, "up to the cut", log.ref(first))
    await group.echoed(ada, "and nothing else")
    check("beyond the cut" not in texts(ada, group.talk), "an entry beyond the cut was shown")
    marks = (await ada.marks_in(group.talk)).get(bob.member.id)
    check(marks == [end], f"the marks of the removed member are {marks}, and the cut is at {end}")


@rule
async def who_is_added_again_cites_the_new_gen(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    old = group.cite
    await group.echoed(bob, "the first time")
    log = next(log for id, log in bob.member.held.items() if id[:2] == (group.talk, bob.member.id))
    ada.send(group.change(remove=[bob.member.id], cuts=[cut(log)]))
    ada.send(group.change(add=[bob.member.id]))
    await ada.acked(group.log)
    stale = bob.member.log(group.talk, before=[log.mark()])
    bob.send(stale.text("echo cites the old gen", g=old))
    fresh = bob.member.log(group.talk, before=[log.mark()])
    bob.send(fresh.text("echo cites the new gen", g=group.cite))
    await bob.answer(group.talk, "cites the new gen", fresh.ref())
    check(
        "cites the old gen" not in texts(bob, group.talk),
        "an entry that cites a gen before the writer was added was shown",
    )


@rule
async def a_newcomer_is_served_the_history(kit: Kit) -> None:
    group, (ada, _) = await founded(kit, "ada", "cyd")
    newcomer = await kit.join("dan")
    await group.echoed(ada, "long ago")
    group.share(newcomer.member)
    ada.send(group.change(add=[newcomer.member.id]))
    await ada.acked(group.log)
    for conversation, log in ((group.id, group.log), (group.talk, None)):
        newcomer.wants += 1
        newcomer.send(wire.Want(newcomer.wants, conversation, ada.member.id, []))
        await newcomer.end_of(newcomer.wants)
        found = newcomer.entries_of(ada.member.id, conversation)
        check(found, f"nothing of the {'operations' if log else 'talk'} was served to the new member")


@rule
async def who_has_left_is_not_shown(kit: Kit) -> None:
    group, (ada, bob) = await founded(kit, "ada", "bob")
    await group.echoed(bob, "before I leave")
    log = next(log for id, log in bob.member.held.items() if id[:2] == (group.talk, bob.member.id))
    leave = bob.member.log(group.id)
    bob.send(leave.write(leave.entry("leave", {"cuts": [list(log.mark())]}, g=group.cite)))
    await bob.acked(leave)
    bob.send(log.text("echo after I left", g=group.cite))
    await group.echoed(ada, "bob has left")
    check("after I left" not in texts(ada, group.talk), "an entry of a member who had left was shown")


@rule
async def two_operations_of_one_gen_meet(kit: Kit) -> None:
    group, (ada, bob, cyd) = await founded(kit, "ada", "bob", "cyd")
    cite = group.cite
    for link in (bob, cyd):
        await group.echoed(link, f"{link.label} is a member")
    marks = {link: next(log for id, log in link.member.held.items() if id[:2] == (group.talk, link.member.id))
             for link in (bob, cyd)}  # fmt: skip
    other = ada.member.log(group.id, before=[group.log.mark()])
    kept = {user: gen for user, gen in group.members.items() if user != cyd.member.id}
    body = {**group._body(), "gen": 2, "members": kept, "cuts": [cut(marks[cyd])]}
    ada.send(group.change(remove=[bob.member.id], cuts=[cut(marks[bob])]))
    ada.send(other.write(other.entry("group", body)))
    await ada.acked(group.log)
    await ada.acked(other)
    for link, log in marks.items():
        link.send(log.text(f"echo {link.label} again", g=cite))
    await group.echoed(ada, "who is still here?")
    shown = texts(ada, group.talk)
    check("bob again" not in shown and "cyd again" not in shown, "a member of only one of the two operations was shown")


@rule
async def a_leave_is_written(kit: Kit) -> None:
    group, (ada,) = await founded(kit, "ada")
    answer = await group.echoed(ada, "a last word")
    await ordered(ada, f"/leave {group.name}")
    leaves: list[dict[str, Any]] = []

    def there() -> list[Any]:
        leaves[:] = [one for one in ada.entries_of(kit.candidate, group.id) if one["k"] == "leave"]
        return leaves

    await ada.until(there, "entry of kind `leave`")
    check(leaves[0].get("g") == group.cite, f"`g` of the leave is {leaves[0].get('g')}, and not {group.cite}")
    cuts = leaves[0]["b"]["cuts"]
    check([cut[:2] for cut in cuts] == [[answer["run"], answer["seq"]]], f"its cuts are {cuts}")


# ---- the candidate as the owner


async def created(kit: Kit, *names: str) -> tuple[str, ScriptedLog, list[ScriptedLink]]:
    """Let the candidate create a group; return its name, its owner's log as the first member has it, and the links."""
    links = [await kit.join(name) for name in names]
    for link in links:
        link.member.learns = True
    name = f"g{kit.draw('name', 4).hex()}"
    others = [shown(link.member.id) for link in links[1:]]
    await ordered(links[0], " ".join(["/group", name, *others]))
    for link in links:
        await operation(link, 1)
    return name, owned(links[0])[0], links


def owned(link: ScriptedLink) -> list[ScriptedLog]:
    """Return the candidate's logs in groups, as a member holds them."""
    groups = {id for id, naming in link.member.shared.items() if naming.group}
    return [log for id, log in link.member.held.items() if id.conversation in groups and id.user == link.kit.candidate]


async def operation(link: ScriptedLink, gen: int) -> tuple[dict[str, Any], RawEntry]:
    """Wait for the candidate's operation of a gen; return its body, and its clock and text."""
    found: list[tuple[dict[str, Any], RawEntry]] = []

    def there() -> bool:
        found[:] = [
            (entry["b"], raw) for log in owned(link) for raw in log.raws
            if (entry := json.loads(str(raw[1])))["k"] == "group" and entry["b"]["gen"] == gen
        ]  # fmt: skip
        return bool(found)

    await link.until(there, f"operation of gen {gen}")
    return found[0]


@rule
async def a_group_is_created(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    body, raw = await operation(ada, 1)
    check(log.raws[0] == raw, "the create entry is not entry 1")
    check(
        operation_hash(kit.room, raw) == log.id.conversation, "the id of the group is not the hash of its create entry"
    )
    expected = {kit.candidate: 1, ada.member.id: 1, bob.member.id: 1}
    check((body["name"], body["owner"], body["members"]) == (name, kit.candidate, expected), f"it is {body}")
    salt = body.get("salt", "")
    check(len(salt) == 32 and set(salt) <= set("0123456789abcdef"), f"`salt` is {salt!a}")
    check(body.get("cuts") == [], f"`cuts` are {body.get('cuts')}")
    await operation(bob, 1)


@rule
async def an_addition_keeps_the_adding_gens(kit: Kit) -> None:
    name, _, (ada, bob) = await created(kit, "ada", "bob")
    cyd = await kit.join("cyd")
    cyd.member.learns = True
    await ordered(ada, f"/add {name} {shown(cyd.member.id)}")
    body, _ = await operation(cyd, 2)
    expected = {kit.candidate: 1, ada.member.id: 1, bob.member.id: 1, cyd.member.id: 2}
    check(body["members"] == expected, f"the members are {body['members']}")
    check(body["name"] == name and body["owner"] == kit.candidate, "the snapshot is not full")


@rule
async def a_removal_is_cut_and_told(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    _, raw = await operation(ada, 1)
    said, batch = ada.member.say(
        talk_id(log.id.conversation), "echo I was here", g=[1, operation_hash(kit.room, raw)[:32]]
    )
    ada.send(batch)
    await ada.acked(said)
    await ordered(bob, f"/remove {name} {shown(ada.member.id)}")
    body, _ = await operation(ada, 2)  # the removed member learns of it
    check(ada.member.id not in body["members"], "the removed member is still named")
    cuts = [tuple(one) for one in body["cuts"]]
    check(cuts == [(ada.member.id, *said.mark())], f"`cuts` are {cuts}, and ada's mark is {said.mark()}")


@rule
async def a_group_is_handed_over(kit: Kit) -> None:
    name, log, (ada, bob) = await created(kit, "ada", "bob")
    await ordered(bob, f"/hand-over {name} {shown(ada.member.id)}")
    body, _ = await operation(ada, 2)
    check(body["owner"] == ada.member.id, "the owner is not the user named")
    mine = ada.member.log(log.id.conversation)
    third = {**body, "gen": 3, "members": {user: gen for user, gen in body["members"].items() if user != bob.member.id}}
    raw = mine.entry("group", third)
    ada.send(mine.write(raw))
    await ada.acked(mine)
    said, batch = ada.member.say(
        talk_id(log.id.conversation), "echo as the owner", g=[3, operation_hash(kit.room, raw)[:32]]
    )
    ada.send(batch)
    answer = await ada.answer(talk_id(log.id.conversation), "as the owner", said.ref())
    check(answer["g"] == [3, operation_hash(kit.room, raw)[:32]], f"the answer cites {answer['g']}")
