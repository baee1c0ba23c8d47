"""The profile: its directory, key and network file, and who holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from p2pchat import ProfileState
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, told, warning, wrong
from p2pchat.apps.cli.program import command, quoted

OTHERS_WRITE = 0o022


def profile(state: ProfileState) -> Iterator[Finding]:
    """Look at everything in a data directory but the database."""
    yield directory(state)
    if state.exists:
        yield key(state)
        yield network(state)
        yield holder(state)


def directory(state: ProfileState) -> Finding:
    if not state.exists:
        start = command(state.directory.name if state.directory.name.isdecimal() else 8080)
        return warning("profile", f"there is nothing at {state.directory}", f"start a peer, which makes it: {start}")
    private = f"chmod 700 {quoted(str(state.directory))}"
    if state.others_mode & OTHERS_WRITE:
        return wrong("profile", f"others may write in {state.directory}", private)
    if state.others_mode:
        return warning("profile", f"others may look into {state.directory}", private)
    if not os.access(state.directory, os.R_OK | os.W_OK | os.X_OK):
        return wrong("profile", f"{state.directory} cannot be written", "run this as its owner, or give it back to you")
    return ok("profile", str(state.directory))


def key(state: ProfileState) -> Finding:
    if state.key_trouble:
        return told("key", state.key_trouble)
    if state.peer_id:
        return ok("key", f"{state.key_path.name} of peer {state.peer_id[:8]}")
    if state.database_path.exists():
        mend = "put identity.pem back from a backup, or start with --key: without it the next start is a new user's"
        return warning("key", f"there is a history in {state.directory}, and no key of who wrote it", mend)
    return warning("key", f"no peer has been in {state.directory} yet", "start one there, or name another directory")


def network(state: ProfileState) -> Finding:
    if state.network_trouble:
        return told("network", state.network_trouble)
    if not state.network:
        return ok("network", "none yet: the first start makes one, or joins one with --invite")
    whose = "its own" if state.network_path.parent == state.directory else "this login's"
    kind = "a network with a key" if state.network == "keyed" else "an open network: whoever can connect is a member"
    return ok("network", f"{whose}, {kind}")


def holder(state: ProfileState) -> Finding:
    if state.holder is None:
        return ok("lock", "no peer runs on this profile now")
    return ok("lock", f"in use by {f'process {state.holder}' if state.holder else 'another process'}")
