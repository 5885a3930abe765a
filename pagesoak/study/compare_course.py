"""The course of a comparison over a soak's time, as plots show it: one seed as it was, and the
extremes of all seeds beside it.

The extremes alone would show little: with many seeds, one of them is in a burst at any time.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from pagesoak.study.compare_figures import STRETCHES, Run

Values = Sequence[int | None]
"""Pages by stretch; None: not known."""


class Course(NamedTuple):
    """One variant: the first seed that it has, and the extremes of all."""

    seed: int
    headroom_pages: Values
    isolated_pages: Values
    headroom_pages_min: Values
    isolated_pages_max: Values


def course_of(runs: Sequence[Run]) -> Course | None:
    """The course of a variant; None without a run."""
    if not runs:
        return None
    first = runs[0]
    return Course(
        first.seed,
        first.headroom_pages,
        first.isolated_pages,
        _extremes([run.headroom_pages for run in runs], min),
        _extremes([run.isolated_pages for run in runs], max),
    )


def squeezed(values: Values, columns: int, pick: Callable[[Iterable[int]], int]) -> list[int]:
    """The values in at most so many columns, each what `pick` takes of its part; what is not known
    is as it was before.
    """
    columns = min(columns, STRETCHES)
    ends = [number * STRETCHES // columns for number in range(columns + 1)]
    found: list[int] = []
    before = next((value for value in values if value is not None), 0)
    for begin, end in pairwise(ends):
        known = [value for value in values[begin:end] if value is not None]
        before = pick(known) if known else before
        found.append(before)
    return found


def _extremes(courses: Sequence[Values], pick: Callable[[Iterable[int]], int]) -> Values:
    """Stretch by stretch, of what is known."""
    by_stretch = zip(*courses, strict=True)
    known = ([value for value in values if value is not None] for values in by_stretch)
    return tuple(pick(values) if values else None for values in known)
