"""The entry point: the encoding of what all commands print, and what `--version` imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def used_to_cp1252(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with the encoding of a pipe on Windows, which has few languages only."""
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "p2pchat", *words]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)


def test_output_is_utf_8_with_any_system_encoding(tmp_path: Path) -> None:
    log = tmp_path / "grün 世.jsonl"
    line = {"event": "message", "at": "2026-11-20T12:00:00.000000Z", "id": "A.1", "conversation_id": "C"}
    line |= {"sender_id": "U", "text": "hi", "sent_at": line["at"]}
    log.write_text(2 * (json.dumps(line) + "\n"), "utf-8")
    ran = used_to_cp1252("check", str(log))
    assert (ran.returncode, "grün 世" in ran.stdout) == (1, True), ran.stderr
    ran = used_to_cp1252("check", f"{log}.none")
    assert (ran.returncode, "grün 世" in ran.stderr) == (1, True)


def test_version_imports_nothing_heavy() -> None:
    code = "import sys; from p2pchat.__main__ import main; main(['--version']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert not {"asyncio", "click", "msgspec", "sqlite3", "cryptography", "ssl"} & set(out.split())
