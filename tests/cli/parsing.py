"""Command lines parsed as `p2pchat` parses them, and not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from p2pchat.cli.chat_startup import ChatOptions, chat_options
from p2pchat.cli.options import CommandGroup, profile_choice
from p2pchat.cli.program import chat, program
from p2pchat.commands.exit_codes import UsageError


def parse(*words: str) -> dict[str, Any]:
    """Return the values that the command on this line would get, with `profile` for --data and --port.

    Raises:
        UsageError: The line is not understood.
    """
    command: click.Command = program
    context: click.Context | None = None
    name, args = "p2pchat", list(words)
    try:
        while isinstance(command, CommandGroup):
            context = command.make_context(name, args, parent=context)
            found, next_command, args = command.resolve_command(context, [*context._protected_args, *context.args])
            assert next_command is not None and found is not None
            name, command = found, next_command
        context = command.make_context(name, args, parent=context)
    except click.UsageError as error:
        raise UsageError(error.format_message()) from None
    values = dict(context.params)
    if {"data", "port"} <= values.keys():
        values["profile"] = profile_choice(context)
    return values


def parse_chat(words: Sequence[str], *, may_ask: bool = False) -> ChatOptions:
    """Return the options of a chat."""
    try:
        return chat_options(chat.make_context("", list(words)), may_ask=may_ask)
    except click.UsageError as error:
        raise UsageError(error.format_message()) from None
