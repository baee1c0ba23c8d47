"""How a profile was started last, as far as others can reach it: kept in its settings, so that a start without a port
listens where it did before, and one that does not says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from p2pchat.commands.endpoints import LOOPBACK, is_loopback


@dataclass(frozen=True, slots=True)
class LastStart:
    """Where it listened, what address it told others ("": those it has), and whether members could discover it."""

    host: str = LOOPBACK
    advertise: str = ""
    discover: bool = False

    @classmethod
    def from_json(cls, found: object) -> LastStart:
        """Read it back.

        Raises:
            ValueError: That is none.
        """
        usual = asdict(cls())
        if not isinstance(found, dict):
            raise ValueError("`last_start` is no JSON object")
        known = {name: value for name, value in found.items() if name in usual}
        if any(type(value) is not type(usual[name]) for name, value in known.items()):
            raise ValueError("`last_start` has a value of the wrong kind")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def fewer_now(self, host: str) -> str:
        """Return a line for somebody who listens on `host` now, where fewer come than last time; else ""."""
        if is_loopback(self.host) or not is_loopback(host):
            return ""
        return f"-- only this machine reaches it now; last time others did: --host {self.host}"
