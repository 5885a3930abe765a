"""Plots made of characters, for terminals."""

from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
"""Eighths of a character's height."""
PARTS = " ▏▎▍▌▋▊▉"
"""Eighths of a character's width."""
PLOT_ROWS = 4


def panel_lines(values: Sequence[int], most: int, rows: int = PLOT_ROWS) -> list[str]:
    """A bar for each value, a column each; a bar of full height is `most`."""
    levels = [value * rows * 8 // most for value in values]
    lines = []
    for row in range(rows - 1, -1, -1):
        bars = (BARS[max(0, min(8, level - row * 8))] for level in levels)
        lines.append("  |" + "".join(bars).rstrip())
    return lines


def bar(value: int, most: int, columns: int) -> str:
    """A lying bar; one of full length is `most`."""
    eighths = value * columns * 8 // most
    return "█" * (eighths // 8) + PARTS[eighths % 8].strip()
