"""Guests for tests: synthetic ones, recorded ones, and a small one with a bit of everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    PagesetSnapshot,
    ZoneSnapshot,
)
from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.populate import (
    KERNEL_DEFAULTS,
    WatermarkSettings,
    plan_from_geometry,
    plan_from_snapshot,
    populate_snapshot,
    populate_synthetic,
)
from pagesoak.base import layout
from pagesoak.base.segment import Segment

RECORDINGS = Path(__file__).resolve().parent / "recordings"

DMA = 0
DMA32 = 1
"""Zone records of the small guest."""


@contextmanager
def synthetic_guest(
    memory_bytes: int,
    *,
    cpus: int = 1,
    movable_bytes: int = 0,
    settings: WatermarkSettings = KERNEL_DEFAULTS,
) -> Iterator[Segment]:
    """A guest as it is before it has given anything away."""
    zones = guest_zones(memory_bytes, movable_bytes)
    segment = Segment.create(plan_from_geometry(zones, cpus=cpus))
    try:
        populate_synthetic(segment, zones, settings)
        yield segment
    finally:
        segment.close()


@contextmanager
def recorded_guest(snapshot: FreeListSnapshot, *, cpus: int = 1) -> Iterator[Segment]:
    """A guest as it was recorded."""
    segment = Segment.create(plan_from_snapshot(snapshot, cpus=cpus))
    try:
        populate_snapshot(segment, snapshot)
        yield segment
    finally:
        segment.close()


def _free(*pfns: int, reported: bool = False) -> tuple[FreeBlock, ...]:
    return tuple(FreeBlock(pfn, reported) for pfn in pfns)


def small_snapshot() -> FreeListSnapshot:
    """32 MiB on two CPUs: free blocks of several orders and types, Reported ones, pagesets."""
    dma = ZoneSnapshot(
        name="DMA",
        start_pfn=1,
        spanned=4095,
        managed=3840,
        wmark_min=22,
        wmark_low=27,
        wmark_high=32,
        nr_free=512 + 3 * 1024,
        lowmem_reserve=(0, 15, 15, 15, 15),
        free_lists={(9, 1): _free(0x200), (10, 1): _free(0x800, 0x400, 0xC00)},
        pagesets=(PagesetSnapshot(0, 0, 27, 1, 0), PagesetSnapshot(1, 0, 27, 1, 0)),
        first_pageblock_pfn=0,
        pageblock_types=(0, 1, 1, 1, 1, 1, 1, 1),
    )
    dma32 = ZoneSnapshot(
        name="DMA32",
        start_pfn=0x1000,
        spanned=4096,
        managed=4000,
        wmark_min=100,
        wmark_low=125,
        wmark_high=150,
        nr_free=3 + 2 * 8 + 2 * 512 + 2 * 1024,
        lowmem_reserve=(0, 0, 0, 0, 0),
        free_lists={
            (0, 0): _free(0x1005),
            (0, 1): _free(0x1003, 0x1001),
            (3, 1): _free(0x1020, 0x1030),
            (9, 1): _free(0x1200, reported=True),
            (9, 2): _free(0x1E00),
            (10, 1): (FreeBlock(0x1400), FreeBlock(0x1800, reported=True)),
        },
        pagesets=(
            PagesetSnapshot(
                0,
                5 + 2,
                125,
                7,
                2,
                {0: (0x1009, 0x1007), 1: (0x100D, 0x100B, 0x100F), 4: (0x1010,)},
            ),
            PagesetSnapshot(1, 512, 125, 7, 0, {13: (0x1C00,)}),
        ),
        first_pageblock_pfn=0x1000,
        pageblock_types=(1, 1, 1, 1, 1, 1, 1, 2),
    )
    return FreeListSnapshot((dma, dma32), t_ns=1_000_000)


def page(pfn: int, word: int) -> int:
    """Where a word of a page record lies in `Segment.pages`."""
    return pfn * layout.PAGE_WORDS + word


def zone(number: int, word: int) -> int:
    """Where a word of a zone record lies in `Segment.zones`."""
    return number * layout.ZONE_WORDS + word


def pageset(segment: Segment, cpu: int, number: int, word: int) -> int:
    """Where a word of a pageset record lies in `Segment.pagesets`."""
    return (cpu * segment.plan.zones + number) * layout.PAGESET_WORDS + word


def scatterlist(index: int, word: int) -> int:
    """Where a word of a scatterlist entry lies in `Segment.report`."""
    return layout.R_ENTRIES + index * layout.ENTRY_WORDS + word


def unlink(segment: Segment, pfn: int) -> None:
    """Take a record out of its list, and nothing else."""
    following = segment.pages[page(pfn, layout.NEXT)]
    before = segment.pages[page(pfn, layout.PREVIOUS)]
    segment.pages[page(before, layout.NEXT)] = following
    segment.pages[page(following, layout.PREVIOUS)] = before


def append(segment: Segment, head: int, pfn: int) -> None:
    """Put a record at the tail of a list, and nothing else."""
    last = segment.pages[page(head, layout.PREVIOUS)]
    segment.pages[page(last, layout.NEXT)] = pfn
    segment.pages[page(pfn, layout.PREVIOUS)] = last
    segment.pages[page(pfn, layout.NEXT)] = head
    segment.pages[page(head, layout.PREVIOUS)] = pfn


def free_list_head(segment: Segment, number: int, order: int, migratetype: int) -> int:
    """The record that heads a free list."""
    base = segment.zones[zone(number, layout.Z_LIST_BASE)]
    return int(base + order * layout.MIGRATE_TYPES + migratetype)


def isolate(segment: Segment, number: int, pfn: int, order: int) -> int:
    """Isolate an unreported free block into the next scatterlist entry; returns the entry."""
    unlink(segment, pfn)
    pages = 1 << order
    segment.zones[zone(number, layout.Z_NR_FREE + order)] -= 1
    segment.zones[zone(number, layout.Z_FREE_PAGES)] -= pages
    segment.zones[zone(number, layout.Z_ISOLATED)] += pages
    index = int(segment.report[layout.R_OFFSET]) - 1
    segment.report[layout.R_OFFSET] = index
    segment.report[scatterlist(index, layout.E_PFN)] = pfn
    segment.report[scatterlist(index, layout.E_ORDER)] = order
    segment.report[scatterlist(index, layout.E_PAGES)] = pages
    segment.pages[page(pfn, layout.STATE)] = layout.KIND_ISOLATED | order
    segment.pages[page(pfn, layout.NEXT)] = 1
    segment.pages[page(pfn, layout.PREVIOUS)] = index
    return index
