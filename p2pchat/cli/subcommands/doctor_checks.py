"""What p2pchat runs on: Python, TLS, optional libraries, open files, the terminal."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from p2pchat import __version__
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning, wrong

EXTRAS = {"segno": "QR codes of invites", "zeroconf": "--discover"}
FEW_FILES = 512  # 256 links, 64 strangers, the database, and some


def machine() -> Iterator[Finding]:
    """Look at what is the same for every peer here."""
    yield python(ssl.HAS_TLSv1_3, ssl.OPENSSL_VERSION)
    yield extras()
    if sys.platform != "win32":
        import resource

        yield files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.RLIM_INFINITY)
    if sys.stdout is not None and sys.stdout.isatty():
        yield terminal(os.environ.get("TERM", ""), _encoding())


def python(has_tls13: bool, openssl: str) -> Finding:
    text = f"p2pchat {__version__}, Python {platform.python_version()}, {openssl}"
    if has_tls13:
        return ok("python", text)
    return wrong("python", f"{text}: it has no TLS 1.3", "install a Python with OpenSSL 1.1.1 or later")


def extras() -> Finding:
    def present(name: str) -> str:
        return "here" if find_spec(name) else "not installed"

    return ok("extras", ", ".join(f"{name} ({use}): {present(name)}" for name, use in EXTRAS.items()))


def files(most: int, unlimited: int) -> Finding:
    """`most` is the hard limit: a peer raises its own soft one up to it."""
    if most == unlimited or most >= FEW_FILES:
        return ok("files", "as many open as a large mesh needs")
    text = f"this login may have {most} files and connections open; a peer takes up to 320 connections"
    return warning("files", text, "ulimit -Hn 4096, or raise it in /etc/security/limits.conf")


def _encoding() -> str:
    import locale

    return locale.getencoding()


def terminal(kind: str, encoding: str) -> Finding:
    if encoding.lower().replace("-", "") not in ("utf8", "cp65001"):
        return warning("terminal", f"it is set to {encoding}: names and texts may look wrong", utf8_mend())
    if sys.platform != "win32" and kind in ("", "dumb"):
        return warning(
            "terminal", f"TERM is {kind or 'not set'}: lines can only be typed plainly", "TERM=xterm-256color"
        )
    return ok("terminal", f"{kind or 'the console'}, UTF-8")


def utf8_mend() -> str:
    return "chcp 65001" if sys.platform == "win32" else "export LC_ALL=C.UTF-8"
