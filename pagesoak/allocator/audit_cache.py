"""The audit's checks of the page cache: which page each slot has, LRU lists, queues, counters."""

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
    found += _lists(arrays, slots, present, pfns)
    found += _queue(slots, Q_DIRTY, DIRTY, DIRTY | WRITEBACK, "to be written")
    found += _queue(slots, Q_WRITEBACK, WRITEBACK, WRITEBACK, "being written")
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


def _lists(arrays: Arrays, slots: Slots, present: Numbers, pfns: Numbers) -> Iterator[Breach]:
    """Each page that says so is on its node's list, once; the counters say how many."""
    zones = np.searchsorted(arrays.zones[:, Z_END_PFN], pfns, side="right")
    node_of = dict(zip(present.tolist(), arrays.zones[zones, Z_NODE].tolist(), strict=True))
    seen: set[int] = set()
    for node in range(NODES_MAX):
        for lru in range(LRU_INACTIVE, LRU_LISTS):
            name = f"the {LIST_NAMES[lru]} of node {node}"
            head = HEADS_FIRST_SLOT + node * LRU_LISTS + lru
            members, fault = _walk(slots, head)
            if fault is not None:
                yield Breach("lru-lists", f"{name} {fault}")
                continue
            for slot in members:
                says = int(slots[slot, S_STATE]) & LRU_LIST_MASK
                if says != lru or node_of.get(slot) != node:
                    yield Breach("lru-lists", f"slot {slot} does not belong on {name}")
            seen.update(members)
    says = slots[present, S_STATE] & LRU_LIST_MASK
    lost = [slot for slot in present[says != LRU_NONE].tolist() if slot not in seen]
    yield from _at("lru-lists", np.array(lost, dtype=np.int64), "slot {pfn} is on no list")
    for zone in range(len(arrays.zones)):
        inside = (pfns >= arrays.zones[zone, Z_START_PFN]) & (pfns < arrays.zones[zone, Z_END_PFN])
        for lru in range(LRU_INACTIVE, LRU_LISTS):
            counter = int(arrays.zones[zone, Z_INACTIVE_FILE + lru - LRU_INACTIVE])
            pages = int(np.count_nonzero(inside & (says == lru)))
            if counter != pages:
                message = f"the {LIST_NAMES[lru]} has {pages} of its pages, its counter {counter}"
                yield Breach("lru-lists", message, zone)


def _walk(slots: Slots, head: int) -> tuple[list[int], str | None]:
    """The slots of a list, and what is wrong with its links."""
    members: list[int] = []
    before, slot = head, int(slots[head, S_NEXT])
    while slot != head:
        if not CACHE_FIRST_SLOT <= slot < len(slots):
            return members, f"leads to {slot}, which is no page's slot"
        if len(members) == len(slots):
            return members, "does not come back to its head"
        if slots[slot, S_PREVIOUS] != before:
            return members, f"does not link back from slot {slot}"
        members.append(slot)
        before, slot = slot, int(slots[slot, S_NEXT])
    if slots[head, S_PREVIOUS] != before:
        return members, "has another tail than its last page"
    return members, None


def _queue(slots: Slots, queue: int, flag: int, mask: int, name: str) -> Iterator[Breach]:
    """Every page with the flag is in its queue, in no other, once; the queue knows its length."""
    words = slots.reshape(-1)
    members: list[int] = []
    slot = int(words[queue + Q_FIRST])
    last = 0
    while slot != 0 and len(members) < len(slots) and CACHE_FIRST_SLOT <= slot < len(slots):
        members.append(slot)
        last, slot = slot, int(slots[slot, S_QUEUE_NEXT])
    if slot != 0 or words[queue + Q_LAST] != last:
        yield Breach("page-cache", f"the queue of pages {name} has no proper end")
        return
    if words[queue + Q_PAGES] != len(members):
        message = f"{len(members)} pages are queued {name}, the count is {words[queue + Q_PAGES]}"
        yield Breach("page-cache", message)
    flagged = np.flatnonzero(slots[CACHE_FIRST_SLOT:, S_STATE] & mask == flag) + CACHE_FIRST_SLOT
    if sorted(members) != flagged.tolist():
        yield Breach("page-cache", f"not just the pages {name} are in their queue")
