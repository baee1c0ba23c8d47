"""Generator of the JSON Schemas of frames and entries, from the types of the code.

`python -m tests.vectors.schemas` writes frames.schema.json and entries.schema.json beside the vectors; `--check`
compares. The schemas say what a receiver must accept: unknown fields are allowed, as in docs/protocol.md. They cannot
say everything: JSON Schema takes 1.0 for an integer, and sees neither repeated keys nor sizes in bytes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from p2pchat.core.log import Entry
from p2pchat.kinds import TEXT_KINDS
from p2pchat.protocol import JSON_FRAMES, KnownFrame
from tests.vectors.files import FOLDER

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def frames() -> Schema:
    """Return the schema of one frame: a known one, or one of an unknown type."""
    (top,), components = msgspec.json.schema_components([KnownFrame], ref_template="#/$defs/{name}")
    kinds = sorted(str(kind.__struct_config__.tag) for kind in JSON_FRAMES)
    unknown = {"type": "object", "properties": {"t": {"type": "string", "not": {"enum": kinds}}}, "required": ["t"]}
    return {
        "$schema": DIALECT,
        "title": "A frame of the p2pchat protocol, version 4",
        "anyOf": [*top["anyOf"], unknown],
        "$defs": {name: portable(component) for name, component in components.items()},
    }


def entries() -> Schema:
    """Return the schema of an entry: the JSON object in the text of one."""
    made = msgspec.json.schema(Entry)
    definitions = {name: portable(one) for name, one in made["$defs"].items()}
    entry = definitions["Entry"]
    del entry["properties"]["c"]  # it stands beside the text
    entry["properties"]["b"] = {
        "default": None,
        "pattern": "^[^\\u0000]*$",
    }  # the code's types of both are what its quick decoder takes
    entry["properties"]["files"] = {"default": []}
    entry["properties"]["auto"] = {"default": False}
    entry["properties"]["choices"] = {"default": []}
    entry["properties"]["hops"] = {"default": 0}
    del definitions["FileRef"]
    text = {"required": ["b"], "properties": {"b": {"type": "string"}}}
    entry |= {"if": {"properties": {"k": {"enum": sorted(TEXT_KINDS)}}, "required": ["k"]}, "then": text}
    return {
        "$schema": DIALECT,
        "title": "An entry of the p2pchat protocol, version 4",
        "$ref": made["$ref"],
        "$defs": definitions,
    }


def portable(node: Any) -> Any:
    """Return a schema as any validator reads it, and as the protocol means it.

    Unknown fields are allowed; patterns are without Python's \\A and \\Z; strings of fixed length, whose digits the
    decoder checks all at once, are hex; of a docstring the first paragraph stays.
    """
    if isinstance(node, list):
        return [portable(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: portable(value) for key, value in node.items() if key != "additionalProperties" or value is not False}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace("\\A", "^").replace("\\Z", "$")
    if "minLength" in made and made["minLength"] == made.get("maxLength"):
        digits = made.pop("minLength")
        del made["maxLength"]
        made["pattern"] = f"^[0-9a-f]{{{digits}}}$"
    if isinstance(made.get("description"), str):
        made["description"] = " ".join(made["description"].partition("\n\n")[0].split())
    return made


def content(name: str) -> str:
    schema = {"frames": frames, "entries": entries}[name]()
    return json.dumps(schema, indent=1, ensure_ascii=True) + "\n"


def main(words: list[str]) -> int:
    """Write both schemas, or with --check return 1 when one differs."""
    made = {FOLDER / f"{name}.schema.json": content(name) for name in ("frames", "entries")}
    if "--check" in words:
        return int(any(not path.is_file() or path.read_text("utf-8") != text for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
