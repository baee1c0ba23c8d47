"""Imports point one way, the core is pure, apps are guests: read from the source of every file, nothing is run.

DIRECTION is docs/architecture.md, "Which way imports point", as data: a file may import from its own layer and from
those before it. What a file imports only for its types counts too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "p2pchat"

# Each row may import from itself and from the rows above it.
DIRECTION = (
    {"errors", "config", "protocol"},
    {"core"},
    {"identity", "client", "dialing", "server", "storage", "discovery"},
    {"runtime"},
    {"peer"},
    {"testing", "apps"},
)
LAYER = {name: layer for layer, names in enumerate(DIRECTION) for name in names}
# Folders whose rooms (folders and files) have an order of their own, by the same rule.
ROOMS = {
    "peer": (
        {"times", "whole", "carrying", "endpoints"},
        {"users"},
        {"assembly", "forgetting"},
        {"messages"},
        {"groups"},
        {"reading"},
        {"calls"},
        {"life", "standing", "hosted"},  # a running peer: its life ends with the users it hosts
        {"peer"},
        {"profiles", "probe"},
    ),
    "apps/web": (
        {"settings", "errors", "journal"},
        {"accounts", "calls"},
        {"sessions"},
        {"operations"},
        {"gateway"},
        {"doors"},
        {"words"},
        {"rest", "chat", "lines", "socketio", "page"},
        {"app"},
    ),
    "testing": (
        {"pipes", "meshes", "pytest_plugin", "eventlogs"},
        {"world", "judges"},  # a simulation has its judges, and they look at all of it
        {"histories"},
        {"__main__"},
    ),
}
WAYS_OF_TALKING = {"rest", "chat", "lines", "socketio", "page"}  # none knows another
LAYER[""] = LAYER["apps"]  # the public names of p2pchat/__init__.py are for those at the end

# The rest of the standard library has neither a clock nor I/O that anyone would reach for by accident.
NOT_IN_CORE = {
    *("asyncio", "time", "random", "os", "socket", "sqlalchemy"),
    *("datetime", "secrets", "uuid", "ssl", "threading", "subprocess", "pathlib", "tempfile", "sqlite3", "select"),
}
LIBRARIES_OF_CORE = {"cryptography", "msgspec"}
FILES_WITH_MSGSPEC = {"protocol.py", "core/log.py"}
# What only some installations have: imported where it is used, never by `import p2pchat`.
ONLY_LAZILY = {"segno", "zeroconf", "ifaddr", "websockets", "pytest", "hypothesis"}


class Import(NamedTuple):
    """`module` is absolute; `name` is what is taken from it, "" for a plain import; `at_top` runs when imported."""

    module: str
    name: str
    line: int
    at_top: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


class Source(NamedTuple):
    """One file of the package: its path below p2pchat/, with slashes, and what stands in it."""

    path: str
    code: str

    @property
    def imports(self) -> tuple[Import, ...]:
        """What it imports; read when a test asks, for every process that runs tests collects all of them."""
        return _imports_of(self)

    @property
    def unit(self) -> str:
        """The name DIRECTION knows it by: `core/node.py` is `core`, `peer.py` is `peer`."""
        return self.path.partition("/")[0].removesuffix(".py")


def imports_of(code: str, package: tuple[str, ...] = ("p2pchat",)) -> Iterator[Import]:
    """Every import in `code`, a file of `package`, wherever in the file it stands."""
    tree = ast.parse(code)
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(node)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno, at_top)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, at_top)


@cache
def _imports_of(source: Source) -> tuple[Import, ...]:
    return tuple(imports_of(source.code, ("p2pchat", *Path(source.path).parent.parts)))


def is_for_types(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def internal_target(found: Import) -> str | None:
    """The unit of p2pchat that an import reaches, "" for its public names, None for another library."""
    if found.top != "p2pchat" or found.name == "__version__":
        return None
    rest = found.module.split(".")[1:]
    if rest:
        return rest[0]
    return found.name if found.name in LAYER else ""


def wrong_arrows(source: Source) -> list[str]:
    """What this file imports from a layer after its own, as sentences."""
    own = LAYER.get(source.unit)
    if own is None:  # __init__ and __main__ stand outside: they gather names and hand over
        return []
    return [
        f"{source.path}:{found.line} imports {target or 'p2pchat itself'}"
        for found in source.imports
        if (target := internal_target(found)) is not None and LAYER.get(target, len(DIRECTION)) > own
    ]


def room_of(source: Source) -> tuple[str, str] | None:
    """The folder with rooms that a file stands in, and its room there: a folder, or the file itself. None: no such."""
    for folder in ROOMS:
        if source.path.startswith(f"{folder}/"):
            return folder, source.path[len(folder) + 1 :].partition("/")[0].removesuffix(".py")
    return None


def row_of(folder: str, room: str) -> int:
    """Which row of its folder a room stands in; behind all of them for one that is in none."""
    return next((row for row, rooms in enumerate(ROOMS[folder]) if room in rooms), len(ROOMS[folder]))


def wrong_arrows_between_rooms(source: Source) -> list[str]:
    """What a file imports from a room after its own, or from another way of talking, as sentences."""
    found = room_of(source)
    if found is None or found[1] == "__init__":  # that gathers the public names
        return []
    folder, own = found
    package = ["p2pchat", *folder.split("/")]
    imported = [(one.line, [*one.module.split("."), one.name]) for one in source.imports]
    rooms = [(line, words[len(package)]) for line, words in imported if words[: len(package)] == package]
    return [
        f"{source.path}:{line} imports {room}"
        for line, room in rooms
        if room != own and (row_of(folder, room) > row_of(folder, own) or {room, own} <= WAYS_OF_TALKING)
    ]


SOURCES = [
    Source(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
]
every_file = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.path)
every_core_file = pytest.mark.parametrize(
    "source", [s for s in SOURCES if s.unit == "core"], ids=lambda source: source.path
)
every_file_of_a_room = pytest.mark.parametrize(
    "source", [s for s in SOURCES if room_of(s)], ids=lambda source: source.path
)
every_app_file = pytest.mark.parametrize(
    "source", [s for s in SOURCES if s.unit == "apps"], ids=lambda source: source.path
)


@every_file
def test_imports_point_one_way(source: Source) -> None:
    assert wrong_arrows(source) == []


@every_file
def test_every_file_stands_in_a_layer(source: Source) -> None:
    assert source.unit in LAYER or source.path in ("__init__.py", "__main__.py")


@every_core_file
def test_the_core_knows_no_clock_no_io_and_no_chance(source: Source) -> None:
    assert [f"{found.module} in line {found.line}" for found in source.imports if found.top in NOT_IN_CORE] == []


@every_core_file
def test_the_core_imports_few_libraries(source: Source) -> None:
    allowed = sys.stdlib_module_names | LIBRARIES_OF_CORE | {"p2pchat"}
    assert [found.module for found in source.imports if found.top not in allowed] == []


@every_file
def test_frames_and_entries_are_the_only_users_of_msgspec(source: Source) -> None:
    users = {found.top for found in source.imports}
    assert "msgspec" not in users or source.path in FILES_WITH_MSGSPEC


@every_app_file
def test_apps_use_public_names_only(source: Source) -> None:
    """An app is anybody's program: `from p2pchat import TCPPeer`, `p2pchat.testing`, and its own files."""
    private = [
        f"{found.module}.{found.name} in line {found.line}"
        for found in source.imports
        if internal_target(found) not in (None, "", "testing", "apps") or found.name.startswith("_")
        if found.name != "__version__"
    ]
    assert private == []


@every_file_of_a_room
def test_rooms_import_one_way(source: Source) -> None:
    found = room_of(source)
    assert found is not None
    folder, room = found
    assert room == "__init__" or row_of(folder, room) < len(ROOMS[folder]), "a new room: say in ROOMS where it stands"
    assert wrong_arrows_between_rooms(source) == []


@every_file
def test_optional_libraries_are_imported_where_they_are_used(source: Source) -> None:
    if source.path == "testing/pytest_plugin.py":  # only pytest ever imports it
        return
    assert [found.module for found in source.imports if found.at_top and found.top in ONLY_LAZILY] == []


@pytest.mark.parametrize(
    ("path", "code", "wrong"),
    [
        ("core/node.py", "from p2pchat.storage import base", ["core/node.py:1 imports storage"]),
        ("core/node.py", "from ..storage.base import Storage", ["core/node.py:1 imports storage"]),
        ("core/node.py", "import p2pchat.runtime.driver", ["core/node.py:1 imports runtime"]),
        ("core/node.py", "from p2pchat import TCPPeer", ["core/node.py:1 imports p2pchat itself"]),
        ("core/node.py", "def f():\n    from p2pchat import peer", ["core/node.py:2 imports peer"]),
        ("errors.py", "from p2pchat.core import node", ["errors.py:1 imports core"]),
        ("runtime.py", "from p2pchat import __version__", []),
        ("storage/sql.py", "from p2pchat.identity import keys\nimport sqlalchemy", []),
        ("core/node.py", "from p2pchat.protocol import Mark\nfrom .clock import Now\nfrom . import sync", []),
        ("runtime.py", "from .storage import base\nfrom . import client", []),
        ("cli/main.py", "from p2pchat import TCPPeer", []),
        ("testing/mesh.py", "from p2pchat.peer.peer import TCPPeer", []),
    ],
)
def test_the_reader_of_imports_sees_each_form(path: str, code: str, wrong: list[str]) -> None:
    assert wrong_arrows(Source(path, code)) == wrong


@pytest.mark.parametrize(
    ("path", "code", "wrong"),
    [
        ("sessions/hub.py", "from p2pchat.web.gateway import Gateway", ["gateway"]),
        ("sessions/hub.py", "from p2pchat.web import gateway", ["gateway"]),
        ("chat/session.py", "from p2pchat.apps.web.lines.show import LinesShow", ["lines"]),
        ("chat/session.py", "from p2pchat.web.hub import Hub\nfrom p2pchat.web import chat", []),
    ],
)
def test_the_reader_of_imports_sees_each_room(path: str, code: str, wrong: list[str]) -> None:
    assert wrong_arrows_between_rooms(Source(f"apps/web/{path}", code)) == [
        f"apps/web/{path}:1 imports {target}" for target in wrong
    ]


def test_the_code_map_has_a_place_for_everything() -> None:
    """docs/architecture.md names what is at the top, and each file of core/, runtime/, peer/ and of what has rooms."""
    code_map = (ROOT / "docs/architecture.md").read_text("utf-8")
    core = [Path(source.path) for source in SOURCES if source.unit in ("core", "runtime", "peer") or room_of(source)]
    files = {path.name for path in core} - {"__init__.py", "__main__.py"}
    folders = {path.name + "/" for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    tops = {source.path for source in SOURCES if "/" not in source.path} - {"__main__.py"}
    assert sorted(name for name in files | folders | tops if name not in code_map) == []


def test_there_are_files_to_read() -> None:
    assert {"errors", "protocol", "core", "apps"} <= {source.unit for source in SOURCES}
