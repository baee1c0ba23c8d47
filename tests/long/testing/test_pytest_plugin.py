"""The fixture p2pchat_mesh in the tests of others: it works, or says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = "pytester"

ROOT = Path(__file__).resolve().parents[3]
# As the entry point of an installed package, also where it is not installed.
CONFTEST = "from p2pchat.testing.pytest_plugin import p2pchat_mesh, pytest_runtest_setup"
WITHOUT_ASYNCIO = "import sys; sys.modules['pytest_asyncio'] = None"
BODY = """
    net = await p2pchat_mesh("ada", "bob")
    receipt = await net.peers[0].send("bob", "hi")
    await receipt.delivered(timeout=60)
"""
PLAIN = f"async def test_bot(p2pchat_mesh):{BODY}"
MARKED = f"import pytest\n@pytest.mark.asyncio\n{PLAIN}"
OF_ANYIO = f"import pytest\n@pytest.mark.anyio\nasync def test_bot(p2pchat_mesh, anyio_backend_name):{BODY}"
BACKEND = "\nimport pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, *words: str) -> pytest.RunResult:
    """Run pytest on one file in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    without = WITHOUT_ASYNCIO if "no:asyncio" in words else ""
    pytester.makeconftest("\n".join([without, CONFTEST, BACKEND]))
    pytester.makepyfile(test)
    return pytester.runpytest_subprocess("-q", "-p", "no:schemathesis", *words)  # 0.5 s to import


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (MARKED, ["-o", "asyncio_mode=strict"]),
        (PLAIN, ["-o", "asyncio_mode=auto"]),
        (OF_ANYIO, ["-p", "no:asyncio"]),
    ],
    ids=["strict", "auto", "anyio"],
)
def test_a_mesh_runs_in_each_mode(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, words: list[str]
) -> None:
    run(pytester, monkeypatch, test, *words).assert_outcomes(passed=1)


STRICT = ["-o", "asyncio_mode=strict"]
WRONG = {
    "strict": (PLAIN, STRICT, "pytest-asyncio is in strict mode: mark the test with @pytest.mark.*"),
    "no plugin": (PLAIN, ["-p", "no:asyncio"], "no plugin runs async tests: install pytest-asyncio, then mark *"),
    "not async": (
        MARKED.replace("async def", "def").replace("await ", ""), [], "the test is not async: write `async def`, *"
    ),
    "anyio too": (OF_ANYIO, STRICT, "anyio runs the test, and pytest-asyncio the fixture: mark *"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", [*WRONG])
def test_a_test_that_cannot_use_it_fails_with_what_to_do(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    test, words, says = WRONG[wrong]
    result = run(pytester, monkeypatch, test, *words)
    result.assert_outcomes(errors=1, warnings=result.parseoutcomes().get("warnings", 0))
    result.stdout.fnmatch_lines([f"*p2pchat_mesh cannot be used here: {says}"])
