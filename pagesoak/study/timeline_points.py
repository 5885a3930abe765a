"""What the picture of a run is drawn from: curves, windows, failures and activity within an
interval, thinned to what a picture can show (`thinning`).

Free pages are those of the zone with most managed pages, since the watermarks are a zone's. The
reporter's events have them as they are. The others have those of all zones: the other zones' part,
known from each sample of the series, is subtracted where these zones are small; where they are
not, the curve has the samples and the reporter's events only. A zone that refused a page of order
0 has at most what was asked of it, which says more than a sample half a second old.
"""

import csv
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.event_log import EVENTS_LOST
from pagesoak.study.report_windows import NO_DEVICE, ReporterTrack, Window
from pagesoak.study.run_events import LINE_CHARS_MAX, RunEvent
from pagesoak.study.run_failures import Failure
from pagesoak.study.run_record import PAGES_MAX, SERIES, RunRecord
from pagesoak.study.thinning import Curve, Interval, Marks, Span, Spans

SMALL_ZONES_SHARE = 16
"""The other zones are small when they manage at most a sixteenth of the main zone's pages."""
SAMPLE_NS_MAX = 3 * NS_PER_SECOND // 4
"""Between two samples that are moments; rows of the series that were merged are further apart."""
ALL_ZONES = frozenset(
    {"stalled", "allocation-failed", "oom", "burst-begin", "burst-taken", "burst-end"}
)
"""Kinds whose free pages are those of all zones."""
OF_THE_WINDOWS_ZONE = frozenset({"report", "drained"})
OF_THEIR_ZONE = frozenset({"isolated", "gate-closed", "isolation-refused", "waiting"})


@dataclass
class Timeline:
    """All that a picture shows."""

    interval: Interval
    free: Curve
    isolated: Curve
    windows: Spans
    passes: Spans
    calls: Spans
    bursts: dict[int, Spans]
    failures: Marks
    requests: Marks
    lost: Spans
    samples: int = 0
    notes: list[str] = field(default_factory=list)


def collect(
    record: RunRecord,
    events: Iterable[RunEvent],
    failures: Iterable[Failure],
    interval: Interval,
    *,
    has_device: bool,
) -> Timeline:
    """Gather what lies within the interval; events by time."""
    timeline = Timeline(
        interval,
        Curve(interval),
        Curve(interval),
        Spans(interval),
        Spans(interval),
        Spans(interval),
        {},
        Marks(interval),
        Marks(interval),
        Spans(interval),
    )
    samples = _samples(record, timeline)
    zone_free = _ZoneFree(record, [(sample.time_ns, sample.others_free) for sample in samples])
    for failure in failures:
        kind = f"{failure.outcome} {failure.cause or 'unknown'}"
        free = zone_free.of_request(
            failure.time_ns, failure.free_pages, failure.order, failure.gfp
        )
        timeline.failures.add(failure.time_ns, free, kind)
    last_ns = _Gathering(timeline, zone_free, has_device=has_device).run(events)
    _fill_in(timeline, samples, 0 if timeline.lost.found else last_ns)
    return timeline


class _Sample(NamedTuple):
    """A row of the series."""

    time_ns: int
    free: int
    """Of the main zone."""
    isolated: int
    others_free: int


def _fill_in(timeline: Timeline, samples: list[_Sample], known_ns: int) -> None:
    """Put samples into the curves where events do not say it all, that is after `known_ns`. Before
    that one for isolated pages would say less, and one for free pages only helps as long as it
    stands for a moment, not for the lowest of several.
    """
    before_ns = None
    for sample in samples:
        moment = before_ns is None or sample.time_ns - before_ns <= SAMPLE_NS_MAX
        before_ns = sample.time_ns
        if sample.time_ns > known_ns:
            timeline.isolated.add(sample.time_ns, sample.isolated)
        if moment or sample.time_ns > known_ns:
            timeline.free.add(sample.time_ns, sample.free)


def _samples(record: RunRecord, timeline: Timeline) -> list[_Sample]:
    """The series."""
    zone, started_ns = record.main_zone, record.started_ns
    path = record.directory / SERIES
    if zone is None or started_ns is None or not path.exists():
        if path.exists():
            timeline.notes.append("series.csv: not used: a summary is missing to place it in time")
        return []
    samples = []
    bad = 0
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(_bounded(file)):
                sample = _sample(row)
                if sample is None:
                    bad += 1
                    continue
                elapsed_ns, free, margin, isolated = sample
                time_ns = started_ns + elapsed_ns
                main = margin + zone.min_pages
                timeline.samples += timeline.interval.holds(time_ns)
                samples.append(_Sample(time_ns, main, isolated, free - main))
    except (OSError, csv.Error) as error:
        timeline.notes.append(f"series.csv: cannot be read: {error}")
    if bad:
        timeline.notes.append(f"series.csv: {bad:,} rows are damaged: left out")
    return samples


def _bounded(file: Iterable[str]) -> Iterator[str]:
    return (line[:LINE_CHARS_MAX].replace("\0", "") for line in file)


def _sample(row: Mapping[str, str | None]) -> tuple[int, int, int, int] | None:
    """Elapsed ns, free pages, margin above min, isolated pages; None of a damaged row."""
    try:
        elapsed_ns = int(float(row["elapsed_seconds"] or "") * NS_PER_SECOND)
        names = ("free_pages", "min_margin_pages", "isolated_pages")
        free, margin, isolated = (int(row[name] or "") for name in names)
    except (KeyError, ValueError, OverflowError, TypeError):
        return None
    sane = all(abs(number) < PAGES_MAX for number in (free, margin, isolated))
    return (elapsed_ns, free, margin, isolated) if sane else None


class _ZoneFree:
    """Free pages of the main zone, from those of all zones."""

    def __init__(self, record: RunRecord, others: list[tuple[int, int]]) -> None:
        main = record.main_zone
        self.zone = None if main is None else record.zones.index(main)
        self._rest = [zone for zone in record.zones if zone is not main]
        self._times = [time_ns for time_ns, _ in others]
        self._others = [pages for _, pages in others]
        managed = sum(zone.managed_pages for zone in self._rest)
        small = main is not None and managed * SMALL_ZONES_SHARE <= main.managed_pages
        self.known = main is None or not self._rest or (small and bool(others))

    def at(self, time_ns: int, all_zones: int) -> int:
        """By the last sample before that time."""
        if not self._others:
            return all_zones
        return max(0, all_zones - self._others[max(0, bisect_right(self._times, time_ns) - 1)])

    def of_request(self, time_ns: int, all_zones: int, order: int, gfp: int) -> int:
        """When a request was refused: no other zone has more than what it asks of a page."""
        if order:
            return self.at(time_ns, all_zones)
        at_least = all_zones - sum(zone.asked_pages(gfp) for zone in self._rest)
        if not self._others:
            return max(0, at_least)
        return max(self.at(time_ns, all_zones), at_least)


class _Gathering:
    """One pass over the events."""

    def __init__(
        self,
        timeline: Timeline,
        zone_free: _ZoneFree,
        *,
        has_device: bool,
    ) -> None:
        self._timeline = timeline
        self._zone_free = zone_free
        self._track = ReporterTrack(has_device=has_device)
        self._pass_ns: int | None = None
        self._bursts: dict[tuple[int, int], RunEvent] = {}

    def run(self, events: Iterable[RunEvent]) -> int:
        """Take in all events; the time of the last."""
        last_ns = self._timeline.interval.from_ns
        for event in events:
            last_ns = max(last_ns, event.time_ns)
            open_before = self._track.window
            ended = self._track.see(event)
            self._isolated(event, open_before, ended)
            self._free(event, ended)
            self._activity(event)
        self._finish(last_ns)
        return last_ns

    def _isolated(self, event: RunEvent, before: Window | None, ended: Window | None) -> None:
        now = self._track.window
        if now is not None and now is not before and event.kind in {"isolated", "report"}:
            if before is None:
                self._timeline.isolated.add(event.time_ns, 0)
            self._timeline.isolated.add(event.time_ns, now.pages)
        if ended is not None:
            self._timeline.isolated.add(event.time_ns, ended.pages)
            self._timeline.isolated.add(event.time_ns, 0)
            self._timeline.windows.add(Span(ended.opened_ns, event.time_ns))

    def _free(self, event: RunEvent, ended: Window | None) -> None:
        fields = event.fields
        if event.kind in ALL_ZONES:
            if self._zone_free.known:
                self._timeline.free.add(event.time_ns, self._of_all_zones(event))
            return
        window = ended or self._track.window
        zone = None
        if event.kind in OF_THEIR_ZONE:
            zone = fields.get("zone")
        elif event.kind in OF_THE_WINDOWS_ZONE and window is not None:
            zone = window.zone
        free_pages = fields.get("free_pages")
        if zone is None or type(free_pages) is not int:
            return
        if self._zone_free.zone in {zone, None}:
            if event.kind == "isolated":
                before = free_pages + fields["pages"]
                self._timeline.free.add(event.time_ns, before)
            self._timeline.free.add(event.time_ns, free_pages)

    def _of_all_zones(self, event: RunEvent) -> int:
        fields = event.fields
        free = fields["free_pages"]
        if "gfp" not in fields:
            return self._zone_free.at(event.time_ns, free)
        return self._zone_free.of_request(event.time_ns, free, fields["order"], fields["gfp"])

    def _activity(self, event: RunEvent) -> None:
        timeline, kind = self._timeline, event.kind
        if kind == "notify":
            timeline.requests.add(event.time_ns, 0, kind)
        elif kind == "pass-start":
            self._pass_ns = event.time_ns
        elif kind == "pass-end" and self._pass_ns is not None:
            timeline.passes.add(Span(self._pass_ns, event.time_ns))
            self._pass_ns = None
        elif kind == "answer":
            window = self._track.window
            report = None if window is None else window.report
            if report is not None:
                timeline.calls.add(Span(report.time_ns, event.time_ns))
        elif kind in {"burst-begin", "burst-end"}:
            self._burst(event)
        elif kind == EVENTS_LOST:
            timeline.lost.add(Span(event.time_ns, event.time_ns))

    def _burst(self, event: RunEvent) -> None:
        key = event.worker, event.fields["load"]
        if event.kind == "burst-begin":
            self._bursts[key] = event
            return
        begin = self._bursts.pop(key, None)
        if begin is not None:
            kind = "killed" if event.fields["killed"] else "served"
            spans = self._timeline.bursts.setdefault(key[1], Spans(self._timeline.interval))
            spans.add(Span(begin.time_ns, event.time_ns, kind))

    def _finish(self, last_ns: int) -> None:
        """What was still open when the record ended."""
        timeline = self._timeline
        window = self._track.window
        end_ns = timeline.interval.to_ns
        open_then = window is not None and window.opened_ns <= end_ns
        if last_ns <= end_ns and self._track.state != NO_DEVICE:
            timeline.isolated.add(end_ns, window.pages if window is not None and open_then else 0)
        if window is not None:
            timeline.isolated.add(last_ns, window.pages)
            timeline.windows.add(Span(window.opened_ns, last_ns))
            if window.report is not None and window.answer is None:
                timeline.calls.add(Span(window.report.time_ns, last_ns))
        if self._pass_ns is not None:
            timeline.passes.add(Span(self._pass_ns, last_ns))
        for (_, load), begin in self._bursts.items():
            spans = timeline.bursts.setdefault(load, Spans(timeline.interval))
            spans.add(Span(begin.time_ns, last_ns, "served"))
