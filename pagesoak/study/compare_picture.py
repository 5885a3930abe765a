"""The pictures of a comparison: headroom and isolated pages over time for each variant, lengths of
windows, kills and failures by cause.

Panels of one kind have the same scale for all variants. Over time, one seed is drawn in full and
the extremes of all seeds are pale. Labels are text as it is: nothing in them is mathematics.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagesoak.base.units import NS_PER_MS, NS_PER_SECOND
from pagesoak.study import drawing
from pagesoak.study.compare import Comparison
from pagesoak.study.compare_course import Course, Values, course_of
from pagesoak.study.compare_figures import STRETCHES, Run, quantile_ns
from pagesoak.study.compare_table import title
from pagesoak.study.compare_totals import Totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGES_PER_MIB = 256
COURSE_INCHES = 1.5
"""Height of a panel over time; the last has its axis below, the first the legend above."""
AXIS_INCHES = 0.75
ROW_INCHES = 0.34
"""Height of one variant in the panels that have a row for each."""
POINTS_MAX = 2000
"""Windows of a variant that are drawn: as many as can be told apart; evenly, by length."""
TITLE_COLUMNS = 60
"""Of a label above a panel: beside the legend."""
JITTER = 7
"""Points that would hide each other stand on so many levels of a row."""
TICKS_MAX = 14
"""Of the axis of lengths: what has room side by side."""
LABEL_COLUMNS = 26
"""Of each line of a label beside a row."""
CAUSE_COLOURS = {"isolated": drawing.FAILURE, "fragmented": "#b7791f", "exhausted": "#4a5568"}


def whole_picture(comparison: Comparison) -> "Figure":
    """All panels below each other."""
    known = _known(comparison)
    rows = AXIS_INCHES + ROW_INCHES * len(known)
    heights = [*_course_heights(len(known)), rows, rows]
    figure, axes = drawing.new_figure(len(heights), heights=heights, shared=False)
    with drawing.style():
        figure.suptitle(title(comparison), x=0.01, ha="left")
        _over_time(comparison, axes[:-2])
        _windows(comparison, axes[-2])
        _failures(comparison, axes[-1])
    return figure


def course_picture(comparison: Comparison) -> "Figure":
    """Headroom and isolated pages over time."""
    heights = _course_heights(len(_known(comparison)))
    figure, axes = drawing.new_figure(len(heights), heights=heights, shared=False)
    with drawing.style():
        _over_time(comparison, axes)
    return figure


def windows_picture(comparison: Comparison) -> "Figure":
    """Lengths of the windows."""
    figure, axes = _rows_figure(comparison)
    with drawing.style():
        _windows(comparison, axes)
    return figure


def failures_picture(comparison: Comparison) -> "Figure":
    """Kills and failed requests by cause."""
    figure, axes = _rows_figure(comparison)
    with drawing.style():
        _failures(comparison, axes)
    return figure


def _rows_figure(comparison: Comparison) -> "tuple[Figure, Axes]":
    height = AXIS_INCHES + ROW_INCHES * len(_known(comparison))
    figure, axes = drawing.new_figure(1, heights=[height])
    return figure, axes[0]


def _course_heights(variants: int) -> list[float]:
    heights = [COURSE_INCHES] * variants
    heights[0] += AXIS_INCHES / 2
    heights[-1] += AXIS_INCHES / 2
    return heights


def _known(comparison: Comparison) -> list[tuple[str, Totals, tuple[Run, ...]]]:
    """The variants that have runs, at least one."""
    return [
        (label, totals, runs)
        for label, totals, runs in zip(
            comparison.labels, comparison.totals, comparison.runs, strict=True
        )
        if totals is not None
    ]


def _label(text: str) -> str:
    """A label in one line or two: the policy, and what is changed."""
    policy, plus, changes = text.partition(" + ")
    lines = [policy, f"+ {changes}"] if plus else [policy]
    return "\n".join(
        line if len(line) <= LABEL_COLUMNS else f"{line[: LABEL_COLUMNS - 1]}…" for line in lines
    )


# ---- over time ----


def _over_time(comparison: Comparison, axes: "Sequence[Axes]") -> None:
    seconds = comparison.plan.scenario.duration_ns / NS_PER_SECOND
    known = _known(comparison)
    courses = [course for _, _, runs in known if (course := course_of(runs)) is not None]
    most = max(1.0, *(_most(course) for course in courses))
    least = min(0.0, *(_least(course) for course in courses))
    for at, ((label, _, runs), course, panel) in enumerate(zip(known, courses, axes, strict=True)):
        _course(panel, course, seconds)
        _kill_marks(panel, runs, most)
        panel.set_title(label[:TITLE_COLUMNS], loc="left", fontweight="bold", parse_math=False)
        panel.locator_params(axis="y", nbins=4)
        panel.set_ylim(least - most * 0.02, most * 1.12)
        panel.set_xlim(0, seconds)
        panel.set_ylabel("MiB")
        if at == 0:
            panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
        if at < len(known) - 1:
            panel.tick_params(labelbottom=False)
        else:
            panel.set_xlabel("time, s")


def _course(panel: "Axes", course: Course, seconds: float) -> None:
    seed = f"seed {course.seed}"
    at, values = _points(course.isolated_pages, seconds)
    panel.fill_between(
        at, values, step="post", color=drawing.WINDOW, linewidth=0, label=f"isolated, {seed}"
    )
    at, values = _points(course.isolated_pages_max, seconds)
    panel.step(
        at, values, where="post", color=drawing.ISOLATED, linewidth=0.7, alpha=0.6,
        label="most isolated, all seeds",
    )  # fmt: skip
    at, values = _points(course.headroom_pages, seconds)
    panel.plot(at, values, color=drawing.FREE, linewidth=1.1, label=f"free above min, {seed}")
    at, values = _points(course.headroom_pages_min, seconds)
    panel.plot(
        at, values, color=drawing.FREE, linewidth=0.7, alpha=0.5, linestyle=":",
        label="least, all seeds",
    )  # fmt: skip
    panel.axhline(0, color=drawing.MARKS["min"], linewidth=0.8)


def _kill_marks(panel: "Axes", runs: Sequence[Run], most: float) -> None:
    """A mark at each kill: those of the seed that is drawn are dark."""
    for name, alpha, chosen in (
        ("OOM kill", 1.0, runs[:1]),
        ("of another seed", 0.35, runs[1:]),
    ):
        at = [kill / NS_PER_SECOND for run in chosen for kill in run.kills_at_ns]
        panel.scatter(
            at, [most * 1.06] * len(at), marker="v", s=22, color=drawing.FAILURE, alpha=alpha,
            linewidths=0, label=name, clip_on=False,
        )  # fmt: skip


def _points(values: Values, seconds: float) -> tuple[list[float], list[float]]:
    """What is known, by seconds and MiB."""
    pairs = [(at, value) for at, value in enumerate(values) if value is not None]
    return (
        [at * seconds / STRETCHES for at, _ in pairs],
        [value / PAGES_PER_MIB for _, value in pairs],
    )


def _most(course: Course) -> float:
    values = [*course.headroom_pages, *course.isolated_pages_max]
    return max((value for value in values if value is not None), default=0) / PAGES_PER_MIB


def _least(course: Course) -> float:
    values = [value for value in course.headroom_pages_min if value is not None]
    return min(values, default=0) / PAGES_PER_MIB


# ---- a row for each variant ----


def _windows(comparison: Comparison, panel: "Axes") -> None:
    """A row of points for each variant, each a window; bars at the median and at 99 %."""
    known = _known(comparison)
    from matplotlib.ticker import LogLocator

    for row, (_, totals, _) in enumerate(known):
        ordered = sorted(totals.windows_ns)
        drawn = ordered[:: -(-max(1, len(ordered)) // POINTS_MAX)]
        colour = drawing.SERIES[row % len(drawing.SERIES)]
        levels = [row + (number % JITTER - JITTER // 2) * 0.09 for number in range(len(drawn))]
        panel.scatter(
            [window / NS_PER_MS for window in drawn], levels, s=9, color=colour, alpha=0.5,
            linewidths=0,
        )  # fmt: skip
        if not ordered:
            panel.text(
                0.01, row, "no windows", transform=panel.get_yaxis_transform(), va="center",
                color="#4a5568",
            )  # fmt: skip
            continue
        marks = [quantile_ns(totals.windows_ns, of) / NS_PER_MS for of in (50, 99)]
        panel.vlines(marks, row - 0.4, row + 0.4, color=colour, linewidth=1.6)
    panel.set_xscale("log", subs=[])
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=TICKS_MAX))
    panel.xaxis.set_major_formatter(_length)
    lengths = [window for _, totals, _ in known for window in totals.windows_ns]
    shortest, longest = min(lengths, default=NS_PER_MS), max(lengths, default=NS_PER_SECOND)
    panel.set_xlim(shortest / NS_PER_MS / 3, longest / NS_PER_MS * 3)
    _rows(panel, [label for label, _, _ in known])
    panel.set_title("Windows, each a point; bars: median and 99 %", loc="left", fontweight="bold")
    panel.set_xlabel("length, ms")


def _length(value: float, _at: float) -> str:
    return f"{value:g}"


def _failures(comparison: Comparison, panel: "Axes") -> None:
    """Bars for kills and, thinner, for failed requests, by cause, for an hour of soak."""
    known = _known(comparison)
    failed = any(any(totals.alloc_failures.values()) for _, totals, _ in known)
    for name, counts_of, height, shift in (
        ("killed", _killed, 0.5, -0.12 if failed else 0.0),
        ("failed", _failed, 0.2, 0.3),
    ):
        if name == "failed" and not failed:
            continue
        left = [0.0] * len(known)
        for cause, colour in CAUSE_COLOURS.items():
            rates = [
                counts_of(totals)[cause] * 3600 / totals.soak_seconds for _, totals, _ in known
            ]
            rows = [row + shift for row in range(len(known))]
            panel.barh(
                rows,
                rates,
                height,
                left,
                color=colour,
                label=f"{name}, {cause}" if failed else cause,
            )
            left = [begin + rate for begin, rate in zip(left, rates, strict=True)]
    for row, (_, totals, _) in enumerate(known):
        rate = totals.isolated_kills_per_hour
        if rate.low is not None and rate.high is not None:
            at = row + (-0.12 if failed else 0.0)
            panel.plot([rate.low, rate.high], [at, at], color="#1a202c", linewidth=1.2)
            panel.plot([rate.low, rate.high], [at, at], "|", color="#1a202c", markersize=7)
    if not any(totals.kills + sum(totals.alloc_failures.values()) for _, totals, _ in known):
        panel.set_xlim(0, 1)
    _rows(panel, [label for label, _, _ in known])
    panel.set_title("OOM kills by cause, and the 95 % interval", loc="left", fontweight="bold")
    panel.set_xlabel(f"kills{' and failed requests' if failed else ''} in an hour of soak")
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, borderaxespad=0)


def _killed(totals: Totals) -> dict[str, int]:
    return totals.oom_events


def _failed(totals: Totals) -> dict[str, int]:
    return totals.alloc_failures


def _rows(panel: "Axes", labels: Sequence[str]) -> None:
    panel.set_yticks(range(len(labels)), [_label(label) for label in labels], parse_math=False)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
