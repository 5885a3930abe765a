"""One short text for the guest's state: runs with the same digest ended in the same state.

It covers what the guest is: each zone's sizes, watermarks and counters, blocks per order, every
list's members in order, the pagesets, the type of every page block, and of every page record kind,
order, type and flags, and for taken blocks owner and sequence number. It leaves out how the run
was watched (lowest figures, lock times), how pages are told apart in memory (stamps, links as
such), and which pageset a taken page came from. The compiled and the plain core give the same
digest, on every machine.
"""

import hashlib

import numpy as np

from pagesoak.allocator.state_arrays import (
    Arrays,
    GuestState,
    ListOf,
    arrays_of,
    free_lists_of,
    pageset_lists_of,
    walk_list,
)
from pagesoak.allocator.watermark_setup import ZONE_COLUMNS
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    BLOCK_MASK,
    KIND_ALLOCATED,
    KIND_MASK,
    MAX_ORDER,
    NEXT,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    PREVIOUS,
    STATE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_BOOT_PAGES,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_ISOLATED,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_NR_FREE,
    Z_RECLAIM_ACTIVE,
    Z_REPORTED,
    Z_RESERVED,
    Z_RESERVED_HIGHATOMIC,
    Z_START_PFN,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
)
from pagesoak.base.layout_kernel import (
    P_ALLOC_FACTOR,
    P_TUNED_FLAGS,
    Z_BELOW_HIGH,
    Z_FREE_HIGHATOMIC,
)
from pagesoak.base.layout_reclaim import HEADS_FIRST_SLOT, S_DUE_HIGH, SLOT_WORDS

DIGEST_BYTES = 16

ZONE_STATE = (
    Z_INDEX,
    Z_NODE,
    Z_START_PFN,
    Z_END_PFN,
    Z_MANAGED,
    Z_RESERVED,
    Z_FREE_PAGES,
    Z_WMARK_MIN,
    Z_WMARK_LOW,
    Z_WMARK_HIGH,
    Z_BOOST,
    *range(Z_LOWMEM_RESERVE, Z_LOWMEM_RESERVE + ZONE_COLUMNS),
    Z_RESERVED_HIGHATOMIC,
    Z_ISOLATED,
    Z_REPORTED,
    Z_BOOT_PAGES,
    Z_BOOSTED,
    Z_BOOST_FACTOR,
    Z_RECLAIM_ACTIVE,
    Z_FREE_HIGHATOMIC,
    Z_BELOW_HIGH,
    *range(Z_NR_FREE, Z_NR_FREE + MAX_ORDER),
)
"""Words of a zone record that are the guest's state."""
PAGESET_STATE = (P_COUNT, P_HIGH, P_FREE_FACTOR, P_ALLOC_FACTOR, P_TUNED_FLAGS)

WORD = np.dtype("<i8")
RECORD = np.dtype("<i4")
"""What is hashed is little-endian, on every machine."""


def state_digest(state: GuestState) -> str:
    """The digest of a state that nobody changes meanwhile; 32 hexadecimal digits.

    Raises HarnessError when a list does not come back to its head.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    fault = _feed(digest, state)
    if fault is not None:
        raise HarnessError(f"no digest: {fault}")
    return digest.hexdigest()


def _feed(digest: "hashlib.blake2b", state: GuestState) -> str | None:
    """Hash everything; returns what is wrong with a list. No array outlives it."""
    arrays = arrays_of(state)
    digest.update(np.array(state.plan[:3], dtype=WORD).tobytes())
    digest.update(np.asarray(arrays.zones[:, ZONE_STATE], dtype=WORD).tobytes())
    digest.update(np.asarray(arrays.pagesets[:, :, PAGESET_STATE], dtype=WORD).tobytes())
    digest.update(arrays.blocks.tobytes())
    for place in _all_lists(state, arrays):
        walk = walk_list(state, place.head, state.plan.max_pfn)
        if walk.fault is not None:
            return f"a list of order {place.order} {walk.fault}"
        digest.update(np.array([len(walk.members)], dtype=WORD).tobytes())
        digest.update(np.array(walk.members, dtype=RECORD).tobytes())
    if state.plan.cache_slots:
        cache = np.frombuffer(state.cache, dtype=np.int32).reshape(-1, SLOT_WORDS)
        digest.update(np.asarray(cache[HEADS_FIRST_SLOT:, :S_DUE_HIGH], dtype=RECORD).tobytes())
    pages = arrays.pages[: state.plan.max_pfn]
    block = np.asarray(pages[:, STATE] & BLOCK_MASK, dtype=RECORD)
    digest.update(block.tobytes())
    taken = np.flatnonzero(block & KIND_MASK == KIND_ALLOCATED)
    digest.update(np.asarray(pages[taken, PREVIOUS], dtype=RECORD).tobytes())
    digest.update(np.asarray(pages[taken, NEXT], dtype=RECORD).tobytes())
    return None


def _all_lists(state: GuestState, arrays: Arrays) -> list[ListOf]:
    lists: list[ListOf] = []
    for zone in range(state.plan.zones):
        lists += free_lists_of(arrays, zone)
        for cpu in range(state.plan.cpus):
            lists += pageset_lists_of(arrays, cpu, zone)
    return lists
