"""Errors of p2pchat: they cross processes, with all that they say."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest

import p2pchat
from p2pchat import DeliveryTimeout, P2PChatError, TooLong
from p2pchat.commands.exit_codes import CommandError
from p2pchat.web.error_responses import WebError
from tests.deadlines import WAIT

MADE_WITH: dict[str, tuple[Any, ...]] = {
    "UnknownName": ("bob", "ask him"),
    "AmbiguousName": ("bob", ["bob#1", "bob#2"]),
    "PortInUse": ("127.0.0.1", 8080),
    "DataLocked": ("/data", 4711),
    "DeliveryTimeout": ("id", ["bob"], 1, 2),
    "ConsumerBusy": ("main",),
    "TooLong": ("a text", 40_000, 32_768),
    "StatementError": ("no", "malformed"),
    "FrameError": ("no", "too_large"),
    "WebError": (409, "name_taken", "no", {"Retry-After": "2"}),
    "ClusterAway": (),
    "TooMany": (2.0,),
    "SendStopped": (),
    "FetchStopped": (),
    "RequestRefused": ({"text": "no", "code": "unknown_name"},),
}


def subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for one in cls.__subclasses__():
        yield from subclasses(one)


@pytest.fixture(scope="module")
def errors() -> list[Exception]:
    """One of each class."""
    for package in ("core", "identity", "messaging", "storage", "runtime", "commands", "cli", "web"):
        for module in walk_packages([f"{p2pchat.__path__[0]}/{package}"], f"p2pchat.{package}."):
            if "dialects" not in module.name:
                import_module(module.name)
    bases = (P2PChatError, WebError, CommandError)
    found = [one for base in bases for one in subclasses(base) if one.__module__.startswith("p2pchat.")]
    return [cls(*MADE_WITH.get(cls.__name__, ("no",))) for cls in found]


def test_a_copy_says_what_the_error_said(errors: list[Exception]) -> None:
    assert {one.__name__ for one in map(type, errors)} >= MADE_WITH.keys()
    for error in errors:
        error.add_note("while it was tried")
        for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error) and str(again) == str(error) and again.args == error.args
            assert vars(again) == vars(error)


def fail() -> None:
    raise DeliveryTimeout("id", ["bob"])


def test_an_error_crosses_processes() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(DeliveryTimeout, match="not confirmed in time by bob") as caught:
            pool.submit(fail).result(WAIT)
    assert caught.value.missing == ["bob"]
    assert isinstance(pickle.loads(pickle.dumps(TooLong("a text", 2, 1))), ValueError)
