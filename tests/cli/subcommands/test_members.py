"""The commands `p2pchat invite`, members, expel, pardon, admin, unadmin and network, in this process."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import parse_invite
from p2pchat.cli.options import parse_end
from tests.cli.conftest import Here, OpenChats

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("12h", NOW + timedelta(hours=12)),
        ("3d", NOW + timedelta(days=3)),
        ("2w", NOW + timedelta(weeks=2)),
        ("2026-11-21T08:30:00+00:00", datetime(2026, 11, 21, 8, 30, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_time_to_come(text: str, end: datetime) -> None:
    assert parse_end(text, NOW) == end


def test_a_day_is_its_last_second() -> None:
    end = parse_end("2026-11-25", NOW)
    assert (end.hour, end.minute, end.second, end.day) == (23, 59, 59, 25)


@pytest.mark.parametrize("text", ["", "h", "3", "3m", "-3d", "0h", "2026-11-19", "soon", "99999999999w"])
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|is over"):
        parse_end(text, NOW)


def test_an_invite_has_the_terms_that_were_asked_for(here: Here, chats: OpenChats) -> None:
    chats.open("ada")
    [row] = here("invite", "--data", chats.home / "ada", "--uses", "5", "--until", "12h", "--json").events
    invitation = parse_invite(row["invite"]).invitation
    assert (invitation.uses, row["uses"], row["id"]) == (5, 5, invitation.id)
    left = invitation.until - datetime.now(UTC).timestamp()
    assert 11.9 * 3600 < left <= 12 * 3600
    ran = here("invite", "--data", chats.home / "ada", "--list")
    assert ran.code == 0 and ran.out.startswith(f"{row['id']}: admits 5 people until ")
    ran = here("invite", "--data", chats.home / "ada", "--revoke", row["id"].upper())
    assert ran.code == 0 and "admits nobody any more" in ran.err
    assert ": revoked " in here("invite", "--data", chats.home / "ada", "--list").out
    ran = here("invite", "--data", chats.home / "ada", "--revoke", "0" * 8)
    assert ran.code == 1 and "this peer has made no invite 00000000: p2pchat invite --list" in ran.complains()


def test_an_invite_of_a_peer_on_loopback_is_for_this_machine_and_says_so_first(here: Here, chats: OpenChats) -> None:
    chats.open("ada")
    assert here("invite", "--data", chats.home / "ada").out.startswith("-- only this computer can reach you")
    assert "only" not in here("invite", "--data", chats.home / "ada", "--advertise", "h:1").out
    [row] = here("invite", "--data", chats.home / "ada", "--json").events
    assert parse_invite(row["invite"]).endpoints == (f"127.0.0.1:{row['port']}",)


@pytest.mark.parametrize("words", [("--list", "--uses", "2"), ("--revoke", "0" * 8, "--list"), ("--uses", "65")])
def test_words_of_an_invite_that_make_no_sense(here: Here, chats: OpenChats, words: tuple[str, ...]) -> None:
    chats.open("ada")
    assert here("invite", "--data", chats.home / "ada", *words).code == 2


def test_a_year_is_the_longest_for_an_invite(here: Here, chats: OpenChats) -> None:
    chats.open("ada")
    ran = here("invite", "--data", chats.home / "ada", "--until", "60w")
    assert ran.code == 2 and "at most 366 days" in ran.complains()


def test_one_user_of_a_member_is_expelled_alone(here: Here, chats: OpenChats) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    [row] = here("members", "--data", chats.home / "ada", "--json").events
    assert (row["role"], row["users"], row["me"], row["by"]) == ("founder", ["ada", "bob"], True, None)
    assert here("members", "--data", chats.home / "ada").out == "ada (with bob) (you): founder, online\n"
    for words in ((), ("--with-admitted",), ("--with-admitted", "7d")):
        ran = here("expel", "bob", *words, "--data", chats.home / "ada", "--yes")
        assert ran.code == 1 and "the founder of a network cannot be expelled from it" in ran.err
    ran = here("expel", "bob", "--only", "--data", chats.home / "ada", "--yes")
    assert ran.code == 0 and "bob alone will be expelled, and not ada, who belong to the same member." in ran.err
    assert [row["role"] for row in here("members", "--data", chats.home / "ada", "--json").events] == [
        "founder", "expelled",
    ]  # fmt: skip
    assert here("pardon", "bob", "--data", chats.home / "ada").code == 0
    assert here("pardon", "bob", "--data", chats.home / "ada").code == 1
    chats.close(bob)


def test_without_anybody_to_ask_yes_is_needed(here: Here, chats: OpenChats) -> None:
    chats.open("ada")
    ran = here("expel", "bob", "--data", chats.home / "ada")
    assert ran.code == 2 and "add --yes" in ran.complains()
    assert here("expel", "--data", chats.home / "ada", "--yes").code == 2
    assert here("expel", "bob", "--invite", "0" * 8, "--data", chats.home / "ada", "--yes").code == 2
    assert here("expel", "bob", "--data", chats.home / "ada", "--yes").code == 4


def test_an_invite_by_which_nobody_came_is_closed(here: Here, chats: OpenChats) -> None:
    """It got into wrong hands before anybody used it, and another admin may have made it."""
    chats.open("ada")
    made = json.loads(here("invite", "--data", chats.home / "ada", "--json").out)
    ran = here("expel", "--invite", made["id"], "--data", chats.home / "ada", "--yes")
    assert ran.code == 0 and "nobody so far. It admits nobody any more" in ran.err
    assert ": revoked " in here("invite", "--data", chats.home / "ada", "--list").out


def test_members_need_a_running_peer(here: Here, chats: OpenChats) -> None:
    chats.close(chats.open("ada"))
    for words in (
        ("members",),
        ("pardon", "bob"),
        ("admin", "bob"),
        ("unadmin", "bob", "--yes"),
        ("expel", "bob", "--yes"),
    ):
        ran = here(*words, "--data", chats.home / "ada")
        assert ran.code == 1 and "does not run: start it" in ran.complains()


def test_the_network_of_a_login_and_its_copy(here: Here, chats: OpenChats, tmp_path: Path) -> None:
    ran = here("network")
    assert ran.code == 1 and "there is no network in" in ran.complains()
    assert here("network", "new").code == 2
    ada = chats.open("ada")
    out = here("network", "--data", chats.home / "ada").out
    assert "role     founder: " in out and "backup   no: p2pchat network backup FILE" in out
    assert here("network", "backup", tmp_path / "copy").code == 0
    [row] = here("network", "--json").events
    assert row["backed_up"] and row["files"] == [str(chats.home / "network"), str(chats.home / "founder")]
    assert here("network", "backup", tmp_path / "copy").code == 1
    ran = here("network", "restore", tmp_path / "copy")
    assert ran.code == 1 and "a peer of this login runs" in ran.complains()
    chats.close(ada)
    assert here("network", "restore", tmp_path / "copy").code == 0
    ran = here("network", "new")
    assert ran.code == 0 and "-- ada: started before, and still in the former network" in ran.err
