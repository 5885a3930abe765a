"""`pagesoak timeline`: a run's picture, over all of it or an interval, or around one failure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagesoak.base.errors import InputError
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study import drawing
from pagesoak.study.explain import NO_DEVICE_POLICY, Explanation, explain_run
from pagesoak.study.run_events import EventReader
from pagesoak.study.run_record import RunRecord
from pagesoak.study.thinning import Interval
from pagesoak.study.timeline_picture import draw
from pagesoak.study.timeline_points import Timeline, collect

AROUND_SHARE = 4
"""Around a failure as much is shown as the window took, and a quarter of it on each side."""
AROUND_NS_MIN = NS_PER_SECOND // 4
"""And at least so much on each side of a failure."""
SHORTEST_NS = 1_000
"""An interval has a length: a microsecond at least."""


@dataclass(frozen=True)
class Picture:
    """A run's picture, ready to be written."""

    explanation: Explanation
    timeline: Timeline
    notes: tuple[str, ...]

    def write(self, paths: list[Path], key: str) -> None:
        """Draw it into files; InputError (with the option's name as key) if one cannot be."""
        for path in paths:
            drawing.check_picture_file(path, key)
        words = self.explanation.words
        figure = draw(self.explanation.record, self.timeline, words, self.notes)
        for path in paths:
            drawing.write_picture(figure, path, key)

    def document(self, paths: list[Path]) -> dict[str, Any]:
        """What was drawn, as one object (docs/explain.md)."""
        start_ns = self.explanation.words.start_ns
        timeline, interval = self.timeline, self.timeline.interval
        failures: dict[str, int] = {}
        for mark in timeline.failures.found():
            failures[mark.kind] = failures.get(mark.kind, 0) + mark.times
        zone = self.explanation.record.main_zone
        return {
            "run": self.explanation.record.directory.name,
            "files": [str(path) for path in paths],
            "from_seconds": (interval.from_ns - start_ns) / NS_PER_SECOND,
            "to_seconds": (interval.to_ns - start_ns) / NS_PER_SECOND,
            "zone": None if zone is None else zone.name,
            "free_points": len(timeline.free.points()),
            "isolated_points": len(timeline.isolated.points()),
            "windows": timeline.windows.count,
            "passes": timeline.passes.count,
            "calls": timeline.calls.count,
            "bursts": sum(spans.count for spans in timeline.bursts.values()),
            "failures": failures,
            "notes": list(self.notes),
        }


def picture_of(
    record: RunRecord,
    from_ns: int | None = None,
    to_ns: int | None = None,
    failure: int | None = None,
) -> Picture:
    """The picture of a run between two times of the soak's clock, or around failure `failure`.

    Raises InputError when the interval is none, or lies outside the run.
    """
    explanation = explain_run(record, failure, told=failure is not None)
    interval = _interval(explanation, from_ns, to_ns)
    reader = EventReader(record)
    has_device = record.policy != NO_DEVICE_POLICY
    failures = explanation.failures
    timeline = collect(record, reader, failures, interval, has_device=has_device)
    return Picture(explanation, timeline, (*explanation.notes, *timeline.notes))


def _interval(explanation: Explanation, from_ns: int | None, to_ns: int | None) -> Interval:
    record, history, words = explanation.record, explanation.history, explanation.words
    begin_ns, end_ns = words.start_ns, words.start_ns + (record.duration_ns or 0)
    if record.duration_ns is None and history.last_ns is not None:
        end_ns = max(begin_ns, history.last_ns)
    story = explanation.story
    if story is not None:
        opened_ns = closed_ns = story.failure.time_ns
        if story.window is not None:
            opened_ns = story.window.opened_ns
            closed_ns = opened_ns + story.window.length_ns(closed_ns)
        side_ns = max(AROUND_NS_MIN, (closed_ns - opened_ns) // AROUND_SHARE)
        begin_ns, end_ns = opened_ns - side_ns, max(closed_ns, story.failure.time_ns) + side_ns
    if from_ns is not None:
        begin_ns = words.start_ns + from_ns
    if to_ns is not None:
        end_ns = words.start_ns + to_ns
    if end_ns < begin_ns + SHORTEST_NS:
        if from_ns is None and to_ns is None:  # an empty run
            return Interval(begin_ns, begin_ns + NS_PER_SECOND)
        length = (end_ns - words.start_ns) / NS_PER_SECOND
        begins = (begin_ns - words.start_ns) / NS_PER_SECOND
        said = f"nothing lies between {begins:g} s and {length:g} s"
        raise InputError(said, key="--from" if to_ns is None else "--to")
    return Interval(begin_ns, end_ns)
