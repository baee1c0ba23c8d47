"""Write p2pchat.pyz: p2pchat and everything it needs but Python, in one file that Python runs.

    python .ci/pyz.py [DIRECTORY]

It is made of the wheel in DIRECTORY (dist) and of the packages that are installed for this Python, so it needs no
network. cryptography and msgspec are compiled: the file runs with this version of Python on this kind of system, and
says so elsewhere. One file for all would hold their wheels for each version and system, many times the size, and need
code of our own to choose among them. shiv writes the file; it unpacks itself into ~/.shiv (or SHIV_ROOT) when it first
starts.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from shutil import copyfile

from packaging.requirements import Requirement

PREAMBLE = '''"""Refuses a Python that the compiled packages beside it are not made for."""

import platform
import sys
import sysconfig

if (sysconfig.get_config_var("EXT_SUFFIX"), platform.machine()) != {built}:
    raise SystemExit(
        "p2pchat: this file is for Python {python} on {system}, not for Python " + platform.python_version()
        + f" on {{platform.system()}} {{platform.machine()}}: install p2pchat with pip instead"
    )
'''


def main(directory: Path) -> None:
    (wheel,) = directory.glob("p2pchat_mesh-*.whl")
    with tempfile.TemporaryDirectory() as scratch:
        packages, preamble = Path(scratch, "packages"), Path(scratch, "preamble.py")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
            (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            lines = archive.read(metadata).decode().partition("\n\n")[0].splitlines()
        wanted = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
        for name in sorted(closure(wanted)):
            copy_package(name, packages)
        preamble.write_text(
            PREAMBLE.format(
                built=(sysconfig.get_config_var("EXT_SUFFIX"), platform.machine()),
                python=f"{sys.version_info.major}.{sys.version_info.minor}",
                system=f"{platform.system()} {platform.machine()}",
            ),
            "utf-8",
        )
        options = ("--site-packages", packages, "--entry-point", "p2pchat.__main__:main", "--preamble", preamble)
        form = ("--python", "/usr/bin/env python3", "--compressed", "--reproducible")
        shiv = (sys.executable, "-c", "from shiv.cli import main; main()")
        subprocess.run([*shiv, *form, *options, "--output-file", directory / "p2pchat.pyz"], check=True)
    print(directory / "p2pchat.pyz")


def closure(wanted: list[str]) -> set[str]:
    """Return the names of the packages that these requirements need here, extras left out."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        one = waiting.pop()
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(one.name)
            waiting += [Requirement(text) for text in distribution(one.name).requires or ()]
    return found


def copy_package(name: str, into: Path) -> None:
    """Copy the files of an installed package, but no scripts, which lie outside, and nothing compiled from Python."""
    for file in distribution(name).files or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            target = into / file
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(file.locate(), target)


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["dist"]))
