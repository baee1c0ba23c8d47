"""Pages of the manual, prepared for the site generator.

    python -m docs.site FOLDER

The pages in docs/ are written for GitHub, and their examples for tests/docs/pages.py. Here they are written to FOLDER
for the site: without the marks of the tests, and with links that stay on the site. Documents of the repository, the
examples and the table of mutants are pages, every other file that a page links to is copied as text. It fails if a
public name is on no page of the reference, or on two, or if a name there is not public.
"""

from __future__ import annotations

import importlib
import posixpath
import re
import shutil
import sys
from pathlib import Path

import p2pchat
from tests.mutants.table import MUTANTS

ROOT = Path(__file__).resolve().parent.parent

DOCUMENTS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "logs/README.md": "logs.md",
    "simulation/README.md": "simulation.md",
    "conformance/README.md": "conformance-files.md",
}
ALONE = "---\nhide: [navigation]\n---\n"  # the first page has no others beside it
PUBLIC_MODULES = ("p2pchat", "p2pchat.bots", "p2pchat.testing", "p2pchat.web")
SETTINGS = "<!-- table of settings -->"
LANGUAGES = {".py": "python", ".mjs": "javascript"}  # of the examples

_FENCE = re.compile(r"^```(\w+)(.*)$")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_NOTE = re.compile(r"^<!-- (not run|new scene|close|kill)\b.*-->$")
_LINK = re.compile(r"\[([^]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_SETTING = re.compile(r"^    (\w+): \w+ = (.+?)(?:  # (.+))?$")
_ITEM = re.compile(r"^(?:[-*]|\d+\.) ")
_NAMED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_MEMBERS = re.compile(r"^::: ([\w.]+) \[([\w, ]*)\]$")


class Site:
    """The folder that the site generator reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self) -> None:
        """Write all pages, in place of those of an earlier run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in sorted((ROOT / "docs").rglob("*")):
            uri = path.relative_to(ROOT / "docs").as_posix()
            if path.suffix == ".md":
                self._write(uri, self._page("docs/" + uri, uri))
            elif path.suffix in (".svg", ".png", ".css", ".js"):
                self._write(uri, path.read_bytes())
        for name, uri in DOCUMENTS.items():
            self._write(uri, (ALONE if uri == "index.md" else "") + self._page(name, uri))
        self._write("examples.md", _examples())
        self._write("mutants.md", _mutants())

    def reference(self) -> str:
        """Return the text of all pages of the reference."""
        return "\n".join(page.read_text("utf-8") for page in sorted((self.folder / "reference").glob("*.md")))

    def _write(self, uri: str, content: str | bytes) -> None:
        path = self.folder / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def _page(self, name: str, uri: str) -> str:
        """Return a document of the repository as the page `uri` of the site."""
        lines: list[str] = []
        in_code = False
        for line in (ROOT / name).read_text("utf-8").splitlines():
            if line.startswith("```"):
                line, in_code = line if in_code else _fence(line), not in_code
            elif not in_code and _NOTE.match(line):
                continue
            elif members := _MEMBERS.match(line):
                line = _directives(members[1], members[2])
            elif not in_code:
                if _ITEM.match(line) and lines and lines[-1] and not _ITEM.match(lines[-1]):
                    lines.append("")  # without it the generator takes the list for text
                line = _LINK.sub(lambda link: self._link(link, name, uri), line)
            lines.append(_settings() if line == SETTINGS else line)
        return "\n".join(lines) + "\n"

    def _link(self, link: re.Match[str], name: str, uri: str) -> str:
        """Return a link of the document `name`, which is `uri` on the site, to where its target is on the site."""
        text, target, anchor = link[1], link[2], link[3] or ""
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if wanted in DOCUMENTS:
            found = DOCUMENTS[wanted]
        elif wanted.split("/")[0] == "examples":
            found, anchor = "examples.md", "#" + posixpath.basename(wanted).replace(".", "") if "/" in wanted else ""
        elif wanted == "tests/mutants/table.py":
            found = "mutants.md"
        elif (ROOT / wanted).is_dir():
            return text
        elif (ROOT / wanted).is_file() and not wanted.startswith("docs/"):
            found = f"source/{wanted.lstrip('.')}.txt"  # the generator leaves out what begins with a dot
            self._write(found, (ROOT / wanted).read_text("utf-8"))
        else:
            found = wanted.removeprefix("docs/")  # the generator finds a broken link
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(uri) or '.')}{anchor})"


def _fence(line: str) -> str:
    """Return the first line of a block without what only the tests read; `file` becomes the title."""
    found = _FENCE.match(line)
    if found is None:
        return line
    known = dict(_ATTRIBUTE.findall(found[2]))
    classes = f".{found[1]} .no-copy" if found[1] == "console" else f".{found[1]}"  # prompts are not to be pasted
    title = known.get("file") or known.get("title")
    return f'``` {{ {classes} title="{title}" }}' if title else f"``` {{ {classes} }}"


def _examples() -> str:
    page = ["# Examples", "", "The programs of the folder `examples/`. The tests run them all."]
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in LANGUAGES:
            page += ["", f"## {path.name}", "", f"```{LANGUAGES[path.suffix]}", path.read_text("utf-8").rstrip(), "```"]
    return "\n".join(page) + "\n"


def _mutants() -> str:
    page = [
        "# Mutants",
        "",
        "The tests put each of these deliberate faults into the code, and must notice it: by the test that is named, or"
        " by a rule that simulated histories break, within so many of them from seed 0 on.",
        "",
        "| mutant | consequence | noticed by |",
        "|---|---|---|",
    ]
    for mutant in MUTANTS:
        by = f"`tests/{mutant.caught_by}`" if isinstance(mutant.caught_by, str) else f"{mutant.caught_by}"
        page.append(f"| {mutant.name} | {mutant.breaks} | {by} |")
    return "\n".join(page) + "\n"


def _directives(cls: str, members: str) -> str:
    """Return the directives of mkdocstrings for some members of a class; without any, for the class without members."""
    if not members:
        return f"::: {cls}\n    options:\n      members: false\n      inherited_members: false\n"
    options = "    options:\n      heading_level: 3\n"
    return "\n".join(f"::: {cls}.{name}\n{options}" for name in members.split(", "))


def _settings() -> str:
    """Return the tables of settings of settings.py: a comment is above a setting or behind it, a heading by itself."""
    _, _, fields = (ROOT / "p2pchat" / "settings.py").read_text("utf-8").partition("class MemberLimits:")
    table: list[str] = []
    above, before = "", ""
    for line in fields.splitlines():
        comment = line.startswith("    # ")
        if comment and not before:
            table += ["", f"**{line[6:].capitalize()}**", "", "| setting | default | meaning |", "|---|---|---|"]
        elif comment and line[6].islower() and not above:  # of the setting before
            table[-1] = f"{table[-1].removesuffix(' |')} {line[6:]} |"
        elif comment:
            above = f"{above} {line[6:]}".strip()
        elif found := _SETTING.match(line):
            default = re.sub(r"\b([KMG])IB\b", r"\1iB", found[2]).replace(" * ", " × ").replace("_", " ")
            default = re.sub(r"(\d) × ([KMG]iB)", r"\1 \2", default)
            table.append(f"| `{found[1]}` | {default} | {' '.join(filter(None, (above, found[3])))} |")
            above = ""
        before = line
    return "\n".join(table)


def misplaced_names(pages: str) -> list[str]:
    """Return what is wrong with the text of the reference: public names that are missing, or there twice."""
    found = _NAMED.findall(pages)
    public = {f"{module}.{name}" for module in PUBLIC_MODULES for name in importlib.import_module(module).__all__}
    public.discard("p2pchat.__version__")
    public |= {f"p2pchat.TCPPeer.{name}" for name in dir(p2pchat.TCPPeer) if name[0] != "_"}  # which are in sections
    return [
        *(f"{name} is not in docs/reference" for name in sorted(public - set(found))),
        *(f"{name} is in docs/reference, but not public" for name in sorted(set(found) - public)),
        *(f"{name} is in docs/reference twice" for name in sorted(set(found)) if found.count(name) > 1),
    ]


if __name__ == "__main__":
    site = Site(Path(sys.argv[1]))
    site.write()
    if faults := misplaced_names(site.reference()):
        sys.exit("\n".join(faults))
