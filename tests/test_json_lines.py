"""Lines of a file that grows."""

from __future__ import annotations

from pathlib import Path

from tests.json_lines import lines_of


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    for written, found in ((b"", []), (b'{"n": 1', []), (b'{"n": 1}', []), (b'{"n": 1}\n{"n"', [{"n": 1}])):
        file.write_bytes(written)
        assert lines_of(file) == found
