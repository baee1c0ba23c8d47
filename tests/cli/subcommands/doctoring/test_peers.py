"""Those who are known here: who of them answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import KnownAddress, Probed, TCPPeer, open_history
from p2pchat.cli.subcommands.doctor_network import judged, peers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    return tmp_path


async def known(home: Path) -> list[KnownAddress]:
    async with open_history(home / "ada") as history:
        return history.addresses()


async def test_one_answers_and_then_nobody(home: Path) -> None:
    async with TCPPeer(0, name="bob", data=home / "bob") as bob:
        async with TCPPeer(0, bob.endpoint, name="ada", data=home / "ada") as ada:
            async with TCPPeer(0, bob.endpoint, ada.endpoint, name="cyd", temporary=True) as cyd:
                for other in (bob, cyd):
                    await (await ada.send(other.me, "hi")).delivered(timeout=20)
        [found] = await peers(await known(home), str(home / "ada"))
        assert (found.verdict, found.seen) == ("ok", "1 of 2 known here answer: bob")
    [found] = await peers(await known(home), str(home / "ada"))
    assert found.verdict == "warning" and "bob" in found.seen and "cyd" in found.seen
    assert "p2pchat doctor 127.0.0.1:" in found.mend


def test_a_name_is_no_more_than_a_name() -> None:
    [found] = judged({"bob, cyd": Probed("127.0.0.1:1", "reached", "")})
    assert found.seen == '1 of 1 known here answer: "bob, cyd"'


async def test_nobody_is_known(home: Path) -> None:
    assert list(await peers([], str(home))) == list(judged({})) == []
