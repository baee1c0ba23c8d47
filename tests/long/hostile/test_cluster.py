"""Accounts of a cluster of gateways that fill what all its gateways keep, with a real nats-server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from p2pchat.web.accounts import Account
from p2pchat.web.cluster import cluster as membership
from p2pchat.web.cluster.cluster import ALIVE, Cluster
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.cluster.engine_store import MAX_VALUE_BYTES, PAUSE_AFTER_LIST, StoreOptions
from p2pchat.web.cluster.nats_client import cancel
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.rate_limits import TooMany
from tests.deadlines import WAIT, until, within
from tests.nats import NatsServer, missing
from tests.web.cluster.doors import (
    STREAM,
    TIMES,
    KeepingServer,
    cluster_of,
    doors_of,
    known,
    until_held,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KeepingServer]:
    if why := missing():
        pytest.skip(why)
    running = KeepingServer(tmp_path)
    yield running
    running.kill()


@contextmanager
def refused_tokens(directory: Path) -> Iterator[None]:
    """Have the database of a gateway refuse to store any token."""
    [database] = [path for path in directory.glob("*.db") if path.name != "search.db"]
    with closing(sqlite3.connect(database, isolation_level=None)) as disk:
        disk.execute("create trigger refuse before insert on tokens begin select raise(abort, 'no'); end")
        yield
        disk.execute("drop trigger refuse")


async def renamed(gateway: Gateway, account: Account, name: str) -> bool:
    """Do what `nick` does; return False when it is refused as too often."""
    try:
        async with gateway.accounts.renaming(account, name):
            await account.user.rename(name)
    except TooMany:
        return False
    return True


async def test_an_account_that_changes_its_name_for_ever_leaves_few_names_behind(server: KeepingServer) -> None:
    """16 names a second, each kept for ever in the engine and in the memory of every gateway: 2 GB a day."""
    async with doors_of(server) as doors:
        gate = await doors.open()
        eve, _ = await gate.accounts.register("eve")
        changes = [await renamed(gate, eve, f"eve {number}") for number in range(40)]
        assert sum(changes) == gate.settings.names.burst == 8
        assert len(cluster_of(gate).directory) <= 1 + 8


@pytest.mark.parametrize("end", ["revoked", "deleted"])
async def test_a_record_of_a_former_name_brings_no_account_back(
    server: KeepingServer, tmp_path: Path, end: str
) -> None:
    """Whoever may write to the engine puts the record back that an account had before its name changed.

    No gateway that runs then remembers that the name was given up, and one that was just started has no accounts.
    """
    async with doors_of(server) as doors:
        one = await doors.open(tmp_path / "one")
        ada, token = await one.accounts.register("ada")
        await until_held(server, ada.record)
        subject = f"$KV.p2pchat-team-accounts.{cluster_of(one).directory.place_of('ada')}"
        async with server.operator() as operator:
            old = (await operator.get_last_msg(STREAM, subject)).data
        assert await renamed(one, ada, "zed")
        if end == "revoked":
            await one.accounts.revoke("zed")
        else:
            await one.accounts.delete(ada)
        last = cluster_of(one).directory.find("zed")
        assert last is not None and last.state == end
        await until_held(server, last)
    async with server.operator() as operator:
        await operator.publish(subject, old)
    async with doors_of(server) as doors:
        other = await doors.open()
        await known(other, "zed", last.version)
        assert await other.accounts.by_token(token) is None
        one = await doors.open(tmp_path / "one")
        await until(lambda: cluster_of(one).directory.at(subject.rpartition(".")[2]), "the former name")
        assert await one.accounts.by_token(token) is None and await other.accounts.by_token(token) is None
        bob, _ = await other.accounts.register("ada")  # the name is free
        assert bob.key != ada.key


@pytest.mark.parametrize("end", ["revoked", "replaced"])
async def test_a_token_that_ends_while_its_conversations_come_lets_nobody_in(server: KeepingServer, end: str) -> None:
    """Its sessions were ended at that moment; the one that waited began afterwards, and stayed if it was replaced."""
    async with doors_of(server) as doors:
        one, other = await doors.open(), await doors.open()
        _, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        comparing: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        other.accounts._comparing[there.key] = asyncio.ensure_future(comparing)
        signing_in = asyncio.create_task(other.accounts.by_token(token))
        await asyncio.sleep(0)  # it waits
        await (one.accounts.revoke("ada") if end == "revoked" else one.accounts.new_token("ada"))
        await until(lambda: there.version == 2, "the end of the token")
        comparing.set_result(True)
        assert await signing_in is None


@pytest.mark.parametrize("end", ["revoked", "replaced", "deleted"])
async def test_a_token_that_ends_elsewhere_lets_nobody_in_while_the_disk_is_full(
    server: KeepingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """It ended once that was stored, which was tried every 10 s: whoever had stolen it was let in meanwhile."""
    monkeypatch.setattr(membership, "TRY_AGAIN_AFTER", 0.1)
    async with doors_of(server, TIMES) as doors:
        one, other = await doors.open(), await doors.open(tmp_path / "other")
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        other.hub.open(there, lambda told: None, "chat", ended.set_result)
        with refused_tokens(tmp_path / "other"):
            match end:
                case "revoked":
                    await one.accounts.revoke("ada")
                case "replaced":
                    await one.accounts.new_token("ada")
                case _:
                    await one.accounts.delete(ada)
            await known(other, "ada", 2)
            assert await other.accounts.by_token(token) is None
            async with within(WAIT, "the end of the session"):
                assert await ended == "revoked"
            assert there.version == 1  # it is not stored
        await until(lambda: there.version == 2 or there.state == "deleted", "the change on the disk")
        assert await other.accounts.by_token(token) is None


async def test_a_change_that_could_not_be_stored_is_tried_again_when_a_gateway_comes(
    server: KeepingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever came before the next try took that try away: the change was never stored."""
    monkeypatch.setattr(membership, "TRY_AGAIN_AFTER", 10 * WAIT)
    async with doors_of(server, TIMES) as doors:
        one, other = await doors.open(), await doors.open(tmp_path / "other")
        _, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        await until(lambda: len(cluster_of(other)._placed_for) == 2, "both gateways")
        with refused_tokens(tmp_path / "other"):
            await one.accounts.new_token("ada")
            await until(lambda: cluster_of(other)._untaken, "the change that cannot be stored")
        await doors.open()
        await until(lambda: there.version == 2, "the change on the disk")


async def test_old_words_of_a_gateway_that_ended_bring_it_not_back(server: KeepingServer) -> None:
    """Whoever hears what gateways say repeats it once one of them has ended: users would be hosted by a dead one."""
    async with doors_of(server, TIMES) as doors:
        one = await doors.open()
        heard: list[bytes] = []
        async with server.operator() as operator:
            client = operator._nc

            async def on_message(message: object) -> None:
                heard.append(message.data)  # type: ignore[attr-defined]

            await client.subscribe("p2pchat.cluster.team.message", cb=on_message)
            await client.flush()
            other = await doors.open()
            living = cluster_of(one).living
            await until(lambda: len(living.all) == 2, "both gateways")
            await other.aclose()
            await until(lambda: len(living.all) == 1, "the end of one")
            gone, key = cluster_of(other), cluster_of(one).key
            told = [(json.loads(key.open(ALIVE, ALIVE, data)), data) for data in heard]
            for said, data in told:
                if said["gateway"] == gone.gateway_id and not said["leaves"]:
                    await client.publish("p2pchat.cluster.team.message", data)
            await client.flush()
            before = len(heard)
            await until(lambda: len(heard) > before + 2, "further words of the living one")
            assert len(living.all) == 1


async def test_one_invented_number_makes_nobody_list_the_bucket_for_ever(server: KeepingServer) -> None:
    """A made-up hint of a value that the bucket does not have: all accounts were listed at every look from then on."""
    async with doors_of(server) as doors:
        one = await doors.open()
        ada, _ = await one.accounts.register("ada")
        await until_held(server, ada.record)
        store, loads, looks = cluster_of(one).store, 0, 0
        on_loading, compare = store.on_loading, store._compare

        def count_load() -> None:
            nonlocal loads
            loads += 1
            on_loading()

        async def count_look(*args: object) -> None:
            nonlocal looks
            await compare(*args)  # type: ignore[arg-type]
            looks += 1

        store.on_loading, store._compare = count_load, count_look  # type: ignore[method-assign,assignment]
        async with server.operator() as operator:
            place = cluster_of(one).directory.place_of("ada")
            await operator._nc.publish(
                f"p2pchat.cluster.team.accounts.{place}", b"nothing", headers={"Nats-Sequence": str(10**12)}
            )
            await operator._nc.flush()
        await until(lambda: loads, "the bucket to be listed")
        before = looks
        await until(lambda: looks > before + 5, "five more looks")
        assert loads <= 2


async def test_invented_numbers_make_nobody_list_the_bucket_most_of_the_time(server: KeepingServer) -> None:
    """One for each look: all accounts were listed as often, which took 0.7 s of CPU for 10,000 of them."""
    async with doors_of(server) as doors, server.operator() as operator:
        one = await doors.open()
        cluster, loop = cluster_of(one), asyncio.get_running_loop()
        place, store = cluster.directory.place_of("ada"), cluster.store
        for number in range(500):
            await operator.publish(f"$KV.p2pchat-team-accounts.filler{number}", b"x")
        began: list[float] = []
        ended: list[float] = []
        on_loading, on_loaded = store.on_loading, store.on_loaded

        def begin() -> None:
            began.append(loop.time())
            on_loading()

        def end() -> None:
            on_loaded()
            if began:  # one may have begun before
                ended.append(loop.time())

        store.on_loading, store.on_loaded = begin, end

        async def invent() -> None:
            number = 10**12
            while True:
                number += 1
                headers = {"Nats-Sequence": str(number)}
                await operator._nc.publish(f"p2pchat.cluster.team.accounts.{place}", b"nothing", headers=headers)
                await operator._nc.flush()
                await asyncio.sleep(0.02)  # often enough for each look

        inventing = asyncio.create_task(invent())
        await until(lambda: len(ended) >= 4, "four lists")
        await cancel([inventing])
        shares = [(ended[n] - began[n]) / (began[n + 1] - ended[n]) for n in range(3)]
        assert max(shares) < 1.2 / PAUSE_AFTER_LIST  # two clock readings around each list differ a little


async def test_an_engine_that_takes_only_small_messages_has_no_cluster(server: KeepingServer, tmp_path: Path) -> None:
    """Values that a cluster writes may be larger than that, and an attempt to write one ends the connection."""
    (tmp_path / "nats.conf").write_text(f"max_payload: {MAX_VALUE_BYTES - 1}")
    small = NatsServer("-js", "-sd", str(tmp_path / "small"), "-c", str(tmp_path / "nats.conf"))
    reasons: list[str] = []
    store = Cluster(ClusterKey(b"c" * 32, "team"), StoreOptions("team", (small.url,))).store
    store.on_up, store.on_down = partial(reasons.append, ""), reasons.append
    store.start()
    try:
        await until(lambda: reasons, "the first attempt")
        assert reasons[0] == f"its max_payload is too small: {MAX_VALUE_BYTES} bytes are needed"
    finally:
        await store.aclose()
        small.kill()


async def test_a_repeated_record_with_invented_numbers_hides_no_revocation(server: KeepingServer) -> None:
    """Anybody who may publish repeats what the bucket holds, under numbers that it does not have yet.

    A gateway wrote its revocation in place of those, in vain for as long as five a second came. The others took what
    came with a lower number for overtaken, and the revoked token let in there.
    """
    async with doors_of(server) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        await until_held(server, ada.record)
        async with server.operator() as operator:
            place = cluster_of(one).directory.place_of("ada")
            current = await operator.get_last_msg(STREAM, f"$KV.p2pchat-team-accounts.{place}")
            repeated = 0

            async def repeat() -> None:
                nonlocal repeated
                while True:
                    repeated += 1
                    headers = {"Nats-Sequence": str(10**9 + repeated)}
                    await operator._nc.publish(f"p2pchat.cluster.team.accounts.{place}", current.data, headers=headers)
                    await operator._nc.flush()

            repeating = asyncio.create_task(repeat())
            await until(lambda: cluster_of(other).directory.revision(place) > 10**9, "the invented numbers")
            await one.accounts.revoke("ada")
            await until_held(server, ada.record)
            await until(lambda: there.state == "revoked", "the end of the token at the other door")
            assert await other.accounts.by_token(token) is None
            await cancel([repeating])
