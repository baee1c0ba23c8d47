"""The marks of one's own lines, and how long a line waits for a better one."""

from __future__ import annotations

from p2pchat.cli.terminal.screen import OVERTAKEN_AFTER, SETTLED_AFTER, PendingLine


def own(*, direct: bool = False) -> PendingLine:
    return PendingLine("ID.1", direct, [("", "12:00 ada: hi")], shown_at=100.0)


def test_a_mark_says_what_is_known_and_never_goes_back() -> None:
    line = own()
    marks = [line.mark]
    for count, of in ((1, 3), (3, 3), (2, 3)):
        line.on_delivered(count, of)
        marks.append(line.mark)
    assert marks == ["· saved", "✓ delivered 1/3", "✓ delivered 3/3", "✓ delivered 3/3"]
    assert not line.complete
    marks = []
    for count, of in ((1, 3), (3, 3), (2, 3)):
        line.on_read(count, of)
        marks.append(line.mark)
    assert marks == ["✓✓ read 1/3", "✓✓ read 3/3", "✓✓ read 3/3"]
    assert line.complete


def test_a_direct_one_is_delivered_or_not() -> None:
    line = own(direct=True)
    assert (line.mark, line.complete) == ("· saved", False)
    line.on_delivered(1, 1)
    assert (line.mark, line.complete) == ("✓ delivered", False)
    line.on_read(1, 1)
    assert (line.mark, line.complete) == ("✓✓ read", True)


def test_it_goes_up_after_a_while_and_soon_when_something_came_behind_it() -> None:
    line = own()
    assert line.due_at == 100.0 + SETTLED_AFTER
    line.overtaken_at = 101.0
    assert line.due_at == 101.0 + OVERTAKEN_AFTER
    line.overtaken_at = 104.9
    assert line.due_at == 100.0 + SETTLED_AFTER
