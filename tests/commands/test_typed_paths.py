"""Paths as they are typed, dropped onto a terminal, and completed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pchat.commands import typed_paths
from p2pchat.commands.typed_paths import (
    dropped_files,
    path_candidates,
    split_files,
    split_path,
    to_path,
    typed_path,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="a backslash is a part of a path there")


@posix
@pytest.mark.parametrize(
    ("text", "path", "rest"),
    [
        ("plan.pdf", "plan.pdf", ""),
        ("plan.pdf the  plan", "plan.pdf", "the  plan"),
        ("'my file.png' look", "my file.png", "look"),
        ('"my file.png" look', "my file.png", "look"),
        (r"my\ file.png look", "my file.png", "look"),
        (r"'it'\''s.png' look", "it's.png", "look"),
        (r'"a\"b" c', 'a"b', "c"),
        ("'my file.png", "my file.png", ""),
        ("a\\", "a\\", ""),
        ("", "", ""),
    ],
)
def test_a_path_is_read_as_a_shell_reads_it(text: str, path: str, rest: str) -> None:
    assert split_path(text) == (path, rest)


@posix
def test_an_address_of_a_file_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert to_path("file:///home/ada/my%20file.png") == Path("/home/ada/my file.png")
    assert to_path("file://localhost/tmp/a") == Path("/tmp/a")
    assert to_path("~/a") == Path("/home/ada/a")
    assert to_path("~nobody-has-this-name/a") == Path("~nobody-has-this-name/a")


@pytest.mark.parametrize("name", ["plan.pdf", "my file.png", "it's.png", "ä (2) & $x;.txt", "日本.png"])
def test_a_path_is_typed_so_that_it_is_read_again(name: str) -> None:
    if sys.platform != "win32" or "'" not in name:
        assert split_path(f"{typed_path(name)} and a text") == (name, "and a text")


@posix
def test_a_line_with_nothing_but_full_paths_of_files_is_a_drop(tmp_path: Path) -> None:
    one, other = tmp_path / "my file.png", tmp_path / "plan"
    one.touch()
    other.touch()
    escaped = str(one).replace(" ", "\\ ")
    for line in (f"'{one}'", f'"{one}"', escaped, f"{escaped} ", f"file://{str(one).replace(' ', '%20')}"):
        assert dropped_files(line) == [one]
    assert dropped_files(f"'{one}' {other}") == [one, other]
    for line in (
        f"look at '{one}'", f"'{one}' look", f"{other}x", str(tmp_path), "plan", f"/{other}", f"{other}\n{one}",
        "'hello'", "/msg bob hi", "/", "~", "file://elsewhere/etc/passwd", "/\0", "/" + "x" * 100_000,
    ):  # fmt: skip
        assert dropped_files(line) == [], line


def test_on_windows_a_backslash_belongs_to_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_paths, "ESCAPES", False)
    assert split_path(r"C:\Users\ada\plan.pdf look") == (r"C:\Users\ada\plan.pdf", "look")
    assert split_path(r'"C:\my files\plan.pdf" look') == (r"C:\my files\plan.pdf", "look")
    assert split_path("it's.txt look") == ("it's.txt", "look")
    assert typed_path(r"C:\Users\plan.pdf") == r"C:\Users\plan.pdf"
    assert typed_path(r"C:\my files\plan.pdf") == r'"C:\my files\plan.pdf"'


def test_files_stand_before_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("plan.pdf", "my file.png", "b"):
        (tmp_path / name).touch()
    full = tmp_path / "b"
    assert split_files("plan.pdf the plan") == ([Path("plan.pdf")], "the plan")
    assert split_files("my file.png the file") == ([Path("my file.png")], "the file")
    assert split_files(f"plan.pdf {full} both") == ([Path("plan.pdf"), full], "both")
    assert split_files("plan.pdf b") == ([Path("plan.pdf")], "b")  # a word of a text, not the file of that name
    assert split_files("nothing there") == ([Path("nothing")], "there")


def test_paths_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub dir").mkdir()
    for name in ("plan.pdf", "Plan B.txt", ".hidden", "sub dir/deep.txt"):
        (tmp_path / name).touch()
    assert path_candidates("pl") == ["plan.pdf"]
    assert path_candidates("PL") == [typed_path("Plan B.txt"), "plan.pdf"]  # nothing begins so exactly
    assert path_candidates(".h") == [".hidden"]
    (directory,) = path_candidates("su")
    assert directory == typed_path("sub dir/")
    opened = directory.removesuffix('"')
    assert path_candidates(f"{opened}de") == [typed_path("sub dir/deep.txt")]
    (tmp_path / "sub dir 2").mkdir()
    assert len(path_candidates("sub")) == 2 and path_candidates(typed_path("sub dir")) == [directory]
    assert path_candidates("nowhere/") == [] and path_candidates("file:///") == []
    full = os.path.join(tmp_path.as_posix(), "pl")
    assert path_candidates(full) == [typed_path(f"{tmp_path.as_posix()}/plan.pdf")]
