"""The messages that docs/troubleshooting.md explains are messages of the source."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
VARIES = "…"
CELLS = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [one or two for cell in CELLS for two, one in re.findall(r"`` (.+?) ``|`([^`]+)`", cell)]

# Strings that continue in the next line of the source, and what an f-string puts in.
_CONTINUED, _VALUE = re.compile(r'(?<!\\)"\s*\n\s*f?"'), re.compile(r"\{[^{}\n]*\}")


def source() -> str:
    """Return the code of the package, with `…` for what is put into its strings."""
    text = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "p2pchat").rglob("*.py")))
    return _VALUE.sub(VARIES, _CONTINUED.sub("", text)).replace('\\"', '"')


def test_every_message_on_the_page_is_in_the_source() -> None:
    code = source()
    messages = [row.removeprefix("warning: ") for row in ROWS if " " in row]
    longest = {message: max((part.strip() for part in message.split(VARIES)), key=len) for message in messages}
    assert len(messages) > 40
    assert [message for message in messages if longest[message] not in code] == []
