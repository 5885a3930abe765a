"""What the live page shows of a run's events: windows, failures, and the last that happened; read
on from where the last look ended, and bounded however long the run is.

Times are seconds on the soak's clock, which stands still in a pause, while events are stamped on
the machine's. Of windows and failures there may be hundreds of thousands in a week: when there are
too many, those within a certain time become one, and that time grows with the run, so that the
whole week stays in the picture, everywhere as fine. Only lines of a kind that is shown are parsed.
"""

import json
import math
import os
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.statistics import CAUSES
from pagesoak.base.units import MIB, NS_PER_SECOND, PAGE_SHIFT
from pagesoak.engine.event_log import ROUTINE

LOOK_BYTES_MAX = 8 * MIB
"""Read in one look: a tenth of a second's work. A long file is caught up with in several."""
WINDOWS_MAX = 8_192
"""Kept apart; far more than a picture has columns."""
APART_SECONDS_MIN = 0.001
"""The first time apart of windows that become one, in a run without a length."""
FAILURES_SHOWN_MAX = 50
FEED_MAX = 100
"""More than anybody reads while it goes on; `pagesoak events` has them all."""
LINE_BYTES_MAX = 1 << 16
"""A line that is longer is none of ours."""

FAILED = {"oom": "killed", "allocation-failed": "got nothing", "stalled": "stalled"}
"""Kinds that are failures, and how the page calls them."""
PARSED = frozenset({"answer", "drained", *FAILED})
"""Kinds that are read although the feed leaves them out, as it does with all that is routine: they
would drive what is told out of it.
"""
BECAUSE = {
    "isolated": "because pages were isolated: with them it would have passed",
    "fragmented": "because no free block was large enough",
    "exhausted": "because too little was left, isolated pages included",
    "unknown": "for a reason that is not on record",
}
_KIND = b'"kind": "'


class Failure(NamedTuple):
    """A request that did not get what it asked for."""

    seconds: float
    outcome: str
    cause: str
    text: str


class Windows(NamedTuple):
    """One window, or several that are drawn as one: `covered_seconds` of its time were windows,
    and at most `pages` were isolated.
    """

    from_seconds: float
    to_seconds: float
    covered_seconds: float
    pages: int


class Happened(NamedTuple):
    """A line of the feed."""

    seconds: float
    kind: str
    text: str


class EventView:
    """One run's events, as far as they have been read."""

    def __init__(self, path: Path, started_ns: int | None) -> None:
        self._path = path
        self._started_ns = started_ns
        self._paused_ns = 0
        self._paused_at_ns: int | None = None
        self._place = 0
        self._rest = b""
        self._answered: tuple[int, int, int] | None = None
        self.size = 0
        self.windows: list[Windows] = []
        self._apart_seconds = 0.0
        """Windows that begin closer together than this are one."""
        self.failures: deque[Failure] = deque(maxlen=FAILURES_SHOWN_MAX)
        self.feed: deque[Happened] = deque(maxlen=FEED_MAX)
        self.marks: list[tuple[float, str]] = []
        """Times and outcomes of failures, at most one of an outcome within a certain time."""

    @property
    def behind(self) -> float:
        """Share of the file that has not been read yet."""
        return 0.0 if not self.size else max(0.0, 1.0 - self._place / self.size)

    def look(self) -> None:
        """Read on, so much as one look may."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # nothing has happened yet, or it is no file of a run
            return
        try:
            self.size = os.fstat(descriptor).st_size
            piece = os.pread(descriptor, LOOK_BYTES_MAX, self._place)
        finally:
            os.close(descriptor)
        self._place += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[:LINE_BYTES_MAX]
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        _, found, after = line[:LINE_BYTES_MAX].partition(_KIND)
        kind = after.partition(b'"')[0].decode("latin-1") if found else ""
        if self._started_ns is not None and kind in ROUTINE and kind not in PARSED:
            return
        try:
            event = json.loads(line)
            time_ns = int(event["monotonic_ns"])
            if self._started_ns is None:
                self._started_ns = time_ns
            self._take(str(event["kind"]), event, time_ns)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return  # torn or damaged: `pagesoak explain` says so; the page shows the others

    def _take(self, kind: str, event: dict[str, Any], time_ns: int) -> None:
        seconds = self._seconds(time_ns)
        if kind == "answer":
            self._answered = int(event["request"]), time_ns, int(event["window_ns"])
        elif kind == "drained" and self._answered is not None:
            request, answered_ns, window_ns = self._answered
            self._answered = None
            if int(event["request"]) != request:  # what lies between is not on record
                return
            opened = self._seconds(answered_ns - window_ns)
            self._add(Windows(opened, seconds, seconds - opened, int(event["pages"])))
        elif kind in FAILED:
            failure = told(kind, event, seconds)
            self.failures.append(failure)
            self.marks.append((seconds, failure.outcome))
            if len(self.marks) > WINDOWS_MAX:
                self.marks = thinned_marks(self.marks, _doubled(_fitting(seconds, len(FAILED))))
        elif kind == "pause":
            self._paused_at_ns = time_ns
        elif kind == "resume":
            self._paused_at_ns = None
            self._paused_ns += int(float(event["paused_seconds"]) * NS_PER_SECOND)
        if kind not in ROUTINE:
            self.feed.append(Happened(seconds, kind, in_words(event)))

    def _add(self, window: Windows) -> None:
        last = self.windows[-1:]
        if last and window.from_seconds - last[0].from_seconds < self._apart_seconds:
            self.windows[-1] = together(last[0], window)
            return
        self.windows.append(window)
        if len(self.windows) > WINDOWS_MAX:
            self._apart_seconds = max(2 * self._apart_seconds, _fitting(window.from_seconds))
            self.windows = merged_windows(self.windows, self._apart_seconds)

    def _seconds(self, time_ns: int) -> float:
        if self._paused_at_ns is not None:
            time_ns = min(time_ns, self._paused_at_ns)
        return (time_ns - (self._started_ns or 0) - self._paused_ns) / NS_PER_SECOND


def _fitting(elapsed_seconds: float, kinds: int = 1) -> float:
    """A time apart with which half of `WINDOWS_MAX` fit into a run so far, all kinds together."""
    return max(2 * kinds * elapsed_seconds / WINDOWS_MAX, APART_SECONDS_MIN)


def _doubled(apart_seconds: float) -> float:
    """At least so much, and the first time apart doubled: what has been thinned is thinned again
    and again, and only where new intervals are made of whole old ones no gap grows by that.
    """
    return APART_SECONDS_MIN * float(2 ** math.ceil(math.log2(apart_seconds / APART_SECONDS_MIN)))


def merged_windows(windows: list[Windows], apart_seconds: float) -> list[Windows]:
    """Those that begin closer together than this become one."""
    merged: list[Windows] = []
    for window in windows:
        if merged and window.from_seconds - merged[-1].from_seconds < apart_seconds:
            merged[-1] = together(merged[-1], window)
        else:
            merged.append(window)
    return merged


def thinned_marks(marks: list[tuple[float, str]], apart_seconds: float) -> list[tuple[float, str]]:
    """Of each outcome those that are so far apart."""
    kept: dict[tuple[int, str], tuple[float, str]] = {}
    for seconds, outcome in marks:
        kept.setdefault((int(seconds / apart_seconds), outcome), (seconds, outcome))
    return sorted(kept.values())


def together(first: Windows, second: Windows) -> Windows:
    """From the first's begin to the second's end."""
    covered = first.covered_seconds + second.covered_seconds
    pages = max(first.pages, second.pages)
    return Windows(first.from_seconds, second.to_seconds, covered, pages)


def told(kind: str, event: dict[str, Any], seconds: float) -> Failure:
    """A failure in a sentence."""
    number = event.get("cause")
    known = type(number) is int and 0 <= number < len(CAUSES)
    cause = CAUSES[number] if known and number is not None else "unknown"
    outcome = FAILED[kind]
    free, isolated = int(event["free_pages"]), int(event["isolated_pages"])
    order = int(event["order"])
    what = "a page" if order == 0 else f"{1 << order} pages in one block"
    verb = {"killed": "called the OOM killer", "got nothing": "got nothing"}.get(
        outcome, "had to reclaim by itself"
    )
    margin = event.get("margin_pages")
    short = f"; margin {margin:,} pages" if type(margin) is int else ""
    text = (
        f"A request for {what} on worker {int(event['worker'])} {verb} {BECAUSE[cause]}. "
        f"{pages_text(free)} free, {pages_text(isolated)} isolated{short}."
    )
    return Failure(seconds, outcome, cause, text)


def pages_text(pages: int) -> str:
    """`1,137 pages (4.4 MiB)`."""
    return f"{pages:,} pages ({(pages << PAGE_SHIFT) / MIB:,.1f} MiB)"


def in_words(event: dict[str, Any]) -> str:
    """The fields of an event, for the feed."""
    left_out = {"monotonic_ns", "kind"}
    return ", ".join(
        f"{name} {value}"[:LINE_BYTES_MAX] for name, value in event.items() if name not in left_out
    )[:400]
