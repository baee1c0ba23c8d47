"""Private files and directories: modes, atomic writes, no links followed, no leftovers."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from p2pchat import private_files
from p2pchat.errors import P2PChatError
from p2pchat.private_files import (
    make_private_directory,
    read_private,
    remove_leftovers,
    saved_file,
    sync_directory,
    sync_file,
    temporary_path,
    write_private,
)

fcntl = pytest.importorskip("fcntl", reason="Windows has none")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_private_with_any_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"1")
        make_private_directory(tmp_path / "a" / "b")
    finally:
        os.umask(former)
    assert mode(tmp_path / "secret") == 0o600
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


def test_writing_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "secret").symlink_to(victim)
    write_private(tmp_path / "secret", b"new")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "secret").is_symlink() and read_private(tmp_path / "secret") == b"new"


def test_a_failed_write_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(tmp_path / "secret", b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_private(tmp_path / "secret", b"new")
    assert os.listdir(tmp_path) == ["secret"] and (tmp_path / "secret").read_bytes() == b"old"


def save(path: Path, data: bytes) -> None:
    saved = saved_file(path)
    try:
        saved.write(data)
        saved.keep()
    finally:
        saved.discard()


def test_what_a_person_saves_goes_where_a_link_points(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    for data in (b"new", b"newer"):
        save(tmp_path / "link", data)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_bytes() == data


def test_what_a_person_saves_goes_into_a_pipe_or_a_device(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such pipes")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="nobody reads from this pipe"):
        save(tmp_path / "pipe", b"x")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    save(tmp_path / "pipe", b"x" * 1000)
    assert os.read(reader, 2000) == b"x" * 1000
    os.close(reader)
    save(Path(os.devnull), b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_a_name_as_long_as_any_is_saved_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, b"x")
    left = temporary_path(tmp_path / name)
    left.write_bytes(b"half")
    remove_leftovers(tmp_path / name, untouched=0)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EIO, errno.ENOSPC])
def test_only_a_file_system_that_cannot_sync_directories_is_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    told: list[int | None] = []
    try:
        sync_directory(tmp_path)
    except OSError as error:
        told.append(error.errno)
    assert told == ([number] if number in (errno.EIO, errno.ENOSPC) else [])


@pytest.mark.parametrize(
    ("system", "code", "done"),
    [
        ("darwin", 0, ["fsync", "F_FULLFSYNC"]),
        ("darwin", errno.ENOTSUP, ["fsync", "F_FULLFSYNC"]),  # of a file system that has no such call
        ("darwin", errno.EIO, ["fsync", "F_FULLFSYNC", "failed"]),
        ("linux", 0, ["fsync"]),
        ("win32", 0, ["fsync"]),
    ],
)
def test_the_disk_itself_writes_a_file_where_the_system_can_ask_for_that(
    system: str, code: int, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def control(descriptor: int, command: int) -> int:
        said.append({51: "F_FULLFSYNC"}[command])  # its number on macOS
        if code:
            raise OSError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "fsync", lambda descriptor: said.append("fsync"))
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    if system == "darwin":
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    with (tmp_path / "file").open("wb") as file:
        try:
            sync_file(file.fileno())
        except OSError:
            said.append("failed")
    assert said == done


def test_everything_that_must_be_durable_is_synced_by_the_same_function() -> None:
    """So each file, and the directory that has its name, is on the disk."""
    root = Path(private_files.__file__).parent
    callers = [
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if "os.fsync(" in path.read_text("utf-8")
    ]
    assert sorted(callers) == ["private_files.py"]


def test_a_file_as_large_as_no_key_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "fits", bytes(private_files.MAX_PRIVATE_BYTES))
    write_private(tmp_path / "large", bytes(private_files.MAX_PRIVATE_BYTES + 1))
    assert len(read_private(tmp_path / "fits")) == private_files.MAX_PRIVATE_BYTES
    with pytest.raises(P2PChatError, match="too large"):
        read_private(tmp_path / "large")


def test_an_empty_directory_and_an_old_profile_are_tightened(tmp_path: Path) -> None:
    for name in ("empty", "profile"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o775)
    (tmp_path / "profile" / "identity.pem").touch()
    for name in ("empty", "profile"):
        make_private_directory(tmp_path / name)
        assert mode(tmp_path / name) == 0o700


def test_a_directory_with_other_things_in_it_keeps_its_mode_or_is_refused(tmp_path: Path) -> None:
    for name, bits in (("readable", 0o755), ("writable", 0o775)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "work.txt").touch()
        (tmp_path / name).chmod(bits)
    make_private_directory(tmp_path / "readable")
    assert mode(tmp_path / "readable") == 0o755
    with pytest.raises(P2PChatError, match="chmod 700"):
        make_private_directory(tmp_path / "writable")


def test_a_directory_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(P2PChatError, match=r"is not a directory|cannot use"):
        make_private_directory(tmp_path / "file")
    with pytest.raises(P2PChatError):
        make_private_directory(tmp_path / "file" / "below")
