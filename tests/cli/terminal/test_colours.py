"""Colours: the same for the same person, of the sixteen, and none where none are wanted."""

from __future__ import annotations

from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from p2pchat.cli.terminal.screen import DIM, ERROR, ME, colour_depth, name_style


def test_a_name_has_one_colour_for_ever() -> None:
    assert name_style("K7QF2M3P") == name_style("K7QF2M3P") == "ansimagenta"
    assert len({name_style(f"user {number}") for number in range(50)}) == 6


def test_every_style_is_known_and_of_the_terminals_own_colours() -> None:
    for style in {DIM, ERROR, ME, *(name_style(str(number)) for number in range(50))}:
        attrs = Style([]).get_attrs_for_style_str(style)
        assert not attrs.bgcolor and (not attrs.color or attrs.color.startswith("ansi"))


def test_no_color_is_obeyed_when_it_is_not_empty() -> None:
    assert colour_depth({"NO_COLOR": "1"}) is ColorDepth.DEPTH_1_BIT
    assert colour_depth({"NO_COLOR": ""}) is colour_depth({}) is ColorDepth.DEPTH_4_BIT
