"""`ws /chat`: what clients say and are told, with real sockets."""

from __future__ import annotations

from tests.web.clients import chatting
from tests.web.conftest import Served


async def test_a_text_frame_goes_to_everybody_and_is_answered_when_it_is_kept(served: Served) -> None:
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob:
        await ada.say("hello, everybody")
        answer = await ada.answer()
        heard = await bob.message()
        assert answer == {"status": "ok", "id": heard["id"]}
        assert (heard["from"], heard["content"]) == ("ada", "hello, everybody")
        assert "to" not in heard and heard["timestamp"].endswith("Z")


async def test_a_ref_comes_back_with_the_answer(served: Served) -> None:
    async with chatting(served, "ada") as ada:
        await ada.say({"text": "hi", "ref": "7"})
        assert (await ada.answer())["ref"] == "7"
        await ada.say({"text": "", "ref": 8})
        refused = await ada.answer()
        assert (refused["status"], refused["code"], refused["ref"]) == ("error", "malformed", 8)


async def test_a_direct_message_is_for_one(served: Served) -> None:
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob, chatting(served, "cyd") as cyd:
        await ada.say("/dm bob psst")
        heard = await bob.message()
        assert (heard["from"], heard["to"], heard["content"]) == ("ada", "bob", "psst")
        await ada.say("loud")
        assert (await cyd.message())["content"] == "loud"
