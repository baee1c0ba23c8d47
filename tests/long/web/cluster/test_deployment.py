"""The clusters of deploy/cluster/, started: a container is a process with the command line and environment of its file.

Every container has an address of its own in 127.0.0.0/8, and the names of all are in an /etc/hosts that a mount
namespace puts in place of the machine's. So names and ports are those of the files. Replaced are the paths of volumes,
0.0.0.0 by the own address, the port of the balancer, and where the gateways expect a proxy. No image is built: what the
images bring, and what Compose and Kubernetes do with the files, is not tried.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.deadlines import WAIT, within
from tests.long.web.test_reverse_proxy import SITE, certify, replaced
from tests.nats import binary as nats_server
from tests.ports import free_ports
from tests.processes.machines import IS_ROOT, SYSTEM
from tests.web.chat_client import Chatter, connect
from tests.web.cluster.site import HAPROXY, LOOK_EVERY, ROOT, Process, measured, missing

yaml: Any = pytest.importorskip("yaml")  # comes with mkdocs
DEPLOY = ROOT / "deploy"
IMAGE = {"P2PCHAT_HOME": "/data"}  # the environment of deploy/Dockerfile
MET = {"p2pchat_web_cluster_up": 1.0, "p2pchat_web_cluster_gateways": 3.0, "p2pchat_peer_links": 2.0}  # docs/cluster.md
PORTS = (8000, 8001, 4222, 6222, 8222)  # of gateways and nats-servers

# Volumes are below /mnt: there is no /data to mount them at.
IN_PLACE = """set -e
mount --bind "$0" /etc/hosts
mount -t tmpfs none /mnt
while [ "$1" != -- ]; do mkdir "/mnt$1"; mount --bind "$2" "/mnt$1"; shift 2; done
shift
exec "$@"
"""
MOUNTED = ("unshare", *([] if IS_ROOT else ["--user", "--map-root-user"]), "--mount", "sh", "-c", IN_PLACE)
ROOT_USER, USER = 0, 1000  # of volumes; of the image
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")


def _missing() -> str:
    if SYSTEM != "linux" or shutil.which("unshare") is None:
        return "mount namespaces are Linux's"
    tried = subprocess.run([*MOUNTED, "/etc/hosts", "--", "true"], capture_output=True, text=True, check=False)
    return missing() or tried.stderr.strip()


def _may_change_user() -> bool:
    """Return whether the user of the image can be taken, and can read the package."""
    words = [*AS_USER, sys.executable, "-c", "import p2pchat"]
    return IS_ROOT and subprocess.run(words, capture_output=True, cwd=ROOT, check=False).returncode == 0


pytestmark = [pytest.mark.skipif(bool(_missing()), reason=_missing())]


class Container:
    """A process in place of a container. Attributes: `name`, `address`, `volumes` by the path they are mounted at."""

    def __init__(
        self, name: str, address: str, hosts: Path, command: Sequence[str], variables: dict[str, str],
        volumes: dict[str, Path], user: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.name, self.address, self.volumes = name, address, volumes
        self._hosts, self._user = hosts, user
        here = {key: self._place(value) for key, value in variables.items()}
        self._process = Process(hosts.parent / f"{name}.log", *self._words(command), **here)

    def _words(self, command: Sequence[str]) -> list[str]:
        program, *words = command
        programs = {"p2pchat": [sys.executable, "-m", "p2pchat"], "python": [sys.executable]}
        volumes = [word for at, path in self.volumes.items() for word in (at, str(path))]
        words = [*programs.get(program, [program]), *map(self._place, words)]
        return [*MOUNTED, str(self._hosts), *volumes, "--", *self._user, *words]

    def _place(self, text: str) -> str:
        """Return a word or value of a file as this process needs it."""
        for at in self.volumes:
            text = re.sub(rf"(?<![\w./:-]){at}\b", f"/mnt{at}", text)
        return text.replace("0.0.0.0", self.address)

    def start(self) -> None:
        self._process.start()

    async def stop(self) -> int:
        return await self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    async def run(self, *command: str, exit_codes: Sequence[int] = (0,)) -> str:
        """Run a command in the container, as an operator does; return its output, and its errors if it failed."""
        environment, pipe = self._process.environment, subprocess.PIPE
        one = await asyncio.create_subprocess_exec(
            *self._words(command), env=environment, cwd=ROOT, stdout=pipe, stderr=pipe
        )
        async with within(WAIT, " ".join(command)):
            output, errors = await one.communicate()
        assert one.returncode in exit_codes, errors.decode()
        return (errors if one.returncode else output).decode().strip()

    async def until(self, port: int, path: str, token: str = "", wanted: dict[str, float] | None = None) -> None:
        """Ask as a probe does, until the answer is 200 and its metrics are as wanted."""
        headers = {"Host": SITE, **({"Authorization": f"Bearer {token}"} if token else {})}
        async with (
            within(WAIT, f"{path} of {self.name} ({self._process.log})"),
            httpx.AsyncClient(base_url=f"http://{self.address}:{port}", headers=headers, trust_env=False) as http,
        ):
            while True:
                try:
                    answer = await http.get(path)
                    found = measured(answer.text) if wanted else {}
                    if answer.status_code == 200 and all(found.get(n, -1) >= v for n, v in (wanted or {}).items()):
                        return
                except httpx.TransportError:
                    assert self._process.is_running, self._process.log.read_text()
                await asyncio.sleep(LOOK_EVERY)  # poll: another process


class Deployment:
    """All containers of a file, and haproxy.cfg before them, to which clients come.

    Args:
        names: The addresses of all containers.
        balanced: What the balancer calls a gateway, and what it is called here.

    Attributes: `gateways`, `engines`, and `init`, the command of an init container.
    """

    def __init__(self, home: Path, names: dict[str, str], balanced: dict[str, str]) -> None:
        self.gateways: list[Container] = []
        self.engines: list[Container] = []
        self.init: list[str] = []
        self._home, self._names = home, names
        self._user = AS_USER if _may_change_user() else ()
        self.hosts = home / "hosts"
        self.hosts.write_text("".join(f"{at} {name}\n" for name, at in {"localhost": "127.0.0.1", **names}.items()))
        self._trusted, (self._port,) = certify(home), free_ports(1)
        pem = "".join((home / name).read_text() for name in ("fullchain.pem", "privkey.pem"))
        (home / "site.pem").write_text(pem)
        config = replaced(
            (DEPLOY / "cluster" / "haproxy.cfg").read_text("utf-8"),
            ("bind :443", f"bind 127.0.0.1:{self._port}"),
            ("/usr/local/etc/haproxy/site.pem", f"{home}/site.pem"),
            *balanced.items(),
        )
        (home / "haproxy.cfg").write_text(config)
        command = [HAPROXY, "-db", "-f", str(home / "haproxy.cfg")]
        self._balancer = Container("balancer", "127.0.0.1", self.hosts, command, {"SITE": SITE}, {})

    def volume(self, name: str, owner: int, mode: int) -> Path:
        """Return the directory of a volume, made when it is missing."""
        path = self._home / f"volume-{name}"
        path.mkdir(exist_ok=True)
        if self._user:
            shutil.chown(path, owner, USER)
        path.chmod(mode)
        return path

    def engine(self, name: str, command: Sequence[str]) -> None:
        """Add a nats-server. In a container it listens at all addresses, all of which are its own."""
        volumes = {"/data": self.volume(name, ROOT_USER, 0o755)}
        words = [nats_server(), *command, "-a", self._names[name]]
        self.engines.append(Container(name, self._names[name], self.hosts, words, {}, volumes))

    def gateway(self, name: str, command: Sequence[str], variables: dict[str, str], volumes: dict[str, Path]) -> None:
        words, here = ["p2pchat", *command], {**IMAGE, **variables}
        self.gateways.append(Container(name, self._names[name], self.hosts, words, here, volumes, self._user))

    async def start(self, gateway: Container) -> None:
        if self.init:
            await gateway.run(*self.init)
        gateway.start()

    async def use(self, token: Sequence[str]) -> None:
        """Start everything at once; write, restart each gateway and each nats-server, and miss nothing.

        Args:
            token: The documented command that makes an account zoe.
        """
        for engine in self.engines:
            engine.start()
        await asyncio.gather(*map(self.start, self.gateways))
        self._balancer.start()
        await asyncio.gather(*(gateway.until(8000, "/readyz") for gateway in self.gateways))
        one, two, _ = self.gateways
        zoe, bob = await self.sign_up(one, token), await self.sign_up(two, of("bob", token))
        await asyncio.gather(*(gateway.until(8000, "/metrics", zoe, MET) for gateway in self.gateways))
        async with self.chat(bob) as bobs, self.chat(zoe) as zoes:
            last = await Chatter(zoes).accepted({"text": "hello", "to": "bob"})
            assert (await Chatter(bobs).message())["content"] == "hello"
        texts = [f"while {each.name} was away" for each in (*self.gateways, *self.engines)]
        for gateway in self.gateways:
            assert await gateway.stop() == 0
            await self.say(zoe, f"while {gateway.name} was away")
            await self.start(gateway)
            await gateway.until(8000, "/readyz")
            await asyncio.gather(*(each.until(8000, "/metrics", zoe, MET) for each in self.gateways))
        for engine in self.engines:
            await engine.stop()
            await self.say(zoe, f"while {engine.name} was away")
            engine.start()
            await engine.until(8222, "/healthz")
            await self.sign_up(one, of(f"after-{engine.name.partition('.')[0]}", token))
        async with self.chat(bob, f"?since={last}") as bobs:
            told, came = Chatter(bobs), set[str]()
            while not came.issuperset(texts):
                came.add((await told.message())["content"])

    async def sign_up(self, gateway: Container, token: Sequence[str]) -> str:
        """Return the token of a new account. While the servers agree on a leader, a gateway says to try again."""
        async with within(WAIT, " ".join(token)):
            while "try again" in (answer := await gateway.run(*token, exit_codes=(0, 1))):
                pass
        return answer

    async def say(self, token: str, text: str) -> None:
        """Write to bob, at whichever gateway the balancer chooses."""
        async with self.chat(token) as socket:
            await Chatter(socket).accepted({"text": text, "to": "bob"})

    def chat(self, token: str, query: str = "") -> AbstractAsyncContextManager[ClientConnection]:
        """Return a socket at the balancer, as somebody elsewhere opens it."""
        bearer = {"Authorization": f"Bearer {token}"}
        return connect(
            f"wss://{SITE}/chat{query}", host="127.0.0.1", port=int(self._port), ssl=self._trusted,
            additional_headers=bearer,
        )  # fmt: skip

    def end(self) -> None:
        for one in (self._balancer, *self.gateways, *self.engines):
            one.kill()


def of(name: str, command: Sequence[str]) -> list[str]:
    """Return the command for another account than zoe."""
    return [name if word == "zoe" else word for word in command]


def addresses(*names: str) -> dict[str, str]:
    """Return an address of this machine for each name."""
    network = f"127.{random.randrange(64, 128)}.{random.randrange(256)}"
    found = {name: f"{network}.{number}" for number, name in enumerate(names, start=11)}
    for address in found.values():
        for port in PORTS:
            with socket.socket() as probe:
                try:
                    probe.bind((address, port))
                except OSError:
                    pytest.skip(f"something here listens on port {port} of all addresses")
    return found


def read(file: str, *pairs: tuple[str, str]) -> str:
    """Return a file of deploy/cluster/ with some texts replaced."""
    return replaced((DEPLOY / "cluster" / file).read_text("utf-8"), *pairs)


async def test_the_compose_file_starts_a_cluster_that_serves(tmp_path: Path) -> None:
    text = read("compose.yaml", ("172.30.81.2", "127.0.0.1"))
    services = yaml.safe_load(re.sub(r"\$\{SITE.*?\}", SITE, text))["services"]
    site = Deployment(tmp_path, addresses(*(name for name in services if name != "balancer")), {})
    for name, service in services.items():
        if name.startswith("nats"):
            site.engine(name, service["command"])
        elif name.startswith("gateway"):
            volumes = (volume.split(":") for volume in service["volumes"])
            found = {at: site.volume(volume, USER, 0o755) for volume, at in volumes}  # as the image has them
            site.gateway(name, service["command"], service["environment"], found)
    commands = re.findall(r"docker compose (?:run .*|exec) gateway1 (?:p2pchat )?(web .*)", text)
    key, token = map(shlex.split, commands)
    try:
        await site.gateways[0].run("p2pchat", *key)
        await site.use(["p2pchat", *token])
        (healthy,) = re.findall(r"^ +CMD (\[.+\])$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.M)
        for gateway in site.gateways:
            await gateway.run(*json.loads(healthy.replace("127.0.0.1", gateway.address)))
    finally:
        site.end()


async def test_the_kubernetes_file_starts_a_cluster_that_serves(tmp_path: Path) -> None:
    text = read("kubernetes.yaml", ("10.0.0.0/8", "127.0.0.0/8"))
    made = [*yaml.safe_load_all(text)]
    sets = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "StatefulSet"}
    pods = {f"{name}-{number}.{one['serviceName']}": name for name, one in sets.items() for number in range(3)}
    balanced = {f" gateway{number + 1}:8000": f" gateway-{number}.gateways:8000" for number in range(3)}
    site = Deployment(tmp_path, addresses(*pods), balanced)
    keys = await secrets(site)
    for pod, name in pods.items():
        (container,) = sets[name]["template"]["spec"]["containers"]
        variables: dict[str, str] = {}
        for one in container["env"]:
            variables[one["name"]] = expanded(str(one.get("value", pod.partition(".")[0])), variables)
        words = [expanded(word, variables) for word in container["args"]]
        if name == "nats":
            site.engine(pod, words)
        else:
            own = site.volume(pod, ROOT_USER, 0o2775)  # as fsGroup leaves it: of root, and of the group
            site.gateway(pod, words, variables, {"/data": own, "/keys": keys})
    (init,) = sets["gateway"]["template"]["spec"]["initContainers"]
    site.init = init["command"]
    (token,) = re.findall(r"kubectl exec gateway-0 -- (p2pchat .*)", text)
    try:
        await site.use(shlex.split(token))
    finally:
        site.end()


async def secrets(site: Deployment) -> Path:
    """Make the secrets with the commands of docs/cluster.md; return their directory, as it is mounted."""
    keys = site.volume("keys", USER, 0o755)
    home = {"P2PCHAT_HOME": str(site.volume("founder", USER, 0o755))}
    one = Container("founder", "127.0.0.1", site.hosts, ["p2pchat", "web", "0", "--temp"], home, {})
    await one.run("p2pchat", "web", "cluster-key", str(keys / "cluster.key"))
    for name in ("network", "member", "cluster.key"):
        (keys / name).chmod(0o644)  # as files of a secret are
    return keys


def expanded(text: str, variables: dict[str, str]) -> str:
    """Return a text with $(NAME) replaced, as Kubernetes does it."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], text)
