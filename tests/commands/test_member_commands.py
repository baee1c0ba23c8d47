"""Commands about the network and its members."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from p2pchat import HostedUser, Left, MemberChange, Settings, TCPPeer, parse_invite
from p2pchat.commands.event_text import EventLine
from p2pchat.testing import Mesh, mesh
from tests.commands.session_output import Shown, open_session
from tests.deadlines import until

TIME = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d")
INVITE_ID = re.compile(r"[0-9a-f]{8}")


@pytest.fixture
async def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    """ada, who founded the network, bob and eve, who joined it."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with mesh("ada", "bob", "eve", logins=True) as net:
        yield net


async def answered(peer: TCPPeer, shown: Shown, **command: object) -> EventLine:
    """Return the line that answers a JSON command."""
    await open_session(peer, shown).execute([json.dumps(command).encode()])
    line: EventLine = json.loads(shown.new[-1])
    return line


async def rows_of(peer: TCPPeer, shown: Shown, **command: object) -> list[EventLine]:
    """Return the rows of the answer to a JSON command."""
    line = await answered(peer, shown, **command)
    assert line["event"] == "answer", line
    rows: list[EventLine] = line["rows"]
    return rows


async def typed(peer: TCPPeer, shown: Shown, line: str) -> list[str]:
    """Return what a person reads who typed a line, without times and ids of invites."""
    shown.new  # noqa: B018
    await open_session(peer, shown, as_json=False).execute([line.encode()])
    return [INVITE_ID.sub("INVITE", TIME.sub("TIME", one)) for one in shown.new]


async def hosted(host: TCPPeer, name: str, sees: TCPPeer) -> HostedUser:
    """Return a user of another peer, as a gateway has them, once somebody has something that it wrote."""
    user = await host.host(name)
    user.set_presence("online")
    receipt = await user.broadcast("hello")
    await receipt.delivered(by=sees.me, timeout=30)
    return user


def roles(peer: TCPPeer) -> dict[str, str]:
    return {user.label: one.role for one in peer.people.members() for user in one.users}


async def agreed(net: Mesh, expected: dict[str, str]) -> None:
    for peer in net.peers:
        await until(partial(_agrees, peer, expected), f"{peer.me.label} knows who is what")


def _agrees(peer: TCPPeer, expected: dict[str, str]) -> bool:
    return roles(peer) == expected


SEEN = {"ada": "founder", "bert": "member", "carl": "member", "eve": "member", "zed": "member"}
ALL = {"ada": "founder", "bob": "member", "eve": "member"}


async def test_members_are_listed_with_who_admitted_them(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    rows = await rows_of(bob, shown, do="members")
    facts = [(row["user"], row["users"], row["role"], row["by"], row["online"], row["me"]) for row in rows]
    assert facts == [
        ("ada", ["ada"], "founder", None, True, False),
        ("bob", ["bob"], "member", "ada", True, True),
        ("eve", ["eve"], "member", "ada", True, False),
    ]
    assert rows[0]["since"] is None and rows[0]["invite"] is None and rows[0]["by_id"] is None
    assert rows[1]["since"].endswith("Z") and INVITE_ID.fullmatch(rows[1]["invite"]) and rows[1]["by_id"] == ada.me.id
    assert await rows_of(bob, shown, do="members", to="room") == rows
    assert await typed(bob, shown, "/members") == [
        "-- ada: founder, online",
        "-- bob (you): member, online, admitted TIME by ada, with the invite INVITE",
        "-- eve: member, online, admitted TIME by ada, with the invite INVITE",
    ]


async def test_in_a_group_members_are_those_of_the_group(net: Mesh, shown: Shown) -> None:
    ada, _, _ = net.peers
    await ada.create_group("ops", ["bob"])
    assert [row["user"] for row in await rows_of(ada, shown, do="members", to="#ops")] == ["ada", "bob"]
    session = open_session(ada, shown, as_json=False)
    await session.execute([b"/go #ops"])
    shown.new  # noqa: B018
    await session.execute([b"/members"])
    assert [line.split(":")[0] for line in shown.new] == ["-- ada", "-- bob"]
    await session.execute([b"/members -a"])
    assert [line.split(":")[0] for line in shown.new] == ["-- ada (you)", "-- bob", "-- eve"]
    line = await answered(ada, shown, do="members", to="bob", ref="m")
    assert (line["event"], line["code"], line["ref"]) == ("error", "usage", "m")


async def test_who_is_expelled_is_out_until_a_pardon(net: Mesh, shown: Shown) -> None:
    ada, bob, eve = net.peers
    out = await rows_of(ada, shown, do="expel", user="eve")
    assert out == [{"user": "eve", "user_id": eve.me.id, "expelled": True}]
    await agreed(net, {"ada": "founder", "bob": "member", "eve": "expelled"})
    await until(lambda: not eve.links(), "eve has no link")
    [last] = [row for row in await rows_of(bob, shown, do="members") if row["role"] == "expelled"]
    assert (last["user"], last["by"], last["online"]) == ("eve", "ada", False)
    assert await typed(bob, shown, "/members") == [
        "-- ada: founder, online",
        "-- bob (you): member, online, admitted TIME by ada, with the invite INVITE",
        "-- 1 was expelled: /members -a shows them too",
    ]
    assert (await typed(bob, shown, "/members -a"))[-1] == "-- eve: expelled, TIME by ada"
    line = await answered(ada, shown, do="expel", user="eve")
    assert (line["event"], line["code"], line["text"]) == ("error", "usage", "eve is expelled already")
    pardoned = await rows_of(ada, shown, do="pardon", user="eve")
    assert pardoned == [{"user": "eve", "user_id": eve.me.id, "expelled": False}]
    await agreed(net, ALL)
    await until(lambda: len(eve.links()) == 2, "eve is linked again")


async def test_a_typed_line_says_what_happens_and_asks(
    net: Mesh, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _, _ = net.peers
    questions: list[str] = []
    answers = [False, True]

    async def confirm(question: str, about: str) -> bool:
        questions.append(question)
        return answers.pop(0)

    session = open_session(ada, shown, as_json=False)
    monkeypatch.setattr(session.display, "confirm", confirm)
    await session.execute([b"/expel eve"])
    assert shown.new == ["-- nobody was expelled"] and roles(ada) == ALL
    await session.execute([b"/expel eve --hide"])
    assert questions == [
        "eve will be expelled. What they wrote stays, and they keep what they have received; --hide shows nothing of "
        "it any more. Expel?",
        "eve will be expelled. What they wrote is shown to nobody any more, and stays on the disks of those who have "
        "it. Expel?",
    ]
    assert roles(ada)["eve"] == "expelled"
    await session.execute([b"/expel bob --only --yes"])
    assert len(questions) == 2 and roles(ada)["bob"] == "expelled"
    await session.execute([b"/who -a"])
    assert [line.endswith(" (expelled)") for line in shown.new if line.startswith(("-- eve:", "-- bob:"))] == [True] * 2


async def test_a_pipe_needs_the_answer_in_the_line(net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    ada, _, _ = net.peers
    await typed(ada, shown, "/expel eve")
    assert "the line does it with --yes at its end" in capsys.readouterr().err
    assert roles(ada) == ALL


@pytest.mark.parametrize("command", ["expel", "pardon", "admin", "unadmin"])
async def test_a_plain_member_decides_nothing(net: Mesh, shown: Shown, command: str) -> None:
    _, bob, _ = net.peers
    line = await answered(bob, shown, do=command, user="eve", ref="x")
    assert (line["event"], line["code"], line["ref"]) == ("error", "usage", "x")
    assert "founder" in line["text"]
    assert roles(bob) == ALL


async def test_nobody_expels_the_founder_or_itself(net: Mesh, shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    ada, bob, _ = net.peers
    await rows_of(ada, shown, do="admin", user="bob")
    await agreed(net, {**ALL, "bob": "admin"})
    for peer, user, why in ((bob, "ada", "founder"), (bob, "bob", "that is you"), (ada, "ada", "that is you")):
        for only in (False, True):
            line = await answered(peer, shown, do="expel", user=user, only=only)
            assert line["event"] == "error" and why in line["text"], (user, only, line)
    await typed(bob, shown, "/expel ada")  # refused without a question
    assert "founder" in capsys.readouterr().err


async def test_an_admin_expels_and_takes_back_what_it_did(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    assert await rows_of(ada, shown, do="admin", user="bob") == [{"user": "bob", "user_id": bob.me.id, "admin": True}]
    await agreed(net, {**ALL, "bob": "admin"})
    assert await typed(ada, shown, "/admin bob") == ["-- bob may invite and expel already"]
    await rows_of(bob, shown, do="expel", user="eve")
    await agreed(net, {**ALL, "bob": "admin", "eve": "expelled"})
    await rows_of(bob, shown, do="pardon", user="eve")
    await agreed(net, {**ALL, "bob": "admin"})
    await typed(ada, shown, "/unadmin bob --yes")
    await agreed(net, ALL)
    line = await answered(ada, shown, do="admin", user="bob")
    assert line["event"] == "error" and "cannot be one again" in line["text"]


async def test_everybody_who_came_by_an_invite_is_expelled(net: Mesh, shown: Shown) -> None:
    ada, _, eve = net.peers
    [invite] = [row["invite"] for row in await rows_of(ada, shown, do="members") if row["user"] == "eve"]
    assert await rows_of(ada, shown, do="expel", invite=invite) == [
        {"user": "eve", "user_id": eve.me.id, "expelled": True}
    ]
    await agreed(net, {**ALL, "eve": "expelled"})
    for fields in ({}, {"user": "bob", "invite": invite}, {"invite": invite, "only": True}):
        assert (await answered(ada, shown, do="expel", **fields))["event"] == "error", fields


async def test_of_two_users_who_were_expelled_alone_one_is_pardoned(tmp_path: Path, shown: Shown) -> None:
    """Of one member's users each is expelled and pardoned for itself."""
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        zoe, yan = await hosted(bob, "zoe", sees=ada), await hosted(bob, "yan", sees=ada)
        assert await rows_of(ada, shown, do="expel", user="zoe") == [
            {"user": "zoe", "user_id": zoe.me.id, "expelled": True}
        ]
        await rows_of(ada, shown, do="expel", user="yan")
        await agreed(net, {"ada": "founder", "bob": "member", "zoe": "expelled", "yan": "expelled"})
        await rows_of(ada, shown, do="pardon", user=zoe.me.id)
        await agreed(net, {"ada": "founder", "bob": "member", "zoe": "member", "yan": "expelled"})
        await rows_of(ada, shown, do="pardon", user=yan.me.id)
        await agreed(net, {"ada": "founder", "bob": "member", "zoe": "member", "yan": "member"})
        rows = await rows_of(ada, shown, do="expel", user="bob")
        assert [row["user"] for row in rows] == ["bob", "yan", "zoe"]


async def test_a_question_names_whom_the_same_member_answers_for(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        await hosted(bob, "zoe", sees=ada)
        await typed(ada, shown, "/expel bob")
        assert "bob will be expelled, and with it all users of the same member: zoe. What" in capsys.readouterr().err
        await hosted(bob, "yan", sees=ada)
        await typed(ada, shown, "/expel bob")
        assert "all users of the same member: yan, zoe. What" in capsys.readouterr().err


async def test_whom_an_expelled_admin_had_expelled_stays_out_alone(shown: Shown) -> None:
    async with mesh("ada", "bob", "eve", "dan", logins=True) as net:
        ada, bob, _, _ = net.peers
        everybody = {**ALL, "dan": "member"}
        await rows_of(ada, shown, do="admin", user="bob")
        await agreed(net, {**everybody, "bob": "admin"})
        await rows_of(bob, shown, do="expel", user="dan")
        await until(partial(_agrees, ada, {**everybody, "bob": "admin", "dan": "expelled"}), "ada knows it")
        await rows_of(ada, shown, do="expel", user="bob")
        assert roles(ada) == {**everybody, "bob": "expelled", "dan": "expelled"}
        assert [row["user"] for row in await rows_of(ada, shown, do="pardon", user="dan")] == ["dan"]
        assert roles(ada) == {**everybody, "bob": "expelled"}
        assert [row["user"] for row in await rows_of(ada, shown, do="pardon", user="bob")] == ["bob"]
        await agreed(net, everybody)


async def test_whom_an_expelled_admin_admitted_stays_as_its_guest_or_goes_with_it(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    """An admin may keep a spare: a key of its own, which it adds before it is expelled."""
    spare = "5a" * 32
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        await rows_of(ada, shown, do="admin", user="bob")
        await until(lambda: bob.people.own_role == "admin", "bob may admit")
        await bob.people._say([("add", {"who": [spare]})])
        await until(lambda: any(one.by == ada.user("bob") for one in ada.people.members()), "ada has heard of it")
        label = ada.directory.user(spare).label
        await typed(ada, shown, "/expel bob")
        told = f"bob admitted 1, last {label}: they stay, unless --with-admitted expels them too"
        assert told in capsys.readouterr().err
        await typed(ada, shown, "/expel bob --yes")
        [row] = [row for row in await rows_of(ada, shown, do="members") if row["user"] == label]
        assert (row["role"], row["by"], row["since"]) == ("member", "bob", None)
        await typed(ada, shown, "/pardon bob")
        assert [row["by"] for row in await rows_of(ada, shown, do="members") if row["user"] == label] == ["bob"]


@pytest.mark.parametrize(("since", "goes"), [("2026-01-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False)])
async def test_whom_an_admin_admitted_since_then_is_expelled_with_it(shown: Shown, since: str, goes: bool) -> None:
    spare = "5a" * 32
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        await rows_of(ada, shown, do="admin", user="bob")
        await until(lambda: bob.people.own_role == "admin", "bob may admit")
        await bob.people._say([("add", {"who": [spare]})])
        await until(lambda: any(one.by == ada.user("bob") for one in ada.people.members()), "ada has heard of it")
        await rows_of(ada, shown, do="expel", user="bob", with_admitted=True, since=since)
        assert ada.people.find(ada.directory.user(spare)).role == ("expelled" if goes else "member")


async def test_who_goes_with_a_member_is_one_event(shown: Shown) -> None:
    """It names the member by a user with a peer of its own; whoever sees the others go sees that they left."""
    async with mesh("ada", "zed", "eve", logins=True) as net:
        ada, zed, eve = net.peers
        for name in ("bert", "carl"):
            await hosted(zed, name, sees=ada)
        await until(lambda: sum(user.status == "online" for user in eve.users()) == 5, "eve sees them")
        changes, left = eve.events(MemberChange, consumer=None), eve.events(Left, consumer=None)
        await rows_of(ada, shown, do="expel", user="bert")
        await until(partial(_agrees, eve, {**SEEN, "bert": "expelled"}), "eve knows it")
        await rows_of(ada, shown, do="expel", user="zed")
        await until(partial(_agrees, eve, {**SEEN, "bert": "expelled", "carl": "expelled", "zed": "expelled"}), "both")
        assert {(await anext(left)).reason for _ in range(3)} == {"expelled"}
        await rows_of(ada, shown, do="pardon", user="zed")
        await until(partial(_agrees, eve, {**SEEN, "bert": "expelled"}), "eve knows that, too")
        found = [await anext(changes) for _ in range(3)]
        assert [(one.user.label, one.by.label, one.change, one.count) for one in found] == [
            ("bert", "ada", "expelled", 1),
            ("zed", "ada", "expelled", 3),
            ("zed", "ada", "pardoned", 3),
        ]
        assert found[1].users[0].label == "zed"


async def test_an_admin_cannot_expel_an_account_of_the_founder(shown: Shown) -> None:
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        zoe = await hosted(ada, "zoe", sees=bob)
        await rows_of(ada, shown, do="admin", user="bob")
        await agreed(net, {"ada": "founder", "zoe": "founder", "bob": "admin"})
        line = await answered(bob, shown, do="expel", user=zoe.me.id)
        assert line["event"] == "error" and "ask the founder" in line["text"]
        assert [row["user"] for row in await rows_of(ada, shown, do="expel", user="zoe")] == ["zoe"]
        await agreed(net, {"ada": "founder", "zoe": "expelled", "bob": "admin"})


async def test_in_a_network_with_a_name_nobody_is_listed(tmp_path: Path, shown: Shown) -> None:
    async with TCPPeer(0, name="dan", db="memory://", settings=Settings(start_timeout=0.0), network="Lab") as dan:
        for command in ({"do": "members"}, {"do": "expel", "user": "dan"}, {"do": "invite"}):
            line = await answered(dan, shown, **command)
            assert line["event"] == "error" and "whoever knows the name of this network is a member" in line["text"]


# ---- invites


async def test_invites_are_listed_and_revoked(net: Mesh, shown: Shown) -> None:
    ada, bob, _ = net.peers
    assert await typed(ada, shown, "/invites") == ["-- this peer made no invite so far"]
    await rows_of(ada, shown, do="invite", uses=3, days=0.5)
    [made] = await rows_of(ada, shown, do="invites")
    assert INVITE_ID.fullmatch(made["invite"]) and made["uses"] == 3
    assert made["revoked_at"] is None and made["used_by"] == made["used_by_ids"] == []
    assert made["made_at"] < made["until"]
    assert await typed(ada, shown, "/invites") == ["-- INVITE: admits 3 people until TIME"]
    assert await typed(ada, shown, f"/revoke {made['invite']}") == ["-- nobody comes by the invite INVITE any more"]
    assert await typed(ada, shown, "/invites") == ["-- INVITE: revoked TIME"]
    [revoked] = await rows_of(ada, shown, do="revoke", invite=made["invite"])
    assert revoked["revoked_at"] is not None
    line = await answered(ada, shown, do="revoke", invite="00000000")
    assert line["event"] == "error" and "has made no invite" in line["text"]
    line = await answered(bob, shown, do="invite")
    assert (line["event"], line["code"]) == ("error", "invite_error")


async def test_an_invite_says_how_many_it_admits(net: Mesh, shown: Shown) -> None:
    ada, _, _ = net.peers
    assert any(line.startswith("It admits 3 people until ") for line in await typed(ada, shown, "/invite 3"))
    assert any(line.startswith("It admits one person until ") for line in await typed(ada, shown, "/invite"))
    line = await answered(ada, shown, do="invite", uses=65)
    assert (line["event"], line["code"]) == ("error", "usage") and "1 to 64 people" in line["text"]


async def test_invite_shows_a_screen_and_warns_on_loopback(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with TCPPeer(0, name="ada", db="memory://", settings=Settings(start_timeout=0.0)) as ada:
        await open_session(ada, shown, as_json=False).execute([b"/invite"])
        lines = shown.new
        assert any("--invite -" in line for line in lines)
        assert any(line.strip().startswith("p2pchat:") for line in lines)
        assert lines[0].startswith("-- only this computer can reach you at the moment")
        await open_session(ada, shown).execute([b'{"do":"invite","ref":"i"}'])
        row = json.loads(shown.new[-1])["rows"][0]
        assert parse_invite(row["invite"]).endpoints == (ada.endpoint,) and row["only_this_machine"] is True
        assert (row["host"], row["port"]) == ("127.0.0.1", ada.port)
    where = {"host": "127.0.0.1", "advertise": "chat.example:8080"}
    async with TCPPeer(0, name="bob", db="memory://", settings=Settings(start_timeout=0.0), **where) as bob:  # type: ignore[arg-type]
        await open_session(bob, shown, as_json=False).execute([b"/invite"])
        assert not shown.new[0].startswith("-- only this computer")  # the advertised address leads here
    where["advertise"] = "localhost:9999"  # the end of a tunnel
    async with TCPPeer(0, name="cyd", db="memory://", settings=Settings(start_timeout=0.0), **where) as cyd:  # type: ignore[arg-type]
        await open_session(cyd, shown).execute([b'{"do":"invite","ref":"i"}'])
        row = json.loads(shown.new[-1])["rows"][0]
        assert row["invite"].endswith("@localhost:9999") and row["only_this_machine"] is False
