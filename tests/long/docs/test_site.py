"""The manual as a site: it is complete, its links work, and it needs no network (docs/site.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from docs.site import ROOT, Site, misplaced_names
from p2pchat import Settings
from tests.mutants.table import MUTANTS
from tests.web.browser import CHROMIUM, PATIENCE, chromium

pytestmark = pytest.mark.weekly  # the gate builds the site by `poe docs`, which is strict
ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^>]*>""")


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `poe docs` does."""
    environment = {**os.environ, "MANUAL_SOURCE": str(source), "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    Site(folder / "source").write()
    done = build(folder / "source", folder / "site")
    assert ("WARNING" in done.stderr, done.returncode) == (False, 0), done.stderr
    return folder / "site"


def test_the_site_loads_nothing_from_another_address(site: Path) -> None:
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 40
    assert [(path.name, found) for path, page in pages.items() for found in ELSEWHERE.findall(page)] == []
    assert [path.name for path, page in pages.items() if 'class="mermaid"' in page] == []  # its script is loaded then
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", styles) == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text("utf-8")
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert {page for page in pages if f'href="{page}"' not in start} - {"index.html"} == set()


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")
async def test_the_search_works_from_a_folder_without_a_network(site: Path) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto((site / "index.html").as_uri())
        await page.get_by_role("textbox", name="Search").press_sequentially("open_history")
        await page.locator(".md-search-result__item a").first.click()
        await page.wait_for_url("**/reference/history.html*")
        assert [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))] == []


def test_a_broken_link_fails(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# A page\n\n[one](nothing.md), [two](index.md#nothing)\n", "utf-8")
    done = build(source, tmp_path / "site")
    assert done.returncode == 1
    assert "'nothing.md'" in done.stderr
    assert "'index.md#nothing'" in done.stderr


def test_a_public_name_that_is_missing_or_there_twice_is_told(tmp_path: Path) -> None:
    pages = Site(tmp_path)
    pages.write()
    reference = pages.reference()
    assert misplaced_names(reference) == []
    faulty = reference.replace("::: p2pchat.Gap\n", "::: p2pchat.Nothing\n") + "\n::: p2pchat.Group\n"
    assert misplaced_names(faulty) == [
        "p2pchat.Gap is not in docs/reference",
        "p2pchat.Nothing is in docs/reference, but not public",
        "p2pchat.Group is in docs/reference twice",
    ]


def test_every_setting_has_a_meaning(tmp_path: Path) -> None:
    Site(tmp_path).write()
    rows = re.findall(
        r"^\| `(\w+)` \|.*\|(.*) \|$", (tmp_path / "reference" / "settings.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] == [each.name for each in fields(Settings)]
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_every_mutant_has_a_row(tmp_path: Path) -> None:
    Site(tmp_path).write()
    rows = re.findall(r"^\| ([\w-]+) \| [^|]+ \| [^|]+ \|$", (tmp_path / "mutants.md").read_text("utf-8"), re.MULTILINE)
    assert rows[1:] == [mutant.name for mutant in MUTANTS]
