"""Tests of the page runner: parsing, comparison, and failures for wrong pages."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.expected import Ports, pattern, squeezed
from tests.docs.page_runner import Scene
from tests.docs.pages import blocks, steps

posix = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None,
    reason="the pages are written for a POSIX shell, run by bash",
)

PAGE = """\
```console
$ echo one; echo two
one
two
$ cat <<END
> 12:59
> END
12:00
```

<!-- not run: needs a second machine -->
```sh
sudo ufw allow 8080
```

```console title="ada"
$ printf 'Your name [ada]: '; read name; printf 'room> '; read word; echo "$name said $word on 8080"
Your name [ada]: eve
[bob 2] room> hello
eve said hello on 8080
```
"""


MACHINES = """\
```console title="study" machine="192.168.1.10"
$ ip -brief -4 address show dev eth0; echo "p2pchat:$(printf 'AB%.0s' $(seq 68))@192.168.1.10:8080"
eth0@... UP 192.168.1.10/24
p2pchat:ABAB...@192.168.1.10:8080
```
```console title="kitchen" machine="192.168.1.11"
$ read -p 'Paste the invite (it is not shown), then Enter: ' invite; echo "$invite"; echo >/dev/tcp/192.168.1.10/9
Paste the invite (it is not shown), then Enter: p2pchat:ABAB...@192.168.1.10:8080
p2pchat:ABAB...@192.168.1.10:8080
... Connection refused
```
"""


def fits(page: str, output: str) -> bool:
    return re.fullmatch(pattern(page.splitlines(), Ports()), squeezed(output), re.DOTALL) is not None


def test_a_page_is_parsed_into_blocks_and_steps() -> None:
    first, second, third = blocks(PAGE)
    assert [(step.kind, step.text, step.shown) for step in steps(first)] == [
        ("command", "echo one; echo two", ["one", "two"]),
        ("command", "cat <<END\n12:59\nEND", ["12:00"]),
    ]
    assert (second.runs, second.not_run, second.understood) == (False, "needs a second machine", True)
    assert [(step.kind, step.text, step.prompt, step.shown) for step in steps(third)[1:]] == [
        ("answered", "eve", "Your name [ada]:", []),
        ("typed", "hello", "room>", ["eve said hello on 8080"]),
    ]


def test_a_block_that_cannot_run_is_not_understood() -> None:
    (block,) = blocks("```powershell\nGet-Process\n```\n")
    assert not block.understood


def test_a_note_without_a_block_and_an_unclosed_block_are_errors() -> None:
    with pytest.raises(ValueError, match="directly above"):
        blocks("<!-- not run: no -->\n\n```sh\n```\n")
    with pytest.raises(ValueError, match="has no end"):
        blocks("```sh\n")


def test_times_ids_and_folding_may_differ_but_words_may_not() -> None:
    assert fits("11:40 bob: hi there", "23:59 bob: hi\n  there\n")
    assert fits("bob#K7QF2M3P ... today", "bob#AAAA2222 is here\nand away today")
    assert not fits("11:40 bob: hi", "11:40 bob: ho")
    assert not fits("one", "one\ntwo")
    assert not fits("", "something")


def test_a_port_chosen_by_a_program_is_used_from_then_on() -> None:
    ports = Ports()
    found = re.fullmatch(
        pattern(["listens on 127.0.0.1:8080, p2pchat 8080"], ports), "listenson127.0.0.1:4711,p2pchat4711"
    )
    assert found is not None
    ports.learn(found)
    assert ports.put("p2pchat 8081 localhost:8080").endswith(" localhost:4711")
    assert ports.put("p2pchat 8081") == ports.put("p2pchat 8081") != "p2pchat 8081"
    assert ports.put("after 18080 tries, 8192 bytes, 0.8080 s") == "after 18080 tries, 8192 bytes, 0.8080 s"


@posix
async def test_a_wrong_page_fails(tmp_path: Path) -> None:
    here = Scene(tmp_path)
    try:
        for page in ("$ echo one\ntwo", "$ false", "$ true\n$ echo $?\n1", "$ echo unexpected"):
            (block,) = blocks(f"```console\n{page}\n```\n")
            with pytest.raises(AssertionError):
                await here.play(block)
        (block,) = blocks('```console title="ada"\n$ echo one\ntwo\n```\n')
        with pytest.raises(AssertionError, match="ended without 'two'"):
            await here.play(block)
    finally:
        await here.close()


@posix
async def test_a_correct_page_passes(tmp_path: Path) -> None:
    here = Scene(tmp_path)
    try:
        for block in blocks(PAGE):
            if block.runs:
                await here.play(block)
        (block,) = blocks(
            "```console\n$ false\n$ echo $?\n1\n$ (echo ready; exec cat /dev/zero) | head -c 6 &\nready\n```\n"
        )
        await here.play(block)
    finally:
        await here.close()


@posix
async def test_machines_reach_each_other_and_share_an_invite(tmp_path: Path) -> None:
    here = Scene(tmp_path)
    try:
        for block in blocks(MACHINES):
            await here.play(block)
    finally:
        await here.close()
