"""What can be asked beside the command objects of --json."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pchat.cli.control_server import parse_own_order
from p2pchat.commands.json_commands import JSON_COMMANDS, BadCommand

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text("utf-8")
OWN = {"find", "wait", "tail", "export", "import", "web_token", "web_users", "web_revoke"}


def test_every_object_in_the_docs_can_be_read() -> None:
    section = PAGE.partition("\n## Control socket\n")[2].partition("\n## ")[0]
    read = [parse_own_order(text.encode()) for text in re.findall(r'`(\{"do".*?\})`', section)]
    assert {order and order.do for order in read} == OWN


def test_what_a_session_knows_is_left_to_it() -> None:
    for line in (b'{"do":"send","text":"hi"}', b'{"do":"nonsense"}', b"{", b'{"do":5}', b'{"do":[]}', b"{}"):
        assert parse_own_order(line) is None
    assert not OWN & set(JSON_COMMANDS)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"hello everybody", "a line here is a command object"),
        (b"/quit", "a line here is a command object"),
        (b"GET / HTTP/1.1", "a line here is a command object"),
        (b'["do"]', "a line here is a command object"),
        (b'{"do":"find"}', "'find' needs `to`"),
        (b'{"do":"find","to":1}', "`to` is a string"),
        (b'{"do":"find","to":"bob","last":1}', "'find' has no field 'last'; it has to, ref"),
        (b'{"do":"export","to":"bob"}', "'export' needs `path`"),
        (b'{"do":"import"}', "'import' needs `path`"),
        (b'{"do":"import","path":["x"]}', "`path` is a string"),
        (b'{"do":"wait","timeout":"5"}', "`timeout` is a number"),
        (b'{"do":"wait","timeout":true}', "`timeout` is a number"),
        (b'{"do":"wait","timeout":-1}', "`timeout` is seconds"),
        (b'{"do":"wait","timeout":NaN}', "`timeout` is seconds"),
        (b'{"do":"tail","last":10001}', "`last` is 0 to 10000"),
        (b'{"do":"tail","last":1.5}', "`last` is a number"),
        (b'{"do":"tail","ref":1}', "`ref` is a string"),
    ],
)
def test_what_cannot_be_meant(line: bytes, told: str) -> None:
    with pytest.raises(BadCommand) as error:
        parse_own_order(line)
    assert told in str(error.value)
