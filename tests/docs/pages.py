"""Parsing of the pages in docs/: their blocks, and what to do with each.

The syntax of a page with examples (tests/docs/test_pages.py runs every page from top to bottom):

    ```console                    A shell. Each `$ command` is typed as written, must exit with 0 (unless `$ echo $?`
    $ p2pchat users               comes next), and must print exactly the lines below it, or nothing if there are none.
    ada: online (you)             `> ` begins a further line of the same command. A command that ends with `&` keeps
    ```                           running; the runner waits until it has printed the lines below it.

    ```console title="ada"        A separate terminal called ada, as a person has it (80x24, a pseudo-terminal).
    $ p2pchat 8080 --name ada     `$ command` starts a program there; the previous one must have ended. A line with a
    ada listens on ...            prompt is typed when the prompt is there (`[bob 1] ada to room> ^D`, also `^C`,
    ada to room> hello            `^X^E`, `M-a` for Alt-a), and so is the answer to a question (_QUESTION). All
    12:01 bob: hi ada             other lines must appear, in this order; other output may come between them. A later
    ```                           block with the same title continues. Only here a program may stay in the foreground.

    ```python                     A program: runs as written and exits with 0. Its timeouts of 5 s and more are of
                                  60 s, and so are the default ones of commands: the machine may be busy.
    ```sh file="bot.sh"           A file: any language with `file=` is written into the directory of the scene.
    ```json                       Valid JSON: the block, or each line of it.
    ```text                       Not run, like a block without a language.
    <!-- not run: why -->         Stands directly above a block that cannot run here (Windows, sudo, two machines). A
                                  test fails for a block that neither runs nor says why not.
    <!-- new scene -->            Ends everything so far; a new directory, new peers. A page begins with a new scene.
    <!-- new scene: needs jq -->  The same; skipped if this program is not installed.
    <!-- new scene: alone -->     The same, in a network where nobody else listens, if the system can: for peers that
                                  pick their port.
    <!-- close: ada -->           Closes the window of ada (SIGHUP), and waits for its end.
    <!-- kill: ada -->            Kills the program that runs there (kill -9).

`login="bob"` next to the first title gives this user a separate P2PCHAT_HOME, as on another machine, so an invite is
needed. `machine="192.168.1.10"` runs the terminal or shell on a machine with this address and other logins; all
machines of a scene are on one network (tests/processes/machines.py). Without namespaces the scene is skipped. The
directory of a scene is empty at first and shared by all; `p2pchat` and `python` are those that run the tests.

Comparison: blanks and line ends are ignored, `...` matches anything (also several lines), and times, dates, ids and
`#K7QF2M3P` after a name match any of their kind. `p2pchat:AFOB...@` is an invite, `p2pchat-device:AEVK...@` a code: in
output either is learned, and in input it is replaced by the one learned last. Ports 8080 to 8099 are replaced by free
ones, the same everywhere in a scene; a port that first appears in output is the one that the program chose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "simulation" / "README.md"]

_FENCE = re.compile(r"^```(.*)$")
_NOTE = re.compile(r"^<!-- (not run|new scene|close|kill)(?:: (.+?))? -->$")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_PROMPT = (
    r"(?:\[[^\]]*\] )?(?P<prompt>(?:[\w#.'-]+ to )?[\w#.'-]+>)"  # unread counts may come before it, and may differ
)
_QUESTION = r"(?P<question>[A-Z][\w ,?]* (?:(?:\[[^\]]*\]|\(it is not shown\), then Enter):|yes/no))"
_TYPED = re.compile(rf"^(?:{_PROMPT}|{_QUESTION})(?: (?P<text>.+))?$")
SAYS_NOTHING = ("", "text")


@dataclass(frozen=True)
class Step:
    """One command, or one typed line, and the output that follows.

    Attributes:
        kind: `command`, `typed`, `answered` (a question), or `shown` for a block that only waits.
        prompt: The prompt before the typed line.
    """

    kind: str
    text: str
    shown: list[str] = field(default_factory=list)
    prompt: str = ""


@dataclass(frozen=True)
class Block:
    """A fenced block, or a note between blocks (then `language` is `!` and the note's word)."""

    line: int
    language: str
    attributes: dict[str, str]
    text: str
    not_run: str = ""

    @property
    def runs(self) -> bool:
        """Return whether the runner does anything with it."""
        return not self.not_run and self.language not in SAYS_NOTHING

    @property
    def understood(self) -> bool:
        """Return whether the runner knows what to do with it."""
        known = self.language in (*SAYS_NOTHING, "console", "python", "json") or self.language.startswith("!")
        return known or bool(self.not_run) or "file" in self.attributes


def blocks(page: str) -> list[Block]:
    """Return the blocks and notes of a page, in order.

    Raises:
        ValueError: A fence is not closed, or a note is above no block.
    """
    found: list[Block] = []
    lines = page.splitlines()
    number = 0
    reason = ""
    while number < len(lines):
        note, fence = _NOTE.match(lines[number]), _FENCE.match(lines[number])
        if reason and not fence:
            raise ValueError(f"line {number + 1}: `not run` must be directly above its block")
        if note and note[1] == "not run":
            reason = note[2]
        elif note:
            found.append(Block(number + 1, "!" + note[1], {}, note[2] or ""))
        elif fence:
            try:
                end = lines.index("```", number + 1)
            except ValueError:
                raise ValueError(f"line {number + 1}: this block has no end") from None
            language = fence[1].partition(" ")[0]
            text = "\n".join(lines[number + 1 : end])
            found.append(Block(number + 1, language, dict(_ATTRIBUTE.findall(fence[1])), text, reason))
            reason, number = "", end
        number += 1
    return found


def steps(block: Block) -> list[Step]:
    """Return the steps of a console block, in order."""
    found: list[Step] = []
    titled = "title" in block.attributes
    for line in block.text.splitlines():
        typed = _TYPED.match(line)
        if line.startswith("$ "):
            found.append(Step("command", line[2:]))
        elif found and found[-1].kind == "command" and not found[-1].shown and line.startswith("> ") and not titled:
            found[-1] = Step("command", found[-1].text + "\n" + line[2:])
        elif titled and typed and typed["question"]:
            found.append(Step("answered", typed["text"] or "", prompt=typed["question"]))
        elif titled and typed and typed["text"]:
            found.append(Step("typed", typed["text"], prompt=typed["prompt"]))
        else:
            if not found:
                found.append(Step("shown", ""))
            found[-1].shown.append(line)
    return found
