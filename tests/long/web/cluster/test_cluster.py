"""Gateways as one: real peers and gateways of one process, and a real nats-server that is killed, wiped and lies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest

from p2pchat import KeyReused, TCPPeer, UnknownName
from p2pchat.cli.control_server import AccountCommands
from p2pchat.settings import Settings
from p2pchat.web import Gateway, WebSettings, create_app
from p2pchat.web.account_record import RELEASED, AccountNameTaken
from p2pchat.web.accounts import Account
from p2pchat.web.cluster.account_directory import AccountDirectory
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.cluster.engine_store import ACCOUNTS, ClusterAway, EngineStore, StoreOptions
from p2pchat.web.cluster.living_gateways import hosts_of
from p2pchat.web.cluster.nats_client import cancel
from p2pchat.web.error_responses import WebError
from p2pchat.web.session_hub import HubSession
from tests.deadlines import WAIT, until, within
from tests.nats import HostileEngine, Message
from tests.web.cluster.doors import (
    SILENT,
    STREAM,
    TIMES,
    KeepingServer,
    away,
    cluster_of,
    doors_of,
    held,
    known,
    until_held,
    up,
)
from tests.web.cluster.records import DAY, record

CLAIMS = 1000  # pairs of claims of one name, at two doors at once

# ---- accounts


async def test_an_account_is_one_person_at_every_door(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        for name in ("ada", "ADA"):
            with pytest.raises(AccountNameTaken):
                await other.accounts.register(name)
        assert other.accounts.list() == []  # a refused name is hosted nowhere
        bob, _ = await one.accounts.register("bob")
        post = (await ada.user.send("bob", "from the first door")).id
        await until(lambda: other.peer.links, "the link between the gateways")
        there, again = await asyncio.gather(other.accounts.by_token(token), other.accounts.by_token(token))
        assert there is not None and there.key == ada.key and there is not ada and again is there
        assert post in [known.id for known in await there.user.history(bob.user.me)]  # it came before the session
        assert await other.accounts.by_token(token[:-1]) is None
        await there.user.send(bob.user.me, "from the second door")
        async with within(WAIT, "both messages of one person"):
            while len(await bob.user.history("ada")) < 2:
                await asyncio.sleep(0.01)  # poll: the history is read, and its storage answers
        assert {message.sender.key for message in await bob.user.history("ada")} == {ada.key}


async def test_accounts_of_another_door_are_no_unknown_users(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, _ = await one.accounts.register("ada")
        await known(other, "ada")
        await until(lambda: other.peer.links, "the link between the gateways")
        count = Settings().max_unanswered + 4
        writers = [(await other.accounts.register(f"writer{number}"))[0] for number in range(count)]
        for writer in writers:
            await writer.user.send(ada.user.me, "good morning")
        for number, writer in enumerate(writers):
            async with within(WAIT, f"message {number} to be shown"):
                while not await ada.user.history(writer.user.me):
                    await asyncio.sleep(0.01)  # poll: another peer sends it
        assert not ada.user.unanswered()


async def test_a_token_that_ends_at_one_door_ends_sessions_at_all(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()

        async def session(token: str) -> tuple[Account, asyncio.Future[str]]:
            account = await other.accounts.by_token(token)
            assert account is not None
            ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            other.hub.open(account, lambda told: None, "chat", ended.set_result)
            return account, ended

        _, token = await one.accounts.register("ada")
        await known(other, "ada")
        _, ended = await session(token)
        await one.accounts.revoke("ada")
        async with within(WAIT, "the end of the session at the other door"):
            assert await ended == "revoked"
        assert await other.accounts.by_token(token) is None

        ada, token = await one.accounts.new_token("ada")
        await known(other, "ada", ada.version)
        await until(lambda: (found := other.accounts.find("ada")) and found.version == ada.version, "the new token")
        _, ended = await session(token)
        _, newer = await one.accounts.new_token("ada")
        async with within(WAIT, "the end of the session with the old token"):
            assert await ended == "revoked"

        await known(other, "ada", ada.version)
        account, ended = await session(newer)
        third = await doors.open()  # where the operator deletes the account, though its user is not hosted there
        await known(third, "ada", ada.version)
        found = await third.accounts.fetch("Ada")
        assert found is not None and found.key == ada.key and await third.accounts.delete(found)
        async with within(WAIT, "the end of the deleted account"):
            assert await ended == "deleted"
        await until(lambda: not (one.accounts.find("ada") or other.accounts.find("ada")), "its deletion")
        assert account.state == "deleted"
        for gateway in (one, other):
            with pytest.raises(AccountNameTaken):  # the name is kept for 90 days, at all doors
                await gateway.accounts.register("ada")


async def test_accounts_of_the_whole_cluster_are_listed_at_each_door(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        await one.accounts.register("ada")
        await other.accounts.register("zoe")
        eve, _ = await other.accounts.register("eve")
        await other.accounts.delete(eve)
        await other.accounts.revoke("zoe")
        await known(one, "zoe", 2)
        await known(one, "eve", 2)
        rows = (await AccountCommands(one.peer, one.accounts).web_users(None)).rows
        assert [(row["user"], row["state"], row.get("elsewhere", False)) for row in rows] == [
            ("ada", "registered", False), ("zoe", "revoked", True)
        ]  # fmt: skip
        found = other.accounts.find("zoe")
        assert found is not None and rows[1]["user_id"] == found.id


async def test_of_each_pair_of_claims_exactly_one_wins(engine: KeepingServer) -> None:
    """Names and their look-alikes, claimed at two doors at once; fifty pairs also as whole registrations."""
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()

        async def pair(*claims: Awaitable[object]) -> None:
            both = await asyncio.gather(*claims, return_exceptions=True)
            refused = [result for result in both if isinstance(result, BaseException)]
            assert len(refused) == 1 and isinstance(refused[0], AccountNameTaken), both

        def claims(number: int) -> list[Awaitable[object]]:
            """The name at the first door; at the other the same one, or one that looks like it."""
            names = f"ill{number:04}", f"ILL{number:04}" if number % 2 else f"1lI{number:04}"
            if number < 50:
                return [gateway.accounts.register(name) for gateway, name in zip((one, other), names, strict=True)]
            return [
                cluster_of(gateway).claim(record(name, owner=str(gateway)), DAY, 90)
                for gateway, name in zip((one, other), names, strict=True)
            ]

        for first in range(0, CLAIMS, 50):
            await asyncio.gather(*(pair(*claims(number)) for number in range(first, first + 50)))
        found = [len(gateway.accounts.list()) for gateway in (one, other)]
        assert sum(found) == 50  # who was refused hosts nobody
        assert len(cluster_of(one).directory) == len(cluster_of(other).directory) == CLAIMS


async def test_a_name_given_elsewhere_is_found_before_its_peer_tells_of_it(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, _ = await other.accounts.register("ada")
        mine = record("bob", owner=str(one))  # nobody hosts it yet
        await cluster_of(one).claim(mine, DAY, 90)
        with pytest.raises(UnknownName):
            await other.receivers.resolve(ada, "\ud800")
        found = await other.receivers.resolve(ada, "@bob")
        assert found.user is not None and (found.user.key, found.user.name) == (mine.user, "bob")


async def test_in_a_cluster_no_name_is_reserved(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one = await doors.open(settings=WebSettings(trust_loopback=True))
        ada, _ = await one.accounts.register("ada")
        with pytest.raises(UnknownName):
            await one.receivers.resolve(ada, "bob")


async def renamed(gateway: Gateway, account: Account, name: str) -> None:
    """Do what `nick` does."""
    async with gateway.accounts.renaming(account, name):
        await account.user.rename(name)


async def at(gateway: Gateway, name: str, user: str) -> Account:
    """Wait until the account of a name at a gateway is that of this user."""
    await until(lambda: (found := gateway.accounts.find(name)) and found.key == user, f"{name} at the other door")
    found = gateway.accounts.find(name)
    assert found is not None
    return found


async def test_a_name_is_changed_at_all_doors_and_the_former_one_is_free(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other, third = await doors.open(), await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        await one.accounts.register("bob")
        await known(other, "bob")
        there = await other.accounts.by_token(token)
        assert there is not None
        for taken in ("bob", "BOB"):
            with pytest.raises(AccountNameTaken):
                await renamed(other, there, taken)
        await renamed(other, there, "eva")
        assert await at(one, "eva", ada.key) is ada and ada.name == "eva" and one.accounts.find("ada") is None
        await until(lambda: (left := cluster_of(third).directory.find("ada")) and left.is_former, "the name to be free")
        with pytest.raises(AccountNameTaken):
            await third.accounts.register("eva")
        other_ada, _ = await third.accounts.register("ada")
        assert other_ada.key != ada.key and (await third.accounts.by_token(token) or ada).name == "eva"
        await until(lambda: third.peer.directory.name(ada.key) == "eva", "the new name among all users")
        await renamed(one, ada, "EVA")  # looks like its own
        await until(lambda: there.name == "EVA", "the capitals")
        assert (await held(engine))["EVA"].user == ada.key


async def test_one_account_that_is_renamed_at_two_doors_gets_one_name(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        await asyncio.gather(renamed(one, ada, "eva"), renamed(other, there, "zoe"))
        directories = [cluster_of(gateway).directory for gateway in (one, other)]

        def names(directory: AccountDirectory) -> list[str]:
            found = filter(None, map(directory.at, directory.places()))
            return [record.name for record in found if not record.is_former]

        await until(lambda: [names(one) for one in directories] in ([["eva"]] * 2, [["zoe"]] * 2), "one name")
        await until(lambda: [ada.name] == [there.name] == names(directories[0]), "that name at both doors")


async def test_a_revocation_while_the_name_changes_counts(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        assert await other.accounts.by_token(token)
        await asyncio.gather(renamed(one, ada, "eva"), other.accounts.revoke("ada"))
        await until(lambda: ada.word == "revoked", "the revocation at the door of the change")
        assert await one.accounts.by_token(token) is None
        await until(lambda: [one.name for one in other.accounts.list()] == [ada.name], "one name at both doors")


async def test_a_claimed_name_is_taken_also_if_its_gateway_could_not(engine: KeepingServer, tmp_path: Path) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(tmp_path / "one"), await doors.open()
        ada, token = await one.accounts.register("ada")
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None
        with pytest.raises(RuntimeError):
            async with one.accounts.renaming(ada, "eva"):
                raise RuntimeError("as if its disk were full")
        await until(lambda: ada.name == there.name == "eva", "the claimed name at both doors")
        left = await known(other, "ada", ada.version)
        assert left.is_former
        engine.kill()
        await away(one, other)
        with pytest.raises(ClusterAway):
            await renamed(one, ada, "zoe")
        assert ada.name == "eva"


# ---- the engine goes, forgets and lies


async def test_without_the_engine_sign_ups_wait_and_everything_else_goes_on(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        bob, _ = await other.accounts.register("bob")
        await known(other, "ada")
        engine.kill()
        await away(one, other)
        for refused in (one.accounts.register("eve"), one.accounts.trusted("eve"),
                        other.accounts.by_token(token)):  # fmt: skip
            with pytest.raises(ClusterAway) as found:
                await refused
            assert (found.value.status, found.value.code) == (503, "cluster") and "Retry-After" in found.value.headers
        assert await one.accounts.by_token(token) is ada
        await (await ada.user.send(bob.user.me, "hello")).delivered()
        await other.accounts.revoke("bob")  # at once here, at the other door when the engine is back
        assert bob.state == "revoked" and cluster_of(other).directory.owed
        engine.start()
        await up(one, other)
        assert (await known(one, "bob", bob.version)).word == "revoked"
        await one.accounts.register("eve")
        assert await other.accounts.by_token(token)


async def test_a_wiped_engine_is_written_again_and_what_was_in_it_holds(engine: KeepingServer, tmp_path: Path) -> None:
    async with doors_of(engine) as doors:
        one = await doors.open(tmp_path / "one")
        ada, token = await one.accounts.register("ada")
        await one.accounts.register("bob")
        await one.accounts.revoke("bob")
        async with engine.operator() as js:  # while the gateway is connected
            await js.delete_stream(STREAM)
        await until_held(engine, *one.accounts.records())
        engine.wipe()
        await up(one)
        await until_held(engine, *one.accounts.records())
        before = list(one.accounts.records())
    engine.wipe()  # while no gateway runs: what it knew is on its own disk
    async with doors_of(engine) as doors:
        one = await doors.open(tmp_path / "one")
        other = await doors.open()
        await until_held(engine, *before)
        await known(other, "ada")
        there = await other.accounts.by_token(token)
        assert there is not None and there.key == ada.key
        for name in ("ada", "b0b"):
            with pytest.raises(AccountNameTaken):
                await other.accounts.register(name)


async def test_a_cluster_goes_on_with_another_key(engine: KeepingServer, tmp_path: Path) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(tmp_path / "one"), await doors.open(tmp_path / "other")
        ada, token = await one.accounts.register("ada")
        await other.accounts.register("bob")
        gone, _ = await other.accounts.register("eve")
        await other.accounts.delete(gone)
        await known(one, "eve", 2)
    async with doors_of(engine, secret=b"d" * 32) as doors:
        one, other = await doors.open(tmp_path / "one"), await doors.open(tmp_path / "other")
        await known(other, "ada")
        found = await other.accounts.by_token(token)
        assert found is not None and found.key == ada.key
        await known(one, "eve")
        for name in ("ADA", "bob", "eve"):
            with pytest.raises(AccountNameTaken):
                await (one if name == "eve" else other).accounts.register(name)


async def test_records_of_an_operator_are_refused_and_put_right(engine: KeepingServer) -> None:
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        _, token = await one.accounts.register("ada")
        await one.accounts.register("bob")
        await known(other, "bob")
        records = list(one.accounts.records())
        await until_held(engine, *records)
        directory, eve = cluster_of(one).directory, ClusterKey(b"e" * 32, "team")
        subjects = [f"$KV.p2pchat-team-accounts.{directory.place_of(name)}" for name in ("ada", "bob")]
        async with engine.operator() as js:
            values = [(await js.get_last_msg(STREAM, subject)).data for subject in subjects]
            for subject, value in zip(subjects, reversed(values), strict=True):  # each in the place of the other
                await js.publish(subject, value)
            await js.publish(subjects[0], eve.seal(ACCOUNTS, directory.place_of("ada"), records[1].to_bytes()))
            await js.publish(subjects[1], b"", headers={"KV-Operation": "DEL"})
            assert not any(word in value for value in values for word in (b"ada", b"bob", records[0].hash))
        await until(lambda: directory.refused >= 3, "the refusal of three values")
        await until_held(engine, *records)
        assert list(one.accounts.records()) == records
        found = await other.accounts.by_token(token)
        assert found is not None and found.name == "ada"


class WithholdingEngine(HostileEngine):
    """An engine that tells nobody what it stored, unless it is asked."""

    async def _message(self, line: bytes, reader: asyncio.StreamReader) -> list[Message]:
        found = await super()._message(line, reader)
        return [] if line.startswith(b"HMSG p2pchat.cluster.") else found


async def test_a_tls_url_sends_no_password_to_an_engine_without_tls(engine: KeepingServer) -> None:
    async with HostileEngine(engine.nats) as between:
        store = EngineStore(StoreOptions("team", (between.url.replace("nats://", "tls://x:s3cret@"),)))
        reasons = list[str]()
        store.on_down = reasons.append
        store.start()
        try:
            await until(lambda: reasons, "the reason why there is no connection")
        finally:
            await store.aclose()
        assert "offers no TLS" in reasons[0]
        assert not any(b"s3cret" in seen for seen in between.seen)


async def test_what_the_engine_withholds_is_noticed_by_its_numbers(engine: KeepingServer) -> None:
    async with WithholdingEngine(engine.nats) as withholding, doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open(url=withholding.url)
        _, token = await one.accounts.register("ada")
        await known(other, "ada")
        account = await other.accounts.by_token(token)
        assert account is not None
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        other.hub.open(account, lambda told: None, "chat", ended.set_result)
        await one.accounts.revoke("ada")
        async with within(WAIT, "the end of the session"):
            assert await ended == "revoked"


async def test_a_claim_without_an_answer_does_not_keep_the_name(engine: KeepingServer) -> None:
    """The engine may have stored a claim whose answer was lost: nobody has the token of that account."""
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, _ = await one.accounts.register("ada")
        lost = ada.record.__class__("bob", "ab" * 32, b"s" * 32, b"h" * 32, "", ada.used, 1)
        cluster_of(one)._abandon(lost.user)
        await cluster_of(other).claim(lost, ada.used, 90)
        assert (await known(other, "bob", 2)).word == RELEASED
        await one.accounts.register("bob")


async def test_a_gateway_with_an_account_of_a_taken_name_joins_without_it(
    engine: KeepingServer, tmp_path: Path
) -> None:
    async with TCPPeer(0, name="gate1", data=tmp_path / "late") as peer:
        alone: Gateway = create_app(peer, WebSettings()).state.gateway
        await alone.accounts.register("zoe")
        _, displaced = await alone.accounts.register("b0b")
        await alone.aclose()
    async with doors_of(engine) as doors:
        one = await doors.open()
        _, token = await one.accounts.register("bob")
        late = await doors.open(tmp_path / "late")
        assert (await known(one, "zoe")).name == "zoe"  # its other accounts join the cluster
        await until(lambda: (found := late.accounts.find("b0b")) and found.state == "revoked", "the end of its token")
        assert await late.accounts.by_token(displaced) is None
        assert await one.accounts.by_token(token)


# ---- who hosts whom


async def sit_down(gateway: Gateway, token: str) -> tuple[Account, HubSession]:
    """Sign in and open a session; once more if the user was let go in between, as clients do."""
    async with within(WAIT, "a session"):
        while True:
            account = await gateway.accounts.by_token(token)
            assert account is not None
            with suppress(WebError):
                return account, gateway.hub.open(account, lambda told: None, "chat")


async def test_a_user_is_hosted_at_home_and_standby_and_where_it_is_in_use(engine: KeepingServer) -> None:
    async with doors_of(engine, TIMES) as doors:
        gateways = [await doors.open() for _ in range(3)]
        one = gateways[0]
        tokens = {
            name: (await one.accounts.register(name))[1]
            for name in ("ada", "bob", "cyd", "dan", "eva", "fay", "gil", "hal")
        }
        keys = {name: (await known(one, name)).user for name in tokens}
        ids = [gateway.peer.me.id for gateway in gateways]

        def placed(living: list[Gateway]) -> bool:
            found = {
                name: {gateway.peer.me.id for gateway in living if gateway.accounts.of(keys[name])} for name in keys
            }
            return all(
                found[name] == set(hosts_of(keys[name], [gateway.peer.me.id for gateway in living])) for name in keys
            )

        await until(lambda: placed(gateways), "each user at its home and its standby")
        assert sum(Counter(id for key in keys.values() for id in hosts_of(key, ids)).values()) == 2 * len(keys)

        # of eight users at least two are strangers to one of three gateways: one comes with a session, one without
        strangers = {at: [name for name in keys if at.accounts.of(keys[name]) is None] for at in gateways}
        visited = max(gateways, key=lambda at: len(strangers[at]))
        staying, passing = strangers[visited][:2]
        visitor, session = await sit_down(visited, tokens[staying])
        assert await visited.accounts.by_token(tokens[passing])
        await until(lambda: visited.accounts.of(keys[passing]) is None, "the visitor without a session to be let go")
        assert visited.accounts.of(keys[staying]) is visitor
        visited.hub.close(session)
        await until(lambda: visited.accounts.of(keys[staying]) is None, "the other to be let go after its session")
        assert visitor.user not in visited.peer.hosted
        assert await visited.accounts.by_token(tokens[staying]) is not None  # and it may come again

        await gateways[2].aclose()  # in good order: the others take over at once
        await gateways[2].peer.aclose()
        await until(lambda: placed(gateways[:2]), "its users at the others")
        for gateway in gateways[:2]:
            assert gateway.peer.me.id in cluster_of(gateway).living.all and len(cluster_of(gateway).living.all) == 2


async def test_what_was_said_to_a_user_is_at_its_new_standby_when_its_home_dies(engine: KeepingServer) -> None:
    async with doors_of(engine, TIMES) as doors:
        gateways = [await doors.open() for _ in range(3)]
        _, token = await gateways[0].accounts.register("ada")
        bob, _ = await gateways[0].accounts.register("bob")
        ada = (await known(gateways[0], "ada")).user
        by_id = {gateway.peer.me.id: gateway for gateway in gateways}
        home, standby = (by_id[id] for id in hosts_of(ada, list(by_id)))
        third = next(gateway for gateway in gateways if gateway not in (home, standby))

        async def has(gateway: Gateway) -> bool:
            account = gateway.accounts.of(ada)
            try:
                return account is not None and "hello" in [post.text for post in await account.user.history("bob")]
            except UnknownName:  # nothing has come here that names bob
                return False

        await until(lambda: home.accounts.of(ada) and standby.accounts.of(ada), "home and standby")
        await known(home, "bob")
        writer = home.accounts.of(bob.key) or await home.accounts.adopt(bob.record)
        await writer.user.send(home.peer.directory.user(ada), "hello")
        async with within(WAIT, "the message at the standby"):
            while not await has(standby):
                await asyncio.sleep(0.01)  # poll: another peer sends it
        dying = cluster_of(home)
        await cancel(dying._tasks.values())  # it says nothing more, as a process that was killed
        await dying.store.aclose()
        await home.peer.aclose()
        async with within(WAIT, "the message at the third gateway, which is standby now"):
            while not await has(third):
                await asyncio.sleep(0.01)  # poll: another peer sends it
        for gateway in (standby, third):
            account = await gateway.accounts.by_token(token)
            assert account is not None and account.key == ada


# ---- keys of requests


async def test_a_message_repeated_at_another_door_is_there_once(engine: KeepingServer) -> None:
    """Also if both doors write it at one moment: each takes back the later one when they meet."""
    async with doors_of(engine) as doors:
        one, other = await doors.open(), await doors.open()
        ada, token = await one.accounts.register("ada")
        bob, _ = await one.accounts.register("bob")
        await until(lambda: one.peer.links, "the link between the gateways")
        there = await other.accounts.by_token(token)
        assert there is not None
        first = await ada.user.send(bob.user.me, "first", key="k")
        async with within(WAIT, "the message at the other gateway"):
            while first.id not in [post.id for post in await there.user.history(bob.user.me)]:
                await asyncio.sleep(0.01)  # poll: another peer sends it
        again = await there.user.send(bob.user.me, "first", key="k")
        assert (again.id, again.repeated) == (first.id, True)
        with pytest.raises(KeyReused):
            await there.user.send(bob.user.me, "another text", key="k")
        both = await asyncio.gather(*(who.user.send(bob.user.me, "at once", key="l") for who in (ada, there)))
        async with within(WAIT, "one message of two"):
            for user in (ada.user, there.user, bob.user):
                while [
                    post.text for post in await user.history("bob" if user is not bob.user else "ada") if post.text
                ] != [
                    "first",
                    "at once",
                ]:
                    await asyncio.sleep(0.01)  # poll: the gateways meet
        known = {(await who.user.send(bob.user.me, "at once", key="l")).id for who in (ada, there)}
        assert len(known) == 1 and known <= {one.id for one in both}


async def test_a_gateway_is_heard_as_soon_as_it_has_the_engine(engine: KeepingServer) -> None:
    async with doors_of(engine, SILENT) as doors:
        one = await doors.open()
        other = await doors.open()
        await until(lambda: other.peer.me.id in cluster_of(one).living.all, "the second gateway to be heard")
