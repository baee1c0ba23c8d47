"""device and devices, in this process: what is refused, and what is listed."""

from __future__ import annotations

from p2pchat.identity.device_code import DeviceCode
from tests.cli.conftest import Here, OpenChats


def test_the_own_machines_are_listed_also_while_no_peer_runs(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    id = ada.listening.peer_id
    alone = {"peer_id": id, "name": "", "since": None, "this": True, "linked": False, "last_seen": None}
    data = ada.data
    assert here("devices", "--data", data).said == (0, f"{id[:8]}: this machine\n", "")
    chats.close(ada)
    assert here("devices", "--json", "--data", data).events == [alone]
    ran = here("devices", "--data", chats.home / "nobody")
    assert ran.code == 1 and "there is no" in ran.complains()


def test_a_machine_that_is_always_on_has_a_port(chats: OpenChats, here: Here) -> None:
    code = DeviceCode("ab" * 32, bytes(16), ("desk:1",)).text
    ran = here("device", "join", code, "--data", chats.home / "attic", "--always-on")
    assert ran.code == 2 and "--port PORT" in ran.complains()
    assert not (chats.home / "attic").exists()


def test_a_running_peer_is_stopped_the_first_time(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    ran = here("device", "add", "--data", ada.data)
    assert ran.code == 1 and "stop it this first time" in ran.complains()
