"""Fixtures and settings for all tests.

`tell(text)` shows a result at the end of the run, also of a passed test. It is part of the test's report, so that it
works with several processes.

Ctrl-C and hangup have their default effect, also in a run under `nohup` or a shell's `&`. Otherwise every process
that a test starts would inherit the ignored signals, and a chat keeps ignored signals ignored.

A test marked `alone` runs while no other process of the run is in a test: what it measures, or how much it starts, is
about the whole machine.

Bytecode is written even if the environment disables it: a run starts a thousand processes of the package, and each
would compile it again. Objects that exist before the first test are excluded from garbage collection, as the command
line does after its start.
"""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from filelock import FileLock
from hypothesis import HealthCheck, is_hypothesis_test, settings

from p2pchat.cli.process_and_signals import allow_descriptors
from tests.amounts import GENERATED, LONG
from tests.databases.fixtures import new_database as new_database
from tests.databases.fixtures import one_database as one_database
from tests.databases.fixtures import server_of as server_of
from tests.deadlines import with_deadline
from tests.nats import engine as engine
from tests.processes.fork_server import AVAILABLE, ForkServer

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["P2PCHAT_LOOP"] = "asyncio"  # the usual loop; tests of other loops set theirs
allow_descriptors()  # some tests hold hundreds of connections

# `poe test` has its files in memory if there is room: a run makes tens of thousands of commits, and each would wait for
# a disk. What a killed process wrote is there in both. `poe test-long` takes a disk.
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30  # a run leaves some hundred MB; peers keep the last GiB of a disk free


def _has_room(place: Path) -> bool:
    if sys.platform == "win32" or not os.access(place, os.W_OK):
        return False
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & getattr(os, "ST_NOEXEC", 0)


if not LONG and "TMPDIR" not in os.environ and _has_room(MEMORY):
    os.environ["TMPDIR"] = str(MEMORY)  # also of the processes that the tests start
    tempfile.tempdir = None

for _number in (getattr(signal, name, None) for name in ("SIGINT", "SIGHUP")):
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)  # ignored here; started processes have the default

settings.register_profile(  # time decides nothing
    "suite", deadline=None, max_examples=GENERATED, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

Tell = Callable[[str], None]
_RESULT = "result"
_KILLED = "killed"


def _import_share(config: pytest.Config) -> None:
    """Import the tests of which this process is to write the bytecode; the other processes of the run find it there.

    Every process imports all tests. In a fresh clone each would also compile all of them, since all come to a file at
    the same time.
    """
    number = int(PROCESS.removeprefix("gw"))
    for path in sorted(Path(__file__).parent.rglob("test_*.py"))[number::PROCESSES]:
        with suppress(Exception, pytest.skip.Exception):  # collection meets it again, and reports it
            import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    gc.disable()  # collection makes no garbage
    try:
        if RUN is not None and session.config.args == session.config.getini("testpaths"):
            _import_share(session.config)
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


# The longest files, the longest first: those of `poe test-long`, then those of both, by their seconds in a run of
# `poe test`. They start first, so that no process works alone at the end.
LONGEST = (
    "core/test_histories.py", "hostile/test_branches.py", "tests/test_benchmarks.py", "processes/test_networks.py",
    "hostile/test_memory.py", "web/test_page_conversations.py", "processes/test_many_kills.py",
    "processes/test_disk.py", "processes/test_failpoints.py", "cluster/test_membership.py",
    "processes/test_scenarios.py", "web/test_page.py", "cluster/test_safe_answers.py", "processes/test_control.py",
    "web/test_delivery.py", "processes/test_command_line.py", "runtime/test_connections.py",
    "web/test_deleted_accounts.py", "web/test_web_command.py", "storage/test_servers.py", "web/test_rest_files.py",
    "web/test_restarts.py", "discovery/test_local.py", "docs/test_scripts.py", "runtime/test_driver.py",
    "processes/test_doctor.py", "processes/test_strangers.py", "testing/test_process_mesh.py",
    "processes/test_cuts.py", "storage/test_contract.py", "processes/test_relay_kills.py", "processes/test_restore.py",
    "processes/test_kill.py", "processes/test_refusals.py", "compat/test_socketio_chat.py",
    "conformance/test_p2pchat.py", "processes/test_files.py", "subcommands/test_completion.py",
    "testing/test_pytest_plugin.py", "web/test_socketio.py", "processes/test_streams.py", "web/test_reserved_names.py",
    "terminal/test_files.py", "tests/test_examples.py", "hostile/test_attacks.py", "terminal/test_prompt.py",
    "messaging/test_hosted_user.py", "processes/test_stored_files.py", "cli/test_troubleshooting.py",
    "web/test_openapi.py", "docs/test_pages.py", "storage/test_copy.py", "web/test_rest.py",
    "terminal/test_conversations.py",
)  # fmt: skip


# What `poe test` leaves out and `poe test-long` runs: attacks that need or measure the whole machine, whole days and
# networks, all benchmarks, the wheel, the manual, the peer in JavaScript, gateways behind other programs or moved, and
# most of the page (`poe test` tries it in test_page.py).
LONG_FILES = (
    "conformance/test_peer_mjs.py", "docs/test_site.py", "hostile/test_branches.py", "hostile/test_cheap_frames.py",
    "hostile/test_floods.py", "hostile/test_memory.py", "hostile/test_unknown_writers.py", "processes/test_bench.py",
    "processes/test_many_kills.py", "processes/test_networks.py", "processes/test_replay.py",
    "processes/test_slow.py", "processes/test_two_machines.py", "processes/test_wheel.py",
    "tests/test_bench_compare.py", "tests/test_benchmarks.py",
    "web/test_environment_gateway.py", "web/test_moved_gateway.py", "web/test_page_attachments.py",
    "web/test_page_changes.py", "web/test_page_conversations.py", "web/test_page_text.py",
    "web/test_reverse_proxy.py",
)  # fmt: skip

# What `poe quick` leaves out besides: many real processes, killed and restarted, and a browser.
SLOW_FOLDERS = ("processes",)
SLOW_FILES = ("web/test_page.py",)


def named(item: pytest.Item) -> str:
    """Return the file of a test as the tables name it, by its folder and name."""
    return "/".join(item.path.parts[-2:])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, mark tests that are long, slow or with generated inputs, and give deadlines."""
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(named(item), len(LONGEST)))
    for item in items:
        file = named(item)
        if file in LONG_FILES:
            item.add_marker(pytest.mark.long)
        if item.path.parent.name in SLOW_FOLDERS or file in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.sampled)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = with_deadline(item.obj)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, give each mutant to the next free process, and of other files all tests to one."""
    from xdist.scheduler import LoadFileScheduling

    if config.getoption("dist") != "loadfile":
        return None
    scheduling = LoadFileScheduling(config, log)
    by_file = scheduling._split_scope
    scheduling._split_scope = lambda test: test if test.startswith("tests/long/mutants/") else by_file(test)
    return scheduling


RUN, PROCESS = os.environ.get("PYTEST_XDIST_TESTRUNUID"), os.environ.get("PYTEST_XDIST_WORKER", "")
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _lock(name: str) -> FileLock:
    return FileLock(Path(tempfile.gettempdir(), f"p2pchat-tests-{RUN}-{name}.lock"), poll_interval=0.01)


_gate = _lock("gate")  # held by who waits for its turn: nobody else begins meanwhile
_locks = {f"gw{number}": _lock(f"gw{number}") for number in range(PROCESSES)}  # each held during a test of its process


_someone_is_alone = False  # a lock for each test costs as much as a small test


def pytest_collection_finish(session: pytest.Session) -> None:
    global _someone_is_alone
    _someone_is_alone = any(item.get_closest_marker("alone") for item in session.items)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the time of a test begins
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if RUN is None or not _someone_is_alone:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as held:
        with _gate:
            for lock in _locks.values() if alone else (_locks[PROCESS],):
                held.enter_context(lock)
        return (yield)


def pytest_unconfigure() -> None:
    if RUN is not None:
        for lock in (_locks[PROCESS], *((_gate,) if PROCESS == "gw0" else ())):
            Path(lock.lock_file).unlink(missing_ok=True)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    return lambda text: record_property(_RESULT, text)


@pytest.fixture
def killed(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """Return a function that counts processes ended by SIGKILL; the end of the run prints the total."""
    return lambda count: record_property(_KILLED, count)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def fork_server() -> AsyncIterator[ForkServer | None]:
    """Yield the fork server that starts the peers of a file, or None on systems where it does not work."""
    if not AVAILABLE:
        yield None
        return
    async with ForkServer() as fork_server:
        yield fork_server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    results = [str(what) for report in reports for name, what in report.user_properties if name == _RESULT]
    ends = [report for report in terminalreporter.getreports("") if report.when == "teardown"]  # with all properties
    kills = sum(int(str(what)) for report in ends for name, what in report.user_properties if name == _KILLED)
    if kills:
        results.append(f"{kills} processes were ended by SIGKILL while they worked")
    if results:
        terminalreporter.section("what was found out")
        for text in results:
            terminalreporter.write_line(text)
