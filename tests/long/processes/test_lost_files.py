"""Files of a login that are lost, or were left behind: nobody founds a network who meant the one they are in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from p2pchat.testing.process_mesh import Child
from tests.deadlines import WAIT
from tests.processes.commands import one_loop
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met

pytestmark = one_loop


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second", "third")]
    yield logins
    for login in logins:
        await login.destroy()


async def said(login: Login, *words: str) -> tuple[int, str]:
    """Run a command line without input to its end; return its exit code, and what it printed."""
    code, out, err = await login.talk(*words)
    return code, (out + err).decode()


@pytest.mark.parametrize(
    ("whose", "lost"), [("ada", "network"), ("ada", "founder"), ("bob", "network"), ("bob", "member")]
)
async def test_a_start_says_which_file_of_its_login_is_lost(
    logins: list[Login], tmp_path: Path, whose: str, lost: str
) -> None:
    first, second, _ = logins
    ada = await first.peer("8080")
    bob = await second.peer("8081", invite=await first.invite(ada))
    await met(ada, bob)
    login, one, other = (first, ada, bob) if whose == "ada" else (second, bob, ada)
    assert (await said(login, "network", "backup", str(tmp_path / "copy")))[0] == 0
    assert await one.leave() == 0
    (login.home / lost).unlink()
    before = sorted(path.name for path in login.home.iterdir())
    for start in (("0", "--data", str(login.home / one.name)), ("0", "--name", "new"), ("invite", "--port", one.name)):
        code, text = await said(login, *start)
        assert code == 1 and "p2pchat network restore FILE" in text, text
    assert sorted(path.name for path in login.home.iterdir() if not path.name.startswith("temp")) == before
    code, text = await said(login, "doctor", "--port", one.name)
    assert code == 1 and "p2pchat network restore FILE" in text
    for words in (("network",), ("network", "backup", str(tmp_path / "another"))) if lost == "network" else ():
        code, text = await said(login, *words)
        assert code == 1 and "p2pchat network restore FILE" in text, text
    assert (await said(login, "network", "restore", str(tmp_path / "copy")))[0] == 0
    await met(await login.peer(one.name), other)


async def test_the_key_of_a_member_without_its_network_founds_no_other(logins: list[Login], tmp_path: Path) -> None:
    """Before: only a history in the profile's own directory said that there had been a network."""
    first, second, _ = logins
    ada = await first.peer("8080")
    profile = ("--data", str(second.home / "8081"), "--db", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    bob = Child("bob", second.home, *profile, "--invite", str(await first.invite(ada)))
    second.children.append(bob)
    await bob.start(WAIT)
    await met(ada, bob)
    assert await bob.leave() == 0
    (second.home / "network").unlink()
    for start in (("0", *profile), ("doctor", "--port", "8081"), ("network",)):
        code, text = await said(second, *start)
        assert code == 1 and "p2pchat network restore FILE" in text, text
    assert not (second.home / "founder").exists()


@pytest.mark.parametrize("place", ["elsewhere", "the directory of its port"])
async def test_where_a_profile_was_moved_its_login_belongs_to_its_network(
    logins: list[Login], tmp_path: Path, place: str
) -> None:
    first, second, new = logins
    ada = await first.peer("8080")
    bob = await second.peer("8081", invite=await first.invite(ada))
    await met(ada, bob)
    assert await bob.leave() == 0
    moved = tmp_path / "moved" if place == "elsewhere" else new.home / "8081"
    moved.parent.mkdir(parents=True, exist_ok=True)
    code, text = await said(second, "backup", str(moved), "--port", "8081")
    assert code == 0 and "p2pchat network backup FILE" in text
    if place == "elsewhere":  # nobody knows of it there before it has run
        bob = Child("8081", new.home, "--data", str(moved))
        new.children.append(bob)
        await bob.start(WAIT)
        await bob.event("joined", WAIT, user="8080")
    code, text = await said(new, "0", "--name", "zoe", "--data", str(new.home / "8082"))
    assert code == 1 and "p2pchat network restore FILE" in text
    code, text = await said(new, "doctor", "--data", str(moved))
    assert "p2pchat network restore FILE" in text
    if place == "elsewhere":
        assert (await said(second, "network", "backup", str(tmp_path / "copy")))[0] == 0
        assert (await said(new, "network", "restore", str(tmp_path / "copy")))[0] == 0
        await met(ada, await new.peer("8082", ada.endpoint))
    else:
        await met(ada, await new.peer("8082", invite=await first.invite(ada)), await new.peer("8081"))


async def test_a_profile_of_a_former_network_promises_no_rights_of_its_founder(logins: list[Login]) -> None:
    first = logins[0]
    ada = await first.peer("8080")
    assert await ada.leave() == 0
    assert (await said(first, "network", "new"))[0] == 0
    ada = await first.peer("8080")
    data = str(first.home / "8080")
    assert "role     guest: the key of its member is elsewhere" in (await said(first, "network", "--data", data))[1]
    assert '"8080" (you, without its key): founder, online' in (await said(first, "members", "--data", data))[1]
    code, text = await said(first, "expel", "8080", "--yes", "--data", data)
    assert code == 1 and "the key of this member is elsewhere" in text
