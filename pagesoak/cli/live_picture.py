"""The live page's picture for a terminal: free memory against the min watermark, isolated memory,
windows and kills over the last minutes, a column for each sample.
"""

import math
from collections import deque
from collections.abc import Iterator

from rich.text import Text

from pagesoak.base.units import MIB, PAGE_SHIFT
from pagesoak.cli.char_plots import BARS
from pagesoak.engine.run_sample import RunSample

COLUMNS_MAX = 120
"""Two minutes: more change with each sample than a slow line carries in good time."""
LABEL_COLUMNS = 10
LEVELS = 8


class LivePicture:
    """The last samples of one run."""

    def __init__(self) -> None:
        self._samples: deque[RunSample] = deque(maxlen=COLUMNS_MAX + 1)

    def add(self, sample: RunSample) -> None:
        """One more; a sample of a run that began anew begins the picture anew."""
        if self._samples and sample.elapsed_seconds < self._samples[-1].elapsed_seconds:
            self._samples.clear()
        self._samples.append(sample)

    def lines(self, width: int) -> Iterator[Text]:
        """Four lines of at most `width` columns; none before the second sample."""
        room = min(COLUMNS_MAX, width - LABEL_COLUMNS - len("  100.0 MiB"))
        if len(self._samples) < 2 or room < LEVELS:  # noqa: PLR2004 - a change needs two
            return
        shown = list(self._samples)[-room:]
        before = list(self._samples)[-room - 1 : -1]
        before = [shown[0]] * (len(shown) - len(before)) + before
        free = [sample.largest_zone.free_pages for sample in shown]
        low = min(sample.largest_zone.wmark_min_pages for sample in shown)
        yield _line("free", _logarithmic(shown, free, low), _mib(free[-1]))
        isolated = [sample.isolated_pages for sample in shown]
        most = max(1, shown[-1].isolated_pages_max)
        bars = Text("".join(_bar(value / most) for value in isolated), "yellow")
        yield _line("isolated", bars, _mib(isolated[-1]))
        pairs = list(zip(before, shown, strict=True))
        calls = "".join("▬" if b.report_calls > a.report_calls else " " for a, b in pairs)
        yield _line("windows", Text(calls, "yellow"), "")
        kills = "".join("x" if sum(b.oom_events) > sum(a.oom_events) else " " for a, b in pairs)
        yield _line("kills", Text(kills, "bold red"), "")


def _line(label: str, drawn: Text, value: str) -> Text:
    return Text.assemble((label.ljust(LABEL_COLUMNS), "dim"), drawn, f"  {value}" if value else "")


def _mib(pages: int) -> str:
    return f"{(pages << PAGE_SHIFT) / MIB:,.1f} MiB"


def _bar(share: float) -> str:
    """A column; what is more than nothing is seen."""
    level = min(LEVELS, max(0, round(share * LEVELS)))
    return BARS[max(1, level)] if share > 0 else BARS[0]


def _logarithmic(shown: list[RunSample], free: list[int], low: int) -> Text:
    """Free memory from the min watermark up, logarithmic; below it a red mark."""
    most = max(*free, low * 2, 2)
    floor = math.log(max(1, low))
    span = max(math.log(most) - floor, 1e-9)
    bars = (_bar((math.log(max(1, pages)) - floor) / span) for pages in free)
    below = [sample.largest_zone.min_margin_pages < 0 for sample in shown]
    text = (BARS[1] if under else each for under, each in zip(below, bars, strict=True))
    drawn = Text("".join(text), "green")
    for place, under in enumerate(below):
        if under:
            drawn.stylize("bold red", place, place + 1)
    return drawn
