"""Why somebody lacks a message, as programs are told it (`User.cause`)."""

from __future__ import annotations

from datetime import UTC, datetime

from p2pchat import Cause, TCPPeer
from p2pchat.commands.event_text import format_user
from p2pchat.commands.people_commands import user_row
from p2pchat.testing import Mesh, mesh
from tests.deadlines import until


def kind(one: TCPPeer, name: str) -> str:
    """Return why a user lacks what this peer writes; "" if that is not known."""
    [kind] = [user.cause.kind for user in one.users() if user.name == name and user.cause is not None] or [""]
    return kind


async def test_who_left_is_away_since_then_and_who_is_here_gets_it_soon(net: Mesh) -> None:
    ada, bob, _ = net.peers
    assert ada.user("bob").cause == Cause("online", None, None)
    before = datetime.now(UTC)
    user = ada.user("bob")
    await bob.aclose()
    await until(lambda: user.status == "offline", "bob has left")
    receipt = await ada.send("bob", "for later")
    [lacks] = receipt.missing
    assert user.since is not None and lacks.cause == Cause("away", user.since, None)
    assert before <= user.since <= datetime.now(UTC)


async def test_who_is_linked_and_calls_itself_offline_gets_it_soon(net: Mesh) -> None:
    ada, bob, _ = net.peers
    bob.set_presence("offline")
    await until(lambda: ada.user("bob").status == "offline", "ada hears that")
    assert ada.user("bob").cause == Cause("online", None, None)


async def test_who_carries_a_link_is_named() -> None:
    async with mesh("rita") as net:
        net.network.separate("ada", "bob")
        await net.add("ada")
        await net.add("bob")
        rita, ada, _ = net.peers
        await until(lambda: kind(ada, "bob") == "carried", "the carried link")
        assert ada.user("bob").cause == Cause("carried", None, ada.user("rita"))
        assert ada.user("rita").cause == Cause("online", None, None)
        assert rita.user("bob").cause == Cause("online", None, None)


async def test_who_carried_the_last_link_and_is_off_is_named() -> None:
    async with mesh("rita") as net:
        net.network.separate("ada", "bob")
        await net.add("ada")
        await net.add("bob")
        rita, ada, bob = net.peers
        await until(lambda: kind(ada, "bob") == "carried", "the carried link")
        user = ada.user("bob")
        await rita.aclose()
        await until(lambda: user.status == ada.user("rita").status == "offline", "rita has left, and bob with her")
        assert user.cause == Cause("away", user.since, ada.user("rita"))
        assert ada.user("rita").cause == Cause("away", ada.user("rita").since, None)
        assert [user_row(ada.user(one))["cut_by"] for one in ("bob", "rita")] == ["rita", ""]
        assert "bob: cannot be reached from here; rita, who linked you last, is off since" in format_user(
            user_row(user)
        )
        net.heal()
        await until(lambda: user.status == "online", "a direct link")
        await bob.aclose()
        await until(lambda: user.status == "offline", "bob has left")
        assert user.cause == Cause("away", user.since, None)


async def test_who_expelled_somebody_is_named_also_when_somebody_else_did() -> None:
    async with mesh("ada", "bob", "eve", logins=True) as net:
        ada, bob, eve = net.peers
        await ada.people.expel("eve")
        await until(lambda: kind(bob, "eve") == "expelled", "bob hears that")
        for one in (ada, bob):
            assert one.user("eve").cause == Cause("expelled", None, one.user("ada"))
        # What keeps it back is eve's own expulsion, once that is on her disk.
        await until(lambda: [kind(eve, name) for name in ("ada", "bob")] == ["", ""], "eve is told")
        assert eve.people.expelled_by
        await ada.people.pardon("eve")
        await until(lambda: kind(ada, "eve") == kind(eve, "ada") == "online", "eve is back")


async def test_a_block_reads_as_away_on_both_sides(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.block("bob")
    await until(lambda: bob.user("ada").status == "offline", "bob sees ada leave")
    assert [kind(ada, "bob"), kind(bob, "ada"), kind(cyd, "ada")] == ["away", "away", "online"]
