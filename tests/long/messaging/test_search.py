"""Long tests of `tests/messaging/test_search.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2pchat import Message, Sent, open_history
from p2pchat.storage.search_words import parse_query
from tests.messaging.test_search import found, write
from tests.storage.writers import DM

QUERIES = (
    "fail", "backup failed", '"backup failed"', '"failed backup"', "cafe", "京タ", "東京", "สวัส", "everybody",
    "example.com", "naive 👍", "t", '"t panic"', "strasse", "a", "the", '"the the"', "zqzq", "हिन्दी", "nothing at all",
    "ubuntu", "how do i", '"do you"', "kern", "from:bob fail", 'from:"dan" the', "from:ada", '"backup f"*', "12 04 bob",
)  # fmt: skip


async def test_an_index_finds_what_a_scan_finds(tmp_path: Path) -> None:
    write(tmp_path / "ada", 500)
    async with open_history(tmp_path / "ada") as history:
        messages = await history.history(limit=0)
        middle, dm = messages[-200], history.conversation(DM)
        narrowings: list[tuple[dict[str, object], Callable[[Message | Sent], bool]]] = [
            ({}, lambda one: True),
            ({"conversation": "room"}, lambda one: one.conversation == history.room),
            ({"before": middle}, lambda one: messages.index(one) < messages.index(middle)),
            ({"since": middle.sent_at, "conversation": dm},
             lambda one: one.conversation == dm and one.sent_at >= middle.sent_at),
        ]  # fmt: skip
        count = 0
        for asked in QUERIES:
            query = parse_query(asked)
            for how, is_meant in narrowings:
                wanted = [
                    one.id
                    for one in messages
                    if is_meant(one) and query.sender in ("", one.sender.name) and query.matches(one.text)
                ][-40:]
                assert await found(history, asked, **how) == wanted, (asked, how)
                count += len(wanted)
    assert count > 800
