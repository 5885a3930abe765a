"""What one run of a comparison left behind, and the figures that are compared.

Counts and extremes come from the run's summary; lengths of windows, times of kills, and the
course of headroom and isolated pages from its events and its series. The course is kept in a fixed
number of stretches, each with its lowest headroom and its most isolated pages: samples of the
series fall between two windows and two bursts, so what the events say at an isolation, a report, a
burst at its height and a failure is taken in, too. A burst's event counts the free pages of all
zones: those of the others are taken to be as in the sample before, and the summary, which misses
nothing, says below what it cannot have been.
"""

import csv
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.units import INT64_MAX, NS_PER_SECOND

STRETCHES = 120
"""A soak's time in so many parts: in each of a minute's there is a sample of the series."""
WANTED = (
    *("isolated", "report", "drained"),
    *("burst-taken", "oom", "allocation-failed", "stalled"),
)
"""Kinds of events that are read."""


@dataclass(frozen=True)
class Run:
    """One run as it is compared."""

    seed: int
    summary: dict[str, Any]
    windows_ns: tuple[int, ...]
    """The length of each window, from the first isolation until all is back."""
    kills_at_ns: tuple[int, ...]
    """On the soak's clock."""
    headroom_pages: tuple[int | None, ...]
    """By stretch, the least above min in the zone with most managed pages; None: not known."""
    isolated_pages: tuple[int, ...]
    """By stretch, the most isolated at once."""


class Figure(NamedTuple):
    """A figure of one run that is compared seed by seed: a whole number of `unit`."""

    key: str
    title: str
    unit: str
    value: Callable[[Run], int]
    of_kills: bool = False
    """Whether it counts what must not happen: these are said first."""


def _of(*path: str) -> Callable[[Run], int]:
    """The figure of the summary at a dotted place."""

    def value(run: Run) -> int:
        found: Any = run.summary
        for name in path:
            found = found[name]
        return int(found)

    return value


def quantile_ns(windows_ns: tuple[int, ...], percent: int) -> int:
    """So many percent of the windows were at most this long, exact; 0 without a window."""
    ordered = sorted(windows_ns)
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else 0


def reported_at_end_pages(run: Run) -> int:
    """Pages in free blocks that the host knows to be free when the run ends."""
    return sum(int(zone["reported_pages"]) for zone in run.summary["zones"])


def oom_waits_ns(run: Run) -> int:
    """How long requests waited for a window to close instead of killing, together."""
    seconds: float = run.summary["oom_waits"]["seconds"]
    return round(seconds * NS_PER_SECOND)


FIGURES = (
    Figure("oom_isolated", "kills, isolated", "kills", _of("oom_events", "isolated"), True),
    Figure("oom_fragmented", "kills, fragmented", "kills", _of("oom_events", "fragmented"), True),
    Figure("oom_exhausted", "kills, exhausted", "kills", _of("oom_events", "exhausted"), True),
    Figure("bursts_killed", "bursts killed", "bursts", _of("bursts", "killed"), True),
    Figure("bursts_run", "bursts run", "bursts", _of("bursts", "run")),
    Figure(
        "failures_isolated", "failures, isolated", "requests", _of("alloc_failures", "isolated")
    ),
    Figure("stalls", "stalls", "times", _of("stalls")),
    Figure(
        "margin_min_pages",
        "closest to min",
        "pages",
        _of("watermark_margin_pages_min", "min"),
    ),
    Figure("free_pages_min", "lowest free", "pages", _of("free_pages_min")),
    Figure("isolated_pages_max", "most isolated", "pages", _of("isolated_pages_max")),
    Figure("windows", "windows", "windows", lambda run: len(run.windows_ns)),
    Figure("window_p50_ns", "window, median", "ns", lambda run: quantile_ns(run.windows_ns, 50)),
    Figure("window_p99_ns", "window, 99 %", "ns", lambda run: quantile_ns(run.windows_ns, 99)),
    Figure("window_max_ns", "window, longest", "ns", lambda run: max(run.windows_ns, default=0)),
    Figure("window_open_ns", "time in windows", "ns", lambda run: sum(run.windows_ns)),
    Figure("report_calls", "report calls", "calls", _of("report_calls")),
    Figure("passes", "passes", "passes", _of("passes")),
    Figure("reported_pages", "reported", "pages", _of("reported_pages")),
    Figure("punched_bytes", "given back", "bytes", _of("punched_bytes")),
    Figure("reported_at_end_pages", "Reported at the end", "pages", reported_at_end_pages),
    Figure("reporter_waits", "reporter's waits", "waits", _of("reporter_waits")),
    Figure("oom_waits", "waits before a kill", "waits", _of("oom_waits", "count")),
    Figure("oom_waits_ns", "time waited then", "ns", oom_waits_ns),
)


def read_run(seed: int, summary: dict[str, Any], duration_ns: int) -> Run:
    """The run whose directory the summary names, of a soak so long."""
    directory = Path(summary["directory"])
    course = _Course(summary, duration_ns)
    course.take_series(directory / "series.csv")
    ended_ns = int(summary["duration_seconds"] * NS_PER_SECOND)
    windows_ns: list[int] = []
    kills_at_ns: list[int] = []
    opened_ns: int | None = None
    for event in _events(directory / "events.jsonl"):
        at_ns = event["monotonic_ns"] - (summary["started_monotonic_ns"] or 0)
        kind = event["kind"]
        if kind == "isolated":
            opened_ns = at_ns if opened_ns is None else opened_ns
            course.take_free(event["zone"], at_ns, event["free_pages"])
        elif kind == "report":
            course.begin_window(at_ns, event["isolated_pages"])
        elif kind == "drained":
            if opened_ns is not None:
                course.end_window(opened_ns, at_ns)
                if at_ns <= ended_ns:  # later ones are cut short by the end
                    windows_ns.append(at_ns - opened_ns)
            opened_ns = None
        elif kind == "burst-taken":
            course.take_free_of_all(at_ns, event["free_pages"])
        else:
            course.take_margin(at_ns, event["margin_pages"])
            if kind == "oom":
                kills_at_ns.append(at_ns)
    return Run(
        seed,
        summary,
        tuple(windows_ns),
        tuple(kills_at_ns),
        tuple(course.headroom_pages),
        tuple(course.isolated_pages),
    )


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of the wanted kinds, in order."""
    if not path.exists():  # nothing happened
        return
    marks = tuple(f'"kind": "{kind}"' for kind in WANTED)
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if any(mark in line for mark in marks):
                yield json.loads(line)


class _Course:
    """Headroom and isolated pages of a run by stretch, while they are gathered."""

    def __init__(self, summary: dict[str, Any], duration_ns: int) -> None:
        zones = summary["zones"]
        self._largest = max(range(len(zones)), key=lambda number: zones[number]["managed_pages"])
        self._min_pages = zones[self._largest]["watermark_pages"]["min"]
        self._least = summary["watermark_margin_pages_min"]["min"]
        self._stretch_ns = max(1, -(-duration_ns // STRETCHES))
        self._pending_pages = 0
        self._others: list[tuple[int, int]] = []
        self.headroom_pages: list[int | None] = [None] * STRETCHES
        self.isolated_pages = [0] * STRETCHES

    def take_series(self, path: Path) -> None:
        """The samples; a stretch without one, and without an event, stays unknown."""
        if not path.exists():  # it ended before the first
            return
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                at_ns = int(float(row["elapsed_seconds"]) * NS_PER_SECOND)
                margin = int(row["min_margin_pages"])
                self.take_margin(at_ns, margin)
                self._others.append((at_ns, int(row["free_pages"]) - margin - self._min_pages))
                self._take_isolated(at_ns, int(row["isolated_pages"]))

    def take_free(self, zone: int, at_ns: int, free_pages: int) -> None:
        """Free pages of a zone, by its number from the lowest address up."""
        if zone == self._largest:
            self.take_margin(at_ns, free_pages - self._min_pages)

    def take_free_of_all(self, at_ns: int, free_pages: int) -> None:
        """Free pages of all zones together; nothing is known before the first sample."""
        before = bisect_right(self._others, (at_ns, INT64_MAX))
        if before:
            _, others = self._others[before - 1]
            self.take_margin(at_ns, max(self._least, free_pages - others - self._min_pages))

    def take_margin(self, at_ns: int, pages: int) -> None:
        """Pages above min at a moment."""
        stretch = self._stretch(at_ns)
        before = self.headroom_pages[stretch]
        self.headroom_pages[stretch] = pages if before is None else min(before, pages)

    def begin_window(self, at_ns: int, pages: int) -> None:
        """So many pages are isolated from now on."""
        self._pending_pages = pages
        self._take_isolated(at_ns, pages)

    def end_window(self, opened_ns: int, at_ns: int) -> None:
        """They were, until now."""
        for stretch in range(self._stretch(opened_ns), self._stretch(at_ns) + 1):
            before = self.isolated_pages[stretch]
            self.isolated_pages[stretch] = max(before, self._pending_pages)

    def _take_isolated(self, at_ns: int, pages: int) -> None:
        stretch = self._stretch(at_ns)
        self.isolated_pages[stretch] = max(self.isolated_pages[stretch], pages)

    def _stretch(self, at_ns: int) -> int:
        return max(0, min(STRETCHES - 1, at_ns // self._stretch_ns))
