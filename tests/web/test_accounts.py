"""Accounts: registration, tokens, reserved names, and what of them is stored."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat import DataLocked, Renamed, Settings, TCPPeer, UnknownName, open_alone, validate_name
from p2pchat.testing import mesh
from p2pchat.web import WebSettings
from p2pchat.web.accounts import REFUSED_NAMES, AccountNameTaken, Accounts, open_accounts
from p2pchat.web.errors import Forbidden, WebError
from tests.web.conftest import Served, serving


async def test_a_name_is_registered_once_and_proved_by_its_token(served: Served) -> None:
    token = await served.register("zoe")
    account = await served.gateway.accounts.by_token(token)
    assert account is not None and account.name == "zoe" and account.state == "registered"
    async with served.client() as http:
        for name in ("zoe", "ZOE", "gate"):
            again = await http.post("/accounts", json={"name": name})
            assert (again.status_code, again.json()["code"]) == (409, "name_taken")
        for name in ("", "room", " zoe", "a#b", "a/b", "x" * 33, "zo\u200be", "Adm1n", *REFUSED_NAMES):
            again = await http.post("/accounts", json={"name": name})
            assert (again.status_code, again.json()["code"]) == (400, "malformed"), name
    assert await served.gateway.accounts.by_token(token[:-1]) is None
    assert await served.gateway.accounts.by_token("") is None


async def test_one_of_many_concurrent_registrations_gets_the_name(served: Served) -> None:
    async def sign_up() -> int:
        async with served.client() as http:
            return (await http.post("/accounts", json={"name": "zoe"})).status_code

    statuses = await asyncio.gather(*(sign_up() for _ in range(5)))
    assert sorted(statuses) == [201, 409, 409, 409, 409]


async def test_a_name_in_use_elsewhere_in_the_mesh_is_taken() -> None:
    async with mesh("gate", "ada") as net:
        accounts = Accounts(net.peers[0], WebSettings())
        with pytest.raises(AccountNameTaken):
            await accounts.register("ada")
        with pytest.raises(AccountNameTaken):
            await accounts.reserve("Ada")


async def test_a_user_that_a_program_hosts_cannot_be_registered() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        await peer.host("bot")
        accounts = Accounts(peer, WebSettings())
        for claim in (accounts.register, accounts.reserve, accounts.trusted):
            with pytest.raises(AccountNameTaken):
                await claim("bot")
        account, token = await accounts.new_token("bot")  # access to the peer's directory allows it
        assert await accounts.by_token(token) is account


async def test_registering_a_reserved_name_gets_its_waiting_messages() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        accounts = Accounts(peer, WebSettings(max_reserved_by_account=1))
        ada, _ = await accounts.register("ada")
        yet = await accounts.reserve("bob", ada)
        assert (yet.state, await accounts.reserve("bob", ada)) == ("reserved", yet)
        await ada.user.send("bob", "for when you come")
        with pytest.raises(Forbidden):
            await accounts.reserve("cyd", ada)
        bob, token = await accounts.register("bob")
        assert bob is yet and bob.state == "registered" and await accounts.by_token(token) is bob
        assert [post.text for post in await bob.user.history("ada")] == ["for when you come"]
        await accounts.reserve("cyd", ada)  # the earlier one was registered, so it no longer counts


async def test_accounts_survive_a_restart_and_no_token_is_on_disk(tmp_path: Path) -> None:
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        accounts = await open_accounts(peer)
        zoe, token = await accounts.register("zoe")
        key = zoe.key
        await accounts.reserve("bob", zoe)
        await accounts.trusted("cyd")
        _, former = await accounts.register("dan")
        await accounts.revoke("dan")
        with pytest.raises(DataLocked):
            async with open_alone(tmp_path):
                pass
    async with open_alone(tmp_path) as peer:
        accounts = await open_accounts(peer)
        assert [(one.name, one.state) for one in accounts.list()] == [
            ("bob", "reserved"), ("cyd", "registered"), ("dan", "revoked"), ("zoe", "registered"),
        ]  # fmt: skip
        again = await accounts.by_token(token)
        assert again is not None and again.key == key
        assert await accounts.by_token(former) is None
        with pytest.raises(Forbidden):
            await accounts.trusted("dan")
        with pytest.raises(AccountNameTaken):
            await accounts.register("dan")
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("*.db*"))
    assert token.encode() not in stored and former.encode() not in stored


async def test_a_new_token_revokes_the_old_one_and_ends_its_sessions(served: Served) -> None:
    accounts, hub = served.gateway.accounts, served.gateway.hub
    zoe, token = await accounts.register("zoe")
    ended: list[str] = []
    hub.open(zoe, lambda told: None, "chat", ended.append)
    _, newer = await accounts.new_token("zoe")
    assert await accounts.by_token(token) is None and await accounts.by_token(newer) is zoe
    assert ended == ["revoked"] and zoe.sessions == 0


async def test_a_renamed_account_is_found_by_its_new_name(served: Served) -> None:
    zoe, token = await served.gateway.accounts.register("zoe")
    heard = asyncio.Event()
    served.gateway.hub.open(zoe, lambda told: heard.set(), "chat", wants=[Renamed])
    await zoe.user.rename("Zora")
    await asyncio.wait_for(heard.wait(), 10)
    assert served.gateway.accounts.find("zora") is zoe and served.gateway.accounts.find("zoe") is None
    assert await served.gateway.accounts.by_token(token) is zoe
    other, _ = await served.gateway.accounts.register("zoe")  # that name is free again
    assert served.gateway.accounts.find("zoe") is other and served.gateway.accounts.find("zora") is zoe


async def test_no_way_leads_to_a_refused_name() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        accounts = Accounts(peer, WebSettings())
        for claim in (accounts.register, accounts.reserve, accounts.trusted, accounts.new_token):
            with pytest.raises(ValueError, match="would be taken for something else"):
                await claim("admin")
        ada, _ = await accounts.register("ada")
        with pytest.raises(UnknownName):
            await accounts.resolve_conversation(ada, "everybody")
    assert validate_name("admin") == "admin"  # for a peer of its own


async def test_old_names_are_not_indexed(served: Served) -> None:
    """Otherwise a user who renames itself all day would fill the memory."""
    zoe, _ = await served.gateway.accounts.register("zoe")
    names: asyncio.Queue[str] = asyncio.Queue()
    served.gateway.hub.open(zoe, lambda told: names.put_nowait(told.event.name), "chat", wants=[Renamed])
    for number in range(5):
        await zoe.user.rename(f"zoe{number}")
        assert await asyncio.wait_for(names.get(), 10) == f"zoe{number}"
    assert [*served.gateway.accounts._by_name] == ["zoe4"]


async def test_the_number_of_accounts_is_limited() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        accounts = Accounts(peer, WebSettings(max_accounts=1))
        await accounts.register("ada")
        with pytest.raises(WebError) as full:
            await accounts.register("bob")
        assert (full.value.status, full.value.code) == (503, "full")


async def test_a_peer_without_room_is_reported_as_full_not_as_name_taken() -> None:
    async with TCPPeer(db="memory://", name="gate", settings=Settings(max_hosted_users=2)) as peer:
        accounts = Accounts(peer, WebSettings())
        await accounts.register("ada")
        with pytest.raises(WebError) as full:
            await accounts.register("bob")
        assert (full.value.status, full.value.code) == (503, "full")


@pytest.mark.parametrize(("way", "status"), [("open", 201), ("auto", 403), ("token", 403)])
async def test_sign_up_from_elsewhere_follows_the_setting(way: str, status: int) -> None:
    async with serving(WebSettings(sign_up=way)) as served, served.client() as http:  # type: ignore[arg-type]
        answer = await http.post("/accounts", json={"name": "eve"}, headers={"X-Forwarded-For": "203.0.113.9"})
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "sign_up_closed"


def test_database_tables_have_telling_names(tmp_path: Path) -> None:
    """Only a hash of 32 bytes is stored, as the database file itself shows."""

    async def run() -> None:
        async with TCPPeer(data=tmp_path, name="gate") as peer:
            await (await open_accounts(peer)).register("zoe")

    asyncio.run(run())
    [database] = [path for path in tmp_path.glob("*.db") if path.name != "search.db"]
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = connection.execute("select * from tokens").fetchall()
    assert len(rows) == 1 and any(isinstance(cell, bytes) and len(cell) == 32 for cell in rows[0])
