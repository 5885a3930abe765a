"""The timer wheel: against an oracle that puts timers into buckets, and against a real kernel."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.allocator.profile import PROFILES, msleep_extra_ticks
from pagesoak.base.timer_wheel import (
    HZ_CHOICES,
    TickClock,
    bucket_ticks,
    level_starts_at,
    msleep_ends_ns,
    tick_at,
    tick_starts_ns,
    ticks_of,
    timer_fires_at_tick,
    timer_fires_ns,
    wheel_level,
    wheel_levels,
)

MS = 1_000_000
TICK_NS = 4 * MS
CLOCK = TickClock()
TWO_SECONDS_NS = 2_000 * MS

HZ = st.sampled_from(HZ_CHOICES)
TICKS = st.integers(0, 1 << 40)
DELAYS = st.one_of(st.integers(1, 5_000), st.integers(1, 1 << 31))


def fires_by_oracle(now_tick: int, delay_ticks: int, levels: int) -> int:
    """Level by level: the first that reaches far enough, and there the first bucket border past
    the expiry.
    """
    expires = now_tick + delay_ticks
    for level in range(levels):
        size = 8**level
        if level == levels - 1 or delay_ticks < 63 * size:
            border = expires - expires % size
            while border <= expires:
                border += size
            return border
    raise AssertionError("a wheel without levels")


@given(TICKS, DELAYS, HZ)
def test_a_timer_fires_at_the_end_of_its_bucket(now_tick: int, delay: int, hz: int) -> None:
    levels = wheel_levels(hz)
    delay = min(delay, level_starts_at(levels) - 1)
    fires = timer_fires_at_tick(now_tick, delay, hz)
    assert fires == fires_by_oracle(now_tick, delay, levels)
    late = fires - (now_tick + delay)
    assert 1 <= late <= bucket_ticks(wheel_level(delay, hz))


@pytest.mark.parametrize("hz", HZ_CHOICES)
def test_levels_begin_where_the_one_below_is_full(hz: int) -> None:
    starts = [level_starts_at(level) for level in range(1, wheel_levels(hz))]
    assert starts[:3] == [63, 504, 4032]
    assert all(later == 8 * earlier for earlier, later in pairwise(starts))
    for level, start in enumerate(starts, start=1):
        assert wheel_level(start - 1, hz) == level - 1
        assert wheel_level(start, hz) == level


def test_the_delay_of_reporting_lies_in_the_level_of_eight_ticks() -> None:
    assert ticks_of(CLOCK, TWO_SECONDS_NS) == 500
    assert wheel_level(500) == 1
    assert bucket_ticks(1) == 8


@pytest.mark.parametrize(("hz", "levels"), [(100, 8), (250, 9)])
def test_what_is_too_far_away_fires_at_the_last_bucket(hz: int, levels: int) -> None:
    capacity = level_starts_at(levels)
    size = bucket_ticks(levels - 1)
    for delay in (capacity, capacity + 12_345, capacity * 1000):
        assert timer_fires_at_tick(0, delay, hz) == capacity - size + size == capacity
    assert timer_fires_at_tick(0, capacity - 1, hz) == capacity


@given(st.integers(0, 1 << 60), HZ, st.integers(0, 1 << 40))
def test_ticks_and_times(now_ns: int, hz: int, phase_ns: int) -> None:
    clock = TickClock(hz, phase_ns)
    tick = tick_at(clock, now_ns)
    assert tick_starts_ns(clock, tick) <= now_ns < tick_starts_ns(clock, tick + 1)
    assert tick_at(clock, tick_starts_ns(clock, tick)) == tick
    assert tick_starts_ns(clock, tick) > tick_starts_ns(clock, tick - 1)


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 45), HZ, st.integers(0, 1 << 40))
def test_never_early(now_ns: int, delay_ns: int, hz: int, phase_ns: int) -> None:
    clock = TickClock(hz, phase_ns)
    fires_ns = timer_fires_ns(clock, now_ns, delay_ns)
    assert fires_ns >= now_ns + delay_ns
    size = bucket_ticks(wheel_level(ticks_of(clock, delay_ns), hz))
    assert fires_ns <= tick_starts_ns(clock, tick_at(clock, now_ns + delay_ns) + 1 + size)


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 40))
def test_two_seconds_are_up_to_32_ms_more(now_ns: int, phase_ns: int) -> None:
    fires_ns = timer_fires_ns(TickClock(phase_ns=phase_ns), now_ns, TWO_SECONDS_NS)
    assert 0 < fires_ns - now_ns - TWO_SECONDS_NS <= 8 * TICK_NS


def test_a_short_delay_takes_a_tick_at_least() -> None:
    assert timer_fires_ns(CLOCK, 4_000, 0) == 4_000
    assert timer_fires_ns(CLOCK, 4_000, 1) == 2 * TICK_NS
    assert timer_fires_ns(CLOCK, 4_000, TICK_NS) == 2 * TICK_NS
    assert timer_fires_ns(CLOCK, 4_000, TICK_NS + 1) == 3 * TICK_NS
    assert timer_fires_ns(CLOCK, 4_000, 10 * MS) == 16 * MS
    assert timer_fires_ns(CLOCK, 3_999_999, 10 * MS) == 16 * MS
    assert timer_fires_ns(TickClock(1000), 4_000, 10 * MS) == 11 * MS


RECORDED_SLEEPS = [(10, 20), (20, 28), (100, 108), (500, 512)]
"""`msleep` of so many ms, and how long the recorded calls took, from a bucket's border."""


@pytest.mark.parametrize(("asked_ms", "lasted_ms"), RECORDED_SLEEPS)
def test_msleep_lasts_as_recorded(asked_ms: int, lasted_ms: int) -> None:
    border_ns = 8 * 1_000 * TICK_NS
    just_after_ns = border_ns + 24_000
    assert msleep_ends_ns(CLOCK, just_after_ns, asked_ms) == border_ns + lasted_ms * MS


def test_msleep_since_6_12_has_no_tick_of_its_own() -> None:
    extra = msleep_extra_ticks(PROFILES["6.12"])
    assert msleep_extra_ticks(PROFILES["6.1"]) == 1
    assert msleep_ends_ns(CLOCK, 24_000, 10, extra) == 16 * MS
    assert msleep_ends_ns(CLOCK, 24_000, 5, extra) == 12 * MS
    assert msleep_ends_ns(CLOCK, 24_000, 0, extra) == 24_000
    assert msleep_ends_ns(CLOCK, 24_000, 0) == 2 * TICK_NS


RECORDED_PASSES = [
    # bucket border, cause, first report call: ns of the guest's clock
    (20 * MS, 3_509_009_033, 5_524_018_624),
    (20 * MS, 5_524_039_705, 7_540_017_888),
    (20 * MS, 5_660_006_361, 7_668_024_143),
    (20 * MS, 5_740_006_322, 7_764_018_737),
    (24 * MS, 3_624_850_223, 5_656_023_796),
    (24 * MS, 5_696_007_109, 7_704_025_370),
    (24 * MS, 17_984_005_932, 19_992_028_081),
]


@pytest.mark.parametrize(("phase_ns", "cause_ns", "start_ns"), RECORDED_PASSES)
def test_recorded_passes_begin_at_the_very_tick(
    phase_ns: int, cause_ns: int, start_ns: int
) -> None:
    fires_ns = timer_fires_ns(TickClock(phase_ns=phase_ns), cause_ns, TWO_SECONDS_NS)
    assert 0 < start_ns - fires_ns < MS
