"""users and invite: from a running peer, or from what is stored."""

from __future__ import annotations

from p2pchat.commands.last_start import LastStart
from tests.cli.conftest import Here, OpenChats


def test_users_come_from_the_running_peer_or_the_database(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    data = ada.data
    ran = here("users", "--data", data)
    assert (ran.code, ran.err) == (0, "")
    assert sorted(ran.out.splitlines()) == ["ada: online (you)", "bob: online"]
    cyd = chats.open("cyd", ada)
    for one in (bob, cyd):
        one.room.send("the database knows who wrote").delivered(timeout=60)
    bob.send("ada", "psst").delivered(timeout=60)
    chats.close(cyd)
    ran = here("users", "--data", data)
    assert "cyd" not in ran.out and ran.err == "-- and 1 more: p2pchat users -a shows them too\n"
    assert "cyd: offline" in here("users", "-a", "--data", data).out
    chats.close(bob)
    chats.close(ada)
    at_rest = "-- this peer is not running, so who is here is not known\n"
    more = "-- and 1 more: p2pchat users -a shows them too\n"
    assert here("users", "--data", data).said == (0, "ada (you)\nbob\n", more + at_rest)
    assert here("users", "--all", "--data", data).said == (0, "ada (you)\nbob\ncyd\n", at_rest)
    rows = here("users", "--json", "--data", data).events
    assert [(row["event"], row["user"], row["status"], row["me"]) for row in rows] == [
        ("presence", "ada", "unknown", True),
        ("presence", "bob", "unknown", False),
        ("presence", "cyd", "unknown", False),
    ]


def test_the_invite_of_a_running_peer_has_its_real_address(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada", advertise="chat.example.org:4711")
    ran = here("invite", "--data", ada.data)
    assert ran.code == 0 and "@chat.example.org:4711\n" in ran.out and "It works while" not in ran.out
    ran = here("invite", "--data", ada.data, "--advertise", "other.example:1")
    assert ran.code == 0 and "@other.example:1\n" in ran.out and "example.org" not in ran.out


def test_of_several_profiles_the_only_running_one_is_meant(chats: OpenChats, here: Here) -> None:
    """With two running ones `p2pchat send` wrote to bob as ada, and to all others as bob."""
    ada = chats.open("ada", data="8001")
    only = here("users")
    assert (only.code, only.err) == (0, "") and only.out == "ada: online (you)\n"  # the only profile there is
    bob = chats.open("bob", ada, data="8002")
    asked = ": choose one with --port PORT, or --data DIR\n"
    for words in (("send", "bob", "hi"), ("send", "room", "hi"), ("users",), ("history",), ("invite",), ("doctor",)):
        assert here(*words).said == (2, "", f"p2pchat: several peers run here (ada: 8001, bob: 8002){asked}"), words
    assert here("users", "--port", "8002").err == ""
    assert here("send", "bob", "as ada", "--port", "8001").said == (0, "", "")
    chats.close(bob)
    assert here("users").err == "-- as ada, port 8001 (--port PORT: another)\n"
    chats.close(ada)
    refused = f"p2pchat: there are several profiles and none runs (ada: 8001, bob: 8002){asked}"
    assert here("send", "bob", "hi").said == (2, "", refused)


def test_accounts_are_made_at_a_gateway_alone(chats: OpenChats, here: Here) -> None:
    """Without a port an account was made in a chat's profile."""
    ada = chats.open("ada", data="8001")
    at = here("web", "token", "zoe")
    assert (at.code, at.out) == (2, "") and "no gateway has run here: start one" in at.err
    at = here("web", "users", "--port", "8001")
    assert (at.code, at.out) == (2, "") and f"no gateway has run in {ada.data}" in at.err
    for name, port in (("house", "8002"), ("shop", "8003")):
        gate = chats.open(name, data=port)
        LastStart(gateway=True).save(gate.data)
        if name == "house":
            assert here("web", "token", "zoe").err.startswith("-- as house, port 8002 (--port PORT: another)\n")
    assert "several peers run here (house: 8002, shop: 8003)" in here("web", "token", "zoe").err
    assert here("web", "users", "--port", "8003").said == (0, "", "")
    assert here("web", "users", "--port", "8002").out.startswith("zoe  registered, used 2")
