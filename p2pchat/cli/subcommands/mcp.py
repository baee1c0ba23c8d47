"""The command `p2pchat mcp`: an agent as a member, for a program that speaks the Model Context Protocol."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from p2pchat import profile_directory
from p2pchat.addresses import LOOPBACK
from p2pchat.cli import options as cli
from p2pchat.cli.process import Shutdown, allow_descriptors, make_runner, show_library_logs
from p2pchat.cli.profiles import (
    PeerOptions,
    free_port,
    is_free,
    parsed_options,
    read_peer_invite,
    recall_start,
    started_before,
)
from p2pchat.cli.standard_input import InputKind
from p2pchat.commands.exit_codes import DONE, INTERRUPTED, CommandError, UsageError, exit_code, print_error
from p2pchat.extras import missing_extra

KINDS = ("read", "write", "files", "groups")
USUAL_NAME = "agent"
USUAL_RATE = 20

EPILOG = """\
A client starts this command, and talks to it on standard input and output. Of one profile one process runs the peer, \
and others use it. What it says for people is on standard error.

\b
Examples:
  p2pchat mcp --name reviewer                  a peer of its own, linked with yours
  p2pchat mcp 8091 localhost:8080 --name ci    on this port, linked with that peer
  p2pchat mcp 8091 --invite FILE --name ci     in the network of an invite
  p2pchat mcp --name ci --may read             it only reads
  p2pchat mcp --name ci --may read,write,files --files DIR

Exit codes: 0 the client ended; 1 failure; 2 usage; 130 interrupted.
"""


def _parse_may(text: str) -> frozenset[str]:
    words = frozenset(text.replace(",", " ").split())
    if not words or not words <= set(KINDS):
        raise ValueError(f"{text!r} is not a list of {', '.join(KINDS)}, with commas")
    return words


@click.command("mcp", cls=cli.Command, epilog=EPILOG)
@click.argument("port", required=False, type=cli.PORT_OR_ANY, shell_complete=cli.complete_port)
@cli.endpoints_argument
@cli.option(
    "--may",
    "WHAT",
    "what the agent may do: read, write, files, groups (default read,write)",
    type=cli.ParsedType("list", _parse_may),
    default="read,write",
)
@cli.option(
    "--files",
    "DIR",
    "the one directory whose files it may send, and where it may save some",
    type=click.Path(exists=True, file_okay=False),
    shell_complete=cli.complete_directory,
)
@cli.option(
    "--rate", "N", f"how much it may write in a minute (default {USUAL_RATE})", type=cli.number(1), default=USUAL_RATE
)
@cli.peer_options
@cli.verbose_option
def mcp(may: frozenset[str], files: str | None, rate: int, **values: Any) -> int:
    """Make an agent a member: serve tools of the Model Context Protocol (extra: mcp).

    PORT is the agent's own, HOST:PORT are peers to link with. Without PORT it is the profile with this --name, or a new
    one, linked with your newest peer that runs.
    """
    if find_spec("mcp") is None:
        raise CommandError(missing_extra("p2pchat mcp needs mcp", "mcp"))
    if ("files" in may) != (files is not None):
        raise UsageError("files have a directory: give --may with files, and --files DIR")
    for name in ("json", "plain"):
        if values[f"as_{name}" if name == "json" else name]:
            raise UsageError(f"--{name} cannot be: standard output is for the client")
    options = parsed_options(PeerOptions, {**values, "port": values["port"] or 0})
    if values["port"] is None and not (options.data or options.temp):
        _choose_profile(options)
    show_library_logs(verbose=options.verbose)
    allow_descriptors()
    invite = read_peer_invite(options, InputKind.NONE)
    with make_runner() as runner:
        return runner.run(_run(options, invite, may, Path(files).absolute() if files else None, rate))


def _choose_profile(options: PeerOptions) -> None:
    """Take the profile that has the agent's name, or a new one; link it with the newest other peer that runs."""
    options.name = options.name or USUAL_NAME
    known = started_before(options.network)
    found = next((one for one in known if one.name == options.name), None)
    if found is not None:
        recall_start(options, found.directory)
    running = [one for one in known if one.holder is not None and one is not found]
    if running and not options.endpoints and not options.invite:
        options.endpoints = (f"{LOOPBACK}:{max(running, key=lambda one: one.held_at).port}",)
    if found is not None and (found.holder is not None or is_free(options.host, found.port)):
        options.port = found.port
    else:
        options.port = free_port(options.host, {one.port for one in known})
        options.data = "" if found is None else str(found.directory)


def _directory(options: PeerOptions) -> Path | None:
    if options.is_temporary:
        return None
    return Path(os.path.expanduser(options.data) if options.data else profile_directory(options.port, options.network))


async def _run(
    options: PeerOptions, invite: str | None, may: frozenset[str], files: Path | None, rate: int
) -> int:  # fmt: skip
    """Run until the client closes standard input, the peer fails, or a signal; return the exit code."""
    from p2pchat.cli.agent import Agent
    from p2pchat.cli.agent_peer import AgentPeer
    from p2pchat.cli.agent_server import AgentServer

    shutdown, news = Shutdown(), asyncio.Event()
    directory = _directory(options)
    peer = AgentPeer(options, directory and directory.absolute(), invite, shutdown)
    agent = Agent(peer, files=files, rate=rate, on_news=news.set)

    async def serve() -> None:
        await peer.connected()
        await AgentServer(agent, may, news).run()

    with shutdown.on_signals(), peer.listening(agent.on_line):
        serving, connecting = asyncio.create_task(serve()), asyncio.create_task(peer.run())
        for task in (serving, connecting):
            task.add_done_callback(lambda _: shutdown.request("ended"))
        reason = await shutdown.wait()
        connecting.cancel()
        [failed] = await asyncio.gather(connecting, return_exceptions=True)
        if serving.done():
            serving.result()
    code = INTERRUPTED if reason == "interrupted" else DONE
    if isinstance(failed, Exception):
        print_error(str(failed))
        code = exit_code(failed)
    if not serving.done():
        os._exit(code)  # nothing ends the thread that waits for standard input
    return code
