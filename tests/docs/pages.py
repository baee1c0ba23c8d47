"""Reads the pages of docs/: which of their blocks are examples, and what is to be done with each.

How a page is written, so that its examples run (tests/docs/test_pages.py runs every page from top to bottom):

    ```console                    A shell. Each `$ command` is typed into it as it stands, must end with 0 (unless
    $ p2pchat users               `$ echo $?` comes next), and must show exactly what stands below it; nothing below
    ada: online (you)             means that it shows nothing. `> ` begins a further line of the same command. One
    ```                           that ends with `&` goes on, and is waited for until it has shown what stands below.

    ```console title="ada"        A terminal of its own, called ada, as a person has it (80x24, a pseudo-terminal).
    $ p2pchat 8080 --name ada     `$ command` starts a program there; what ran there before must have ended. A line
    ada listens on ...            with a prompt is typed when the prompt is there (`room> hello`, `[bob 1] room> ^D`,
    room> hello                   also `^C`, `^X^E`, `M-a` for Alt-a), so is the answer to a question (_QUESTION). All
    12:01 bob: hi ada             other lines are waited for, in this order; others may stand between them. A later
    ```                           block with the same title goes on there. Only here something may stay in front.

    ```python                     A program: runs as it stands and ends with 0.
    ```sh file="bot.sh"           A file: any language with `file=` is written into the directory of the scene.
    ```json                       Is JSON: the block, or each line of it.
    ```text                       Is not run, nor is a block without a language.
    <!-- not run: why -->         Right above any other block that cannot run here (Windows, sudo, two machines). A
                                  test fails for a block that neither runs nor says why not.
    <!-- new scene -->            Everything so far ends; a new directory, new peers. A page begins with one.
    <!-- new scene: needs jq -->  The same; skipped where this program is not installed.
    <!-- new scene: alone -->     The same, where nobody else listens, if this system can: for what picks its port.
    <!-- close: ada -->           Somebody closes the window of ada (SIGHUP), and it has ended.
    <!-- kill: ada -->            Somebody kills what runs there (kill -9).

`login="bob"` beside the first title is somebody with a P2PCHAT_HOME of their own, as on another machine: to be invited.
`machine="192.168.1.10"` runs the terminal or shell on a machine with this address, where logins are others; all
machines of a scene are on one network (tests/processes/machines.py). Without namespaces the scene is skipped.
The directory of a scene is empty at first and common to all; `p2pchat` and `python` are those that run the tests.

What is compared: blanks and line ends do not count, `...` is anything (also several lines), and times, dates, ids and
`#K7QF2M3P` beside a name are any of their kind. `p2pchat:AFOB...@` is an invite: where it is shown it is learned, and
where it is typed the one learned last is. Ports 8080 to 8099 are exchanged for free ones, the same everywhere in
a scene; one that a program shows before anybody named it is the port that it chose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))

_FENCE = re.compile(r"^```(.*)$")
_NOTE = re.compile(r"^<!-- (not run|new scene|close|kill)(?:: (.+?))? -->$")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_PROMPT = r"(?:\[[^\]]*\] )?(?P<prompt>[\w#.'-]+>)"  # what is unread stands before it, and may differ
_QUESTION = r"(?P<question>[A-Z][\w ,]* (?:\[[^\]]*\]|\(it is not shown\), then Enter):)"
_TYPED = re.compile(rf"^(?:{_PROMPT}|{_QUESTION})(?: (?P<text>.+))?$")
SAYS_NOTHING = ("", "text")


@dataclass(frozen=True)
class Step:
    """One command, or one line typed into what runs, and what is shown then.

    Attributes:
        kind: `command`, `typed`, `answered` (a question), or `shown` for a block that only waits.
        prompt: What stands before the line that is typed.
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
        """Whether something is done with it."""
        return not self.not_run and self.language not in SAYS_NOTHING

    @property
    def understood(self) -> bool:
        """Whether the runner knows what to do with it."""
        known = self.language in (*SAYS_NOTHING, "console", "python", "json") or self.language.startswith("!")
        return known or bool(self.not_run) or "file" in self.attributes


def blocks(page: str) -> list[Block]:
    """Return the blocks and notes of a page, in order.

    Raises:
        ValueError: A fence is not closed, or a note stands above no block.
    """
    found: list[Block] = []
    lines = page.splitlines()
    number = 0
    reason = ""
    while number < len(lines):
        note, fence = _NOTE.match(lines[number]), _FENCE.match(lines[number])
        if reason and not fence:
            raise ValueError(f"line {number + 1}: `not run` stands right above the block it means")
        if note and note[1] == "not run":
            reason = note[2]
        elif note:
            found.append(Block(number + 1, "!" + note[1], {}, note[2] or ""))
        elif fence:
            try:
                end = lines.index("```", number + 1)
            except ValueError:
                raise ValueError(f"line {number + 1}: this block does not end") from None
            language = fence[1].partition(" ")[0]
            text = "\n".join(lines[number + 1 : end])
            found.append(Block(number + 1, language, dict(_ATTRIBUTE.findall(fence[1])), text, reason))
            reason, number = "", end
        number += 1
    return found


def steps(block: Block) -> list[Step]:
    """Return what a console block does, in order."""
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
