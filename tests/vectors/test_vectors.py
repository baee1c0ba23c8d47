"""The test vectors: p2pchat gives each result, their generator makes the same files again, and wrong ones are found."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from p2pchat.kinds import KINDS
from p2pchat.protocol import JSON_FRAMES
from tests.docs.pages import ROOT
from tests.vectors.answers import ANSWERS
from tests.vectors.files import FOLDER, read, vectors

# What p2pchat computes inside and does not return. The hash or record of the same vector depends on it.
INSIDE = {
    "hashes": {"message"},
    "discovery": {"mask", "message"},
    **{file: {"message"} for file in ("statements", "guests", "records", "joins")},
}


def returned(file: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return what p2pchat shows of a result."""
    return {key: value for key, value in result.items() if key not in INSIDE.get(file, ())}


# One test for all vectors of a file: of hundreds of small tests, pytest would take most of the time.
@pytest.mark.parametrize("file", ANSWERS)
def test_p2pchat_gives_the_result(file: str) -> None:
    given = {name: ANSWERS[file](vector["given"]) for name, vector in vectors(file).items()}
    assert given == {name: returned(file, vector["result"]) for name, vector in vectors(file).items()}


@pytest.mark.parametrize("file", ANSWERS)
def test_a_wrong_vector_is_found(file: str) -> None:
    """Each vector with the result of the next one that has another."""
    all_of = list(vectors(file).values())
    for at, vector in enumerate(all_of):
        other = next(one["result"] for one in all_of[at:] + all_of if one["result"] != vector["result"])
        assert ANSWERS[file](vector["given"]) != returned(file, other), vector["name"]


def test_the_page_has_each_file_and_each_name_is_unique() -> None:
    files = {path.name.removesuffix(".json") for path in FOLDER.glob("*.json") if ".schema." not in path.name}
    page = (ROOT / "docs" / "protocol-vectors.md").read_text("utf-8")
    assert sorted(re.findall(r"^- `(\w+)\.json`:", page, re.MULTILINE)) == sorted(files) == sorted(ANSWERS)
    for file in ANSWERS:
        names = [vector["name"] for vector in read(file)["vectors"]]
        assert sorted(names) == sorted({*names}), file


def test_each_field_of_a_vector_is_explained() -> None:
    for file in ANSWERS:
        content = read(file)
        for part in ("given", "result"):
            explained = {word for key in content[part] for word in key.split(", ")}
            used = {key for vector in content["vectors"] for key in vector[part]}
            assert used == explained, (file, part)


def test_every_frame_type_is_among_the_frames() -> None:
    frames = [vector["result"]["frame"]["t"] for vector in vectors("frames").values() if "frame" in vector["result"]]
    assert {*frames} == {kind.__struct_config__.tag for kind in JSON_FRAMES}


def test_files_are_ascii_with_one_vector_a_line() -> None:
    for file in ANSWERS:
        lines = (FOLDER / f"{file}.json").read_bytes().decode("ascii").split("\n")
        first = lines.index(' "vectors": [') + 1
        assert [json.loads(line.removesuffix(",")) for line in lines[first:-3]] == read(file)["vectors"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_entry_is_among_the_entries(kind: str) -> None:
    """A kind that changes something has an entry without effect too, which the answers have to tell from others."""
    results = [
        vector["result"]
        for vector in [*vectors("entries").values(), *vectors("facts").values()]
        if f'"k":"{kind}"' in vector["given"]["text"]
    ]
    assert {"taken": True} in results, f"no valid {kind}: tests/docs/valid_entries.py"
    if KINDS[kind].about:
        assert {"taken": True, "effect": False} in results, (
            f"no {kind} without effect: tests/docs/valid_entries.py, then `entries` of tests/vectors/answers.py"
        )
