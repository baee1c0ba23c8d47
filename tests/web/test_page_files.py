"""The files of the page, as the gateway serves them."""

from __future__ import annotations

import json
import re

import httpx
from fastapi import FastAPI

from p2pchat import TCPPeer
from p2pchat.web import create_app
from p2pchat.web.page_files import FOLDER, KINDS
from tests.web.chat_client import connect
from tests.web.conftest import Served, listening
from tests.web.raw_http import ask, request

MODULES = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.js")}


async def test_each_file_has_its_media_type_and_an_etag(served: Served) -> None:
    async with served.client() as http:
        first = await http.get("/")
        assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in first.headers["content-security-policy"]
        for name in ("main.js", "style.css", "icon.svg", "icon.png", "manifest.webmanifest", "worker.js"):
            answer = await http.get(f"/{name}")
            again = await http.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (answer.status_code, again.status_code, again.content) == (200, 304, b"")
        for name in ("__init__.py", "index.html", "nothing.js", "page/main.js"):
            assert (await http.get(f"/{name}")).status_code == 404


def test_the_page_loads_nothing_from_elsewhere() -> None:
    names = re.compile(r"""(?:from|import\()\s*["']([^"']+)["']""")
    for name, code in MODULES.items():
        assert {found for found in names.findall(code) if not found.startswith("./")} == set(), name
        assert {found[2:] for found in names.findall(code)} <= MODULES.keys(), name
    every = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir() if path.suffix in KINDS.keys() - {".png"}}
    for name, text in every.items():
        elsewhere = set(re.findall(r"https?://[\w.-]+", text))
        assert elsewhere <= {"http://www.w3.org"}, name  # XML namespaces, which are not loaded
    assert not re.search(r"""(?:src|href)="/|<script>|<style|\son\w+=|style=""", every["index.html"])


def test_text_of_others_never_reaches_an_html_parser() -> None:
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc")
    assert [name for name, code in MODULES.items() if sinks.search(code)] == []


async def test_the_page_works_under_any_mount_path_with_the_same_checks() -> None:
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        own = FastAPI()
        own.mount("/deep/chat", create_app(peer))
        async with (
            listening(own) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, verify=False) as http,
        ):
            assert (await http.get("/deep/chat")).headers["location"].endswith("/deep/chat/")
            assert "main.js" in (await http.get("/deep/chat/")).text
            assert (await http.get("/deep/chat/main.js")).status_code == 200
            mine = f"127.0.0.1:{port}"
            for target, host, code in (
                ("/deep/chat/healthz", "evil.example", "host"), ("/deep/chat/../chat/healthz", mine, "path"),
            ):  # fmt: skip
                assert (await ask(port, request(target, host=host))).code == code
            made = await http.post("/deep/chat/accounts", json={"name": "zoe"})
            async with connect(f"ws://127.0.0.1:{port}/deep/chat/lines") as socket:
                await socket.send(json.dumps({"token": made.json()["token"]}))
                assert json.loads(await socket.recv())["user"] == "zoe"
