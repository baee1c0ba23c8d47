"""The service of docs/operations.md, which runs as a user of its own, and the commands that root types beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadlines import WAIT

SERVICE = 64_001  # a user that nobody else is
SETPRIV = shutil.which("setpriv")
P2PCHAT = [sys.executable, "-m", "p2pchat"]
# The interpreter may be root's own: its files are read as if they were everybody's.
AS_SERVICE = [
    "setpriv", f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]  # fmt: skip

if sys.platform == "win32":
    pytest.skip("Windows has no root", allow_module_level=True)

pytestmark = pytest.mark.skipif(SETPRIV is None or os.geteuid() != 0, reason="needs root, to be two users")


def _start(home: Path, log: Path) -> subprocess.Popen[bytes]:
    words = ["web", "0", "--port", "0", "--name", "gateway", "--data", str(home / "gateway"), "--json"]
    environment = {**os.environ, "HOME": "/", "P2PCHAT_HOME": str(home)}
    with log.open("wb") as output:
        service = subprocess.Popen(
            [*AS_SERVICE, *P2PCHAT, *words], stdout=subprocess.PIPE, stderr=output, env=environment
        )
    assert service.stdout is not None
    for line in service.stdout:
        if json.loads(line)["event"] == "serving":
            return service
    raise AssertionError(log.read_text())


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=WAIT)
    assert service.returncode == 0


def _owners(home: Path) -> dict[str, int]:
    return {str(path.relative_to(home)): path.lstat().st_uid for path in [home, *home.rglob("*")]}


def test_root_may_do_what_the_page_says_and_the_service_goes_on(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and above.name.startswith(("pytest-", "test_")):
            above.chmod(0o755)
    home, root = tmp_path / "service", tmp_path / "root"
    root.mkdir()
    home.mkdir(mode=0o700)
    os.chown(home, SERVICE, SERVICE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("P2PCHAT_")}
    environment |= {"HOME": str(root), "XDG_DATA_HOME": str(root)}

    def typed(*words: str) -> str:
        command = [*P2PCHAT, *words, "--data", str(home / "gateway")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=WAIT)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout + done.stderr

    service = _start(home, tmp_path / "log")
    network = (home / "network").read_bytes()
    for state in ("running", "stopped"):
        if state == "stopped":
            _stop(service)
        typed("web", "token", f"zoe-{state}")
        assert f"zoe-{state}" in typed("web", "users")
        typed("history")
        typed("history", "--search", "hello")
        typed("export", str(tmp_path / f"{state}.p2p"))
        typed("import", str(tmp_path / f"{state}.p2p"))
        backup = tmp_path / state
        assert typed("backup", str(backup)).startswith(f"{backup}: ")
        typed("network", "backup", str(tmp_path / f"{state}.key"))
        assert (tmp_path / f"{state}.key").read_bytes().startswith(network)
        assert (backup / "network").read_bytes() == network
        assert "founder" in typed("network")
    assert [*root.iterdir()] == [], "a command that asks founds nothing"
    assert set(_owners(home).values()) == {SERVICE}
    service = _start(home, tmp_path / "log")
    assert "zoe-stopped" in typed("web", "users")
    _stop(service)
    shutil.rmtree(home / "gateway")
    for name in ("network", "founder"):
        (home / name).unlink()
    shutil.copytree(tmp_path / "stopped", home / "gateway")
    for path in [home / "gateway", *(home / "gateway").rglob("*")]:
        os.chown(path, SERVICE, SERVICE)
    assert "guest" in typed("network")
    typed("network", "restore", str(tmp_path / "stopped.key"))
    assert [*root.iterdir()] == [] and {name for name, uid in _owners(home).items() if uid != SERVICE} == set()
    service = _start(home, tmp_path / "log")
    assert "role     founder" in typed("network")
    _stop(service)


def test_a_backup_of_a_founder_says_first_that_it_lacks_the_key_and_how_it_gets_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "P2PCHAT_HOME": str(home)}

    def typed(*words: str, **others: str) -> subprocess.CompletedProcess[str]:
        command = [*P2PCHAT, *words]
        return subprocess.run(
            command,
            input="/quit\n",
            capture_output=True,
            text=True,
            env={**environment, **others},
            cwd=tmp_path,
            timeout=WAIT,
        )

    assert typed("0", "--data", str(home / "8080"), "--name", "ada", "--plain").returncode == 0
    made = typed("backup", str(tmp_path / "copy"), "--data", str(home / "8080"))
    assert made.returncode == 0
    assert "the founder's key will not be in it" in made.stderr.splitlines()[0]
    assert "network backup FILE" in made.stderr.splitlines()[1]
    assert typed("network", "backup", str(tmp_path / "key")).returncode == 0
    other = str(tmp_path / "other")
    assert "role     guest" in typed("network", "--data", str(tmp_path / "copy"), P2PCHAT_HOME=other).stdout
    assert typed("network", "restore", str(tmp_path / "key"), P2PCHAT_HOME=other).returncode == 0
    assert "role     founder" in typed("network", "--data", str(tmp_path / "copy"), P2PCHAT_HOME=other).stdout


def test_a_directory_without_a_peer_names_no_other_network(tmp_path: Path) -> None:
    environment = {**os.environ, "P2PCHAT_HOME": str(tmp_path / "home")}
    started = [*P2PCHAT, "0", "--data", str(tmp_path / "home/8080"), "--name", "ada", "--plain"]
    assert subprocess.run(started, env=environment, input=b"/quit\n", capture_output=True, timeout=WAIT).returncode == 0
    (tmp_path / "empty").mkdir()
    copied = [*P2PCHAT, "network", "backup", str(tmp_path / "key"), "--data", str(tmp_path / "empty")]
    done = subprocess.run(copied, env=environment, capture_output=True, timeout=WAIT)
    assert done.returncode != 0 and b"there is no peer" in done.stderr and not (tmp_path / "key").exists()
