"""The lock of the page cache: slots, LRU lists, queues, and the counters of pages on those lists.

Models `lruvec->lru_lock` and the lock of each file's page tree in one. A robust mutex like the
zone locks' (`base.lock`), taken before any of a pageset or a zone: reclaim frees pages while it
holds it. Who finds its holder dead cannot tell what was half done, and marks a zone dead, so that
everybody gives up as with a zone's lock.
"""

from pagesoak.base import recorder
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
from pagesoak.base.layout import H_OFFSETS, H_STOP, Z_DEAD, Core
from pagesoak.base.layout_reclaim import H_CACHE_SLOTS, SECTION_CACHE
from pagesoak.base.lock import SLICE_NS
from pagesoak.base.native import inner
from pagesoak.base.recorder import record

_CACHE_OFFSET = H_OFFSETS + SECTION_CACHE
NO_ZONE = -1


@inner
def lock_cache(core: Core, worker: int) -> bool:
    """Take the lock; False, and it is not held, when the run ends or its holder has died."""
    address = core.base + core.header[_CACHE_OFFSET]
    answer = int(mutex_trylock(address))
    while answer in (BUSY, TIMED_OUT) and core.header[H_STOP] == 0:
        answer = int(mutex_lock_until(address, monotonic_ns() + SLICE_NS))
    if answer == OWNER_DEAD:
        core.zones[Z_DEAD] = 1
        mutex_consistent(address)
        mutex_unlock(address)
        record(core, worker, recorder.LOCK_DEAD, NO_ZONE, 0, 0, 0, 0)
        return False
    return answer == LOCKED


@inner
def unlock_cache(core: Core) -> None:
    """Give the lock back."""
    mutex_unlock(core.base + core.header[_CACHE_OFFSET])


@inner
def has_cache(core: Core) -> bool:
    """Whether the guest has files at all."""
    return core.header[H_CACHE_SLOTS] != 0
