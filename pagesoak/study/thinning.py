"""Curves, spans and marks of any number, thinned to what a picture can show.

The interval is cut into buckets, about one to a column of pixels. A curve keeps of each bucket its
first, lowest, highest and last point, so that no extreme is lost and a million points look as they
would if all were drawn. Spans that follow each other closer than a bucket become one. Marks (a
kill, a stall) are kept one to a bucket and kind, with their number.
"""

from typing import NamedTuple

BUCKETS = 1200
"""Columns of a curve: a little more than its picture has pixels."""


class Span(NamedTuple):
    """From when to when, in ns; `kind` says what."""

    from_ns: int
    to_ns: int
    kind: str = ""


class Mark(NamedTuple):
    """Something that happened so often in a bucket, first at this time."""

    time_ns: int
    value: int
    kind: str
    times: int


class Interval(NamedTuple):
    """What is shown, in ns on the clock of the events."""

    from_ns: int
    to_ns: int

    def bucket(self, time_ns: int) -> int:
        """The column of a time within."""
        length_ns = max(1, self.to_ns - self.from_ns)
        return min(BUCKETS - 1, (time_ns - self.from_ns) * BUCKETS // length_ns)

    def holds(self, time_ns: int) -> bool:
        """Whether a time lies within."""
        return self.from_ns <= time_ns <= self.to_ns


class Curve:
    """Points in any order, thinned to the extremes of each bucket."""

    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._buckets: dict[int, list[tuple[int, int]]] = {}
        self._before: tuple[int, int] | None = None
        self._after: tuple[int, int] | None = None

    def add(self, time_ns: int, value: int) -> None:
        """A point; of those outside the nearest on each side are kept, for the line to the rim."""
        point = time_ns, value
        if time_ns < self._interval.from_ns:
            if self._before is None or point[0] >= self._before[0]:
                self._before = point
        elif time_ns > self._interval.to_ns:
            if self._after is None or point[0] < self._after[0]:
                self._after = point
        else:
            self._add_inside(point)

    def _add_inside(self, point: tuple[int, int]) -> None:
        kept = self._buckets.get(self._interval.bucket(point[0]))
        if kept is None:
            self._buckets[self._interval.bucket(point[0])] = [point] * 4
            return
        if point[0] < kept[0][0]:
            kept[0] = point
        if point[1] < kept[1][1]:
            kept[1] = point
        if point[1] > kept[2][1]:
            kept[2] = point
        if point[0] >= kept[3][0]:
            kept[3] = point

    def points(self) -> list[tuple[int, int]]:
        """The points by time."""
        rim = [point for point in (self._before, self._after) if point is not None]
        inside: list[tuple[int, int]] = []
        for kept in self._buckets.values():
            first, *middle, last = kept
            between = sorted(point for point in middle if point not in {first, last})
            inside += [first, *dict.fromkeys(between)]
            if between or last != first:
                inside.append(last)
        return sorted([*inside, *rim], key=lambda point: point[0])


class Spans:
    """Spans by time; neighbours closer than a bucket become one."""

    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._apart_ns = max(1, (interval.to_ns - interval.from_ns) // BUCKETS)
        self.found: list[Span] = []
        self.count = 0

    def add(self, span: Span) -> None:
        """One more, which does not begin before the last one."""
        if span.to_ns < self._interval.from_ns or span.from_ns > self._interval.to_ns:
            return
        self.count += 1
        last = self.found[-1] if self.found else None
        near = last is not None and span.from_ns - last.to_ns < self._apart_ns
        if last is not None and near and last.kind == span.kind:
            self.found[-1] = last._replace(to_ns=max(last.to_ns, span.to_ns))
        else:
            self.found.append(span)


class Marks:
    """Marks, one to a bucket and kind."""

    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._found: dict[tuple[int, str], Mark] = {}

    def add(self, time_ns: int, value: int, kind: str) -> None:
        """One more; of a bucket the lowest value is kept."""
        if not self._interval.holds(time_ns):
            return
        key = self._interval.bucket(time_ns), kind
        before = self._found.get(key, Mark(time_ns, value, kind, 0))
        self._found[key] = before._replace(value=min(before.value, value), times=before.times + 1)

    def found(self) -> list[Mark]:
        """All, by time."""
        return sorted(self._found.values())
