"""A peer whose places are all taken, with real processes: who knows only that one joins through another."""

from __future__ import annotations

import pytest

from tests.processes.peers import Cluster
from tests.processes.settings_override import changes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.relayed(always=False)
async def test_a_newcomer_that_knows_only_a_full_peer_joins_through_another(quick: Cluster) -> None:
    ada = quick.child("ada", changes=changes({"max_links": 1}))
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    await ada.event("joined", user="bob")
    cyd = quick.child("cyd", ada.endpoint)
    await cyd.start()
    await cyd.event("link", state="refused", code="busy")
    await cyd.event("joined", user="bob")
    await cyd.do(do="send", to="room", text="is somebody here?")
    await bob.event("message", text="is somebody here?")
    await ada.event("message", text="is somebody here?")  # by bob
    await ada.do(do="send", to="room", text="no place here, but yes")
    await cyd.event("message", text="no place here, but yes")
