"""The pace of a CPU's loads, changed while they run, between two bursts of the CPU's own worker.

A slice or a pause that has begun keeps its length. The clock of a replay's recording goes on from
where it is, so that nothing is skipped and nothing comes at once.
"""

from pagesoak.allocator.pace import PARTS_PER_MILLION
from pagesoak.base import layout
from pagesoak.base.layout_steering import L_PACE_PPM
from pagesoak.base.layout_virtual import L_DUE_NS, L_SPEED_PPM
from pagesoak.base.segment_view import SegmentWords


def set_paces(segment: SegmentWords, cpu: int, pace_ppm: int, now_ns: int) -> None:
    """Let the loads of a CPU go so many times as fast as their scenario says; `now_ns` is the time
    of the CPU's life.
    """
    for load in range(segment.plan.loads):
        at = load * layout.LOAD_WORDS
        if segment.loads[at + layout.L_CPU] == cpu:
            _set_pace(segment.loads, at, pace_ppm, now_ns)


def _set_pace(loads: memoryview, at: int, pace_ppm: int, now_ns: int) -> None:
    before_ppm = _speed(loads, at)
    loads[at + L_PACE_PPM] = pace_ppm
    speed_ppm = _speed(loads, at)
    if before_ppm and loads[at + L_DUE_NS]:
        recorded_ns = (now_ns - loads[at + L_DUE_NS]) * before_ppm // PARTS_PER_MILLION
        loads[at + L_DUE_NS] = now_ns - recorded_ns * PARTS_PER_MILLION // speed_ppm


def _speed(loads: memoryview, at: int) -> int:
    """The speed of a replay now; 0 of any other load, or one that goes as fast as it can."""
    speed_ppm = int(loads[at + L_SPEED_PPM])
    pace_ppm = loads[at + L_PACE_PPM]
    if not speed_ppm or not pace_ppm:
        return speed_ppm
    return max(speed_ppm * pace_ppm // PARTS_PER_MILLION, 1)
