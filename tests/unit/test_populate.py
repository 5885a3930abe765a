"""Filling a segment: what guests begin with, and what the kernel's formats show of it."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from pagesoak.allocator.free_lists import FreeListSnapshot, PagesetSnapshot, format_free_lists
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.populate import (
    WatermarkSettings,
    plan_from_geometry,
    plan_from_snapshot,
    populate_snapshot,
    populate_synthetic,
)
from pagesoak.allocator.populate_parts import largest_blocks
from pagesoak.allocator.proc_view import buddy_info, free_list_snapshot, page_type_info, zone_info
from pagesoak.allocator.procfs import format_buddyinfo, format_pagetypeinfo
from pagesoak.allocator.zoneinfo import format_zoneinfo, read_zoneinfo
from pagesoak.base.errors import HarnessError, InputError, InputErrors
from pagesoak.base.layout import (
    BLOCK_MASK,
    E_END,
    E_PFN,
    H_FREE_PAGES_MIN,
    H_THP_PAGESETS,
    H_TIMED_LOCKS,
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_MASK,
    KIND_PAGESET,
    KIND_RESERVED,
    MOVABLE,
    NEXT,
    ON_LRU,
    OWNER_BOOT,
    P_BATCH,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    PREVIOUS,
    R_OFFSET,
    RECLAIMABLE,
    REPORTED,
    STATE,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOT_PAGES,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_FREE_PAGES_MIN,
    Z_INDEX,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_MARGIN_HIGH,
    Z_MARGIN_LOW,
    Z_MARGIN_MIN,
    Z_NR_FREE,
    Z_REPORTED,
    Z_RESERVED,
    Z_RESERVED_HIGHATOMIC,
    Z_START_PFN,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
)
from pagesoak.base.segment import Segment
from tests.guests import (
    DMA32,
    RECORDINGS,
    free_list_head,
    page,
    pageset,
    recorded_guest,
    scatterlist,
    small_snapshot,
    synthetic_guest,
    zone,
)

MIB = 1 << 20
GIB = 1 << 30

FREE_FILES = sorted(RECORDINGS.rglob("*.free.gz"))


def words(segment: Segment, number: int, *indices: int) -> tuple[int, ...]:
    return tuple(segment.zones[zone(number, index)] for index in indices)


def members(segment: Segment, head: int) -> list[int]:
    found = []
    record = segment.pages[page(head, NEXT)]
    while record != head:
        found.append(record)
        record = segment.pages[page(record, NEXT)]
    return found


def kinds(segment: Segment, start: int, end: int) -> set[int]:
    return {segment.pages[page(pfn, STATE)] & KIND_MASK for pfn in range(start, end)}


# -- a synthetic guest ----------------------------------------------------------------------------


def test_g512_begins_as_the_model_says() -> None:
    """The reference guest of docs/model.md."""
    with synthetic_guest(512 * MIB) as segment:
        assert words(segment, 0, Z_INDEX, Z_START_PFN, Z_END_PFN) == (0, 1, 4096)
        assert words(segment, 1, Z_INDEX, Z_START_PFN, Z_END_PFN) == (1, 4096, 131_072)
        assert words(segment, 1, Z_MANAGED, Z_RESERVED, Z_FREE_PAGES) == (118_784, 8192, 118_784)
        assert words(segment, 0, Z_MANAGED, Z_RESERVED, Z_FREE_PAGES) == (3840, 255, 3840)
        assert words(segment, 0, *range(Z_LOWMEM_RESERVE, Z_LOWMEM_RESERVE + 5)) == (
            0, 464, 464, 464, 464,
        )  # fmt: skip
        assert words(segment, 1, Z_BOOST, Z_BOOST_FACTOR, Z_BOOT_PAGES) == (0, 15_000, 0)
        order_10 = free_list_head(segment, 1, 10, MOVABLE)
        assert members(segment, order_10) == list(range(12_288, 131_072, 1024))
        assert words(segment, 1, *range(Z_NR_FREE, Z_NR_FREE + 11)) == (0,) * 10 + (116,)
        # 3840 pages from pfn 256 on: 256, 512 and 1024, 2048, 3072
        assert words(segment, 0, *range(Z_NR_FREE, Z_NR_FREE + 11)) == (0,) * 8 + (1, 1, 3)
        assert members(segment, free_list_head(segment, 0, 8, MOVABLE)) == [256]
        assert members(segment, free_list_head(segment, 0, 9, MOVABLE)) == [512]
        assert members(segment, free_list_head(segment, 0, 10, MOVABLE)) == [1024, 2048, 3072]
        assert kinds(segment, 0, 256) == {KIND_RESERVED}
        assert kinds(segment, 4096, 12_288) == {KIND_RESERVED}
        assert set(segment.blocks) == {MOVABLE}


def test_watermarks_and_margins_follow_the_settings() -> None:
    settings = WatermarkSettings(min_free_kbytes=8192, watermark_boost_factor=0)
    with synthetic_guest(512 * MIB, settings=settings) as segment:
        marks = words(segment, 1, Z_WMARK_MIN, Z_WMARK_LOW, Z_WMARK_HIGH)
        assert marks == (1983, 2478, 2973)
        free = 118_784
        assert words(segment, 1, Z_FREE_PAGES_MIN) == (free,)
        margins = words(segment, 1, Z_MARGIN_MIN, Z_MARGIN_LOW, Z_MARGIN_HIGH)
        assert margins == tuple(free - mark for mark in marks)
        assert words(segment, 1, Z_BOOST_FACTOR) == (0,)
        assert segment.header[H_FREE_PAGES_MIN] == free + 3840
        assert segment.header[H_THP_PAGESETS] == 1
        assert segment.header[H_TIMED_LOCKS] == 1


def test_thp_raises_the_watermarks() -> None:
    with (
        synthetic_guest(512 * MIB) as without,
        synthetic_guest(512 * MIB, settings=WatermarkSettings(thp=True)) as with_thp,
    ):
        assert words(with_thp, 1, Z_WMARK_MIN) > words(without, 1, Z_WMARK_MIN)


def test_every_cpu_has_an_empty_pageset() -> None:
    with synthetic_guest(512 * MIB, cpus=4) as segment:
        low = segment.zones[zone(1, Z_WMARK_LOW)]
        for cpu in range(4):
            found = tuple(
                segment.pagesets[pageset(segment, cpu, 1, word)]
                for word in (P_BATCH, P_HIGH, P_COUNT, P_FREE_FACTOR)
            )
            assert found == (31, max(low // 4, 124), 0, 0)


def test_zones_above_4_gib_and_movable() -> None:
    with synthetic_guest(5 * GIB, movable_bytes=GIB) as segment:
        assert [segment.zones[zone(number, Z_INDEX)] for number in range(4)] == [0, 1, 2, 3]
        movable = words(segment, 3, Z_MANAGED, Z_FREE_PAGES, Z_NR_FREE + 10)
        assert movable == (262_144, 262_144, 256)
        hole = range(3 << 18, 1 << 20, 4096)
        assert {segment.pages[page(pfn, STATE)] for pfn in hole} == {KIND_RESERVED}


def test_the_scatterlist_begins_empty() -> None:
    with synthetic_guest(16 * MIB) as segment:
        assert segment.report[R_OFFSET] == 32
        assert [segment.report[scatterlist(index, E_PFN)] for index in range(32)] == [-1] * 32
        ends = [segment.report[scatterlist(index, E_END)] for index in range(32)]
        assert ends == [0] * 31 + [1]


def test_the_plan_has_a_worker_more_than_three() -> None:
    plan = plan_from_geometry(guest_zones(GIB), cpus=2, loads=3, table_words=100, replay_events=7)
    assert plan == (2, 2, 262_144, 5, 3, 100, 7, 0, 0)


def test_a_segment_is_filled_once() -> None:
    zones = guest_zones(16 * MIB)
    with (
        synthetic_guest(16 * MIB) as segment,
        pytest.raises(HarnessError, match="a guest already"),
    ):
        populate_synthetic(segment, zones)


def test_a_segment_of_another_guest_is_refused() -> None:
    zones = guest_zones(32 * MIB)
    segment = Segment.create(plan_from_geometry(guest_zones(16 * MIB), cpus=2))
    with pytest.raises(HarnessError, match="cannot hold a guest of 2 zones up to pfn 8192"):
        populate_synthetic(segment, zones)
    with pytest.raises(HarnessError, match="cannot hold"):
        populate_snapshot(segment, replace(small_snapshot(), zones=small_snapshot().zones[1:]))
    segment.close()


def test_settings_out_of_range_are_refused() -> None:
    zones = guest_zones(16 * MIB)
    segment = Segment.create(plan_from_geometry(zones, cpus=1))
    with pytest.raises(InputError, match="watermark_scale_factor"):
        populate_synthetic(segment, zones, WatermarkSettings(watermark_scale_factor=0))
    segment.close()


def test_largest_blocks_are_cut_from_any_range() -> None:
    cut = largest_blocks([(0, 1024), (1025, 1035), (2046, 5 * 1024 + 3)])
    assert {order: blocks.tolist() for order, blocks in enumerate(cut) if len(blocks)} == {
        0: [1025, 1034, 5122],
        1: [1026, 1032, 2046, 5120],
        2: [1028],
        10: [0, 2048, 3072, 4096],
    }


# -- a recorded guest -----------------------------------------------------------------------------


def test_the_small_guest_is_as_its_snapshot_says() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        assert members(segment, free_list_head(segment, DMA32, 0, MOVABLE)) == [0x1003, 0x1001]
        assert members(segment, free_list_head(segment, 0, 10, MOVABLE)) == [0x800, 0x400, 0xC00]
        state = segment.pages[page(0x1800, STATE)]
        assert state == KIND_FREE | 10 | (MOVABLE << TYPE_SHIFT) | REPORTED
        assert words(segment, DMA32, Z_REPORTED) == (512 + 1024,)
        listed = 3 + 16 + 1024 + 2048 + 7 + 512
        assert words(segment, DMA32, Z_BOOT_PAGES, Z_RESERVED) == (4096 - listed, 96)
        assert words(segment, DMA32, Z_WMARK_MIN, Z_MARGIN_MIN) == (100, 3091 - 100)
        assert segment.pages[page(0x1C00, STATE)] == KIND_PAGESET | 9 | (MOVABLE << TYPE_SHIFT)


def test_what_no_list_holds_is_in_use_since_boot() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        movable = KIND_ALLOCATED | (MOVABLE << TYPE_SHIFT) | ON_LRU
        assert segment.pages[page(0x1000, STATE)] == movable
        assert segment.pages[page(0x1000, PREVIOUS)] == OWNER_BOOT
        assert segment.pages[page(1, STATE)] == KIND_ALLOCATED  # of an unmovable page block
        assert segment.pages[page(1, PREVIOUS)] == OWNER_BOOT
        assert segment.pages[page(0, STATE)] == KIND_RESERVED
        assert segment.pages[page(0x1401, STATE)] & BLOCK_MASK == 0


def test_huge_pages_that_are_not_movable_get_their_page_blocks_type() -> None:
    snapshot = small_snapshot()
    dma32 = snapshot.zones[1]
    types = (1, 1, 1, 1, 1, 1, 2, 2)
    moved = PagesetSnapshot(1, 512, 125, 7, 0, {12: (0x1C00,)})
    for given, wanted in ((types, RECLAIMABLE), (dma32.pageblock_types, 0)):
        zone_of_test = replace(dma32, pagesets=(dma32.pagesets[0], moved), pageblock_types=given)
        with recorded_guest(
            replace(snapshot, zones=(snapshot.zones[0], zone_of_test)), cpus=2
        ) as segment:
            state = segment.pages[page(0x1C00, STATE)]
            assert state & TYPE_MASK == wanted << TYPE_SHIFT


def test_more_cpus_than_recorded_begin_empty() -> None:
    with recorded_guest(small_snapshot(), cpus=3) as segment:
        found = [
            segment.pagesets[pageset(segment, 2, DMA32, word)]
            for word in (P_BATCH, P_HIGH, P_COUNT, P_FREE_FACTOR)
        ]
        assert found == [7, 125, 0, 0]


def test_a_zone_without_recorded_pagesets_gets_them_by_formula() -> None:
    snapshot = small_snapshot()
    bare = replace(snapshot.zones[0], pagesets=())
    with recorded_guest(replace(snapshot, zones=(bare, snapshot.zones[1])), cpus=2) as segment:
        assert segment.pagesets[pageset(segment, 1, 0, P_BATCH)] == 1
        assert segment.pagesets[pageset(segment, 1, 0, P_HIGH)] == 13


def test_flags_below_the_order_are_left_out() -> None:
    snapshot = small_snapshot()
    segment = Segment.create(plan_from_snapshot(snapshot, cpus=2))
    populate_snapshot(segment, snapshot, reported_order_min=10, watermark_boost_factor=7)
    assert words(segment, DMA32, Z_REPORTED, Z_BOOST_FACTOR) == (1024, 7)
    assert not segment.pages[page(0x1200, STATE)] & REPORTED
    assert segment.pages[page(0x1800, STATE)] & REPORTED
    segment.close()


def test_highatomic_blocks_are_counted() -> None:
    snapshot = small_snapshot()
    types = (1, HIGHATOMIC, 1, 1, 1, 1, 1, 2)
    changed = replace(snapshot.zones[1], pageblock_types=types)
    with recorded_guest(replace(snapshot, zones=(snapshot.zones[0], changed)), cpus=2) as segment:
        assert words(segment, DMA32, Z_RESERVED_HIGHATOMIC) == (512,)


def changed_zone(number: int, **changes: object) -> FreeListSnapshot:
    snapshot = small_snapshot()
    zones = list(snapshot.zones)
    zones[number] = replace(zones[number], **changes)
    return replace(snapshot, zones=tuple(zones))


@pytest.mark.parametrize(
    ("snapshot", "message"),
    [
        (replace(small_snapshot(), pageblock_order=10), "pageblock_order is 10; modelled is 9"),
        (replace(small_snapshot(), max_order=9), "largest order is 9"),
        (replace(small_snapshot(), pcptypes=4), "pcptypes is 4"),
        (replace(small_snapshot(), nr_pcp_lists=12), "nr_pcp_lists is 12"),
        (replace(small_snapshot(), zones=()), "without zones"),
        (replace(small_snapshot(), zones=small_snapshot().zones[::-1]), "DMA does not lie above"),
        (changed_zone(1, name="HighMem"), "zone HighMem is not modelled"),
        (changed_zone(1, start_pfn=0x800), "zone DMA32 does not lie above zone DMA"),
        (changed_zone(1, spanned=0), "zone DMA32 has no pages"),
        (changed_zone(1, spanned=1 << 40), "zone DMA32 ends at pfn 0x10000001000"),
        (changed_zone(1, lowmem_reserve=(0,) * 6), "names 6 reserves"),
        (changed_zone(1, pageblock_types=(7,) * 8), "migratetype 7"),
        (changed_zone(1, first_pageblock_pfn=0xE00), "share a page block of two types"),
        (changed_zone(0, pagesets=(PagesetSnapshot(5, 0, 1, 1, 0),)), "pageset of CPU 5"),
    ],
)
def test_a_snapshot_that_is_not_modelled_is_refused(
    snapshot: FreeListSnapshot, message: str
) -> None:
    if message.endswith("two types"):
        below = replace(snapshot.zones[0], pageblock_types=(1,) * 7 + (2,))
        snapshot = replace(snapshot, zones=(below, snapshot.zones[1]))
    with pytest.raises(InputErrors) as caught:
        plan_from_snapshot(snapshot, cpus=2, file="guest.free")
    assert message in str(caught.value)
    assert all(line.startswith("guest.free: ") for line in str(caught.value).splitlines())
    assert caught.value.exit_code == 2


def test_every_complaint_is_made_at_once() -> None:
    snapshot = replace(small_snapshot(), max_order=9, pcptypes=4)
    with pytest.raises(InputErrors) as caught:
        plan_from_snapshot(snapshot, cpus=1)
    told = [str(error) for error in caught.value.errors]
    assert len(told) == 4
    assert told[2] == "zone DMA has a pageset of CPU 1, the guest has 1 CPUs"


# -- in the kernel's formats ----------------------------------------------------------------------


@pytest.mark.parametrize("path", FREE_FILES, ids=lambda path: str(path.relative_to(RECORDINGS)))
def test_a_recorded_guest_is_read_back_byte_for_byte(path: Path) -> None:
    snapshot = read_free_lists(path)
    with recorded_guest(snapshot) as segment:
        seen = free_list_snapshot(segment, snapshot.t_ns)
    assert seen == snapshot
    with gzip.open(path, "rt") as file:
        assert format_free_lists(seen) == file.read()


def test_the_small_guest_is_read_back_on_two_cpus() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        assert free_list_snapshot(segment, 1_000_000) == small_snapshot()


@pytest.mark.parametrize("run", ["idle_d10", "idle_m2048", "w4p"])
def test_proc_shows_what_the_kernel_showed(run: str) -> None:
    """The lists were recorded a moment after these: nothing had moved on them in these runs."""
    with recorded_guest(read_free_lists(RECORDINGS / run / "before.free.gz")) as segment:
        shown = {
            "buddyinfo": format_buddyinfo(buddy_info(segment)),
            "pagetypeinfo": format_pagetypeinfo(page_type_info(segment)),
        }
    for name, text in shown.items():
        with gzip.open(RECORDINGS / run / f"before.{name}.gz", "rt") as file:
            assert text == file.read()


def test_zoneinfo_shows_what_the_kernel_showed() -> None:
    recorded = read_zoneinfo(RECORDINGS / "idle_d10/before.zoneinfo.gz")
    with recorded_guest(read_free_lists(RECORDINGS / "idle_d10/before.free.gz")) as segment:
        shown = zone_info(segment)
    assert [zone.zone for zone in shown] == [zone.zone for zone in recorded]
    for ours, theirs in zip(shown, recorded, strict=True):
        for field in (
            *("node", "free", "boost", "wmark_min", "wmark_low", "wmark_high"),
            *("spanned", "managed", "cma", "protection", "start_pfn"),
        ):
            assert getattr(ours, field) == getattr(theirs, field), (ours.zone, field)
        assert ours.populated == theirs.populated
        assert [(one.cpu, one.high, one.batch) for one in ours.pagesets] == [
            (one.cpu, one.high, one.batch) for one in theirs.pagesets
        ]
    assert "  start_pfn:           4096\n" in format_zoneinfo(shown)


def test_watermarks_are_shown_with_their_boost() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        segment.zones[zone(DMA32, Z_BOOST)] = 512
        shown = zone_info(segment)[1]
    assert (shown.boost, shown.wmark_min, shown.wmark_low, shown.wmark_high) == (
        512, 612, 637, 662,
    )  # fmt: skip
