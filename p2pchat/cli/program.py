"""The command `p2pchat`: the chat, which runs when no command is named, and all other commands.

A command is imported when it runs. `p2pchat --help` imports none of them, so their summaries stand here.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from p2pchat import __version__
from p2pchat.cli.options import (
    COMPLETE,
    CONTEXT,
    ENDPOINT,
    PORT_OR_ANY,
    PORT_VARIABLE,
    SECONDS,
    Command,
    CommandGroup,
    complete_port,
    option,
    peer_options,
    stay_option,
    verbose_option,
)
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.shell_command import quoted

# Name -> where the command is below p2pchat.cli.subcommands, and its summary; in the order of --help.
COMMANDS = {
    "demo": ("demo:demo", "the tour: real peers, a kill, a restart, receipts"),
    "send": ("send:send", "send one message, or each line of a pipe"),
    "get": ("files:get", "save the files of a message"),
    "on": ("command_runs:on", "run a command for each message, and answer with its output"),
    "tail": ("stored_messages:tail", "follow what is said"),
    "history": ("stored_messages:history", "print what was said, oldest first"),
    "delete": ("stored_messages:delete", "delete what is stored here of a conversation"),
    "files": ("files:files", "what files take space here, and remove some"),
    "forget-file": ("files:forget_file", "remove a file from this disk"),
    "users": ("user_list:users", "who is here, and with whom you talk"),
    "check": ("check:check", "check event logs: was every promise kept?"),
    "invite": ("invite:invite", "an invite, and the command for another machine"),
    "members": ("members:members", "who belongs to the network, by whose word"),
    "expel": ("members:expel", "expel a person, or who came by an invite"),
    "pardon": ("members:pardon", "take back that somebody was expelled"),
    "admin": ("members:admin", "let a member invite and expel"),
    "unadmin": ("members:unadmin", "make an admin a plain member again"),
    "device": ("own_devices:device", "another machine for the same person"),
    "devices": ("own_devices:devices", "your machines"),
    "network": ("login_network:network", "this login's network: show it, copy its key, found another"),
    "doctor": ("doctor:doctor", "what is wrong, and how to fix it"),
    "export": ("archive:export", "write what is stored into a file that others can import"),
    "import": ("archive:import_", "import a file that export wrote"),
    "backup": ("archive:backup", "copy a peer, key and history, also while it runs"),
    "db": ("archive:db", "move what is stored to another database"),
    "web": ("web:web", "a page, REST, WebSocket and Socket.IO for others"),
    "mcp": ("mcp:mcp", "an agent as a member: tools of the Model Context Protocol"),
    "agent": ("agent_setup:agent", "what is unread, for the hooks of an agent's client"),
    "client": ("gateway_client:client", "chat through a gateway, without a peer of your own"),
    "completion": ("completion:completion", "completion for bash, zsh or fish"),
}


def load(name: str) -> Any:
    """Import and return "module:attribute" below p2pchat.cli.

    Nothing that an import creates is garbage. Looking for some meanwhile took a seventh of a start.
    """
    module, _, attribute = name.partition(":")
    collects = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(f"p2pchat.cli.{module}"), attribute)
    finally:
        if collects:
            gc.enable()


class Program(CommandGroup):
    """The command `p2pchat` itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        word, _ = self.split(args)
        is_port = word.isascii() and word.isdecimal() and int(word[:6]) <= 65535
        if word and not is_port and word not in COMMANDS and not ctx.resilient_parsing:
            options = {name for option in self.all_options() for name in option.opts}
            for before in args[: args.index(word)]:
                if before.startswith("--") and before not in options | {"--help", "--version"} and "=" not in before:
                    raise click.NoSuchOption(before, possibilities=get_close_matches(before, options, n=1))
            raise unknown_command(word, args[args.index(word) + 1 :])
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = load(f"subcommands.{COMMANDS[cmd_name][0]}")
        return command

    def summaries(self, ctx: click.Context) -> dict[str, str]:
        return {name: summary for name, (_, summary) in COMMANDS.items()}


def unknown_command(word: str, others: Sequence[str] = ()) -> UsageError:
    """Return the error for a first word that is neither a port nor a command, and has others behind it."""
    if word.lstrip("-").isdecimal():
        return UsageError(f"{word!r} is not a port: 0 to 65535, where 0 is any free one with a temporary profile")
    if ":" in word:
        return UsageError(f"{word!r} is where to connect: put your own port before it: p2pchat 8081 {word}")
    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    hints = [f"did you mean {near[0]}?"] if near else []
    if others and not others[0].startswith("-"):
        hints.append(f"to write to {word}: p2pchat send {' '.join(map(quoted, [word, *others]))}")
    hint = " ".join(hints) or f"{', '.join(COMMANDS)} are commands, and 8080 could be a port: p2pchat 8080"
    return UsageError(f"{word!r} is neither a port nor a command: {hint}")


CHAT_EPILOG = """\
\b
Examples:
  p2pchat                                      asks for what it needs
  p2pchat 8080 --name ada                      ada listens on this machine
  p2pchat 8081 8080 --name bob                 bob joins her
  p2pchat 8080 --host 0.0.0.0                  others may join: shows the invite
  p2pchat --invite -                           join another machine's network
  echo "backup finished" | p2pchat 8082 8080   one message, then leave
  p2pchat 8083 8080 --json </dev/null          only read, and stay
  p2pchat history bob --port 8080 --since 7d   what was said
  p2pchat 8080 --trace frames.jsonl            every frame, for writing a peer

Each option has a variable: --name is P2PCHAT_NAME. P2PCHAT_HOME moves everything p2pchat keeps. \
`python -m p2pchat` and `p2pchat` are the same.

Input: text goes to the room; /msg bob TEXT to bob alone; /help lists the commands. With --json an input line may be \
an object:

\b
    {"do":"send","to":"bob","text":"hi","ref":"7"}

A pipe or file is read to its end, also when nobody reads the output any more; then p2pchat waits for deliveries and \
leaves (--stay: goes on). /dev/null or closed input is no input: it stays until a signal ends it, under `&`, systemd \
and cron too.

\b
Exit codes:
  0    everything sent was delivered
  1    failure: port, database, locked, refused by the network
  2    usage: option, endpoint, invite, name, a line that is not understood
  3    saved, not delivered yet: sent at the next start
  4    no such name, or several
  130  interrupted by Ctrl-C; SIGTERM and SIGHUP end it in good order, with 0 or 3
"""


@click.command("chat", cls=Command, context_settings=CONTEXT, epilog=CHAT_EPILOG)
@click.argument("port", required=False, type=PORT_OR_ANY, envvar=PORT_VARIABLE, shell_complete=complete_port)
@click.argument("endpoints", nargs=-1, type=ENDPOINT, metavar="[HOST:PORT]...")
@peer_options
@option("--drain", "SECONDS", "how long to wait for deliveries at the end (default 5)", type=SECONDS)
@stay_option
@verbose_option
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name="p2pchat", help="the version")
@click.pass_context
def chat(ctx: click.Context, /, **values: Any) -> int:
    """Chat with other peers, without a server.

    PORT is where this peer listens; HOST:PORT are peers to link with, a bare port means this machine. Knowing one peer
    is enough, and the next start needs none. Without PORT, on a terminal, p2pchat asks for a name and picks a port, or
    starts again what ran before.
    """
    _, others = program.split(ctx.meta.get(WORDS, []))
    code: int = load("chat:run_chat")(ctx, others)
    return code


WORDS = "p2pchat.words"  # key in a context's meta: the words of the command line

program: Program = Program("p2pchat", context_settings=CONTEXT, add_help_option=False)
program.default = chat


def run(words: list[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        UsageError: The command line is not understood.
    """
    if COMPLETE in os.environ:
        answer: int = load("subcommands.completion:answer")(program)
        return answer
    try:
        with program.make_context("p2pchat", list(words)) as context:
            context.meta[WORDS] = words
            code: int = program.invoke(context)
            return code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        hint = "" if isinstance(error, click.BadParameter) else " (--help shows more)"
        text = " ".join(error.format_message().split()).rstrip(".")  # click puts choices on lines of their own
        if isinstance(error, click.MissingParameter) and error.ctx is not None:
            hint = ", as in: " + " ".join([error.ctx.command_path, *error.ctx.command.collect_usage_pieces(error.ctx)])
        raise UsageError(text + hint) from None
