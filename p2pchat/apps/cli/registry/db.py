"""`p2pchat db copy`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import JSON, Command

_PAGE = """\
Usage: p2pchat db copy FROM TO

Copy all that a peer has stored into another database, which must be empty, while no peer uses either. FROM and TO are \
database URLs (sqlite:///FILE, mysql://, mariadb:// or postgresql://USER@HOST/NAME), or data directories, whose own \
database is meant. Everything is there afterwards, compared and whole, or nothing is. Key and network stay in the data \
directory.

A password on the command line can be seen by others on this machine: `-` takes the URL that is in P2PCHAT_DB.

Options:
{options}

Examples:
  p2pchat db copy ~/.local/share/p2pchat/8080 postgresql://ada@localhost/chat
  P2PCHAT_DB=mariadb://ada:secret@db.example.org/chat p2pchat db copy - ~/chat-copy
"""

COMMAND = Command(
    name="db",
    summary="move what is stored to another database",
    page=_PAGE,
    run="apps.cli.commands.db:run_db",
    options=(JSON,),
    words="directory",
)
