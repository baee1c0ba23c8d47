"""Test tools for programs built on p2pchat: meshes in memory, meshes of processes and the checker of event logs.

    from p2pchat.testing import mesh, processes

The pytest fixture `p2pchat_mesh` (pytest_plugin.py) returns a factory: `net = await p2pchat_mesh("ada", "bob")`. The
page docs/testing.md has examples. meshes.py runs real peers over in-memory pipes; process_mesh.py runs them as
processes; eventlog_checker.py and eventlog_parser.py check event logs. Names are loaded on first use. No module here
has the name of a public function, because importing it would hide that function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pchat.testing.eventlog_checker import causes, check
    from p2pchat.testing.eventlog_parser import Fault, Log
    from p2pchat.testing.meshes import Mesh, mesh
    from p2pchat.testing.process_mesh import Child, ChildFailed, ProcessMesh, processes

_HOME = {
    "Fault": "eventlog_parser",
    "Log": "eventlog_parser",
    "causes": "eventlog_checker",
    "check": "eventlog_checker",
    "Mesh": "meshes",
    "mesh": "meshes",
    "Child": "process_mesh",
    "ChildFailed": "process_mesh",
    "ProcessMesh": "process_mesh",
    "processes": "process_mesh",
}

__all__ = [
    "Child",
    "ChildFailed",
    "Fault",
    "Log",
    "Mesh",
    "ProcessMesh",
    "causes",
    "check",
    "mesh",
    "processes",
]


if not TYPE_CHECKING:  # so that type checkers find a misspelt name

    def __getattr__(name: str) -> object:
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module 'p2pchat.testing' has no attribute {name!r}")
        return getattr(import_module(f"p2pchat.testing.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
