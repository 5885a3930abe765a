"""What `pagesoak window` shows to people: a table of every window, and plots of characters."""

from collections.abc import Iterator, Sequence

from pagesoak.cli.char_plots import bar, panel_lines
from pagesoak.cli.scenarios import columns
from pagesoak.study.window import Call, Window
from pagesoak.study.window_range import Cliff

PAGES_PER_MIB = 256
BAR_COLUMNS = 50
POINTS_LISTED_MAX = 12
"""Points of a range that are listed in figures, too."""
CALLS_SHOWN_MAX = 12
"""Calls of one policy that the table lists; the others are counted."""
TABLE = ("POLICY", "PASS", "CAPACITY o9/o10", "ISOLATED TOGETHER", "PAGES", "FREE IN THE WINDOW")


def mib(pages: int) -> str:
    """Pages as MiB with one decimal."""
    tenths = (pages * 10 + PAGES_PER_MIB // 2) // PAGES_PER_MIB
    return f"{tenths // 10}.{tenths % 10} MiB"


def batch(call: Call) -> str:
    """`20 o9 + 12 o10`."""
    return " + ".join(f"{count} o{order}" for order, count in call.counts().items())


def table_lines(windows: Sequence[Window]) -> list[str]:
    """Every window of every policy, in order."""
    rows: list[tuple[str, ...]] = [TABLE]
    for window in windows:
        rows += _rows(window)
    stopped = [f"{w.label}: stopped: {w.stopped}" for w in windows if w.stopped is not None]
    return [*columns(rows).splitlines(), *stopped]


def _rows(window: Window) -> Iterator[tuple[str, ...]]:
    label = window.label
    shown = 0
    for number, one in enumerate(window.passes, 1):
        capacities = "/".join(map(str, one.capacities.values()))
        if not one.calls:
            why = "nothing reported" if one.gate_open else "gate closed"
            yield label, str(number), capacities, why, "", ""
            label = ""
        for call in one.calls:
            if shown == CALLS_SHOWN_MAX:
                more = len(window.calls) - shown
                least = f"{window.free_pages_min:,} at least"
                yield "", "", "", f"and {more} more windows", "", least
                return
            pages = sum(1 << order for _, order in call.blocks)
            free = f"{call.free_pages:,} ({mib(call.free_pages)})"
            yield label, str(number), capacities, batch(call), f"{pages:,}", free
            label, capacities = "", ""
            shown += 1
        if one.requested_again:
            yield "", "", "", "asks for another pass", "", ""
    if not window.passes:
        yield label, "", "", "no device", "", ""


def bar_lines(windows: Sequence[Window]) -> list[str]:
    """For each policy the least that is free in a window, beside what is free at the start."""
    most = max(1, *(window.free_pages for window in windows))
    width = max(len(window.label) for window in windows)
    lines = [f"least free in a window, of {mib(most)}:"]
    for window in windows:
        shown = bar(window.free_pages_min, most, BAR_COLUMNS)
        lines.append(f"  {window.label:<{width}}  {mib(window.free_pages_min):>10}  {shown}")
    return lines


def plot_lines(by_policy: Sequence[Sequence[Window]], width: int) -> list[str]:
    """A panel for each policy over the range: the least that is free in a window."""
    most = max(1, *(window.free_pages_min for of_one in by_policy for window in of_one))
    lines = []
    for of_one in by_policy:
        points = of_one[:: -(-len(of_one) // width)]
        lines.append(f"{of_one[0].label}: least free in a window, up to {mib(most)}")
        lines += panel_lines([window.free_pages_min for window in points], most)
        lines.append(f"   {mib(points[0].free_pages)} to {mib(points[-1].free_pages)} free")
    return lines


def point_lines(by_policy: Sequence[Sequence[Window]]) -> list[str]:
    """A row for each of some few points: the least that is free in a window, by policy."""
    rows = [("FREE PAGES", *(of_one[0].label for of_one in by_policy))]
    for at_point in zip(*by_policy, strict=True):
        least = (f"{window.free_pages_min:,}" for window in at_point)
        rows.append((f"{at_point[0].free_pages:,}", *least))
    return columns(rows).splitlines()


def cliff_lines(found: Sequence[Cliff]) -> list[str]:
    """A sentence for each cliff."""
    return [
        f"{cliff.policy}: with {cliff.free_pages:,} pages free, {cliff.before:,} stay free in the"
        f" window; with one page more, {cliff.after:,}"
        for cliff in found
    ]
