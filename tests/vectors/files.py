"""The files of test vectors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "conformance" / "p2pchat_conformance" / "vectors"


@cache
def read(name: str) -> dict[str, Any]:
    """Return the content of one file. It is shared: change nothing in it."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert content["version"] == 1
    return content


@cache
def vectors(name: str) -> dict[str, dict[str, Any]]:
    """Return the vectors of one file, by their names."""
    return {one["name"]: one for one in read(name)["vectors"]}
