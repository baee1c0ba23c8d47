"""People of the network: what becomes of somebody who is expelled, in groups and in what is shown."""

from __future__ import annotations

from asyncio import create_task, timeout

import pytest

from p2pchat import Deleted, Edited, GroupChanged, MemberChange, NewConversation, P2PChatError, Reaction, TCPPeer
from p2pchat.commands.event_text import format_event
from p2pchat.core.members import member_list
from p2pchat.core.members.member_list import MemberList
from p2pchat.testing import mesh
from tests.deadlines import WAIT, until

SPARE = "5a" * 32  # a key that an admin makes up


async def test_the_expelled_are_no_members_of_groups_until_a_pardon_and_lose_nothing() -> None:
    """Bob owns the group, and did not expel anybody."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await bob.create_group("ops", ["ada", "eve"])
        await net.settle()
        await ada.people.expel("eve")
        await until(lambda: len(bob.group("ops").members) == 2, "bob hears that")
        for peer in (ada, bob):
            assert [one.name for one in peer.group("ops").members] == ["ada", "bob"]
        await until(lambda: eve.people.expelled_by, "eve is told")
        theirs = await ada.group("ops").send("they go on")
        await theirs.delivered(timeout=WAIT)
        assert [one.name for one in theirs.of] == ["bob"]
        hers = await eve.group("ops").send("I was out")
        await ada.people.pardon("eve")
        await hers.delivered(timeout=WAIT)
        await until(lambda: eve.user("ada").status == "online" and eve.user("bob").status == "online", "eve is back")
        await net.settle()
        for peer in (ada, bob, eve):
            assert [one.name for one in peer.group("ops").members] == ["ada", "bob", "eve"]
            assert {post.text for post in await peer.group("ops").history()} == {"they go on", "I was out"}


async def test_another_user_of_the_own_login_is_expelled_alone() -> None:
    async with mesh("ada", "agent") as net:
        ada, agent = net.peers
        with pytest.raises(ValueError, match=r"agent is of your own login: .*; --only expels agent alone"):
            ada.people.would_expel("agent")
        await ada.people.expel("agent", only=True)
        await until(lambda: agent.people.expelled_by and not agent.links(), "the agent is told")
        assert ada.people.own_role == "founder"
        await ada.people.pardon("agent")
        await until(lambda: ada.user("agent").status == "online", "the agent is back")


async def test_groups_end_their_waits_for_the_expelled_and_do_nothing_with_them() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        ops = await ada.create_group("ops", ["bob", "eve"])
        await net.settle()
        net.partition([ada, bob], [eve])
        sent = await ops.send("hello")
        waiting = create_task(sent.delivered())
        await ada.people.expel("eve")
        async with timeout(WAIT):
            await waiting
        assert [one.name for one in sent.of] == ["bob"]
        for change in (ops.hand_over("eve"), ops.add("eve")):
            with pytest.raises(P2PChatError, match="who is expelled can neither be added nor own the group"):
                await change
        changes = bob.events(GroupChanged, consumer=None)
        await ops.rename("operations")
        async with timeout(WAIT):
            renamed = await anext(changes)
        assert [one.name for one in renamed.members] == ["ada", "bob"]


async def test_an_owner_may_leave_when_all_other_members_are_expelled() -> None:
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        ops = await ada.create_group("ops", ["bob"])
        await net.settle()
        with pytest.raises(P2PChatError, match="the owner cannot leave before the others"):
            await ops.leave()
        await ada.people.expel("bob")
        await until(lambda: bob.people.expelled_by, "bob is told")
        await ops.leave()
        assert not ops.is_member


async def test_what_comes_from_the_expelled_by_others_is_marked_and_not_unread() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        before = await eve.broadcast("before")
        await net.settle()
        net.partition([ada], [bob, eve])
        await ada.people.expel("eve")
        written = await eve.broadcast("after")
        await until(lambda: written.delivered_to, "bob has it, who heard of nothing yet")
        net.heal()
        await net.settle()
        history = await ada.history()
        assert [(post.id, post.expelled) for post in history] == [(before.id, False), (written.id, True)]
        assert [post.to_dict().get("expelled") for post in history] == [None, True]
        assert [post.text for post in await ada.unread("room")] == ["before"]


async def test_what_the_expelled_do_to_messages_counts_for_nothing_or_is_marked() -> None:
    """Eve presses and edits at bob's peer, which has heard of nothing yet. What she pressed before counts no more."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await ada.send("room", "deploy?", choices=["yes", "no"])
        mine = await eve.broadcast("I say no")
        await bob.send("room", "lunch?", choices=["yes", "no"])
        noon = await bob.broadcast("noon")
        await net.settle()
        first, second = [post for post in await eve.history() if post.choices]
        await (await first.react("no")).delivered(by="ada", timeout=WAIT)
        net.partition([ada], [bob, eve])
        await ada.people.expel("eve")
        events = ada.events(Edited, Deleted, Reaction, consumer=None)
        await second.react("yes")
        changed = await eve.edit(await eve.message(mine.id), "I say yes")
        await until(lambda: changed.delivered_to, "bob has it, who heard of nothing yet")
        net.heal()
        await net.settle()
        for peer in (ada, bob):
            found = {post.text: post for post in await peer.history()}
            assert {text: [*post.reactions] for text, post in found.items() if post.choices} == {
                "deploy?": [], "lunch?": [],
            }  # fmt: skip
            assert found["I say no"].expelled and "reactions" not in found["lunch?"].to_dict()
        await bob.edit(await bob.message(noon.id), "noon, or one")
        async with timeout(WAIT):
            [event] = [await anext(aiter(events))]
        assert isinstance(event, Edited) and event.text == "noon, or one"


async def test_what_the_expelled_wrote_stays_readable_whatever_they_do_to_it() -> None:
    """Eve edits and deletes at bob's peer, which has heard of nothing yet. A pardon takes that up again."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        written = [await eve.broadcast(text) for text in ("the price is 10", "my word", "before")]
        await (await eve.edit(await eve.message(written[2].id), "edited before")).delivered(by="ada", timeout=WAIT)
        await net.settle()
        net.partition([ada], [bob, eve])
        await ada.people.expel("eve")
        events = ada.events(Edited, Deleted, consumer=None)
        await eve.edit(await eve.message(written[0].id), "the price is 99")
        deleted = await eve.delete(await eve.message(written[1].id))
        await until(lambda: deleted.delivered_to, "bob has it, who heard of nothing yet")
        net.heal()
        await net.settle()
        for peer in (ada, bob):
            assert {post.text for post in await peer.history()} == {"the price is 10", "my word", "edited before"}
            assert all(post.expelled and not post.deleted for post in await peer.history())
        mine = await bob.broadcast("here")
        await net.settle()
        await bob.delete(await bob.message(mine.id))
        async with timeout(WAIT):
            assert (await anext(aiter(events))).message.by.name == "bob"
        await ada.people.pardon("eve")
        await until(lambda: not ada.user("eve").expelled, "she is in again")
        assert {post.text for post in await ada.history()} == {"the price is 99", "", "edited before"}


async def test_what_the_expelled_do_in_groups_is_marked_and_begins_nothing() -> None:
    """Eve founds a group and names it at bob's peer, which has heard of nothing yet."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        net.partition([ada], [bob, eve])
        await ada.people.expel("eve")
        events = ada.events(GroupChanged, NewConversation, consumer=None)
        group = await eve.create_group("board of directors", ["ada", "bob"])
        await group.rename("send your keys to eve")
        await until(lambda: [one.name for one in bob.groups()] == [group.name], "bob has it")
        net.heal()
        await until(lambda: [one.name for one in ada.groups()] == [group.name], "ada has it")
        await bob.create_group("ops", ["ada"])
        found = list[GroupChanged | NewConversation]()
        async with timeout(WAIT):
            while not any(one.user.name == "bob" for one in found if isinstance(one, NewConversation)):
                found.append(await anext(aiter(events)))
        assert [type(one).__name__ for one in found].count("NewConversation") == 1
        hers = [one for one in found if isinstance(one, GroupChanged) and one.by.name == "eve"]
        assert hers and all(one.expelled and one.to_dict()["expelled"] for one in hers)
        shown = [format_event(one.to_dict(), "ada", one.at) or "" for one in hers]
        assert all(text.endswith("(from somebody who is no member)") for text in shown)
        assert not any(one.expelled for one in found if isinstance(one, GroupChanged) and one not in hers)


async def test_hide_shows_nothing_of_the_expelled() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await bob.broadcast("not hidden")
        await net.settle()
        await eve.broadcast("hidden")
        await net.settle()
        await ada.people.expel("eve", hide=True)
        await until(lambda: bob.user("eve").ignored, "bob hides it")
        await until(lambda: eve.people.expelled_by, "eve is told")
        assert not eve.user("eve").ignored  # her own words stay hers
        assert [post.text for post in await eve.history(limit=1, ignored=False)] == ["hidden"]
        assert ada.user("eve").ignored
        for found in (await ada.history(limit=1, ignored=False), await ada.search("hidden", limit=1, ignored=False)):
            assert [post.text for post in found] == ["not hidden"]
        await ada.people.pardon("eve")
        await until(lambda: not bob.user("eve").ignored, "bob shows it again")


async def test_the_own_role_can_be_read_of_a_peer_that_was_closed() -> None:
    """A terminal that is left while it starts says the rest of its first screen."""
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        await net.settle()
        await ada.aclose()
        await bob.aclose()
        assert (ada.people.own_role, ada.people.expelled_by) == ("founder", None)
        assert (bob.people.own_role, bob.people.is_joining) == ("member", False)


async def test_who_never_wrote_is_known_by_name_after_a_restart_and_pardoned_by_it() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await net.settle()
        await ada.people.expel("eve")
        await until(lambda: not eve.links(), "eve is out")
        ada, bob = await net.restart(ada), await net.restart(bob)
        for peer in (ada, bob):
            assert [[user.name for user in one.users] for one in peer.people.members() if one.role == "expelled"] == [
                ["eve"]
            ]
        await ada.people.pardon("eve")
        await until(lambda: eve.links(), "eve is back")


async def test_an_admin_s_word_that_the_founder_had_not_heard_is_reported_when_it_falls() -> None:
    """The founder is away while bob expels eve and admits a key, and takes bob's role before it hears of that: then
    nothing of it is kept, and the admin that had heard of it reads that.
    """
    async with mesh("ada", "bob", "cyd", "eve", logins=True) as net:
        ada, bob, cyd, eve = net.peers
        await ada.people.make_admin("bob")
        await ada.people.make_admin("cyd")
        await until(lambda: {bob.people.own_role, cyd.people.own_role} == {"admin"}, "both are admins")
        net.partition([ada], [bob, cyd, eve])
        changes = cyd.events(MemberChange, consumer=None)
        await bob.people.expel("eve")
        await bob.people._say([("add", {"who": [SPARE]})])
        await until(lambda: cyd.people.is_expelled(cyd.user("eve")) and _has(cyd, SPARE), "cyd has heard of it")
        await ada.people.make_admin("bob", on=False)
        net.heal()
        async with timeout(WAIT):
            found = set[tuple[str, str]]()
            async for one in changes:
                found.add((one.user.key if one.change == "dropped" else one.user.name, one.change))
                if found >= {("eve", "restored"), (SPARE, "dropped")}:
                    break
        await cyd.people.expel("eve")
        await cyd.people.pardon(cyd.directory.user(SPARE))
        await until(lambda: ada.people.is_expelled(ada.user("eve")) and _has(ada, SPARE), "both are said anew")


async def test_who_came_by_an_invite_that_was_closed_already_is_reported() -> None:
    """An admin closes it while its maker is deaf, which admits somebody by it."""
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await ada.people.make_admin("bob")
        await until(lambda: bob.people.own_role == "admin", "bob is an admin")
        await ada.make_invite(uses=3)
        [made] = ada.people.invites()
        net.partition([ada], [bob, eve])
        changes = bob.events(MemberChange, consumer=None)
        assert await bob.people.expel_invited(made.id) == []
        await ada.people._say([("add", {"who": [SPARE], "invite": made.id})])
        net.heal()
        async with timeout(WAIT):
            late = await anext(one async for one in changes if one.change == "late")
        assert (late.user.key, late.by.name) == (SPARE, "ada")
        await until(lambda: ada.people.invites()[0].revoked_at, "its maker knows that it is closed")


async def test_an_admin_s_word_puts_nobody_on_the_list_of_another_one_s_invite() -> None:
    async with mesh("ada", "bob", "cyd", logins=True) as net:
        ada, bob, cyd = net.peers
        await ada.people.make_admin("bob")
        await ada.people.make_admin("cyd")
        await until(lambda: bob.people.own_role == "admin", "bob is an admin")
        await ada.make_invite(uses=3)
        [made] = ada.people.invites()
        await ada.people._say([("add", {"who": [SPARE], "invite": made.id})])
        innocent = ada.people.find("cyd").key
        await bob.people._say([("add", {"who": [innocent, SPARE], "invite": made.id})])
        await until(lambda: len(_members(ada).additions(SPARE)) == len(_members(cyd).additions(SPARE)) == 2, "all know")
        assert [[one.key for one in peer.people.invited(made.id)] for peer in (ada, bob, cyd)] == [[SPARE]] * 3


async def test_a_user_who_was_expelled_alone_stays_out_whatever_becomes_of_its_host() -> None:
    async with mesh("ada", "bob", "cyd", logins=True) as net:
        ada, bob, cyd = net.peers
        await ada.people.make_admin("cyd")
        zoe = await bob.host("zoe")
        zoe.set_presence("online")
        await (await zoe.broadcast("hello")).delivered(by="cyd", timeout=WAIT)
        await until(lambda: cyd.people.own_role == "admin", "cyd may expel")
        await cyd.people.expel("zoe")
        await until(lambda: ada.people.is_expelled(ada.user("zoe")), "ada knows it")
        await ada.people.make_admin("bob")
        assert ada.people.is_expelled(ada.user("zoe"))
        await ada.people.expel("bob")
        await ada.people.pardon("bob")
        assert not ada.people.is_expelled(ada.user("bob")) and ada.people.is_expelled(ada.user("zoe"))


async def test_an_admin_that_has_said_too_much_decides_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, _ = net.peers
        await ada.people.make_admin("bob")
        await until(lambda: bob.people.own_role == "admin", "bob is an admin")
        monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", 0)
        with pytest.raises(ValueError, match="ask the founder"):
            await bob.people.expel("eve")
        assert bob.people.find("eve").role == "member"
        await ada.people.expel("eve")


def _has(peer: TCPPeer, member: str) -> bool:
    return any(one.key == member for one in peer.people.members())


def _members(peer: TCPPeer) -> MemberList:
    members = peer._driver.node.replicator.statements.members
    assert members is not None
    return members
