"""The JSON Schemas beside the vectors: they are those of the code, and fit what p2pchat sends and refuses."""

from __future__ import annotations

import json
from hashlib import blake2b
from math import isinf
from typing import Any

import jsonschema_rs
import pytest

from p2pchat.core import effects as out
from p2pchat.core.inputs import GroupCreateRequest, TypingSet
from p2pchat.protocol import (
    MAX_INT,
    PROTOCOL_VERSION,
    Digest,
    Entries,
    Frame,
    Go,
    Have,
    Hello,
    Here,
    Peers,
    Ping,
    Pong,
    ReadFrame,
    TypingFrame,
    Want,
    Welcome,
)
from tests.core.scripted_nodes import ROOM, World
from tests.vectors import schemas
from tests.vectors.answers import ANSWERS, text_of
from tests.vectors.files import FOLDER, read, vectors
from tests.vectors.vector_node import encoded


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    return jsonschema_rs.Draft202012Validator(schema)


FRAME, ENTRY = validator("frames"), validator("entries")


@pytest.mark.parametrize("name", ["frames", "entries"])
def test_the_schemas_are_those_of_the_code(name: str) -> None:
    assert (FOLDER / f"{name}.schema.json").read_text("utf-8") == schemas.content(name), (
        "python -m tests.vectors.schemas"
    )


def test_frames_do_not_change_without_the_number_of_the_version() -> None:
    """A peer of another format would pass the handshake, and lose frames in silence.

    Until the edition that brings version 4 is released, the hash may change under 4. Later each change of it is a new
    number.
    """
    schema = json.loads((FOLDER / "frames.schema.json").read_text("utf-8"), object_hook=without_description)
    text = json.dumps(schema, sort_keys=True).encode()
    assert (PROTOCOL_VERSION, blake2b(text, digest_size=8).hexdigest()) == (4, "280a28f81d5b69d3")


def without_description(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "description" or not isinstance(value, str)}


@pytest.mark.parametrize("file", ANSWERS)
def test_each_file_of_vectors_has_their_format(file: str) -> None:
    assert [error.message for error in validator("vectors").iter_errors(read(file))] == []
    assert not validator("vectors").is_valid(read(file) | {"version": 2})
    assert not validator("vectors").is_valid(read(file) | {"vectors": [{"name": "x", "why": "no sentence"}]})


def recorded() -> list[Frame]:
    """Return what two peers say to each other: names, comparison, messages, marks, a group, typing, pings."""
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    ada.say("before the link")
    bob.say("mine too")
    world.link(ada, bob)
    ada.say("hello", "room")
    bob.say("psst", to=bob.open("ada"))
    ada.put(GroupCreateRequest(7, ada.id, "ops", (bob.id,)))
    bob.put(TypingSet(bob.id, ROOM, True))
    world.settle()
    bob.read()
    world.pass_time(60.0)
    return [effect.frame for peer in (ada, bob) for effect in peer.effects if isinstance(effect, out.Send)]


def test_recorded_frames_and_their_entries_fit() -> None:
    frames = recorded()
    assert {type(frame) for frame in frames} >= {
        Hello, Welcome, Go, Ping, Pong, Peers, Here, Digest, Have, Want, Entries, ReadFrame, TypingFrame
    }  # fmt: skip
    for frame in frames:
        assert [error.message for error in FRAME.iter_errors(encoded(frame))] == [], frame
        for _, text in frame.e if isinstance(frame, Entries) else ():
            assert [error.message for error in ENTRY.iter_errors(json.loads(str(text)))] == [], text


def value_of(text: bytes) -> Any:
    """Return the value of a JSON text; None where the document's rules for JSON, which no schema states, refuse it.

    A number that is no integer by its token is {}: a schema takes 1.0 for one.
    """
    try:
        value = json.loads(text.decode(), parse_int=integer, parse_float=no_integer, object_pairs_hook=checked)
        if depth(value) > 16:
            return None
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def integer(token: str) -> int:
    if abs(int(token)) > MAX_INT:
        raise ValueError(token)
    return int(token)


def no_integer(token: str) -> dict[str, Any]:
    if isinf(float(token)):
        raise ValueError(token)
    return {}


def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    json.dumps(pairs, ensure_ascii=False).encode()  # also the values of repeated keys
    if any(depth(value) >= 16 for _, value in pairs):
        raise ValueError("too deep")
    return dict(pairs)


def depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


FRAMES = {name: one for name, one in vectors("frames").items() if "bytes" in one["given"]}
ENTRIES = vectors("entries") | vectors("facts")
BEYOND = {  # rules across the fields of a frame, and base64
    *("neither sum nor sums", "sum and sums", "sums without span", "a sum with a span", "a span downwards"),
    *("a span over two conversations", "a naming of two kinds", "a dm with its users not sorted"),
    *("a client's hello without sig", "an entry number that overflows"),
    *("a circuit of nothing", "a circuit to and from", "bytes that are no base64"),
    *("entry 1 without a header", "evidence without a header", "a later entry with a header"),
}


def test_the_schema_of_frames_agrees_with_the_decoder() -> None:
    values = {name: value_of(bytes.fromhex(vector["given"]["bytes"])[4:]) for name, vector in FRAMES.items()}
    fit = {name: FRAME.is_valid(value) for name, value in values.items() if value is not None}
    assert len(fit) > 100
    assert fit == {name: name in BEYOND or FRAMES[name]["result"].get("refused") != "malformed" for name in fit}


def test_the_schema_of_entries_agrees_with_what_is_taken() -> None:
    values = {name: value_of(text_of(vector["given"]).encode()) for name, vector in ENTRIES.items()}
    fit = {name: ENTRY.is_valid(value) for name, value in values.items() if value is not None}
    assert len(fit) > 200
    read = {name for name in fit if ENTRIES[name]["result"].get("supported", True)}
    assert fit == {name: name in read for name in fit}
