"""What is missing before a message, and who had it: said as long as it is so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from p2pchat import Gap, Message
from p2pchat.core.log import Ref
from p2pchat.messaging.messages import who_had
from p2pchat.testing import mesh
from p2pchat.testing.meshes import QUICK

SOON = replace(QUICK, order_wait=0.2)


def frames(file: Path) -> list[bytes]:
    """Return the frames of an export as they stand there, each with its length before it."""
    data, found = file.read_bytes(), []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(data[:end])
        data = data[end:]
    return found


async def test_an_answer_without_its_question_and_then_with_it(tmp_path: Path) -> None:
    """Two sticks: on the one bob's words alone, for somebody cut ada's out of it; on the other everything."""
    async with mesh("ada", "bob", "cyd", settings=SOON) as net:
        ada, bob, cyd = net.peers
        await net.settle()
        net.partition([ada, bob], [cyd])
        question = await ada.broadcast("shall we?")
        await question.delivered(by="bob", timeout=5)
        answer = await (await bob.message(question.id)).reply("yes")
        await bob.export(tmp_path / "whole")
        kept = [frame for frame in frames(tmp_path / "whole") if f'"u":"{ada.me.key}"'.encode() not in frame]
        (tmp_path / "cut").write_bytes(b"".join(kept))

        gaps, messages = cyd.events(Gap), cyd.events(Message)
        await cyd.import_from(tmp_path / "cut")
        told, shown = await anext(gaps), await anext(messages)
        assert (shown.text, shown.gap, shown.to_json()["gap"]) == ("yes", True, True)
        assert (told.about, told.missing, told.last_seen_with) == (answer.id, (question.id,), ("ada", "bob"))
        assert told.text == "1 earlier message is missing here"
        still = await cyd.missing(shown)
        assert still is not None
        assert (still.about, still.missing, still.last_seen_with) == (told.about, told.missing, told.last_seen_with)

        await cyd.import_from(tmp_path / "whole")
        assert (await anext(messages)).text == "shall we?"
        [first, second] = await cyd.history("room")
        assert [first.text, second.text] == ["shall we?", "yes"]  # it stands where it belongs
        assert second.gap and await cyd.missing(second) is None  # as it was shown, and as it is now
        assert await cyd.missing(first) is None and await bob.missing(await bob.message(answer.id)) is None


async def test_who_had_something_is_told_once_and_never_oneself() -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        await net.settle()
        of = {peer.me.name: peer.me.key for peer in net.peers}
        refs = [Ref(of[name][:16] + "01" * 8, 1) for name in ("ada", "bob")]
        assert who_had(cyd.people, of["bob"], refs, [of["bob"]]) == ("ada", "bob")
        assert who_had(ada.people, of["bob"], refs[:1]) == ("bob",)
        assert who_had(bob.people, of["ada"], [Ref("77" * 16, 1)]) == ("ada",)  # a writer nobody here knows
