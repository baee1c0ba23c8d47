"""Documents: links work, named tests are there, commands are where tools look for them."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from p2pchat import __version__
from p2pchat.storage.schema import SCHEMA_VERSION

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PATHS = [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/faults.md"]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in PATHS)

DEMO = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m p2pchat demo"
TEST = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/poe test'
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def on_windows(command: str) -> str:
    """Return the same command for cmd.exe."""
    return command.replace("python3 ", "py ", 1).replace(".venv/bin/", ".venv\\Scripts\\")


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks in one language, without the fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def promises() -> list[tuple[str, str]]:
    """Return (when, tested by) of each row of the promises table."""
    guarantees = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    section = guarantees.partition("## What is promised\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    return [(row[0], row[-1]) for row in rows[2:]]


@cache
def names_defined(path: Path) -> set[str]:
    """Return the names of the functions and classes of a file."""
    return set(re.findall(r"^ *(?:async )?(?:def|class) (\w+)", path.read_text("utf-8"), re.MULTILINE))


@cache
def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings: lower case, blanks to hyphens, other characters dropped."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_command_is_the_demo_and_the_last_runs_the_tests_on_each_system() -> None:
    assert (blocks("sh")[0], blocks("sh")[-1]) == (DEMO + "\n", TEST + "\n")
    assert README.index("## The first minute") < README.index("## Develop") < README.index(TEST)
    assert blocks("bat") == [on_windows(DEMO) + "\n", on_windows(TEST) + "\n"]


def names_by_port() -> dict[int, set[str]]:
    """Return who starts on which port, in the README, docs/, examples/ and the package, on a reader's own machine.

    What starts with another login, in a directory of its own or in a temporary one has another profile. A gateway
    or a program without a name is called so, unless the port is that of a program; a chat goes on with its name.
    """
    found: dict[int, set[str]] = {}
    programs: dict[str, str] = {}

    def add(port: str | int, name: str) -> None:
        found.setdefault(int(port), set()).add(name)

    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "p2pchat").rglob("*.py")]
    for document in (README, *(path.read_text("utf-8") for path in pages)):
        text = re.sub(r"^```[^\n]* login=.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"^.*--(?:data|temp)\b.*$", "", text, flags=re.MULTILINE)
        for port, name in re.findall(r"p2pchat(?: mcp)? (8\d{3})\b[^\n|`]*? --name (\w+)", text):
            add(port, name)
        for page, options in re.findall(r"p2pchat web (8\d{3})\b([^\n`]*)", text):
            port, name = (re.search(rf"--{option} (\w+)", options) for option in ("port", "name"))
            add(port[1] if port else int(page) + 1, name[1] if name else "a gateway")
        for name, port in re.findall(r"-- (\w+) listens on 127\.0\.0\.1:(8\d{3})", text):
            add(port, name)
        for port, options in re.findall(r"TCPPeer\((8\d{3})([^\n`]*)", text):
            name = re.search(r'name="(\w+)"', options)
            programs[port] = name[1] if name else programs.get(port, "a program")
            add(port, programs[port])
    for example in (ROOT / "examples").glob("*.py"):
        text = example.read_text("utf-8")
        name = re.search(r'(?:Bot\(|name=)"(\w+)"', text)
        for port in re.findall(rf"python examples/{example.name} (8\d{{3}})", text):
            assert name is not None
            add(port, name[1])
    return found


def test_each_program_has_a_port_of_its_own() -> None:
    """A port is an identity: the bot of the README spoke as the shop below it, and was renamed."""
    found = names_by_port()
    assert {"ada", "bob", "bot", "shop", "cron", "wbot", "gate", "echo"} <= {
        name for names in found.values() for name in names
    }
    assert {port: names for port, names in found.items() if len(names) > 1} == {}


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1_200


def test_continuous_integration_runs_the_commands_of_the_readme_on_each_python() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert "run: .ci/run\n" in workflow
    for command in (TEST.replace("python3 -m", "python -m", 1), on_windows(TEST).replace("py -m", "python -m", 1)):
        assert f"run: {command}\n" in workflow
    pattern = re.search(r"grep -m1 -E '([^']+)' README\.md", (ROOT / ".ci/run").read_text("utf-8"))
    assert pattern is not None
    assert [line for line in README.splitlines() if re.match(pattern[1], line)] == [TEST]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    [tested] = re.findall(r"python: (\[.+\])\n", workflow)
    assert set(pythons) <= set(json.loads(tested))
    assert project["requires-python"] == f">={pythons[0]}"


def test_classifiers_claim_what_was_run() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    [was_run] = re.findall(r"p2pchat has been run on \*\*Linux only\*\*: .+?\)(.+?)\.\s", page)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    claimed = " ".join(project["classifiers"])
    assert re.findall(r"Python :: (3\.\d+)", claimed) == re.findall(r"3\.\d+", was_run)
    assert re.findall(r"Operating System :: ([\w: ]+?)(?= Prog)", claimed) == ["POSIX :: Linux"]


def test_actions_of_continuous_integration_are_pinned() -> None:
    for path in (ROOT / ".github/workflows").iterdir():
        actions = re.findall(r"uses: (?!\./)(.+)", path.read_text("utf-8"))
        assert actions and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", one) for one in actions)


@pytest.mark.parametrize(("when", "tested_by"), promises(), ids=[when for when, _ in promises()])
def test_each_promise_names_its_tests(when: str, tested_by: str) -> None:
    assert NAMED.findall(tested_by)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_tests_that_a_document_names_are_there(document: str) -> None:
    for path, name in NAMED.findall((ROOT / document).read_text("utf-8")) if document != "CHANGELOG.md" else ():
        assert (ROOT / path).is_file(), f"{path} is not there"
        assert name in {"", *names_defined(ROOT / path)}, f"{path} has no {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_inside_the_repository_work(document: str) -> None:
    missing = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", (ROOT / document).read_text("utf-8")):
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        if not found.exists() or (anchor and anchor not in anchors(found)):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_place_in_a_file_is_there(document: str) -> None:
    """As "in `p2pchat/core/node.py`, where a commit is begun (`PendingCommit`)"."""
    text = (ROOT / document).read_text("utf-8")
    for path, name in re.findall(r"`(p2pchat/[\w/]+\.py)`, where [^`.]*\(`(\w+)`\)", text):
        assert name in (ROOT / path).read_text("utf-8"), (path, name)


def test_no_document_names_the_foreign_package_p2pchat() -> None:
    """`p2pchat` on the package index is another project; this one is `p2pchat-mesh` there."""
    foreign = re.compile(r"nstall(?:\s+-[\w-]+)*\s+[\"']?p2pchat(?![\w-])")
    folders = ("p2pchat", "examples", "benchmarks")
    texts = [*PATHS, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    assert foreign.search("pip " + "install -U p2pchat")
    assert [path.name for path in texts if foreign.search(path.read_text("utf-8"))] == []


def test_nothing_to_paste_names_a_package_of_an_index() -> None:
    """Whoever registers a name there decides what is run: pages, examples, files of deploy/ and help name a clone."""
    program = r"\b(?:uvx|pipx|npx|npm i(?:nstall)?|pip install|uv (?:tool|pip|add|run))\b"
    names = re.compile(rf"p2pchat-mesh|{program}[^`\n&]*[\s\"'=]p2pchat(?![\w/.])")
    assert names.search("pipx run p2pchat") and names.search("uvx --from 'p2pchat[mcp]' p2pchat")
    pages = [*PATHS]
    kinds = {"", ".cfg", ".html", ".js", ".mjs", ".py", ".yaml"}
    for folder in ("examples", "deploy", "benchmarks", "conformance", "p2pchat"):
        pages += [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in kinds]
    pages = [path for path in pages if path.name not in {"extras.py", "shell_command.py"}]  # these look at a copy
    assert [path.name for path in pages if names.search(path.read_text("utf-8"))] == []


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == __version__


def test_the_version_moves_with_the_database() -> None:
    """So an update installs anew, and who reads of another version knows whether its history is read."""
    assert __version__.split(".")[:2] == ["0", str(SCHEMA_VERSION)]
