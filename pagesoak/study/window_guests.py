"""Guests for `pagesoak window`: free lists as somebody names them, or as a kernel prints them.

Everything becomes a `FreeListSnapshot`, which the model starts from. A `.free` snapshot is one
already. `/proc/buddyinfo` counts blocks and names no page frame, and a guest that is only named
has none either; there blocks are laid out as a buddy allocator could have left them: no two free
buddies, larger blocks below smaller ones. All of them are movable and unreported, because neither
is printed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator.free_lists import FreeBlock, FreeListSnapshot, ZoneSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.geometry import ZONE_NAMES, ZoneGeometry, guest_zones, managed_by_index
from pagesoak.allocator.procfs import read_buddyinfo
from pagesoak.allocator.watermark_setup import guest_watermarks, lowmem_reserves
from pagesoak.allocator.zoneinfo import ZoneInfo, read_zoneinfo
from pagesoak.base.errors import InputError
from pagesoak.base.layout import MAX_ORDER, MOVABLE, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

LARGEST_ORDER = MAX_ORDER - 1
SMALL_ORDER = PAGEBLOCK_ORDER - 1
"""Largest block of what is free beside the blocks that can be reported."""

Counts = Mapping[int, int]
"""Free blocks by order."""


class WindowGuest(NamedTuple):
    """A guest to look at; `exact` when its page frames are those of a real one."""

    snapshot: FreeListSnapshot
    exact: bool
    boosts: tuple[int, ...]
    """Watermark boost of each zone, pages."""

    @property
    def largest_zone(self) -> int:
        """The number of the zone with most pages: the one that reporting is about."""
        managed = [zone.managed for zone in self.snapshot.zones]
        return managed.index(max(managed))


def from_snapshot(file: Path) -> WindowGuest:
    """The guest of a `.free` snapshot. Raises InputError with file and line."""
    snapshot = read_free_lists(file)
    return WindowGuest(snapshot, exact=True, boosts=(0,) * len(snapshot.zones))


def from_proc(buddyinfo: Path, zoneinfo: Path) -> WindowGuest:
    """The guest of a /proc/buddyinfo and a /proc/zoneinfo, taken together.

    Raises InputError for files that cannot be read or do not belong together.
    """
    counted = {(zone.node, zone.zone): zone.free_blocks for zone in read_buddyinfo(buddyinfo)}
    zones, boosts = [], []
    for info in read_zoneinfo(zoneinfo):
        if not info.populated or info.zone not in ZONE_NAMES:
            continue
        blocks = counted.get((info.node, info.zone))
        if blocks is None:
            raise InputError(f"has no line for node {info.node}, zone {info.zone}", file=buddyinfo)
        boost = info.boost or 0
        zones.append(_zone_of_proc(info, dict(enumerate(blocks)), boost, buddyinfo, zoneinfo))
        boosts.append(boost)
    if not zones:
        raise InputError("has no zone with pages", file=zoneinfo)
    return WindowGuest(FreeListSnapshot(tuple(zones), 0), exact=False, boosts=tuple(boosts))


def _zone_of_proc(
    info: ZoneInfo, counts: Counts, boost: int, buddyinfo: Path, zoneinfo: Path
) -> ZoneSnapshot:
    if info.start_pfn is None:
        raise InputError(f"says no start_pfn of zone {info.zone}", file=zoneinfo)
    end_pfn = info.start_pfn + info.spanned
    try:
        lists = place_blocks(info.start_pfn, end_pfn, counts)
    except InputError as error:
        raise InputError(f"zone {info.zone}: {error.message}", file=buddyinfo) from error
    return _zone(
        info.zone,
        info.node,
        (info.start_pfn, end_pfn),
        info.managed,
        (info.wmark_min - boost, info.wmark_low - boost, info.wmark_high - boost),
        info.protection,
        lists,
    )


class NamedGuest(NamedTuple):
    """A guest of a size, with the watermarks of one; what is free in it is still to be said."""

    zones: tuple[ZoneGeometry, ...]
    marks: tuple[tuple[int, int, int], ...]
    reserves: tuple[tuple[int, ...], ...]

    @property
    def largest(self) -> ZoneGeometry:
        """The zone that is to hold what is free."""
        return max(self.zones, key=lambda zone: zone.managed_pages)

    def with_free(self, free_pages: int) -> WindowGuest:
        """So much free in the largest zone: blocks of order 10 as far as they go, the rest small.

        Raises InputError when the zone has no room for it.
        """
        whole, rest = divmod(free_pages, 1 << LARGEST_ORDER)
        return self.with_blocks({LARGEST_ORDER: whole, **small_blocks(rest)})

    def with_blocks(self, counts: Counts) -> WindowGuest:
        """These blocks free in the largest zone. Raises InputError when they do not fit."""
        zones = []
        for zone, marks in zip(self.zones, self.marks, strict=True):
            lists: dict[tuple[int, int], tuple[FreeBlock, ...]] = {}
            if zone == self.largest:
                lists = place_blocks(*zone.managed_ranges[0], counts)
            span = (zone.start_pfn, zone.end_pfn)
            reserve = self.reserves[zone.index]
            zones.append(
                _zone(zone.name, zone.node, span, zone.managed_pages, marks, reserve, lists)
            )
        snapshot = FreeListSnapshot(tuple(zones), 0)
        return WindowGuest(snapshot, exact=False, boosts=(0,) * len(zones))


def named_guest(memory_bytes: int, *, thp: bool) -> NamedGuest:
    """The guest of this size. Raises InputError for one that is not modelled."""
    zones = guest_zones(memory_bytes)
    managed = managed_by_index(zones)
    setup = guest_watermarks((managed,), thp=thp)[0]
    marks = [setup.zones[zone.index] for zone in zones]
    return NamedGuest(
        zones,
        tuple((mark.min, mark.low, mark.high) for mark in marks),
        lowmem_reserves(managed),
    )


def small_blocks(pages: int) -> dict[int, int]:
    """So many pages in blocks too small to be reported: of order 8, and one of each below."""
    counts = {SMALL_ORDER: pages >> SMALL_ORDER}
    rest = pages & ((1 << SMALL_ORDER) - 1)
    counts.update({order: rest >> order & 1 for order in range(SMALL_ORDER)})
    return {order: count for order, count in counts.items() if count}


def place_blocks(
    start_pfn: int, end_pfn: int, counts: Counts
) -> dict[tuple[int, int], tuple[FreeBlock, ...]]:
    """Free lists with so many blocks, laid out in a zone so that no two free ones are buddies.

    From the largest order down: of every place of the next higher order that is still to be had,
    one half may become a free block. What a real allocator holds always fits. Raises InputError
    when it does not.
    """
    places = list(range(start_pfn >> LARGEST_ORDER << LARGEST_ORDER, end_pfn, 1 << LARGEST_ORDER))
    lists = {}
    for order in range(LARGEST_ORDER, -1, -1):
        wanted = counts.get(order, 0)
        taken: list[int] = []
        left: list[int] = []
        for place in places:
            halves = [place] if order == LARGEST_ORDER else [place, place + (1 << order)]
            whole = [h for h in halves if start_pfn <= h and h + (1 << order) <= end_pfn]
            if len(taken) < wanted and whole:
                taken.append(whole[0])
                halves.remove(whole[0])
            left += [half for half in halves if half < end_pfn and half + (1 << order) > start_pfn]
        if len(taken) < wanted:
            pages = end_pfn - start_pfn
            raise InputError(f"{wanted} free blocks of order {order} do not fit in {pages} pages")
        if taken:
            lists[order, MOVABLE] = tuple(FreeBlock(pfn) for pfn in taken)
        places = left
    return lists


def _zone(
    name: str,
    node: int,
    span: tuple[int, int],
    managed_pages: int,
    marks: Sequence[int],
    reserve: tuple[int, ...],
    lists: Mapping[tuple[int, int], tuple[FreeBlock, ...]],
) -> ZoneSnapshot:
    start_pfn, end_pfn = span
    first = start_pfn >> PAGEBLOCK_ORDER
    blocks = -(-end_pfn // PAGEBLOCK_PAGES) - first
    zone = ZoneSnapshot(
        name,
        start_pfn,
        end_pfn - start_pfn,
        managed_pages,
        marks[0],
        marks[1],
        marks[2],
        0,
        reserve,
        lists,
        (),
        first << PAGEBLOCK_ORDER,
        (MOVABLE,) * blocks,
        node,
    )
    return replace(zone, nr_free=zone.listed_pages)
