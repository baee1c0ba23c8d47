"""The database: does it open, is it of this version, is it whole?"""

from __future__ import annotations

from p2pchat import Checked, History
from p2pchat.apps.cli.commands.doctoring.disk import size
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, wrong
from p2pchat.safe_text import safe_line

MEND = "stop the peer, move history.db away and start again: what others hold comes back; or put a backup in its place"


async def database(history: History) -> Finding:
    """Read all of an opened database. Raises StorageError when it cannot be read through."""
    return judged(await history.check())


def judged(found: Checked) -> Finding:
    if found.faults:
        more = f" and {len(found.faults) - 1} more" if len(found.faults) > 1 else ""
        return wrong("database", f"it is damaged ({safe_line(found.faults[0])}{more})", MEND)
    return ok("database", f"whole, {size(found.size_bytes)}")
