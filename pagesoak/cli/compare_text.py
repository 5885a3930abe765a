"""What `pagesoak compare` shows to people: what was found, the tables, and plots of characters."""

from collections.abc import Iterator, Sequence

from pagesoak.base.units import NS_PER_MS
from pagesoak.cli.char_plots import BARS, bar, panel_lines
from pagesoak.cli.scenarios import columns
from pagesoak.cli.summary_text import folded
from pagesoak.study.compare import Comparison
from pagesoak.study.compare_course import course_of, squeezed
from pagesoak.study.compare_table import (
    FOOTNOTE,
    PAIRED,
    Row,
    difference_rows,
    figure_rows,
    title,
)
from pagesoak.study.compare_words import MANY, pages_as_mebibytes, sentences, short

BAR_COLUMNS = 40
BAR_COLUMNS_MIN = 10
BESIDE_COLUMNS = 24
"""Before a bar: two spaces, the cause, the figure."""
PANEL_ROWS = 3
SENTENCE_COLUMNS = 100
"""Where no terminal says how wide a line may be."""
JOINT = " + "
"""Where the head of a column may be broken."""


def text_lines(comparison: Comparison, width: int | None) -> list[str]:
    """Everything, for a terminal of so many columns, or unbroken tables without."""
    lines = [title(comparison), ""]
    for sentence in sentences(comparison):
        lines += folded(sentence, width or SENTENCE_COLUMNS, "  ")
    if not any(comparison.totals):
        return lines
    lines += ["", *table_lines(figure_rows(comparison), width), FOOTNOTE]
    differences = difference_rows(comparison)
    if differences:
        base = comparison.labels[comparison.plan.baseline]
        said = f"a run: {base} {PAIRED.format(base=base)}"
        lines += ["", *folded(said, width or SENTENCE_COLUMNS)]
        lines += table_lines(differences, width)
    wide = (width or SENTENCE_COLUMNS) - 3
    lines += ["", *_over_time(comparison, wide)]
    lines += ["", *_windows(comparison), "", *_kills(comparison, wide)]
    return lines


def table_lines(rows: Sequence[Row], width: int | None) -> list[str]:
    """A table; where it is too wide, in several below each other, each with the titles."""
    variants = len(rows[0].cells)
    lines: list[str] = []
    begin = 0
    while begin < variants:
        end = begin + 1
        while end < variants and _fits(rows, begin, end + 1, width):
            end += 1
        lines += ([""] if lines else []) + _laid_out(rows, begin, end)
        begin = end
    return lines


def _fits(rows: Sequence[Row], begin: int, end: int, width: int | None) -> bool:
    return width is None or max(map(len, _laid_out(rows, begin, end))) <= width


def _laid_out(rows: Sequence[Row], begin: int, end: int) -> list[str]:
    """The columns from begin to end, heads broken at each plus."""
    head, *others = rows
    heads = [cell.split(JOINT) for cell in head.cells[begin:end]]
    deep = max(map(len, heads))
    parts = [
        [f"+ {part}" if number else part for number, part in enumerate(lines)] for lines in heads
    ]
    above = [
        ["", *(lines[at] if at < len(lines) else "" for lines in parts)] for at in range(deep)
    ]
    cells = [[row.title, *row.cells[begin:end]] for row in others]
    return columns([*above, *cells]).splitlines()


def _over_time(comparison: Comparison, width: int) -> Iterator[str]:
    """For each variant two panels: headroom, and isolated pages, of its first seed."""
    courses = list(map(course_of, comparison.runs))
    known = [course for course in courses if course is not None]
    headroom = [squeezed(course.headroom_pages, width, min) for course in known]
    isolated = [squeezed(course.isolated_pages, width, max) for course in known]
    most_free = max(1, *(value for values in headroom for value in values))
    most = max(1, *(value for values in isolated for value in values))
    shown = zip(headroom, isolated, strict=True)
    for label, course in zip(comparison.labels, courses, strict=True):
        if course is None:
            continue
        free, away = next(shown)
        seed = f"seed {course.seed}"
        yield f"{label}: headroom over min, {seed}, up to {pages_as_mebibytes(most_free)}"
        yield from panel_lines(free, most_free, PANEL_ROWS)
        if any(away):
            yield f"{label}: isolated, {seed}, up to {pages_as_mebibytes(most)}"
            yield from panel_lines(away, most, PANEL_ROWS)
        else:
            yield f"{label}: nothing isolated, {seed}"


def octaves(windows_ns: Sequence[int]) -> dict[int, int]:
    """How many windows are of 2**n ns or more, and less than twice that, by n."""
    counts: dict[int, int] = {}
    for window in windows_ns:
        octave = max(1, window).bit_length() - 1
        counts[octave] = counts.get(octave, 0) + 1
    return counts


def _length(nanoseconds: int) -> str:
    """Milliseconds with three digits, and with all before the point."""
    value = nanoseconds / NS_PER_MS
    return f"{value:,.0f}" if value >= MANY else f"{value:.3g}"


def _windows(comparison: Comparison) -> Iterator[str]:
    """Window lengths: a row for each octave in use, a bar for each variant in turn."""
    present = [
        (label, totals)
        for label, totals in zip(comparison.labels, comparison.totals, strict=True)
        if totals is not None and totals.windows_ns
    ]
    if not present:
        yield "no windows"
        return
    counts = [octaves(totals.windows_ns) for _, totals in present]
    used = {octave for one in counts for octave in one}
    first, last = min(used), max(used)
    name = max(len(label) for label, _ in present)
    low, high = (_length(1 << octave) for octave in (first, last + 1))
    yield f"windows by length, a column for each doubling from {low} to {high} ms:"
    for (label, totals), by_octave in zip(present, counts, strict=True):
        most = max(by_octave.values())
        levels = [by_octave.get(octave, 0) for octave in range(first, last + 1)]
        marks = "".join(BARS[-(-level * 8 // most)] for level in levels)
        longest = max(totals.windows_ns) / NS_PER_MS
        many = f"{len(totals.windows_ns):,}, longest {short(longest)} ms"
        yield f"  {label:<{name}}  |{marks}|  {many}"


def _kills(comparison: Comparison, width: int) -> Iterator[str]:
    """OOM kills an hour, by cause."""
    by_variant = {
        label: totals
        for label, totals in zip(comparison.labels, comparison.totals, strict=True)
        if totals is not None
    }
    if not any(totals.kills for totals in by_variant.values()):
        yield "no OOM kills"
        return
    name = max(map(len, by_variant))
    hourly = {
        label: {
            cause: round(count * 3600 / totals.soak_seconds)
            for cause, count in totals.oom_events.items()
        }
        for label, totals in by_variant.items()
    }
    most = max(1, *(max(rates.values()) for rates in hourly.values()))
    room = max(BAR_COLUMNS_MIN, min(BAR_COLUMNS, width - name - BESIDE_COLUMNS))
    yield "OOM kills an hour, by cause:"
    for label, rates in hourly.items():
        for cause, rate in rates.items():
            if rate or cause == "isolated":
                shown = bar(rate, most, room)
                yield f"  {label:<{name}}  {cause:<10}  {rate:>6,}  {shown}".rstrip()
