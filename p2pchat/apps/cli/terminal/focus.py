"""Which window has the keyboard, where the terminal tells: xterm's focus events, which most others have too.

They are switched on while there is a prompt to take them for what they are, and off whenever another program or the
shell gets the terminal. A terminal that does not know them ignores both and never tells: its window counts as in
front.

Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, "FocusIn/FocusOut".
"""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import Output

SWITCH_OFF = "\x1b[?1004l"
_SWITCH_ON = "\x1b[?1004h"
# prompt_toolkit knows no such keys and would take their letters for typed ones: so they are two that no keyboard has.
_CAME, _WENT = Keys.ControlF23, Keys.ControlF24
_SEQUENCES = {"\x1b[I": _CAME, "\x1b[O": _WENT}


class Focus:
    """One terminal's word on its window.

    Args:
        output: None where nothing is to be asked for: a Windows console might print it.
        tell: Takes whether the window has the keyboard now.
    """

    def __init__(self, output: Output | None, tell: Callable[[bool], None]) -> None:
        self._output = output
        self._tell = tell
        ANSI_SEQUENCES.update(_SEQUENCES)

    def bind(self, keys: KeyBindings) -> None:
        """Take the events, whatever the prompt is doing."""
        keys.add(_CAME)(lambda event: self._tell(True))
        keys.add(_WENT)(lambda event: self._tell(False))

    def ask(self) -> None:
        """Have the terminal tell from now on."""
        self._write(_SWITCH_ON)

    def stop(self) -> None:
        """Have it tell nothing any more. What is not known counts as in front."""
        self._write(SWITCH_OFF)

    def _write(self, sequence: str) -> None:
        if self._output is not None:
            self._output.write_raw(sequence)
            self._output.flush()
