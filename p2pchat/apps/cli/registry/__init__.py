"""Every command there is, one file each: what --help, completion and docs/cli.md are made of, or tested against.

Nothing here imports what does the work, so that --help and --version answer at once.
"""

from __future__ import annotations

from p2pchat.apps.cli.registry.backup import COMMAND as BACKUP_COMMAND
from p2pchat.apps.cli.registry.bench import COMMAND as BENCH_COMMAND
from p2pchat.apps.cli.registry.chat import COMMAND as CHAT_COMMAND
from p2pchat.apps.cli.registry.check import COMMAND as CHECK_COMMAND
from p2pchat.apps.cli.registry.client import COMMAND as CLIENT_COMMAND
from p2pchat.apps.cli.registry.completion import COMMAND as COMPLETION_COMMAND
from p2pchat.apps.cli.registry.db import COMMAND as DB_COMMAND
from p2pchat.apps.cli.registry.demo import COMMAND as DEMO_COMMAND
from p2pchat.apps.cli.registry.doctor import COMMAND as DOCTOR_COMMAND
from p2pchat.apps.cli.registry.export import COMMAND as EXPORT_COMMAND
from p2pchat.apps.cli.registry.history import COMMAND as HISTORY_COMMAND
from p2pchat.apps.cli.registry.import_ import COMMAND as IMPORT_COMMAND
from p2pchat.apps.cli.registry.invite import COMMAND as INVITE_COMMAND
from p2pchat.apps.cli.registry.send import COMMAND as SEND_COMMAND
from p2pchat.apps.cli.registry.tail import COMMAND as TAIL_COMMAND
from p2pchat.apps.cli.registry.users import COMMAND as USERS_COMMAND
from p2pchat.apps.cli.registry.web import COMMAND as WEB_COMMAND
from p2pchat.cli.command_table import Command, Option

CHAT = CHAT_COMMAND  # what `p2pchat PORT` does
_COMMANDS = (
    DEMO_COMMAND,
    SEND_COMMAND,
    TAIL_COMMAND,
    HISTORY_COMMAND,
    USERS_COMMAND,
    CHECK_COMMAND,
    INVITE_COMMAND,
    DOCTOR_COMMAND,
    BENCH_COMMAND,
    EXPORT_COMMAND,
    IMPORT_COMMAND,
    BACKUP_COMMAND,
    DB_COMMAND,
    WEB_COMMAND,
    CLIENT_COMMAND,
    COMPLETION_COMMAND,
)  # in the order of --help
COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}

# What later versions bring: asked for, each gets one line and exit 2; --help does not name them.
LATER = frozenset(("tui",))

EVERY_COMMAND = (Option(("--version",), "", "the version"), Option(("--help",), "", "this page"))
