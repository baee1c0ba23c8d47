"""`p2pchat import`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, JSON, WHICH_PEER, Command

_PAGE = """\
Usage: p2pchat import FILE [options]

Take in a file that `p2pchat export` made, here or on another machine of this network. Every message is checked as if \
it came over a link; what was here already is counted and nothing else. Beside an open chat its peer takes it in and \
shows it; without one others get it at the next start. FILE - is standard input.

Options:
{options}

Examples:
  p2pchat import /media/stick/chat.p2p
  gunzip -c chat.p2p.gz | p2pchat import - --port 8080

Exit codes: 0 all of it was taken in, or was here, or is not for this user; 1 it is no such file, or of another \
network, or damaged: what came whole is imported all the same, and it is said what is missing.
"""

COMMAND = Command(
    name="import",
    summary="take in a file that export made",
    page=_PAGE,
    run="apps.cli.commands.import_:run_import",
    options=(*WHICH_PEER, DB, JSON),
    words="file",
)
