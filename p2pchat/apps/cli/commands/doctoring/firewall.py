"""Firewalls of this machine that can be seen without being root, and how each is told to let a port through.

What rules they have is for root to read; that one is on is enough for a hint. Whatever cannot be asked is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning

ASK_WITHIN = 3.0  # seconds for a command of the system
SERVICES = {  # of systemd: what lets a port through
    "firewalld": "sudo firewall-cmd --permanent --add-port={port}/tcp && sudo firewall-cmd --reload",
    "nftables": "add to /etc/nftables.conf: tcp dport {port} accept",
    "iptables": "sudo iptables -I INPUT -p tcp --dport {port} -j ACCEPT",
}
WINDOWS_RULE = "netsh advfirewall firewall add rule name=p2pchat dir=in action=allow protocol=TCP localport={port}"
MAC_TOOL = "/usr/libexec/ApplicationFirewall/socketfilterfw"
MAC_RULE = f"sudo {MAC_TOOL} --add {{python}} && sudo {MAC_TOOL} --unblockapp {{python}}"


def firewalls(port: int, root: Path = Path("/")) -> Iterator[Finding]:
    """Return one finding for each firewall that is on, or that none is seen.

    Args:
        root: Where the system's files are; tests have another.
    """
    active = list(_active(root))
    for name, mend in active:
        text = f"{name} is on, and may keep others out of port {port}"
        yield warning("firewall", text, mend.format(port=port, python=sys.executable))
    if not active:
        yield ok("firewall", "none is seen on this machine")


def _active(root: Path) -> Iterator[tuple[str, str]]:
    if sys.platform == "win32":
        if _windows_is_on():
            yield "the Windows firewall", WINDOWS_RULE
    elif sys.platform == "darwin":
        if "enabled" in _ask(MAC_TOOL, "--getglobalstate"):
            yield "the macOS firewall", MAC_RULE
    else:
        if _ufw_is_on(root / "etc/ufw/ufw.conf"):
            yield "ufw", "sudo ufw allow {port}/tcp"
        states = _ask("systemctl", "is-active", *SERVICES).split()
        for (name, mend), state in zip(SERVICES.items(), states, strict=False):
            if state == "active":
                yield name, mend


def _ufw_is_on(config: Path) -> bool:
    try:
        return re.search(r"^ENABLED=yes\s*$", config.read_text("utf-8", "replace"), re.MULTILINE) is not None
    except OSError:
        return False


def _ask(*command: str) -> str:
    """Return what a command of the system says; "" when it is not there or does not answer."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, errors="replace", timeout=ASK_WITHIN, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _windows_is_on() -> bool:
    """Whether any profile of it is, as the registry says: the words of netsh are in the language of the system."""
    if sys.platform != "win32":
        return False
    import winreg

    policy = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy"
    for name in ("StandardProfile", "PublicProfile", "DomainProfile"):
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, rf"{policy}\{name}") as profile:
                if winreg.QueryValueEx(profile, "EnableFirewall")[0]:
                    return True
        except OSError:
            continue
    return False
