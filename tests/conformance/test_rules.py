"""The rules of the conformance kit: each is a sentence of the document, and they have names of their own."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from p2pchat_conformance.runner import LAST, LEVELS, all_rules, chosen

DOCS = Path(__file__).resolve().parents[2] / "docs"
RULES = all_rules()


@cache
def sections(page: str) -> dict[str, str]:
    """Return the text of each section of a page by its anchor, with that of the sections inside it."""
    found: dict[str, str] = {}
    open_sections: list[tuple[int, str]] = []
    fenced = False
    for line in (DOCS / page).read_text("utf-8").splitlines():
        fenced ^= line.startswith("```")
        header = None if fenced else re.match(r"(#+) (.+)", line)
        if header:
            depth = len(header[1])
            anchor = re.sub(r"[^\w\- ]", "", header[2].lower()).replace(" ", "-")
            open_sections = [one for one in open_sections if one[0] < depth] + [(depth, anchor)]
            found[anchor] = ""
        for _, anchor in open_sections:
            found[anchor] += f"{line}\n"
    return found


def test_there_are_rules_of_each_level() -> None:
    assert len(RULES) >= 60
    assert {one.level for one in RULES} <= set(LEVELS)
    assert len({one.name for one in RULES}) == len(RULES)
    assert RULES[-1].name == LAST
    assert list(chosen(RULES, "bot", [])) == [one for one in RULES if one.level == "bot"]


def test_a_rule_is_a_sentence_of_its_section() -> None:
    assert [rule.name for rule in RULES if rule.sentence not in text_of(rule.section)] == []


def text_of(section: str) -> str:
    page, _, anchor = section.partition("#")
    return sections(page).get(anchor, "")
