"""Filling a fresh segment with a guest: one of a given size, or one read from a recording.

Done once, by the runner, before any worker exists, so without a lock. Zone records are made for
populated zones only, node after node, ascending by address; `Z_NODE` and `Z_INDEX` say which zone
of the kernel each is.

*A guest of a given size* is as a kernel is before it has given anything away: every page block
movable; memory in the largest aligned blocks, ascending, each put at the tail of its list (Linux
6.1 `memblock_free_all`, `__free_pages_core`); pagesets empty, with batch and high by the kernel's
formulas; pages that the zone does not manage are KIND_RESERVED.

*A recorded guest* is exactly the snapshot: lists in order, Reported flags, pagesets, page block
types, watermarks. All other pages of a zone's span are in use since boot, each an allocated block
of order 0 of OWNER_BOOT. Which of them the kernel has reserved for good is not recorded, nor what
kind they are: those in a movable page block count as user pages (ON_LRU), which decides whether a
fallback may claim the block.

Conservation, as the audit tests it, holds for both kinds of guest in every state. Per zone:

    free + in pagesets + isolated + allocated + boot + reserved records = managed + reserved

The terms on the left each have a counter of their own (`Z_FREE_PAGES`, `P_COUNT`, `Z_ISOLATED`,
`P_ALLOCATED` and `Z_ALLOCATED_DIRECT`, `Z_BOOT_PAGES`), but for the last, which the audit counts
in the page records; those on the right come from the input. A recorded guest has its reserved
pages among boot's and no reserved record. `Z_BOOT_PAGES` stays as it was at the start: a boot page
that is given back counts as minus one in allocated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pagesoak.allocator.free_lists import FreeListSnapshot, PagesetSnapshot, ZoneSnapshot
from pagesoak.allocator.geometry import ZONE_NAMES, ZoneGeometry, managed_by_index
from pagesoak.allocator.populate_checks import check_snapshot
from pagesoak.allocator.populate_parts import (
    add_free_list,
    finish,
    largest_blocks,
    link,
    require_fresh,
    reserve_outside,
    reserve_unmanaged,
    set_high_bounds,
    set_marks,
    start_figures,
)
from pagesoak.allocator.profile import DEFAULT_PROFILE, MOVABLE_ZONE_APART, Profile
from pagesoak.allocator.state_arrays import (
    NOT_MOVABLE,
    Arrays,
    arrays_of,
    pageset_list_holds,
)
from pagesoak.allocator.watermark_setup import (
    WATERMARK_BOOST_FACTOR_DEFAULT,
    WATERMARK_SCALE_FACTOR_DEFAULT,
    ZoneWatermarks,
    guest_watermarks,
    lowmem_reserves,
    pageset_batch,
    pageset_high,
)
from pagesoak.allocator.zonelist import local_cpus
from pagesoak.base.layout import (
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_PAGESET,
    MOVABLE,
    ON_LRU,
    OWNER_BOOT,
    P_BATCH,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    P_LIST_BASE,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PCPTYPES,
    PREVIOUS,
    REPORTED,
    STATE,
    TYPE_SHIFT,
    UNMOVABLE,
    Z_BOOT_PAGES,
    Z_END_PFN,
    Z_INDEX,
    Z_MANAGED,
    Z_NODE,
    Z_REPORTED,
    Z_RESERVED,
    Z_RESERVED_HIGHATOMIC,
    Z_START_PFN,
)
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment

WORKERS_BESIDE_CPUS = 3
"""Reporter, host and runner."""


class WatermarkSettings(NamedTuple):
    """The sysctls of a synthetic guest (None: the kernel's value), THP, and its kernel."""

    thp: bool = False
    min_free_kbytes: int | None = None
    watermark_scale_factor: int = WATERMARK_SCALE_FACTOR_DEFAULT
    watermark_boost_factor: int = WATERMARK_BOOST_FACTOR_DEFAULT
    profile: Profile = DEFAULT_PROFILE


KERNEL_DEFAULTS = WatermarkSettings()


def plan_from_geometry(
    zones: Sequence[ZoneGeometry],
    *,
    cpus: int,
    loads: int = 0,
    table_words: int = 0,
    replay_events: int = 0,
) -> SegmentPlan:
    """The segment that a synthetic guest needs."""
    max_pfn = zones[-1].end_pfn
    workers = cpus + WORKERS_BESIDE_CPUS
    return SegmentPlan(len(zones), cpus, max_pfn, workers, loads, table_words, replay_events)


def plan_from_snapshot(
    snapshot: FreeListSnapshot,
    *,
    cpus: int,
    loads: int = 0,
    table_words: int = 0,
    replay_events: int = 0,
    file: str | None = None,
) -> SegmentPlan:
    """The segment that a recorded guest needs; `file` names the snapshot in errors.

    Raises InputErrors when this model cannot hold the guest: other constants, zones that overlap
    or reach too far, more CPUs recorded than `cpus`.
    """
    check_snapshot(snapshot, cpus, file)
    max_pfn = snapshot.zones[-1].end_pfn
    workers = cpus + WORKERS_BESIDE_CPUS
    return SegmentPlan(
        len(snapshot.zones), cpus, max_pfn, workers, loads, table_words, replay_events
    )


def populate_synthetic(
    segment: Segment,
    zones: Sequence[ZoneGeometry],
    settings: WatermarkSettings = KERNEL_DEFAULTS,
) -> None:
    """Fill a fresh segment made by `plan_from_geometry(zones)`.

    Raises InputError for settings out of range, HarnessError for a segment that is not fresh or
    has another plan.
    """
    nodes = 1 + max(zone.node for zone in zones)
    managed = [managed_by_index(zones, node) for node in range(nodes)]
    setups = guest_watermarks(
        managed,
        thp=settings.thp,
        min_free_kbytes=settings.min_free_kbytes,
        watermark_scale_factor=settings.watermark_scale_factor,
        movable_apart=settings.profile.has(MOVABLE_ZONE_APART),
    )
    reserves = [lowmem_reserves(of_node) for of_node in managed]
    require_fresh(segment, len(zones), zones[-1].end_pfn)
    arrays = arrays_of(segment)
    arrays.blocks[:] = MOVABLE
    reserve_outside(arrays, [(zone.start_pfn, zone.end_pfn) for zone in zones])
    for number, zone in enumerate(zones):
        record = arrays.zones[number]
        marks = setups[zone.node].zones[zone.index]
        record[Z_INDEX] = zone.index
        record[Z_NODE] = zone.node
        record[Z_START_PFN] = zone.start_pfn
        record[Z_END_PFN] = zone.end_pfn
        record[Z_MANAGED] = zone.managed_pages
        record[Z_RESERVED] = zone.spanned_pages - zone.managed_pages
        reserve = reserves[zone.node][zone.index]
        set_marks(record, marks, reserve, settings.watermark_boost_factor)
        reserve_unmanaged(arrays.pages, zone)
        blocks = largest_blocks(zone.managed_ranges)
        for order, pfns in enumerate(blocks):
            add_free_list(arrays, number, order, MOVABLE, pfns)
        batch = pageset_batch(zone.managed_pages)
        pagesets = arrays.pagesets[:, number]
        pagesets[:, P_BATCH] = batch
        cpus = local_cpus(zone.node, segment.plan.cpus, nodes)
        pagesets[:, P_HIGH] = pageset_high(marks.low, cpus, batch)
        set_high_bounds(pagesets, marks.low, zone.managed_pages, cpus)
        start_figures(record)
    finish(segment, arrays, settings.profile)


def populate_snapshot(
    segment: Segment,
    snapshot: FreeListSnapshot,
    *,
    watermark_boost_factor: int = WATERMARK_BOOST_FACTOR_DEFAULT,
    reported_order_min: int = 0,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Fill a fresh segment made by `plan_from_snapshot(snapshot)` with exactly the recorded state.

    CPUs that were not recorded start with empty pagesets of the same batch and high. Reported
    flags of blocks below `reported_order_min` are left out: a device of a higher order than the
    recorded one could not have set them.

    Raises InputErrors as `plan_from_snapshot`, HarnessError for a segment that is not fresh or has
    another plan.
    """
    check_snapshot(snapshot, segment.plan.cpus, None)
    require_fresh(segment, len(snapshot.zones), snapshot.zones[-1].end_pfn)
    arrays = arrays_of(segment)
    arrays.blocks[:] = MOVABLE
    reserve_outside(arrays, [(zone.start_pfn, zone.end_pfn) for zone in snapshot.zones])
    nodes = 1 + max(zone.node for zone in snapshot.zones)
    for number, zone in enumerate(snapshot.zones):
        record = arrays.zones[number]
        record[Z_INDEX] = ZONE_NAMES.index(zone.name)
        record[Z_NODE] = zone.node
        record[Z_START_PFN] = zone.start_pfn
        record[Z_END_PFN] = zone.end_pfn
        record[Z_MANAGED] = zone.managed
        record[Z_RESERVED] = zone.spanned - zone.managed
        marks = ZoneWatermarks(zone.wmark_min, zone.wmark_low, zone.wmark_high)
        set_marks(record, marks, zone.lowmem_reserve, watermark_boost_factor)
        first_block = zone.first_pageblock_pfn >> PAGEBLOCK_ORDER
        arrays.blocks[first_block : first_block + len(zone.pageblock_types)] = zone.pageblock_types
        record[Z_RESERVED_HIGHATOMIC] = zone.pageblock_types.count(HIGHATOMIC) * PAGEBLOCK_PAGES
        _boot_pages(arrays, number, snapshot, zone)
        for (order, migratetype), blocks in zone.free_lists.items():
            pfns = np.array([block.pfn for block in blocks], dtype=np.int32)
            reported = np.array([block.reported for block in blocks], dtype=np.bool_)
            if order < reported_order_min:
                reported[:] = False
            add_free_list(arrays, number, order, migratetype, pfns)
            arrays.pages[pfns[reported], STATE] |= REPORTED
            record[Z_REPORTED] += np.count_nonzero(reported) << order
        _fill_pagesets(arrays, number, zone, local_cpus(zone.node, segment.plan.cpus, nodes))
        start_figures(record)
    finish(segment, arrays, profile)


def _boot_pages(
    arrays: Arrays, number: int, snapshot: FreeListSnapshot, zone: ZoneSnapshot
) -> None:
    """Every page of the span that no list holds is in use since boot."""
    in_use = np.ones(zone.spanned, dtype=np.bool_)
    for pfns, order in _listed_blocks(snapshot, zone):
        first = np.array(pfns, dtype=np.int64) - zone.start_pfn
        in_use[(first[:, None] + np.arange(1 << order)).ravel()] = False
    pfns_in_use = np.flatnonzero(in_use) + zone.start_pfn
    types = arrays.blocks[pfns_in_use >> PAGEBLOCK_ORDER].astype(np.int32)
    state = KIND_ALLOCATED | (types << TYPE_SHIFT)
    arrays.pages[pfns_in_use, STATE] = state | np.where(types == MOVABLE, ON_LRU, 0)
    arrays.pages[pfns_in_use, PREVIOUS] = OWNER_BOOT
    arrays.zones[number, Z_BOOT_PAGES] = len(pfns_in_use)


def _listed_blocks(
    snapshot: FreeListSnapshot, zone: ZoneSnapshot
) -> list[tuple[Sequence[int], int]]:
    listed: list[tuple[Sequence[int], int]] = [
        ([block.pfn for block in blocks], order) for (order, _), blocks in zone.free_lists.items()
    ]
    for pageset in zone.pagesets:
        listed += [(pfns, snapshot.pcp_order(index)) for index, pfns in pageset.lists.items()]
    return listed


def _fill_pagesets(arrays: Arrays, number: int, zone: ZoneSnapshot, cpus: int) -> None:
    records = arrays.pagesets[:, number]
    if zone.pagesets:
        batch, high = zone.pagesets[0].batch, zone.pagesets[0].high
    else:
        batch = pageset_batch(zone.managed)
        high = pageset_high(zone.wmark_low, cpus, batch)
    records[:, P_BATCH] = batch
    records[:, P_HIGH] = high
    set_high_bounds(records, zone.wmark_low, zone.managed, cpus)
    for pageset in zone.pagesets:
        record = records[pageset.cpu]
        record[P_BATCH] = pageset.batch
        record[P_HIGH] = pageset.high
        record[P_COUNT] = pageset.count
        record[P_FREE_FACTOR] = pageset.free_factor
        _fill_pageset_lists(arrays, int(record[P_LIST_BASE]), pageset)


def _fill_pageset_lists(arrays: Arrays, base: int, pageset: PagesetSnapshot) -> None:
    """The type a page will be freed with is its list's, but where the list stands for several."""
    for index, listed in pageset.lists.items():
        pfns = np.array(listed, dtype=np.int32)
        order, migratetype = pageset_list_holds(index)
        own = arrays.blocks[pfns >> PAGEBLOCK_ORDER].astype(np.int32)
        types = np.full_like(own, migratetype)
        if migratetype == NOT_MOVABLE:
            types = np.where((own == MOVABLE) | (own >= PCPTYPES), UNMOVABLE, own)
        link(arrays.pages, base + index, pfns)
        arrays.pages[pfns, STATE] = KIND_PAGESET | order | (types << TYPE_SHIFT)
