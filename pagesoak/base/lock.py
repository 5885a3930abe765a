"""The zone lock: a process-shared robust mutex, taken in compiled code and waited for in slices.

Three properties matter more than its speed (some 15 ns when nobody else wants it):

*A dead holder is noticed.* The next taker is told (EOWNERDEAD). It does not touch the zone: lists
and counters may be half changed. It marks the zone dead, makes the mutex usable again so that
others are told as quickly, and lets go. Everybody who finds the zone dead gives up the operation;
what follows is the supervisor's business.

*A wait can be ended.* Signals do not get through to compiled code. A waiter comes back from the
mutex every `SLICE_NS` and looks at the segment's stop flag.

*Giving up is harmless.* Every operation takes the lock before it changes anything, so that "not
held" means "did not happen".

In a virtual run nobody can be met inside: one process runs all workers in turn. The lock is then a
stretch of time, from when it was last taken to when it was given back; whose clock lies within has
to wait to its end. A worker may be somewhat ahead of another (`engine.virtual`): whose clock lies
before the stretch was there first, and does not wait.

Models `zone->lock` (Linux 6.1 `mm/page_alloc.c`). Lock order: a pageset's lock, then the zone's;
zones in ascending order.
"""

from pagesoak.base import recorder
from pagesoak.base.clock import spend
from pagesoak.base.external import (
    BUSY,
    LOCKED,
    OWNER_DEAD,
    TIMED_OUT,
    monotonic_ns,
    mutex_consistent,
    mutex_lock_until,
    mutex_trylock,
    mutex_unlock,
)
from pagesoak.base.fault_point import LOCK_KEPT, LOCK_TAKEN, fault_point
from pagesoak.base.layout import (
    H_OFFSETS,
    H_STOP,
    H_TIMED_LOCKS,
    WORD_BYTES,
    WORKER_WORDS,
    Z_DEAD,
    Z_LOCK,
    Z_LOCK_SINCE_NS,
    ZONE_WORDS,
    Core,
    Section,
    open_core,
)
from pagesoak.base.layout_virtual import C_LOCK, H_VIRTUAL, W_CLOCK_NS, Z_LOCK_UNTIL_NS
from pagesoak.base.native import entry, hot, inner, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import (
    LOCK_HOLD,
    LOCK_WAIT,
    LOCK_WAITS,
    LOCKS_TAKEN,
    count,
    observe,
)

SLICE_NS = 50_000_000
"""How long a waiter is deaf: far above any normal hold, far below a user's patience."""

HELD = 0
ZONE_DEAD = 1
STOPPED = 2

_ZONES_OFFSET = H_OFFSETS + Section.ZONES


@inner
def _wait(core: Core, address: int) -> int:
    while True:
        answer = mutex_lock_until(address, monotonic_ns() + SLICE_NS)
        if answer != TIMED_OUT:
            return answer
        if core.header[H_STOP] != 0:
            return TIMED_OUT


@leaf
def mutex_address(core: Core, zone: int) -> int:
    """Where a zone's mutex lies."""
    return core.base + core.header[_ZONES_OFFSET] + (zone * ZONE_WORDS + Z_LOCK) * WORD_BYTES


@inner
def lock_slowly(core: Core, zone: int, worker: int, answer: int) -> int:
    """What follows when the lock was not to be had at once: HELD, or why not."""
    z = zone * ZONE_WORDS
    address = mutex_address(core, zone)
    if answer == BUSY:
        began_ns = monotonic_ns()
        answer = int(_wait(core, address))
        count(core, worker, LOCK_WAITS, 1)
        if core.header[H_TIMED_LOCKS] != 0:
            observe(core, worker, LOCK_WAIT, monotonic_ns() - began_ns)
    if answer == OWNER_DEAD:
        core.zones[z + Z_DEAD] = 1
        mutex_consistent(address)
        mutex_unlock(address)
        record(core, worker, recorder.LOCK_DEAD, zone, 0, 0, 0, 0)
        return ZONE_DEAD
    if answer != LOCKED:
        return STOPPED
    if core.zones[z + Z_DEAD] != 0:
        mutex_unlock(address)
        return ZONE_DEAD
    return HELD


@inner
def lock_virtually(core: Core, zone: int, worker: int) -> int:
    """Wait, on the worker's clock, until the lock is free; HELD."""
    z = zone * ZONE_WORDS
    place = worker * WORKER_WORDS + W_CLOCK_NS
    clock_ns = core.workers[place]
    until_ns = core.zones[z + Z_LOCK_UNTIL_NS]
    if core.zones[z + Z_LOCK_SINCE_NS] <= clock_ns < until_ns:
        count(core, worker, LOCK_WAITS, 1)
        observe(core, worker, LOCK_WAIT, until_ns - clock_ns)
        clock_ns = until_ns
        core.workers[place] = until_ns
    count(core, worker, LOCKS_TAKEN, 1)
    core.zones[z + Z_LOCK_SINCE_NS] = clock_ns
    return HELD


@inner
def unlock_virtually(core: Core, zone: int, worker: int) -> None:
    """Enter until when the worker has held the lock."""
    z = zone * ZONE_WORDS
    spend(core, worker, C_LOCK, 1)
    until_ns = core.workers[worker * WORKER_WORDS + W_CLOCK_NS]
    observe(core, worker, LOCK_HOLD, until_ns - core.zones[z + Z_LOCK_SINCE_NS])
    core.zones[z + Z_LOCK_UNTIL_NS] = until_ns


@hot
def lock_zone(core: Core, zone: int, worker: int) -> int:
    """Take a zone's lock: HELD, or ZONE_DEAD or STOPPED and it is not held."""
    z = zone * ZONE_WORDS
    if core.zones[z + Z_DEAD] != 0:
        return ZONE_DEAD
    if core.header[H_VIRTUAL] != 0:
        return lock_virtually(core, zone, worker)
    answer = int(mutex_trylock(mutex_address(core, zone)))
    if answer != LOCKED or core.zones[z + Z_DEAD] != 0:
        answer = lock_slowly(core, zone, worker, answer)
        if answer != HELD:
            return answer
    count(core, worker, LOCKS_TAKEN, 1)
    if core.header[H_TIMED_LOCKS] != 0:
        core.zones[z + Z_LOCK_SINCE_NS] = monotonic_ns()
        fault_point(core, worker, LOCK_TAKEN)
    return HELD


@hot
def unlock_zone(core: Core, zone: int, worker: int) -> None:
    """Give a zone's lock back."""
    if core.header[H_VIRTUAL] != 0:
        unlock_virtually(core, zone, worker)
        return
    if core.header[H_TIMED_LOCKS] != 0:
        fault_point(core, worker, LOCK_KEPT)
        since_ns = core.zones[zone * ZONE_WORDS + Z_LOCK_SINCE_NS]
        observe(core, worker, LOCK_HOLD, monotonic_ns() - since_ns)
    mutex_unlock(mutex_address(core, zone))


@entry
def take_zone_lock(base: int, zone: int, worker: int) -> int:
    """`lock_zone` for Python (the audit, tests)."""
    return lock_zone(open_core(base), zone, worker)


@entry
def give_zone_lock(base: int, zone: int, worker: int) -> int:
    """`unlock_zone` for Python; returns 0."""
    unlock_zone(open_core(base), zone, worker)
    return 0
