"""mesh() as authors of bots use it, and the pipes below it."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest

from p2pchat import DeliveryTimeout, Left, Link, P2PChatError, PortInUse
from p2pchat.settings import Settings
from p2pchat.testing import Mesh, mesh
from p2pchat.testing.meshes import PipeNetwork, pipe
from p2pchat.testing.pytest_plugin import p2pchat_mesh as plugin_fixture

p2pchat_mesh = plugin_fixture  # for pytest without the entry point of an installed package


async def test_all_peers_link_though_each_knew_only_the_first() -> None:
    async with mesh("ada", "bob", "cyd", "dan") as net:
        for peer in net.peers:
            assert sorted(peer.links()) == sorted(other.me.id for other in net.peers if other is not peer)


async def test_a_mesh_settles_with_any_presence() -> None:
    async with mesh("ada", "bob") as net:
        net.peers[1].set_presence("idle", "lunch")
        await net.settle(timeout=60)
        assert net.peers[0].directory.find("bob").status_text == "lunch"


async def test_a_partition_cuts_both_ways_and_healing_brings_everything() -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        left = ada.events(Left)
        net.partition([ada], [bob, cyd])
        assert {(await anext(left)).user.name for _ in range(2)} == {"bob", "cyd"}
        from_ada, from_bob = await ada.broadcast("left side"), await bob.broadcast("right side")
        await from_bob.delivered(by="cyd", timeout=60)
        with pytest.raises(DeliveryTimeout):
            await from_ada.delivered(count=1, timeout=0.1)
        await net.settle()  # within each side
        net.heal()
        await net.settle()
        assert {post.text for post in await ada.history("room")} == {"left side", "right side"}
        assert await ada.history("room") == await bob.history("room") == await cyd.history("room")


async def test_peers_not_named_in_a_partition_form_a_group() -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        net.partition([ada])
        await net.settle()
        assert (ada.links(), bob.links(), cyd.links()) == ([], [cyd.me.id], [bob.me.id])


async def test_a_crashed_peer_sends_no_goodbye_and_keeps_its_data() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await (await bob.broadcast("before the crash")).delivered(timeout=60)
        left = ada.events(Left)
        await net.crash(bob)
        assert (await anext(left)).reason == "lost"
        waiting = await ada.send("bob", "for later")
        with pytest.raises(P2PChatError):
            await bob.broadcast("from beyond")
        new = await net.restart(bob)
        assert net.peers == [ada, new]
        assert new.me == bob.me
        await waiting.delivered(timeout=60)
        assert {post.text for post in await new.history()} == {"before the crash", "for later"}
        with pytest.raises(P2PChatError):
            await net.crash(bob)  # the crashed one is no longer in this mesh


async def test_a_closed_peer_says_goodbye_and_can_be_restarted_too() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        left = ada.events(Left)
        await bob.aclose()
        assert (await anext(left)).reason == "left"
        await net.restart(bob)
        await net.settle()
        assert ada.links() == [bob.me.id]


async def test_a_newcomer_gets_the_history() -> None:
    async with mesh("ada", "bob") as net:
        await net.peers[0].send_many("room", [str(number) for number in range(600)])
        cyd = await net.add("cyd")
        await net.settle()
        assert [post.text for post in await cyd.history("room", limit=0)] == [str(number) for number in range(600)]


async def test_settle_names_the_peers_that_still_differ() -> None:
    async with mesh("ada", "bob", settings=Settings(redial_first=60.0)) as net:
        ada, bob = net.peers
        links = ada.events(Link)
        net.partition([ada], [bob])
        assert (await anext(links)).state == "down"
        net.heal()
        found = ""
        while "ada and bob are not linked" not in found:  # a slow machine may still store the departure, or their names
            with pytest.raises(TimeoutError) as error:
                await net.settle(timeout=0.05)
            found = str(error.value)


async def test_a_mesh_has_not_settled_while_a_member_has_only_heard_of_a_group() -> None:
    """A loaded machine read the group's first entry so late that the mesh had settled without it."""
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        read, disk, asked, may_read = net._hosts[0].storage.fetch, net._hosts[0].storage, Event(), Event()

        def read_late(*args: Any, **kwargs: Any) -> Any:
            asked.set()
            may_read.wait()
            return read(*args, **kwargs)

        net.partition([ada], [bob])
        await ada.create_group("ops", ["bob"])
        disk.fetch = read_late  # type: ignore[method-assign]
        net.heal()
        try:
            await asyncio.to_thread(asked.wait)
            trouble = ""
            while "have different messages" not in trouble:  # a slow machine may still be linking
                with pytest.raises(TimeoutError) as error:
                    await net.settle(timeout=0.1)
                trouble = str(error.value)
        finally:
            may_read.set()
        await net.settle()
        assert bob.group("ops").is_member


async def test_eight_writers_at_once_leave_one_history() -> None:
    async with mesh(*"abcdefgh") as net:
        await asyncio.gather(*(peer.send_many("room", [f"{peer.me.name}{n}" for n in range(20)]) for peer in net.peers))
        await net.settle()
        histories = [[post.id for post in await peer.history("room", limit=0)] for peer in net.peers]
        assert len(histories[0]) == 160
        assert all(history == histories[0] for history in histories)


async def test_the_fixture_makes_meshes_and_closes_them(p2pchat_mesh) -> None:  # type: ignore[no-untyped-def]
    net: Mesh = await p2pchat_mesh("ada", "bob")
    await (await net.peers[0].broadcast("hi")).delivered(timeout=60)


# ---- pipes


async def test_written_bytes_arrive_and_a_closed_end_is_an_end_of_file() -> None:
    (here, _), (there, _) = pipe(("a", 1), ("b", 2))
    here[1].write(b"hello ")
    here[1].write(b"pipe")
    here[1].close()
    assert await there[0].read(-1) == b"hello pipe"
    assert there[1].get_extra_info("peername") == ("a", 1)
    there[1].close()
    await there[1].wait_closed()
    await here[1].wait_closed()


async def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    (here, _), (there, _) = pipe(("a", 1), ("b", 2))
    size = 4 * 1024 * 1024
    here[1].write(b"x" * size)
    draining = asyncio.create_task(here[1].drain())
    for _ in range(20):
        await asyncio.sleep(0)  # more turns than the pipe needs
    here[1].write(b"y" * size)  # the first write fills the reader, which stops the pipe
    assert here[1].transport.get_write_buffer_size() > size // 2
    assert len(await there[0].readexactly(2 * size)) == 2 * size
    await draining
    here[1].close()
    there[1].close()
    await asyncio.gather(here[1].wait_closed(), there[1].wait_closed())


async def test_an_aborted_end_is_a_reset_at_the_other() -> None:
    (here, _), (there, _) = pipe(("a", 1), ("b", 2))
    here[1].transport.abort()
    with pytest.raises(ConnectionResetError):
        await there[0].read(1)
    there[1].close()
    with pytest.raises(ConnectionResetError):
        await there[1].wait_closed()


async def test_dialling_and_listening_on_a_taken_port_fail() -> None:
    network = PipeNetwork()
    with pytest.raises(ConnectionRefusedError):
        await network.transport("a").dial("127.0.0.1", 1, timeout=1)
    async with mesh("ada") as net:
        with pytest.raises(PortInUse):
            net.network.listen("other", net.peers[0].port, None)  # type: ignore[arg-type]
