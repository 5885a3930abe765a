"""Time as the core sees it: the machine's in a live run, a worker's own clock word in a virtual
one.

In a virtual run all workers live in one process, each on a clock word of its own in the segment
(`W_CLOCK_NS`). What a worker does moves its clock by a modelled time (`base.costs`); which worker
goes on is the driver's business (`engine.virtual`). In a live run time passes by itself: all costs
are 0 there, so that spending them changes nothing and needs no test.

A burst asks at every look whether its time is up (`time_is_up`) and may wait within the burst for
what is due before its end (`wait_within`), so that a driver is not called for every operation of a
load with a pace of its own.
"""

from pagesoak.base.external import monotonic_ns
from pagesoak.base.layout import WORKER_WORDS, Core, open_core
from pagesoak.base.layout_virtual import C_OPERATION, H_VIRTUAL, H_YIELD, W_CLOCK_NS
from pagesoak.base.native import entry, hot, inner


@inner
def now_ns(core: Core, worker: int) -> int:
    """The time now for a worker, in ns."""
    if core.header[H_VIRTUAL] != 0:
        return core.workers[worker * WORKER_WORDS + W_CLOCK_NS]
    return monotonic_ns()


@hot
def spend(core: Core, worker: int, cost: int, times: int) -> None:
    """A worker takes a modelled time, so many times: `cost` is one of
    the `C_` words.
    """
    core.workers[worker * WORKER_WORDS + W_CLOCK_NS] += core.header[cost] * times


@hot
def time_is_up(core: Core, worker: int, until_ns: int) -> bool:
    """Whether a burst must come back before its next operation; on a virtual clock, which the
    operation then moves, that is asked before each.
    """
    if core.header[H_VIRTUAL] == 0:
        return monotonic_ns() >= until_ns
    place = worker * WORKER_WORDS + W_CLOCK_NS
    if core.workers[place] >= until_ns or core.header[H_YIELD] != 0:
        return True
    core.workers[place] += core.header[C_OPERATION]
    return False


@hot
def wait_within(core: Core, worker: int, due_ns: int, until_ns: int) -> bool:
    """Whether `due_ns` has come, or comes within this burst: a virtual clock is moved to it."""
    if core.header[H_VIRTUAL] == 0:
        return monotonic_ns() >= due_ns
    place = worker * WORKER_WORDS + W_CLOCK_NS
    if core.workers[place] >= due_ns:
        return True
    if due_ns >= until_ns or core.header[H_YIELD] != 0:
        return False
    core.workers[place] = due_ns
    return True


@inner
def ask_to_yield(core: Core) -> None:
    """Another worker must hear of something now: the virtual driver looks after this operation."""
    core.header[H_YIELD] = core.header[H_VIRTUAL]


@entry
def worker_now_ns(base: int, worker: int) -> int:
    """`now_ns` for Python."""
    return now_ns(open_core(base), worker)
