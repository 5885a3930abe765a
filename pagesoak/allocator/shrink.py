"""Scanning a node's LRU lists: what is reclaimed, what is kept, what changes lists.

Models Linux 6.1 `mm/vmscan.c`: `shrink_node`, `get_scan_count`, `shrink_lruvec`,
`shrink_inactive_list`, `shrink_folio_list`, `shrink_active_list`, `inactive_is_low`, for a guest
without swap (file lists only), memory cgroups and mapped file pages. A clean page on the inactive
list is freed when it is met, used before or not. A dirty one, and one that is being written,
becomes active and is marked, so that it is the next to go once it is written; where nothing but
dirty pages is met the flusher is woken. Slab is not modelled, and neither is the waiting for
congested devices.
"""

from typing import NamedTuple

from pagesoak.allocator.gfp import ZONE_MOVABLE
from pagesoak.allocator.lru_lock import has_cache, lock_cache, unlock_cache
from pagesoak.allocator.node import node_at
from pagesoak.allocator.page_alloc import ABORTED
from pagesoak.allocator.page_cache import cache_remove, lru_add, lru_delete, lru_head, slots_of
from pagesoak.allocator.page_free import zone_of
from pagesoak.allocator.writeback import end_writeback, wake_flusher
from pagesoak.base.clock import spend
from pagesoak.base.layout import (
    H_STOP,
    H_ZONES,
    Z_INDEX,
    Z_NODE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import (
    DIRTY,
    LRU_ACTIVE,
    LRU_INACTIVE,
    N_FAILURES,
    RECLAIM,
    S_PFN,
    S_PREVIOUS,
    S_STATE,
    SLOT_WORDS,
    WRITEBACK,
    Z_INACTIVE_FILE,
)
from pagesoak.base.layout_virtual import C_RECLAIM_PAGE
from pagesoak.base.native import Words, inner
from pagesoak.base.statistics import (
    PAGES_ACTIVATED,
    PAGES_DEACTIVATED,
    PAGES_SCANNED_DIRECT,
    PAGES_STOLEN_DIRECT,
    count,
)

CLUSTER_PAGES = 32
"""Scanned under one hold of the lock; what direct reclaim wants (SWAP_CLUSTER_MAX)."""
PRIORITY_FIRST = 12
"""A list's size is shifted right by the priority: the first look takes a 4096th (DEF_PRIORITY)."""
LARGE_LISTS_SHIFT = 30 - 12
"""From 1 GiB of file pages on the active list may be larger than the inactive one."""
RATIO_UNIT = 10

DIRECT = 0
KSWAPD = 1
"""Who reclaims; the counters of kswapd stand behind those of direct reclaim."""


@inner
def lru_size(core: Core, node: int, lru: int, highest_zone: int) -> int:
    """Pages on a node's list in zones up to an index (`lruvec_lru_size`)."""
    pages = 0
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_NODE] == node and core.zones[z + Z_INDEX] <= highest_zone:
            pages += core.zones[z + Z_INACTIVE_FILE + lru - LRU_INACTIVE]
    return pages


@inner
def square_root(value: int) -> int:
    """The whole part of it."""
    root = 0
    while (root + 1) * (root + 1) <= value:
        root += 1
    return root


@inner
def inactive_is_low(core: Core, node: int) -> bool:
    """Whether pages must come from the active to the inactive list."""
    inactive = lru_size(core, node, LRU_INACTIVE, ZONE_MOVABLE)
    active = lru_size(core, node, LRU_ACTIVE, ZONE_MOVABLE)
    gibibytes = (inactive + active) >> LARGE_LISTS_SHIFT
    ratio = square_root(RATIO_UNIT * gibibytes) if gibibytes > 0 else 1
    return inactive * ratio < active


@inner
def last_of(core: Core, slots: Words, node: int, lru: int, highest_zone: int) -> int:
    """The last page of a list that lies in a zone up to an index; the list's head when there is
    none. Pages of higher zones that are met go to the front, as those that were looked at.
    """
    head = lru_head(node, lru)
    left = lru_size(core, node, lru, ZONE_MOVABLE)
    slot = slots[head * SLOT_WORDS + S_PREVIOUS]
    while left > 0 and slot != head:
        zone = zone_of(core, slots[slot * SLOT_WORDS + S_PFN])
        if core.zones[zone * ZONE_WORDS + Z_INDEX] <= highest_zone:
            return slot
        lru_delete(core, slots, slot)
        lru_add(core, slots, slot, lru, False)
        left -= 1
        slot = slots[head * SLOT_WORDS + S_PREVIOUS]
    return head


@inner
def shrink_inactive_list(
    core: Core, worker: int, node: int, pages: int, highest_zone: int, who: int
) -> int:
    """Look at up to `pages` pages from the inactive list's end; how many were freed."""
    if not lock_cache(core, worker):
        return 0
    slots = slots_of(core)
    end_writeback(core, worker, slots)
    head = lru_head(node, LRU_INACTIVE)
    scanned = freed = dirty = 0
    while scanned < pages:
        slot = last_of(core, slots, node, LRU_INACTIVE, highest_zone)
        if slot == head:
            break
        scanned += 1
        state = slots[slot * SLOT_WORDS + S_STATE]
        if state & (DIRTY | WRITEBACK) == 0:
            if cache_remove(core, worker, slots, slot) == ABORTED:
                break
            freed += 1
            continue
        if state & WRITEBACK == 0:
            dirty += 1
        slots[slot * SLOT_WORDS + S_STATE] = state | RECLAIM
        lru_delete(core, slots, slot)
        lru_add(core, slots, slot, LRU_ACTIVE, False)
        count(core, worker, PAGES_ACTIVATED, 1)
    if dirty > 0 and dirty == scanned:
        wake_flusher(core, worker, slots)
    unlock_cache(core)
    spend(core, worker, C_RECLAIM_PAGE, scanned)
    count(core, worker, PAGES_SCANNED_DIRECT + who, scanned)
    count(core, worker, PAGES_STOLEN_DIRECT + who, freed)
    return freed


@inner
def shrink_active_list(core: Core, worker: int, node: int, pages: int, highest_zone: int) -> None:
    """Bring up to `pages` pages from the active list's end to the inactive list's front."""
    if not lock_cache(core, worker):
        return
    slots = slots_of(core)
    head = lru_head(node, LRU_ACTIVE)
    scanned = 0
    while scanned < pages:
        slot = last_of(core, slots, node, LRU_ACTIVE, highest_zone)
        if slot == head:
            break
        lru_delete(core, slots, slot)
        lru_add(core, slots, slot, LRU_INACTIVE, False)
        scanned += 1
    unlock_cache(core)
    spend(core, worker, C_RECLAIM_PAGE, scanned)
    count(core, worker, PAGES_DEACTIVATED, scanned)


class Found(NamedTuple):
    """What scanning a node came to: pages freed, inactive pages looked at, active ones brought to
    the inactive list, and whether active pages were left alone that a forced sweep would take.
    """

    freed: int
    scanned: int
    deactivated: int
    skipped_active: bool


@inner
def shrink_node(
    core: Core,
    worker: int,
    node: int,
    priority: int,
    highest_zone: int,
    wanted_pages: int,
    force_deactivate: bool,
    who: int,
) -> Found:
    """Scan a node's lists at a priority until `wanted_pages` are freed or the share is scanned;
    direct reclaim's first look takes the whole share. Any page freed gives kswapd new hope.
    """
    if not has_cache(core):
        return Found(0, 0, 0, False)
    deactivates = force_deactivate or inactive_is_low(core, node)
    inactive = lru_size(core, node, LRU_INACTIVE, highest_zone) >> priority
    active = lru_size(core, node, LRU_ACTIVE, highest_zone) >> priority
    whole_share = who == DIRECT and priority == PRIORITY_FIRST
    freed = scanned = deactivated = 0
    skipped = False
    while (inactive > 0 or active > 0) and core.header[H_STOP] == 0:
        if inactive > 0:
            pages = min(inactive, CLUSTER_PAGES)
            inactive -= pages
            scanned += pages
            freed += shrink_inactive_list(core, worker, node, pages, highest_zone, who)
        if active > 0:
            pages = min(active, CLUSTER_PAGES)
            active -= pages
            if deactivates:
                deactivated += pages
                shrink_active_list(core, worker, node, pages, highest_zone)
            else:
                skipped = True
        if freed >= wanted_pages and not whole_share:
            break
    if freed > 0:
        core.header[node_at(node) + N_FAILURES] = 0
    return Found(freed, scanned, deactivated, skipped)
