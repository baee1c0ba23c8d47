"""The tables of docs/gateway.md have every status and code of an error that a gateway answers, and no other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from p2pchat.web.error_responses import _WORDS
from tests.docs.pages import ROOT

WEB = ROOT / "p2pchat" / "web"
PAGE = (ROOT / "docs" / "gateway.md").read_text("utf-8")
API, SOCKETIO, CLI = [
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("gateway-api", "gateway-socketio", "cli")
]
# The status and code of each class of errors where a call does not name them, and the positions where it may.
DEFAULTS = {"WebError": (0, ""), "Unauthorized": (401, "unauthorized"), "Forbidden": (403, "forbidden")}
DEFAULTS["BadFrame"] = (400, "malformed")
CODE_AT = {"WebError": 1, "Forbidden": 1, "BadFrame": 2}
SOCKETS = {"chat_socket.py": "`/chat`", "event_socket.py": "`/lines`", "socketio": "Socket.IO"}

Problems = set[tuple[int, str]]


def raised(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the status and the code of each error in a source file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [arg.value if isinstance(arg, ast.Constant) else None for arg in node.args]
        if called == "__init__" and len(given) > 1 and isinstance(given[0], int):  # of a class of errors
            called = "WebError"
        if called not in DEFAULTS:
            continue
        status, code = DEFAULTS[called]
        status = given[0] if called == "WebError" else status  # type: ignore[assignment]
        at = CODE_AT.get(called, len(given))
        code = given[at] if len(given) > at else code  # type: ignore[assignment]
        if isinstance(status, int) and code:
            yield status, code


def problems() -> dict[str, Problems]:
    """Return the errors of each kind of socket, and under "" those of all others."""
    found: dict[str, Problems] = {"": set(_WORDS.items()), **{name: set() for name in SOCKETS.values()}}
    for path in sorted(WEB.rglob("*.py")):
        found[SOCKETS.get(path.relative_to(WEB).parts[0], "")].update(raised(path))
    return found


def table(heading: str) -> dict[str, set[str]]:
    """Return the codes in the second column of a table, by the first cell of the row."""
    rows = PAGE.partition(f"\n| {heading} | `code` |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {first: set(re.findall(r"`([a-z_]+)`", codes.partition("; `")[0])) for first, codes in cells}


def test_the_table_has_every_status_and_code() -> None:
    listed = {(int(status), code) for status, codes in table("status").items() for code in codes}
    assert listed == problems()[""]


def test_the_table_of_the_sockets_has_the_codes_that_only_they_have() -> None:
    found = problems()
    everywhere = {code for _, code in found.pop("")}
    assert table("only at") == {name: {code for _, code in of} - everywhere for name, of in found.items()}
    for code in table("only at")["Socket.IO"]:
        assert f"`{code}`" in SOCKETIO


def test_the_exit_codes_of_the_client_are_those_of_its_help() -> None:
    command = [sys.executable, "-m", "p2pchat", "client", "--help"]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    codes = re.findall(r"[:;]\s(\d+)\s", shown[shown.index("Exit codes") :])
    [row] = [row for row in CLI.splitlines() if row.startswith("| `client [WS_URL]`")]
    assert re.findall(r"(?:\. |, )(\d+) (?:if|for|after)", row) == codes == ["0", "1", "2", "4", "130"]


def test_the_page_of_the_api_explains_every_code_of_a_conflict() -> None:
    for code in table("status")["409"]:
        assert f"`{code}`" in API
    named = {int(status) for status in re.findall(r"\b(4\d\d|503)(?=:| and)", API)}
    assert named >= {401, 403, 404, 405, 409, 413, 422, 429}
