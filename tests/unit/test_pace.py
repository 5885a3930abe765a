"""A load at another pace, and a CPU that has been paused: nothing is skipped or made up for."""

from collections.abc import Iterator

import pytest

from pagesoak.allocator import pace
from pagesoak.allocator.guest import think_time
from pagesoak.base import layout
from pagesoak.base.clock import now_ns
from pagesoak.base.generator import seed_words
from pagesoak.base.layout import open_core
from pagesoak.base.layout_steering import L_PACE_PPM, W_STOOD_STILL_NS
from pagesoak.base.layout_virtual import L_DUE_NS, L_SLICE_LEFT
from pagesoak.base.native import entry
from pagesoak.base.segment import Segment
from pagesoak.engine.load_pace import set_paces
from tests.unit.test_virtual_bursts import make_guest

SECOND_NS = 1_000_000_000
FOREVER_NS = 1 << 62


@entry
def slice_is_due(base: int, until_ns: int) -> int:
    return int(pace.next_slice(open_core(base), 0, 0, until_ns))


@entry
def time_is(base: int) -> int:
    return now_ns(open_core(base), 0)


@entry
def recorded(base: int) -> int:
    return pace.recorded_by_now(open_core(base), 0, 0)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_guest(touch=False)
    yield made
    made.close()


def begin(segment: Segment, seconds_ago: float = 0.0) -> int:
    """A load of ten operations a second that began so long ago; the time it is due."""
    due = time_is(segment.base) - int(seconds_ago * SECOND_NS)
    pace.set_pace(segment.base, 0, due, SECOND_NS // 10, 1, 0)
    return due


@pytest.mark.parametrize(
    ("pace_ppm", "slice_ns"), [(0, 100_000_000), (2_000_000, 50_000_000), (500_000, 200_000_000)]
)
def test_slices_follow_each_other_at_the_pace(
    segment: Segment, pace_ppm: int, slice_ns: int
) -> None:
    due = begin(segment)
    segment.loads[L_PACE_PPM] = pace_ppm
    assert slice_is_due(segment.base, FOREVER_NS)
    assert segment.loads[L_DUE_NS] == due + slice_ns
    assert segment.loads[L_SLICE_LEFT] == 1


def test_a_cpu_that_stood_still_has_nothing_to_make_up_for(segment: Segment) -> None:
    begin(segment, seconds_ago=60)
    segment.workers[W_STOOD_STILL_NS] = 3600 * SECOND_NS
    assert not slice_is_due(segment.base, FOREVER_NS)
    segment.workers[W_STOOD_STILL_NS] = 0
    assert slice_is_due(segment.base, FOREVER_NS)


def test_a_replay_does_not_go_on_while_its_cpu_stands_still(segment: Segment) -> None:
    pace.set_speed(segment.base, 0, time_is(segment.base) - 60 * SECOND_NS, 1_000_000, 0)
    assert recorded(segment.base) >= 60 * SECOND_NS
    segment.workers[W_STOOD_STILL_NS] = 50 * SECOND_NS
    assert 10 * SECOND_NS <= recorded(segment.base) < 60 * SECOND_NS


@pytest.mark.parametrize("pace_ppm", [10_000, 500_000, 3_000_000, 100_000_000])
def test_a_replay_at_another_pace_goes_on_where_it_is(segment: Segment, pace_ppm: int) -> None:
    now = time_is(segment.base)
    pace.set_speed(segment.base, 0, now - 20 * SECOND_NS, 500_000, 0)
    set_paces(segment, 0, pace_ppm, now)
    segment.workers[W_STOOD_STILL_NS] = time_is(segment.base) - now
    speed_ppm = 500_000 * pace_ppm // 1_000_000
    assert recorded(segment.base) == pytest.approx(10 * SECOND_NS, abs=SECOND_NS * speed_ppm / 1e6)
    assert segment.loads[L_DUE_NS] == pytest.approx(
        now - 10 * SECOND_NS * 1_000_000 // speed_ppm, abs=100
    )


def test_only_loads_of_the_cpu_take_the_pace(segment: Segment) -> None:
    segment.loads[layout.L_CPU] = 1
    set_paces(segment, 0, 2_000_000, 0)
    assert segment.loads[L_PACE_PPM] == 0


def test_pauses_are_shorter_at_a_faster_pace_and_drawn_alike(segment: Segment) -> None:
    def pauses() -> list[int]:
        for number, word in enumerate(seed_words(1, 0)):
            segment.loads[layout.L_RANDOM + number] = word
        return [think_time(segment.base, 0, SECOND_NS, 0) for _ in range(20)]

    before = pauses()
    segment.loads[L_PACE_PPM] = 4_000_000
    assert pauses() == [pause_ns // 4 for pause_ns in before]
