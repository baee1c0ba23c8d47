"""Export and import with real commands, beside an open chat and without one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import Child
from tests.deadlines import until
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE = 60.0  # seconds any wait may take


async def p2pchat(cluster: Cluster, of: str, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Run `p2pchat WORDS --data OF`; return exit code, stdout, stderr."""
    code, out, err = await asyncio.wait_for(
        cluster.talk(*words, "--data", str(cluster.home / of), stdin=stdin), PATIENCE
    )
    assert b"Traceback" not in err, err.decode()
    return code, out, err.decode()


async def said_by(cluster: Cluster, name: str, *texts: str) -> Child:
    """Start a peer alone and have it send these texts to the room."""
    child = cluster.child(name, log=False)
    await child.start()
    for text in texts:
        await child.do(do="send", text=text)
    await child.wait(lambda line: line["event"] == "sent", count=len(texts))
    return child


async def gone(child: Child) -> None:
    """Kill a peer. An orderly stop would wait for a recipient of its messages."""
    child.kill()
    await child.ended()


async def test_a_file_is_carried_from_one_open_chat_to_another(quick: Cluster, tmp_path: Path) -> None:
    await said_by(quick, "ada", "one", "two")
    bob = await said_by(quick, "bob", "hello?")
    code, out, err = await p2pchat(quick, "ada", "export", str(tmp_path / "stick"))
    assert (code, err) == (0, "")
    assert out.decode().startswith(f"{tmp_path / 'stick'}: 3 entries of 1 conversation, ")
    code, out, err = await p2pchat(quick, "bob", "import", str(tmp_path / "stick"))
    assert (code, out.decode(), err) == (0, f"{tmp_path / 'stick'}: 3 new, 0 here already\n", "")
    assert [line["text"] for line in await bob.wait(lambda line: line["event"] == "message", count=2)] == ["one", "two"]


async def test_export_and_import_through_pipes_and_without_a_running_peer(quick: Cluster) -> None:
    ada = await said_by(quick, "ada", "one")
    bob = await said_by(quick, "bob", "hello?")
    code, file, told = await p2pchat(quick, "ada", "export", "-")
    assert (code, told.partition(",")[0]) == (0, "-- 2 entries of 1 conversation")
    code, out, _ = await p2pchat(quick, "bob", "import", "-", "--json", stdin=file)
    assert (code, json.loads(out)["new"]) == (0, 2)
    await asyncio.gather(gone(ada), gone(bob))
    assert [path.name for path in (quick.home / "bob").iterdir() if path.name.startswith(".import")] == []
    code, out, _ = await p2pchat(quick, "bob", "import", "-", "--json", stdin=file)
    assert (code, json.loads(out)) == (0, {
        "new": 0, "known": 2, "foreign": 0, "refused": {}, "unreadable": 0, "problem": "",
        "files": 0, "damaged_files": 0})  # fmt: skip
    assert [line["text"] for line in await quick.history("bob")] == [
        "one",
        "hello?",
    ]  # in the order of writing


async def test_files_are_carried_too(quick: Cluster, tmp_path: Path) -> None:
    ada, bob = await said_by(quick, "ada", "one"), await said_by(quick, "bob", "hello?")
    (tmp_path / "film.bin").write_bytes(os.urandom(700_000))
    sending = ("send", "room", "look", "--file", str(tmp_path / "film.bin"), "--wait", "accepted")
    assert (await p2pchat(quick, "ada", *sending))[0] == 0
    stick = str(tmp_path / "stick")
    assert (await p2pchat(quick, "ada", "export", stick, "--no-files"))[0] == 0
    assert os.path.getsize(stick) < 10_000
    code, out, _ = await p2pchat(quick, "ada", "export", stick)
    assert code == 0 and out.decode().startswith(f"{stick}: 3 entries of 1 conversation, 1 file, 70")
    code, out, err = await p2pchat(quick, "bob", "import", stick)
    assert (code, out.decode(), err) == (0, f"{stick}: 3 new, 0 here already, 1 file\n", "")
    id = (await bob.event("message", text="look"))["id"]
    await gone(ada)
    code, out, _ = await p2pchat(quick, "bob", "get", id, "--output", "-")
    assert (code, out) == (0, (tmp_path / "film.bin").read_bytes())
    damaged = tmp_path / "damaged"
    damaged.write_bytes((tmp_path / "stick").read_bytes()[:-1000])
    cyd = await said_by(quick, "cyd", "hello?")
    code, out, err = await p2pchat(quick, "cyd", "import", str(damaged))
    assert code == 1 and "it is cut off: the end of its files is missing" in err and b"3 new" in out
    await gone(cyd)
    code, out, _ = await p2pchat(quick, "cyd", "import", stick)  # without a running peer
    assert (code, out.decode()) == (0, f"{stick}: 0 new, 3 here already, 1 file\n")


async def test_damage_in_a_file_is_reported_and_the_rest_is_imported(quick: Cluster) -> None:
    ada, bob = await said_by(quick, "ada", "one", "two", "three"), await said_by(quick, "bob", "hello?")
    await asyncio.gather(gone(ada), gone(bob))
    _, file, _ = await p2pchat(quick, "ada", "export", "-")
    for damaged, told in (
        (file[:-40], "p2pchat: the file: it is cut off: the end is missing; what came whole is imported\n"),
        (file.replace(b"three", b"forty"), "p2pchat: 4 entries refused: not as their writer signed it"),
        (b"dear bob", "p2pchat: this is no file that `p2pchat export` made\n"),
    ):
        code, _, err = await p2pchat(quick, "bob", "import", "-", stdin=damaged)
        assert (code, err[: len(told)]) == (1, told)
    code, _, err = await p2pchat(quick, "bob", "import", str(quick.home))
    assert (code, err.partition(":")[0]) == (1, "p2pchat")


async def test_a_killed_import_can_be_repeated(quick: Cluster) -> None:
    ada, bob = (
        await said_by(quick, "ada", *(f"line {n}" for n in range(200))),
        await said_by(quick, "bob", "hello?"),
    )
    await asyncio.gather(gone(ada), gone(bob))
    _, file, _ = await p2pchat(quick, "ada", "export", "-")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", "import", "-", "--data", str(quick.home / "bob")),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "P2PCHAT_HOME": str(quick.home)},
    )
    assert process.stdin is not None
    process.stdin.write(file[: len(file) // 2])  # the import waits for the rest
    await process.stdin.drain()
    process.kill()
    await process.wait()
    code, out, _ = await p2pchat(quick, "bob", "import", "-", "--json", stdin=file)
    row = json.loads(out)
    assert (code, row["new"] + row["known"]) == (0, 201)
    assert len(await quick.history("bob")) == 201


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
async def test_a_locked_profile_without_a_control_socket_names_its_holder(quick: Cluster, tmp_path: Path) -> None:
    ada = await said_by(quick, "ada", "one")
    await p2pchat(quick, "ada", "export", str(tmp_path / "stick"))
    (quick.home / "ada" / "control.sock").unlink(missing_ok=True)
    (quick.home / "ada" / "control.json").unlink(missing_ok=True)
    code, _, err = await p2pchat(quick, "ada", "import", str(tmp_path / "stick"))
    assert code == 1
    assert f"is in use by process {ada.process.pid}, which answers no commands" in err


async def test_a_backup_of_an_open_chat_runs_elsewhere(quick: Cluster, tmp_path: Path) -> None:
    ada = await said_by(quick, "ada", "one")
    code, out, err = await p2pchat(quick, "ada", "backup", str(quick.home / "copy"))
    assert code == 0
    assert f"PORT --data {quick.home / 'copy'}" in out.decode() and "never beside it" in err
    assert b": key, network, history and files, " in out
    code, out, _ = await p2pchat(quick, "ada", "backup", str(quick.home / "texts only"), "--no-files")
    assert (code, b": key, network and history, " in out) == (0, True)
    await ada.destroy()
    copy = quick.child("copy", log=False)
    await copy.start()
    assert copy.listening["user_id"] == ada.listening["user_id"]
    assert [line["text"] for line in await quick.history("copy")] == ["one"]
    code, _, err = await p2pchat(quick, "ada", "backup", str(quick.home / "copy"))
    assert (code, "not empty" in err) == (1, True)


async def started(quick: Cluster, of: str, *words: str) -> asyncio.subprocess.Process:
    """Run `p2pchat WORDS --data OF`, and do not wait for its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", *words, "--data", str(quick.home / of)),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "P2PCHAT_HOME": str(quick.home)},
    )
    return process


async def stops(process: asyncio.subprocess.Process, number: int) -> tuple[int, str]:
    """Send a signal; return exit code and stderr."""
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode or 0, err.decode()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
async def test_an_import_from_a_silent_pipe_can_be_interrupted(
    quick: Cluster, fifo: Path, number: int, code: int
) -> None:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    await gone(await said_by(quick, "ada", "one"))
    process = await started(quick, "ada", "import", str(fifo))
    writers: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # not open for reading yet
            writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    await until(is_read, "the pipe to be read")
    try:
        assert await stops(process, number) == (code, "")
    finally:
        os.close(writers[0])


async def test_an_export_into_an_unread_pipe_can_be_interrupted(quick: Cluster, fifo: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("has no such pipes")
    import fcntl
    import termios

    await gone(await said_by(quick, "ada", *("x" * 30_000 for _ in range(5))))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        process = await started(quick, "ada", "export", str(fifo))

        def waiting() -> int:
            return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)

        await until(lambda: waiting() >= 65536, "a full pipe")  # the capacity of a pipe
        assert await stops(process, signal.SIGINT) == (130, "")
    finally:
        os.close(reader)


async def test_an_endless_input_blocks_nothing_and_leaves_nothing(quick: Cluster) -> None:
    await said_by(quick, "ada", "one")
    process = await started(quick, "ada", "import", "-")
    assert process.stdin is not None
    process.stdin.write(b"x")
    directory = quick.home / "ada"
    await until(lambda: any(left.stat().st_size for left in directory.glob(".import-*")), "a copy of the file")
    code, _ = await stops(process, signal.SIGTERM)
    assert (code, list(directory.glob(".import-*"))) == (1, [])
