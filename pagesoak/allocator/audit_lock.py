"""Taking every lock of the guest at once, so that the whole state can be copied as of one instant.

Pagesets first, by CPU and zone, then zones, ascending: the order in which workers take theirs. A
pageset's lock is spun for, because its holders are quick; it is not robust, so the spinning ends
after `SPIN_NS`, also when its holder has died. What cannot be had undoes the rest.
"""

from pagesoak.allocator.pageset import lock_pageset, unlock_pageset
from pagesoak.base.external import monotonic_ns
from pagesoak.base.layout import H_CPUS, H_STOP, H_ZONES, Core, open_core
from pagesoak.base.lock import HELD, STOPPED, lock_zone, unlock_zone
from pagesoak.base.native import entry, inner

PAGESET_BUSY = 3
"""Beside HELD, ZONE_DEAD and STOPPED of `base.lock`: a pageset's holder did not let go in time."""

SPIN_NS = 4_000_000
"""Longer than a refill under a contended zone lock, short enough that signals are served."""


@inner
def unlock_first(core: Core, worker: int, pagesets: int, zones: int) -> None:
    """Let the first so many zones and pagesets go."""
    for zone in range(zones):
        unlock_zone(core, zone, worker)
    for number in range(pagesets):
        cpu = number // core.header[H_ZONES]
        unlock_pageset(core, cpu, number - cpu * core.header[H_ZONES])


@inner
def spin_for_pageset(core: Core, cpu: int, zone: int, worker: int, until_ns: int) -> int:
    """HELD, or PAGESET_BUSY at `until_ns`, or STOPPED."""
    while not lock_pageset(core, cpu, zone, worker):
        if core.header[H_STOP] != 0:
            return STOPPED
        if monotonic_ns() >= until_ns:
            return PAGESET_BUSY
    return HELD


@inner
def lock_all(core: Core, worker: int) -> tuple[int, int]:
    """Take all locks: HELD and when the first was taken (monotonic, ns), or why none is held."""
    zones = core.header[H_ZONES]
    pagesets = core.header[H_CPUS] * zones
    until_ns = monotonic_ns() + SPIN_NS
    since_ns = 0
    for number in range(pagesets):
        cpu = number // zones
        answer = spin_for_pageset(core, cpu, number - cpu * zones, worker, until_ns)
        if answer != HELD:
            unlock_first(core, worker, number, 0)
            return answer, 0
        if number == 0:
            since_ns = monotonic_ns()
    for zone in range(zones):
        answer = lock_zone(core, zone, worker)
        if answer != HELD:
            unlock_first(core, worker, pagesets, zone)
            return answer, 0
    return HELD, since_ns


@entry
def turn_all_locks(base: int, worker: int, take: int) -> tuple[int, int]:
    """Take all locks (`take` 1: as `lock_all`), or let them go (0): HELD and when the last went.

    One function for both, so that what lets them go is compiled before they are taken.
    """
    core = open_core(base)
    if take != 0:
        return lock_all(core, worker)
    zones = core.header[H_ZONES]
    unlock_first(core, worker, core.header[H_CPUS] * zones, zones)
    return HELD, monotonic_ns()
