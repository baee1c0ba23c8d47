"""Which words and options there are, and the first look at a command line: a port, a command, or neither.

`--version` must answer at once, so this file imports nothing but the standard library, and click only where words
are parsed (options.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from p2pchat.apps.cli.exits import Usage

COMMANDS = {
    "demo": "the tour: real peers, a kill, a restart, receipts",
    "history": "print what was said, oldest first",
    "check": "judge event logs: was every promise held?",
    "invite": "the command for another machine, and the invite",
}
# What later versions bring: asked for, each gets one line and exit 2; --help does not name them.
LATER = frozenset(
    (
        "send",
        "tail",
        "users",
        "doctor",
        "web",
        "completion",
        "export",
        "import",
        "backup",
        "client",
        "db",
        "bench",
        "tui",
    )
)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, the variable that stands for it, what it takes ("" for a switch) and what it does."""

    flags: tuple[str, ...]
    takes: str
    summary: str

    @property
    def name(self) -> str:
        return self.flags[-1].lstrip("-")

    @property
    def variable(self) -> str:
        return f"P2PCHAT_{self.name.upper().replace('-', '_')}"


DATA = Option(("--data",), "DIR", "identity and history (default: a folder for each port)")
DB = Option(("--db",), "URL", "another database: sqlite:///FILE or memory://")
JSON = Option(("--json",), "", "one JSON object a line on stdout")
CHAT_OPTIONS = (
    Option(("--name",), "NAME", "my name (default: login name and port)"),
    Option(("--host",), "ADDR", "listen address (default 127.0.0.1; 0.0.0.0 or :: for other machines)"),
    DATA,
    Option(("--temp",), "", "a temporary profile: gone at the end"),
    DB,
    Option(("--key",), "FILE", "an identity kept elsewhere"),
    Option(("--invite",), "FILE", "join its network; - asks for the invite without echo"),
    Option(("--open",), "", "an open network: whoever can connect is a member, and reads the room's history"),
    Option(("--advertise",), "HOST:PORT", "address to tell others, behind NAT or in a container"),
    JSON,
    Option(("--plain",), "", "plain lines for people (default; may change)"),
    Option(("--log",), "FILE", "append every event to FILE as JSON lines"),
    Option(("--drain",), "SECONDS", "wait so long for deliveries at the end (default 5)"),
    Option(("--stay",), "", "do not leave at the end of input"),
    Option(("-v", "--verbose"), "", "diagnostics on stderr"),
)
WHICH_PEER = (DATA, Option(("--port",), "PORT", "the peer of this port (default: the only one)"))
HISTORY_OPTIONS = (
    *WHICH_PEER,
    DB,
    Option(("--limit",), "N", "at most the newest N (default: all)"),
    Option(("--since",), "TIME", "from then on: 2026-11-20, 2026-11-20T08:30, 90m, 7d"),
    Option(("--before",), "TIME", "only what was written before this time"),
    Option(("--search",), "WORDS", "only messages that contain all these words"),
    JSON,
)
CHECK_OPTIONS = (
    Option(("--complete",), "", "everything had come to rest before the logs end: what is missing was lost"),
)
INVITE_OPTIONS = (
    *WHICH_PEER,
    Option(("--advertise",), "HOST:PORT", "the address others reach this peer at"),
)


def split_first_word(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Return the first word that is no option or value of one, and the rest; ("", all) when there is none."""
    valued = {flag for option in (*CHAT_OPTIONS, *HISTORY_OPTIONS) if option.takes for flag in option.flags}
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--":
            break
        elif word.startswith("-") and word != "-":
            skip = word in valued
        else:
            return word, [*argv[:index], *argv[index + 1 :]]
    return "", list(argv)


def refuse_first_word(word: str) -> Usage:
    """Say what is wrong with a first word that is neither a port nor a command."""
    if word in LATER:
        return Usage(f"this version does not have the command {word} yet; --help lists what it has")
    if word.lstrip("-").isdecimal():
        return Usage(f"{word!a} is no port: 0 to 65535, where 0 is any free one with a temporary profile")
    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    if near:
        return Usage(f"{word!a} is neither a port nor a command: did you mean {near[0]}?")
    if ":" in word:
        return Usage(f"{word!a} is where to connect; before it stands the port to listen on: p2pchat 8081 {word}")
    return Usage(f"{word!a} is neither a port nor a command ({', '.join(COMMANDS)}); try: p2pchat 8080")
