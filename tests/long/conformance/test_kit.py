"""The command of the conformance kit: its options, what it prints, its report and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat_conformance.runner import LEVELS, all_rules
from tests.conformance.candidates import PATIENCE, PYTHONPATH, free_port


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


async def kit(*arguments: str) -> tuple[int | None, str, str]:
    """Run the command; return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pchat_conformance", *arguments, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONUTF8": "1"},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def test_a_report_says_what_failed_and_what_was_sent_and_came(home: Path) -> None:
    """The candidate answers nobody."""
    only = [word for rule in ("the-room-is-answered", "unknown-frames-are-ignored", "an-orderly-stop-says-goodbye")
            for word in ("--only", rule)]  # fmt: skip
    async with TCPPeer(temporary=True, name="silent") as peer:
        invite = await peer.make_invite()
        arguments = (invite, *only, "--timeout", "4", "--seed", "fixed", "--json", str(home / "report"))
        code, out, err = await kit(*arguments)
        assert (code, err) == (1, "")
        lines = out.splitlines()
        assert lines[0] == f"the candidate is {peer.me.key}; the seed is fixed"
        assert "passed  unknown-frames-are-ignored" in lines
        assert "skipped an-orderly-stop-says-goodbye: needs --stop" in lines
        why = "within 4 s there was no text 'hello, room' of the candidate that answers the entry"
        failed = lines.index(f"failed  the-room-is-answered: {why}")
        assert lines[failed + 2] == "        docs/protocol.md#tail"
        assert lines[-1].startswith("1 passed, 1 failed, 1 skipped in ")
        assert (await kit(await peer.make_invite(), "--only", "unknown-frames-are-ignored"))[0] == 0

    report = json.loads((home / "report").read_text("utf-8"))
    results = {result["rule"]: result for result in report.pop("results")}
    assert report == {"version": 1, "protocol": 4, "candidate": peer.me.key, "level": "bot", "seed": "fixed"}
    assert {rule: result["outcome"] for rule, result in results.items()} == {
        "the-room-is-answered": "failed", "unknown-frames-are-ignored": "passed",
        "an-orderly-stop-says-goodbye": "skipped",
    }  # fmt: skip
    result = results["the-room-is-answered"]
    assert (result["level"], result["section"], result["why"]) == ("bot", "protocol.md#tail", why)
    sent = [frame["text"] for frame in result["frames"] if frame["from"] == "kit" and "hello, room" in frame["text"]]
    assert len(sent) == 1 and '"t":"entries"' in sent[0]
    came = [json.loads(frame["text"]) for frame in result["frames"] if frame["from"] == "candidate"][:-1]
    assert {"hello", "welcome", "go", "here", "have"} <= {frame["t"] for frame in came}


async def test_rules_that_fail_alike_are_named_together() -> None:
    """The candidate answers nobody."""
    alike = ("the-room-is-answered", "direct-messages-are-answered", "what-was-written-before-is-fetched",
             "a-relayed-log-is-fetched")  # fmt: skip
    only = [word for rule in (*alike, "names-may-be-repeated") for word in ("--only", rule)]
    async with TCPPeer(temporary=True, name="silent") as peer:
        code, out, _ = await kit(await peer.make_invite(), *only, "--timeout", "1.5")
    assert code == 1
    summary = out[out.index("4 rules failed alike, perhaps for one cause: ") :].splitlines()
    assert summary[0].endswith("within … s there was no text … of the candidate that answers the entry")
    assert summary[1].strip() == ", ".join(alike)


async def test_a_lost_first_contact_shows_what_came() -> None:
    async with TCPPeer(temporary=True, name="once") as peer:
        invite = await peer.make_invite(uses=1)
        assert (await kit(invite, "--only", "unknown-frames-are-ignored"))[0] == 0
        code, out, err = await kit(invite, "--only", "unknown-frames-are-ignored")
    assert (code, out) == (2, "")
    first, *frames = err.splitlines()
    assert first.startswith("there is no first link with the candidate: the candidate closed the link with 'used'")
    assert first.endswith("awaited was `admit`")
    assert [line.split()[0] for line in frames[:2]] == ["kit", "to"]
    assert any('"code":"used"' in line for line in frames)


async def test_the_rules_are_listed_with_their_sentences() -> None:
    code, out, err = await kit("--list", "--level", "full")
    assert (code, err) == (0, "")
    rules = all_rules()
    assert [line.split()[1] for line in out.splitlines() if line.startswith(LEVELS)] == [rule.name for rule in rules]
    assert all(rule.sentence in out for rule in rules)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "name an invite, or --listen [HOST:]PORT"),
        (["p2pchat:ABC@127.0.0.1:1"], "the invite is damaged at its beginning or end: copy it again, whole"),
        (["--list", "--only", "no-such-rule"], "there is no rule 'no-such-rule': --list --level full prints all"),
    ],
)
async def test_wrong_options_end_with_2(arguments: list[str], error: str) -> None:
    assert await kit(*arguments) == (2, "", f"{error}\n")


async def test_a_candidate_that_nobody_reaches_ends_with_2() -> None:
    async with TCPPeer(temporary=True, name="gone") as peer:
        invite = await peer.make_invite()
    assert await kit(invite) == (2, "", "no link could be set up with the candidate\n")
    code, out, _ = await kit("--listen", str(free_port()), "--level", "full", "--list")
    assert code == 0 and "p2pchat:" not in out
