"""The blocks of a zone as its page records tell them: the ground the audit stands on.

A block begins at every record that has a kind. Whether these blocks tile the zone is a check of
its own; the other checks compare counters and lists with what is found here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagesoak.allocator.state_arrays import Arrays, GuestState, Records, arrays_of
from pagesoak.base.layout import (
    BLOCK_MASK,
    KIND_MASK,
    KIND_NONE,
    KIND_RESERVED,
    MAX_ORDER,
    MIGRATE_TYPES,
    ORDER_MASK,
    P_LIST_BASE,
    PCP_LISTS,
    STATE,
    Z_END_PFN,
    Z_LIST_BASE,
    Z_START_PFN,
)

BREACHES_PER_CHECK_MAX = 8
"""Of one check and zone: enough to see the pattern; the last one says how many more there are."""

NO_ZONE = -1
NO_PFN = -1

Pfns = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Breach(NamedTuple):
    """Something that must never be, in a zone's record (-1: none), at a page (-1: none)."""

    check: str
    message: str
    zone: int = NO_ZONE
    pfn: int = NO_PFN


@dataclass(frozen=True)
class ZoneBlocks:
    """What the records of one zone's span say.

    `state` has the block's bits of each page from `start_pfn` on; `heads`, `kinds`, `orders` have
    one element for each record that begins a block, ascending. `pages` counts 2**order for each,
    whether the order is possible or not.
    """

    zone: int
    start_pfn: int
    end_pfn: int
    state: Records
    heads: Pfns
    kinds: Records
    orders: Records
    pages: Pfns

    def of_kind(self, kind: int) -> Mask:
        """Which heads are of a kind."""
        return np.equal(self.kinds, kind)

    def pages_of(self, kind: int) -> int:
        """Pages in blocks of a kind."""
        return int(self.pages[self.of_kind(kind)].sum())

    def spans(self, pfn: int) -> bool:
        """Whether the zone spans a page."""
        return self.start_pfn <= pfn < self.end_pfn

    def state_at(self, pfns: Pfns) -> Records:
        """The block's bits of pages that the zone spans."""
        return self.state[pfns - self.start_pfn]


def zone_blocks(arrays: Arrays, zone: int) -> ZoneBlocks:
    """Find the blocks of a zone."""
    start = int(arrays.zones[zone, Z_START_PFN])
    end = int(arrays.zones[zone, Z_END_PFN])
    state = arrays.pages[start:end, STATE] & BLOCK_MASK
    places = np.flatnonzero(state & KIND_MASK)
    heads = state[places]
    orders = heads & ORDER_MASK
    pages = np.left_shift(1, orders, dtype=np.int64)
    return ZoneBlocks(zone, start, end, state, places + start, heads & KIND_MASK, orders, pages)


def check_places(state: GuestState) -> list[Breach]:
    """Zones within the page records, ascending, and list heads where the segment has them.

    Where this does not hold, nothing else can be looked at.
    """
    arrays = arrays_of(state)
    plan = state.plan
    found = []
    end = 0
    for zone, record in enumerate(arrays.zones):
        start_pfn, end_pfn = int(record[Z_START_PFN]), int(record[Z_END_PFN])
        if not end <= start_pfn < end_pfn <= plan.max_pfn:
            message = f"the zone spans pages {start_pfn:#x} to {end_pfn:#x} of {plan.max_pfn:#x}"
            found.append(Breach("tiling", message, zone))
        end = end_pfn
    of_zones = arrays.zones[:, Z_LIST_BASE]
    of_pagesets = arrays.pagesets[:, :, P_LIST_BASE].ravel()
    per_zone = MAX_ORDER * MIGRATE_TYPES
    first = plan.max_pfn + plan.zones * per_zone
    if (of_zones != plan.max_pfn + np.arange(plan.zones) * per_zone).any():
        found.append(Breach("list-links", "the heads of the free lists are not where they were"))
    if (of_pagesets != first + np.arange(plan.cpus * plan.zones) * PCP_LISTS).any():
        found.append(Breach("list-links", "the heads of the pagesets are not where they were"))
    return found


def breaches_at(
    check: str, zone: int, pfns: npt.NDArray[np.signedinteger], message: str
) -> list[Breach]:
    """A breach for each of the first pages, the last saying how many there are in all.

    `{pfn}` in the message becomes the page.
    """
    found = [
        Breach(check, message.format(pfn=hex(pfn)), zone, pfn)
        for pfn in pfns[:BREACHES_PER_CHECK_MAX].tolist()
    ]
    if len(pfns) > len(found):
        found[-1] = found[-1]._replace(message=f"{found[-1].message} ({len(pfns)} such pages)")
    return found


def check_tiling(blocks: ZoneBlocks) -> list[Breach]:
    """Every page is in exactly one block, aligned, of a possible order; tails are bare."""
    zone = blocks.zone
    if not len(blocks.heads):
        return [Breach("tiling", "no block begins in the zone", zone, blocks.start_pfn)]
    ends = blocks.heads + blocks.pages
    following = np.append(blocks.heads[1:], blocks.end_pfn)
    found = []
    if blocks.heads[0] != blocks.start_pfn:
        found.append(
            Breach("tiling", "the zone's first page is in no block", zone, blocks.start_pfn)
        )
    found += breaches_at("tiling", zone, ends[ends < following], "page {pfn} is in no block")
    found += breaches_at(
        "tiling",
        zone,
        blocks.heads[ends > following],
        "the block at {pfn} reaches over the beginning of the next",
    )
    found += breaches_at(
        "tiling",
        zone,
        blocks.heads[blocks.heads & (blocks.pages - 1) != 0],
        "the block at {pfn} is not aligned to its order",
    )
    found += breaches_at(
        "tiling",
        zone,
        blocks.heads[blocks.orders >= MAX_ORDER],
        f"the block at {{pfn}} has an order above {MAX_ORDER - 1}",
    )
    bare = np.flatnonzero((blocks.state & KIND_MASK == KIND_NONE) & (blocks.state != 0))
    found += breaches_at(
        "tiling",
        zone,
        bare + blocks.start_pfn,
        "page {pfn} begins no block but has order, type or flags of one",
    )
    return found


def check_outside(arrays: Arrays, max_pfn: int) -> list[Breach]:
    """Page frames that no zone spans are reserved, each by itself."""
    end = 0
    found = []
    spans = [(int(zone[Z_START_PFN]), int(zone[Z_END_PFN])) for zone in arrays.zones]
    for start, zone_end in [*spans, (max_pfn, max_pfn)]:
        state = arrays.pages[end:start, STATE] & BLOCK_MASK
        found += breaches_at(
            "tiling",
            NO_ZONE,
            np.flatnonzero(state != KIND_RESERVED) + end,
            "page {pfn} lies in no zone but is not reserved",
        )
        end = zone_end
    return found
