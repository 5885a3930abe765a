"""What the live page shows of one run, as one document: its state and figures, curves thinned to
what a screen has columns, windows, failures, and what happened last.

A page asks each second and draws what it gets, so neither the page nor an answer grows with the
run. Whoever reads a soak of a week reads the series (10,000 rows at most) and what the events have
become (`view_events`).
"""

import asyncio
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base import layout
from pagesoak.daemon.live_run import LiveRun
from pagesoak.daemon.record import Record, read_summary
from pagesoak.daemon.view_events import EventView, Windows, together
from pagesoak.engine.summary import ZONE_NAMES

COLUMNS = 400
"""Of a curve: each gives at most four points, and a chart is some 1,000 pixels wide."""
SPANS_MAX = 800
"""Windows in an answer."""
SERIES_BYTES_MAX = 4 << 20
"""Of series.csv, which has one MB at most."""
VIEWS_MAX = 8
"""Runs whose events are kept in mind: each takes a MB at most."""
SPAN_SECONDS_MIN = 0.1
"""The shortest interval that is shown."""


class Row(NamedTuple):
    """A point of the series: free pages of the largest zone, isolated pages of all."""

    seconds: float
    free_pages: int
    isolated_pages: int


class Marks(NamedTuple):
    """The largest zone and its watermarks, in pages; the name is empty where none is known."""

    zone: str
    min: int
    low: int
    high: int


NO_MARKS = Marks("", 0, 0, 0)


class RunView:
    """One run, as the page has looked at it so far. Not for several threads at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._events: EventView | None = None
        self._series: tuple[tuple[int, int], list[tuple[float, int, int, int]]] = ((0, 0), [])

    def document(self, facts: "Facts", shown: tuple[float, float]) -> dict[str, Any]:
        """Curves, windows and events between two times; `shown` may end at infinity: at the
        newest. Before the soak's clock has started there is nothing to be placed in time.
        """
        marks, now = facts.marks, facts.now
        events = self._events or EventView(self._directory / "events.jsonl", facts.started_ns)
        if facts.over or facts.started_ns is not None:
            self._events = events
            events.look()
        rows = list(self._rows(marks))
        if now is not None:
            rows.append(now)
        ends = [row.seconds for row in rows[-1:]]
        ends += [one.to_seconds for one in events.windows[-1:]]
        last = max(ends, default=0.0)
        begin, end = shown[0], min(shown[1], max(last, shown[0] + SPAN_SECONDS_MIN))
        points = thinned([row for row in rows if begin <= row.seconds <= end], begin, end)
        isolated = isolated_points(points, events.windows, begin, end)
        return {
            "from_seconds": begin,
            "to_seconds": end,
            "last_seconds": last,
            "zone": marks.zone,
            "watermark_pages": {"min": marks.min, "low": marks.low, "high": marks.high},
            "seconds": [round(row.seconds, 3) for row in points],
            "free_pages": [row.free_pages for row in points],
            "isolated_seconds": [round(seconds, 4) for seconds, _ in isolated],
            "isolated_pages": [pages for _, pages in isolated],
            "windows": spans(events.windows, begin, end),
            "failure_seconds": _marks(events.marks, begin, end),
            "failures": [each._asdict() for each in reversed(events.failures)],
            "events": [each._asdict() for each in reversed(events.feed)],
            "behind": round(events.behind, 3),
        }

    def _rows(self, marks: Marks) -> Iterator[Row]:
        for seconds, free, margin, isolated in self._read():
            yield Row(seconds, margin + marks.min if marks.zone else free, isolated)

    def _read(self) -> list[tuple[float, int, int, int]]:
        """The series, read again only when its file has changed."""
        path = self._directory / "series.csv"
        try:
            status = path.stat()
        except OSError:
            return []
        stamp = status.st_mtime_ns, status.st_size
        if stamp != self._series[0]:
            self._series = stamp, list(_series(path))
        return self._series[1]


def _series(path: Path) -> Iterator[tuple[float, int, int, int]]:
    """Rows that are whole: the last one may be being written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            text = file.read(SERIES_BYTES_MAX)
    except OSError:
        return
    whole = text[: text.rfind("\n") + 1]
    for row in csv.DictReader(whole.splitlines()):
        try:
            yield (
                float(row["elapsed_seconds"]),
                int(row["free_pages"]),
                int(row["min_margin_pages"]),
                int(row["isolated_pages"]),
            )
        except (KeyError, ValueError, TypeError):
            continue


def thinned(rows: Sequence[Row], begin: float, end: float) -> list[Row]:
    """Of each column its first and last row, and those with least free and most isolated."""
    columns: dict[int, list[Row]] = {}
    width = max(end - begin, SPAN_SECONDS_MIN) / COLUMNS
    for row in rows:
        columns.setdefault(int((row.seconds - begin) / width), []).append(row)
    found: list[Row] = []
    for inside in columns.values():
        kept = {
            inside[0],
            inside[-1],
            min(inside, key=lambda row: row.free_pages),
            max(inside, key=lambda row: row.isolated_pages),
        }
        found += sorted(kept)
    return found


def isolated_points(
    rows: Sequence[Row], windows: Sequence[Windows], begin: float, end: float
) -> list[tuple[float, int]]:
    """Times and isolated pages, each of which holds up to the next: samples, and between them the
    windows, most of which begin and end without being met by one. Of each column the first and the
    last point, and the highest.
    """
    found = [(row.seconds, row.isolated_pages) for row in rows]
    for each in windows:
        if each.to_seconds >= begin and each.from_seconds <= end:
            found.append((max(each.from_seconds, begin), each.pages))
            found.append((min(each.to_seconds, end), 0))
    columns: dict[int, list[tuple[float, int]]] = {}
    width = max(end - begin, SPAN_SECONDS_MIN) / COLUMNS
    for point in sorted(found, key=lambda point: point[0]):
        columns.setdefault(int((point[0] - begin) / width), []).append(point)
    return [
        point
        for inside in columns.values()
        for point in sorted({inside[0], max(inside, key=lambda point: point[1]), inside[-1]})
    ]


def spans(windows: Sequence[Windows], begin: float, end: float) -> list[tuple[float, ...]]:
    """The windows of an interval: from, to, and the share of that in which one was open. Those
    closer than a column of the picture are one.
    """
    apart = max(end - begin, SPAN_SECONDS_MIN) / SPANS_MAX
    found: list[Windows] = []
    for each in windows:
        if each.to_seconds < begin or each.from_seconds > end:
            continue
        if found and each.from_seconds - found[-1].to_seconds < apart:
            found[-1] = together(found[-1], each)
        else:
            found.append(each)
    return [(round(one.from_seconds, 4), round(one.to_seconds, 4), _share(one)) for one in found]


def _share(one: Windows) -> float:
    length = one.to_seconds - one.from_seconds
    return round(min(1.0, one.covered_seconds / length), 3) if length > 0 else 1.0


def _marks(
    marks: Sequence[tuple[float, str]], begin: float, end: float
) -> list[tuple[float, str]]:
    """Times of failures, at most one of an outcome to a column."""
    width = max(end - begin, SPAN_SECONDS_MIN) / SPANS_MAX
    found: dict[tuple[int, str], tuple[float, str]] = {}
    for seconds, outcome in marks:
        if begin <= seconds <= end:
            found.setdefault((int((seconds - begin) / width), outcome), (seconds, outcome))
    return sorted(found.values())


# ---- where the watermarks and the newest point come from ----


class Facts(NamedTuple):
    """What a view cannot read from the run's series and events. `now` is the newest point of a run
    that goes on; `started_ns` when its clock started, monotonic, if that is known.
    """

    marks: Marks
    now: Row | None
    started_ns: int | None
    over: bool


def live_facts(live: LiveRun, seconds: float | None) -> Facts:
    """Of a run that goes on, at a time of its clock."""
    reading = live.reading()
    started_ns = live.started_ns or None
    if reading is None or not reading.zones:
        return Facts(NO_MARKS, None, started_ns, over=False)
    zone = max(reading.zones, key=lambda words: words[layout.Z_MANAGED])
    marks = Marks(
        ZONE_NAMES[zone[layout.Z_INDEX]],
        zone[layout.Z_WMARK_MIN],
        zone[layout.Z_WMARK_LOW],
        zone[layout.Z_WMARK_HIGH],
    )
    isolated = sum(words[layout.Z_ISOLATED] for words in reading.zones)
    now = None if seconds is None else Row(seconds, zone[layout.Z_FREE_PAGES], isolated)
    return Facts(marks, now, started_ns, over=False)


def kept_facts(record: Record) -> Facts:
    """Of a run that is over, as its summary says."""
    try:
        summary = read_summary(Path(record.directory))
        zones: Sequence[Mapping[str, Any]] = summary["zones"]
        zone = max(zones, key=lambda each: int(each["managed_pages"]))
        marks = zone["watermark_pages"]
        started = summary["started_monotonic_ns"]
        found = Marks(str(zone["zone"]), int(marks["min"]), int(marks["low"]), int(marks["high"]))
        return Facts(found, None, started if type(started) is int else None, over=True)
    except (OSError, ValueError, KeyError, TypeError):
        return Facts(NO_MARKS, None, None, over=True)


# ---- the views that are kept ----


class Views:
    """Views of the runs that were looked at last: going on where a look ended is what makes them
    fast, and few of them are looked at together.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], tuple[RunView, asyncio.Lock]] = {}

    async def document(
        self, record: Record, facts: Facts, shown: tuple[float, float]
    ) -> dict[str, Any]:
        """The view of a run; read in a thread, so that nobody waits for a long file."""
        key = record.directory, record.started
        fresh = RunView(Path(record.directory)), asyncio.Lock()
        view, lock = self._kept[key] = self._kept.pop(key, fresh)
        for oldest in list(self._kept)[:-VIEWS_MAX]:
            del self._kept[oldest]
        async with lock:
            return await asyncio.to_thread(view.document, facts, shown)
