"""The model's state in a kernel's formats: the three of /proc, and the `.free` lists.

So a modelled guest can be read with what one reads a real one with, and compared with recordings.
All four look at a state that nobody changes meanwhile. What the model does not have (node
statistics, page cache) is left out.
"""

from typing import NamedTuple

import numpy as np

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    PagesetSnapshot,
    ZoneSnapshot,
)
from pagesoak.allocator.geometry import ZONE_NAMES
from pagesoak.allocator.procfs import (
    PAGETYPE_COUNT_CAP,
    BuddyZone,
    PageTypeNode,
    TypeBlocks,
    TypeFree,
)
from pagesoak.allocator.state_arrays import (
    Arrays,
    GuestState,
    Words,
    arrays_of,
    free_lists_of,
    pageset_lists_of,
    walk_list,
)
from pagesoak.allocator.watermark_setup import ZONE_COLUMNS
from pagesoak.allocator.zoneinfo import PagesetInfo, ZoneInfo
from pagesoak.base.layout import (
    HIGHATOMIC,
    ISOLATE,
    MAX_ORDER,
    MOVABLE,
    P_BATCH,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    RECLAIMABLE,
    REPORTED,
    STATE,
    UNMOVABLE,
    Z_BOOST,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NODE,
    Z_NR_FREE,
    Z_REPORTED,
    Z_START_PFN,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
)
from pagesoak.base.layout_kernel import Z_REFAULTED
from pagesoak.base.layout_reclaim import Z_ACTIVE_FILE, Z_INACTIVE_FILE, Z_UNEVICTABLE

MIGRATE_NAMES = (
    (UNMOVABLE, "Unmovable"),
    (MOVABLE, "Movable"),
    (RECLAIMABLE, "Reclaimable"),
    (HIGHATOMIC, "HighAtomic"),
    (ISOLATE, "Isolate"),
)
"""As a kernel without CMA prints them."""

PAGE_KBYTES = 4
ALL_ZONE_NAMES = (*ZONE_NAMES, "Device")
"""/proc/zoneinfo names the empty zones too."""


class ReportingKbytes(NamedTuple):
    """The two counters of Pang's first patch (ML-1), as their sysfs files would show them.

    `reported_kbytes` lies on free lists, Reported; `refault_kbytes` was, until its block was taken
    off its list, by an allocation or to be merged.
    """

    reported_kbytes: int
    refault_kbytes: int


def reporting_kbytes(state: GuestState) -> ReportingKbytes:
    """What has been reported and still is, and what no longer is, of all zones."""
    zones = arrays_of(state).zones
    return ReportingKbytes(
        int(zones[:, Z_REPORTED].sum()) * PAGE_KBYTES,
        int(zones[:, Z_REFAULTED].sum()) * PAGE_KBYTES,
    )


def buddy_info(state: GuestState) -> tuple[BuddyZone, ...]:
    """Free blocks per order of each zone, by the zones' own counters."""
    arrays = arrays_of(state)
    return tuple(
        BuddyZone(
            int(record[Z_NODE]),
            ZONE_NAMES[record[Z_INDEX]],
            tuple(int(count) for count in record[Z_NR_FREE : Z_NR_FREE + MAX_ORDER]),
        )
        for record in arrays.zones
    )


def page_type_info(state: GuestState) -> tuple[PageTypeNode, ...]:
    """Free blocks per type and order, counted on the lists, and page blocks per type; by node."""
    arrays = arrays_of(state)
    return tuple(_page_type_node(state, arrays, node) for node in _nodes(arrays))


def _nodes(arrays: Arrays) -> range:
    return range(int(arrays.zones[:, Z_NODE].max()) + 1)


def _page_type_node(state: GuestState, arrays: Arrays, node: int) -> PageTypeNode:
    free = []
    blocks = []
    for zone, record in enumerate(arrays.zones):
        if record[Z_NODE] != node:
            continue
        name = ZONE_NAMES[record[Z_INDEX]]
        lengths = {
            (place.order, place.migratetype): len(
                walk_list(state, place.head, PAGETYPE_COUNT_CAP).members
            )
            for place in free_lists_of(arrays, zone)
        }
        free += [
            TypeFree(
                node, name, title, tuple(lengths[order, number] for order in range(MAX_ORDER))
            )
            for number, title in MIGRATE_NAMES
        ]
        types = _pageblock_types(arrays, record)
        blocks.append(
            TypeBlocks(node, name, tuple(types.count(number) for number, _ in MIGRATE_NAMES))
        )
    titles = tuple(title for _, title in MIGRATE_NAMES)
    return PageTypeNode(titles, tuple(free), tuple(blocks))


def zone_info(state: GuestState) -> tuple[ZoneInfo, ...]:
    """All zones of the kernel, the empty ones too, node after node.

    `present` is the managed pages: how many more of the span are no holes is not part of the
    model. Watermarks are with boost, as printed.
    """
    arrays = arrays_of(state)
    by_place = {
        (int(record[Z_NODE]), int(record[Z_INDEX])): zone
        for zone, record in enumerate(arrays.zones)
    }
    return tuple(
        _zone_info(arrays, by_place[node, index], name)
        if (node, index) in by_place
        else ZoneInfo(node, name, 0, 0, 0, 0, 0, 0, 0, (0,) * ZONE_COLUMNS, boost=0, cma=0)
        for node in _nodes(arrays)
        for index, name in enumerate(ALL_ZONE_NAMES)
    )


def free_list_snapshot(state: GuestState, t_ns: int) -> FreeListSnapshot:
    """The exact lists, as of `t_ns` of the guest's clock."""
    arrays = arrays_of(state)
    return FreeListSnapshot(
        tuple(_zone_snapshot(state, arrays, zone) for zone in range(state.plan.zones)), t_ns
    )


def _zone_info(arrays: Arrays, zone: int, name: str) -> ZoneInfo:
    record = arrays.zones[zone]
    boost = int(record[Z_BOOST])
    return ZoneInfo(
        node=int(record[Z_NODE]),
        zone=name,
        free=int(record[Z_FREE_PAGES]),
        wmark_min=int(record[Z_WMARK_MIN]) + boost,
        wmark_low=int(record[Z_WMARK_LOW]) + boost,
        wmark_high=int(record[Z_WMARK_HIGH]) + boost,
        spanned=int(record[Z_END_PFN] - record[Z_START_PFN]),
        present=int(record[Z_MANAGED]),
        managed=int(record[Z_MANAGED]),
        protection=_reserve(record),
        boost=boost,
        cma=0,
        zone_stats=(
            ("nr_free_pages", int(record[Z_FREE_PAGES])),
            ("nr_zone_inactive_file", int(record[Z_INACTIVE_FILE])),
            ("nr_zone_active_file", int(record[Z_ACTIVE_FILE])),
            ("nr_zone_unevictable", int(record[Z_UNEVICTABLE])),
        ),
        pagesets=tuple(
            PagesetInfo(cpu, int(words[P_COUNT]), int(words[P_HIGH]), int(words[P_BATCH]))
            for cpu, words in enumerate(arrays.pagesets[:, zone])
        ),
        start_pfn=int(record[Z_START_PFN]),
    )


def _zone_snapshot(state: GuestState, arrays: Arrays, zone: int) -> ZoneSnapshot:
    record = arrays.zones[zone]
    start_pfn, end_pfn = int(record[Z_START_PFN]), int(record[Z_END_PFN])
    free_lists = {}
    for place in free_lists_of(arrays, zone):
        members = walk_list(state, place.head, state.plan.max_pfn).members
        if members:
            reported = arrays.pages[members, STATE] & REPORTED != 0
            free_lists[place.order, place.migratetype] = tuple(
                map(FreeBlock, members, reported.tolist())
            )
    return ZoneSnapshot(
        name=ZONE_NAMES[record[Z_INDEX]],
        start_pfn=start_pfn,
        spanned=end_pfn - start_pfn,
        managed=int(record[Z_MANAGED]),
        wmark_min=int(record[Z_WMARK_MIN]),
        wmark_low=int(record[Z_WMARK_LOW]),
        wmark_high=int(record[Z_WMARK_HIGH]),
        nr_free=int(record[Z_FREE_PAGES]),
        lowmem_reserve=_reserve(record),
        free_lists=free_lists,
        pagesets=tuple(
            _pageset_snapshot(state, arrays, cpu, zone) for cpu in range(state.plan.cpus)
        ),
        first_pageblock_pfn=start_pfn // PAGEBLOCK_PAGES * PAGEBLOCK_PAGES,
        pageblock_types=_pageblock_types(arrays, record),
        node=int(record[Z_NODE]),
    )


def _pageset_snapshot(state: GuestState, arrays: Arrays, cpu: int, zone: int) -> PagesetSnapshot:
    record = arrays.pagesets[cpu, zone]
    lists = {}
    for index, place in enumerate(pageset_lists_of(arrays, cpu, zone)):
        members = walk_list(state, place.head, state.plan.max_pfn).members
        if members:
            lists[index] = tuple(members)
    return PagesetSnapshot(
        cpu,
        int(record[P_COUNT]),
        int(record[P_HIGH]),
        int(record[P_BATCH]),
        int(record[P_FREE_FACTOR]),
        lists,
    )


def _reserve(record: Words) -> tuple[int, ...]:
    words = record[Z_LOWMEM_RESERVE : Z_LOWMEM_RESERVE + ZONE_COLUMNS]
    return tuple(int(pages) for pages in words)


def _pageblock_types(arrays: Arrays, record: Words) -> tuple[int, ...]:
    first = int(record[Z_START_PFN]) >> PAGEBLOCK_ORDER
    last = int(record[Z_END_PFN] - 1) >> PAGEBLOCK_ORDER
    return tuple(int(number) for number in np.asarray(arrays.blocks[first : last + 1]))
