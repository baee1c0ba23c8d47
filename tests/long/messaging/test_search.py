"""Long tests of `tests/messaging/test_search.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import open_history
from tests.messaging.test_search import found, indexed, write
from tests.storage.writers import DM

QUERIES = (
    "fail", "backup failed", '"backup failed"', '"failed backup"', "cafe", "京タ", "東京", "สวัส", "everybody",
    "example.com", "naive 👍", "t", '"t panic"', "strasse", "a", "the", '"the the"', "zqzq", "हिन्दी", "nothing at all",
    "ubuntu", "how do i", '"do you"', "kern", "from:bob fail", 'from:"dan" the', "from:ada", '"backup f"*', "12 04 bob",
)  # fmt: skip


async def test_an_index_finds_what_a_scan_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ada", 500)
    async with open_history(tmp_path / "ada") as plain:
        middle = (await plain.history(limit=200))[0]
        narrowings: list[dict[str, object]] = [{}, {"conversation": "room"}, {"sender": "cyd"}, {"before": middle}]
        narrowings.append({"since": middle.sent_at, "conversation": plain.conversation(DM)})
        wanted = [[await found(plain, asked, **how) for how in narrowings] for asked in QUERIES]
    assert not (tmp_path / "ada" / "search.db").exists()
    assert sum(len(ids) for row in wanted for ids in row) > 800
    async with indexed(tmp_path / "ada", monkeypatch) as history:
        got = [[await found(history, asked, **how) for how in narrowings] for asked in QUERIES]
        assert (tmp_path / "ada" / "search.db").exists()
    assert got == wanted
