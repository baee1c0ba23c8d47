"""Receipts of files for programs, with real peers, disks and links."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import DeliveryTimeout, FileReceipt, Settings, TCPPeer
from tests.deadlines import until, within
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.messaging.test_attachments import DATA, newest

BY_HAND = Settings(auto_fetch_bytes=0)


async def test_a_sender_learns_who_has_the_file_and_who_removed_it(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        async with ada.events(FileReceipt, consumer=None) as news, within(60, "receipts"):
            await ada.wait_user("bob")
            receipt = await ada.send("bob", "", files=[("a.bin", DATA)])
            await receipt.delivered()
            assert receipt.files_delivered_to == [] and receipt.status == "delivered"
            with pytest.raises(DeliveryTimeout) as caught:
                await receipt.files_delivered(timeout=0.01)
            assert caught.value.missing == ["bob"]
            message = await bob.message(receipt.id)
            await message.attachments[0].fetch()
            await receipt.files_delivered()
            assert [user.label for user in receipt.files_delivered_to] == ["bob"]
            event = await anext(news)
            assert (event.user.label, event.has, event.count, event.of) == ("bob", True, 1, 1)
            assert event.to_dict()["event"] == "file_receipt" and event.id == receipt.id
            await message.attachments[0].forget()
            event = await anext(news)
            assert (event.user.label, event.has, event.count, event.of) == ("bob", False, 0, 1)
            assert receipt.files_delivered_to == []


async def test_others_are_known_to_have_a_file_that_was_removed_here(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob") as bob,
        TCPPeer(data=home / "cyd", name="cyd") as cyd,
    ):
        assert await bob.connect(ada.port) and await cyd.connect(ada.port) and await cyd.connect(bob.port)
        await ada.send(ada.room, "", files=[("a.bin", DATA)])
        file = (await newest(cyd)).attachments[0]
        await until(lambda: {user.label for user in file.held_by} == {"ada", "bob"}, "who has it")
        async with within(60, "the file"):
            await file.fetch()
            await file.forget()
        assert file.is_forgotten and file.to_dict()["forgotten"] and file.to_dict()["held_by"] == 2
        theirs = (await newest(bob)).attachments[0]
        await until(lambda: [user.label for user in theirs.held_by] == ["ada"], "that cyd removed it")


async def test_who_has_a_file_is_asked_again_after_a_restart(home: Path) -> None:
    async with TCPPeer(data=home / "bob", name="bob") as bob:
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            assert await bob.connect(ada.port)
            await ada.wait_user("bob")
            id = (await ada.send("bob", "", files=[("a.bin", b"123")])).id
        async with TCPPeer(data=home / "ada", name="ada") as ada, within(60, "who has it"):
            receipt = await ada.receipt(id)
            assert receipt.files_delivered_to == []
            assert await bob.connect(ada.port)
            await receipt.files_delivered(by="bob")


async def test_a_message_without_files_waits_for_none(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        receipt = await ada.send(ada.room, "hi")
        await receipt.files_delivered(timeout=60)
        assert receipt.files_delivered_to == []


async def test_users_of_one_peer_have_what_it_has(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        bob, cyd = await ada.host("bob"), await ada.host("cyd")
        receipt = await bob.send(cyd.me, "", files=[("a.bin", DATA)])
        assert [user.label for user in receipt.files_delivered_to] == ["cyd"]
        [stored] = await ada.stored_files()
        assert stored.held_by == [] and stored.is_only_here  # all of them have it on this one disk
        await receipt.files_delivered(timeout=60)
