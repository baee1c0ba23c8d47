"""All targets by name."""

from __future__ import annotations

from tests.fuzz import announcements, databases, entries, frames, memberships, nodes, sessions, texts, transfers
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (frames, entries, memberships, texts, announcements, sessions, nodes, transfers, databases)
    for target in module.targets()
}
