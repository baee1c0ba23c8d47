"""Failing inputs, kept as files in found/ and replayed by every test run.

A file is named after its target and its bytes: `frames-1f2e3d4c.bin`. A fault is identified by the place that raised
it, so that further inputs with the same fault make no further files.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from tests.fuzz.mutation import smaller
from tests.fuzz.target import Target, Violation

FOUND = Path(__file__).with_name("found")


def kept(target: str, directory: Path = FOUND) -> Iterator[Path]:
    """Yield the files of a target's failing inputs."""
    yield from sorted(directory.glob(f"{target}-*"))


def sign(error: BaseException) -> str:
    """Return the identity of a fault: its type, and the place that raised it."""
    last = [frame for frame in traceback.extract_tb(error.__traceback__) if "fuzz/target.py" not in frame.filename][-1:]
    where = f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "nowhere"
    return f"{type(error).__name__} at {where}"


def fault_of(target: Target, data: bytes) -> BaseException | None:
    """Run one input; return the exception it raised, or None."""
    try:
        target.run(data)
    except (Exception, RecursionError) as error:
        return error
    return None


class Findings:
    """The faults of one run.

    Attributes:
        reports: The faults, as text, by sign.
    """

    def __init__(self, target: Target, directory: Path = FOUND) -> None:
        self.reports: dict[str, str] = {}
        self._target = target
        self._directory = directory

    def take(self, data: bytes, error: BaseException) -> str:
        """Keep a failing input, reduced; return the report, "" for a fault found before."""
        of = sign(error)
        if of in self.reports:
            return ""
        self.reports[of] = ""  # the reduction of the input meets the fault again
        data = smaller(data, lambda less: (found := fault_of(self._target, less)) is not None and sign(found) == of)
        path = self._directory / f"{self._target.name}-{sha256(data).hexdigest()[:8]}.bin"
        self._directory.mkdir(exist_ok=True)
        path.write_bytes(data)
        why = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        self.reports[of] = f"{self._target.name}: {why[:300]!a} ({of})\n  python -m tests.fuzz --replay {path}"
        return self.reports[of]
