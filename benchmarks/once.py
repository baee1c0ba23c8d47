"""Command `python -m benchmarks.once WORK`: one round of one work with the p2pchat of this tree; rows as JSON.

benchmarks/compare.py starts it in both of its trees. It reads the fields of a Setting from stdin and writes one object,
{"rows": [...]}, to stdout; errors go to stderr, with exit code 1.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

from benchmarks.results import Setting
from benchmarks.workers import ROOT, WorkFailed


def main() -> int:
    found = importlib.util.find_spec("p2pchat")
    if found is None or found.origin is None or not Path(found.origin).is_relative_to(ROOT):
        print(f"p2pchat is not the one of {ROOT}", file=sys.stderr)  # figures of another package would look plausible
        return 1
    given = json.loads(sys.stdin.read())
    setting = Setting(Path(given.pop("directory")), **given)
    try:
        rows = importlib.import_module(f"benchmarks.{sys.argv[1]}").run(setting)
    except WorkFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"rows": [row.to_json() for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
