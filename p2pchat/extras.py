"""Optional packages: the extras of the distribution, and the command that installs one here."""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

DISTRIBUTION = "p2pchat-mesh"


def missing_extra(need: str, extra: str) -> str:
    """Return the sentence for a package that is not installed and comes with an extra.

    Args:
        need: What needs it: `discovery needs zeroconf`.
    """
    return f"{need}, which is not installed: {install_command(extra)}"


def install_command(extra: str) -> str:
    """Return the command that adds an extra, from where p2pchat was installed: a clone, a wheel or a package index.

    PEP 610 says how pip notes that place, in direct_url.json.
    """
    from importlib import metadata  # these import much
    from urllib.request import url2pathname

    wanted = f"{DISTRIBUTION}[{extra}]"
    try:
        origin = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # a zipapp, or a folder on the path
        return f'in a clone of p2pchat: pip install -e ".[{extra}]", in place of this copy'
    if "dir_info" in origin:
        folder = url2pathname(urlsplit(origin["url"]).path)
        wanted = ("-e " if origin["dir_info"].get("editable") else "") + f'"{folder}[{extra}]"'
    else:
        wanted = f'"{wanted} @ {origin["url"]}"' if origin else f'"{wanted}"'
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install {wanted}"
