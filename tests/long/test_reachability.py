"""Long tests of `tests/test_reachability.py`."""

from __future__ import annotations

import pytest

from p2pchat import probe
from tests.test_reachability import Talk, listening, over_tls, say_nothing


@pytest.mark.parametrize("talk", [say_nothing, over_tls()], ids=["silent", "tls-only"])
async def test_who_says_nothing_is_silent_once_the_time_is_over(talk: Talk) -> None:
    async with listening(talk) as endpoint:
        there = await probe(endpoint, timeout=2)
    assert there.verdict == "silent" and there.text.isprintable() and there.address == "127.0.0.1"
