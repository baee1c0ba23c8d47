"""users and invite: from a running peer, or from what is stored."""

from __future__ import annotations

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


def test_of_several_profiles_the_newest_running_one_is_meant(chats: OpenChats, here: Here) -> None:
    """As after the three terminals of the README: `p2pchat send bob` is said by the third."""
    ada = chats.open("ada", data="8001")
    only = here("users")
    assert (only.code, only.err) == (0, "") and only.out == "ada: online (you)\n"  # the only profile there is
    bob = chats.open("bob", ada, data="8002")
    cyd = chats.open("cyd", ada, bob, data="8003")
    using = "-- as {}, port {} (--port PORT: another)\n"
    assert here("send", "bob", "hi").said == (0, "", using.format("cyd", 8003))
    assert [post.text for post in bob.history("cyd")] == ["hi"]
    assert here("users", "--port", "8002").err == ""
    chats.close(cyd)
    assert here("users").err == using.format("bob", 8002)
    assert here("send", "bob", "not to himself").said == (0, "", using.format("ada", 8001))
    chats.close(bob)
    chats.close(ada)
    refused = here("send", "bob", "hi")
    assert refused.code == 2 and "there are several profiles (" in refused.err
    assert "and none runs: choose one with --port PORT" in refused.err
