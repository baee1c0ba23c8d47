"""The command `p2pchat agent`: an agent's client is told what is unread."""

from __future__ import annotations

import click

from p2pchat.cli import agent_hook
from p2pchat.cli import options as cli

HOOK_EPILOG = """\
It reads what the client says on standard input. It prints nothing, and ends with 0, if nothing is unread or no peer \
answers. What is printed is marked as read; if this is killed in between, it is printed once more.

\b
Examples:
  p2pchat agent hook stop reviewer
  p2pchat agent hook prompt /home/ada/peers/reviewer
"""


@click.group("agent", cls=cli.CommandGroup, epilog="Example: p2pchat agent hook stop reviewer")
def agent() -> None:
    """Tell an agent's client what is unread."""


@agent.command("hook", cls=cli.Command, epilog=HOOK_EPILOG)
@click.argument("words", nargs=-1, metavar="stop|prompt|tool AGENT")
def hook(words: tuple[str, ...]) -> int:
    """Print what is unread for an agent whose peer runs, in the form of its client.

    The client asks at the end of a turn (stop), with what its user writes (prompt), or after a tool. AGENT is a name,
    or the directory of a profile.
    """
    return agent_hook.answer_hook(words)
