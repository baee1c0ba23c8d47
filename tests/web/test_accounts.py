"""Accounts: registration, tokens, and what of them is stored."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing, suppress
from datetime import date
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from p2pchat import (
    AmbiguousName,
    DataLocked,
    HostedUser,
    P2PChatError,
    Renamed,
    Settings,
    StorageError,
    TCPPeer,
    UnknownName,
    open_alone,
    validate_name,
)
from p2pchat.core.names import base32
from p2pchat.testing import mesh
from p2pchat.web import Pace, WebSettings
from p2pchat.web.account_record import AccountNameTaken, AccountRecord, claimed_record, valid
from p2pchat.web.accounts import Accounts, open_accounts
from p2pchat.web.cluster.account_directory import AccountDirectory
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.rate_limits import TooMany
from p2pchat.web.receivers import Receivers
from tests.web.chat_client import connect
from tests.web.conftest import Served, serving


async def test_a_name_is_registered_once_and_proved_by_its_token(served: Served) -> None:
    token = await served.register("zoe")
    account = await served.gateway.accounts.by_token(token)
    assert account is not None and account.name == "zoe" and account.state == "registered"
    async with served.client() as http:
        for name in ("zoe", "ZOE", "gate"):
            again = await http.post("/accounts", json={"name": name})
            assert (again.status_code, again.json()["code"]) == (409, "name_taken")
        for name in ("", "room", "a/b", "x" * 33, "zo\u200be", "Adm1n", "--", "127.0.0.1:80"):
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


async def test_a_user_that_a_program_hosts_cannot_be_registered() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        await peer.host("bot")
        accounts = Accounts(peer, WebSettings())
        for claim in (accounts.register, accounts.trusted):
            with pytest.raises(AccountNameTaken):
                await claim("bot")
        account, token = await accounts.new_token("bot")  # access to the peer's directory allows it
        assert await accounts.by_token(token) is account


async def test_of_two_users_with_one_name_a_label_says_which_at_every_path(served: Served) -> None:
    accounts, tokens, users = served.gateway.accounts, served.tokens, list[HostedUser]()
    for key in "12":
        users.append(await served.peer.host(key, name="Max Miller"))
    labels = sorted(user.me.label for user in users)
    for user in users:
        with pytest.raises(AmbiguousName) as asked:
            await accounts.new_token("Max Miller")  # also once one of the two has an account
        assert asked.value.candidates == labels
        account, tokens[user.hosted_as] = await accounts.new_token(user.me.label)
        assert account.user is user and accounts.find(user.me.label) is accounts.find(user.me.id) is account
    assert await accounts.by_token(tokens["1"]) is not await accounts.by_token(tokens["2"])
    await served.register("zoe")
    async with served.client("zoe") as http:
        for path in (
            "/messages?conversation=Max%20Miller",
            "/messages?user1=zoe&user2=Max%20Miller",
            "/users/Max%20Miller",
        ):
            refused = await http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (409, "ambiguous_name"), path
            assert all(label in refused.json()["text"] for label in labels), path
        for number, label in enumerate(labels):
            sent = await http.post("/messages", json={"to": label, "content": f"to {number}"})
            assert sent.status_code == 201, sent.text
        refused = await http.post("/messages", json={"to": "Max Miller", "content": "to one of them"})
        assert refused.status_code == 409
        taken = await http.post("/accounts", json={"name": "max miller"})
        assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    for number, label in enumerate(labels):
        found = accounts.find(label)
        assert found is not None and [post.text for post in await found.user.history("zoe")] == [f"to {number}"]
    with pytest.raises(AmbiguousName):
        await accounts.revoke("Max Miller")
    with pytest.raises(AmbiguousName):
        await accounts.trusted("Max Miller")
    revoked = await accounts.revoke(labels[0])
    assert revoked is not None and [one.state for one in accounts.list() if one is not revoked] == ["registered"] * 2


async def test_tokens_with_labels_are_made_used_and_revoked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.web.accounts.time", lambda: NOON)
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        accounts = Accounts(peer, WebSettings())
        zoe, first = await accounts.register("zoe")
        _, phone = await accounts.new_token("zoe", "phone")
        _, former = await accounts.new_token(zoe.id, "ci")
        _, ci = await accounts.new_token("zoe", "ci")  # in place of the one with this label
        bob, only = await accounts.new_token("bob", "desk")  # a free name
        with pytest.raises(ValueError, match="does not contain"):
            await accounts.new_token("zoe", "a@b")
        assert await accounts.by_token(former) is None and await accounts.by_token(only) is bob
        assert await accounts.revoke("zoe", "tablet") is None is await accounts.revoke("eve", "phone")
    monkeypatch.setattr("p2pchat.web.accounts.time", lambda: NOON + DAYS)
    async with TCPPeer(data=tmp_path) as peer:
        accounts = await open_accounts(peer)
        found = accounts.find("zoe")
        assert found is not None and await accounts.by_token(phone) is await accounts.by_token(first) is found
        used = {token.label: str(token.used) for token in found.tokens.values()}
        assert used == {"ci": "2026-11-22", "phone": "2026-11-23"}
        while sorted((await peer.hosting.tokens())[found.key].values()) != sorted(found.rows.values()):
            await asyncio.sleep(0)  # poll: nobody waits for it
        assert await accounts.revoke("zoe", "phone") is found
    async with TCPPeer(data=tmp_path) as peer:
        accounts = await open_accounts(peer)
        found = accounts.find("zoe")
        assert found is not None and await accounts.by_token(phone) is None
        assert await accounts.by_token(first) is await accounts.by_token(ci) is found
        assert await accounts.rename("zoe", "zora") is found and accounts.find("zora") is found
        assert await accounts.rename("zoe", "eve") is None
        await accounts.revoke("zora")
        for token in (first, ci):
            assert await accounts.by_token(token) is None
        _, again = await accounts.new_token("zora", "ci")
        assert await accounts.by_token(again) is found and await accounts.by_token(ci) is None
        assert await accounts.delete(found) and await accounts.by_token(again) is None


class Names:
    """The names of a cluster of one gateway."""

    def __init__(self) -> None:
        self.directory = AccountDirectory(ClusterKey(b"k" * 32, "team"))

    async def look(self, name: str) -> AccountRecord | None:
        return self.directory.find(name)

    def require(self) -> None: ...

    async def claim(self, mine: AccountRecord, today: date, kept_days: int) -> AccountRecord:
        found = claimed_record(self.directory.find(mine.name), mine, today, kept_days)
        self.announce(found)
        return found

    def announce(self, record: AccountRecord) -> None:
        self.directory.remember(record)


async def test_a_token_with_a_label_is_refused_in_a_cluster_in_a_clear_sentence_and_registers_nobody() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        accounts = Accounts(peer, WebSettings())
        bob, desk = await accounts.new_token("bob", "desk")
        accounts.shared = Names()
        zoe, token = await accounts.register("zoe")
        for shared in (accounts.shared, None):  # also by a command while its gateway is stopped
            accounts.shared = shared
            with pytest.raises(WebError, match="in a cluster an account has one token: leave the label out"):
                await accounts.new_token("zoe", "phone")
        accounts.shared = Names()
        with pytest.raises(WebError, match="leave the label out"):
            await accounts.new_token("eve", "phone")
        assert accounts.list() == [bob, zoe] and await accounts.by_token(token) is zoe
        assert await accounts.by_token(desk) is None and await accounts.revoke("bob", "desk") is bob
        accounts.shared = None
        assert await accounts.by_token(desk) is None


async def test_a_token_that_ends_ends_its_sessions_and_those_of_others_come_back(served: Served) -> None:
    accounts = served.gateway.accounts
    first = await served.register("zoe")
    for ended in ("phone", ""):
        tokens = {name: (await accounts.new_token("zoe", name))[1] for name in ("phone", "tablet")}
        tokens[""] = first
        async with AsyncExitStack() as stack:
            sockets = []
            for token in tokens.values():
                of_token = {"Authorization": f"Bearer {token}"}
                sockets.append(
                    await stack.enter_async_context(connect(served.ws_url + "/lines", additional_headers=of_token))
                )
                assert json.loads(await sockets[-1].recv())["event"] == "listening"
            if ended:
                await accounts.revoke("zoe", ended)
            else:
                await accounts.new_token("zoe")
            for socket in sockets:
                with suppress(ConnectionClosed):
                    while True:
                        await socket.recv()
                assert (socket.close_code, socket.close_reason) == (1012, "stopping")
        for name, token in tokens.items():
            async with served.client() as http:
                answer = await http.get("/conversations", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == (401 if name == ended else 200), name


async def test_key_and_a_slash_name_the_account_of_a_hosted_user(served: Served) -> None:
    accounts = served.gateway.accounts
    users = [await served.peer.host(key, name="Max Miller") for key in ("42", "max@example.org")]
    for user in users:
        account, token = await accounts.new_token(f"key/{user.hosted_as}")
        assert account.user is user and await accounts.by_token(token) is account
        assert accounts.find(f"key/{user.hosted_as}") is account
        assert await accounts.revoke(f"key/{user.hosted_as}") is account and account.state == "revoked"
    assert accounts.find("key/43") is None and await accounts.revoke("key/43") is None
    for name in ("key/43", "key/"):
        with pytest.raises(ValueError):
            await accounts.new_token(name)
    async with served.client() as http:
        assert (await http.post("/accounts", json={"name": "key/42"})).status_code == 400


async def test_a_name_that_an_account_gave_up_is_another_s(served: Served) -> None:
    zoe, _ = await served.gateway.accounts.register("zoe")
    async with served.gateway.accounts.renaming(zoe, "zora"):
        await zoe.user.rename("zora")
    other, _ = await served.gateway.accounts.register("zoe")
    assert other.user is not zoe.user and other.user.hosted_as != zoe.user.hosted_as


async def test_accounts_survive_a_restart_and_no_token_is_on_disk(tmp_path: Path) -> None:
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        accounts = await open_accounts(peer)
        zoe, token = await accounts.register("zoe")
        key = zoe.key
        await accounts.trusted("cyd")
        _, former = await accounts.register("dan")
        await accounts.revoke("dan")
        with pytest.raises(DataLocked):
            async with open_alone(tmp_path):
                pass
    async with open_alone(tmp_path) as peer:
        accounts = await open_accounts(peer)
        assert [(one.name, one.state) for one in accounts.list()] == [
            ("cyd", "registered"), ("dan", "revoked"), ("zoe", "registered"),
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
    served.gateway.hub.open(zoe, lambda told: heard.set(), "chat", wants=(Renamed,))
    await zoe.user.rename("Zora")
    await asyncio.wait_for(heard.wait(), 60)
    assert served.gateway.accounts.find("zora") is zoe and served.gateway.accounts.find("zoe") is None
    assert await served.gateway.accounts.by_token(token) is zoe
    other, _ = await served.gateway.accounts.register("zoe")  # that name is free again
    assert served.gateway.accounts.find("zoe") is other and served.gateway.accounts.find("zora") is zoe


@pytest.mark.parametrize("name", [
    "room", "everybody", "everyone", "me", "you", "system", "admin", "p2pchat", ".", "..", "--", "null", "undefined",
    "Admin", "\N{CYRILLIC SMALL LETTER A}dmin", "-h", "127.0.0.1", "chat.example.org:80",
])  # fmt: skip
def test_a_name_with_another_meaning_is_no_name_of_an_account(name: str) -> None:
    with pytest.raises(ValueError):
        valid(name)


async def test_no_way_leads_to_a_refused_name() -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        accounts = Accounts(peer, WebSettings())
        for claim in (accounts.register, accounts.trusted, accounts.new_token):
            with pytest.raises(ValueError, match="would be taken for something else"):
                await claim("admin")
        ada, _ = await accounts.register("ada")
        with pytest.raises(UnknownName):
            await Receivers(peer, accounts).resolve(ada, "everybody")
    assert validate_name("admin") == "admin"  # for a peer of its own


async def test_a_peer_without_room_is_reported_as_full_not_as_name_taken() -> None:
    async with TCPPeer(db="memory://", name="gate", settings=Settings(max_hosted_users=2)) as peer:
        accounts = Accounts(peer, WebSettings())
        await accounts.register("ada")
        with pytest.raises(WebError) as full:
            await accounts.register("bob")
        assert (full.value.status, full.value.code) == (503, "full")


def test_a_peer_has_room_for_ten_thousand_accounts_beside_the_users_of_programs() -> None:
    own, programs = 1, 999
    assert WebSettings().max_accounts == 10_000
    assert own + programs + WebSettings().max_accounts == Settings().max_hosted_users


async def test_the_users_of_a_program_take_one_place_each_up_to_the_last_account() -> None:
    async with TCPPeer(db="memory://", name="gate", settings=Settings(max_hosted_users=5)) as peer:
        accounts = Accounts(peer, WebSettings(max_accounts=3))
        await peer.host("1", name="max")  # before it comes, so that others can write to it
        for key in ("1", "2", "3", "1"):
            await accounts.own(key, "max")
        with pytest.raises(WebError) as full:
            await accounts.own("4", "max")
        assert (full.value.status, full.value.code) == (503, "full")
        await peer.host("bot")
        with pytest.raises(P2PChatError, match="at most 5 users"):
            await peer.host("another bot")
        assert [account.user.hosted_as for account in accounts.list()] == ["1", "2", "3"]


async def test_an_account_changes_its_name_no_faster_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(db="memory://", name="gate") as peer:
        now = 0.0
        monkeypatch.setattr("p2pchat.web.rate_limits.monotonic", lambda: now)
        accounts = Accounts(peer, WebSettings(names=Pace(0.001, 1)))
        ada, _ = await accounts.register("ada")
        async with accounts.renaming(ada, "eva"):
            await ada.user.rename("eva")
        with pytest.raises(TooMany, match="changed your name too often: try again in 17 min"):
            async with accounts.renaming(ada, "ada"):
                raise AssertionError("not reached")
        now = 1001.0
        async with accounts.renaming(ada, "ada"):
            await ada.user.rename("ada")


# ---- deleted accounts

NOON = 1_795_348_800.0  # 2026-11-22, 12:00 UTC
DAYS = 86_400.0


async def test_a_deleted_name_is_free_after_ninety_days_under_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        monkeypatch.setattr("p2pchat.web.accounts.time", lambda: NOON)
        accounts = Accounts(peer, WebSettings())
        ada, _ = await accounts.register("ada")
        zoe, token = await accounts.register("zoe")
        key, secret = zoe.key, zoe.user.secret
        await zoe.user.broadcast("hello")
        await zoe.user.send("ada", "psst")
        assert await accounts.delete(zoe) and not await accounts.delete(zoe)
        assert await accounts.by_token(token) is None and zoe.user not in peer.hosted and accounts.find("zoe") is None
        assert [post.text for post in await ada.user.history("room")] == ["hello"]
        with pytest.raises(WebError) as gone:
            await Receivers(peer, accounts).resolve(ada, "zoe")
        assert (gone.value.status, gone.value.code) == (404, "unknown_name")
    assert not [path.name for path in tmp_path.iterdir() if path.is_file() and secret in path.read_bytes()]
    for days, is_free in ((0, False), (89, False), (90, True)):
        async with TCPPeer(data=tmp_path) as peer:
            monkeypatch.setattr("p2pchat.web.accounts.time", lambda: NOON + days * DAYS)  # noqa: B023
            accounts = Accounts(peer, WebSettings())
            await accounts.load()
            assert await accounts.by_token(token) is None
            if is_free:
                other, _ = await accounts.register("Zoe")
                assert other.key != key
                ada = accounts.find("ada") or ada
                assert [post.text for post in await ada.user.history(f"zoe#{base32(key)[:8]}")] == ["psst"]
                mine = await Receivers(peer, accounts).resolve(ada, "zoe")  # the name means who has it now
                assert mine.user is not None and mine.user.key == other.key
            else:
                with pytest.raises(AccountNameTaken):
                    await accounts.register("zoe")
                with pytest.raises(AccountNameTaken):
                    async with accounts.renaming(await accounts.trusted("yan"), "zoe"):
                        pass


async def test_idle_accounts_are_purged_and_none_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = NOON
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        monkeypatch.setattr("p2pchat.web.accounts.time", lambda: now)
        accounts = Accounts(peer, WebSettings())
        ada, token = await accounts.register("ada")
        for name in ("idle", "blocked", "open"):
            await accounts.register(name)
        await accounts.revoke("blocked")
        now += 30 * DAYS
        assert await accounts.purge(31) == []
        assert await accounts.by_token(token) is ada  # used, which is stored soon
        while (await peer.hosting.tokens())[ada.key] != {ada.hash: "@2026-12-22"}:
            await asyncio.sleep(0)  # poll: nobody waits for it
    async with TCPPeer(data=tmp_path) as peer:
        monkeypatch.setattr("p2pchat.web.accounts.time", lambda: now)
        accounts = Accounts(peer, WebSettings())
        await accounts.load()
        found = accounts.find("open")
        assert found is not None
        found.sessions = 1
        assert [account.name for account in await accounts.purge(30)] == ["idle"]
        assert [account.name for account in accounts.list()] == ["ada", "blocked", "open"]


async def test_an_account_is_still_there_after_its_deletion_could_not_be_stored(tmp_path: Path) -> None:
    async with TCPPeer(data=tmp_path, name="gate") as peer:
        accounts = Accounts(peer, WebSettings())
        zoe, token = await accounts.register("zoe")
        [database] = [path for path in tmp_path.glob("*.db") if path.name != "search.db"]
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("create trigger refuse before delete on hosted begin select raise(abort, 'no'); end")
            with pytest.raises(StorageError):
                await accounts.delete(zoe)
            other.execute("drop trigger refuse")
        assert await accounts.by_token(token) is zoe and zoe.user in peer.hosted
        await zoe.user.broadcast("still here")
        assert await accounts.delete(zoe)


@pytest.mark.parametrize(("way", "status"), [("open", 201), ("auto", 403), ("token", 403)])
async def test_sign_up_from_elsewhere_follows_the_setting(way: str, status: int) -> None:
    async with serving(WebSettings(sign_up=way)) as served, served.client() as http:  # type: ignore[arg-type]
        answer = await http.post("/accounts", json={"name": "eve"}, headers={"X-Forwarded-For": "203.0.113.9"})
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "sign_up_closed"


REGISTERS = 'POST /accounts {"name": NAME} returns one'


@pytest.mark.parametrize(
    ("settings", "address", "told"),
    [
        (WebSettings(), "", f"{REGISTERS}; or start the gateway with --trust-loopback, and programs on this machine "
         "only give a name"),
        (WebSettings(trust_loopback=True), "", f"{REGISTERS}; or give a name: ?as=NAME in the address"),
        (WebSettings(sign_up="token"), "203.0.113.7", "the operator makes one with `p2pchat web token NAME`"),
    ],
)  # fmt: skip
async def test_a_caller_without_a_token_is_told_how_to_get_one(settings: WebSettings, address: str, told: str) -> None:
    async with serving(settings) as served, served.client() as http:
        answer = await http.get("/conversations", headers={"X-Forwarded-For": address} if address else {})
    assert answer.json()["text"] == f"missing token: send Authorization: Bearer TOKEN; {told}"
