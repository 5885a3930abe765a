"""Taking every lock of the guest at once, so that the whole state can be copied as of one instant.

The page cache first, then pagesets, by CPU and zone, then zones, ascending: the order in which
workers take theirs. A
pageset that cannot be claimed in time (its worker died inside, or waits for a zone lock) undoes
the rest.
"""

from pagesoak.allocator.lru_lock import has_cache, lock_cache, unlock_cache
from pagesoak.allocator.pageset_lock import claim_pageset, unclaim_pageset
from pagesoak.base.external import monotonic_ns
from pagesoak.base.layout import H_CPUS, H_STOP, H_ZONES, PAGESET_WORDS, Core, open_core
from pagesoak.base.lock import HELD, STOPPED, ZONE_DEAD, lock_zone, unlock_zone
from pagesoak.base.native import entry, inner

PAGESET_BUSY = 3
"""Beside HELD, ZONE_DEAD and STOPPED of `base.lock`: a pageset's holder did not let go in time."""


@inner
def unlock_first(core: Core, worker: int, pagesets: int, zones: int) -> None:
    """Let the first so many zones and pagesets go."""
    for zone in range(zones):
        unlock_zone(core, zone, worker)
    for number in range(pagesets):
        unclaim_pageset(core, number * PAGESET_WORDS)
    if has_cache(core):
        unlock_cache(core)


@inner
def lock_all(core: Core, worker: int) -> tuple[int, int]:
    """Take all locks: HELD and when the first was taken (monotonic, ns), or why none is held."""
    zones = core.header[H_ZONES]
    pagesets = core.header[H_CPUS] * zones
    since_ns = monotonic_ns()
    if has_cache(core) and not lock_cache(core, worker):
        return STOPPED if core.header[H_STOP] != 0 else ZONE_DEAD, 0
    for number in range(pagesets):
        if not claim_pageset(core, number * PAGESET_WORDS, worker):
            unlock_first(core, worker, number, 0)
            return STOPPED if core.header[H_STOP] != 0 else PAGESET_BUSY, 0
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
