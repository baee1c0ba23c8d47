"""Fixtures and settings for all tests.

`tell(text)` shows a result at the end of the run, also of a passed test. It is part of the test's report, so that it
works with several processes.

Ctrl-C and hangup have their default effect, also in a run under `nohup` or a shell's `&`. Otherwise every process
that a test starts would inherit the ignored signals, and a chat keeps ignored signals ignored.

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
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, is_hypothesis_test, settings

from p2pchat.cli.process import allow_descriptors
from tests import guard
from tests.databases.fixtures import new_database as new_database
from tests.databases.fixtures import one_database as one_database
from tests.databases.fixtures import server_of as server_of
from tests.deadlines import with_deadline
from tests.processes.fork_server import AVAILABLE, ForkServer

LONG = bool(os.environ.get("P2PCHAT_TEST_LONG"))  # set by `poe test-long`

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("VIRTUAL_ENV", None)  # commands to paste are those of an environment that is not activated

# Nothing of a person's shell reaches a test or a process that it starts: no language, terminal, editor, time zone or
# option of p2pchat, and no home (home_of_no_person).
PERSONAL = (
    "CLICOLOR", "COLORTERM", "COLUMNS", "EDITOR", "FORCE_COLOR", "INPUTRC", "LANGUAGE", "LC_", "LESS", "LINES",
    "MANPAGER", "NO_COLOR", "P2PCHAT_", "PAGER", "PYTHONIOENCODING", "PYTHONUTF8", "STY", "TMUX", "VISUAL", "VTE_",
    "WT_SESSION", "XDG_", "XTERM_", "_P2PCHAT_",
)  # fmt: skip
for _name in [name for name in os.environ if name.startswith(PERSONAL) and not name.startswith("P2PCHAT_TEST_")]:
    del os.environ[_name]
os.environ |= {"LANG": "C.UTF-8", "TERM": "xterm-256color", "TZ": "UTC"}
if sys.platform != "win32":
    time.tzset()
os.environ["P2PCHAT_LOOP"] = "asyncio"  # the usual loop; tests of other loops set theirs
allow_descriptors()  # some tests hold hundreds of connections
guard.install()

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

settings.register_profile(  # time decides nothing; other inputs come in each run of `poe test-long` only
    "suite", deadline=None, derandomize=not LONG, max_examples=100 if LONG else 30,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("suite")

pytest_runtest_protocol = guard.pytest_runtest_protocol
pytest_runtest_call = guard.pytest_runtest_call

Tell = Callable[[str], None]
_KILLED = "killed"
RUN, PROCESS = os.environ.get("PYTEST_XDIST_TESTRUNUID"), os.environ.get("PYTEST_XDIST_WORKER", "")
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _import_share(config: pytest.Config) -> None:
    """Import the tests of which this process is to write the bytecode; the other processes of the run find it there.

    Every process imports all tests. In a fresh clone each would also compile all of them, since all come to a file at
    the same time.
    """
    number = int(PROCESS.removeprefix("gw"))
    paths = [path for path in sorted(guard.TESTS.rglob("test_*.py")) if LONG or not path.is_relative_to(guard.LONG)]
    for path in paths[number::PROCESSES]:
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put stories first, so that no process works alone at the end; mark generated inputs, and give deadlines."""
    items.sort(key=lambda item: item.get_closest_marker("story") is None)
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.generated)
        if guard.is_long(item):
            item.add_marker(pytest.mark.long)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = with_deadline(item.obj)


@pytest.fixture(scope="session", autouse=True)
def home_of_no_person(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the tests that set no home of their own one that ends with the run."""
    os.environ["P2PCHAT_HOME"] = str(tmp_path_factory.mktemp("home"))


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


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    return lambda text: record_property(guard.RESULT, text)


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
    results = [str(what) for report in reports for name, what in report.user_properties if name == guard.RESULT]
    ends = [report for report in terminalreporter.getreports("") if report.when == "teardown"]  # with all properties
    kills = sum(int(str(what)) for report in ends for name, what in report.user_properties if name == _KILLED)
    if kills:
        results.append(f"{kills} processes were ended by SIGKILL while they worked")
    if results:
        terminalreporter.section("what was found out")
        for text in results:
            terminalreporter.write_line(text)
