"""What a command of `p2pchat` is: its name, options and help page, and where the code that does it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, the variable that stands for it, what it takes ("" for a switch) and what it does.

    `choices` are the values it may have, () where those are not a few words.
    """

    flags: tuple[str, ...]
    takes: str
    summary: str
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.flags[-1].lstrip("-")

    @property
    def variable(self) -> str:
        return f"P2PCHAT_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Nothing is imported for it before it runs.

    Attributes:
        name: Its first word; "" for the chat itself.
        summary: What --help says of it in one line.
        page: Its own help; `{options}` stands for the list of options. A paragraph is one long line.
        run: "module:function" below p2pchat.apps.cli; takes the other words, returns the exit code.
        words: What its words may be, for completion: "" nothing, "address" one whom to write to, "endpoint", "file",
            "directory", "shell".
    """

    name: str
    summary: str
    page: str
    run: str
    options: tuple[Option, ...] = ()
    words: str = ""

    def load(self) -> Callable[[Sequence[str]], int]:
        """Import and return what does it."""
        module, _, function = self.run.partition(":")
        found: Callable[[Sequence[str]], int] = getattr(import_module(f"p2pchat.{module}"), function)
        return found


DATA = Option(("--data",), "DIR", "identity and history (default: a folder for each port)")
DB = Option(("--db",), "URL", "another database: sqlite:///FILE, mysql:// or postgresql://USER@HOST/NAME, memory://")
JSON = Option(("--json",), "", "one JSON object a line on stdout")
WHICH_PEER = (DATA, Option(("--port",), "PORT", "the peer of this port (default: the only one)"))
