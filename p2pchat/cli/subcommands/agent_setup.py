"""The commands `p2pchat agent`: an agent's client is told what is unread, and set up to ask."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pchat.cli import agent_hook
from p2pchat.cli import options as cli
from p2pchat.commands.exit_codes import DONE, CommandError, print_notice
from p2pchat.commands.shell_command import command
from p2pchat.private_files import write_private

HOOK_EPILOG = """\
It reads what the client says on standard input. It prints nothing, and ends with 0, if nothing is unread or no peer \
answers. What is printed is marked as read; if this is killed in between, it is printed once more.

\b
Examples:
  p2pchat agent hook stop reviewer
  p2pchat agent hook prompt /home/ada/peers/reviewer
"""
SETUP_EPILOG = """\
What else stands in the file stays. The same again changes nothing.

\b
Examples:
  p2pchat agent setup claude reviewer
  p2pchat agent setup codex reviewer --write
  p2pchat agent setup codex reviewer --remove
"""
FILES = {"claude": ".claude/settings.json", "codex": ".codex/hooks.json"}  # in the directory of a project


@click.group("agent", cls=cli.CommandGroup, epilog="Example: p2pchat agent setup claude reviewer --write")
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


@agent.command("setup", cls=cli.Command, epilog=SETUP_EPILOG)
@click.argument("client", type=click.Choice(list(FILES)))
@click.argument("name", metavar="AGENT")
@cli.option("--write", "", "write it there")
@cli.option("--remove", "", "take out of it what --write wrote")
def setup(client: str, name: str, write: bool, remove: bool) -> int:
    """Print what has an agent's client run the hooks, for the directory of a project."""
    path, found = Path(FILES[client]).resolve(), {}
    try:
        if path.exists():
            found = json.loads(path.read_bytes())
        hooks = found.setdefault("hooks", {})
        for word, event in agent_hook.EVENTS.items():
            own = {"hooks": [{"type": "command", "command": command("agent", "hook", word, name)}]}
            groups = [group for group in hooks.pop(event, []) if group != own]
            if not remove:
                groups.append(own)
            if groups:
                hooks[event] = groups
    except agent_hook.NO_ANSWER as error:
        raise CommandError(f"{path} stays as it is, no settings that {client} could read: {error}") from None
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if write or remove:
        path.parent.mkdir(exist_ok=True)
        write_private(path, text.encode())
        text = f"{path} is written"
    print(text)
    print_notice(f"-- for {path}; its tools: {client} mcp add p2pchat -- {command('mcp', '--name', name)}")
    return DONE
