"""The build's own step: it writes p2pchat/sync/classes.py, the typed classes and functions of p2pchat.sync.

    python hatch_build.py

Each build of a wheel does it, also an editable one (`pip install -e .`); git ignores the file. In a clone it has to be
written again when a public name, signature or docstring changes: a test says so.

A public class is mirrored if a method of it is asynchronous, or if a method, property or field of it returns a class
that is mirrored; base classes and subclasses of mirrored ones are, too. So is a public function by the same rule. User
is, because names change in the loop's thread. All other public names are the same in p2pchat and in p2pchat.sync.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_overloads

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
TARGET = ROOT / "p2pchat" / "sync" / "classes.py"
BACKGROUND = "p2pchat.sync.background"  # cannot be imported before classes.py is written
HEADER = '''"""The classes and functions of p2pchat that wait, for callers without a loop.

Written by the build (hatch_build.py); the rules of it are there. The names are those of p2pchat, and so are arguments,
errors and meaning: the docstrings there have more than the first paragraph.
"""

# mypy: disable-error-code="no-any-return"
'''
# The words of docstrings that are about `await`.
WORDS = {
    "`async with": "`with",
    ", whose coroutine this returns": "",
    "the same as aclose, without await": "another thread that waits for the next event stops",
}
DUNDERS = ("__len__", "__getitem__")
# Classes of arguments that are given by name: what they hold is mirrored.
OPTIONS = {"MessageOptions"}
# Attributes of classes that are for p2pchat itself: they hold what is not public.
PRIVATE = {"directory"}


def is_ours(kind: object) -> bool:
    return inspect.isclass(kind) and kind.__module__.startswith("p2pchat.")


def public() -> dict[str, Any]:
    import p2pchat

    return {name: getattr(p2pchat, name) for name in p2pchat.__all__ if name != "__version__"}


def function_of(member: object) -> Any:
    """Return the function behind a method, property or class method; None for anything else."""
    if isinstance(member, classmethod):
        return member.__func__
    found = member.fget if isinstance(member, property) else member
    return found if inspect.isfunction(found) else None


def own_members(cls: type) -> Iterator[tuple[str, object]]:
    """Yield the public members that a class itself defines, in order, without fields."""
    for name, member in vars(cls).items():
        if (not name.startswith("_") or name in DUNDERS) and function_of(member) is not None:
            yield name, member


def own_fields(cls: type) -> dict[str, str]:
    """Return the public fields that a class itself defines, with their types: of a dataclass, or of its slots."""
    own = vars(cls)
    if is_dataclass(cls):
        return {one.name: str(one.type) for one in fields(cls) if one.name in inspect.get_annotations(cls)}
    taken = inspect.signature(vars(cls)["__init__"]).parameters if "__init__" in own else {}
    slots = [name for name in own.get("__slots__", ()) if not name.startswith("_") and name not in PRIVATE]
    types = {"text": "str", **{name: str(one.annotation) for name, one in taken.items()}}
    return {name: types[name] for name in slots}


def mentioned(annotation: object) -> set[str]:
    """Return the names in an annotation."""
    return set(re.findall(r"[A-Za-z_]\w*", str(annotation)))


@cache
def mirrored() -> dict[str, type]:
    """Return the classes that are mirrored, each after its bases."""
    known: dict[str, type] = {}
    for cls in [one for name, one in public().items() if inspect.isclass(one) and name not in OPTIONS]:
        known |= {base.__name__: base for base in cls.__mro__ if is_ours(base) and not issubclass(base, Exception)}
    found = {"User"}
    while True:
        new = {name for name, cls in known.items() if name not in found and _is_mirrored(cls, found, known)}
        if not new:
            break
        found |= new
    return {name: known[name] for name in sorted(found, key=lambda name: (len(known[name].__mro__), name))}


def _is_mirrored(cls: type, found: set[str], known: dict[str, type]) -> bool:
    of_bases = any(base.__name__ in found for base in cls.__mro__ if is_ours(base))
    of_subclasses = any(issubclass(known[name], cls) for name in found)
    returned = {name for type in own_fields(cls).values() for name in mentioned(type)}
    for _, member in own_members(cls):
        function = function_of(member)
        if inspect.iscoroutinefunction(function):
            return True
        returned |= mentioned(inspect.signature(function).return_annotation)
    return of_bases or of_subclasses or bool(returned & found)


def mirrored_functions() -> dict[str, Callable[..., Any]]:
    functions = {name: one for name, one in public().items() if inspect.isfunction(one)}
    return {
        name: one
        for name, one in functions.items()
        if inspect.iscoroutinefunction(one) or mentioned(inspect.signature(one).return_annotation) & mirrored().keys()
    }


# ---- text


class Names:
    """The names that annotations use: each is imported, or defined as where it comes from."""

    def __init__(self) -> None:
        self.imports: dict[str, set[str]] = {}
        self.definitions: dict[str, str] = {}
        self._seen: set[str] = set()

    def use(self, annotation: object, module: str) -> None:
        if "Iterator[" in str(annotation):
            self.imports.setdefault("collections.abc", set()).add("Iterator")
        for name in mentioned(re.sub(r"'[^']*'|\"[^\"]*\"", "", str(annotation))):
            if name not in mirrored() and not hasattr(builtins, name) and name not in self._seen:
                self._seen.add(name)
                self._resolve(name, module)

    def _resolve(self, name: str, module: str) -> None:
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
                source = node.module or ""
                if source.startswith("p2pchat."):
                    return self._resolve(name, source)
                self.imports.setdefault(source, set()).add(name)
                return None
            if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == [name]:
                text = ast.unparse(node.value)
                is_type_variable = text.startswith("TypeVar(")
                if is_type_variable or mentioned(text) & mirrored().keys():
                    self.definitions[name] = text
                    return self.use(text, module)
            if isinstance(node, ast.ClassDef) and node.name == name and name in OPTIONS:
                self.imports.setdefault("typing", set()).add("TypedDict")
                types = {ast.unparse(one.target): one.annotation for one in node.body if isinstance(one, ast.AnnAssign)}
                items = [f"{key!r}: {ast.unparse(type)!r}" for key, type in types.items()]
                self.definitions[name] = f"TypedDict({name!r}, {{{', '.join(items)}}}, total=False)"
                for type in types.values():
                    self.use(ast.unparse(type), module)
                return None
        if not re.search(rf"^(class|def) {name}\b|^{name}\b", Path(_source(module)).read_text("utf-8"), re.M):
            return None  # a word of an annotation that is an attribute: `os.PathLike`
        self.imports.setdefault(module, set()).add(name)
        return None


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(Path(_source(module)).read_text("utf-8"))


def _source(module: str) -> str:
    found: ModuleType = import_module(module)
    assert found.__file__ is not None
    return found.__file__


def doc_of(found: object) -> str:
    """Return the first paragraph of a docstring, without its example of `async with`."""
    doc = (inspect.getdoc(found) or "").split("\n\n")[0].replace("\n", " ")
    for word, other in WORDS.items():
        doc = doc.replace(word, other)
    return doc


def docstring(found: object, indent: str) -> str:
    if not inspect.getdoc(found):
        return ""
    wrapped = textwrap.wrap(f'"""{doc_of(found)}"""', 120 - len(indent), break_on_hyphens=False)
    if len(wrapped) > 1:
        wrapped = [*textwrap.wrap(f'"""{doc_of(found)}', 110 - len(indent), break_on_hyphens=False), '"""']
    return "".join(f"{indent}{line}\n" for line in wrapped)


def default_of(value: object) -> str:
    if inspect.isfunction(value):
        assert value() is True
        return "lambda: True"
    return repr(value)


def returned(function: Callable[..., Any]) -> tuple[str, str]:
    """Return what the mirror of a function returns, and the helper that calls it: `_call` or `_iterate`."""
    annotation = str(inspect.signature(function).return_annotation)
    for before, helper in (("Coroutine[Any, Any, ", "_call"), ("AsyncIterator[", "_iterate")):
        if annotation.startswith(before):
            inner = annotation.removeprefix(before).removesuffix("]")
            return (inner, helper) if helper == "_call" else (f"Iterator[{inner}]", helper)
    return annotation, "_call"


class Signature:
    """A function as source: its parameters, and the arguments that pass them on."""

    def __init__(self, function: Callable[..., Any], names: Names) -> None:
        kinds = inspect.Parameter
        given = list(inspect.signature(function).parameters.values())
        texts: list[str] = []
        self.arguments: list[str] = []
        self.result, self.helper = returned(function)
        names.use(self.result, function.__module__)
        for index, one in enumerate(given):
            if one.kind is kinds.KEYWORD_ONLY and not any(
                earlier.kind in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL) for earlier in given[:index]
            ):
                texts.append("*")
            stars = "**" if one.kind is kinds.VAR_KEYWORD else "*" if one.kind is kinds.VAR_POSITIONAL else ""
            text = stars + one.name
            if one.annotation is not kinds.empty:
                names.use(one.annotation, function.__module__)
                text += f": {one.annotation}"
            if one.default is not kinds.empty:
                text += f" = {default_of(one.default)}" if ":" in text else f"={default_of(one.default)}"
            texts.append(text)
            if one.kind is kinds.POSITIONAL_ONLY and (
                index + 1 == len(given) or given[index + 1].kind is not kinds.POSITIONAL_ONLY
            ):
                texts.append("/")
            if one.name != "self":
                is_named = one.kind is kinds.KEYWORD_ONLY
                self.arguments.append(f"{one.name}={one.name}" if is_named else stars + one.name)
        self.parameters = ", ".join(texts)


def method(name: str, member: object, names: Names) -> str:
    function = function_of(member)
    if isinstance(member, property):
        type, _ = returned(function)
        names.use(type, function.__module__)
        body = f'        return self._get("{name}")\n'
        return f"    @property\n    def {name}(self) -> {type}:\n{docstring(member, ' ' * 8)}{body}"
    if isinstance(member, classmethod):  # it calls the class, so its last line means the same here
        signature, last = Signature(function, names), inspect.getsource(function).splitlines()[-1]
        head = f"    @classmethod\n    def {name}({signature.parameters}) -> {signature.result}:\n"
        return f"{head}{docstring(function, ' ' * 8)}{last}\n"
    text = ""
    for one in get_overloads(function):
        signature = Signature(one, names)
        names.use("overload", "p2pchat.messaging.local_user")
        text += f"    @overload\n    def {name}({signature.parameters}) -> {signature.result}: ...\n"
    signature = Signature(function, names)
    shown = name.removeprefix("a") if name == "aclose" else name
    call = f"self.{signature.helper}({', '.join([repr(name), *signature.arguments])})"
    text += f"    def {shown}({signature.parameters}) -> {signature.result}:\n{docstring(function, ' ' * 8)}"
    return text + f"        {'' if signature.result == 'None' else 'return '}{call}\n"


def bases_of(cls: type, names: Names) -> str:
    """Return the bases of the mirror of a class."""
    if cls.__name__ == "Events":
        names.use("T_co", cls.__module__)
        names.use("Generic", cls.__module__)
        return "EventIterator[T_co], Generic[T_co]"
    found = [base.__name__ for base in cls.__bases__ if base.__name__ in mirrored()] or ["Wrapper"]
    if "__aenter__" in vars(cls):
        found = ["Closeable", *found] if found != ["Wrapper"] else ["Closeable"]
    if cls.__name__ == "Receipts":
        found.append("Sequence[Receipt]")
        names.use("Sequence", cls.__module__)
    return ", ".join(reversed(found) if found[0] == "Closeable" else found)


def class_text(cls: type, names: Names) -> str:
    text = f"class {cls.__name__}({bases_of(cls, names)}):\n{docstring(cls, ' ' * 4)}\n    __slots__ = ()\n"
    text += f'    _of = "{cls.__module__}"\n'
    own = own_fields(cls)
    for name, value in vars(cls).items():
        if isinstance(value, str) and not name.startswith("_") and name not in own:  # else it is the default of a field
            text += f"    {name} = {value!r}\n"
    for name, type in own.items():
        names.use(type, cls.__module__)
        text += f"    {name}: {type}\n"
    if cls.__name__ == "TCPPeer":  # the only one that programs make by its name
        signature = Signature(vars(cls)["__init__"], names)
        text += f"\n    def __init__({signature.parameters}) -> None:\n"
        text += f"        self._make({', '.join(signature.arguments)})\n"
    members = dict(own_members(cls))
    for name, member in members.items():
        if name != "aclose" or "close" not in members:
            text += "\n" + method(name, member, names)
    for name, value in vars(cls).items():
        if isinstance(value, property) and name not in members and not name.startswith("_"):
            text += f"\n    {name} = {value.fget.__name__}\n"  # type: ignore[union-attr]
    return text


def function_text(name: str, function: Callable[..., Any], names: Names) -> str:
    signature = Signature(function, names)
    call = ", ".join([repr(function.__module__), repr(function.__name__), *signature.arguments])
    head = f"def {name}({signature.parameters}) -> {signature.result}:\n{docstring(function, ' ' * 4)}"
    return head + f"    return call_function({call})\n"


def _place(name: str) -> tuple[bool, bool, str]:
    """Return the place of an imported name as ruff sorts: constants, classes, functions."""
    return not name.isupper(), not name[0].isupper(), name


def source() -> str:
    """Return the text of classes.py."""
    names = Names()
    classes = [class_text(cls, names) for cls in mirrored().values()]
    functions = [function_text(name, function, names) for name, function in sorted(mirrored_functions().items())]
    at_run = {"typing": {"TYPE_CHECKING", "Generic", "TypeVar", "overload"}, "collections.abc": {"Sequence"}}
    lines = [HEADER, "from __future__ import annotations\n"]
    lines += [f"from {name} import {', '.join(sorted(found, key=_place))}" for name, found in sorted(at_run.items())]
    helpers = ("Closeable", "EventIterator", "Wrapper", "call_function")
    lines += ["", f"from {BACKGROUND} import {', '.join(helpers)}", "", "if TYPE_CHECKING:"]
    lines += ["    import os", "    import socket"]
    for module, found in sorted(names.imports.items(), key=lambda item: (item[0].startswith("p2pchat"), item[0])):
        left = sorted(found - at_run.get(module, set()), key=_place)
        lines += [f"    from {module} import {', '.join(left)}"] if left else []
    variables = {name: text for name, text in names.definitions.items() if text.startswith("TypeVar(")}
    aliases = {name: text for name, text in names.definitions.items() if name not in variables}
    own = [*mirrored(), *sorted(mirrored_functions())]
    others = [name for name in sorted([*public(), "__version__"]) if name not in {*own, *OPTIONS}]
    lines += [f"    from p2pchat import {name} as {name}" for name in others]
    shown = [name for name in own if name in public()]
    every = sorted([*shown, *others, *OPTIONS])
    lines += ["", "if TYPE_CHECKING:", f"    __all__ = {every}", "else:", f"    __all__ = {shown}"]
    lines += ["", *(f"{name} = {text}" for name, text in sorted(variables.items())), ""]
    lines += [*classes, *functions, "", "if TYPE_CHECKING:  # the names that arguments have in p2pchat"]
    lines += [f"    {name} = {text}" for name, text in sorted(aliases.items())]
    return "\n".join(lines) + "\n"


class CustomBuildHook(BuildHookInterface[Any]):
    """What the build calls before it makes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        write()
        build_data["artifacts"].append(TARGET.relative_to(ROOT).as_posix())


def write() -> None:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    TARGET.write_text(source(), "utf-8")


if __name__ == "__main__":
    write()
    print(TARGET)
