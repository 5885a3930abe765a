"""The page cache made anew after its lock's holder died in the middle of a change.

What each slot says of its own page is believed where the page agrees: it is in use by the load
whose file it is, and in no other slot. Other slots become empty, and their pages, if nobody else
claims them, are freed with the rest. Lists, queues and counters are made from what the slots say;
a page that was between two lists goes to the inactive one, or the unevictable if it is locked.
"""

import numpy as np
import numpy.typing as npt

from pagesoak.allocator.claims import load_words
from pagesoak.allocator.state_arrays import Arrays, arrays_of
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_MASK,
    L_OWNER,
    ORDER_MASK,
    PREVIOUS,
    STATE,
    Z_END_PFN,
    Z_NODE,
)
from pagesoak.base.layout_reclaim import (
    CACHE_FIRST_SLOT,
    DIRTY,
    HEADS_FIRST_SLOT,
    L_FILE_PAGES,
    L_FIRST_SLOT,
    L_MLOCKED_PAGES,
    L_TMPFS_PAGES,
    LRU_INACTIVE,
    LRU_LIST_MASK,
    LRU_LISTS,
    LRU_NONE,
    LRU_UNEVICTABLE,
    NODES_MAX,
    Q_DIRTY,
    Q_FIRST,
    Q_LAST,
    Q_PAGES,
    Q_WRITEBACK,
    S_DUE_HIGH,
    S_DUE_LOW,
    S_NEXT,
    S_PFN,
    S_PREVIOUS,
    S_QUEUE_NEXT,
    S_STATE,
    SLOT_WORDS,
    WRITEBACK,
    Z_INACTIVE_FILE,
)
from pagesoak.base.segment import Segment

Slots = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
ABSENT = -1


def rebuild_cache(segment: Segment) -> int:
    """Make the page cache's lists anew; the slots that had to be emptied."""
    if segment.plan.cache_slots == 0:
        return 0
    arrays = arrays_of(segment)
    slots = np.frombuffer(segment.cache, dtype=np.int32).reshape(-1, SLOT_WORDS)
    good = _believed(segment, arrays, slots)
    empty = np.ones(len(slots), dtype=np.bool_)
    empty[:CACHE_FIRST_SLOT] = empty[good] = False
    emptied = int(np.count_nonzero(slots[empty, S_PFN] != ABSENT))
    slots[empty, S_PFN] = ABSENT
    slots[empty, S_STATE] = LRU_NONE
    _link_lists(arrays, slots, good)
    waiting = slots[good, S_STATE] & (DIRTY | WRITEBACK)
    _link_queue(segment, slots, Q_DIRTY, good[waiting == DIRTY])
    _link_queue(segment, slots, Q_WRITEBACK, good[waiting & WRITEBACK != 0])
    return emptied


def _believed(segment: Segment, arrays: Arrays, slots: Slots) -> Numbers:
    """The slots whose page agrees with them; each is on a list by its state then, or of tmpfs."""
    found = []
    for load in range(segment.plan.loads):
        words = load_words(segment, load)
        first, files = words[L_FIRST_SLOT], words[L_FILE_PAGES]
        own = np.arange(first, first + files + words[L_TMPFS_PAGES], dtype=np.int64)
        pfns = slots[own, S_PFN].astype(np.int64)
        inside = (pfns >= 0) & (pfns < segment.plan.max_pfn)
        own, pfns = own[inside], pfns[inside]
        pages = arrays.pages[pfns]
        agree = pages[:, STATE] & (KIND_MASK | ORDER_MASK) == KIND_ALLOCATED
        agree &= pages[:, PREVIOUS] == words[L_OWNER]
        own = own[agree]
        listless = own[(own < first + files) & (slots[own, S_STATE] & LRU_LIST_MASK == LRU_NONE)]
        locked = listless < first + words[L_MLOCKED_PAGES]
        slots[listless, S_STATE] |= np.where(locked, LRU_UNEVICTABLE, LRU_INACTIVE)
        found.append(own)
    good = np.concatenate(found)
    _, place, count = np.unique(slots[good, S_PFN], return_inverse=True, return_counts=True)
    return np.sort(good[count[place] == 1])


def _link_lists(arrays: Arrays, slots: Slots, good: Numbers) -> None:
    zones = np.searchsorted(arrays.zones[:, Z_END_PFN], slots[good, S_PFN], side="right")
    nodes = arrays.zones[zones, Z_NODE]
    says = slots[good, S_STATE] & LRU_LIST_MASK
    for lru in range(LRU_INACTIVE, LRU_LISTS):
        for node in range(NODES_MAX):
            head = HEADS_FIRST_SLOT + node * LRU_LISTS + lru
            members = good[(says == lru) & (nodes == node)]
            ring = np.concatenate([np.array([head], dtype=np.int64), members])
            slots[ring, S_NEXT] = np.roll(ring, -1)
            slots[ring, S_PREVIOUS] = np.roll(ring, 1)
        counted = np.bincount(zones[says == lru], minlength=len(arrays.zones))
        arrays.zones[:, Z_INACTIVE_FILE + lru - LRU_INACTIVE] = counted


def _link_queue(segment: Segment, slots: Slots, queue: int, members: Numbers) -> None:
    """A queue of these slots, by when they became dirty, or will have been written."""
    members = members[np.lexsort((slots[members, S_DUE_LOW], slots[members, S_DUE_HIGH]))]
    slots[members, S_QUEUE_NEXT] = np.append(members[1:], 0)[: len(members)]
    segment.cache[queue + Q_FIRST] = int(members[0]) if len(members) else 0
    segment.cache[queue + Q_LAST] = int(members[-1]) if len(members) else 0
    segment.cache[queue + Q_PAGES] = len(members)
