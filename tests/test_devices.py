"""Devices: one person on several machines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from msgspec.structs import replace

from p2pchat import (
    AmbiguousName,
    DataLocked,
    Device,
    Hidden,
    InviteError,
    MemberChange,
    Message,
    P2PChatError,
    Seen,
    TCPPeer,
    UnknownName,
    add_device,
    backup_key,
    devices,
    inspect_profile,
    join_device,
    open_history,
    profile_directory,
    restore_key,
)
from p2pchat.addresses import LOOPBACK
from p2pchat.commands.event_text import format_member_change
from p2pchat.core.durable_changes import META_NAME
from p2pchat.core.mesh.handshake import Certificates, make_cert
from p2pchat.core.names import base32
from p2pchat.core.own_state import BLOCKED, DEVICE
from p2pchat.identity.device_code import DeviceCode, parse_device_code, words_of
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import GUEST_NAME, save_certificates
from p2pchat.identity.profile import KEY_NAME, USER_KEY_NAME, network_of
from p2pchat.identity.tls_pipe import client_context, server_context
from p2pchat.messaging.users import UserDirectory, UserFacts, id_of
from p2pchat.private_files import make_private_directory, write_private
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session
from tests.deadlines import WAIT, until, within
from tests.messaging.conftest import home as home
from tests.messaging.texts import texts
from tests.ports import free_ports

Login = Callable[[str], None]


@pytest.fixture
def login(home: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return what has all that follows happen on the machine of somebody, with a home of its own."""
    return lambda whose: monkeypatch.setenv("P2PCHAT_HOME", str(home / whose))


class Adding:
    """The old machine while it waits for the new one: the words that it shows, and what the person says."""

    def __init__(self, data: int | Path, *, answer: bool | None = True) -> None:
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if answer is not None:
            self.answer.set_result(answer)
        self.words: list[str] = []
        self.task = asyncio.create_task(
            add_device(data, on_code=self._code.set_result, is_wanted=self._is_wanted, host=LOOPBACK)
        )

    def _is_wanted(self, words: str) -> Awaitable[bool]:
        self.words.append(words)
        return self.answer

    async def code(self) -> str:
        async with within(WAIT, "a code"):
            return await self._code


async def has(peer: TCPPeer, to: str, *wanted: str) -> None:
    """Wait until a conversation of a peer's user has these texts, each once."""
    async with within(WAIT, f"{wanted} at {peer}"):
        await peer.when_known(lambda: peer.find(to))
        while sorted(await texts(peer, to)) != sorted(wanted):
            await asyncio.sleep(0.02)  # poll: what a comparison brings is no event of a program that was not there


async def test_a_person_is_one_on_two_machines(login: Login) -> None:
    """Both machines have the history, each writes as the person, and one receipt says that somebody has it."""
    desk_port, lap_port, bob_port = map(int, free_ports(3))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as ada:
        me, invite = ada.me.id, await ada.make_invite()
        await ada.broadcast("to all")
        login("bob")
        async with TCPPeer(bob_port, name="bob", invite=invite) as bob:
            await bob.wait_user("ada", timeout=WAIT)
            await (await bob.send("ada", "to ada alone")).delivered(timeout=WAIT)
    login("ada")
    adding, seen = Adding(desk_port), list[str]()
    code = await adding.code()
    login("the laptop")
    joined = await join_device(code, lap_port, on_words=seen.append)
    added = await adding.task
    login("ada")
    own = inspect_profile(profile_directory(desk_port)).peer_id
    assert added is not None and added.peer_id == joined.peer_id and len({me, own, joined.peer_id}) == 3
    assert seen == adding.words and len(seen[0].split()) == 4

    login("the laptop")
    async with TCPPeer(lap_port) as laptop:
        login("bob")
        async with TCPPeer(bob_port) as bob:
            login("ada")
            async with TCPPeer(desk_port) as desk:
                assert [(one.me.id, one.me.name) for one in (desk, laptop)] == [(me, "ada")] * 2
                await has(laptop, "room", "to all")
                await has(laptop, "bob", "to ada alone")
                await (await laptop.send("bob", "from the laptop")).delivered(timeout=WAIT)
                await (await bob.send("ada", "to both")).delivered(timeout=WAIT)
                for one in (desk, laptop):
                    await has(one, "bob", "to ada alone", "from the laptop", "to both")
                assert [user.name for user in bob.directory.all()].count("ada") == 1
                [unread] = [one for one in await desk.unread("bob") if one.text == "to both"]
                async with laptop.events(Seen, consumer=None) as events, within(WAIT, "read at the laptop, too"):
                    await desk.mark_read_durably(unread)
                    while await laptop.unread("bob"):
                        assert (await anext(events)).conversation == laptop.find("bob")


async def test_who_cannot_be_dialled_finds_the_machine_that_got_a_key_of_its_own(login: Login, home: Path) -> None:
    """It knew the machine by its address and its former key, which is the person's, and nobody could tell it more."""
    desk_port, lap_port = map(int, free_ports(2))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as ada:
        invite = await ada.make_invite()
        login("bob")
        async with TCPPeer(data=home / "bob" / "peer", name="bob", invite=invite, listen=False) as bob:
            await bob.wait_user("ada", timeout=WAIT)
    login("ada")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    await join_device(code, lap_port, on_words=list[str]().append)
    assert await adding.task is not None
    login("ada")
    async with TCPPeer(desk_port):
        login("bob")
        async with TCPPeer(data=home / "bob" / "peer", listen=False) as bob:
            await (await bob.send("ada", "are you there?")).delivered(timeout=WAIT)


async def typed(peer: TCPPeer, line: str) -> list[str]:
    """Return what a line shows that somebody types."""
    assert peer.data is not None
    shown = Shown(peer.data / "shown")
    with closing(shown.raw):
        await open_session(peer, shown, as_json=False).execute([line.encode()])
        return shown.new


async def typed_devices(peer: TCPPeer) -> list[str]:
    """Return what /devices shows, without its last line, which says how to add a machine."""
    *found, hint = await typed(peer, "/devices")
    assert hint.endswith("device add")
    return found


async def when_named(peer: TCPPeer, count: int) -> None:
    await until(lambda: [bool(one.name) for one in peer.devices()] == [True] * count, f"the names at {peer}")


async def test_each_machine_lists_all(login: Login, home: Path) -> None:
    """Linked ones, those that were, and no other peer of the login."""
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as desk:
        [this] = desk.devices()
        assert (this.peer_id, this.name, this.since, this.is_this) == (desk.listening.peer_id, "", None, True)
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    lap = (await join_device(code, home / "lap", on_words=lambda words: None)).peer_id
    await adding.task
    login("ada")
    async with TCPPeer(data=home / "desk") as desk, TCPPeer(0, desk.endpoint, data=home / "other", name="bot"):
        here = desk.listening.peer_id
        login("the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as laptop:
            for one, ids in ((laptop, [lap, here]), (desk, [here, lap])):
                await when_named(one, 2)
                assert [(each.peer_id, each.is_this, each.linked) for each in one.devices()] == [
                    (ids[0], True, False), (ids[1], False, True)
                ]  # fmt: skip
                assert {each.name for each in one.devices()} == {gethostname()[:32]}
            before = datetime.now(UTC)
            assert "   this peer" in await typed(desk, "/whois ada")
            await laptop.people.rename_device(lap[:6], "lap")
            await until(lambda: desk.devices()[1].name == "lap", "its name at the desk")
            await laptop.people.rename_device(lap[:6], here[:8])
            await until(lambda: desk.devices()[1].name == here[:8], "a name that is the id of another one")
            with pytest.raises(AmbiguousName):
                await laptop.people.rename_device(here[:8], "desk")
            await laptop.people.rename_device(lap[:6], "lap")
            await until(lambda: desk.devices()[1].name == "lap", "its name again")
            [this_line, line] = await typed_devices(desk)
            assert this_line.startswith(f"-- {gethostname()[:32]} {here[:8]}: this machine, yours since ")
            assert line.startswith(f"-- lap {lap[:8]}: linked, yours since ")
        await until(lambda: not desk.devices()[-1].linked, "the end of the link")
        [_, line] = await typed_devices(desk)
        assert line.startswith(f"-- lap {lap[:8]}: away, linked until ")
        this, away = desk.devices()
        assert (this.is_this, away.peer_id, away.is_this) == (True, lap, False)
        assert away.last_seen is not None and before <= away.last_seen <= datetime.now(UTC)
        with pytest.raises(UnknownName, match="no machine of yours is known as 'attic'"):
            await desk.people.rename_device("attic", "cellar")
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        assert [(one.name, one.linked, one.last_seen) for one in desk.devices()][1:] == [("lap", False, None)]
        assert await typed(desk, "/rename-device lap attic") == ["-- that machine is now your attic"]
        await desk.people.revoke_device("ATTIC")
        assert len(desk.devices()) == 1
    async with TCPPeer(data=home / "desk") as desk:
        assert len(desk.devices()) == 1


async def test_a_machine_is_called_by_its_name_or_by_its_person(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as desk:
        invite = await desk.make_invite()
        login("bob")
        async with TCPPeer(data=home / "bob", name="bob", invite=invite) as bob:
            await bob.wait_user("ada", timeout=WAIT)
    login("ada")
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    lap = (await join_device(code, home / "lap", on_words=lambda words: None)).peer_id
    await adding.task
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        login("the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as laptop:
            await when_named(desk, 2)
            await laptop.people.rename_device(lap, "attic")
            await until(lambda: desk.devices()[1].name == "attic", "its name at the desk")
            login("bob")
            async with TCPPeer(0, desk.endpoint, laptop.endpoint, data=home / "bob") as bob:
                await until(lambda: len(bob.links()) == 2, "both links")
                assert [one.directory.label(id_of(lap)) for one in (desk, laptop, bob)] == ["your attic"] * 2 + ["ada"]
            events = desk.events(MemberChange, consumer=None)
            await desk.people.revoke_device("attic")
            async with within(WAIT, "what the desk reads"):
                told = (await anext(events)).to_dict()
            assert format_member_change(told, "ada") == 'your login shut out "your attic"'


async def test_a_copy_of_the_key_lets_another_machine_shut_out_a_lost_one(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    backup_key(home / "key")
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    await join_device(code, home / "lap", on_words=lambda words: None)
    await adding.task
    restore_key(home / "key", home / "lap")
    async with TCPPeer(data=home / "lap") as laptop:
        login("ada")
        async with TCPPeer(0, laptop.endpoint, data=home / "desk") as desk:
            lost = desk.listening.peer_id
            await until(lambda: len(laptop.devices()) == 2, "the desk in the list of the laptop")
            assert laptop.people.decides
            await laptop.people.revoke_device(lost)
            await until(lambda: desk.people.shut_out_at is not None and not desk.links(), "what the desk learns")


def test_a_clock_that_is_an_hour_off_keeps_nobody_from_linking() -> None:
    user, hour = Identity.generate(), 3600 * 1000
    cert = make_cert("ab" * 16, user.peer_id, user.sign, "cd" * 32, 100 * hour)
    faults = [Certificates("ab" * 16).fault(user.peer_id, "cd" * 32, cert, at * hour) for at in (77, 98, 102, 280)]
    assert faults == [""] * 4


def test_the_machine_that_reaches_somebody_has_its_name() -> None:
    facts = UserFacts()
    facts.status = lambda me, user: ("unreachable", "c" * 64, 0)
    facts.via, facts.machine = lambda user: "c" * 64, lambda me, peer: "your attic"
    directory = UserDirectory("a" * 64, facts)
    bob = directory.user("b" * 64)
    assert (bob.via, bob.status_text) == ("your attic", "your attic")


async def test_others_take_a_machine_for_no_gateway(login: Login, home: Path) -> None:
    """Neither who knew the person before, when the key of the first machine was the user's, nor who came later."""
    port = int(free_ports(1)[0])
    login("ada")
    async with TCPPeer(port, data=home / "desk", name="ada") as desk:
        invite = await desk.make_invite()
        login("bob")
        async with TCPPeer(data=home / "bob", name="bob", invite=invite) as bob:
            await bob.wait_user("ada", timeout=WAIT)
    login("ada")
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    await join_device(code, home / "lap", on_words=lambda words: None)
    await adding.task
    login("ada")
    async with TCPPeer(port, data=home / "desk") as desk:
        invite = await desk.make_invite()
        login("bob")
        async with TCPPeer(0, desk.endpoint, data=home / "bob") as bob:
            login("cyd")
            async with TCPPeer(data=home / "cyd", name="cyd", invite=invite) as cyd:
                for peer in (bob, cyd):
                    ada = await peer.wait_user("ada", timeout=WAIT)
                    await (await peer.send(ada, "hi")).delivered(timeout=WAIT)
                    assert not peer.is_at_gateway(ada)
                    assert [host.id for host in (await peer.whois(ada)).hosts] == [desk.listening.peer_id]


async def test_nothing_is_handed_over_without_a_yes(login: Login, home: Path) -> None:
    """Nor does anything change at the machine: its key, and with it the invites that it made."""
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as ada:
        key = ada.listening.peer_id
    adding = Adding(home / "desk", answer=False)
    code = await adding.code()
    with pytest.raises(DataLocked):  # its key may change yet
        await TCPPeer(data=home / "desk").start()
    login("the laptop")
    with pytest.raises(P2PChatError, match="said no: begin again there"):
        await join_device(code, home / "lap", on_words=lambda words: None)
    assert await adding.task is None
    assert not (home / "lap").exists() and inspect_profile(home / "desk").peer_id == key
    with pytest.raises(P2PChatError, match="no machine with this code answers"):
        await join_device(code, home / "lap", on_words=lambda words: None)


async def test_who_has_no_code_gets_nothing_and_costs_nobody_the_code(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk")
    code = parse_device_code(await adding.code())
    login("eva")
    guessed = DeviceCode(code.peer, bytes(16), code.endpoints).text
    with pytest.raises(InviteError, match="no longer good"):
        await join_device(guessed, home / "eva's", on_words=lambda words: None)
    other = DeviceCode("ab" * 32, code.secret, code.endpoints).text
    with pytest.raises(P2PChatError, match="no machine with this code answers"):  # another key is there
        await join_device(other, home / "eva's", on_words=lambda words: None)
    assert adding.words == []
    login("the laptop")
    joined = await join_device(code.text, home / "lap", on_words=lambda words: None)
    assert await adding.task == Device(joined.peer_id)


HOSTILE = {
    "no frame": [b"hello"],
    "too deep": [b"[" * 60_000],
    "another frame": [b'{"nonce":"' + b"00" * 32 + b'"}'],
    "a nonce that it was not bound to": [b'{"hash":"' + b"00" * 32 + b'"}', b'{"nonce":"' + b"00" * 32 + b'"}'],
}


@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE)
async def test_whatever_a_machine_says_is_an_error_that_can_be_read(home: Path, frames: list[bytes]) -> None:
    """Of the machine whose code somebody was given, as of one that comes with a code."""
    identity, wrong = Identity.generate(), b"".join(frame + b"\n" for frame in frames)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wrong)
        await reader.read()
        writer.close()

    make_private_directory(home / "eva")
    async with await asyncio.start_server(answer, LOOPBACK, 0, ssl=server_context(identity, home / "eva")) as server:
        port = server.sockets[0].getsockname()[1]
        code = DeviceCode.make(identity.peer_id, [f"{LOOPBACK}:{port}"])
        with pytest.raises(InviteError, match="no longer good"):
            await join_device(code.text, home / "lap", on_words=lambda words: None)
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk")
    good = parse_device_code(await adding.code())
    host, _, bound = good.endpoints[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(bound), ssl=client_context())
    writer.write(wrong)
    async with within(WAIT, "the end of the connection"):
        await reader.read()
    writer.close()
    await join_device(good.text, home / "lap", on_words=lambda words: None)
    assert await adding.task is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"kept": {META_NAME: "a\nb"}}, {"peers": [("00" * 32, "desk")]}, {"certificates": []},
        {"network": ("00" * 16, "00" * 32, "", "")}, {"user": "00" * 32},
    ],
)  # fmt: skip
async def test_a_package_that_no_machine_makes_leaves_nothing(home: Path, wrong: dict[str, Any]) -> None:
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    identity, new = Identity.generate(), home / "lap"
    package = devices._package(home / "desk", network_of(home / "desk"), identity.peer_id)
    with pytest.raises(ValueError):
        devices._store(new, identity, replace(package, **wrong))
    assert not new.exists()
    devices._store(new, identity, replace(package, kept=package.kept | {"founder": "of no use", "own:x": "y"}))
    async with TCPPeer(data=new) as laptop:
        assert laptop.me.name == "ada"


async def test_a_person_whom_another_machine_named_like_the_room_adds_machines(home: Path) -> None:
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    package = devices._package(home / "desk", network_of(home / "desk"), (identity := Identity.generate()).peer_id)
    devices._store(home / "lap", identity, replace(package, kept=package.kept | {META_NAME: "room"}))
    async with TCPPeer(data=home / "lap") as laptop:
        assert laptop.me.name == "room"


async def test_made_up_machines_are_not_listed_and_leave_room_for_what_was_stolen(login: Login, home: Path) -> None:
    """A thief says that there are 64 machines called like the stolen one: keys for which the person never answered, and
    an id that is none.
    """
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    lost = await join_device(code, home / "lap", on_words=lambda words: None)
    await adding.task
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        login("the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as thief:
            await when_named(desk, 2)
            for made_up in (*(Identity.generate().peer_id for _ in range(64)), "0" * 64):
                await thief.people._name_device(made_up, "0 lap")
            await thief.people.rename_device(lost.peer_id, "lap")
            await until(lambda: [one.name for one in desk.devices()][1:] == ["lap"], "its name at the desk")
        await until(lambda: not desk.devices()[1].linked, "the end of the link")
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        assert [one.peer_id for one in desk.devices()][1:] == [lost.peer_id]
        assert (await desk.people.revoke_device("lap")).peer_id == lost.peer_id and len(desk.devices()) == 1


async def test_a_thief_blocks_no_machine_and_unblocks_nobody(login: Login, home: Path) -> None:
    """What it chooses is chosen on all machines: of these none refuses another one, also if the thief takes back that
    it is a machine. Who is blocked stays out, also if the thief says that it is one.
    """
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as ada:
        invite = await ada.make_invite()
        login("eva")
        async with TCPPeer(data=home / "eva", name="eva", invite=invite) as eva:
            await eva.wait_user("ada", timeout=WAIT)
            await ada.block(await ada.wait_user("eva", timeout=WAIT))
    login("ada")
    adding = Adding(home / "desk")
    code = await adding.code()
    login("the laptop")
    await join_device(code, home / "lap", on_words=lambda words: None)
    await adding.task
    login("ada")
    async with TCPPeer(data=home / "desk") as desk:
        login("the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as thief:
            await when_named(desk, 2)
            me, lap, them = desk.me.key, id_of(thief.listening.peer_id), eva.me.key
            chosen = {
                f"{BLOCKED}:{lap}": "1",
                f"{BLOCKED}:{me}": "1",
                f"{DEVICE}:{them}": "0 eva",
                f"{DEVICE}:{lap}": "",
            }
            assert thief._driver is not None
            await thief._driver.requests.choose(me, chosen)
            await until(lambda: len(desk.blocked()) == 2, "the block at the desk")
            assert {user.key for user in desk.blocked()} == {lap, them}
            await thief.broadcast("still here")
            await has(desk, "room", "still here")
            login("eva")
            async with TCPPeer(data=home / "eva") as eva:
                assert not await eva.connect(desk.endpoint, timeout=WAIT)
        login("the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as thief:
            await until(lambda: desk.devices()[1].linked, "the link with a machine that is blocked")


async def test_a_code_is_good_once(login: Login, home: Path) -> None:
    """A second machine with the same code is turned away, also while the person looks at the words of the first."""
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as ada:
        await ada.set_receipts(False)
    adding, seen = Adding(home / "desk", answer=None), list[str]()
    code = await adding.code()
    login("the laptop")
    first = asyncio.create_task(join_device(code, home / "lap", on_words=seen.append))
    await until(lambda: adding.words, "the words of the first")
    with pytest.raises(InviteError, match="no longer good"):
        await join_device(code, home / "another", on_words=seen.append)
    adding.answer.set_result(True)
    assert await adding.task == Device((await first).peer_id)
    assert adding.words == seen[:1] and not (home / "another").exists()
    async with TCPPeer(data=home / "lap") as laptop:
        assert laptop.me.name == "ada" and not laptop.receipts()  # what the person chose is known there


async def test_nothing_is_handed_over_once_the_call_has_ended(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk", answer=None)
    code = await adding.code()
    login("the laptop")
    joining = asyncio.create_task(join_device(code, home / "lap", on_words=lambda words: None))
    await until(lambda: adding.words, "the words")
    adding.task.cancel()
    with pytest.raises(InviteError, match="no longer good"):
        await joining
    assert adding.answer.cancelled() and not (home / "lap").exists()


async def test_who_is_somebody_stays_it(login: Login, home: Path) -> None:
    login("ada")
    for name in ("ada", "bob"):
        async with TCPPeer(data=home / name, name=name):
            pass
    adding = Adding(home / "ada")
    with pytest.raises(P2PChatError, match="whose user stays who it is"):
        await join_device(await adding.code(), home / "bob", on_words=lambda words: None)
    adding.task.cancel()


async def test_a_running_peer_keeps_its_key(login: Login, home: Path) -> None:
    """The first time a machine gets a key of its own, so its peer must not run; later it may."""
    login("ada")
    async with TCPPeer(data=home / "ada", name="ada"):
        with pytest.raises(DataLocked):
            await add_device(home / "ada", on_code=print, is_wanted=lambda words: pytest.fail(words), host=LOOPBACK)
    adding = Adding(home / "ada")
    await join_device(await adding.code(), home / "desk", on_words=lambda words: None)
    await adding.task
    async with TCPPeer(data=home / "ada") as ada:
        adding = Adding(home / "ada")
        joined = await join_device(await adding.code(), home / "lap", on_words=lambda words: None)
        assert await adding.task == Device(joined.peer_id)
        async with TCPPeer(0, ada.endpoint, data=home / "lap") as laptop:
            assert laptop.me.id == ada.me.id
            await laptop.broadcast("as one")
            await has(ada, "room", "as one")


async def test_a_machine_without_the_members_key_adds_none(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "ada", name="ada"):
        pass
    adding = Adding(home / "ada")
    await join_device(await adding.code(), home / "lap", on_words=lambda words: None)
    await adding.task
    login("the laptop")
    with pytest.raises(P2PChatError, match="key of this network's member is on another machine: add the device there"):
        await add_device(home / "lap", on_code=print, is_wanted=lambda words: pytest.fail(words), host=LOOPBACK)


async def test_nobody_comes_in_time(login: Login, home: Path) -> None:
    login("ada")
    async with TCPPeer(data=home / "ada", name="ada"):
        pass
    with pytest.raises(P2PChatError, match="no machine came within"):
        await add_device(
            home / "ada", on_code=print, is_wanted=lambda words: pytest.fail(words), host=LOOPBACK, seconds=0.01
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("p2pchat-device:", "p2pchat:"), "no code of a device"),
        (lambda text: text[:30] + ("a" if text[30] != "a" else "b") + text[31:], "damaged"),
        (lambda text: text.partition("@")[0], "no address after an @"),
        (lambda text: text.partition("@")[0] + "@desk:0", "bad address"),
    ],
)
def test_a_code_is_read_whole(change: Callable[[str], str], reason: str) -> None:
    text = DeviceCode("ab" * 32, bytes(range(16)), ("desk.example:8080", "[2001:db8::1]:8080")).text
    assert parse_device_code(text.upper().replace("@", "\n@")).text == text
    with pytest.raises(InviteError, match=reason):
        parse_device_code(change(text))


def test_both_machines_show_what_they_saw() -> None:
    code = DeviceCode("ab" * 32, bytes(16), ("desk:1",))
    assert words_of(code.transcript("cd" * 32, "01" * 32, "02" * 32)) == words_of(
        code.transcript("cd" * 32, "01" * 32, "02" * 32)
    )
    others = {words_of(code.transcript(f"{n:064x}", "01" * 32, "02" * 32)) for n in range(100)}
    assert len(others) == 100


async def test_what_a_person_chose_is_the_same_on_both_machines(login: Login) -> None:
    """What was chosen before comes with the machine, later choices come by themselves, also those made alone."""
    desk_port, lap_port = map(int, free_ports(2))
    cyd, dan = (base32(Identity.generate().peer_id) for _ in range(2))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as ada:
        await ada.ignore(cyd)
        await ada.set_receipts(False, dan)
        await ada.choose("mybot:theme", "dark")
    login("ada")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    async with TCPPeer(lap_port) as laptop:
        assert [user.id for user in laptop.ignored()] == [cyd]
        assert {user.id: on for user, on in laptop.receipt_exceptions().items()} == {dan: False}
        assert laptop.choices("mybot") == {"theme": "dark"} and laptop.choices("my") == {}
        login("ada")
        async with TCPPeer(desk_port) as desk:
            events = laptop.events(Hidden, consumer=None)
            await desk.block(dan)
            async with within(WAIT, "the block at the laptop"):
                hidden = await anext(events)
            assert (hidden.user.id, hidden.blocked) == (dan, True) and laptop.blocked() == [hidden.user]
        await laptop.unignore(cyd)
        await laptop.set_receipts(None, dan)
        await laptop.choose("mybot:theme", "")
        for key, text in (("k" * 114, "1"), ("mybot:theme", "t" * 257), ("a\0b", "1")):
            with pytest.raises(ValueError, match="a key has at most 113 bytes"):
                await laptop.choose(key, text)
    async with TCPPeer(desk_port) as desk:
        assert desk.ignored() != []
        login("the laptop")
        async with TCPPeer(lap_port) as laptop:
            await until(lambda: desk.ignored() == [] and desk.receipt_exceptions() == {}, "what the laptop chose alone")
            await until(lambda: desk.choices("mybot") == {}, "the last choice of the laptop")
            assert (
                [one.name for one in desk.conversations()] == [one.name for one in laptop.conversations()] == ["room"]
            )


async def test_a_person_has_one_name_whichever_machine_it_was_changed_at(login: Login) -> None:
    """The other machine takes it, also one that was off, and keeps it; who names a machine at its start is heard."""
    desk_port, lap_port = map(int, free_ports(2))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as ada:
        await ada.broadcast("hello")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    login("ada")
    async with TCPPeer(desk_port) as desk:
        await desk.rename("lovelace", "a countess")
        login("the laptop")
        async with TCPPeer(lap_port) as laptop:
            await until(
                lambda: (laptop.me.name, laptop.me.about) == ("lovelace", "a countess"), "the name on the laptop"
            )
            assert (desk.me.name, desk.me.about) == ("lovelace", "a countess")
            await laptop.rename("countess")
            await until(lambda: desk.me.name == "countess", "the name at the desk")
    async with TCPPeer(lap_port) as laptop:
        assert (laptop.me.name, laptop.me.about) == ("countess", "a countess")
    login("ada")
    async with TCPPeer(desk_port, name="king") as desk:
        assert desk.me.name == "king"
        login("the laptop")
        async with TCPPeer(lap_port) as laptop:
            await until(lambda: laptop.me.name == desk.me.name == "king", "what it was started with")
            await laptop.rename("queen")
            await until(lambda: desk.me.name == "queen", "the name at the desk")
    login("ada")
    async with TCPPeer(desk_port, name="king") as desk:
        assert desk.me.name == "queen"  # a service names its machine at each start
    async with TCPPeer(desk_port, name="jack") as desk:
        assert desk.me.name == "jack"


@pytest.mark.parametrize("role", ["founder", "admin", "member"])
async def test_a_lost_machine_is_shut_out_and_its_person_goes_on(login: Login, role: str) -> None:
    """Everybody reads it, nobody links with it any more, and it gets nothing, also after a start, and with the key of
    the person as its own; whatever the person is in the network, and also when that changes later.
    """
    fay_port, desk_port, lap_port, bob_port = map(int, free_ports(4))
    async with AsyncExitStack() as before:
        invite = None
        if role != "founder":
            login("fay")
            fay = await before.enter_async_context(TCPPeer(fay_port, name="fay"))
            invite = await fay.make_invite(uses=2)
        login("ada")
        ada = await before.enter_async_context(TCPPeer(desk_port, name="ada", invite=invite))
        if role == "admin":
            await fay.people.make_admin(await fay.wait_user("ada", timeout=WAIT))
            await until(lambda: ada.people.own_role == "admin", "the role")
        login("bob")
        bob = TCPPeer(bob_port, name="bob", invite=invite or await ada.make_invite())
        await before.enter_async_context(bob)
        await bob.wait_user("ada", timeout=WAIT)
    login("ada")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    lost = await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    login("bob")
    async with TCPPeer(bob_port) as bob:
        login("ada")
        async with TCPPeer(desk_port) as desk:
            assert desk.people.own_role == role
            login("the laptop")
            async with TCPPeer(lap_port) as laptop:
                await until(lambda: all(len(one.links()) == 2 for one in (bob, desk, laptop)), "all links")
                await until(lambda: len(desk.devices()) == 2, "the laptop in the list of the desk")
                events = bob.events(MemberChange, consumer=None)
                with pytest.raises(P2PChatError, match="the key of this member is on another machine"):
                    await laptop.people.revoke_device(desk.devices()[0].peer_id)
                for wrong in ("", "nobody"):
                    with pytest.raises(UnknownName, match="no machine of yours is known as"):
                        await desk.people.revoke_device(wrong)
                with pytest.raises(ValueError, match="that is this machine"):
                    await desk.people.revoke_device(desk.devices()[0].peer_id)
                with pytest.raises(ValueError, match="is no machine of yours"):
                    await desk.people.revoke_device(bob.me.id)
                assert (await desk.people.revoke_device(lost.peer_id[:6].lower())).peer_id == lost.peer_id
                async with within(WAIT, "what bob reads"):
                    told = await anext(events)
                assert (told.change, told.user.id, told.by.name) == ("revoked", lost.peer_id, "ada")
                await until(lambda: laptop.links() == [] and len(bob.links()) == 1, "the end of its links")
                await until(lambda: laptop.people.own_role == "expelled", "what it learns")
                await (await bob.send("ada", "to ada alone")).delivered(timeout=WAIT)
            if role == "admin":
                login("fay")
                async with TCPPeer(fay_port, desk.endpoint) as fay:
                    await fay.people.make_admin(await fay.wait_user("ada", timeout=WAIT), on=False)
                    await until(lambda: desk.people.own_role == "member", "the role that is gone")
            login("the laptop")
            lap = profile_directory(lap_port)
            for with_the_key_of_the_person in (False, True):
                if with_the_key_of_the_person:
                    (lap / USER_KEY_NAME).replace(lap / KEY_NAME)
                async with TCPPeer(lap_port) as laptop:
                    assert (laptop.listening.peer_id == desk.me.id) == with_the_key_of_the_person
                    for one in (bob, desk):
                        assert not await laptop.connect(one.endpoint, timeout=WAIT)
                    found = [post.text for one in laptop.conversations() for post in await laptop.history(one)]
                    assert found == [] and laptop.links() == []
            assert len(desk.devices()) == 1 and [host.id for host in (await bob.whois("ada")).hosts] == [
                desk.listening.peer_id
            ]
            await (await desk.send("bob", "it was stolen")).delivered(timeout=WAIT)
            assert desk.me.name == "ada" and not bob.user("ada").expelled


async def test_who_comes_with_the_key_of_a_person_as_its_own_is_seen_and_shut_out(login: Login) -> None:
    """A thief starts the laptop with the person's key as the key of the machine, and names it like the desk."""
    desk_port, lap_port, bob_port = map(int, free_ports(3))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as ada:
        invite = await ada.make_invite()
        login("bob")
        async with TCPPeer(bob_port, name="bob", invite=invite) as bob:
            await bob.wait_user("ada", timeout=WAIT)
    login("ada")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    lap = profile_directory(lap_port)
    (lap / USER_KEY_NAME).replace(lap / KEY_NAME)
    login("bob")
    async with TCPPeer(bob_port) as bob:
        login("ada")
        async with TCPPeer(desk_port) as desk:
            login("the laptop")
            async with TCPPeer(lap_port) as thief:
                assert thief.listening.peer_id == desk.me.id
                await until(lambda: all(len(one.links()) == 2 for one in (bob, desk, thief)), "all links")
                own, *others = desk.devices()
                assert [(one.peer_id, one.linked) for one in others] == [(desk.me.id, True)]
                await thief.people.rename_device(desk.me.id, gethostname())
                await until(lambda: desk.devices()[1].name == own.name, "the name that it gives itself")
                with pytest.raises(AmbiguousName):
                    await desk.people.revoke_device(own.name)
                assert (await desk.people.revoke_device(desk.me.id)).peer_id == desk.me.id
                await until(lambda: thief.links() == [] and len(bob.links()) == 1, "the end of its links")
                await (await bob.send("ada", "to ada alone")).delivered(timeout=WAIT)
                assert [post.text for one in thief.conversations() for post in await thief.history(one)] == []
            assert desk.devices() == [own] and not bob.user("ada").expelled and desk.people.own_role == "founder"


async def test_a_person_reads_who_answers_for_its_key_after_the_machine_was_shut_out(login: Login) -> None:
    """Bob answers for another key of the stolen machine. Ada reads that once, and who finds that machine by its id
    expels bob, and ada with him, since it wrote as his user.
    """
    fay_port, desk_port, lap_port, bob_port = map(int, free_ports(4))
    async with AsyncExitStack() as before:
        login("fay")
        fay = await before.enter_async_context(TCPPeer(fay_port, name="fay"))
        invite = await fay.make_invite(uses=2)
        for name, port in (("ada", desk_port), ("bob", bob_port)):
            login(name)
            peer = await before.enter_async_context(TCPPeer(port, name=name, invite=invite))
            await peer.wait_user("fay", timeout=WAIT)
    login("ada")
    adding = Adding(desk_port)
    code = await adding.code()
    login("the laptop")
    lost = await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    lap, another = profile_directory(lap_port), Identity.generate()
    write_private(lap / KEY_NAME, another.to_pem())
    keys = [another.peer_id, load_identity(lap / USER_KEY_NAME).peer_id]
    async with AsyncExitStack() as stack:
        login("bob")
        save_certificates(lap / GUEST_NAME, network_of(profile_directory(bob_port)), keys)
        bob = await stack.enter_async_context(TCPPeer(bob_port))
        login("ada")
        desk = await stack.enter_async_context(TCPPeer(desk_port, bob.endpoint))
        await desk.people.revoke_device(lost.peer_id)
        login("fay")
        fay = await stack.enter_async_context(TCPPeer(fay_port, bob.endpoint, desk.endpoint))
        events = desk.events(MemberChange, consumer=None)
        login("the laptop")
        thief = await stack.enter_async_context(TCPPeer(lap_port, fay.endpoint, desk.endpoint))
        await until(lambda: all(len(one.links()) == 3 for one in (fay, desk, thief)), "all links")
        await thief.broadcast("by the key of ada")
        await has(desk, "room", "by the key of ada")
        async with within(WAIT, "what ada reads"):
            told = await anext(events)
        assert (told.change, told.user.id, told.by.name) == ("shared", desk.me.id, "bob")
        assert fay.people.find(thief.listening.peer_id) == fay.people.find("bob")
        await fay.people.expel(thief.listening.peer_id)
        await until(lambda: bob.people.own_role == "expelled" and thief.links() == [], "the end of both")
        await until(lambda: fay.user("ada").expelled and desk.me.expelled, "what ada shares")


async def test_an_admin_who_helps_a_thief_does_not_have_the_founder_s_user_out(login: Login) -> None:
    """Bob, an admin, answers for the key of fay's user on her stolen laptop, and removes that user. When she expels
    him, she says nothing of that anew.
    """
    fay_port, lap_port, bob_port, cyd_port = map(int, free_ports(4))
    login("fay")
    async with AsyncExitStack() as before:
        fay = await before.enter_async_context(TCPPeer(fay_port, name="fay"))
        invite = await fay.make_invite(uses=2)
        for name, port in (("bob", bob_port), ("cyd", cyd_port)):
            login(name)
            peer = await before.enter_async_context(TCPPeer(port, name=name, invite=invite))
            await peer.wait_user("fay", timeout=WAIT)
        await fay.people.make_admin(await fay.wait_user("bob", timeout=WAIT))
    login("fay")
    adding = Adding(fay_port)
    code = await adding.code()
    login("the laptop")
    await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    lap, another = profile_directory(lap_port), Identity.generate()
    write_private(lap / KEY_NAME, another.to_pem())
    keys = [another.peer_id, load_identity(lap / USER_KEY_NAME).peer_id]
    login("bob")
    save_certificates(lap / GUEST_NAME, network_of(profile_directory(bob_port)), keys)
    async with TCPPeer(bob_port) as bob:
        login("cyd")
        async with TCPPeer(cyd_port, bob.endpoint) as cyd:
            login("fay")
            async with TCPPeer(fay_port, bob.endpoint, cyd.endpoint) as desk:
                login("the laptop")
                async with TCPPeer(lap_port, cyd.endpoint, desk.endpoint) as thief:
                    await until(lambda: all(len(one.links()) == 3 for one in (desk, cyd, thief)), "all links")
                    await thief.broadcast("by the key of fay")
                    for one in (desk, bob, cyd):
                        await has(one, "room", "by the key of fay")
                    await bob.people._say([("remove", {"who": [desk.me.key]})])
                    await desk.people.expel("bob")
                    await until(lambda: bob.people.own_role == "expelled" and thief.links() == [], "the end of both")
                await until(lambda: cyd.people.find("bob").role == "expelled", "what cyd hears")
                assert [one.user("fay").expelled for one in (desk, cyd)] == [False, False]
                assert desk.people.own_role == "founder"
                await (await desk.send("cyd", "it was stolen")).delivered(timeout=WAIT)


async def test_a_machine_on_the_computer_of_another_member_is_no_user_of_that_one(login: Login) -> None:
    """Pia uses quin's computer, and quin is expelled: nobody takes her for a user of his, nor her machine."""
    desk_port, quin_port, lap_port = map(int, free_ports(3))
    login("pia")
    async with TCPPeer(desk_port, name="pia") as pia:
        invite = await pia.make_invite()
        login("quin")
        async with TCPPeer(quin_port, name="quin", invite=invite) as quin:
            await quin.wait_user("pia", timeout=WAIT)
    login("pia")
    adding = Adding(desk_port)
    code = await adding.code()
    login("quin")
    await join_device(code, lap_port, on_words=lambda words: None)
    await adding.task
    async with TCPPeer(lap_port) as laptop, TCPPeer(quin_port) as quin:
        login("pia")
        async with TCPPeer(desk_port) as desk:
            await until(lambda: all(len(one.links()) == 2 for one in (desk, laptop, quin)), "all links")
            await laptop.broadcast("on his computer")
            await has(desk, "room", "on his computer")
            for peer in (desk, quin):
                listed = [(one.role, [user.name for user in one.users]) for one in peer.people.members()]
                assert listed == [("founder", ["pia"]), ("member", ["quin"])]
            await desk.people.expel("quin")
            await until(lambda: quin.people.own_role == "expelled", "what quin learns")
            assert desk.people.own_role == laptop.people.own_role == "founder" and len(desk.links()) == 1
            assert [one.linked for one in desk.devices()] == [False, True]


async def test_what_a_machine_that_was_away_brings_later_is_unread() -> None:
    """A person writes on two machines while they are apart: who read the later message has not read the earlier one."""
    async with mesh("desk", "lap", "bob") as net:
        desk, lap, bob = net.peers
        one = await desk.host("ada")
        two = await lap.host("ada", secret=one.secret)
        one.set_presence("online")
        await bob.wait_user("ada", timeout=WAIT)
        there, here = await one.wait_user("bob", timeout=WAIT), await two.wait_user("bob", timeout=WAIT)
        net.partition([lap], [desk, bob])
        await two.send(here, "from the train")
        await (await one.send(there, "from the desk")).delivered(timeout=WAIT)
        [read] = await bob.unread("ada")
        await bob.mark_read_durably(read)
        net.heal()
        await has(bob, "ada", "from the desk", "from the train")
        assert [post.text for post in await bob.unread("ada")] == ["from the train"]


async def test_who_sends_no_receipts_reads_on_all_machines(login: Login, home: Path) -> None:
    """What was read at the desk is read on the laptop, and nobody else hears of it."""
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada") as ada:
        await ada.set_receipts(False)
    adding = Adding(home / "desk")
    await join_device(await adding.code(), home / "lap", on_words=lambda words: None)
    await adding.task
    async with TCPPeer(data=home / "desk") as desk, TCPPeer(0, desk.endpoint, data=home / "lap") as laptop:
        async with TCPPeer(0, desk.endpoint, data=home / "bob", name="bob") as bob:
            await bob.wait_user("ada", timeout=WAIT)
            receipt = await bob.send("ada", "to both")
            for one in (desk, laptop):
                await one.wait_user("bob", timeout=WAIT)
                await has(one, "bob", "to both")
            await desk.mark_read_durably((await desk.unread("bob"))[0])
            async with within(WAIT, "read at the laptop, too"):
                while await laptop.unread("bob"):
                    await asyncio.sleep(0.02)  # poll: marks of another machine are no event
            assert not receipt.read_by


async def test_a_name_chosen_on_one_machine_is_that_of_all(login: Login, home: Path) -> None:
    """Also after a restart of another one, which does not take it back."""
    login("ada")
    async with TCPPeer(data=home / "desk", name="ada"):
        pass
    adding = Adding(home / "desk")
    await join_device(await adding.code(), home / "lap", on_words=lambda words: None)
    await adding.task
    async with TCPPeer(data=home / "desk") as desk:
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as laptop:
            await laptop.broadcast("as ada")
            await has(desk, "room", "as ada")
            await desk.rename("countess", about="of Lovelace")
            await until(lambda: laptop.me.name == "countess", "the name at the laptop")
        async with TCPPeer(0, desk.endpoint, data=home / "lap") as laptop:
            await laptop.broadcast("as before")
            await has(desk, "room", "as ada", "as before")
            assert {(one.me.name, one.me.about) for one in (desk, laptop)} == {("countess", "of Lovelace")}


# ---- what the founder, an admin, a plain member, a machine without its member's key, and an account may do

ELSEWHERE, ASK = "the key of this member is", "founder"


@dataclass
class Role:
    """Somebody who acts, on dan, a plain member; and fay, the founder."""

    name: str
    peer: TCPPeer
    fay: TCPPeer


Act = Callable[[TCPPeer, Role], Awaitable[object]]


async def _expel(peer: TCPPeer, role: Role) -> None:
    await peer.people.expel("dan")
    await until(lambda: role.fay.people.find("dan").role == "expelled", "what the founder knows")
    await role.fay.people.pardon("dan")
    await until(lambda: peer.people.find("dan").role == "member", "the pardon")


async def _pardon(peer: TCPPeer, role: Role) -> None:
    await role.fay.people.expel("dan")
    await until(lambda: peer.people.find("dan").role == "expelled", "what everybody knows")
    try:
        await peer.people.pardon("dan")
    finally:
        if role.peer is not role.fay:
            await role.fay.people.pardon("dan")
        await until(lambda: peer.people.find("dan").role == "member", "the pardon")


async def _add_device(peer: TCPPeer, role: Role) -> None:
    assert peer.data is not None
    await add_device(
        peer.data, on_code=lambda code: None, is_wanted=lambda words: pytest.fail(words), host=LOOPBACK, seconds=0.01
    )


async def _revoke_invite(peer: TCPPeer, role: Role) -> None:
    made = [one.id for one in peer.people.invites()]
    await peer.people.revoke([*made, "00000000"][0])


async def _kick(peer: TCPPeer, role: Role) -> None:
    group = await peer.create_group(role.name, ["dan"])
    await group.remove("dan")


ACTS: dict[str, tuple[Act, dict[str, str]]] = {  # and who may not, with a part of why
    "add_device": (  # here all have the same login: test_a_machine_without_the_members_key_adds_none
        _add_device,
        {"founder": "is in use", "member": "is in use", "admin": "no machine came", "machine": "no machine came"},
    ),
    "devices": (lambda peer, role: asyncio.sleep(0, peer.devices()), {}),
    "rename_device": (lambda peer, role: peer.people.rename_device(peer.listening.peer_id, role.name), {}),
    "revoke_device": (
        lambda peer, role: peer.people.revoke_device(base32(Identity.generate().peer_id)),
        {"machine": ELSEWHERE},
    ),
    "revoke_device of others": (
        lambda peer, role: peer.people.revoke_device(peer.user("dan").id),
        dict.fromkeys(("founder", "admin", "member", "machine"), "is no machine of yours"),
    ),
    "make_invite": (lambda peer, role: peer.make_invite(), {"member": ASK, "machine": "key"}),
    "revoke an invite": (_revoke_invite, dict.fromkeys(("member", "machine"), "has made no invite")),
    "expel_invited": (
        lambda peer, role: peer.people.expel_invited("00000000"),
        {"member": ASK, "machine": ELSEWHERE},
    ),
    "kick": (_kick, {}),
    "expel": (_expel, {"member": ASK, "machine": ELSEWHERE}),
    "pardon": (_pardon, {"admin": ASK, "member": ASK, "machine": ELSEWHERE}),
    "expel the founder": (
        lambda peer, role: peer.people.expel("fay"),
        {"founder": "nobody expels itself", "admin": "cannot be expelled", "member": ASK, "machine": ELSEWHERE},
    ),
    "make_admin on=False": (
        lambda peer, role: peer.people.make_admin("bob", on=False),
        {"founder": "is no admin", "admin": ASK, "member": ASK, "machine": ELSEWHERE},
    ),
    "make_admin": (
        lambda peer, role: peer.people.make_admin("bob"),
        {"admin": ASK, "member": ASK, "machine": ELSEWHERE},
    ),
}


async def test_each_act_about_members_and_machines_is_done_or_refused_in_a_clear_sentence(login: Login) -> None:
    ports = dict(zip(("fay", "ada", "bob", "dan", "lap"), map(int, free_ports(5)), strict=True))
    async with AsyncExitStack() as stack:
        login("fay")
        fay = await stack.enter_async_context(TCPPeer(ports["fay"], name="fay"))
        invite, peers = await fay.make_invite(uses=3), {"founder": fay}
        for name in ("bob", "dan"):
            login(name)
            peers[name] = await stack.enter_async_context(TCPPeer(ports[name], name=name, invite=invite))
            await peers[name].wait_user("fay", timeout=WAIT)
        login("ada")
        async with TCPPeer(ports["ada"], name="ada", invite=invite) as ada:
            await fay.people.make_admin(await fay.wait_user("ada", timeout=WAIT))
            await until(lambda: ada.people.own_role == "admin", "the role")
        adding = Adding(ports["ada"])
        code = await adding.code()
        login("the laptop")
        await join_device(code, ports["lap"], on_words=lambda words: None)
        await adding.task
        peers["machine"] = await stack.enter_async_context(TCPPeer(ports["lap"], fay.endpoint))
        login("ada")
        peers["admin"] = await stack.enter_async_context(TCPPeer(ports["ada"], fay.endpoint))
        peers["member"] = peers.pop("bob")
        for peer in peers.values():
            await until(lambda peer=peer: len(peer.links()) == 4, f"all links of {peer}")  # type: ignore[misc]
            await peer.wait_user("dan", timeout=WAIT)
        found = dict[tuple[str, str], str]()
        roles = [Role(name, peers[name], fay) for name in ("machine", "member", "admin", "founder")]
        for what, (act, _) in ACTS.items():
            for role in roles:
                try:
                    await act(role.peer, role)
                    found[what, role.name] = ""
                except (ValueError, P2PChatError) as error:
                    found[what, role.name] = str(error)
        wrong = {
            (what, role): why for (what, role), why in found.items()
            if (wanted := ACTS[what][1].get(role, "")) not in why or bool(wanted) != bool(why)
        }  # fmt: skip
        assert wrong == {}
        account = await fay.host("zoe")
        group = await account.create_group("of zoe", ["dan"])
        await group.remove("dan")
        assert not any(hasattr(account, name) for name in ("people", "devices", "make_invite"))


async def test_what_came_before_a_machine_joined_is_not_late_there(
    login: Login, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_ns, hour = time.time_ns, 3_600_000_000_000
    ago = 3 * hour
    monkeypatch.setattr(time, "time_ns", lambda: time_ns() - ago)
    login("ada")
    bob_at = home / "bob"
    async with (
        TCPPeer(0, name="ada", data=home / "desk") as desk,
        TCPPeer(0, desk.port, name="bob", data=bob_at) as bob,
    ):
        await bob.wait_user("ada", timeout=WAIT)
        await (await bob.send("ada", "are you there?")).delivered(timeout=WAIT)
    ago = 0
    adding = Adding(home / "desk")
    await join_device(await adding.code(), home / "lap", on_words=lambda words: None)
    await adding.task
    async with (
        TCPPeer(0, data=bob_at) as bob,
        TCPPeer(0, bob.port, data=home / "desk") as desk,
        TCPPeer(0, desk.port, data=home / "lap") as laptop,
    ):
        await laptop.wait_user("bob", timeout=WAIT)
        await has(laptop, "bob", "are you there?")
        [message] = await laptop.find("bob").history()
        assert isinstance(message, Message)
        assert message.came is None and message.received_at - message.sent_at > timedelta(hours=2)
    async with open_history(home / "lap") as history:
        [message] = [one for one in await history.history() if one.text == "are you there?"]
        assert isinstance(message, Message) and message.came is None
