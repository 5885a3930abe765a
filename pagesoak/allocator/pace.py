"""The pace of a load: which of its operations are due, asked from within a burst.

A load with a rate makes its operations in slices, a replay each request at its time. What is due
before the burst's end is waited for within the burst, on a virtual clock by moving it; so neither
driver is called for every slice or request.

A load's times are those of its own life: what its CPU has been paused for (`W_STOOD_STILL_NS`)
does not count, so that nothing is made up for afterwards. A user may have a load go faster or
slower than its scenario says (`L_PACE_PPM`).
"""

from pagesoak.base.clock import now_ns, wait_within
from pagesoak.base.layout import LOAD_WORDS, WORKER_WORDS, Core, open_core
from pagesoak.base.layout_steering import L_PACE_PPM, W_STOOD_STILL_NS
from pagesoak.base.layout_virtual import (
    L_DUE_NS,
    L_SLICE_LEFT,
    L_SLICE_NS,
    L_SLICE_OPERATIONS,
    L_SPEED_PPM,
)
from pagesoak.base.native import entry, hot, inner

PARTS_PER_MILLION = 1_000_000
FOREVER_NS = 1 << 60


@inner
def scaled(amount: int, numerator: int, denominator: int) -> int:
    """`amount` * `numerator` // `denominator`, without a product beyond 63 bits."""
    whole = amount // denominator
    return whole * numerator + (amount - whole * denominator) * numerator // denominator


@entry
def set_pace(
    base: int, load: int, began_ns: int, slice_ns: int, operations: int, _until_ns: int
) -> int:
    """From `began_ns` on, so many operations every `slice_ns` (0: without a pace); returns 0."""
    core = open_core(base)
    at = load * LOAD_WORDS
    core.loads[at + L_DUE_NS] = began_ns
    core.loads[at + L_SLICE_NS] = slice_ns
    core.loads[at + L_SLICE_OPERATIONS] = operations
    core.loads[at + L_SLICE_LEFT] = 0
    return 0


@inner
def stood_still_ns(core: Core, cpu: int) -> int:
    """How long the CPU has been paused so far."""
    return core.workers[cpu * WORKER_WORDS + W_STOOD_STILL_NS]


@inner
def paced(core: Core, at: int, span_ns: int) -> int:
    """A span between two of a load's operations, at the pace that load record `at` has now."""
    pace_ppm = core.loads[at + L_PACE_PPM]
    if pace_ppm == 0:
        return span_ns
    return scaled(span_ns, PARTS_PER_MILLION, pace_ppm)


@inner
def replay_speed_ppm(core: Core, at: int) -> int:
    """The speed of a replay, at the pace that it has now; 0: as fast as it can."""
    speed_ppm = core.loads[at + L_SPEED_PPM]
    pace_ppm = core.loads[at + L_PACE_PPM]
    if pace_ppm == 0 or speed_ppm == 0:
        return speed_ppm
    return max(scaled(speed_ppm, pace_ppm, PARTS_PER_MILLION), 1)


@entry
def next_slice_ns(base: int, load: int, _until_ns: int) -> int:
    """When the load's next slice is due, in the time of its life."""
    return open_core(base).loads[load * LOAD_WORDS + L_DUE_NS]


@inner
def next_slice(core: Core, cpu: int, at: int, until_ns: int) -> bool:
    """Begin the next slice of load record `at`, if it is due within the burst."""
    if not wait_within(core, cpu, core.loads[at + L_DUE_NS] + stood_still_ns(core, cpu), until_ns):
        return False
    core.loads[at + L_DUE_NS] += paced(core, at, core.loads[at + L_SLICE_NS])
    core.loads[at + L_SLICE_LEFT] = core.loads[at + L_SLICE_OPERATIONS]
    return True


@entry
def set_speed(base: int, load: int, began_ns: int, speed_ppm: int, _until_ns: int) -> int:
    """A replay's recording begins at `began_ns`, at a speed (0: as fast as it can); returns 0."""
    core = open_core(base)
    at = load * LOAD_WORDS
    core.loads[at + L_DUE_NS] = began_ns
    core.loads[at + L_SPEED_PPM] = speed_ppm
    return 0


@hot
def due_ns(began_ns: int, speed_ppm: int, recorded_ns: int) -> int:
    """When a request recorded at `recorded_ns` is due, of a replay that began at `began_ns`; at
    once, without a speed.
    """
    if speed_ppm == 0:
        return began_ns
    if speed_ppm != PARTS_PER_MILLION:
        recorded_ns = scaled(recorded_ns, PARTS_PER_MILLION, speed_ppm)
    return began_ns + recorded_ns


@inner
def recorded_by_now(core: Core, cpu: int, at: int) -> int:
    """Up to which time of its recording the replay of load record `at` is due by the clock."""
    speed_ppm = replay_speed_ppm(core, at)
    if speed_ppm == 0:
        return FOREVER_NS
    elapsed_ns = now_ns(core, cpu) - stood_still_ns(core, cpu) - core.loads[at + L_DUE_NS]
    return scaled(elapsed_ns, speed_ppm, PARTS_PER_MILLION)
