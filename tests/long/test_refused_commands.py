"""What is refused is not done: every command that changes something is given while commits fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pchat import StorageError, TCPPeer
from p2pchat.commands.command_table import BY_NAME
from p2pchat.core.durable_changes import Change
from p2pchat.messaging.hosted_user import HostedUser
from p2pchat.testing import mesh
from p2pchat.testing.meshes import _Disk
from tests.commands.session_output import Shown, open_session
from tests.deadlines import until


class _FailingDisk(_Disk):
    fails = False

    def commit(self, changes: Sequence[Change]) -> None:
        self._check()
        super().commit(changes)

    def check_writable(self) -> None:
        self._check()
        super().check_writable()

    def _check(self) -> None:
        if self.fails:
            raise StorageError("the disk is broken")


# By the name of each command that changes what is stored, its fields where that can be refused. POST is a message of
# ada's, POLL a poll of hers, INVITE one that she made.
COMMANDS: dict[str, dict[str, Any]] = {
    "group": {"name": "new", "members": ["bob"]},
    "add": {"to": "#ops", "users": ["carol"]},
    "kick": {"to": "#ops", "users": ["bob"]},
    "leave": {"to": "#theirs"},
    "rename": {"to": "#ops", "name": "night"},
    "owner": {"to": "#ops", "user": "bob"},
    "nick": {"name": "countess"},
    "about": {"text": "on call"},
    "send": {"to": "bob", "text": "hello"},
    "edit": {"id": "POST", "text": "other"},
    "delete": {"id": "POST"},
    "react": {"id": "POST", "reaction": "+"},
    "vote": {"id": "POLL", "option": 1},
    "poll": {"to": "room", "question": "lunch?", "options": ["yes", "no"]},
    "close": {"id": "POLL"},
    "pin": {"id": "POST"},
    "unpin": {"id": "POLL"},
    "delete_history": {"to": "bob"},
    "set": {"name": "receipts", "value": "off"},
    "mute": {"to": "bob"},
    "unmute": {"to": "carol"},
    "invite": {},
    "revoke": {"invite": "INVITE"},
    "expel": {"user": "carol"},
    "pardon": {"user": "mallory"},
    "admin": {"user": "carol"},
    "unadmin": {"user": "bob"},
    "forget": {"peer": "bob"},
    "ignore": {"user": "bob"},
    "unignore": {"user": "carol"},
    "block": {"user": "bob"},
    "unblock": {"user": "dave"},
    "allow": {"user": "bob"},
}
OTHERS = {
    "msg", "me", "reply",  # as send
    "send_files", "import", "export", "forget_files", "forget_file",  # the files of the disk too
    "web_token", "web_users", "web_revoke", "web_rename", "web_delete", "web_purge",  # of a gateway
    "invites", "devices", "wait",  # change nothing
    "rename_device", "revoke_device",  # of another machine
    "read", "shown",  # what was read stays so; it is stored once that is possible
    "connect", "away", "back", "typing", "active", "taken",  # not stored
}  # fmt: skip


def test_each_command_that_changes_something_is_tried() -> None:
    changing = {row.name for row in BY_NAME.values() if row.kind != "read"}
    assert changing == COMMANDS.keys() | OTHERS


async def _state(peer: TCPPeer | HostedUser, net_peer: TCPPeer) -> dict[str, Any]:
    """Return everything that the commands above can change, as a user sees it."""
    node = net_peer._driver.node
    people = net_peer.people
    history = {
        one.id: [
            (post.id, post.text, post.deleted, post.closed_at, repr((post.pins, post.reactions, post.votes)))
            for post in await peer.history(one)
        ]
        for one in peer.recent_conversations()
    }
    return {
        "me": (peer.me.label, peer.me.about),
        "users": {u.id: (u.name, u.about, u.ignored, u.blocked, u.expelled, u.names_before) for u in peer.users()},
        "lists": ([u.id for u in peer.ignored()], [u.id for u in peer.blocked()]),
        "choices": dict(peer.choices("chat")),
        "receipts": (peer.receipts(), {u.id: on for u, on in peer.receipt_exceptions().items()}),
        "contacts": (set(node.contacts.own), set(node.replicator.quota.allowed)),
        "addresses": {(a.peer, a.endpoint) for known in node.links.book for a in node.links.book.addresses(known)},
        "groups": {g.id: (g.name, {u.id for u in g.members}, repr(g.owner), g.is_member) for g in peer.groups()},
        "history": {id: posts for id, posts in history.items() if posts},
        "invites": [(one.id, one.revoked_at) for one in people.invites()],
        "members": [(one.key, one.role) for one in people.members()],
    }


async def test_what_is_refused_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    disk = _FailingDisk()
    meshed = mesh("ada", "bob", "carol", "dave", "mallory", logins=True)
    meshed._hosts[0].storage = disk
    async with meshed as net:
        ada, bob, *_ = net.peers
        zoe = await ada.host("zoe")
        await ada.ignore("carol")
        await ada.send("carol", "hello")
        await ada.choose(f"chat:notify:{ada.find('carol').id}", "none")
        await ada.people.make_admin("bob")
        await ada.create_group("ops", ["bob"])
        await bob.create_group("theirs", ["ada"])
        post, poll = await ada.send("room", "first"), await ada.poll("room", "tea?", ["yes", "no"])
        await ada.pin(poll.id)
        await ada.make_invite()
        await net.settle()
        await asyncio.gather(*(peer.aclose() for peer in net.peers[3:]))
        await ada.people.expel("mallory")
        await ada.block("dave")
        await net.settle()
        names = {"POST": post.id, "POLL": poll.id, "INVITE": ada.people.invites()[0].id}
        before, at_bob = await _state(ada, ada), await _state(bob, bob)
        zoes = await _state(zoe, ada)
        shown = Shown(tmp_path / "out")
        session = open_session(ada, shown)
        disk.fails = True
        for name, fields in COMMANDS.items():
            line = {"do": name, **{key: names.get(str(value), value) for key, value in fields.items()}}
            await session.execute([json.dumps(line).encode()])
            assert shown.lines[-1]["event"] == "error", (name, shown.lines[-1])
            assert "disk" in shown.lines[-1]["text"] or "storage" in shown.lines[-1]["text"], shown.lines[-1]
            now = await _state(ada, ada)
            assert {key: now[key] for key in now if now[key] != before[key]} == {}, name
        for act in (zoe.rename("zoe2", about="new"), zoe.block("bob"), zoe.ignore("bob"), zoe.set_receipts(False)):
            with pytest.raises(StorageError):
                await act
            assert await _state(zoe, ada) == zoes
        disk.fails = False
        await until(lambda: ada._driver.node.storage.works, "storage works again")
        shown.raw.close()
        assert await _state(ada, ada) == before
        assert await _state(bob, bob) == at_bob
        await ada.aclose()
        ada = await net.restart(ada)
        await net.settle()
        assert await _state(ada, ada) == before
        assert await _state(bob, bob) == at_bob
        await ada.send("room", "and it goes on")
