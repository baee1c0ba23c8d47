"""The length of each document, in words: what a page gains, it loses somewhere else."""

from __future__ import annotations

from tests.test_readme import ROOT

OF_ALL_DOCS = 73_200  # of docs/, the pages of the protocol and of the reference included
OF_THE_PROTOCOL = 16_000
MOST = {
    "CHANGELOG.md": 940,
    "README.md": 1_200,
    "SECURITY.md": 1_740,
    "docs/agents.md": 1_130,
    "docs/always-on.md": 420,
    "docs/architecture.md": 5_000,
    "docs/bots.md": 1_300,
    "docs/cli.md": 7_400,
    "docs/cluster.md": 1_400,
    "docs/conformance.md": 1_200,
    "docs/databases.md": 850,
    "docs/devices.md": 580,
    "docs/files.md": 1_300,
    "docs/first-change.md": 870,
    "docs/first-steps.md": 950,
    "docs/gateway-api.md": 3_260,
    "docs/gateway-socketio.md": 1_100,
    "docs/gateway.md": 2_300,
    "docs/groups.md": 1_100,
    "docs/guarantees.md": 6_350,
    "docs/library.md": 2_800,
    "docs/measured.md": 3_500,
    "docs/members.md": 1_950,
    "docs/moving.md": 950,
    "docs/operations.md": 2_400,
    "docs/page.md": 1_310,
    "docs/protocol.md": 10_100,
    "docs/protocol-attachments.md": 980,
    "docs/protocol-discovery.md": 295,
    "docs/protocol-entries.md": 1_500,
    "docs/protocol-files.md": 540,
    "docs/protocol-groups.md": 900,
    "docs/protocol-vectors.md": 485,
    "docs/queries.md": 800,
    "docs/scripts.md": 2_500,
    "docs/sync.md": 1_000,
    "docs/testing.md": 750,
    "docs/ticks.md": 1_750,
    "docs/troubleshooting.md": 3_000,
    "docs/two-machines.md": 1_330,
}
OTHER = 350  # of each page that is not named, as those of kinds of messages
REFERENCE = 300  # of each page of the reference: the rest comes from docstrings


def words(name: str) -> int:
    return len((ROOT / name).read_text("utf-8").split())


def test_each_page_is_within_its_ceiling() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    named = {*MOST, *(name for name in pages if name.count("/") == 1)}
    assert {name: words(name) for name in named if words(name) > MOST.get(name, OTHER)} == {}
    assert [name for name in pages if name.count("/") > 1 and words(name) > REFERENCE] == []
    assert sum(map(words, pages)) <= OF_ALL_DOCS
    assert sum(words(name) for name in pages if "/protocol" in name or "/conformance" in name) <= OF_THE_PROTOCOL


def test_each_page_has_a_place_in_the_list_of_pages() -> None:
    listed = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f" {path.name}\n" not in listed] == []
