"""The list of docs/troubleshooting.md: every error and warning of the source, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pchat.cli.endpoint_status import _INVITE_ADVICE, _PROBLEMS
from p2pchat.storage.dialects.server_databases import SERVER_SENTENCES as OF_SERVERS
from p2pchat.storage.dialects.sqlite import SENTENCES

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
DIFFERS = "…"

# Calls whose text is an error. UsageError and the status 400 of a gateway are left out because they contain their
# advice; ValueError and TypeError are bugs of the caller.
REPORTING = {
    *("P2PChatError", "StorageError", "InviteError", "ImportRefused", "CommandError", "Warned", "print_error"),
    *("WriteRefused", "WebError", "Forbidden", "Unauthorized"),
}
MALFORMED = 400
# The dialogues of a terminal contain their advice.
NOT_OF_TROUBLE = {"cli/chat_startup.py", "cli/subcommands/send.py", "cli/chat.py", "commands/exit_codes.py"}


def rows() -> list[str]:
    """Return the messages of the first column, with `…` for variable parts."""
    cells = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]
    return [one or two for cell in cells for two, one in re.findall(r"`` (.+?) ``|`([^`]+)`", cell)]


def template(node: ast.expr) -> str:
    """Return a string of the source with `…` for variable parts; "" for other expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else DIFFERS for part in node.values)  # type: ignore[misc]
    if isinstance(node, ast.BinOp):
        return template(node.left) + DIFFERS
    return ""


class Texts(NamedTuple):
    """What the package says. Attributes: all `strings`; `messages`, the place and template of each error or warning."""

    strings: set[str]
    messages: list[tuple[str, str]]


@pytest.fixture(scope="module")
def source() -> Texts:
    found = Texts(set(), [])
    for path in sorted((ROOT / "p2pchat").rglob("*.py")):
        name = path.relative_to(ROOT / "p2pchat").as_posix()
        is_of_trouble = name not in NOT_OF_TROUBLE and not name.startswith("testing/")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                found.strings.add(template(node))
            elif is_of_trouble:
                found.messages.extend(messages(name, node))
    for text in (*SENTENCES.values(), *OF_SERVERS, *_PROBLEMS.values(), *_INVITE_ADVICE.values()):
        found.messages.append(("tables", re.sub(r"\{\w+\}", DIFFERS, text)))
    return found


def reported(name: str, node: ast.AST) -> Sequence[ast.expr]:
    """Return the expressions of a node that may be the text of an error: arguments, or a refusal of the core."""
    if name.startswith("core/") and isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        return node.value.elts[1:] if len(node.value.elts) == 2 and template(node.value.elts[0]) else ()
    if not isinstance(node, ast.Call):
        return ()
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    is_malformed = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == MALFORMED
    is_error = called in REPORTING or (name == "errors.py" and called == "__init__")
    return node.args if is_error and not is_malformed else ()


def messages(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the errors and warnings of a node: their place and template."""
    for text in map(template, reported(name, node)):
        if " " in text.replace(DIFFERS, "") and len(text) > 12:
            yield f"{name}:{getattr(node, 'lineno', 0)}", text


def means(row: str, text: str) -> bool:
    """Return True if a row matches this message: its parts, in order and from the beginning."""
    return _pattern(row).match(text) is not None


@cache  # each of hundreds is tried on all others, and `re` keeps fewer
def _pattern(row: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in row.split(DIFFERS)), re.DOTALL)


def test_every_message_of_trouble_is_there(source: Texts) -> None:
    known, texts = rows(), {text: where for where, text in source.messages}
    assert len(texts) > 60 and len(known) > 80
    missing = [
        f"{where}: {text}"
        for text, where in texts.items()
        if not any(means(row, text) or means(text, row) for row in known)
    ]
    assert missing == [], "docs/troubleshooting.md lacks these messages"


def test_every_row_has_its_message_in_the_source(source: Texts) -> None:
    known = sorted(source.strings)
    messages = [row for row in rows() if " " in row and not row.startswith(("--", "p2pchat "))]
    assert [row for row in messages if not _occurs(row, known)] == []


def _occurs(row: str, known: Sequence[str]) -> bool:
    parts = [part.strip() for part in row.removeprefix("warning: ").split(DIFFERS)]
    longest, pattern = max(parts, key=len), re.compile(".*".join(map(re.escape, parts)))
    return any(pattern.search(text) for text in [text for text in known if longest in text])
