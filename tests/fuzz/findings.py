"""What fuzzing found: inputs kept as files in found/, each played again by every run of the tests.

A file is called after its target and its bytes: `frames-1f2e3d4c.bin`. A fault is known by where it was raised, so
that the thousandth input that meets it makes no thousandth file.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from tests.fuzz.mutation import smaller
from tests.fuzz.target import Target, Wrong

FOUND = Path(__file__).with_name("found")


def kept(target: str, directory: Path = FOUND) -> Iterator[Path]:
    """Yield the files of inputs that a target once failed with."""
    yield from sorted(directory.glob(f"{target}-*"))


def sign(error: BaseException) -> str:
    """Return by what one fault is told from another: its kind, and where it was raised."""
    last = [frame for frame in traceback.extract_tb(error.__traceback__) if "fuzz/target.py" not in frame.filename][-1:]
    where = f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "nowhere"
    return f"{type(error).__name__} at {where}"


def fault_of(target: Target, data: bytes) -> BaseException | None:
    """Run one input; return what it raised, None for nothing."""
    try:
        target.run(data)
    except (Exception, RecursionError) as error:
        return error
    return None


class Findings:
    """The faults of one run.

    Attributes:
        told: What was found, as text, by sign.
    """

    def __init__(self, target: Target, directory: Path = FOUND) -> None:
        self.told: dict[str, str] = {}
        self._target = target
        self._directory = directory

    def take(self, data: bytes, error: BaseException) -> str:
        """Keep an input that failed, made small; return what to tell, "" for a fault that was found before."""
        of = sign(error)
        if of in self.told:
            return ""
        self.told[of] = ""  # before it is met again while it is made small
        data = smaller(data, lambda less: (found := fault_of(self._target, less)) is not None and sign(found) == of)
        path = self._directory / f"{self._target.name}-{sha256(data).hexdigest()[:8]}.bin"
        self._directory.mkdir(exist_ok=True)
        path.write_bytes(data)
        why = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
        self.told[of] = f"{self._target.name}: {why[:300]!a} ({of})\n  python -m tests.fuzz --replay {path}"
        return self.told[of]
