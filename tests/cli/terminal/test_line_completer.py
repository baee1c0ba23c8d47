"""Tab completion."""

from __future__ import annotations

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from p2pchat.cli.terminal.line_completer import LineCompleter, RecentSpeakers

USERS = ["Anna Maria", "annabel", "bob", "bob#K7QF2M3P", "Cyd"]


def offered(line: str, *, spoke: tuple[str, ...] = ()) -> list[str]:
    """Return the whole lines that Tab offers."""
    speakers = RecentSpeakers()
    for label in spoke:
        speakers.add(label)
    completer = LineCompleter(
        lambda: USERS, lambda: ["room", "annabel", "bob", "#ops"], lambda: ["bob"], speakers, lambda: ["plan.pdf"]
    )
    document = Document(line)
    found = completer.get_completions(document, CompleteEvent())
    return [line[: len(line) + one.start_position] + one.text for one in found]


@pytest.mark.parametrize(
    "line, lines",
    [
        ("/ms", ["/msg "]),
        ("/re", ["/reply ", "/rename ", "/react ", "/receipts ", "/revoke ", "/rename-device ", "/revoke-device "]),
        ("/msg a", ['/msg "Anna Maria" ', "/msg annabel "]),
        ("/msg bob hello c", ["/msg bob hello Cyd "]),
        ("/go anna m", ['/go "Anna Maria"']),
        ("/go o", ["/go #ops"]),
        ("/group ops anna", ['/group ops "Anna Maria" ', "/group ops annabel "]),
        ('/group ops "Anna Maria" bob c', ['/group ops "Anna Maria" bob Cyd ']),
        ("/kick ", ["/kick bob "]),
        ("/set j", ["/set joins "]),
        ("/set joins ", ["/set joins auto", "/set joins on", "/set joins off"]),
        ("/set nosuch ", []),
        ("/nosuch a", []),
        ("an", ["Anna Maria: ", "annabel: "]),
        ("hello an", ["hello Anna Maria ", "hello annabel "]),
        ("@cy", ["@Cyd "]),
        ("ask (@an", ["ask (@Anna Maria ", "ask (@annabel "]),
        ("me@an", []),
        ("/me asks @an", ["/me asks @Anna Maria ", "/me asks @annabel "]),
        ("/msg @an", ['/msg @"Anna Maria" ', "/msg @annabel "]),
        ("/go @", ['/go @"Anna Maria"', "/go @annabel", "/go @bob", "/go @bob#K7QF2M3P", "/go @Cyd"]),
        ("//an", []),
        ("", []),
    ],
)
def test_completion_candidates(line: str, lines: list[str]) -> None:
    assert offered(line) == lines


def test_the_latest_speaker_comes_first() -> None:
    assert offered("b", spoke=("bob", "bob#K7QF2M3P")) == ["bob#K7QF2M3P: ", "bob: "]
    assert offered("b", spoke=("bob", "bob#K7QF2M3P", "bob")) == ["bob: ", "bob#K7QF2M3P: "]
    assert offered("/msg a", spoke=("annabel", "Cyd")) == ["/msg annabel ", '/msg "Anna Maria" ']


def test_paths_and_files_that_were_shown_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("docs/deep.txt", "draft"):
        (tmp_path / name).touch()
    assert offered("/send d") == ["/send docs/", "/send draft "]
    assert offered("/send docs/") == ["/send docs/deep.txt "]
    assert offered("/send nothing") == []
    assert offered("/send draft for an") == ["/send draft for Anna Maria ", "/send draft for annabel "]
    assert offered("/get pl") == offered("/get ") == ["/get plan.pdf "]
    assert offered("/get 1 do") == ["/get 1 docs/"]
