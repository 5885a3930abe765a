"""Windows over a range of free memory, and the cliffs in it: where one page more makes a guest
poorer.

A range is looked at in so many steps. Between two of them where the least free memory falls by
more than a block of the largest order, the page at which it falls is found by halving: every
policy decides by comparing free memory with something, so that it falls all at once.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.units import parse_pages
from pagesoak.reporter.policy import Policy
from pagesoak.study.window import Window

RANGE_MARK = ".."
STEP_MARK = "/"
POINTS = 72
"""Of a range without a step: a column of the plot each."""
POINTS_MAX = 2_000
CLIFF_PAGES = 1 << 10
"""A smaller fall is that of the last block which just does not fit."""

Look = Callable[[int, Policy], Window]
"""What a policy does with so many free pages."""


class Cliff(NamedTuple):
    """With `free_pages` free a policy leaves `before` pages in a window, with one more `after`."""

    policy: str
    free_pages: int
    before: int
    after: int

    def as_json(self) -> dict[str, Any]:
        """The cliff as a JSON object."""
        return {
            "policy": self.policy,
            "free_pages": self.free_pages,
            "free_pages_min": self.before,
            "free_pages_min_with_one_page_more": self.after,
        }


def parse_free(text: str) -> list[int]:
    """Pages of `100MiB`, `33614p`, `60MiB..160MiB` or `60MiB..160MiB/512p`.

    Raises InputError (key --free).
    """
    ends, _, step_text = text.partition(STEP_MARK if RANGE_MARK in text else "\0")
    try:
        first, *rest = map(parse_pages, ends.split(RANGE_MARK, 1))
        step = parse_pages(step_text) if step_text else 0
    except InputError as error:
        raise InputError(error.message, key="--free") from error
    if not rest:
        return [first]
    last = rest[0]
    if last < first:
        raise InputError(f"{text!r} ends before it begins", key="--free")
    if step_text and step == 0:
        raise InputError(f"{text!r} has a step of nothing", key="--free")
    step = step or max(1, -(-(last - first) // (POINTS - 1)))
    if (last - first) // step >= POINTS_MAX:
        raise InputError(f"{text!r} has more than {POINTS_MAX} steps", key="--free")
    found = list(range(first, last + 1, step))
    return found if found[-1] == last else [*found, last]


def cliffs(windows: Sequence[Window], look: Look) -> list[Cliff]:
    """The cliffs between the windows of one policy, ascending by what is free."""
    found = []
    for below, above in pairwise(windows):
        if below.free_pages_min - above.free_pages_min <= CLIFF_PAGES:
            continue
        low, high = below, above
        while high.free_pages - low.free_pages > 1:
            middle = look((low.free_pages + high.free_pages) // 2, low.policy)
            falls_later = (
                middle.free_pages_min - high.free_pages_min
                > low.free_pages_min - middle.free_pages_min
            )
            low, high = (middle, high) if falls_later else (low, middle)
        if low.free_pages_min - high.free_pages_min > CLIFF_PAGES:
            place = (low.free_pages, low.free_pages_min, high.free_pages_min)
            found.append(Cliff(low.label, *place))
    return found
