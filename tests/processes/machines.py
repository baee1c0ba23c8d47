"""Machines on one local network: network namespaces, each with a cable to one switch.

    lan = Lan(); ada = lan.machine("10.77.0.1/24"); bob = lan.machine("10.77.0.2/24")
    ada.under("python", "-m", "p2pchat", ...)       the words that run a command on that machine
    ada.move("10.77.0.9/24"); ada.unplug(); ada.plug()
    ada.lose("10.77.0.2")                           packets to that address vanish, as in a black hole
    ada.find("10.77.0.2")                           packets to that address arrive again
    ada.throttle(64)                                send at most 64 kbit/s; the rest waits in the queue
    cyd = lan.home("10.77.0.3/24")                  behind a router that lets nobody in
    lan.slow(10)                                    everything takes 10 ms to the other machines there are

A namespace lives as long as the process that holds it, and that process ends when this one does, even after a kill. So
nothing is left behind, nothing has a name, and tests may run in parallel. Without root rights, each namespace is inside
a new user namespace, if the kernel allows that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEM: str = sys.platform  # a plain string, so that type checkers for other systems read on
IS_ROOT = sys.platform != "win32" and os.geteuid() == 0
NOBODY = "02:00:00:00:00:01"  # the Ethernet address of no machine here
LINE_HOLDS_BYTES = 64 * 1024  # the queue of a slow line, as in an ordinary router; further packets are dropped
TOOLS = ("ip", "unshare", "nsenter", "cat")
INSIDE = "192.168.1.10/24"  # of a machine behind a router
ROUTER = """
table ip home {{
  chain out {{ type nat hook postrouting priority 100; oifname "eth0" masquerade {ports}; }}
  chain through {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept;
    iifname "inner" accept;
  }}
  chain own {{ type filter hook input priority 0; policy accept; iifname "eth0" ct state new {refuse}; }}
}}"""


class NoNamespaces(pytest.skip.Exception):  # type: ignore[name-defined, misc]
    """This system has no namespaces; the text says why. A test that does not catch it is skipped."""


class Held:
    """A namespace, held by a process that ends when its input does."""

    def __init__(self, within: Held | None = None) -> None:
        enter = [] if within is None else within.under()
        user = [] if within is not None or IS_ROOT else ["--user", "--map-root-user"]
        command = [*enter, "unshare", *user, "--net", "sh", "-c", "echo ready; exec cat"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        if self._process.stdout.readline() != "ready\n":
            reason = self._process.stderr.read().strip()
            self.let_go()
            raise NoNamespaces(reason or "unshare failed")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def namespace(self) -> str:
        """Return its file below /proc."""
        return f"/proc/{self.pid}/ns/net"

    def under(self, *command: str) -> list[str]:
        """Return the words that run a command in this namespace."""
        user = [] if IS_ROOT else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pid), *user, "--net", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command there to its end; return its output."""
        done = subprocess.run(self.under(*command), capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise NoNamespaces(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def let_go(self) -> None:
        """End the namespace and its network interfaces."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait(timeout=60)


class Machine:
    """One machine: a namespace, and a cable to the switch."""

    def __init__(self, held: Held, switch: Held, cable: str, addresses: Sequence[str]) -> None:
        self._held = held
        self._switch = switch
        self._cable = cable
        self.addresses: list[str] = []
        self.move(*addresses)

    @property
    def address(self) -> str:
        """Return its first address, without the prefix."""
        return self.addresses[0]

    @property
    def namespace(self) -> str:
        """Return the file of its network below /proc."""
        return self._held.namespace

    def under(self, *command: str) -> list[str]:
        """Return the words that run a command on this machine."""
        return self._held.under(*command)

    def run(self, *command: str) -> str:
        """Run a command on it to its end; return its output."""
        return self._held.run(*command)

    def move(self, *addresses: str) -> None:
        """Replace its addresses by these (10.77.0.1/24)."""
        self._held.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
        for address in addresses:
            self._held.run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        self.addresses = [address.partition("/")[0] for address in addresses]

    def unplug(self) -> None:
        """Unplug the cable at the switch."""
        self._switch.run("ip", "link", "set", self._cable, "down")

    def plug(self) -> None:
        self._switch.run("ip", "link", "set", self._cable, "up")

    def lose(self, *addresses: str) -> None:
        """Send everything for these addresses to a machine that does not exist, silently."""
        for address in addresses:
            self._held.run("ip", "neigh", "replace", address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")

    def find(self, *addresses: str) -> None:
        """End the effect of lose()."""
        for address in addresses:
            self._held.run("ip", "neigh", "del", address, "dev", "eth0")

    def throttle(self, kbits: int) -> None:
        """Limit its sending rate. Raises NoNamespaces if the kernel has no token bucket."""
        self._held.run(
            *("tc", "qdisc", "add", "dev", "eth0", "root", "tbf"),
            *("rate", f"{kbits}kbit", "burst", "5kb", "limit", str(LINE_HOLDS_BYTES)),
        )


class Lan:
    """A switch, and the machines on it.

    Raises:
        NoNamespaces: This system has no namespaces.
    """

    def __init__(self) -> None:
        if SYSTEM != "linux":
            raise NoNamespaces("network namespaces are Linux's")
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise NoNamespaces(f"{tool} is not installed")
        self._held: list[Held] = []
        self._cables: list[str] = []
        self._hub: subprocess.Popen[str] | None = None
        try:
            self._switch: Held = self._hold()
            self._switch.run("ip", "link", "add", "switch", "type", "bridge", "mcast_snooping", "0")
            self._switch.run("ip", "link", "set", "switch", "up")
        except BaseException:
            self.close()
            raise

    def _hold(self) -> Held:
        held = Held(self._held[0] if self._held and not IS_ROOT else None)
        self._held.append(held)
        return held

    def machine(self, *addresses: str) -> Machine:
        """Return a new machine with these addresses (10.77.0.1/24), with its cable plugged in."""
        held, cable = self._hold(), f"cable{len(self._held)}"
        far = ["peer", "name", "eth0", "netns", str(held.pid)]
        self._switch.run("ip", "link", "add", cable, "type", "veth", *far)
        self._switch.run("ip", "link", "set", cable, "master", "switch", "up")
        self._cables.append(cable)
        held.run("ip", "link", "set", "lo", "up")
        held.run("ip", "link", "set", "eth0", "up")
        return Machine(held, self._switch, cable, addresses)

    def home(self, *public: str, answers: str = "drop", ports: str = "") -> Machine:
        """Return a machine behind routers that let nobody in: one for each of these addresses, the outermost first.

        Args:
            answers: What the outermost router does with connections from outside: "drop", or "reject with tcp reset".
            ports: "fully-random" for routers that draw the ports from which the machine seems to dial.
        """
        machine = self.machine(public[0])
        for address in (*public[1:], INSIDE):
            outside, near = machine._held, self._hold()
            near.run("ip", "link", "set", "lo", "up")
            gateway = f"{address.rpartition('.')[0]}.1"
            outside.run("ip", "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", str(near.pid))
            outside.run("ip", "address", "add", f"{gateway}/24", "dev", "inner")
            outside.run("ip", "link", "set", "inner", "up")
            outside.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            refuse = "drop" if answers == "drop" else f"meta l4proto tcp {answers}"
            outside.run("nft", ROUTER.format(ports=ports, refuse=refuse))
            near.run("ip", "link", "set", "eth0", "up")
            machine = Machine(near, near, "lo", [address])
            near.run("ip", "route", "add", "default", "via", gateway)
        return machine

    def slow(self, milliseconds: float) -> None:
        """Put a slow hub in place of the switch, for the machines that there are.

        Raises:
            NoNamespaces: There is no ethtool.
        """
        if shutil.which("ethtool") is None:
            raise NoNamespaces("ethtool is not installed")
        for held in self._held[1:]:  # a hub passes on what is on the wire: whole packets with their sums
            held.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        for cable in self._cables:
            self._switch.run("ip", "link", "set", cable, "nomaster")
        command = self._switch.under(sys.executable, str(Path(__file__).with_name("slow_hub.py")))
        self._hub = subprocess.Popen([*command, str(milliseconds), *self._cables], stdout=subprocess.PIPE, text=True)
        assert self._hub.stdout is not None
        assert self._hub.stdout.readline() == "ready\n"

    def close(self) -> None:
        """Remove everything."""
        if self._hub is not None:
            self._hub.kill()
            self._hub.communicate()
        for held in reversed(self._held):
            held.let_go()
        self._held.clear()


@contextmanager
def lan_or_skip() -> Iterator[Lan]:
    """Yield a switch for one test, and remove it at the end. Skip the test, with the reason, without namespaces."""
    lan = Lan()
    try:
        yield lan
    finally:
        lan.close()
