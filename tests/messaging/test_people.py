"""People of the network: what becomes of somebody who is expelled, in groups and in what is shown."""

from __future__ import annotations

from p2pchat.testing import mesh
from tests.deadlines import until


async def test_who_is_expelled_is_no_member_of_groups_whose_owner_is_here() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, _ = net.peers
        ops = await ada.create_group("ops", ["bob", "eve"])
        await net.settle()
        await ada.people.expel("eve")
        await until(lambda: [user.name for user in ops.members] == ["ada", "bob"], "eve is out of the group")
        await until(lambda: len(bob.group("ops").members) == 2, "bob hears that")


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
        assert [post.to_json().get("expelled") for post in history] == [None, True]
        assert [post.text for post in await ada.unread("room")] == ["before"]


async def test_hide_shows_nothing_of_the_expelled() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await eve.broadcast("before")
        await net.settle()
        await ada.people.expel("eve", hide=True)
        await until(lambda: bob.user("eve").ignored, "bob hides it")
        assert ada.user("eve").ignored
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
