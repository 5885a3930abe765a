"""Pages that nobody has any more go back to the buddy lists.

Whose pages those are is found outside (`allocator.claims`), while no worker is at work: pages of a
process that was killed, what lay in a dead CPU's pagesets, what was on its way from one place to
another. They are marked in their records and freed here, one by one, as the kernel frees them:
merged with what is free beside them, each block to the list of its page block's type.
"""

from pagesoak.allocator.buddy import block_state, free_one_page, pageblock_type, set_block
from pagesoak.allocator.lru_lock import has_cache, lock_cache, unlock_cache
from pagesoak.base.layout import (
    KIND_MASK,
    KIND_SHIFT,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
    open_core,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import entry

KIND_GIVEN_UP = 6 << KIND_SHIFT
"""A page that is to be freed; never seen by a worker or an audit."""
NOT_FREED = -1


@entry
def free_given_up(base: int, worker: int, zone: int) -> int:
    """Free every marked page of a zone; how many, or NOT_FREED when the zone cannot be had."""
    core = open_core(base)
    if lock_zone(core, zone, worker) != HELD:
        return NOT_FREED
    freed = 0
    end = core.zones[zone * ZONE_WORDS + Z_END_PFN]
    for pfn in range(core.zones[zone * ZONE_WORDS + Z_START_PFN], end):
        if block_state(core.pages, pfn) & KIND_MASK == KIND_GIVEN_UP:
            set_block(core.pages, pfn, 0)
            free_one_page(core, worker, zone, pfn, 0, pageblock_type(core, pfn), 0)
            freed += 1
    unlock_zone(core, zone, worker)
    return freed


@entry
def cache_lock_is_whole(base: int, worker: int) -> int:
    """Whether nobody died holding the lock of the page cache; if somebody did, it is usable again
    and a zone is marked dead. To be asked while no worker is at work.
    """
    core = open_core(base)
    if not has_cache(core):
        return 1
    if not lock_cache(core, worker):
        return 0
    unlock_cache(core)
    return 1
