"""The configurations of docs/operations.md and deploy/ in nginx, Caddy and haproxy, before a real gateway.

P2PCHAT_TEST_NGINX, P2PCHAT_TEST_CADDY and P2PCHAT_TEST_HAPROXY name programs that are not in PATH. Only ports, paths
and certificates of the documented files are replaced.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.long.web.test_web_command import posix, run
from tests.ports import free_ports
from tests.web.processes import p2pchat
from tests.web.processes import running as program_running

SITE = "chat.example.org"
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
STARTS_WITHIN = 60.0  # seconds


def documented(file: str) -> str:
    """Return the block of the page with this file name."""
    (found,) = re.findall(rf'```\w+ file="{re.escape(file)}"\n(.*?)```', OPERATIONS.read_text("utf-8"), re.DOTALL)
    return str(found)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, f"{old!r} is no longer documented"
        text = text.replace(old, new)
    return text


def installed(name: str) -> str:
    program = os.environ.get(f"P2PCHAT_TEST_{name.upper()}") or shutil.which(
        name, path=f"{os.environ['PATH']}:/usr/sbin"
    )
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


def certify(directory: Path) -> ssl.SSLContext:
    """Write a certificate of the site and its key there; return a client that trusts it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SITE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SITE)]), critical=False)
        .sign(key, SHA256())
    )
    (directory / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "privkey.pem").write_bytes(private)
    return ssl.create_default_context(cafile=str(directory / "fullchain.pem"))


@asynccontextmanager
async def running(port: str, *words: str) -> AsyncIterator[None]:
    """Run a proxy in the foreground; it listens when this begins."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            while True:
                if process.poll() is not None and process.stdout is not None:
                    raise AssertionError(process.stdout.read().decode())
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)  # poll: a proxy reports its start to nobody
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)


@asynccontextmanager
async def gateway(home: Path, *words: str) -> AsyncIterator[tuple[int, str]]:
    """Run a gateway behind a proxy; yield its port and the token of its account zoe."""
    data = ("--data", str(home / "gate"))
    given = ("--trusted-proxy", "127.0.0.1", "--sign-up", "token", "--json", *words, *data)
    async with program_running(*p2pchat("web", "0", *given), home=home) as gate:
        port = json.loads(await gate.until('"event":"serving"'))["http_port"]
        code, token, _ = await run(home, "web", "token", "zoe", *data)
        assert code == 0
        yield port, token.strip()


async def check_site(port: str, trusted: ssl.SSLContext, token: str, refused: int) -> None:
    """Use the page, the API and a WebSocket as somebody elsewhere does; `refused` is the status of /metrics."""
    origin = {"Host": SITE, "Origin": f"https://{SITE}"}
    async with httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}", headers=origin, verify=trusted, timeout=60, trust_env=False
    ) as http:
        sni = {"sni_hostname": SITE}
        page = await http.get("/", extensions=sni)
        assert page.status_code == 200 and "<html" in page.text
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert (await http.get("/metrics", extensions=sni)).status_code == refused
        call = await http.post("/v1/accounts", json={"name": ""}, extensions=sni)  # as the page says
        assert call.json()["code"] == "sign_up_closed"
        await check_files(http, token)
    offered = ssl.create_default_context()
    offered.check_hostname, offered.verify_mode = False, ssl.CERT_NONE
    offered.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", int(port), ssl=offered, server_hostname=SITE)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.transport.abort()
    bearer = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(
        f"wss://{SITE}/chat", host="127.0.0.1", port=int(port), ssl=trusted, additional_headers=bearer, proxy=None,
        open_timeout=STARTS_WITHIN,
    ) as socket, asyncio.timeout(STARTS_WITHIN):  # fmt: skip
        await socket.send(json.dumps({"text": "hello", "ref": "1"}))
        while (answer := json.loads(await socket.recv())).get("ref") != "1":
            pass
        assert answer["status"] == "ok"


async def check_files(http: httpx.AsyncClient, token: str) -> None:
    """Upload a file that is larger than other bodies may be, send it, and download a part of it."""
    content, bearer, sni = bytes(range(256)) * 8192, {"Authorization": f"Bearer {token}"}, {"sni_hostname": SITE}
    kept = await http.post("/v1/files?filename=a.png", content=content, headers=bearer, extensions=sni)
    assert kept.status_code == 201, kept.text
    said = {"to": "room", "files": [kept.json()["id"]]}
    id = (await http.post("/v1/messages", json=said, headers=bearer, extensions=sni)).json()["id"]
    path = (await http.post(f"/v1/files/{id}/0/link", headers=bearer, extensions=sni)).json()["path"]
    part = await http.get(f"/{path}", headers={"Range": "bytes=1000-2000000"}, extensions=sni)
    assert (part.status_code, part.content) == (206, content[1000:2000001])


def nginx(home: Path, program: str, port: str, behind: str) -> list[str]:
    """Write the documented configuration for these ports; return the command line."""
    text = replaced(
        documented("nginx.conf"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/letsencrypt/live/{SITE}", str(home)),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{behind}"),
    )
    return nginx_command(home, program, text)


def nginx_command(home: Path, program: str, servers: str) -> list[str]:
    """Write a configuration with these servers; return the command line that runs it."""
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{each}_temp_path {home}/{each};" for each in parts)
    (home / "nginx.conf").write_text(
        f"pid {home}/pid; error_log stderr; daemon off; events {{}}\nhttp {{ access_log off; {places}\n{servers}\n}}\n"
    )
    return [program, "-p", str(home), "-c", str(home / "nginx.conf")]


def caddy(home: Path, program: str, port: str, behind: str) -> list[str]:
    text = replaced(
        documented("Caddyfile"),
        (f"{SITE} {{", f"https://{SITE}:{port} {{\n    tls {home}/fullchain.pem {home}/privkey.pem"),
        ("    servers {", f"    admin off\n    auto_https off\n    storage file_system {home}/caddy\n    servers {{"),
        ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
    )
    (home / "Caddyfile").write_text(text)
    place = f"XDG_CONFIG_HOME={home}"  # where it keeps a copy of its configuration
    return ["env", place, program, "run", "--config", str(home / "Caddyfile"), "--adapter", "caddyfile"]


def haproxy(home: Path, program: str, port: str, behind: str) -> list[str]:
    (home / "site.pem").write_text("".join((home / name).read_text() for name in ("fullchain.pem", "privkey.pem")))
    text = replaced(
        (OPERATIONS.parents[1] / "deploy" / "cluster" / "haproxy.cfg").read_text("utf-8"),
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/usr/local/etc/haproxy/site.pem", f"{home}/site.pem"),
        ("gateway1:8000", f"127.0.0.1:{behind}"),
    )
    (home / "haproxy.cfg").write_text(text)
    return ["env", f"SITE={SITE}", program, "-db", "-f", str(home / "haproxy.cfg")]


@posix
@pytest.mark.parametrize(("configured", "refused"), [(nginx, 403), (caddy, 404), (haproxy, 404)])
async def test_a_documented_proxy_serves_page_api_and_websocket(
    tmp_path: Path, configured: Callable[[Path, str, str, str], list[str]], refused: int
) -> None:
    program, trusted, (port,) = installed(configured.__name__), certify(tmp_path), free_ports(1)
    async with gateway(tmp_path, "--origin", f"https://{SITE}") as (behind, token):
        async with running(port, *configured(tmp_path, program, port, str(behind))):
            await check_site(port, trusted, token, refused)


@posix
async def test_nginx_says_who_a_caller_is_over_a_restart_and_a_revocation(tmp_path: Path) -> None:
    program, (port,) = installed("nginx"), free_ports(1)
    header = ("--auth-header", "X-Forwarded-User", "--origin", f"http://{SITE}:{port}")
    site = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Host": f"{SITE}:{port}"}, timeout=60, trust_env=False
    )
    ada, eve = ("ada", "secret"), {"X-Forwarded-User": "bob", "x-forwarded-user": "bob"}
    async with site:
        async with gateway(tmp_path, *header) as (behind, token):
            async with running(port, *nginx_with_users(tmp_path, program, port, behind)):
                said = {"to": "bob", "content": "from ada"}
                for headers in ({}, eve, {"Authorization": f"Bearer {token}"}):
                    assert (await site.post("/v1/messages", json=said, headers=headers)).status_code == 401
                    answer = await site.post("/v1/do", json={"do": "list"}, auth=("bob", "secret"))
                    assert answer.status_code == 200, answer.text
                assert (await site.post("/v1/messages", json=said, headers=eve, auth=ada)).status_code == 201
            outside = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
            async with httpx.AsyncClient(transport=outside, base_url=f"http://127.0.0.1:{behind}", timeout=60) as http:
                for headers in (eve, {"Authorization": f"Bearer {token}"}, {}):
                    assert (await http.get("/v1/conversations", headers=headers)).status_code == 401
        async with gateway(tmp_path, *header) as (behind, _):
            async with running(port, *nginx_with_users(tmp_path, program, port, behind)):
                found = (await site.get("/v1/messages", auth=("bob", "secret"))).json()
                assert [(row["from"], row["content"]) for row in found] == [("ada", "from ada")]
                proof = {"Authorization": "Basic YWRhOnNlY3JldA=="}
                async with websockets.connect(
                    f"ws://{SITE}:{port}/lines", host="127.0.0.1", port=int(port), additional_headers=proof, proxy=None,
                    open_timeout=STARTS_WITHIN,
                ) as socket, asyncio.timeout(STARTS_WITHIN):  # fmt: skip
                    assert json.loads(await socket.recv())["user"] == "ada"
                    assert (await run(tmp_path, "web", "revoke", "ada", "--data", str(tmp_path / "gate")))[0] == 0
                    await socket.wait_closed()
                    assert (socket.close_code, socket.close_reason) == (1008, "revoked")
                answer = await site.get("/v1/messages", auth=ada)
                assert (answer.status_code, answer.json()["code"]) == (403, "revoked")


def nginx_with_users(home: Path, program: str, port: str, behind: int) -> list[str]:
    """Write a configuration that asks for a name and a password; return the command line."""
    users = "".join(f'"Basic {b64encode(f"{name}:secret".encode()).decode()}" {name};' for name in ("ada", "bob"))
    lines = "".join(
        f"proxy_set_header {name} {value};"
        for name, value in (
            ("Host", f"$host:{port}"), ("X-Forwarded-For", "$remote_addr"), ("X-Forwarded-User", "$who"),
            ("Upgrade", "$http_upgrade"), ("Connection", "$connection_upgrade"),
        )
    )  # fmt: skip
    return nginx_command(
        home,
        program,
        'map $http_upgrade $connection_upgrade { default upgrade; "" close; }\n'
        f'map $http_authorization $who {{ default ""; {users} }}\n'
        f'server {{ listen 127.0.0.1:{port}; if ($who = "") {{ return 401; }}\n'
        f"location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; {lines} }} }}",
    )
