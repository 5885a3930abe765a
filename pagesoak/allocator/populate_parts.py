"""The steps that every filling of a segment is made of (see `populate`)."""

from collections.abc import Sequence

import numpy as np

from pagesoak.allocator.geometry import (
    MAX_BLOCK_PAGES,
    ZONE_DMA32,
    ZONE_NORMAL,
    ZoneGeometry,
)
from pagesoak.allocator.profile import Profile
from pagesoak.allocator.state_arrays import Arrays, Records, Words, free_list_head
from pagesoak.allocator.watermark_setup import (
    ZONE_COLUMNS,
    ZoneWatermarks,
    pageset_high,
    pageset_high_max,
)
from pagesoak.allocator.zonelist import write_zonelists
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    E_END,
    E_PFN,
    ENTRY_WORDS,
    H_FREE_PAGES_MIN,
    H_THP_PAGESETS,
    H_TIMED_LOCKS,
    HIGHATOMIC,
    KIND_FREE,
    KIND_RESERVED,
    MAX_ORDER,
    NEXT,
    P_BATCH,
    PREVIOUS,
    R_ENTRIES,
    R_OFFSET,
    REPORTING_CAPACITY,
    STATE,
    TYPE_SHIFT,
    Z_BOOST_FACTOR,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_FREE_PAGES_MIN,
    Z_INDEX,
    Z_LOWMEM_RESERVE,
    Z_MARGIN_HIGH,
    Z_MARGIN_LOW,
    Z_MARGIN_MIN,
    Z_NODE,
    Z_NR_FREE,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
)
from pagesoak.base.layout_kernel import (
    H_KERNEL,
    P_HIGH_MAX,
    P_HIGH_MIN,
    Z_FREE_HIGHATOMIC,
    Z_NOFRAGMENT,
)
from pagesoak.base.segment import Segment


def largest_blocks(ranges: Sequence[tuple[int, int]]) -> tuple[Records, ...]:
    """Half-open pfn ranges cut into the largest aligned blocks.

    For each order the first pages, ascending.
    """
    found: list[list[Records]] = [[] for _ in range(MAX_ORDER)]
    for start, end in ranges:
        pfn = start
        while pfn < end:
            aligned = MAX_ORDER - 1 if pfn == 0 else (pfn & -pfn).bit_length() - 1
            order = min(MAX_ORDER - 1, aligned, (end - pfn).bit_length() - 1)
            count = (end - pfn) // MAX_BLOCK_PAGES if order == MAX_ORDER - 1 else 1
            stop = pfn + (count << order)
            found[order].append(np.arange(pfn, stop, 1 << order, dtype=np.int32))
            pfn = stop
    empty = np.empty(0, dtype=np.int32)
    return tuple(np.concatenate([empty, *pieces]) for pieces in found)


def require_fresh(segment: Segment, zones: int, max_pfn: int) -> None:
    """Raise HarnessError unless the segment was made for this guest and holds none yet."""
    if segment.plan.zones != zones or segment.plan.max_pfn != max_pfn:
        raise HarnessError(
            f"a segment for {segment.plan.zones} zones up to pfn {segment.plan.max_pfn}"
            f" cannot hold a guest of {zones} zones up to pfn {max_pfn}"
        )
    if segment.zones[Z_END_PFN] != 0:
        raise HarnessError("the segment holds a guest already")


def reserve_outside(arrays: Arrays, spans: Sequence[tuple[int, int]]) -> None:
    """Page frames that no zone spans."""
    end = 0
    for start, zone_end in spans:
        arrays.pages[end:start, STATE] = KIND_RESERVED
        end = zone_end


def reserve_unmanaged(pages: Records, zone: ZoneGeometry) -> None:
    """Page frames of the span that the zone does not manage: reserved for good, and holes."""
    end = zone.start_pfn
    for first, range_end in zone.managed_ranges:
        pages[end:first, STATE] = KIND_RESERVED
        end = range_end
    pages[end : zone.end_pfn, STATE] = KIND_RESERVED


def set_marks(
    record: Words,
    marks: ZoneWatermarks,
    reserve: Sequence[int],
    boost_factor: int,
) -> None:
    """Watermarks without boost, lowmem_reserve by highest zone index, limit of the boost."""
    record[Z_WMARK_MIN] = marks.min
    record[Z_WMARK_LOW] = marks.low
    record[Z_WMARK_HIGH] = marks.high
    columns = min(len(reserve), ZONE_COLUMNS)
    record[Z_LOWMEM_RESERVE : Z_LOWMEM_RESERVE + columns] = reserve[:columns]
    record[Z_BOOST_FACTOR] = boost_factor


def set_high_bounds(pagesets: Words, low_pages: int, managed_pages: int, cpus: int) -> None:
    """Between what and what `high` of a zone's pagesets tunes itself."""
    for record in pagesets:
        batch = int(record[P_BATCH])
        record[P_HIGH_MIN] = pageset_high(low_pages, cpus, batch)
        record[P_HIGH_MAX] = pageset_high_max(managed_pages, cpus, batch)


def start_figures(record: Words) -> None:
    """Lowest figures of the run so far: those of its start."""
    free = record[Z_FREE_PAGES]
    record[Z_FREE_PAGES_MIN] = free
    record[Z_MARGIN_MIN] = free - record[Z_WMARK_MIN]
    record[Z_MARGIN_LOW] = free - record[Z_WMARK_LOW]
    record[Z_MARGIN_HIGH] = free - record[Z_WMARK_HIGH]


def prefers_whole_pageblocks(zones: Words, number: int) -> bool:
    """Whether requests that prefer a zone first try without mixing page blocks, because another
    zone can take them: zone Normal; with several nodes only above a DMA32 of its own
    (`alloc_flags_nofragment`).
    """
    if zones[number, Z_INDEX] != ZONE_NORMAL:
        return False
    lower = (zones[:, Z_NODE] == zones[number, Z_NODE]) & (zones[:, Z_INDEX] == ZONE_DMA32)
    return bool(not zones[:, Z_NODE].any() or lower.any())


def finish(segment: Segment, arrays: Arrays, profile: Profile) -> None:
    """What is no zone's: zonelists, the run's figures and settings, an empty scatterlist."""
    places = [(int(zone[Z_NODE]), int(zone[Z_INDEX])) for zone in arrays.zones]
    write_zonelists(segment.header, places, segment.plan.cpus)
    segment.header[H_KERNEL] = profile.rules
    for number, record in enumerate(arrays.zones):
        record[Z_NOFRAGMENT] = prefers_whole_pageblocks(arrays.zones, number)
    segment.header[H_FREE_PAGES_MIN] = int(arrays.zones[:, Z_FREE_PAGES].sum())
    segment.header[H_THP_PAGESETS] = 1
    segment.header[H_TIMED_LOCKS] = 1
    entries = arrays.report[R_ENTRIES:].reshape(REPORTING_CAPACITY, ENTRY_WORDS)
    entries[:] = 0
    entries[:, E_PFN] = -1
    entries[-1, E_END] = 1
    arrays.report[R_OFFSET] = REPORTING_CAPACITY


def link(pages: Records, head: int, members: Records) -> None:
    """Make an empty list hold `members`, in their order."""
    ring = np.concatenate([np.array([head], dtype=np.int32), members])
    pages[ring, NEXT] = np.roll(ring, -1)
    pages[ring, PREVIOUS] = np.roll(ring, 1)


def add_free_list(arrays: Arrays, zone: int, order: int, migratetype: int, pfns: Records) -> None:
    """Fill one free list, and count what went into it."""
    link(arrays.pages, free_list_head(arrays, zone, order, migratetype), pfns)
    arrays.pages[pfns, STATE] = KIND_FREE | order | (migratetype << TYPE_SHIFT)
    arrays.zones[zone, Z_NR_FREE + order] += len(pfns)
    arrays.zones[zone, Z_FREE_PAGES] += len(pfns) << order
    if migratetype == HIGHATOMIC:
        arrays.zones[zone, Z_FREE_HIGHATOMIC] += len(pfns) << order
