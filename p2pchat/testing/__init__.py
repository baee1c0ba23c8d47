"""For those who write programs on p2pchat: real peers over pipes, whole cores on virtual time, and the checker.

    from p2pchat.testing import mesh, Simulation

The fixture for pytest is `p2pchat_mesh` (pytest_plugin.py). Beside the files here, which are real peers over pipes,
stand the rooms: eventlogs/ has the checker, world/ the simulation, judges/ what it is held to, histories/ what is drawn
to happen there. Names are loaded when they are first used; no module here has the name of what it gives, or importing
it would hide that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pchat.testing.checker import Fault as Fault
    from p2pchat.testing.checker import Log as Log
    from p2pchat.testing.checker import check as check
    from p2pchat.testing.meshes import Mesh as Mesh
    from p2pchat.testing.meshes import mesh as mesh
    from p2pchat.testing.simulation.simulation import Simulation as Simulation

_HOME = {
    "Fault": "checker",
    "Log": "checker",
    "check": "checker",
    "Mesh": "meshes",
    "mesh": "meshes",
    "Simulation": "simulation.simulation",
}

__all__ = ["Fault", "Log", "Mesh", "Simulation", "check", "mesh"]


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'p2pchat.testing' has no attribute {name!r}")
    return getattr(import_module(f"p2pchat.testing.{module}"), name)
