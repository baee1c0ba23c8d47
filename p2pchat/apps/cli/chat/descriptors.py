"""How many files and sockets this process may have open: macOS gives a terminal's programs 256, one mesh may need more.

A peer has up to 256 links and 64 strangers (Settings), its database, and its standard streams.
"""

from __future__ import annotations

import sys

WANTED = 1024  # also what Linux gives a process unless told otherwise


def allow_descriptors(wanted: int = WANTED) -> None:
    """Raise the own soft limit to `wanted`, as far as the system lets it. Windows has no such limit."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS says so above its own maximum
        pass
