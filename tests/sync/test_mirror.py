"""p2pchat.sync has what p2pchat has: names, classes, methods and signatures; classes.py is what the build writes."""

from __future__ import annotations

import inspect
from typing import Any, get_overloads

import pytest

import hatch_build as make
import p2pchat
import p2pchat.sync
from p2pchat.sync.background import Closeable, EventIterator, Wrapper

MIRRORED = {
    name: cls
    for name, cls in vars(p2pchat.sync.classes).items()
    if inspect.isclass(cls) and issubclass(cls, Wrapper) and cls._of
}
CALLS_OF_WITH = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__anext__": "__next__", "aclose": "close"}
# What programs without a loop have in addition.
ADDED = {"Events": {"next"}}


def names_of(cls: type) -> set[str]:
    """Return the public names of a class, without those that only p2pchat itself uses."""
    fields = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
    slots = {name for base in cls.__mro__ for name in vars(base).get("__slots__", ())}
    return {name for name in {*dir(cls), *fields, *slots} if not name.startswith("_")} - make.PRIVATE


def test_both_have_the_same_public_names() -> None:
    assert p2pchat.sync.__all__ == p2pchat.__all__
    for name in p2pchat.__all__:
        one, other = getattr(p2pchat, name), getattr(p2pchat.sync, name)
        assert (one is other) is (name not in MIRRORED and name not in make.mirrored_functions()), name
    assert set(dir(p2pchat.sync)) >= set(p2pchat.__all__)
    with pytest.raises(AttributeError):
        _ = p2pchat.sync.Nonsense  # type: ignore[attr-defined]  # as every misspelt name


def test_classes_py_is_what_the_build_writes() -> None:
    assert make.TARGET.read_text("utf-8") == make.source(), "run: python hatch_build.py"


@pytest.mark.parametrize("name", sorted(MIRRORED))
def test_a_class_has_what_the_asynchronous_one_has(name: str) -> None:
    mirror, cls = MIRRORED[name], make.mirrored()[name]
    expected = {CALLS_OF_WITH.get(one, one) for one in names_of(cls)} | ADDED.get(name, set())
    assert names_of(mirror) - names_of(Wrapper) == expected
    for special, own in CALLS_OF_WITH.items():
        assert not hasattr(cls, special) or hasattr(mirror, own)
    assert issubclass(mirror, Closeable) or not hasattr(cls, "__aenter__")
    assert issubclass(mirror, EventIterator) or not hasattr(cls, "__anext__")


def signature_of(function: Any) -> list[tuple[str, Any, Any, str]]:
    """Return what a caller sees: parameters with kinds and types, and whether each may be left out."""
    return [
        (one.name, one.kind, one.default is inspect.Parameter.empty or repr(one.default)[:9], one.annotation)
        for one in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("name", sorted(MIRRORED))
def test_a_method_has_the_arguments_of_the_asynchronous_one_and_returns_no_awaitable(name: str) -> None:
    for call, member in make.own_members(make.mirrored()[name]):
        function = make.function_of(member)
        shown = CALLS_OF_WITH.get(call, call)
        mirror = inspect.getattr_static(MIRRORED[name], shown)
        assert isinstance(member, property) is isinstance(mirror, property)
        if call == "aclose" and name == "Events":
            continue  # its close() has no arguments and does the same
        assert signature_of(make.function_of(mirror)) == signature_of(function), call
        assert len(get_overloads(make.function_of(mirror))) == len(get_overloads(function)), call
        returned = str(inspect.signature(make.function_of(mirror)).return_annotation)
        assert not {"Coroutine", "AsyncIterator", "Awaitable"} & make.mentioned(returned), call
        assert make.function_of(mirror).__doc__ or call.startswith("__"), call


@pytest.mark.parametrize("name", sorted(make.mirrored_functions()))
def test_a_function_has_the_arguments_of_the_asynchronous_one(name: str) -> None:
    mirror = getattr(p2pchat.sync, name)
    assert signature_of(mirror) == signature_of(getattr(p2pchat, name))
    assert not inspect.iscoroutinefunction(mirror)


def test_docstrings_tell_nobody_to_await() -> None:
    text = make.TARGET.read_text("utf-8")
    assert [word for word in ("await", "async ", "aclose()", "coroutine") if word in text] == []
