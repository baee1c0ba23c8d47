"""Every tool of an agent has an answer, whatever stands in its arguments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from p2pchat.commands.command_table import commands_at
from tests.long.cli.agents import agent, person
from tests.odd_values import GOOD, ODD

UNSAYABLE = "\ud800"  # the SDK's client writes UTF-8


def can_be_said(odd: Any) -> bool:
    return (
        UNSAYABLE not in str(odd)
        and not (isinstance(odd, list) and UNSAYABLE in "".join(map(str, odd)))
        and not (isinstance(odd, float) and not math.isfinite(odd))
    )


async def test_every_tool_has_an_answer_whatever_stands_in_its_arguments(tmp_path: Path) -> None:
    options = ("--may", "read,write,files,groups", "--files", str(tmp_path), "--rate", "100000")
    async with person("bob", tmp_path) as bob, agent(tmp_path, bob, "reviewer", *options) as one:
        await one.until_known("bob")
        sent = await one.call("send", to="bob", text="a text", wait=0)
        for name, tool in commands_at("m").items():
            for field in tool.json:
                fields = {each: GOOD[kind.kind] for each, kind in tool.json.items() if kind.required}
                fields |= {each: sent["id"] for each in fields if tool.json[each].kind == "message"}
                fields |= {"wait": 0} if "wait" in tool.json else {}
                for odd in filter(can_be_said, ODD):
                    if field == "wait" and odd not in (True, False, 0, 0.5, -1):
                        continue  # it would wait
                    result = await one.client.call_tool(name, {**fields, field: odd})
                    said = "".join(getattr(block, "text", "") for block in result.content)
                    assert said and "unexpected error" not in said, (name, field, odd, said)
