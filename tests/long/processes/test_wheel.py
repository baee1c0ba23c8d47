"""The artefacts of `poe build`, made and used offline: a whole sdist, a wheel that runs the demo in a fresh
environment, and p2pchat.pyz, which needs nothing but Python.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.deadlines import ROOT
from tests.processes.commands import environment

WITHIN = 110.0  # seconds for one step


def run(*words: str | Path, home: Path, cwd: Path) -> str:
    """Run a command line in a directory that holds no source of p2pchat; return its output."""
    env = {name: value for name, value in environment(home).items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        words, cwd=cwd, env=env, input="", capture_output=True, encoding="utf-8", timeout=WITHIN, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, into: Path) -> tuple[Path, Path]:
    """Run the first step of `build` in a source tree, with the Python of this test; return the sdist and the wheel."""
    run(sys.executable, *steps(source)[0], "-d", into, home=into, cwd=source)
    (sdist,), (wheel,) = into.glob("*.tar.gz"), into.glob("*.whl")
    return sdist, wheel


def steps(source: Path) -> list[list[str]]:
    """Return the commands of the task `build`, without their first word, Python."""
    tasks = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["tool"]["poe"]["tasks"]
    lines = [shlex.split(step["cmd"]) for step in tasks["build"]["sequence"]]
    assert {words[0] for words in lines} == {"python"}
    return [words[1:] for words in lines]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel of this source tree."""
    pytest.importorskip("hatchling", reason="hatchling comes with the extra dev")
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package(built: tuple[Path, Path]) -> None:
    every = {path for path in (ROOT / "p2pchat").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    held = {name for name in files_of(built[1]) if ".dist-info/" not in name}
    assert held == {path.relative_to(ROOT).as_posix() for path in every}
    assert {"p2pchat/py.typed", "p2pchat/web/page/index.html"} < held


def test_the_page_on_a_package_index_has_no_links_that_lead_nowhere(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        page = archive.read(name).decode().partition("\n\n")[2]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(r"\]\(docs/", readme)  # links that work in the repository only
    assert links_of(page) <= {link for link in links_of(readme) if link.startswith("https:")}
    assert all(line in page for line in readme.splitlines() if "](" not in line)


def links_of(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]*)\)", text))


def test_the_sdist_builds_the_same_wheel_and_holds_what_its_tests_read(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    for name in (".ci/run", ".github/workflows/ci.yml", "README.md", "tests/test_promises.py", "docs/cli.md"):
        assert (source / name).is_file(), name
    assert files_of(build(source, tmp_path / "dist")[1]) == files_of(wheel)


def test_the_demo_passes_from_the_wheel_in_a_fresh_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", fresh, home=tmp_path, cwd=tmp_path)
    scripts = fresh / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--no-index", "--no-deps", built[1], home=tmp_path, cwd=tmp_path)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(scripts / "python", "-c", where, home=tmp_path, cwd=tmp_path).strip())
    shared = [path for path in sys.path if path.endswith("site-packages")]  # the dependencies, as there is no network
    (packages / "dependencies.pth").write_text("\n".join(shared), "utf-8")
    code = "import p2pchat; print(p2pchat.__file__)"
    assert Path(run(scripts / "python", "-c", code, home=tmp_path, cwd=tmp_path).strip()).is_relative_to(packages)
    code = "from p2pchat.extras import install_command; print(install_command('web'))"
    wanted = f'{scripts / "python"} -m pip install "p2pchat-mesh[web] @ {built[1].as_uri()}"'
    assert run(scripts / "python", "-c", code, home=tmp_path, cwd=tmp_path).strip() == wanted
    shown = run(scripts / "p2pchat", "demo", home=tmp_path, cwd=tmp_path)
    assert "All of it was checked, and held" in shown


# ---- the one file


@pytest.fixture(scope="module")
def pyz(built: tuple[Path, Path]) -> Path:
    """The file p2pchat.pyz made of this wheel, and of the packages beside the Python of this test."""
    pytest.importorskip("shiv", reason="shiv comes with the extra dev")
    into = built[1].parent
    run(sys.executable, *steps(ROOT)[1], into, home=into, cwd=ROOT)
    return into / "p2pchat.pyz"


def alone(*words: str | Path, home: Path) -> str:
    """Run Python without any installed package; return its output."""
    python = Path(sys.base_prefix) / "python.exe" if os.name == "nt" else Path(sys.base_prefix, "bin", "python3")
    return run(python, "-I", "-S", *words, home=home, cwd=home)


def test_one_file_holds_the_chat_the_demo_and_the_doctor(pyz: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'click'"):
        alone("-c", "import click", home=tmp_path)
    assert "All of it was checked, and held" in alone(pyz, "demo", home=tmp_path)
    assert "nothing is wrong" in alone(pyz, "doctor", home=tmp_path)
    assert '"event":"listening"' in alone(pyz, "0", "--name", "ada", "--json", home=tmp_path)
    assert "complete -o nosort" in alone(pyz, "completion", "bash", home=tmp_path)


def test_the_one_file_refuses_another_python(pyz: Path, tmp_path: Path) -> None:
    code = "import runpy, sysconfig; sysconfig.get_config_vars()['EXT_SUFFIX'] = '.other.so'; sys = __import__('sys')"
    code += f"; sys.argv[:] = [{str(pyz)!r}, '--version']; runpy.run_path({str(pyz)!r}, run_name='__main__')"
    with pytest.raises(AssertionError, match="p2pchat: this file is for Python 3"):
        alone("-c", code, home=tmp_path)
