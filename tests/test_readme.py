"""Tests of the documents: commands are where tools look for them, links work, examples run.

Each row of the README's promises table must name tests that exist, or say that it is not built yet.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from p2pchat import Message, TCPPeer, __version__

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "logs" / "README.md"])

DEMO = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m p2pchat demo"
TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/poe test'
NOT_BUILT = "not built yet"


def on_windows(command: str) -> str:
    """Return the same command for cmd.exe."""
    return command.replace("python3 ", "py ", 1).replace(".venv/bin/", ".venv\\Scripts\\")


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks in one language, without the fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def promises() -> list[tuple[str, str]]:
    """Return (when, tested by) of each row of the promises table."""
    section = README.partition("## What is promised\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    return [(row[0], row[-1]) for row in rows[2:]]


@cache
def names_defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings: lower case, blanks to hyphens, other characters dropped."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_commands_are_the_demo_and_the_tests() -> None:
    assert blocks("sh")[:2] == [DEMO + "\n", TEST + "\n"]


def test_the_windows_commands_follow() -> None:
    assert blocks("bat") == [on_windows(DEMO) + "\n", on_windows(TEST) + "\n"]


def test_continuous_integration_runs_the_commands_of_the_readme() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert "run: .ci/run\n" in workflow
    assert on_windows(TEST).replace("py -m", "python -m", 1) in workflow
    assert "poe test-long " in workflow
    pattern = re.search(r"grep -m1 -E '([^']+)' README\.md", (ROOT / ".ci/run").read_text("utf-8"))
    assert pattern is not None
    assert [line for line in README.splitlines() if re.match(pattern[1], line)] == [TEST]


def test_continuous_integration_is_pinned_and_runs_each_system_and_each_python() -> None:
    for path in (ROOT / ".github/workflows").iterdir():
        actions = re.findall(r"uses: (?!\./)(.+)", path.read_text("utf-8"))
        assert actions and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", one) for one in actions)
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    systems = re.search(r"os: \[([\w., -]+)\]", workflow)
    assert systems is not None
    assert re.fullmatch(r"ubuntu-\d+\.\d+, macos-\d+, windows-\d+", systems[1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert re.findall(r'"(3\.\d+)"', workflow) == pythons
    assert project["requires-python"] == f">={pythons[0]}"


def test_three_terminals_meet_on_8080_8081_and_8082() -> None:
    started = re.findall(r"^\.venv/bin/python -m p2pchat (808[0-2]) ?([^-\n]*)", README, re.MULTILINE)
    assert [(port, endpoints.split()) for port, endpoints in started] == [
        ("8080", []),
        ("8081", ["localhost:8080"]),
        ("8082", ["localhost:8080", "localhost:8081"]),
    ]


@pytest.mark.parametrize(("when", "tested_by"), promises(), ids=[when for when, _ in promises()])
def test_each_promise_names_its_tests_or_says_that_it_is_not_built(when: str, tested_by: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", tested_by)
    assert bool(named) != (NOT_BUILT in tested_by)
    for path, name in named:
        assert (ROOT / path).is_file(), f"{path} is not there"
        assert not name or name in names_defined(ROOT / path), f"{path} has no {name}"


def test_the_table_has_all_fifteen_promises() -> None:
    assert len(promises()) == 15


def test_the_promises_and_their_tests_come_after_everything_a_reader_does() -> None:
    sections = README.split("\n## ")
    assert [section.partition("\n")[0] for section in sections[-2:]] == ["What is promised", "Limits in short"]
    assert not [section[:30] for section in sections[:-2] if "tests/" in section]
    assert "```" not in "".join(sections[-2:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_work(document: Path) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path) if path else document
        if not found.exists() or (anchor and anchor not in anchors(found)):
            missing.append(target)
    assert missing == []


def test_no_document_names_the_foreign_package_p2pchat() -> None:
    """`p2pchat` on the package index is another project; this one is `p2pchat-mesh` there."""
    foreign = re.compile(r"\binstall(\s+-[\w-]+)*\s+[\"']?p2pchat(?![\w-])", re.IGNORECASE)
    folders = ("p2pchat", "examples", "benchmarks")
    texts = [*DOCUMENTS, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    assert foreign.search("pip " + "install -U p2pchat")
    assert not foreign.search("pip " + "install p2pchat-mesh")
    assert [path.name for path in texts if foreign.search(path.read_text("utf-8"))] == []


def test_the_project_has_the_documented_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["name"] == "p2pchat-mesh"
    main = "p2pchat.__main__:main"
    assert project["project"]["scripts"] == {"p2pchat": main, "p2pchat-mesh": main}
    assert {"test", "lint", "types", "bench", "demo"} <= set(project["tool"]["poe"]["tasks"])


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == __version__


async def test_the_library_example_answers_a_ping_and_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the README's program as written, in its own process; only its two ports are replaced by free ones."""
    (example,) = blocks("python")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with asyncio.timeout(180), TCPPeer(0, name="ada", temporary=True) as ada:
        code = example.replace("8085", "0").replace("localhost:8080", ada.endpoint)
        assert code.count(ada.endpoint) == 1
        history = await ada.send_many(ada.room, ["ping"] * 3)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, env=dict(os.environ))
        try:
            bot = await ada.wait_user("bot", timeout=60)
            await history[-1].delivered(by=bot)
            await ada.broadcast("ping")
            await ada.send(bot, "ping")
            pongs = []
            async for event in ada.events(Message):
                if event.text == "pong":
                    pongs.append((event.sender, event.conversation.kind))
                    if event.conversation.kind == "dm":
                        break
        finally:
            process.kill()
            await process.wait()
    assert pongs == [(bot, "room"), (bot, "dm")]


def test_the_library_example_has_about_ten_lines() -> None:
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 11
