"""Every command there is, one file each: what --help, completion and docs/cli.md are made of, or tested against.

Nothing here imports what does the work, so that --help and --version answer at once.
"""

from __future__ import annotations

from p2pchat.apps.cli.registry import (
    backup,
    bench,
    chat,
    check,
    client,
    completion,
    db,
    demo,
    doctor,
    export,
    history,
    import_,
    invite,
    send,
    tail,
    users,
    web,
)
from p2pchat.apps.cli.registry.command import Command, Option

CHAT = chat.COMMAND  # what `p2pchat PORT` does
_MODULES = (
    demo,
    send,
    tail,
    history,
    users,
    check,
    invite,
    doctor,
    bench,
    export,
    import_,
    backup,
    db,
    web,
    client,
    completion,
)  # in the order of --help
COMMANDS: dict[str, Command] = {module.COMMAND.name: module.COMMAND for module in _MODULES}

# What later versions bring: asked for, each gets one line and exit 2; --help does not name them.
LATER = frozenset(("tui",))

EVERY_COMMAND = (Option(("--version",), "", "the version"), Option(("--help",), "", "this page"))
