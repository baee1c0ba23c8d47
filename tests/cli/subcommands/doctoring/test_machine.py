"""What p2pchat runs on, and the free disk: facts handed in, so that each trouble can be had."""

from __future__ import annotations

from pathlib import Path

from p2pchat import Settings
from p2pchat.cli.subcommands.doctor_checks import disk, extras, files, machine, python, size, terminal

LIMIT = Settings().min_free_disk_bytes


def test_this_machine_runs_the_tests() -> None:
    assert {finding.verdict for finding in machine() if finding.what in ("python", "extras")} == {"ok"}


def test_a_python_without_tls13() -> None:
    found = python(False, "LibreSSL 2.8.3")
    assert found.verdict == "wrong" and "LibreSSL 2.8.3" in found.seen and "OpenSSL 1.1.1" in found.mend


def test_optional_libraries_are_told_and_never_wrong() -> None:
    assert extras().verdict == "ok" and "segno" in extras().seen and "zeroconf" in extras().seen


def test_few_open_files() -> None:
    assert files(256, -1).verdict == "warning" and files(256, -1).mend.startswith("ulimit")
    assert files(4096, -1).verdict == files(-1, -1).verdict == "ok"


def test_terminals() -> None:
    assert terminal("xterm-256color", "UTF-8").verdict == "ok"
    assert terminal("xterm", "ANSI_X3.4-1968").verdict == "warning"
    assert terminal("dumb", "utf-8").verdict == "warning"


def test_a_disk_that_is_full_nearly_full_and_not(tmp_path: Path) -> None:
    assert disk(tmp_path).what == "disk"
    found = [disk(tmp_path, lambda directory, free=free: free) for free in (LIMIT - 1, LIMIT, 4 * LIMIT)]  # type: ignore[misc]
    assert [one.verdict for one in found] == ["wrong", "warning", "ok"]
    assert "below 256 MiB nothing is accepted" in found[0].seen and found[0].mend


def test_sizes() -> None:
    assert [size(count) for count in (7, 2048, 300 << 20, 3 << 29)] == ["7 bytes", "2.0 KiB", "300 MiB", "1.5 GiB"]
