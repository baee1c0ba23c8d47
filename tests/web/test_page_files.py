"""The files of the page: what the gateway serves, and that each of them can be had from a wheel."""

from __future__ import annotations

import re
from pathlib import Path

import p2pchat.apps.web.page as page
from tests.web.conftest import Served

FOLDER = Path(page.__file__).parent
MODULES = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.js")}


async def test_each_file_has_its_kind_and_is_asked_for_again_only_when_it_is_another(served: Served) -> None:
    async with served.client() as http:
        first = await http.get("/")
        assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in first.headers["content-security-policy"]
        for name in ("main.js", "style.css", "icon.svg"):
            answer = await http.get(f"/{name}")
            again = await http.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (answer.status_code, again.status_code, again.content) == (200, 304, b"")
        for name in ("__init__.py", "index.html", "nothing.js", "page/main.js"):
            assert (await http.get(f"/{name}")).status_code == 404


async def test_a_qr_code_is_for_who_has_a_token_and_for_what_fits(served: Served) -> None:
    await served.register("zoe")
    async with served.client("zoe") as zoe, served.client() as nobody:
        drawn = await zoe.post("/qr", json={"text": "p2pchat:AHJEE@127.0.0.1:8000"})
        assert drawn.headers["content-type"] == "image/svg+xml" and drawn.text.startswith("<svg")
        assert (await nobody.post("/qr", json={"text": "x"})).status_code == 401
        assert (await zoe.post("/qr", json={"text": "x" * 2049})).status_code == 422
        assert (await zoe.post("/qr", json={"text": "漢" * 2048})).status_code == 413


def test_the_page_asks_nobody_else_for_anything() -> None:
    names = re.compile(r"""(?:from|import\()\s*["']([^"']+)["']""")
    for name, code in MODULES.items():
        assert {found for found in names.findall(code) if not found.startswith("./")} == set(), name
        assert {found[2:] for found in names.findall(code)} <= MODULES.keys(), name
    every = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir() if path.suffix in page.KINDS}
    for name, text in every.items():
        elsewhere = set(re.findall(r"https?://[\w.-]+", text))
        assert elsewhere <= {"http://www.w3.org"}, name  # names of the kinds of elements, which nobody asks for
    assert not re.search(r"""(?:src|href)="/|<script>|<style|\son\w+=|style=""", every["index.html"])


def test_nothing_of_others_is_ever_given_to_a_parser() -> None:
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc")
    assert [name for name, code in MODULES.items() if sinks.search(code)] == []
