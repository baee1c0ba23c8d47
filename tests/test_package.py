"""The package and its public names."""

from __future__ import annotations

import inspect
import pydoc
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import p2pchat
import p2pchat.testing
from docs.site import PUBLIC_MODULES
from p2pchat import History, HostedUser, Settings, TCPPeer
from p2pchat.messaging.local_user import LocalUser

PUBLIC = {
    f"{module}.{name}": getattr(import_module(module), name)
    for module in PUBLIC_MODULES
    for name in import_module(module).__all__
}


def test_help_shows_the_tools_for_tests() -> None:
    shown = pydoc.plain(pydoc.render_doc(p2pchat.testing))
    assert {name for name in p2pchat.testing.__all__ if not re.search(rf"^    (class )?{name}\(", shown, re.M)} == set()
    assert "p2pchat_mesh" in shown


def test_every_public_name_is_there() -> None:
    for name in p2pchat.__all__:
        assert getattr(p2pchat, name) is not None
    assert set(p2pchat.__all__) <= set(dir(p2pchat))
    assert set(p2pchat.__all__) == {"__version__", *p2pchat._MODULE_OF}
    source = Path(p2pchat.__file__).read_text("utf-8")
    for_checkers = re.findall(r"^    from p2pchat\.[\w.]+ import (\w+) as \1$", source, re.MULTILINE)
    assert {*for_checkers} == {*p2pchat._MODULE_OF}, "the imports of p2pchat/__init__.py for type checkers"
    with pytest.raises(AttributeError):
        _ = p2pchat.Nonsense  # type: ignore[attr-defined]  # as every misspelt name


def public_calls(cls: type) -> dict[str, Any]:
    """Return the public methods and properties of a class, with those it inherits from classes of p2pchat."""
    members = {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}
    return {name: member for name, member in members.items() if is_ours(function_of(member))}


def function_of(member: Any) -> Any:
    return member.fget if isinstance(member, property) else member


def is_ours(function: Any) -> bool:
    return inspect.isfunction(function) and function.__module__.startswith("p2pchat.")


def undocumented(found: Any) -> Iterator[str]:
    """Yield what no docstring describes, or has no types: a class or function itself "", its attributes and calls."""
    if not inspect.getdoc(found):
        yield ""
    if inspect.isclass(found) and found is not Settings:  # of whose fields settings.py has a table
        own = [one for one in found.__mro__ if one.__module__.startswith("p2pchat")]
        described = "\n".join(one.__doc__ or "" for one in own)
        for name in {name for one in own for name in inspect.get_annotations(one) if name[0] != "_"}:
            if not re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*:", described, re.MULTILINE):
                yield name
    calls = public_calls(found) if inspect.isclass(found) else {"": found}
    for name, member in calls.items():
        signature = inspect.signature(function_of(member))
        annotations = [one.annotation for one in signature.parameters.values() if one.name != "self"]
        if not inspect.getdoc(member) or inspect.Signature.empty in [*annotations, signature.return_annotation]:
            yield f"{name}()"


def test_every_public_name_is_documented_and_typed() -> None:
    documented = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    assert [f"{name}.{what}" for name, thing in documented.items() for what in undocumented(thing)] == []


def test_users_of_a_peer_share_their_calls_and_a_history_has_some_of_them() -> None:
    shared = public_calls(LocalUser)
    assert {"send", "events", "history", "find", "rename"} <= shared.keys()
    for cls in (TCPPeer, HostedUser):
        assert {name: member for name, member in public_calls(cls).items() if name in shared} == shared
    offline_only = {"addresses", "check", "expelled_by", "shut_out_at"}
    assert public_calls(History).keys() - offline_only <= public_calls(TCPPeer).keys()


# The first version without the fault. Those of which we import no name come with FastAPI and uvicorn.
MENDED = {
    "cryptography": "44.0.1",  # CVE-2024-12797: OpenSSL in its wheels
    "filelock": "3.20.3",  # CVE-2025-68146, CVE-2026-22701: symbolic links in place of a lock
    "h11": "0.16.0",  # CVE-2025-43859: two readings of one chunked body
    "PyMySQL": "1.1.1",  # CVE-2024-36039: keys of a dict in a statement
    "python-socketio": "5.14.0",  # CVE-2025-61765: pickled messages of a queue
    "starlette": "0.49.1",  # CVE-2024-47874, CVE-2025-54121, CVE-2025-62727: forms, large files, ranges
}


def test_all_is_every_extra_of_users_and_a_script_has_the_name_of_the_distribution() -> None:
    project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert (everything.name, everything.extras) == (project["name"], set(extras) - {"all", "bench", "fuzz", "dev"})
    assert project["scripts"][project["name"]] == project["scripts"]["p2pchat"]


def test_no_version_with_a_known_fault_is_installed_for_p2pchat() -> None:
    project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in ("web", "mysql", "dev"))]
    wanted = [Requirement(text) for each in lists for text in each]
    assert MENDED.keys() <= {each.name for each in wanted}
    for one in wanted:
        (lowest,) = [Version(each.version) for each in one.specifier if each.operator == ">="]
        assert lowest >= Version(MENDED.get(one.name, "0")), one
