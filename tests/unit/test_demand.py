"""What a guest takes, and how fast, against a small oracle that knows every moment."""

from contextlib import ExitStack
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.allocator.demand import (
    FIRST_WINDOW_NS,
    LEARNING_NS,
    QUIET_NS,
    begin_window,
    end_window,
    largest_demand_pages,
    longest_window_ns,
    look_at_demand,
    note_cut_off,
    note_fill,
    note_taken,
    watch_demand,
)
from pagesoak.base import layout
from pagesoak.base.costs import NO_COSTS
from pagesoak.base.layout import WORKER_WORDS, Z_FREE_PAGES, Z_ISOLATED, ZONE_WORDS, open_core
from pagesoak.base.layout_virtual import W_CLOCK_NS
from pagesoak.base.native import entry
from pagesoak.base.virtual import make_virtual
from tests.zone_helper import Guest, ZonePlan

MS = 1_000_000
SECOND = 1_000_000_000
MEMORY_NS = 10 * SECOND
SUPPLY = 100_000
"""Pages free at the start."""
CPU = 0


@entry
def set_clock(base: int, now: int) -> int:
    """The CPU's clock; returns it."""
    open_core(base).workers[CPU * WORKER_WORDS + W_CLOCK_NS] = now
    return now


@entry
def change(base: int, zone: int, free: int, isolated: int, taken: int) -> int:
    """Free and isolated pages change by so many, of which the guest takes some; returns 0."""
    core = open_core(base)
    core.zones[zone * ZONE_WORDS + Z_FREE_PAGES] += free
    core.zones[zone * ZONE_WORDS + Z_ISOLATED] += isolated
    note_taken(core, CPU, zone, taken)
    return 0


@entry
def window(base: int, zone: int, length_ns: int, left: int, taken: int) -> int:
    """A window of this length, in which so much is taken of what was left; what is unseen."""
    core = open_core(base)
    begin_window(core, zone)
    note_fill(core, zone, left)
    core.zones[zone * ZONE_WORDS + Z_FREE_PAGES] -= taken
    core.workers[CPU * WORKER_WORDS + W_CLOCK_NS] += length_ns
    note_taken(core, CPU, zone, taken)
    return end_window(core, CPU, zone, length_ns)


@entry
def largest(base: int, zone: int, interval_ns: int, now: int) -> int:
    """`largest_demand_pages` for a test."""
    return largest_demand_pages(open_core(base), zone, interval_ns, now)


@entry
def longest(base: int, zone: int, now: int) -> int:
    """`longest_window_ns` for a test."""
    return longest_window_ns(open_core(base), zone, now)


@entry
def cut_off(base: int) -> int:
    """`note_cut_off` for a test; returns 0."""
    note_cut_off(open_core(base), CPU)
    return 0


class Watched:
    """A zone on a clock of the test's, watched from `began_ns` on."""

    def __init__(self, guest: Guest, began_ns: int = 100 * SECOND) -> None:
        self.base = guest.base
        make_virtual(guest.segment, NO_COSTS)
        guest.segment.zones[Z_FREE_PAGES] = SUPPLY
        self.now_ns = began_ns
        self.wait(0)
        watch_demand(self.base, CPU, MEMORY_NS, 0)

    def wait(self, ns: int) -> None:
        """Time passes."""
        self.now_ns += ns
        set_clock(self.base, self.now_ns)

    def take(self, pages: int) -> None:
        """The guest takes pages."""
        change(self.base, 0, -pages, 0, pages)

    def free(self, pages: int) -> None:
        """It gives some back."""
        change(self.base, 0, pages, 0, 0)

    def isolate(self, pages: int) -> None:
        """Pages are isolated: not taken by anybody."""
        change(self.base, 0, -pages, pages, 0)

    def largest(self, interval_ns: int) -> int:
        """The answer."""
        return largest(self.base, 0, interval_ns, self.now_ns)


@pytest.fixture
def watched() -> "Watched":
    with ExitStack() as stack:
        guest = Guest(ZonePlan(0, 4096))
        stack.callback(guest.segment.close)
        yield Watched(guest)


class Moment(NamedTuple):
    """Something taken: when, and the supply before and after."""

    at_ns: int
    before: int
    after: int


def exact(moments: list[Moment], interval_ns: int, since_ns: int) -> int:
    """The most taken between two moments that are no further apart, the second since then."""
    return max(
        (
            first.before - last.after
            for number, last in enumerate(moments)
            if last.at_ns >= since_ns
            for first in moments[: number + 1]
            if last.at_ns - first.at_ns <= interval_ns
        ),
        default=0,
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 90_000, 3 * MS, 40 * MS, 700 * MS, 4 * SECOND]),
        st.integers(0, 3),
        st.integers(1, 3000),
    ),
    min_size=1,
    max_size=40,
)
INTERVALS_NS = (1, MS, 5 * MS, 108 * MS, 900 * MS, 5 * SECOND)


@settings(deadline=None)
@given(STEPS)
def test_never_less_than_was_taken_and_never_much_more(
    steps: list[tuple[int, int, int]],
) -> None:
    guest = Guest(ZonePlan(0, 4096))
    with ExitStack() as stack:
        stack.callback(guest.segment.close)
        zone = Watched(guest)
        supply = SUPPLY
        moments = []
        for wait_ns, kind, pages in steps:
            zone.wait(wait_ns)
            if kind == 0:
                zone.free(pages)
                supply += pages
            elif kind == 1:
                zone.isolate(pages)
            else:
                zone.take(pages)
                moments.append(Moment(zone.now_ns, supply, supply - pages))
                supply -= pages
        for interval_ns in INTERVALS_NS:
            found = zone.largest(interval_ns)
            assert found >= exact(moments, interval_ns, zone.now_ns - MEMORY_NS)
            wide_ns = max(interval_ns * 5 // 2, 2 * MS)
            assert found <= exact(moments, wide_ns, zone.now_ns - MEMORY_NS * 11 // 10 - 1)


def test_what_was_taken_is_forgotten_in_time(watched: Watched) -> None:
    watched.take(500)
    watched.wait(MEMORY_NS)
    assert watched.largest(100 * MS) == 500
    watched.wait(MEMORY_NS // 10)
    assert watched.largest(100 * MS) == 0


def test_what_is_given_back_counts_against_what_was_taken(watched: Watched) -> None:
    for _ in range(50):
        watched.take(100)
        watched.wait(MS)
        watched.free(100)
    assert watched.largest(SECOND) == 100


def test_isolated_pages_are_not_taken(watched: Watched) -> None:
    watched.isolate(30_000)
    watched.take(10)
    assert watched.largest(SECOND) == 10


def test_two_bursts_count_together_only_within_the_interval(watched: Watched) -> None:
    watched.take(1000)
    watched.wait(400 * MS)
    watched.take(2000)
    assert watched.largest(50 * MS) == 2000
    assert watched.largest(400 * MS) == 3000


def test_intervals_beyond_the_longest_kept_count_several_times(watched: Watched) -> None:
    watched.take(1000)
    longest_kept_ns = 1 << 36
    assert watched.largest(longest_kept_ns) == 1000
    assert watched.largest(3 * longest_kept_ns) == 3000


def test_a_demand_that_was_cut_off_counts_with_all_that_is_isolated(watched: Watched) -> None:
    watched.take(3000)
    watched.isolate(40_000)
    watched.take(200)
    watched.wait(20 * MS)
    cut_off(watched.base)
    assert watched.largest(100 * MS) == 3000 + 40_000 + 200
    assert watched.largest(MS) == 40_000


def test_nobody_watches_nothing_is_noted() -> None:
    guest = Guest(ZonePlan(0, 4096))
    with ExitStack() as stack:
        stack.callback(guest.segment.close)
        change(guest.base, 0, -100, 0, 100)
        cut_off(guest.base)
        assert not any(guest.segment.demand)
        assert look_at_demand(guest.base, CPU, 0) == (0,) * 11


# ---- what is known of a guest ----


def known(watched: Watched) -> tuple[int, int, int]:
    """Whether, how much, for which window."""
    return look_at_demand(watched.base, CPU, 0)[:3]


def test_at_first_nothing_is_known(watched: Watched) -> None:
    assert known(watched) == (0, 0, 0)
    watched.wait(QUIET_NS - 1)
    assert known(watched) == (0, 0, 0)


def test_a_quiet_guest_is_known_to_be_idle(watched: Watched) -> None:
    watched.wait(QUIET_NS)
    assert known(watched) == (1, 0, 0)


def test_a_busy_guest_is_known_by_its_first_window(watched: Watched) -> None:
    watched.take(700)
    watched.wait(QUIET_NS)
    assert known(watched) == (0, 700, 0)
    window(watched.base, 0, 30 * MS, 10_000, 0)
    assert known(watched) == (1, 700, 30 * MS)


def test_a_window_in_which_nothing_was_ever_taken_says_nothing(watched: Watched) -> None:
    window(watched.base, 0, 30 * MS, 10_000, 0)
    assert known(watched) == (0, 0, 30 * MS)


def test_before_the_first_window_its_length_is_taken_for_the_time_between_passes(
    watched: Watched,
) -> None:
    watched.take(700)
    watched.wait(FIRST_WINDOW_NS // 2)
    watched.take(300)
    assert known(watched) == (0, 1000, 0)


def test_a_busy_guest_without_windows_is_known_after_a_minute(watched: Watched) -> None:
    watched.take(700)
    watched.wait(LEARNING_NS)
    assert known(watched) == (1, 0, 0)  # and what it took is forgotten


# ---- windows ----


def test_the_longest_window_is_forgotten_in_time(watched: Watched) -> None:
    window(watched.base, 0, 500 * MS, 0, 0)
    watched.wait(2 * SECOND)
    window(watched.base, 0, 100 * MS, 0, 0)
    now_ns = watched.now_ns + 100 * MS
    assert longest(watched.base, 0, now_ns) == 500 * MS
    assert longest(watched.base, 0, now_ns + MEMORY_NS - SECOND) == 100 * MS


def test_the_last_windows_newest_first(watched: Watched) -> None:
    for length_ms in range(1, 12):
        window(watched.base, 0, length_ms * MS, 0, 0)
    shown = [length_ms * MS for length_ms in range(11, 3, -1)]
    assert list(look_at_demand(watched.base, CPU, 0)[3:]) == shown


@pytest.mark.parametrize(("taken", "unseen"), [(0, 0), (500, 0), (501, 501)])
def test_a_window_in_which_more_was_taken_than_was_left_for_it(
    watched: Watched, taken: int, unseen: int
) -> None:
    assert window(watched.base, 0, 30 * MS, 500, taken) == unseen


def test_what_was_taken_before_a_window_is_not_of_it(watched: Watched) -> None:
    watched.take(5000)
    assert window(watched.base, 0, 30 * MS, 500, 400) == 0


def test_zones_are_told_apart() -> None:
    guest = Guest(ZonePlan(0, 4096), ZonePlan(4096, 8192))
    with ExitStack() as stack:
        stack.callback(guest.segment.close)
        watched = Watched(guest)
        guest.segment.zones[layout.ZONE_WORDS + Z_FREE_PAGES] = SUPPLY
        change(watched.base, 1, -600, 0, 600)
        assert watched.largest(MS) == 0
        assert largest(watched.base, 1, MS, watched.now_ns) == 600
