"""The picture of a run over time: free pages with the watermarks, isolated pages, what failed,
what the reporter did, the bursts.

Time runs from left to right on the soak's clock; memory is in MiB throughout. The free panel is
logarithmic: the watermarks lie at some MiB, most runs at some hundred, and what matters is how
close the two come. Windows, in which pages are isolated, are shaded in every panel.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study import drawing
from pagesoak.study.run_record import RunRecord
from pagesoak.study.story_words import PAGES_PER_MIB, Words
from pagesoak.study.thinning import BUCKETS, Curve, Mark, Span
from pagesoak.study.timeline_points import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 11.0
FREE_INCHES = 2.9
ISOLATED_INCHES = 1.5
LANE_INCHES = 0.24
LANES_FRAME_INCHES = 0.45
"""Of a panel of lanes, beside its lanes."""
NOTE_CHARS_MAX = 150
"""Of a line of notes below the picture."""
LINES_OF_NOTES_MAX = 4
FREE_MIB_MIN = 0.25
"""The lowest the logarithmic axis goes: 64 pages. Less is drawn there."""
SPARSE_POINTS_MAX = 60
"""Of a curve of so few points each is drawn as a dot, too."""
LANE_HEIGHT = 0.62
WINDOW_ALPHA = 0.30
TITLE_POINTS = 10.5
TITLE_COLUMNS = 88
"""Characters of a line of the title: no wider than the panel, whatever letters they are."""
TITLE_LINES_MAX = 3

CAUSE_COLOURS = {
    "isolated": drawing.FAILURE,
    "fragmented": "#805ad5",
    "exhausted": "#1a202c",
    "unknown": "#718096",
}
OUTCOME_MARKERS = {"killed": "X", "failed": "v", "stalled": "|"}
OUTCOME_SIZES = {"killed": 46, "failed": 34, "stalled": 34}
WORK_COLOUR = "#4a5568"
CALL_COLOUR = drawing.ISOLATED
BURST_COLOURS = {"served": "#68a0d0", "killed": drawing.FAILURE}
LOST_COLOUR = "#b7791f"

Lane = tuple[str, Sequence[Span] | Sequence[Mark]]


def draw(record: RunRecord, timeline: Timeline, words: Words, notes: Sequence[str]) -> "Figure":
    """The picture; it is written with `drawing.write_picture`."""
    with drawing.styled():
        return _draw(record, timeline, words, notes)


def _draw(record: RunRecord, timeline: Timeline, words: Words, notes: Sequence[str]) -> "Figure":
    happened, activity = _failure_lanes(timeline), _activity_lanes(timeline, words)
    heights = [FREE_INCHES, ISOLATED_INCHES]
    lanes = [lanes for lanes in (happened, activity) if lanes]
    heights += [LANES_FRAME_INCHES + LANE_INCHES * len(each) for each in lanes]
    figure, axes = drawing.new_figure(len(heights), width_inches=WIDTH_INCHES, heights=heights)
    pen = _Pen(timeline, words)
    _free_panel(axes[0], pen, record, timeline)
    _isolated_panel(axes[1], pen, timeline)
    for axis, each in zip(axes[2:], lanes, strict=True):
        _lanes_panel(axis, pen, each, "failures" if each is happened else "activity")
    for axis in axes:
        pen.shade(axis, timeline.windows.found)
    last = axes[-1]
    last.set_xlabel("time on the soak's clock, s")
    last.set_xlim(pen.seconds(timeline.interval.from_ns), pen.seconds(timeline.interval.to_ns))
    axes[0].set_title(
        _title(record.title),
        loc="left",
        fontweight="bold",
        fontsize=TITLE_POINTS,
        parse_math=False,
    )
    _write_notes(last, notes)
    figure.align_ylabels(axes)
    return figure


def _title(text: str) -> str:
    """The title in lines that fit; names come from files and may be long."""
    plain = drawing.plain_text(text)
    return "\n".join(textwrap.wrap(plain, TITLE_COLUMNS, max_lines=TITLE_LINES_MAX))


class _Pen:
    """Times as seconds of the soak's clock, and spans with a width that can be seen."""

    def __init__(self, timeline: Timeline, words: Words) -> None:
        self._start_ns = words.start_ns
        interval = timeline.interval
        self._narrowest = (interval.to_ns - interval.from_ns) / NS_PER_SECOND / BUCKETS

    def seconds(self, time_ns: int) -> float:
        return (time_ns - self._start_ns) / NS_PER_SECOND

    def bar(self, span: Span) -> tuple[float, float]:
        """Left edge and width."""
        width = (span.to_ns - span.from_ns) / NS_PER_SECOND
        return self.seconds(span.from_ns), max(width, self._narrowest)

    def line(self, curve: Curve) -> tuple[list[float], list[float]]:
        points = curve.points()
        return (
            [self.seconds(time_ns) for time_ns, _ in points],
            [pages / PAGES_PER_MIB for _, pages in points],
        )

    def shade(self, axis: "Axes", windows: Sequence[Span]) -> None:
        bars = [self.bar(window) for window in windows]
        axis.broken_barh(
            bars,
            (0.0, 1.0),
            transform=axis.get_xaxis_transform(),
            facecolor=drawing.WINDOW,
            alpha=WINDOW_ALPHA,
            linewidth=0,
            zorder=0.5,
        )


def _free_panel(axis: "Axes", pen: _Pen, record: RunRecord, timeline: Timeline) -> None:
    times, mebibytes = pen.line(timeline.free)
    shown = [max(FREE_MIB_MIN, size) for size in mebibytes]
    zone = record.main_zone
    where = "free" if zone is None else f"free, zone {zone.name}"
    marker = "." if len(times) <= SPARSE_POINTS_MAX else None
    plain = drawing.plain_text(where)
    axis.plot(times, shown, color=drawing.FREE, linewidth=1.1, marker=marker, label=plain)
    axis.set_yscale("log")
    levels = list(shown)
    if zone is not None:
        marks = {"high": zone.high_pages, "low": zone.low_pages, "min": zone.min_pages}
        for name, pages in marks.items():
            size = pages / PAGES_PER_MIB
            levels.append(max(FREE_MIB_MIN, size))
            axis.axhline(
                max(FREE_MIB_MIN, size),
                color=drawing.MARKS[name],
                linewidth=0.9,
                linestyle="--",
                label=f"{name} watermark, {size:,.1f} MiB",
            )
    for outcome, marker_of in OUTCOME_MARKERS.items():
        _failure_points(axis, pen, timeline, outcome, marker_of)
    levels += [max(FREE_MIB_MIN, mark.value / PAGES_PER_MIB) for mark in timeline.failures.found()]
    low, high = (min(levels), max(levels)) if levels else (1.0, 100.0)
    axis.set_ylim(low / 1.5, high * 1.5)
    _plain_ticks(axis)
    axis.set_ylabel("free memory, MiB (log)")
    if timeline.windows.found:
        axis.broken_barh(
            [], (0, 1), facecolor=drawing.WINDOW, alpha=WINDOW_ALPHA, label="report window"
        )
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)


def _plain_ticks(axis: "Axes") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    ticks = list(LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high))
    axis.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _failure_points(
    axis: "Axes", pen: _Pen, timeline: Timeline, outcome: str, marker: str
) -> None:
    for cause, colour in CAUSE_COLOURS.items():
        kind = f"{outcome} {cause}"
        found = [mark for mark in timeline.failures.found() if mark.kind == kind]
        if not found:
            continue
        axis.scatter(
            [pen.seconds(mark.time_ns) for mark in found],
            [max(FREE_MIB_MIN, mark.value / PAGES_PER_MIB) for mark in found],
            marker=marker,
            s=OUTCOME_SIZES[outcome],
            color=colour,
            zorder=4,
            linewidth=1.2 if outcome == "stalled" else 0.5,
            label=_kind_words(kind, sum(mark.times for mark in found)),
        )


def _kind_words(kind: str, times: int) -> str:
    outcome, cause = kind.split(" ")
    return f"{outcome}, {cause} ({times:,})"


def _isolated_panel(axis: "Axes", pen: _Pen, timeline: Timeline) -> None:
    times, mebibytes = pen.line(timeline.isolated)
    axis.plot(times, mebibytes, color=drawing.ISOLATED, linewidth=1.1, drawstyle="steps-post")
    axis.fill_between(times, mebibytes, step="post", color=drawing.ISOLATED, alpha=0.25)
    axis.set_ylim(0, max(1.0, *mebibytes, 1.0) * 1.12)
    axis.set_ylabel("isolated, MiB")


def _failure_lanes(timeline: Timeline) -> list[Lane]:
    """A lane for each outcome and cause that there was."""
    lanes: list[Lane] = []
    found = timeline.failures.found()
    for outcome in OUTCOME_MARKERS:
        for cause in CAUSE_COLOURS:
            kind = f"{outcome} {cause}"
            marks = [mark for mark in found if mark.kind == kind]
            if marks:
                lanes.append((f"{outcome}, {cause}", marks))
    return lanes


def _activity_lanes(timeline: Timeline, words: Words) -> list[Lane]:
    lanes: list[Lane] = []
    if timeline.requests.found():
        lanes.append(("pass asked for", timeline.requests.found()))
    if timeline.passes.found:
        lanes.append(("pass at work", timeline.passes.found))
    if timeline.calls.found:
        lanes.append(("call at the host", timeline.calls.found))
    for load, spans in sorted(timeline.bursts.items()):
        if spans.found:
            lanes.append((f"{words.load(load)}", spans.found))
    if timeline.lost.found:
        lanes.append(("events lost", timeline.lost.found))
    return lanes


def _lanes_panel(axis: "Axes", pen: _Pen, lanes: Sequence[Lane], title: str) -> None:
    names = []
    for place, (name, items) in enumerate(reversed(lanes)):
        names.append(drawing.plain_text(name))
        colours: dict[str, list[tuple[float, float]]] = {}
        points: dict[str, list[float]] = {}
        for item in items:
            if isinstance(item, Mark):
                points.setdefault(_colour(name, item.kind), []).append(pen.seconds(item.time_ns))
            else:
                colours.setdefault(_colour(name, item.kind), []).append(pen.bar(item))
        for colour, bars in colours.items():
            axis.broken_barh(
                bars, (place - LANE_HEIGHT / 2, LANE_HEIGHT), facecolor=colour, linewidth=0
            )
        for colour, times in points.items():
            axis.vlines(
                times, place - LANE_HEIGHT / 2, place + LANE_HEIGHT / 2, color=colour, linewidth=1
            )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(visible=False, axis="y")
    axis.set_ylabel(title)
    if any(name.startswith("load") for name in names):
        _burst_legend(axis)


def _burst_legend(axis: "Axes") -> None:
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=BURST_COLOURS["served"], label="burst"),
        Patch(facecolor=BURST_COLOURS["killed"], label="burst, killed"),
    ]
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(1.01, 0), borderaxespad=0)


def _colour(lane: str, kind: str) -> str:
    if kind in BURST_COLOURS:
        return BURST_COLOURS[kind]
    cause = kind.rpartition(" ")[2]
    if cause in CAUSE_COLOURS:
        return CAUSE_COLOURS[cause]
    return {"call at the host": CALL_COLOUR, "events lost": LOST_COLOUR}.get(lane, WORK_COLOUR)


def _write_notes(axis: "Axes", notes: Sequence[str]) -> None:
    """Notes below the time axis, small; more than fit are counted."""
    if not notes:
        return
    lines = [drawing.plain_text(note)[:NOTE_CHARS_MAX] for note in notes[:LINES_OF_NOTES_MAX]]
    if len(notes) > LINES_OF_NOTES_MAX:
        lines.append(f"and {len(notes) - LINES_OF_NOTES_MAX} more notes")
    label = axis.set_xlabel(
        "\n".join([axis.get_xlabel(), *(f"note: {line}" for line in lines)]), loc="left"
    )
    label.set_parse_math(False)
