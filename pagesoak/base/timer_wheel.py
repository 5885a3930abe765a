"""When a kernel timer really fires: ticks, and the buckets of the timer wheel.

The kernel's ordinary timers count ticks (jiffies), and they never fire early: one that is set in
the middle of a tick waits for the end of a later one. And they are kept in a wheel whose buckets
get coarser with the distance: 64 buckets of one tick, then 64 of 8 ticks each, then of 64, and so
on. A timer lies in the bucket after the one its expiry falls in, and nothing moves it again: the
further away it is when it is set, the later it may fire, by up to one bucket of its level. The
2 s before a reporting pass are 500 ticks at 250 Hz, in the level of 8 ticks: the pass comes 2.000
to 2.032 s after its cause.

Buckets are counted from a tick at which the kernel's tick count is a multiple of every bucket
size. `TickClock.phase_ns` says when one was: 0 means that the guest's ticks began with the clock
the times are given in. Pure integers, no clock here.

Models Linux 6.1 `kernel/time/timer.c`: `calc_index`, `calc_wheel_index`, `schedule_timeout`,
`msleep`; `kernel/time/time.c`: `msecs_to_jiffies`; `kernel/workqueue.c`: `queue_delayed_work`,
for which a delay of 0 needs no timer. Two simplifications: a timer's distance is taken from the
tick it is set in (the wheel's own clock may be one tick ahead right after it has run timers, which
matters only at the border between two levels); and a timer fires at its tick, with no time for the
interrupt and the wake-up behind it (some ten microseconds).
"""

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

from pagesoak.base.units import NS_PER_SECOND

HZ = 250
"""CONFIG_HZ of Debian's kernels and of most others on x86-64: a tick is 4 ms."""
HZ_CHOICES = (100, 250, 300, 1000)
"""What `kernel/Kconfig.hz` offers."""
MSLEEP_EXTRA_TICKS = 1
"""`msleep` adds a tick of its own, as if the wheel did not round up; 0 since 6.12 (a rule of the
kernel's profile).
"""

_LEVEL_BITS = 3  # each level's buckets are 8 times as long as those of the one below
_BUCKETS = 64  # of each level
_LEVELS = 9  # 8 at 100 Hz and below
_LEVELS_SLOW_TICK = 8
_SLOW_TICK_HZ = 100
_MS_PER_SECOND = 1000
_DELAYS_KEPT = 64
"""A guest has a handful of delays, and asks for them again and again."""


class TickClock(NamedTuple):
    """A guest's tick: how often, and when its tick 0 was, in ns of the clock that is asked."""

    hz: int = HZ
    phase_ns: int = 0


def tick_at(clock: TickClock, now_ns: int) -> int:
    """The tick count at a time: ticks up to and at it."""
    return (now_ns - clock.phase_ns) * clock.hz // NS_PER_SECOND


def tick_starts_ns(clock: TickClock, tick: int) -> int:
    """The first nanosecond at which the tick count has this value."""
    return clock.phase_ns - (-tick * NS_PER_SECOND // clock.hz)


def ticks_of(clock: TickClock, duration_ns: int) -> int:
    """A duration in ticks, rounded up."""
    return -(-duration_ns * clock.hz // NS_PER_SECOND)


def level_starts_at(level: int) -> int:
    """Ticks from which on a timer is too far away for the levels below this one."""
    return (_BUCKETS - 1) << (level - 1) * _LEVEL_BITS if level else 0


_STARTS = tuple(map(level_starts_at, range(_LEVELS)))


def wheel_levels(hz: int) -> int:
    """How many levels the wheel has."""
    return _LEVELS if hz > _SLOW_TICK_HZ else _LEVELS_SLOW_TICK


def wheel_level(distance_ticks: int, hz: int = HZ) -> int:
    """The level of a timer that is set so many ticks before its expiry."""
    return min(bisect_right(_STARTS, distance_ticks), wheel_levels(hz)) - 1


def bucket_ticks(level: int) -> int:
    """How many ticks share a bucket of this level."""
    return 1 << level * _LEVEL_BITS


def timer_fires_at_tick(now_tick: int, delay_ticks: int, hz: int = HZ) -> int:
    """The tick at which a timer fires that is set at `now_tick` to expire `delay_ticks` later.

    Always later than the expiry: at the end of its bucket. A timer beyond the wheel's capacity
    (49 days at 250 Hz) fires at the last bucket it has.
    """
    delay_ticks, shift = _in_wheel(delay_ticks, hz)
    return ((now_tick + delay_ticks >> shift) + 1) << shift


@lru_cache(maxsize=_DELAYS_KEPT)
def _in_wheel(delay_ticks: int, hz: int) -> tuple[int, int]:
    """A delay that the wheel can hold, and its level's bucket size as a shift."""
    levels = wheel_levels(hz)
    capacity = level_starts_at(levels)
    if delay_ticks >= capacity:
        delay_ticks = capacity - bucket_ticks(levels - 1)
    return delay_ticks, wheel_level(delay_ticks, hz) * _LEVEL_BITS


def timer_fires_ns(clock: TickClock, now_ns: int, delay_ns: int) -> int:
    """When work runs that is queued at `now_ns` with a delay; at once when the delay is 0."""
    if delay_ns <= 0:
        return now_ns
    fires = timer_fires_at_tick(tick_at(clock, now_ns), ticks_of(clock, delay_ns), clock.hz)
    return tick_starts_ns(clock, fires)


def msleep_ends_ns(
    clock: TickClock, now_ns: int, milliseconds: int, extra_ticks: int = MSLEEP_EXTRA_TICKS
) -> int:
    """When `msleep` returns that is called at `now_ns`.

    `extra_ticks` is what the kernel's profile says. A sleep of no tick at all
    (0 ms since 6.12) returns at once.
    """
    ticks = -(-milliseconds * clock.hz // _MS_PER_SECOND) + extra_ticks
    if ticks <= 0:
        return now_ns
    return tick_starts_ns(clock, timer_fires_at_tick(tick_at(clock, now_ns), ticks, clock.hz))
