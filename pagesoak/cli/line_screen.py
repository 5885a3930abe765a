"""Lines on a terminal that keep changing, for slow connections: only lines that are other than
before are sent, and nothing is cleared that stays.

rich's own live view sends everything each time, some kilobytes; over a slow ssh that is a second's
worth. The lines must fit the terminal's width, since a line that wraps is two.
"""

from collections.abc import Sequence
from typing import TextIO

CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class LineScreen:
    """The lines that stand on a terminal, the cursor below the last."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lines: list[str] = []

    def show(self, lines: Sequence[str]) -> int:
        """Put these lines in the place of those before; how many characters that took."""
        parts = [HIDE] if not self._lines else []
        same = min(len(lines), len(self._lines))
        changed = [place for place in range(same) if lines[place] != self._lines[place]]
        begin = changed[0] if changed else same
        if begin < len(self._lines):
            parts.append(f"\x1b[{len(self._lines) - begin}A\r")
        row = begin
        for place in changed:
            if place > row:
                parts.append(f"\x1b[{place - row}B")
            parts.append(f"{lines[place]}{CLEAR_LINE}\r\n")
            row = place + 1
        if row < same:
            parts.append(f"\x1b[{same - row}B")
        if len(lines) < len(self._lines):
            parts.append(CLEAR_BELOW)
        parts += [f"{line}{CLEAR_LINE}\r\n" for line in lines[same:]]
        self._lines = list(lines)
        text = "".join(parts)
        self._terminal.write(text)
        self._terminal.flush()
        return len(text)

    def again(self) -> None:
        """The terminal has another width: what stands there is left, and all lines are new."""
        self._lines = []

    def close(self) -> None:
        """Take the lines away and give the cursor back."""
        up = f"\x1b[{len(self._lines)}A\r" if self._lines else ""
        self._terminal.write(f"{up}{CLEAR_BELOW}{SHOW}")
        self._terminal.flush()
        self._lines = []
