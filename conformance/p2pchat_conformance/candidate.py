"""p2pchat as a candidate of the conformance kit: a program of the public API that does what docs/conformance.md asks.

    python -m p2pchat_conformance.candidate --data DIR --port 8090
    python -m p2pchat_conformance.candidate --data DIR --invite p2pchat:...

It prints an invite, or where it listens if it joined with one. Another one, in another language, answers the same
messages.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from p2pchat import HOP_LIMIT, Group, HostedUser, InviteError, Message, P2PChatError, Settings, TCPPeer

DONE = "done"  # the answer to a command that was carried out
ECHO = "echo "  # before what is to be said in the room or a group


class ConformanceCandidate:
    """Answers messages to one peer, and to the users whom it hosts."""

    def __init__(self, peer: TCPPeer) -> None:
        self._peer = peer
        self._tasks: dict[str, asyncio.Task[None]] = {}  # of hosted users, by name
        self._commands: dict[str, Callable[[list[str], Message], Awaitable[None]]] = {
            "group": self._create_group, "add": self._add, "remove": self._remove, "leave": self._leave,
            "hand-over": self._hand_over, "host": self._host, "unhost": self._unhost,
            "export": self._export, "import": self._import, "attach": self._attach, "fetch": self._fetch,
            "invite": self._invite,
        }  # fmt: skip

    async def run(self) -> None:
        """Answer everything that comes, until the peer is closed."""
        for user in self._peer.hosted:
            self._answer_as(user)
        async for message in self._peer.events(Message):
            if not message.old and not message.deleted:
                message.mark_read()
                if message.unsupported is None:
                    await self._on_message(message)

    async def _on_message(self, message: Message) -> None:
        if message.conversation.kind != "dm":
            if message.text.startswith(ECHO):
                await self._reply(message, message.text.removeprefix(ECHO))
            return
        word, *arguments = message.text.split() or [""]
        command = self._commands.get(word.removeprefix("/")) if word.startswith("/") else None
        if command is None:
            await self._reply(message, message.text)
            return
        try:
            await command(arguments, message)
        except (P2PChatError, ValueError, IndexError, OSError) as error:
            await self._reply(message, f"failed: {error}")
        else:
            await self._reply(message, DONE)

    async def _reply(self, message: Message, text: str, user: HostedUser | None = None) -> None:
        if message.automatic or message.hops >= HOP_LIMIT:
            return
        hops = message.hops + 1 if message.hops else 0
        with suppress(P2PChatError, ValueError):  # no member any more, or a text that nobody can write
            await (user or self._peer).send(message.conversation, text, reply_to=message, hops=hops)

    # ---- commands

    async def _create_group(self, arguments: list[str], message: Message) -> None:
        name, *users = arguments
        await self._peer.create_group(name, [message.sender, *users])

    async def _add(self, arguments: list[str], message: Message) -> None:
        await self._group(arguments[0]).add(*arguments[1:])

    async def _remove(self, arguments: list[str], message: Message) -> None:
        await self._group(arguments[0]).remove(*arguments[1:])

    async def _hand_over(self, arguments: list[str], message: Message) -> None:
        await self._group(arguments[0]).hand_over(arguments[1])

    async def _leave(self, arguments: list[str], message: Message) -> None:
        await self._group(arguments[0]).leave()

    def _group(self, name: str) -> Group:
        return self._peer.group(name)

    async def _host(self, arguments: list[str], message: Message) -> None:
        user = await self._peer.host(arguments[0])
        user.set_presence("online")
        self._answer_as(user)

    async def _unhost(self, arguments: list[str], message: Message) -> None:
        task = self._tasks.pop(arguments[0])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        user = next(user for user in self._peer.hosted if user.name == arguments[0])
        await self._peer.unhost(user)

    async def _export(self, arguments: list[str], message: Message) -> None:
        await self._peer.export(arguments[0])

    async def _import(self, arguments: list[str], message: Message) -> None:
        await self._peer.import_from(arguments[0])

    async def _attach(self, arguments: list[str], message: Message) -> None:
        name, size = arguments[0], int(arguments[1])
        content = (name * (size // len(name) + 1)).encode()[:size]
        await self._peer.send(message.conversation, "", files=[(name, content)])

    async def _fetch(self, arguments: list[str], message: Message) -> None:
        for file in message.attachments:
            await file.fetch()

    async def _invite(self, arguments: list[str], message: Message) -> None:
        uses, seconds = int(arguments[0]), float(arguments[1])
        await self._reply(message, await self._peer.make_invite(uses=uses, days=seconds / 86_400))

    def _answer_as(self, user: HostedUser) -> None:
        if user.name not in self._tasks:
            self._tasks[user.name] = asyncio.create_task(self._answer_for(user))

    async def _answer_for(self, user: HostedUser) -> None:
        """Answer the direct messages of a hosted user."""
        async for message in user.events(Message):
            if message.conversation.kind == "dm" and not message.old:
                message.mark_read()
                await self._reply(message, message.text, user)


async def _main(options: argparse.Namespace) -> None:
    peer = TCPPeer(options.port, name="echo", data=options.data, temporary=options.data is None, invite=options.invite,
                   settings=Settings(start_timeout=0.5))  # fmt: skip
    stop = asyncio.Event()
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with peer:
        try:
            print(await peer.make_invite(uses=64, days=1), flush=True)
        except InviteError:  # it joined with an invite, and others invite
            print(peer.endpoint, flush=True)
        running = asyncio.create_task(ConformanceCandidate(peer).run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m p2pchat_conformance.candidate", description=__doc__)
    _parser.add_argument("--port", type=int, default=0, help="where to listen (default: any free port)")
    _parser.add_argument("--data", metavar="DIR", help="where identity and history are (default: nowhere)")
    _parser.add_argument("--invite", help="the network to join: the invite that the kit has printed with --listen")
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(_parser.parse_args()))
    sys.exit(0)
