"""Members: joining by invites and being expelled, between processes of several logins, each with a home of its own."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import parse_invite
from p2pchat import protocol as wire
from p2pchat.core.members.admission import prove_invite
from p2pchat.core.mesh.handshake import proof, transcript
from p2pchat.testing.process_mesh import Child, ChildFailed, Line
from tests.deadlines import POLL_EVERY, WAIT, within
from tests.hostile.attacker import Attacker
from tests.ports import free_ports
from tests.processes.commands import one_loop
from tests.processes.logins import Login, met, says
from tests.processes.peers import KILLED

pytestmark = one_loop
OF_A_MAKER = ("before-admission", "after-admission", "before-admit")  # failpoints
OF_A_NEWCOMER = ("before-show",)


# ---- invites


async def test_an_invite_admits_one_login_and_a_second_reads_why(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada)
    bob = await second.peer("bob", invite=invite)
    await met(ada, bob)
    code, text = await third.refused("eve", "--invite", invite)
    assert (code, text) == ("used", "this invite was used up: ask for a new one")
    again = await second.peer("again", invite=invite)  # another profile of a login that is a member
    await met(ada, again)
    assert await bob.leave() == 0
    bob = await second.peer("bob", invite=invite)  # a service starts with the same line each time
    await met(ada, bob)
    assert await first.members("ada") == {"ada": "founder", "again bob": "member"}
    [row] = await first.invites("ada")
    assert (row["uses"], len(row["used_by"])) == (1, 1)


async def test_a_new_profile_of_a_member_finds_the_others_by_itself(logins: list[Login]) -> None:
    first, second, _ = logins
    ada = await first.peer("ada")
    cyd = await second.peer("cyd", invite=await first.invite(ada))
    await met(ada, cyd)
    assert await cyd.leave() == 0
    other = await second.peer("other")  # without an endpoint or an invite: cyd knew both
    await met(ada, other)
    async with within(WAIT, "what cyd wrote, which names it"):
        while "cyd other" not in (members := await second.members("other")):
            await asyncio.sleep(POLL_EVERY)
    assert members["cyd other"] == "member"


async def test_a_peer_of_version_2_is_refused_before_its_invite_is_spent(logins: list[Login]) -> None:
    """Its wire has another form: it would lose statements in silence."""
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada)
    parsed = parse_invite(invite)
    eve = Attacker("eve", parsed.network)
    server = await eve.connect(ada.listening["port"])
    offer = await eve.next(wire.Hello)
    t = transcript(2, server, eve.id, offer.nonce, "ab" * 32)
    eve.say(wire.Hello(2, "ab" * 32, eve.id, eve.identity.sign(t).hex(), proof(parsed.network.key, "client", t)))
    joining = prove_invite(parsed.invitation, t, eve.id)
    eve.say(wire.Show(wire.Membership(invite=joining)))
    assert (offer.v, await eve.wait_closed()) == ([4], "version")
    await met(ada, await second.peer("bob", invite=invite))
    [row] = await first.invites("ada")
    assert (row["uses"], row["used_by"]) == (1, ["bob"])
    assert (await third.refused("cyd", "--invite", invite))[0] == "used"


async def test_a_service_of_a_member_starts_when_its_invite_is_gone(logins: list[Login], tmp_path: Path) -> None:
    first, second, third = logins
    ada, file = await first.peer("ada"), tmp_path / "invite"
    file.write_text(await first.invite(ada))
    bob = await second.peer("bob", invite=str(file))
    await met(ada, bob)
    for damage in (file.unlink, lambda: file.write_text(""), lambda: file.write_bytes(b"p2pchat:AAAA\xff")):
        assert await bob.leave() == 0
        damage()
        bob = await second.peer("bob", invite=str(file))
        await met(ada, bob)
        await says(bob, "; this login is a member already, and starts without it")
        data = str(third.home / "eve")
        code, _, err = await third.talk("0", "--invite", str(file), "--data", data, stdin=b"hello\n")
        assert code in (1, 2) and b"listens" not in err  # who needs it is told


@pytest.mark.parametrize("words", [("web", "0", "--port", "0"), ("0",)])
async def test_a_gateway_and_a_pipe_read_why_an_invite_admits_nobody(
    logins: list[Login], tmp_path: Path, words: tuple[str, ...]
) -> None:
    first, _, third = logins
    ada = await first.peer("ada")
    (tmp_path / "invite").write_text(await first.invite(ada))
    [row] = await first.invites("ada")
    await first.decide("ada", "invite", "--revoke", row["invite"])
    data = str(third.home / "eve")
    code, _, err = await third.talk(*words, "--invite", str(tmp_path / "invite"), "--data", data, stdin=b"hello\n")
    lines = [line for line in err.decode().splitlines() if line.startswith("p2pchat: ")]
    assert (code, lines) == (1, ["p2pchat: this invite admits nobody any more: ask for a new one"])


async def test_several_join_by_one_invite_and_one_too_many_does_not(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "2")
    await met(ada, await second.peer("bob", invite=invite), await third.peer("cyd", invite=invite))
    fourth = Login(first.home.parent / "fourth", first.logs, first.fork_server)
    logins.append(fourth)
    assert (await fourth.refused("eve", "--invite", invite))[0] == "used"
    [row] = await first.invites("ada")
    assert sorted(row["used_by"]) == ["bob", "cyd"]


async def test_an_invite_says_that_a_removal_has_closed_it(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "3")
    await met(ada, await second.peer("bob", invite=invite))
    await first.decide("ada", "expel", "bob", "--yes")
    assert [row["expelled"] for row in await first.invites("ada")] == [["bob"]]
    assert await listed(first, id_of(invite)) == "closed: bob was expelled; bob came by it"
    assert await third.refused("eve", "--invite", invite) == (
        "revoked", "this invite admits nobody any more: ask for a new one",
    )  # fmt: skip
    await first.decide("ada", "pardon", "bob")
    assert (await listed(first, id_of(invite))).startswith("admits 2 people until ")
    await met(ada, await third.peer("eve", invite=invite))


async def listed(login: Login, invite: str) -> str:
    """Return what the list says of the only invite of ada's peer."""
    code, out, err = await login.talk("invite", "--list", "--data", str(login.home / "ada"))
    assert code == 0, err.decode()
    return out.decode().removeprefix(f"{invite}: ").rstrip()


async def test_an_invite_ends_and_can_be_taken_back(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    late, seconds, end = "", 0, datetime.now().astimezone()
    while not late:  # one that has ended before it is made is refused, as on a busy machine
        seconds += 1
        end = datetime.now().astimezone() + timedelta(seconds=seconds)
        with suppress(AssertionError):
            late = await first.invite(ada, "--until", end.isoformat())
    revoked = await first.invite(ada)
    await first.decide("ada", "invite", "--revoke", id_of(revoked))
    assert await third.refused("eve", "--invite", revoked) == (
        "revoked", "this invite admits nobody any more: ask for a new one",
    )  # fmt: skip
    while datetime.now().astimezone() < end + timedelta(seconds=1):  # an invite ends with a whole second
        await asyncio.sleep(0.1)
    assert await second.refused("bob", "--invite", late) == ("late", "this invite has ended: ask for a new one")
    bob = await second.peer("bob", invite=await first.invite(ada))  # a new one makes up for it, in the same directory
    await met(ada, bob)


def id_of(invite: str) -> str:
    return parse_invite(invite).invitation.id


async def test_an_invite_that_a_stopped_founder_made_admits_and_is_listed(logins: list[Login]) -> None:
    first, second, _ = logins
    [port] = free_ports(1)
    ada = await first.peer("ada", port=int(port))
    assert await ada.leave() == 0
    [row] = await first.rows("invite", "--data", str(first.home / "ada"), "--advertise", f"127.0.0.1:{port}")
    assert [one["invite"] for one in await first.invites("ada")] == [row["id"]]
    bob = await second.peer("bob", invite=row["invite"])
    await says(bob, f"waiting for the peer at 127.0.0.1:{port}, which admits with this invite")
    ada = await first.peer("ada", port=int(port))
    await met(ada, bob)


async def test_who_is_not_the_maker_admits_nobody_and_the_newcomer_waits(logins: list[Login]) -> None:
    first, second, third = logins
    [port] = free_ports(1)
    ada = await first.peer("ada", port=int(port))
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    invite = await first.invite(ada)
    code, _, err = await second.talk("invite", "--data", str(second.home / "bob"))
    assert code == 2 and b"only the founder of this network and its admins invite: ask ada" in err
    await first.kill(ada)
    eve = await third.peer("eve", bob.endpoint, invite=invite)
    await says(eve, f"{bob.endpoint} is not the peer that admits with this invite; waiting for the peer at")
    await says(eve, f"waiting for the peer at 127.0.0.1:{port}, which admits with this invite")
    assert eve.count("joined") == 0 and eve.is_running
    ada = await first.peer("ada", port=int(port))
    await met(ada, eve)
    await met(bob, eve)


# ---- kill -9 while somebody joins


@pytest.mark.parametrize("point", OF_A_MAKER)
async def test_a_maker_that_is_killed_admits_afterwards_and_counts_once(logins: list[Login], point: str) -> None:
    first, second, third = logins
    [port] = free_ports(1)
    ada = await first.peer("ada", port=int(port), points=[f"{point}:1"])
    invite = await first.invite(ada)
    bob = await second.peer("bob", invite=invite)
    assert await ada.ended(WAIT) == KILLED
    assert bob.is_running
    ada = await first.peer("ada", port=int(port))
    await met(ada, bob)
    [row] = await first.invites("ada")
    assert row["used_by"] == ["bob"]
    assert (await third.refused("eve", "--invite", invite))[0] == "used"


@pytest.mark.parametrize("point", [*OF_A_NEWCOMER, "before-go", "after-address-book", "mid-record:3"])
async def test_a_newcomer_that_is_killed_joins_at_the_next_start(logins: list[Login], point: str) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada)
    try:
        bob = await second.peer("bob", invite=invite, points=[point if ":" in point else f"{point}:1"])
        async with asyncio.timeout(WAIT):
            while bob.is_running and not bob.count("joined", user="ada"):
                await asyncio.sleep(0.05)
    except ChildFailed:
        pass  # it was killed before it listened
    await second.kill(second.children[-1])
    bob = await second.peer("bob", invite=invite)
    await met(ada, bob)
    [row] = await first.invites("ada")
    assert row["used_by"] == ["bob"]
    assert (await third.refused("eve", "--invite", invite))[0] == "used"


async def test_a_newcomer_that_is_killed_while_it_writes_its_files_joins_at_the_next_start(
    logins: list[Login],
) -> None:
    first, second, _ = logins
    ada = await first.peer("ada")
    for k in range(1, 14):
        invite = await first.invite(ada)
        home = Login(second.home / str(k), second.logs, second.fork_server)
        logins.append(home)
        name = f"bob{k}"
        child = home.child(name, "--invite", invite, points=[f"file:{k}"], log=False)
        try:
            await child.start(WAIT)
        except ChildFailed:
            assert await child.ended(WAIT) == KILLED, child.complaints
        await home.kill(child)
        bob = await home.peer(name, invite=invite)
        await ada.event("joined", WAIT, user=name)
        [row, *_] = [row for row in await first.invites("ada") if row["used_by"] == [name]]
        assert row["uses"] == 1
        await home.kill(bob)


# ---- expelled


async def test_who_is_expelled_does_not_come_back(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite, other = await first.invite(ada, "--uses", "9"), await first.invite(ada, "--uses", "9")
    bob = await second.peer("bob", invite=invite)
    cyd = await third.peer("cyd", invite=invite)
    await met(ada, bob, cyd)
    await bob.send("before")
    await ada.event("message", WAIT, text="before")
    code, _, err = await second.talk("backup", str(second.home.parent / "copy"), "--data", str(second.home / "bob"))
    assert code == 0, err

    code, _, err = await first.talk("expel", "bob", "--data", str(first.home / "ada"))
    assert code == 2 and b"add --yes" in err
    code, _, err = await third.talk("expel", "bob", "--yes", "--data", str(third.home / "cyd"))
    assert code == 1 and b"only the founder of this network and its admins can do that: ask ada" in err
    code, _, err = await first.talk("expel", "bob", "--yes", "--data", str(first.home / "ada"))
    assert code == 0 and b"What they wrote stays" in err
    for child in (ada, cyd):
        await child.event("member", WAIT, user="bob", by="ada", change="expelled")
        await child.event("left", WAIT, user="bob", reason="expelled")
    await bob.event("member", WAIT, user="bob", by="ada", change="expelled")
    await says(bob, "nothing is sent or taken any more; this peer asks again every hour")
    assert bob.is_running
    await ada.send("behind your back")
    await cyd.event("message", WAIT, text="behind your back")

    assert await bob.leave() in (0, 3)
    for words in ((), ("--invite", invite), ("--invite", other)):
        bob = await second.peer("bob", ada.endpoint, *words)
        await says(bob, "expelled this peer from its network: nothing is sent or taken; it asks again every hour")
        await bob.event("link", WAIT, state="refused", code="member", endpoint=ada.endpoint)
        assert bob.is_running
        await second.kill(bob)
    another = await second.peer("another", ada.endpoint, cyd.endpoint, invite=other)
    for endpoint in (ada.endpoint, cyd.endpoint):
        await another.event("link", WAIT, state="refused", code="member", endpoint=endpoint)
    await says(another, "again every hour")
    assert another.is_running

    elsewhere = Login(first.home.parent / "elsewhere", first.logs, first.fork_server)
    logins.append(elsewhere)
    shutil.copytree(first.home.parent / "copy", elsewhere.home / "bob")
    copy = await elsewhere.peer("bob", ada.endpoint)  # from before: it learns at its first link that it is out
    await copy.event("link", WAIT, state="refused", code="member", endpoint=ada.endpoint)
    await copy.event("member", WAIT, change="expelled", by="ada")
    for child in (another, copy):
        assert child.count("joined") == child.count("message", text="behind your back") == 0

    assert [row["role"] for row in await first.rows("members", "--data", str(first.home / "ada"))] == [
        "founder", "member", "expelled",
    ]  # fmt: skip
    await first.decide("ada", "pardon", "bob")
    bob = await second.peer("bob", ada.endpoint)
    await bob.event("message", WAIT, text="behind your back")


async def test_who_is_away_is_expelled_after_a_restart_too(logins: list[Login]) -> None:
    first, second, _ = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await bob.send("before")
    await ada.event("message", WAIT, text="before")
    await second.kill(bob)
    await first.kill(ada)
    await first.peer("ada")
    assert await first.members("ada") == {"ada": "founder", "bob": "member"}
    await first.decide("ada", "expel", "bob", "--yes")


async def test_who_is_expelled_is_refused_by_who_learned_it_from_a_file_alone(
    logins: list[Login], tmp_path: Path
) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite, file = await first.invite(ada, "--uses", "2"), str(tmp_path / "exported")
    bob, cyd = await second.peer("bob", invite=invite), await third.peer("cyd", invite=invite)
    await bob.send("before")
    for child in (ada, cyd):
        await child.event("message", WAIT, text="before")
    await third.kill(cyd)
    await first.decide("ada", "expel", "bob", "--yes")
    await bob.event("member", WAIT, user="bob", change="expelled")
    code, _, err = await first.talk("export", file, "--data", str(first.home / "ada"))
    assert code == 0, err
    await first.kill(ada)
    [row] = await third.rows("import", file, "--data", str(third.home / "cyd"))
    assert row["unreadable"] == 0 and row["problem"] == ""
    cyd = await third.peer("cyd")
    assert (await third.members("cyd"))["bob"] == "expelled"
    await second.kill(bob)
    bob = await second.peer("bob", cyd.endpoint)
    await bob.event("link", WAIT, state="refused", code="member", endpoint=cyd.endpoint)
    assert cyd.count("joined") == 0


async def test_a_restored_copy_of_a_member_is_a_guest_as_before(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    copy = second.home.parent / "copy"
    code, _, err = await second.talk("backup", str(copy), "--data", str(second.home / "bob"))
    assert code == 0, err
    assert {path.name for path in copy.iterdir()} >= {"network", "guest"}
    assert not {path.name for path in copy.iterdir()} & {"member", "founder"}
    await second.kill(bob)
    shutil.copytree(copy, third.home / "bob")
    bob = await third.peer("bob", ada.endpoint)
    await bob.event("joined", WAIT, user="ada")
    [row] = await third.rows("network", "--data", str(third.home / "bob"))
    assert row["role"] in ("guest", "member")


async def test_an_invite_that_was_revoked_stays_so_when_its_maker_is_restored(logins: list[Login]) -> None:
    first, second, third = logins
    port = int(free_ports(1)[0])
    ada = await first.peer("ada", port=port)
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    invite = await first.invite(ada, "--uses", "3")
    assert await ada.leave() == 0
    shutil.copytree(first.home / "ada", first.home / "copy")
    ada = await first.peer("ada", port=port)
    await ada.event("joined", WAIT, user="bob")
    await first.decide("ada", "invite", "--revoke", id_of(invite))
    await _knows(second, "bob", 2)
    assert await ada.leave() == 0
    shutil.rmtree(first.home / "ada")
    (first.home / "copy").rename(first.home / "ada")
    ada = await first.peer("ada", port=port)
    await ada.event("joined", WAIT, user="bob")
    await _knows(first, "ada", 2)
    assert (await third.refused("eve", "--invite", invite))[0] == "revoked"


async def _knows(login: Login, name: str, statements: int) -> None:
    """Wait until the database of a peer has so many statements."""
    deadline = time.monotonic() + WAIT
    while True:
        with closing(sqlite3.connect(f"file:{login.home / name / 'history.db'}?mode=ro", uri=True)) as database:
            if database.execute("select count(*) from statements").fetchone() == (statements,):
                return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)  # poll: another process writes it


async def test_a_spare_of_an_expelled_admin_is_listed_as_its_guest_or_goes_with_it(logins: list[Login]) -> None:
    """The admin admits a second login of its own before it is expelled."""
    first, second, third = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    await first.decide("ada", "admin", "bob")
    await bob.event("member", WAIT, change="admin")
    spare = await third.peer("spare", invite=await second.invite(bob))
    await met(ada, spare)
    code, _, err = await first.talk("expel", "bob", "--data", str(first.home / "ada"), "--yes")
    assert code == 0 and b"bob admitted 1, last spare: they stay, unless --with-admitted" in err
    rows = {row["user"]: row for row in await first.rows("members", "--data", str(first.home / "ada"))}
    assert (rows["spare"]["role"], rows["spare"]["by"]) == ("member", "bob")
    await first.decide("ada", "pardon", "bob")
    await first.decide("ada", "expel", "spare", "--yes")
    await spare.event("member", WAIT, user="spare", change="expelled")
    assert await first.members("ada") == {"ada": "founder", "bob": "member", "spare": "expelled"}


async def test_everybody_who_came_by_an_invite_is_expelled_at_once(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "2")
    bob, cyd = await second.peer("bob", invite=invite), await third.peer("cyd", invite=invite)
    await met(ada, bob, cyd)
    await first.decide("ada", "expel", "--invite", id_of(invite), "--yes")
    for child in (bob, cyd):
        await child.event("member", WAIT, user=child.name, change="expelled")
    assert await first.members("ada") == {"ada": "founder", "bob": "expelled", "cyd": "expelled"}


async def test_an_admin_invites_and_expels_until_it_is_none_any_more(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    await first.decide("ada", "admin", "bob")
    await bob.event("member", WAIT, user="bob", change="admin")
    cyd = await third.peer("cyd", ada.endpoint, invite=await second.invite(bob))
    await met(bob, cyd)
    await met(ada, cyd)
    await cyd.send("I am cyd")
    for one in (ada, bob):
        await one.event("message", text="I am cyd")
    assert await first.members("ada") == {"ada": "founder", "bob": "admin", "cyd": "member"}
    code, _, err = await second.talk("expel", "ada", "--yes", "--data", str(second.home / "bob"))
    assert code == 1 and b"the founder of a network cannot be expelled from it" in err
    await second.decide("bob", "expel", "cyd", "--yes")
    await ada.event("member", WAIT, user="cyd", by="bob", change="expelled")
    code, _, err = await first.talk("unadmin", "bob", "--data", str(first.home / "ada"))
    assert code == 2 and b"can never be an admin again" in err and b"add --yes" in err
    await first.decide("ada", "unadmin", "bob", "--yes")
    await bob.event("member", WAIT, user="bob", change="unadmin")
    code, _, err = await second.talk("pardon", "cyd", "--data", str(second.home / "bob"))
    assert code == 1 and b"only the founder" in err
    assert await first.members("ada") == {"ada": "founder", "bob": "member", "cyd": "expelled"}


# ---- the key of a login


async def test_the_founders_key_comes_back_from_its_copy(logins: list[Login], tmp_path: Path) -> None:
    first, second, third = logins
    code, _, err = await first.talk("network", "backup", str(tmp_path / "key"))
    assert code == 1 and b"there is no network yet" in err
    ada = await first.peer("ada")
    [row] = await first.rows("network")
    assert (row["role"], row["backed_up"], row["kind"]) == ("founder", False, "keyed")
    code, _, err = await first.talk("network", "backup", str(tmp_path / "key"))
    assert code == 0, err
    assert not (tmp_path / "key").stat().st_mode & 0o077
    assert (await first.rows("network"))[0]["backed_up"]
    code, _, err = await first.talk("network", "backup", str(tmp_path / "key"))
    assert code == 1 and b"exists: name another file" in err
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    code, _, err = await second.talk("network", "restore", str(tmp_path / "key"))
    assert code == 1 and b"this login has another key for this network, which stays" in err

    code, _, err = await third.talk("network", "restore", str(tmp_path / "key"))
    assert code == 0, err
    anew = await third.peer("anew", bob.endpoint)
    await anew.event("joined", WAIT, user="bob")
    await third.decide("anew", "admin", "bob")
    await bob.event("member", WAIT, user="bob", change="admin")
    other = Login(first.home.parent / "other", first.logs, first.fork_server)
    logins.append(other)
    assert await (await other.peer("zoe")).leave() == 0
    code, _, err = await other.talk("network", "restore", str(tmp_path / "key"))
    assert code == 1 and b"this login is in another network, which stays" in err
    code, _, err = await other.talk("network", "restore", str(tmp_path / "key"), "--replace")
    assert code == 0, err
    assert len(list(other.home.glob("founder.*.old"))) == 1
    assert (await other.rows("network"))[0]["id"] == row["id"]


async def test_a_new_network_leaves_what_was_started_in_the_former_one(logins: list[Login]) -> None:
    first, second, _ = logins
    port, other = free_ports(2)
    ada = PortChild("ada", first.home, port=int(port))
    await ada.start(WAIT)
    first.children.append(ada)
    await ada.send("of old")
    code, _, err = await first.talk("network", "new")
    assert code == 1 and b"a peer of this login runs" in err
    [row] = await first.rows("invite", "--port", port, "--advertise", ada.endpoint)
    bob = await second.peer("bob", invite=row["invite"])
    await met(ada, bob)
    [before] = await first.rows("network")
    assert await ada.leave() == 0
    code, _, err = await first.talk("network", "new")
    assert code == 0 and f"-- {port}: started before, and still in the former network".encode() in err
    [after] = await first.rows("network")
    assert after["id"] != before["id"] and after["role"] == "founder"
    again = PortChild("ada", first.home, bob.endpoint, port=int(port))
    first.children.append(again)
    await again.start(WAIT)
    await again.event("joined", WAIT, user="bob")
    fresh = PortChild("new", first.home, again.endpoint, port=int(other))
    first.children.append(fresh)
    await fresh.start(WAIT)
    await fresh.event("link", WAIT, state="refused", code="network")


class PortChild(Child):
    """A peer whose profile is that of its port."""


# ---- known by name


async def test_who_wrote_nothing_and_left_is_known_by_name_to_everybody(logins: list[Login]) -> None:
    """Reader meets ada alone, who restarts; zoe comes when only cyd is there, who never met reader."""
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "2")
    reader = await second.peer("reader", invite=invite)
    await met(ada, reader)
    await knows(first, "ada", "reader")
    assert await reader.leave() == 0
    await first.kill(ada)
    ada = await first.peer("ada", port=int(ada.endpoint.rpartition(":")[2]))
    await knows(first, "ada", "reader")
    cyd = await third.peer("cyd", invite=invite)
    await met(ada, cyd)
    await knows(third, "cyd", "reader")
    assert await ada.leave() == 0
    assert await cyd.leave() == 0
    assert stored_names(third, "cyd") == {"ada", "reader", "cyd"}

    cyd = await third.peer("cyd")
    zoe = await third.peer("zoe", cyd.endpoint)  # another profile of cyd's login
    await met(cyd, zoe)
    await knows(third, "zoe", "reader")
    await knows(third, "zoe", "ada")  # the founder never wrote either
    assert await third.members("zoe") == {"ada": "founder", "cyd zoe": "member", "reader": "member"}
    await zoe.send("read this", to="reader")
    await zoe.send("and you", to="ada")
    reader = await second.peer("reader", zoe.endpoint)
    await reader.event("message", WAIT, text="read this")
    ada = await first.peer("ada", zoe.endpoint)
    await ada.event("message", WAIT, text="and you")
    assert cyd.count("message") == 0


async def test_a_name_taken_later_counts_and_equal_names_are_told_apart(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "2")
    bob = await second.peer("bob", invite=invite)
    await met(ada, bob)
    assert await bob.leave() == 0
    bob = await second.peer("bob", ada.endpoint, "--name", "robert")
    await ada.event("renamed", WAIT, user="robert")
    assert await bob.leave() == 0
    other = await second.peer("other", ada.endpoint, "--name", "robert")
    await ada.event("joined", WAIT, user_id=other.listening["user_id"])
    await knows(first, "ada", f"robert#{other.listening['user_id'][:8]}")
    assert await other.leave() == 0
    cyd = await third.peer("cyd", invite=invite)
    await met(ada, cyd)
    label = f"robert#{bob.listening['user_id'][:8]}"
    await knows(third, "cyd", label)
    await cyd.send("which one?", to=label)
    bob = await second.peer("bob", cyd.endpoint)
    await bob.event("message", WAIT, text="which one?")


async def test_who_was_pardoned_is_known_by_name(logins: list[Login]) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    reader = await second.peer("reader", invite=await first.invite(ada))
    await met(ada, reader)
    await knows(first, "ada", "reader")
    assert await reader.leave() == 0
    await first.decide("ada", "expel", "reader", "--yes")
    cyd = await third.peer("cyd", invite=await first.invite(ada))
    await met(ada, cyd)
    await knows(third, "cyd", "reader")
    assert (await third.members("cyd"))["reader"] == "expelled"
    await first.decide("ada", "pardon", "reader")
    await cyd.event("member", WAIT, user="reader", change="pardoned")
    assert await ada.leave() == 0
    await cyd.send("welcome back", to="reader")
    reader = await second.peer("reader", cyd.endpoint)
    await reader.event("message", WAIT, text="welcome back")


async def test_who_came_by_an_expelled_admin_learns_that_from_whoever_refuses_it(logins: list[Login]) -> None:
    """She admits somebody while nobody is there who knows that she is out."""
    first, second, third = logins
    ada = await first.peer("ada")
    carol = await second.peer("carol", invite=await first.invite(ada))
    await met(ada, carol)
    await first.decide("ada", "admin", "carol")
    await carol.event("member", WAIT, change="admin", user="carol")
    assert await carol.leave() == 0
    await first.decide("ada", "expel", "carol", "--yes")
    assert await ada.leave() == 0
    carol = await second.peer("carol")
    dan = await third.peer("dan", invite=await second.invite(carol))
    await met(carol, dan)
    assert (await third.members("dan"))["carol"] == "admin"
    ada = await first.peer("ada")
    await dan.do(do="connect", endpoint=ada.endpoint)
    dropped = await dan.event("member", WAIT, change="dropped")
    assert (dropped["user"], dropped["by"]) == ("dan", "carol")
    rows = await third.members("dan")
    assert rows["carol"] == "expelled" and "dan" not in rows


async def knows(login: Login, name: str, whom: str) -> None:
    """Wait until a peer lists a member with a user by this name."""
    deadline = time.monotonic() + WAIT
    rows: list[Line] = []
    while not any(whom in row["users"] for row in rows):
        assert time.monotonic() < deadline, rows
        rows = await login.rows("members", "--data", str(login.home / name))


def stored_names(login: Login, name: str) -> set[str]:
    """Return the names that a peer keeps."""
    with closing(sqlite3.connect(f"file:{login.home / name / 'history.db'}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute("select name from users where name is not null")}
