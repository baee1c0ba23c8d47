"""An entry of each kind, written as its record says: by its first call, or as stands in SAMPLES."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from p2pchat import TCPPeer
from p2pchat.commands.command_table import fields_of
from p2pchat.kinds import KINDS, Kind
from p2pchat.kinds.call import Call
from tests.deadlines import WAIT, within

# What somebody who adds a record without calls writes by hand: ada does it once, and bob is there.
SAMPLES: dict[str, Callable[[TCPPeer, TCPPeer, str], Awaitable[object]]] = {
    "text": lambda ada, bob, text: ada.broadcast(text),
    "action": lambda ada, bob, text: ada.send("room", text, action=True),
    "profile": lambda ada, bob, text: ada.rename("lovelace"),
    "group": lambda ada, bob, text: ada.create_group("ops", ["bob"]),
}


async def write(kind: Kind, ada: TCPPeer, bob: TCPPeer, text: str) -> None:
    """Have ada write an entry of a kind, by the first call of its record. She has written to the room before."""
    if not kind.calls:
        await SAMPLES[kind.name](ada, bob, text)
        return
    about = [await subject(kind, ada, bob)] if kind.about else []
    await getattr(ada, kind.calls[0].method or kind.calls[0].name)(*about, **given(kind.calls[0], text))


def given(call: Call, text: str) -> dict[str, Any]:
    """Return values for the fields of a call, but for the message that it is about."""
    values = {"place": "room", "text": text, "int": 2, "list": ["pizza", "soup"]}
    return {name: values[field.kind] for name, field in fields_of(call.fields).items() if field.kind in values}


async def subject(kind: Kind, ada: TCPPeer, bob: TCPPeer) -> str:
    """Return the id of a message that ada may write an entry of this kind about."""
    found = await ada.history("room")
    if not kind.on:
        return [post.id for post in found if post.by.is_me][-1]
    may = [post for post in found if post.by.is_me or kind.about == "any"]
    asked = [post for post in may if post._entry.k == kind.on and not post.closed_at]
    if asked:
        return asked[0].id
    asker = ada if kind.about == "own" else bob
    await write(KINDS[kind.on], asker, bob, "lunch?")
    [id] = [post.id for post in await asker.history("room") if post._entry.k == kind.on and not post.closed_at]
    async with within(WAIT, "what it is about"):
        while id not in [post.id for post in await ada.history("room")]:
            await asyncio.sleep(0.01)
    return id
