"""The purse: how large each room of the package is, and what a branch adds or takes away.

    python -m tests.purse [REVISION]        print tokens and folds of each room, beside those of a revision
    python -m tests.purse --lower           lower the numbers of the table to what there is

Without a revision it is where the branch left `green`. A room is a row of the table "Budget" in docs/architecture.md.
A fold is a form that says two things in one expression: `:=`, a conditional expression, a comprehension within another,
an unpacking by `*`.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = "docs/architecture.md"
LEDGER = "tests/purse.tsv"  # room, its new number, and what paid for a raised one
FOLDS = (":=", "if-else", "nested", "*")
BETWEEN_STATEMENTS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
STRUCTURE = (*BETWEEN_STATEMENTS, tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER)
BEFORE_UNPACKING = {"(", "[", "{", ",", "=", "return", "yield", "in", ":"}
_ROW = re.compile(r"^\| (\w+) \| ((?:`[\w./]+`,? ?)+) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)
# A comment, then whatever is one token: a text, a word, an operator.
_JAVASCRIPT = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r"""|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|[\w$]+|[-+*/%=<>!&|^~?]+|[^\s\w])""",
    re.DOTALL,
)

Files = dict[str, str]  # text by path


def counted(text: str) -> Counter[str]:
    """Count the tokens of Python that are no comment, docstring or structure of lines, and the folds."""
    found: Counter[str] = Counter()
    former = tokenize.TokenInfo(tokenize.NEWLINE, "", (0, 0), (0, 0), "")
    brackets: list[list[bool]] = []  # of each open one: whether it has a comprehension, and whether one within has
    parameters = -1  # the depth at which those of a function stand
    for token, following in pairwise(tokenize.generate_tokens(io.StringIO(text).readline)):
        word = token.string
        begins = former.type in BETWEEN_STATEMENTS and token.type == tokenize.STRING
        found["tokens"] += token.type not in STRUCTURE and not (begins and following.type == tokenize.NEWLINE)
        if token.type == tokenize.OP and word in "([{":
            brackets.append([False, False])
        elif token.type == tokenize.OP and word in ")]}":
            closed = brackets.pop()
            if brackets and any(closed):
                brackets[-1][1] = True
            if len(brackets) == parameters:
                parameters = -1
        elif word == "def":
            parameters = len(brackets)
        elif word == "for" and brackets:
            found["nested"] += brackets[-1][1] or any(own for own, _ in brackets)
            brackets[-1][0] = True
        elif word == ":=":
            found[":="] += 1
        elif word == "else":
            found["if-else"] += following.string != ":"
        elif word == "*" and parameters < 0:
            found["*"] += former.string in BEFORE_UNPACKING and following.string not in (",", ")")
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            former = token
    return found


def javascript(text: str) -> Counter[str]:
    """Count tokens of JavaScript, without comments; what stands in a template is one token."""
    return Counter(tokens=sum(map(bool, _JAVASCRIPT.findall(text))))


def files(revision: str = "") -> Files:
    """Return the package and the table, of a revision or as they are here."""
    if not revision:
        paths = [ROOT / TABLE, *(path for kind in ("py", "js") for path in (ROOT / "p2pchat").rglob(f"*.{kind}"))]
        return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}
    packed = git("archive", revision, "p2pchat", TABLE)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: file.read().decode() for name, file in opened if file and name.endswith((".py", ".js", ".md"))}


def budgets(table: str) -> dict[str, tuple[list[str], int, int]]:
    """Return the rooms in the table: the units of each, and its most tokens and folds."""
    return {
        room: (re.findall(r"`([\w./]+?)/?`", units), _number(tokens), _number(folds))
        for room, units, tokens, folds in _ROW.findall(table)
    }


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def sizes(of: Files, rooms: dict[str, tuple[list[str], int, int]]) -> dict[str, Counter[str]]:
    """Return what was counted in each room; "" is what has no room."""
    room_of = {unit: room for room, (units, _, _) in rooms.items() for unit in units}
    found = {room: Counter[str]() for room in ("", *rooms)}
    for path, text in of.items():
        first, _, _ = path.removeprefix("p2pchat/").partition("/")
        if path.endswith(".js"):
            found[room_of.get("web/page", "")] += javascript(text)
        elif path.endswith(".py") and path != "p2pchat/sync/classes.py":  # written by the build
            found[room_of.get(first, "")] += counted(text)
    return found


def folds_of(size: Counter[str]) -> int:
    """Return the sum of all folds."""
    return sum(size[fold] for fold in FOLDS)


def base() -> str:
    """Return where this branch left the newest revision whose gate was green; "" outside of a repository."""
    for name in ("green", "origin/green", "main", "origin/main"):
        found = git("merge-base", "HEAD", name).decode().strip()
        if found:
            return found[:10]
    return ""


def raised(before: str, after: str, paid: str) -> list[str]:
    """Return which numbers of a table are above those of a former one, though nothing says what paid them.

    Args:
        paid: The lines of the ledger that are new.
    """
    old, new = budgets(before), budgets(after)
    lines = [line.split("\t") for line in paid.splitlines()]
    said = {(row[0], row[1]) for row in lines if len(row) == 3 and row[2].strip()}
    found = []
    for room in old.keys() & new.keys():
        (_, tokens, folds), (_, now, folds_now) = old[room], new[room]
        if now > tokens and (room, str(now)) not in said:
            found.append(f"{room}: {tokens:,} tokens became {now:,}")
        if folds_now > folds:
            found.append(f"{room}: {folds} folds became {folds_now}")
    return sorted(found)


def git(*words: str) -> bytes:
    """Return what git says, b"" after an error."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False).stdout


def lower() -> None:
    """Lower the numbers of the table to the tokens that there are, rounded up to 10, and the folds."""
    here = files()
    found = sizes(here, budgets(here[TABLE]))

    def row(match: re.Match[str]) -> str:
        room, units, tokens, folds = match.groups()
        now = -(-found[room]["tokens"] // 10) * 10
        lowest = min(now, _number(tokens)), min(folds_of(found[room]), _number(folds))
        return f"| {room} | {units} | {lowest[0]:,} | {lowest[1]:,} |"

    (ROOT / TABLE).write_text(_ROW.sub(row, here[TABLE]), "utf-8")


def compare(revision: str) -> None:
    """Print tokens and folds of each room, beside those of a revision; the page's share of folds is not known."""
    here = files()
    rooms = budgets(here[TABLE])
    now, before = sizes(here, rooms), sizes(files(revision), rooms)
    for found in (now, before):
        found["package"] = sum((size for room, size in found.items() if room != "page"), Counter())
    print(f"{'since ' + revision:20}{'tokens':>9}{'net':>8}{'folds':>7}{'net':>6}  in 10,000 tokens")
    for room, size in now.items():
        tokens, folds, of = size["tokens"], folds_of(size), before[room]
        if tokens:
            shares = ", ".join(f"{fold} {size[fold] * 10_000 / tokens:.1f}" for fold in FOLDS)
            print(f"{room:20}{tokens:9,}{tokens - of['tokens']:+8,}{folds:7,}{folds - folds_of(of):+6,}  {shares}")


if __name__ == "__main__":
    if "--lower" in sys.argv:
        lower()
    else:
        compare("".join(sys.argv[1:]) or base())
