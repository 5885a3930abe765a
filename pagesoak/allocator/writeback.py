"""Dirty pages: how they come to be written, and when their writer is held up.

Models Linux 6.1 `mm/page-writeback.c` and the flusher of `fs/fs-writeback.c`, simplified: pages
are written in the order in which they became dirty; each is clean again a fixed time after the
flusher took it, however many there are. The flusher begins when more than
`dirty_background_ratio` of what could be dirty is, when the oldest page has been dirty for
`dirty_expire_centisecs`, and when reclaim asks for it; then it takes all there are. A writer is
held up while more than `dirty_ratio` is dirty or being written (the kernel slows it down before).

A page that reclaim met in the meantime goes to the tail of the inactive list when it is written
(`folio_rotate_reclaimable`): it is the next to be taken. Everything under the cache's lock.
"""

from pagesoak.allocator.page_cache import lru_add, lru_delete
from pagesoak.base.clock import now_ns
from pagesoak.base.layout import (
    H_ZONES,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_WMARK_HIGH,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import (
    DIRTY,
    H_WRITEBACK_NS,
    LRU_ACTIVE,
    LRU_INACTIVE,
    LRU_LIST_MASK,
    Q_DIRTY,
    Q_FIRST,
    Q_LAST,
    Q_PAGES,
    Q_WRITEBACK,
    RECLAIM,
    S_DUE_HIGH,
    S_DUE_LOW,
    S_QUEUE_NEXT,
    S_STATE,
    SLOT_WORDS,
    WRITEBACK,
    Z_ACTIVE_FILE,
    Z_INACTIVE_FILE,
)
from pagesoak.base.native import Words, inner
from pagesoak.base.statistics import PAGES_WRITTEN, count

DIRTY_BACKGROUND_PERCENT = 10
"""dirty_background_ratio."""
DIRTY_PERCENT = 20
"""dirty_ratio."""
DIRTY_EXPIRE_NS = 30_000_000_000
"""dirty_expire_centisecs, 3000."""
RESERVE_COLUMNS = 4
_LOW_BITS = 31
_LOW_MASK = (1 << _LOW_BITS) - 1
NONE = 0
"""No slot of a file: the first are the cache's own."""


@inner
def _set_time(slots: Words, slot: int, time_ns: int) -> None:
    slots[slot * SLOT_WORDS + S_DUE_HIGH] = time_ns >> _LOW_BITS
    slots[slot * SLOT_WORDS + S_DUE_LOW] = time_ns & _LOW_MASK


@inner
def _time_ns(slots: Words, slot: int) -> int:
    high = slots[slot * SLOT_WORDS + S_DUE_HIGH]
    return (high << _LOW_BITS) | slots[slot * SLOT_WORDS + S_DUE_LOW]


@inner
def _append(slots: Words, queue: int, slot: int) -> None:
    """Put a slot at the end of a queue."""
    slots[slot * SLOT_WORDS + S_QUEUE_NEXT] = NONE
    if slots[queue + Q_FIRST] == NONE:
        slots[queue + Q_FIRST] = slot
    else:
        slots[slots[queue + Q_LAST] * SLOT_WORDS + S_QUEUE_NEXT] = slot
    slots[queue + Q_LAST] = slot
    slots[queue + Q_PAGES] += 1


@inner
def _pop(slots: Words, queue: int) -> int:
    """Take the first slot of a queue that is not empty."""
    slot = slots[queue + Q_FIRST]
    following = slots[slot * SLOT_WORDS + S_QUEUE_NEXT]
    slots[queue + Q_FIRST] = following
    if following == NONE:
        slots[queue + Q_LAST] = NONE
    slots[queue + Q_PAGES] -= 1
    slots[slot * SLOT_WORDS + S_QUEUE_NEXT] = NONE
    return slot


@inner
def mark_dirty(core: Core, worker: int, slots: Words, slot: int) -> None:
    """A page was written to: it waits for the flusher, unless it does already.

    One that is being written is written again afterwards.
    """
    at = slot * SLOT_WORDS
    state = slots[at + S_STATE]
    slots[at + S_STATE] = state | DIRTY
    if state & (DIRTY | WRITEBACK) == 0:
        _set_time(slots, slot, now_ns(core, worker))
        _append(slots, Q_DIRTY, slot)


@inner
def wake_flusher(core: Core, worker: int, slots: Words) -> None:
    """Hand every dirty page to the device."""
    due_ns = now_ns(core, worker) + core.header[H_WRITEBACK_NS]
    while slots[Q_DIRTY + Q_FIRST] != NONE:
        slot = _pop(slots, Q_DIRTY)
        at = slot * SLOT_WORDS
        slots[at + S_STATE] = (slots[at + S_STATE] & ~DIRTY) | WRITEBACK
        _set_time(slots, slot, due_ns)
        _append(slots, Q_WRITEBACK, slot)


@inner
def _rotate_reclaimable(core: Core, slots: Words, slot: int) -> None:
    lru = slots[slot * SLOT_WORDS + S_STATE] & LRU_LIST_MASK
    if lru in (LRU_INACTIVE, LRU_ACTIVE):
        lru_delete(core, slots, slot)
        lru_add(core, slots, slot, LRU_INACTIVE, True)


@inner
def end_writeback(core: Core, worker: int, slots: Words) -> None:
    """Pages whose writing is over by now are clean; those written to meanwhile wait again."""
    now = now_ns(core, worker)
    while slots[Q_WRITEBACK + Q_FIRST] != NONE:
        if _time_ns(slots, slots[Q_WRITEBACK + Q_FIRST]) > now:
            return
        slot = _pop(slots, Q_WRITEBACK)
        at = slot * SLOT_WORDS
        state = slots[at + S_STATE]
        slots[at + S_STATE] = state & ~(WRITEBACK | RECLAIM)
        count(core, worker, PAGES_WRITTEN, 1)
        if state & DIRTY:
            _set_time(slots, slot, now)
            _append(slots, Q_DIRTY, slot)
        elif state & RECLAIM:
            _rotate_reclaimable(core, slots, slot)


@inner
def dirtyable_pages(core: Core) -> int:
    """Pages that could be dirty: what is free above the reserves of all zones together, and the
    file pages (`global_dirtyable_memory`, `calculate_totalreserve_pages`). A zone reserves at most
    what it has.
    """
    free = reserves = files = 0
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        reserve = 0
        for column in range(RESERVE_COLUMNS):
            reserve = max(reserve, core.zones[z + Z_LOWMEM_RESERVE + column])
        reserve += core.zones[z + Z_WMARK_HIGH]
        reserves += min(reserve, core.zones[z + Z_MANAGED])
        free += core.zones[z + Z_FREE_PAGES]
        files += core.zones[z + Z_INACTIVE_FILE] + core.zones[z + Z_ACTIVE_FILE]
    return max(free - reserves, 0) + files


@inner
def run_flusher(core: Core, worker: int, slots: Words) -> None:
    """What the flusher and the device have done by now."""
    end_writeback(core, worker, slots)
    if slots[Q_DIRTY + Q_FIRST] == NONE:
        return
    oldest_ns = _time_ns(slots, slots[Q_DIRTY + Q_FIRST])
    background = dirtyable_pages(core) * DIRTY_BACKGROUND_PERCENT // 100
    expired = now_ns(core, worker) - oldest_ns >= DIRTY_EXPIRE_NS
    if expired or slots[Q_DIRTY + Q_PAGES] > background:
        wake_flusher(core, worker, slots)


@inner
def writer_is_held_up(core: Core, slots: Words) -> bool:
    """Whether a writer must wait for the device (`balance_dirty_pages`)."""
    held = slots[Q_DIRTY + Q_PAGES] + slots[Q_WRITEBACK + Q_PAGES]
    return held > dirtyable_pages(core) * DIRTY_PERCENT // 100
