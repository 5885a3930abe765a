"""Named points inside a hold of the zone lock, at which a worker can be made to await its death.

A process that is killed dies wherever it is, mostly nowhere interesting. Who wants to see what
becomes of a half-made change names a point and a worker (`H_FAULT_POINT`); the worker stops there,
with the lock held, until it is killed, or goes on when nobody does. The points lie where a hold
begins and ends, and in two changes of many blocks, never in what is done for each block: looking
costs a comparison, and at a hold's ends nothing where locks are not timed.
"""

from pagesoak.base.external import monotonic_ns, store_release
from pagesoak.base.layout import H_STOP, WORKER_WORDS, Core
from pagesoak.base.layout_faults import H_FAULT_POINT, W_FAULT_POINT
from pagesoak.base.native import inner, leaf

LOCK_TAKEN = 1
"""The lock is held, nothing is changed."""
LOCK_KEPT = 2
"""All is changed, the lock is still held."""
REFILLING = 3
"""A batch lies in the pageset, no counter knows it."""
PUTTING_BACK = 4
"""The blocks of a report are free again, the scatterlist still names them."""

POINTS = {
    "lock-taken": LOCK_TAKEN,
    "lock-kept": LOCK_KEPT,
    "refilling": REFILLING,
    "putting-back": PUTTING_BACK,
}

LINGER_NS = 2_000_000_000
"""A worker that is not killed within this goes on."""
POINT_BITS = 8


def fault_point_word(worker: int, point: int) -> int:
    """What to write into `H_FAULT_POINT` for a worker and a point."""
    return (worker + 1) << POINT_BITS | point


@inner
def await_death(core: Core, worker: int, point: int) -> None:
    """Say where the worker is, and stay there until it is killed, or for long enough."""
    core.header[H_FAULT_POINT] = 0
    place = worker * WORKER_WORDS + W_FAULT_POINT
    store_release(core.workers, place, point)
    until_ns = monotonic_ns() + LINGER_NS
    while monotonic_ns() < until_ns and core.header[H_STOP] == 0:
        pass
    store_release(core.workers, place, 0)


@leaf
def fault_point(core: Core, worker: int, point: int) -> None:
    """A named point: nothing, unless somebody wants this worker to die here."""
    if core.header[H_FAULT_POINT] == (worker + 1) << POINT_BITS | point:
        await_death(core, worker, point)
