"""A short, repeatable run of every target, and all failing inputs found before."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.findings import FOUND, Findings, fault_of, kept, sign
from tests.fuzz.mutation import mutated, smaller
from tests.fuzz.runner import Report, by_chance
from tests.fuzz.target import Target, Violation, hold
from tests.fuzz.targets import TARGETS


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return inputs made by hypothesis, and mutated known inputs."""
    seeds = target.seeds()

    def of_known(one: bytes, other: bytes, number: int) -> bytes:
        return mutated(one, other, target.words, Random(number), target.max_bytes)

    known = st.builds(of_known, st.sampled_from(seeds), st.sampled_from(seeds), st.integers(0, 2**32))
    return known | st.sampled_from(seeds) | st.binary(max_size=target.max_bytes)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_any_input(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=target.examples // 2, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs(target))
    def play(data: bytes) -> None:
        target.run(data)

    try:
        play()
    finally:
        target.end()


@pytest.mark.parametrize("path", [path for name in TARGETS for path in kept(name)], ids=lambda path: path.stem)
def test_found_inputs_stay_fixed(path: Path) -> None:
    target = TARGETS[path.name.partition("-")[0]]
    try:
        target.run(path.read_bytes())
    finally:
        target.end()


def test_every_kept_file_belongs_to_a_target() -> None:
    assert {path.name.partition("-")[0] for path in FOUND.glob("*.bin")} <= set(TARGETS)


# The fuzzing itself


def breaks(data: bytes) -> None:
    hold(b"!" not in data, "an exclamation mark")
    if b"?" in data:
        raise KeyError("a question")


FRAIL = Target("frail", "breaks at a mark", breaks, lambda: [b"hello", b"you there"], [b"!", b"?"], 64)


def test_a_fault_is_reduced_and_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.findings.FOUND", tmp_path)
    findings = Findings(FRAIL, tmp_path)
    for data in (b"hello! you", b"no! more", b"what? now"):
        error = fault_of(FRAIL, data)
        assert error is not None
        findings.take(data, error)
    assert sorted(path.read_bytes() for path in kept("frail", tmp_path)) == [b"!", b"?"]
    assert len(findings.reports) == 2 and all("--replay" in report for report in findings.reports.values())


def test_mutation_alone_reaches_a_fault_repeatably() -> None:
    chances = [Random(7), Random(7)]
    made = [[mutated(b"hello", b"you", FRAIL.words, chance, 8) for _ in range(200)] for chance in chances]
    assert made[0] == made[1] and len(set(made[0])) > 100 and max(map(len, made[0])) <= 8
    assert any(fault_of(FRAIL, data) for data in made[0])


def test_an_input_is_reduced_only_while_it_fails_the_same_way() -> None:
    assert smaller(b"a" * 500 + b"?" + b"b" * 500, lambda data: b"?" in data) == b"?"
    assert smaller(b"abc", lambda data: data == b"abc") == b"abc"


def test_a_run_counts_its_inputs() -> None:
    report, progress = Report(), list[str]()
    calm = Target("calm", "takes anything", lambda data: None, lambda: [b"x"])
    by_chance(calm, 1.0, 1, report, progress.append)
    assert report.total == report.inputs["calm"] > 1 and not report.faults
    assert progress[-1].startswith("calm: ")


def test_faults_are_distinguished_by_their_origin() -> None:
    signs = {sign(error) for data in (b"!", b"?", b"a!", b"!b") if (error := fault_of(FRAIL, data))}
    assert len(signs) == 2 and any("Violation" in one for one in signs)
    assert isinstance(fault_of(FRAIL, b"!"), Violation)
