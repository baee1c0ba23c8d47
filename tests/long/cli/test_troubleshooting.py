"""The list of docs/troubleshooting.md: every error and warning of the source, and no other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from p2pchat.cli.endpoint_status import _INVITE_ADVICE, _PROBLEMS
from p2pchat.storage.dialects.server_databases import SERVER_SENTENCES
from p2pchat.storage.dialects.sqlite import SENTENCES

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
DIFFERS = "…"
CELLS = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [one or two for cell in CELLS for two, one in re.findall(r"`` (.+?) ``|`([^`]+)`", cell)]

# Strings that continue in the next line of the source, and what an f-string puts in.
_CONTINUED, _VALUE = re.compile(r'(?<!\\)"\s*\n\s*f?"'), re.compile(r"\{[^{}\n]*\}")
# UsageError and the status 400 of a gateway contain their advice; ValueError and TypeError are bugs of the caller.
_ERROR = re.compile(
    r"\b(?:P2PChatError|StorageError|InviteError|ImportRefused|CommandError|Warned|print_error|WriteRefused|WebError"
    r'|Forbidden|Unauthorized)\((?!400)\s*(?:[\w.]+,\s*|"\w*",\s*)*f?"((?:[^"\\\n]|\\.)*)"'
)
_OF_ERRORS = re.compile(r'__init__\(f?"((?:[^"\\\n]|\\.)*)"')
_OF_CORE = re.compile(r'\breturn (?:"\w+"|[\w.]+), f?"((?:[^"\\\n]|\\.)*)"')
# The dialogues of a terminal contain their advice.
_DIALOGUES = {"cli/chat_startup.py", "cli/subcommands/send.py", "cli/chat.py", "cli/standard_input.py"}
_DIALOGUES |= {"commands/exit_codes.py"}


@cache
def source() -> dict[str, str]:
    """Return the code of each file, with `…` for what is put into its strings."""
    paths = sorted((ROOT / "p2pchat").rglob("*.py"))
    code = {path.relative_to(ROOT / "p2pchat").as_posix(): path.read_text("utf-8") for path in paths}
    return {name: _VALUE.sub(DIFFERS, _CONTINUED.sub("", text)).replace('\\"', '"') for name, text in code.items()}


def messages() -> set[str]:
    """Return the errors and warnings of the source."""
    tables = (*SENTENCES.values(), *SERVER_SENTENCES, *_PROBLEMS.values(), *_INVITE_ADVICE.values())
    found = {_VALUE.sub(DIFFERS, text) for text in tables}
    for name, code in source().items():
        if name not in _DIALOGUES and not name.startswith("testing/"):
            found.update(_ERROR.findall(code), _OF_ERRORS.findall(code) if name == "errors.py" else ())
            found.update(_OF_CORE.findall(code) if name.startswith("core/") else ())
    return {text for text in found if " " in text.replace(DIFFERS, "") and len(text) > 12}


@cache
def pattern(text: str) -> re.Pattern[str]:
    """Return a pattern of the parts of a message, in order."""
    return re.compile(".*".join(re.escape(part.strip()) for part in text.split(DIFFERS)))


def test_every_message_of_trouble_is_there() -> None:
    said = messages()
    assert len(said) > 200 and len(ROWS) > 300
    missing = [text for text in said if not any(pattern(row).match(text) or pattern(text).match(row) for row in ROWS)]
    assert missing == [], "docs/troubleshooting.md lacks these messages"


def test_every_row_has_its_message_in_the_source() -> None:
    code = "\n".join(source().values())
    rows = [row.removeprefix("warning: ") for row in ROWS if " " in row and not row.startswith(("--", "p2pchat "))]
    longest = {row: max((part.strip() for part in row.split(DIFFERS)), key=len) for row in rows}
    assert [row for row in rows if longest[row] not in code] == []
