"""The command line of a bot (bots.py): that of a peer, without input.

A bot is a program of its own, so it runs until a signal, writes a line for each command to stderr, and answers the
commands that work beside a running peer, as `p2pchat tail`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click

from p2pchat import TCPPeer
from p2pchat.cli import options as cli
from p2pchat.cli.endpoint_status import running_peer
from p2pchat.cli.process import (
    STOP_REASONS,
    NoticeLogHandler,
    Shutdown,
    allow_descriptors,
    make_runner,
)
from p2pchat.cli.profiles import PeerOptions, parsed_options, read_peer_invite
from p2pchat.cli.standard_input import InputEnded, stdin_kind
from p2pchat.commands.display import Display
from p2pchat.commands.exit_codes import DONE, FAILED, INTERRUPTED, exit_code, print_error, worst_code
from p2pchat.commands.standard_output import EventLogFile, StdoutWriter, raw_stdout

Serve = Callable[[TCPPeer], Coroutine[Any, Any, None]]

EPILOG = """\
\b
Examples:
  python BOT.py 8085 8080                link with the peer on port 8080 of this machine
  python BOT.py 8085 --invite FILE       join the network of an invite
  python BOT.py 8085 8080 --data DIR     keep its identity and history in DIR

Exit codes: 0 stopped in good order; 1 failure; 2 usage; 130 interrupted.
"""


def run_bot(name: str, serve: Serve, argv: Sequence[str] | None) -> int:
    """Run a bot until a signal, and return the exit code; errors are one line on stderr.

    Args:
        name: Its name, unless --name gives another.
        serve: What it does on the started peer, until it is cancelled.
        argv: The words of the command line without the program's name; None for those of the process.
    """

    @click.command(cls=cli.Command, epilog=EPILOG, context_settings=cli.CONTEXT)
    @click.argument("port", type=cli.PORT_OR_ANY)
    @cli.endpoints_argument
    @cli.peer_options
    @cli.verbose_option
    def command(**values: Any) -> int:
        return _run(serve, parsed_options(PeerOptions, values, name=name))

    command.help = f"Run the bot {name}.\n\nPORT is its own, 0 for any free one; HOST:PORT are peers to link with."
    try:
        code: int = command.main(None if argv is None else list(argv), standalone_mode=False)
        return code or DONE
    except click.ClickException as error:
        print_error(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # exit_code() raises what is not an error of p2pchat again
        print_error(str(error) or type(error).__name__)
        return exit_code(error)


def _run(serve: Serve, options: PeerOptions) -> int:
    allow_descriptors()
    try:
        invite = read_peer_invite(options, stdin_kind())
    except InputEnded:
        return DONE
    with make_runner() as runner:
        return runner.run(_BotRun(serve, options, invite).run())


class _BotRun:
    """One run of a bot. `invite` is the text of an invite, None for none."""

    def __init__(self, serve: Serve, options: PeerOptions, invite: str | None) -> None:
        self._serve = serve
        self._options = options
        self._invite = invite

    async def run(self) -> int:
        """Run until a signal or the end of the peer; return the exit code."""
        options = self._options
        shutdown = self._shutdown = Shutdown()
        log = EventLogFile(options.log) if options.log else None
        output = StdoutWriter(raw_stdout() if options.as_json else None)
        self._display = Display(output, log)
        handler, logger = NoticeLogHandler("-- %(message)s"), logging.getLogger("p2pchat")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if options.verbose else logging.ERROR)
        logging.getLogger("p2pchat.bots").setLevel(logging.INFO)
        try:
            with shutdown.on_signals():
                code = await self._run_peer()
            return worst_code(code, FAILED) if log is not None and log.failed else code
        finally:
            logger.removeHandler(handler)
            self._display.close()

    async def _run_peer(self) -> int:
        reason = "ended"
        async with running_peer(
            self._options, self._invite, self._shutdown, lambda: STOP_REASONS[reason],
            lambda event: self._display.show_event(event.to_dict()),
        ) as (peer, _, endpoints):  # fmt: skip
            serving = asyncio.create_task(self._serve(peer))
            serving.add_done_callback(lambda _: self._shutdown.request("ended"))
            reason = await self._shutdown.wait()
            serving.cancel()
            [result] = await asyncio.gather(serving, return_exceptions=True)
        if isinstance(result, Exception):
            raise result
        if endpoints.not_admitted is not None:
            print_error(endpoints.not_admitted.text)
            return FAILED
        if reason in ("ended", "refused"):
            print_error("the bot stopped by itself; what it accepted is saved: start it again")
            return FAILED
        return INTERRUPTED if reason == "interrupted" else DONE
