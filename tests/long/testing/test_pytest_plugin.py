"""The fixture p2pchat_mesh in the tests of others: it works in each mode, and a test that cannot use it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = "pytester"

ROOT = Path(__file__).resolve().parents[3]
# As the entry point of an installed package, also where it is not installed.
CONFTEST = "from p2pchat.testing.pytest_plugin import p2pchat_mesh"
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
        (OF_ANYIO, ["-o", "asyncio_mode=strict"]),
    ],
    ids=["strict", "auto", "anyio", "anyio beside pytest-asyncio"],
)
def test_a_mesh_runs_in_each_mode(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, words: list[str]
) -> None:
    run(pytester, monkeypatch, test, *words).assert_outcomes(passed=1)


WRONG = {
    "strict": (PLAIN, ["-o", "asyncio_mode=strict"]),
    "no plugin": (PLAIN, ["-p", "no:asyncio"]),
    "not async": (MARKED.replace("async def", "def").replace("await ", ""), []),
}


@pytest.mark.parametrize("wrong", [*WRONG])
def test_a_test_that_cannot_use_it_never_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    test, words = WRONG[wrong]
    outcomes = run(pytester, monkeypatch, test, *words).parseoutcomes()
    assert "passed" not in outcomes and outcomes.keys() & {"failed", "errors"}
