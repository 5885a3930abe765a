"""The audit's checks of the page cache: which page each slot has, LRU lists, queues, counters."""

from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pagesoak.allocator.audit_blocks import Breach, breaches_at
from pagesoak.allocator.state_arrays import Arrays, GuestState, arrays_of
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_MASK,
    ORDER_MASK,
    OWNER_FIRST_LOAD,
    PREVIOUS,
    STATE,
    Z_END_PFN,
    Z_NODE,
    Z_START_PFN,
)
from pagesoak.base.layout_reclaim import (
    CACHE_FIRST_SLOT,
    DIRTY,
    HEADS_FIRST_SLOT,
    LRU_INACTIVE,
    LRU_LIST_MASK,
    LRU_LISTS,
    LRU_NONE,
    NODES_MAX,
    Q_DIRTY,
    Q_FIRST,
    Q_LAST,
    Q_PAGES,
    Q_WRITEBACK,
    S_NEXT,
    S_PFN,
    S_PREVIOUS,
    S_QUEUE_NEXT,
    S_STATE,
    SLOT_WORDS,
    WRITEBACK,
    Z_INACTIVE_FILE,
)

Slots = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
LIST_NAMES = ("no list", "inactive list", "active list", "unevictable list")
NO_ZONE = -1
ABSENT = -1


def check_cache(state: GuestState) -> list[Breach]:
    """`page-cache` and `lru-lists` of the whole guest."""
    if state.plan.cache_slots == 0:
        return []
    arrays = arrays_of(state)
    slots = np.frombuffer(state.cache, dtype=np.int32).reshape(-1, SLOT_WORDS)
    present = np.flatnonzero(slots[CACHE_FIRST_SLOT:, S_PFN] != ABSENT) + CACHE_FIRST_SLOT
    pfns = slots[present, S_PFN].astype(np.int64)
    wild = present[(pfns < 0) | (pfns >= state.plan.max_pfn)]
    if len(wild):
        return _at("page-cache", wild, "slot {pfn} names no page")
    found = list(_pages(arrays, slots, present, pfns))
    found += _lists(state, arrays, slots, present, pfns)
    found += _queue(state.cache, slots, Q_DIRTY, DIRTY, DIRTY | WRITEBACK, "to be written")
    found += _queue(state.cache, slots, Q_WRITEBACK, WRITEBACK, WRITEBACK, "being written")
    return found


def _at(check: str, slots: Numbers, message: str) -> list[Breach]:
    return [breach._replace(pfn=-1) for breach in breaches_at(check, NO_ZONE, slots, message)]


def _pages(arrays: Arrays, slots: Slots, present: Numbers, pfns: Numbers) -> Iterator[Breach]:
    """Each page in the cache is one page in use, of a load, and in one slot."""
    state = arrays.pages[pfns, STATE]
    taken = (state & (KIND_MASK | ORDER_MASK)) == KIND_ALLOCATED
    owned = arrays.pages[pfns, PREVIOUS] >= OWNER_FIRST_LOAD
    for wrong in (~taken, taken & ~owned):
        yield from breaches_at(
            "page-cache", NO_ZONE, pfns[wrong], "page {pfn} is in the cache but in no load's use"
        )
    values, counts = np.unique(pfns, return_counts=True)
    yield from breaches_at(
        "page-cache", NO_ZONE, values[counts > 1], "page {pfn} is in two slots of the cache"
    )
    absent = np.ones(len(slots), dtype=np.bool_)
    absent[:CACHE_FIRST_SLOT] = False
    absent[present] = False
    left = np.flatnonzero(absent & (slots[:, S_STATE] != 0))
    yield from _at("page-cache", left, "slot {pfn} has no page but flags of one")


def _lists(
    state: GuestState, arrays: Arrays, slots: Slots, present: Numbers, pfns: Numbers
) -> Iterator[Breach]:
    """Each page that says so is on its node's list, once; the counters say how many."""
    zones = np.searchsorted(arrays.zones[:, Z_END_PFN], pfns, side="right")
    node_of = np.full(len(slots), NODES_MAX, dtype=np.int8)
    node_of[present] = arrays.zones[zones, Z_NODE]
    seen = np.zeros(len(slots), dtype=np.bool_)
    for node in range(NODES_MAX):
        for lru in range(LRU_INACTIVE, LRU_LISTS):
            name = f"the {LIST_NAMES[lru]} of node {node}"
            walked, fault = _walk(state.cache, HEADS_FIRST_SLOT + node * LRU_LISTS + lru)
            if fault is not None:
                yield Breach("lru-lists", f"{name} {fault}")
                continue
            members = np.frombuffer(walked, dtype=np.int32).astype(np.int64)
            says = slots[members, S_STATE] & LRU_LIST_MASK
            strange = members[(says != lru) | (node_of[members] != node)]
            yield from _at("lru-lists", strange, f"slot {{pfn}} does not belong on {name}")
            seen[members] = True
    says = slots[present, S_STATE] & LRU_LIST_MASK
    lost = present[(says != LRU_NONE) & ~seen[present]]
    yield from _at("lru-lists", lost, "slot {pfn} is on no list")
    for zone in range(len(arrays.zones)):
        inside = (pfns >= arrays.zones[zone, Z_START_PFN]) & (pfns < arrays.zones[zone, Z_END_PFN])
        for lru in range(LRU_INACTIVE, LRU_LISTS):
            counter = int(arrays.zones[zone, Z_INACTIVE_FILE + lru - LRU_INACTIVE])
            pages = int(np.count_nonzero(inside & (says == lru)))
            if counter != pages:
                message = f"the {LIST_NAMES[lru]} has {pages} of its pages, its counter {counter}"
                yield Breach("lru-lists", message, zone)


def _walk(words: memoryview, head: int) -> tuple["array[int]", str | None]:
    """The slots of a list, and what is wrong with its links."""
    slots = len(words) // SLOT_WORDS
    members = array("i")
    before, slot = head, words[head * SLOT_WORDS + S_NEXT]
    while slot != head:
        if not CACHE_FIRST_SLOT <= slot < slots:
            return members, f"leads to {slot}, which is no page's slot"
        if len(members) == slots:
            return members, "does not come back to its head"
        if words[slot * SLOT_WORDS + S_PREVIOUS] != before:
            return members, f"does not link back from slot {slot}"
        members.append(slot)
        before, slot = slot, words[slot * SLOT_WORDS + S_NEXT]
    if words[head * SLOT_WORDS + S_PREVIOUS] != before:
        return members, "has another tail than its last page"
    return members, None


def _queue(
    words: memoryview, slots: Slots, queue: int, flag: int, mask: int, name: str
) -> Iterator[Breach]:
    """Every page with the flag is in its queue, in no other, once; the queue knows its length."""
    members = array("i")
    slot, last = words[queue + Q_FIRST], 0
    while slot != 0 and len(members) < len(slots) and CACHE_FIRST_SLOT <= slot < len(slots):
        members.append(slot)
        last, slot = slot, words[slot * SLOT_WORDS + S_QUEUE_NEXT]
    if slot != 0 or words[queue + Q_LAST] != last:
        yield Breach("page-cache", f"the queue of pages {name} has no proper end")
        return
    if words[queue + Q_PAGES] != len(members):
        message = f"{len(members)} pages are queued {name}, the count is {words[queue + Q_PAGES]}"
        yield Breach("page-cache", message)
    flagged = np.flatnonzero(slots[CACHE_FIRST_SLOT:, S_STATE] & mask == flag) + CACHE_FIRST_SLOT
    if not np.array_equal(np.sort(np.frombuffer(members, dtype=np.int32)), flagged):
        yield Breach("page-cache", f"not just the pages {name} are in their queue")
