"""Rules of the architecture, checked in the source: directions of imports, a pure core, and names.

All text files of the repository are looked through for marks of a merge.

DIRECTION is the picture of docs/architecture.md as data: a file may import from its own layer and from those before
it. Imports for types count too.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import p2pchat
from tests import purse
from tests.conftest import Tell

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "p2pchat"

# A row may import from itself and from the rows above it.
DIRECTION = (
    {
        "errors",
        "extras",
        "settings",
        "program_log",
        "private_files",
        "addresses",
        "threads",
        "bounded",
        "protocol",
        "kinds",
    },
    {"core"},
    {"identity", "client", "server", "storage", "trace"},
    {"discovery", "runtime"},
    {"messaging", "peer_resources", "export_file", "lifecycle", "peer"},
    {"offline", "backup", "devices", "reachability"},
    {"testing"},
    {"sync"},
    {"commands", "peer_metrics", "safe_text"},
    {"web"},
    {"cli"},
    {"bots", "once"},
)
APPS = {"commands", "peer_metrics", "safe_text", "web", "cli", "bots", "once"}  # guests of the public names
LAYER = {name: layer for layer, names in enumerate(DIRECTION) for name in names}
# The same for the rooms of the core. Its other files are of the first row: values that all of them use.
CORE_DIRECTION = (
    {"", "members.statement"},
    {"groups", "members", "names"},
    {"mesh"},
    {"sync"},
    {"receipts", "content"},
    {"replicator", "node"},
)
# What stays apart: neither of these imports the other. Of mesh/ others have the links and who is present.
APART = {
    "groups": {"members"},
    "members": {"groups"},
    "mesh": {"groups"},
    "receipts": {"content"},
    "content": {"receipts", "mesh"},
}
DOORS_OF_MESH = {"peer_link", "presence_tracker"}
CORE_LAYER = {name: layer for layer, names in enumerate(CORE_DIRECTION) for name in names}
LAYER[""] = LAYER["testing"]  # layers after the library use its public names
# The interfaces of a gateway. None imports another.
WEB_INTERFACES = {"rest", "chat_socket", "event_socket", "socketio", "page"}

# Modules of the standard library with a clock, I/O or randomness that the core might use by accident.
NOT_IN_CORE = {
    *("asyncio", "time", "random", "os", "socket"),
    *("datetime", "secrets", "uuid", "ssl", "threading", "subprocess", "pathlib", "tempfile", "sqlite3", "select"),
}
# Files that are not called after their main class: few, with a reason each.
OTHER_SUBJECT = {
    "bots.py": "programs say `from p2pchat.bots import Bot`",
    "commit_writer.py": "CommitWriter decides what is written; RowBuffer only collects its rows",
    "election.py": "the election is a function; what two processes with one key do follows from it",
    "gateway_state.py": "a Gateway is what the interfaces of one application share",
    "offline.py": "profiles at rest: to read their History is one of several things to do with them",
    "peer.py": "a peer is TCPPeer in this package; TCP tells programs which of many it is",
    "peer_metrics.py": "metrics of a peer; its health is one of them",
    "process_mesh.py": "ProcessMesh is what a test holds, and Child one process of it",
}
LIBRARIES_OF_CORE = {"cryptography", "msgspec"}
FILES_WITH_MSGSPEC = {
    "core/log.py", "core/durable_changes.py", "core/groups/group_fact.py", "core/members/statement.py", "protocol.py",
    "devices.py",
}  # fmt: skip
# Optional libraries: imported where they are used, never by `import p2pchat`.
ONLY_LAZILY = {"zeroconf", "ifaddr", "websockets", "pymysql", "psycopg", "pytest", "hypothesis"}


# Circles of files that are left, by the first file of each, and how many files they have. All others are on a stair: a
# file imports from below. lifecycle.py is with messaging/.
CIRCLES = {"lifecycle.py": 16}


class Import(NamedTuple):
    """One import. `module` is absolute; `name` is "" for a plain import; `at_top` is True if it runs on import."""

    module: str
    name: str
    line: int
    at_top: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


class Source(NamedTuple):
    """One file of the package: its path below p2pchat/, with slashes, and its code."""

    path: str
    code: str

    @property
    def imports(self) -> tuple[Import, ...]:
        return _imports(self)

    @property
    def unit(self) -> str:
        """Its name in DIRECTION: `core` for `core/node.py`, `peer` for `peer.py`."""
        return self.path.partition("/")[0].removesuffix(".py")


_FROM = re.compile(r"^([ \t]*)from (\.*)([\w.]*) import (\([^)]*\)|[^\n#]+)", re.MULTILINE)
_IMPORT = re.compile(r"^([ \t]*)import (\w[\w., ]*?)(?= as |[ \t]*#|[ \t]*$)", re.MULTILINE)


@cache
def _imports(source: Source) -> tuple[Import, ...]:
    """Return the imports of a file. They are lines of code that begin so: a syntax tree of each file takes seconds."""
    package = ("p2pchat", *Path(source.path).parent.parts)
    found = []
    for statement in _FROM.finditer(source.code):
        indent, dots, rest, names = statement.groups()
        base = package[: len(package) - len(dots) + 1] if dots else ()
        module = ".".join((*base, *((rest,) if rest else ())))
        line = source.code.count("\n", 0, statement.start()) + 1
        for name in re.findall(r"(\w+)(?: as \w+)?", re.sub("#.*", "", names)):
            found.append(Import(module, name, line, not indent))
    for statement in _IMPORT.finditer(source.code):
        line = source.code.count("\n", 0, statement.start()) + 1
        for module in re.findall(r"[\w.]+", statement[2]):
            found.append(Import(module, "", line, not statement[1]))
    return tuple(found)


def internal_target(found: Import) -> str | None:
    """Return the imported unit of p2pchat, "" for its public names, None for another library."""
    if found.top != "p2pchat" or found.name == "__version__":
        return None
    rest = found.module.split(".")[1:]
    if rest:
        return rest[0]
    return found.name if found.name in LAYER else ""


def wrong_arrows(source: Source) -> list[str]:
    """Return the imports of this file from a layer after its own, as sentences."""
    own = LAYER.get(source.unit)
    if own is None:  # __init__ and __main__ are in no layer
        return []
    return [
        f"{source.path}:{found.line} imports {target or 'p2pchat itself'}"
        for found in source.imports
        if (target := internal_target(found)) is not None and LAYER.get(target, len(DIRECTION)) > own
    ]


def interface_of(path: str) -> str:
    """Return the gateway's interface a file belongs to, "" for none."""
    folder, _, rest = path.partition("/")
    name = rest.partition("/")[0].removesuffix(".py")
    return name if folder == "web" and name in WEB_INTERFACES else ""


def wrong_arrows_between_interfaces(source: Source) -> list[str]:
    """Return the imports of one web interface's file from another interface, as sentences."""
    own = interface_of(source.path)
    imported = [(one.line, f"{one.module}.{one.name}".split(".")) for one in source.imports]
    targets = [(line, words[2]) for line, words in imported if words[:2] == ["p2pchat", "web"] and len(words) > 2]
    return [
        f"{source.path}:{line} imports {target}" for line, target in targets if own and target in WEB_INTERFACES - {own}
    ]


def core_room(module: str) -> str:
    """Return the name in CORE_DIRECTION of a module below p2pchat.core; "" for a value."""
    room, _, rest = module.partition(".")
    if room == "names" and not rest:
        return room
    return next((name for name in (module, room) if name in CORE_LAYER), "")


def wrong_arrows_between_rooms(source: Source) -> list[str]:
    """Return the imports of a file of the core from a room that is above its own, or stays apart, as sentences."""
    own = core_room(source.path.removeprefix("core/").removesuffix(".py").replace("/", "."))
    wrong = []
    for found in source.imports:
        module = found.module.removeprefix("p2pchat.core.")
        target = core_room(module)
        is_inside = target == "mesh" and own != "mesh" and CORE_LAYER[own] < CORE_LAYER["node"]
        if module != found.module and (
            CORE_LAYER[target] > CORE_LAYER[own]
            or target in APART.get(own, ())
            or (is_inside and module.partition(".")[2] not in DOORS_OF_MESH)
        ):
            wrong.append(f"{source.path}:{found.line} imports {module}")
    return wrong


def repeated(names: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that occur in several places, each with its places."""
    places = defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def files_imported(source: Source, paths: Collection[str]) -> set[str]:
    """Return the files of the package that a file imports, for types or late, too."""
    found = set()
    for one in source.imports:
        module = one.module.removeprefix("p2pchat").removeprefix(".").replace(".", "/")
        name = f"{module}/{one.name}".removeprefix("/")
        of = [
            path
            for path in (f"{name}.py", f"{name}/__init__.py", f"{module}.py", f"{module}/__init__.py")
            if path in paths
        ]
        found.update(of[:1])
    return found - {source.path}


def scripts_imported(text: str) -> set[str]:
    """Return the files that a file of the page imports; types, which stand in comments, do not count."""
    return set(re.findall(r'^import [^;]*?"\./([\w.]+)"', text, re.MULTILINE))


def circles(imported: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Return the files that import one another, directly or not: each circle by its first file."""
    reached: dict[str, set[str]] = {}
    for start in imported:
        seen, waiting = set[str](), [start]
        while waiting:
            new = set(imported.get(waiting.pop(), ())) - seen
            seen |= new
            waiting += new
        reached[start] = seen
    found: dict[str, list[str]] = {}
    for path in sorted(imported):
        if path in reached[path]:
            found.setdefault(min(other for other in reached[path] if path in reached.get(other, ())), []).append(path)
    return found


SOURCES = [
    Source(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
]
CORE = [source for source in SOURCES if source.unit in ("core", "kinds")]


def test_imports_point_one_way() -> None:
    assert [arrow for source in SOURCES for arrow in wrong_arrows(source)] == []


def test_rooms_of_the_core_import_one_way() -> None:
    """So one can explain mesh/ without logs, and logs without receipts and files."""
    core = [source for source in SOURCES if source.unit == "core"]
    assert [arrow for source in core for arrow in wrong_arrows_between_rooms(source)] == []
    assert {core_room(name) for name in ("names", "log", "sync.step")} == {"names", "", "sync"}


def test_web_interfaces_do_not_import_each_other() -> None:
    assert [arrow for source in SOURCES for arrow in wrong_arrows_between_interfaces(source)] == []


def test_files_are_a_stair_and_no_circle() -> None:
    """A reader knows of each file who may call it. Imports for types and late ones count, too."""
    built = "sync/classes.py"
    paths = {built, *(source.path for source in SOURCES)}
    found = circles({source.path: files_imported(source, paths) for source in SOURCES if source.path != built})
    assert {first: files for first, files in found.items() if len(files) > CIRCLES.get(first, 0)} == {}
    assert {first: len(found.get(first, ())) for first in CIRCLES} == CIRCLES, "a smaller circle stays small"
    page = {path.name: scripts_imported(path.read_text("utf-8")) for path in (PACKAGE / "web/page").glob("*.js")}
    assert circles(page) == {}


def test_the_reader_of_circles_sees_each_form() -> None:
    paths = {"a/__init__.py", "a/b.py", "c.py"}
    code = "from p2pchat import c\nif TYPE_CHECKING:\n    from p2pchat.a.b import f\ndef g():\n    import p2pchat.a\n"
    assert files_imported(Source("d.py", code), paths) == {"c.py", "a/b.py", "a/__init__.py"}
    assert scripts_imported('import { a } from "./a.js";\nimport {\n  b,\n} from "./b.js";\nimport "./c.js";\n') == {
        "a.js", "b.js", "c.js",
    }  # fmt: skip
    assert circles({"a": "b", "b": "c", "c": "b", "d": "a", "e": "e"}) == {"b": ["b", "c"], "e": ["e"]}


def test_every_file_is_in_a_layer() -> None:
    outside = {source.path for source in SOURCES if source.unit not in LAYER}
    assert outside == {"__init__.py", "__main__.py"}


def test_no_file_name_occurs_twice() -> None:
    paths = [Path(source.path) for source in SOURCES if not source.path.endswith("__.py")]
    assert repeated((path.name, path.as_posix()) for path in paths) == {}


def test_a_file_has_one_subject() -> None:
    folders = ("p2pchat", "simulation", "conformance", "tests", "docs", "benchmarks", "examples")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    assert [path for path in paths if re.search(r"_(and|or)_", path.stem) and path.suffix in (".py", ".js")] == []


def main_class(code: str) -> str:
    """Return the public class that makes up most of a file, "" if none does.

    Header, imports, decorators and blank lines are not counted. The rest is all other code: functions, tables, private
    classes.
    """
    lines: Counter[str] = Counter()
    owner: str | None = None
    for line in re.sub(r'\A""".*?"""', "", code, flags=re.DOTALL).splitlines():
        if line[:1] not in (*" )]}", ""):
            found = re.match(r"class ([A-Z]\w*)", line)
            if found:
                owner = found[1]
            else:
                owner = None if re.match(r"from |import |if |#|@", line) else ""
        if line.strip() and owner is not None:
            lines[owner] += 1
    (name, most), *_ = lines.most_common(1) or [("", 0)]
    return name if 2 * most > lines.total() else ""


def test_a_file_is_called_after_the_class_that_makes_up_most_of_it() -> None:
    others = {
        source.path: name
        for source in SOURCES
        if not source.path.endswith(("__.py", "sync/classes.py"))
        if (name := main_class(source.code))
        if name.lower() != Path(source.path).stem.replace("_", "")
    }
    files = {Path(path).name for path in others}
    wrong = {path: name for path, name in others.items() if Path(path).name not in OTHER_SUBJECT}
    assert wrong == {}
    assert OTHER_SUBJECT.keys() - files == set(), "these need no exception any more"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('"""Text.\n\nMore\n"""\n\nimport re\n\nclass Ada:\n    x = 1\n    y = 2\n\ndef f():\n    pass\n', "Ada"),
        ("class Ada:\n    x = 1\n\nTABLE = (\n    1,\n)\n", ""),
        ("class Ada:\n    x = 1\n\nclass Bob:\n    x = 1\n", ""),
        ("@cache\nclass _Ada:\n    x = 1\n    y = 2\n", ""),
        ("from x import (\n    y,\n)\n", ""),
    ],
)
def test_the_main_class_of_a_file_has_more_than_half_of_its_lines(code: str, name: str) -> None:
    assert main_class(code) == name


def test_no_public_class_name_occurs_twice() -> None:
    classes = [
        (name, source.path)
        for source in SOURCES
        if source.path != "sync/classes.py"  # its names are those of the asynchronous classes
        for name in re.findall(r"^class ([A-Za-z]\w*)", source.code, re.MULTILINE)
    ]
    assert repeated(classes) == {}


def test_no_submodule_hides_a_public_name() -> None:
    modules = {source.path.removesuffix(".py") for source in SOURCES} | {source.unit for source in SOURCES}
    assert modules & set(p2pchat.__all__) == set()


def test_the_core_knows_no_clock_no_io_and_no_chance() -> None:
    assert [
        (source.path, found.module) for source in CORE for found in source.imports if found.top in NOT_IN_CORE
    ] == []


def test_the_core_imports_few_libraries() -> None:
    allowed = sys.stdlib_module_names | LIBRARIES_OF_CORE | {"p2pchat"}
    assert [
        (source.path, found.module) for source in CORE for found in source.imports if found.top not in allowed
    ] == []


def test_what_strangers_write_is_all_that_msgspec_reads() -> None:
    users = {source.path for source in SOURCES if "msgspec" in {found.top for found in source.imports}}
    assert users == FILES_WITH_MSGSPEC


def test_apps_use_public_names_only() -> None:
    """An app imports like any program: `from p2pchat import TCPPeer`, `p2pchat.testing`, and its own files.

    What it shares with the library beside that is named here: the sentence about an extra, the program's log,
    private files, addresses, threads, the kinds of entries.
    """
    allowed = (
        None,
        "",
        "testing",
        "sync",
        "extras",
        "program_log",
        "private_files",
        "addresses",
        "threads",
        "bounded",
        "kinds",
        *APPS,
    )
    private = [
        f"{source.path}:{found.line} imports {found.module}.{found.name}"
        for source in SOURCES
        if source.unit in APPS
        for found in source.imports
        if internal_target(found) not in allowed or found.name.startswith("_")
        if found.name != "__version__"
    ]
    assert private == []


def test_the_default_executor_is_left_to_the_program() -> None:
    """A program may fill it with calls that do not return, and its end waits for what runs there."""
    used = re.compile(r"\bto_thread\(|run_in_executor\(None|loop\(?\)?\.getaddrinfo|ThreadPoolExecutor")
    assert {source.path for source in SOURCES if used.search(source.code)} == {"once.py"}


def test_the_log_of_the_program_is_written_in_one_way() -> None:
    """Its handlers may raise: see ProgramLog."""
    written = re.compile(r"= logging\.getLogger\((?!\"p2pchat\"\))")
    assert {source.path for source in SOURCES if written.search(source.code)} == {"web/socketio/socketio_server.py"}


def test_optional_libraries_are_imported_where_they_are_used() -> None:
    early = [
        (source.path, found.module)
        for source in SOURCES
        if source.path != "testing/pytest_plugin.py"  # only pytest imports it
        for found in source.imports
        if found.at_top and found.top in ONLY_LAZILY
    ]
    assert early == []


@pytest.mark.parametrize(
    ("path", "code", "wrong"),
    [
        ("core/node.py", "from p2pchat.storage import contract", ["core/node.py:1 imports storage"]),
        ("core/node.py", "from ..storage.contract import (\n    Storage,\n)", ["core/node.py:1 imports storage"]),
        ("core/node.py", "import p2pchat.runtime.driver", ["core/node.py:1 imports runtime"]),
        ("core/node.py", "def f():\n    from p2pchat import peer", ["core/node.py:2 imports peer"]),
        ("core/node.py", "from p2pchat.protocol import Mark\nfrom .clock import Now\nfrom . import sync", []),
        ("runtime.py", "from .storage import contract\nfrom p2pchat import __version__", []),
    ],
)
def test_the_reader_of_imports_sees_each_form(path: str, code: str, wrong: list[str]) -> None:
    assert wrong_arrows(Source(path, code)) == wrong


@pytest.mark.parametrize(
    ("path", "module", "is_wrong"),
    [
        ("core/mesh/links.py", "core.sync.step", True),
        ("core/mesh/links.py", "core.groups.group_fact", True),
        ("core/sync/step.py", "core.content.pieces", True),
        ("core/sync/step.py", "core.mesh.peer_link", False),
        ("core/sync/step.py", "core.mesh.dialer", True),
        ("core/content/pieces.py", "core.mesh.peer_link", True),
        ("core/effects.py", "core.members.statement", False),
        ("core/effects.py", "core.members.admission", True),
        ("core/replicator.py", "core.receipts.peer_receipts", False),
    ],
)
def test_the_reader_of_rooms_sees_each_wall(path: str, module: str, is_wrong: bool) -> None:
    assert bool(wrong_arrows_between_rooms(Source(path, f"from p2pchat.{module} import it"))) is is_wrong


def test_no_room_is_larger_than_its_budget(tell: Tell) -> None:
    """In tokens or in folds, see tests/purse.py."""
    here = purse.files()
    rooms = purse.budgets(here[purse.TABLE])
    found = purse.sizes(here, rooms)
    assert not found.pop(""), "a file has no room"
    tell("tokens of code: " + ", ".join(f"{room} {found[room]['tokens']:,} of {rooms[room][1]:,}" for room in rooms))
    tell("folds: " + ", ".join(f"{room} {purse.folds_of(found[room])} of {rooms[room][2]}" for room in rooms))
    assert {room: size["tokens"] for room, size in found.items() if size["tokens"] > rooms[room][1]} == {}
    assert {room: size for room, size in found.items() if purse.folds_of(size) > rooms[room][2]} == {}


ROW = "| core | `core/` | {} | {} |\n"


@pytest.mark.parametrize(
    ("after", "paid", "found"),
    [
        ((90, 7), "", []),
        ((110, 7), "", ["core: 100 tokens became 110"]),
        ((110, 7), "core\t120\tabc1234: receipts\n", ["core: 100 tokens became 110"]),
        ((110, 7), "core\t110\t\n", ["core: 100 tokens became 110"]),
        ((110, 7), "core\t110\tabc1234: receipts\n", []),
        ((100, 8), "core\t100\tabc1234: receipts\n", ["core: 7 folds became 8"]),
    ],
)
def test_the_gate_refuses_a_raised_number_that_nothing_paid(
    after: tuple[int, int], paid: str, found: list[str]
) -> None:
    assert purse.raised(ROW.format(100, 7), ROW.format(*after), paid) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x = 1\n\n# why\ny = 2  # so\n", 6),
        ('"""Text.\n\nMore.\n"""\nx = """\nselect\n"""\n"""One."""\n', 3),
        ('def f() -> None:\n    # why\n    """Text."""\n    g(\n        "text",\n    )\n', 12),
    ],
)
def test_docstrings_comments_and_lines_are_no_tokens_of_code(text: str, count: int) -> None:
    assert purse.counted(text)["tokens"] == count


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("if (n := f()):\n    pass\nelse:\n    pass\n", {":=": 1}),
        ("x = 1 if y else 2\nfor z in x:\n    pass\nelse:\n    pass\n", {"if-else": 1}),
        ("f([x for x in a], [y for y in b])\n", {}),
        ("f([x for x in a] for a in b)\n[x for y in z for x in y]\n[x for x in [y for y in z]]\n", {"nested": 3}),
        ("def f(*a: int, b: int = 2 * 3) -> None:\n    g(*a, c * b)\n\n\ndef h(*, a: int) -> None: ...\n", {"*": 1}),
        ("a, *b = [*c]\nimport_ = d * e\n", {"*": 2}),
    ],
)
def test_folds_are_counted(text: str, folds: dict[str, int]) -> None:
    found = purse.counted(text)
    assert {fold: found[fold] for fold in purse.FOLDS if found[fold]} == folds


def test_tokens_of_javascript_are_those_outside_of_comments() -> None:
    text = "// why\nconst a = `b ${c} // d`; /* e\n f */ if (a !== 'it\\'s') g($h);\n"
    assert purse.javascript(text)["tokens"] == 16  # from `const` to the last semicolon


def test_no_file_has_marks_of_a_merge() -> None:
    folders = (
        "p2pchat",
        "simulation",
        "conformance",
        "tests",
        "docs",
        "benchmarks",
        "examples",
        "deploy",
        ".github",
        ".ci",
    )
    paths = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    files = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
    mark = re.compile(rb"^(?:<{7}|>{7}|\|{7}) ", re.MULTILINE)
    assert [path for path in files if mark.search(path.read_bytes())] == []


def test_there_are_files_to_read() -> None:
    assert {"errors", "protocol", "core", "commands", "cli"} <= {source.unit for source in SOURCES}
