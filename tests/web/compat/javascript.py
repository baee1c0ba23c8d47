"""The official Socket.IO client in a node process, driven line by line; installed once into the tests' cache."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from filelock import FileLock

PACKAGE = "socket.io-client"
VERSION = "4.8"  # the version most users have
PATIENCE = 60.0  # seconds for any expected event
INSTALL_WITHIN = 120.0


def client_directory() -> Path:
    """Return a directory with the client in its node_modules; skip the test if it cannot be installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"{PACKAGE} needs node and npm, and they are not installed")
    place = Path(platformdirs.user_cache_dir("p2pchat-tests")) / f"{PACKAGE}-{VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        if not (place / "node_modules" / PACKAGE / "package.json").exists():
            command = [
                npm,
                "install",
                "--prefix",
                str(place),
                "--no-audit",
                "--no-fund",
                "--silent",
                f"{PACKAGE}@{VERSION}",
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm could not get {PACKAGE} in {INSTALL_WITHIN:g} s")
            if done.returncode:
                pytest.skip(f"npm could not get {PACKAGE}: {done.stderr.strip()[-300:]}")
    return place


class JavaScript:
    """All sockets of a test file, in one process."""

    def __init__(self) -> None:
        driver = Path(__file__).with_name("client.mjs")
        self._process = subprocess.Popen(
            ["node", str(driver), str(client_directory())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._told: dict[str, list[tuple[str, Any, str | None]]] = {}
        self._news = threading.Condition()
        self._refs = 0
        threading.Thread(target=self._read, daemon=True).start()
        self.hear("", "ready")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._news:
                self._told.setdefault(told["as"], []).append((told["event"], told.get("data"), told.get("ref")))
                self._news.notify_all()

    def order(self, do: str, **words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
        self._process.stdin.flush()

    def ref(self) -> str:
        self._refs += 1
        return str(self._refs)

    def hear(
        self, who: str, event: str, where: Callable[[Any], bool] = lambda data: True, *, ref: str | None = None
    ) -> Any:
        """Wait for an event of one socket, remove it and return its payload; earlier events count too."""
        with self._news:
            while True:
                heard = self._told.setdefault(who, [])
                for number, (name, data, its) in enumerate(heard):
                    if name == event and (ref is None or its == ref) and where(data):
                        del heard[number]
                        return data
                assert self._news.wait(PATIENCE), f"{who!r} has heard no {event}, but {heard}"

    def heard(self, who: str, event: str) -> list[Any]:
        """Return the events that were not read."""
        with self._news:
            return [data for name, data, _ in self._told.get(who, []) if name == event]

    def forget(self, who: str) -> None:
        """Drop the events of a socket."""
        with self._news:
            self._told.pop(who, None)

    def stop(self) -> None:
        """Stop the process, as kill -STOP does."""
        if sys.platform == "win32":
            raise NotImplementedError
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()
