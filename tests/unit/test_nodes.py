"""Guests of two nodes: memory map, marks, zonelists, and who gets pages from where.

Worked out by hand for 1 GiB on two nodes (docs/model.md, 3.1): node 0 has DMA (3840 managed pages)
and DMA32 (118784), node 1 the rest of DMA32 (126976 from pfn 0x21000 on).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.allocator import geometry
from pagesoak.allocator.attribution import EXHAUSTED, ISOLATED
from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.free_lists import format_free_lists
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.geometry import guest_zones, managed_by_index
from pagesoak.allocator.geometry_movable import movable_starts
from pagesoak.allocator.gfp import (
    GFP_THISNODE,
    KERNEL,
    NORETRY_KERNEL,
    THP,
    USER_MOVABLE,
    parse_packed_gfp,
)
from pagesoak.allocator.node import node_at
from pagesoak.allocator.page_alloc import FAILED
from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.allocator.populate_checks import check_snapshot
from pagesoak.allocator.proc_view import (
    buddy_info,
    free_list_snapshot,
    page_type_info,
    zone_info,
)
from pagesoak.allocator.procfs import (
    format_buddyinfo,
    format_pagetypeinfo,
    read_buddyinfo,
    read_pagetypeinfo,
)
from pagesoak.allocator.reclaim import throttling_node
from pagesoak.allocator.watermark import WMARK_MIN
from pagesoak.allocator.watermark_setup import ZoneWatermarks, guest_watermarks, lowmem_reserves
from pagesoak.allocator.zoneinfo import format_zoneinfo, read_zoneinfo
from pagesoak.allocator.zonelist import local_cpus, node_of_cpu, zonelist
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_ZONELIST_FIRST,
    P_COUNT,
    P_HIGH,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOSTED,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_ISOLATED,
    Z_LOWMEM_RESERVE,
    Z_NODE,
    Z_WMARK_LOW,
    ZONES_MAX,
    open_core,
)
from pagesoak.base.layout_reclaim import N_AWAKE
from pagesoak.base.native import entry
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import FALLBACKS
from tests.core_helper import CoreGuest, cause_of_request, core_guest, kswapd
from tests.layouts import mixed_guest

MIB = 1 << 20
GIB = 1 << 30
ONE_GIB = guest_zones(GIB, nodes=2)
DMA, LOCAL, REMOTE = range(3)
"""Zone records of 1 GiB: node 0's DMA and DMA32, node 1's DMA32."""
REMOTE_PFN = 0x21000
"""First managed page frame of node 1."""


@pytest.fixture
def guest() -> Iterator[CoreGuest]:
    """1 GiB on two nodes, a CPU in each."""
    with core_guest(*ONE_GIB, cpus=2) as made:
        yield made


# -- the memory map -------------------------------------------------------------------------------


def spans(memory_bytes: int, movable_bytes: int = 0) -> list[tuple[int, str, int, int, int]]:
    """Node, name, span in MiB (the first zone begins at pfn 1) and managed pages of each zone."""
    zones = guest_zones(memory_bytes, movable_bytes, nodes=2)
    return [
        (zone.node, zone.name, zone.start_pfn >> 8, zone.end_pfn >> 8, zone.managed_pages)
        for zone in zones
    ]


def test_1_gib_on_two_nodes() -> None:
    assert spans(GIB) == [
        (0, "DMA", 0, 16, 3840),
        (0, "DMA32", 16, 512, 118_784),
        (1, "DMA32", 512, 1024, 126_976),
    ]
    assert ONE_GIB[REMOTE].managed_ranges == ((REMOTE_PFN, 0x40000),)
    assert managed_by_index(ONE_GIB) == (3840, 118_784, 0, 0)
    assert managed_by_index(ONE_GIB, 1) == (0, 126_976, 0, 0)


def test_the_hole_below_4_gib_lies_where_its_node_does() -> None:
    """Of 4 GiB node 1 has 2 to 3 and 4 to 5, of 8 GiB node 0 has 0 to 3 and 4 to 5."""
    assert spans(4 * GIB) == [
        (0, "DMA", 0, 16, 3840),
        (0, "DMA32", 16, 2048, 499_712),
        (1, "DMA32", 2048, 4096, 262_144 - 16_384),
        (1, "Normal", 4096, 5120, 262_144),
    ]
    assert spans(8 * GIB) == [
        (0, "DMA", 0, 16, 3840),
        (0, "DMA32", 16, 4096, 3 * 262_144 - 4096 - 36_864),
        (0, "Normal", 4096, 5120, 262_144),
        (1, "Normal", 5120, 9216, 4 * 262_144 - 32_768),
    ]


def test_movable_is_shared_out_over_the_nodes() -> None:
    """256 MiB of 1 GiB. The rest, 196510 present pages, is halved: 98255 for node 0, which are
    3998 below 16 MiB and 94257 above, so up to pfn 98353; for node 1 up to 229327. Both are
    rounded up to a multiple of 1024.
    """
    zones = guest_zones(GIB, 256 * MIB, nodes=2)
    movable = [(zone.node, zone.start_pfn) for zone in zones if zone.name == "Movable"]
    assert movable == [(0, 99_328), (1, 229_376)]
    assert [zone.name for zone in zones] == ["DMA", "DMA32", "Movable", "DMA32", "Movable"]
    assert sum(zone.managed_pages for zone in zones) == 3840 + 118_784 + 126_976


def test_only_the_highest_zone_gives_to_movable() -> None:
    """Of 4 GiB on two nodes only node 1 has a Normal zone: half a GiB of it becomes Movable."""
    zones = guest_zones(4 * GIB, GIB // 2, nodes=2)
    assert [(zone.node, zone.name) for zone in zones] == [
        (0, "DMA"), (0, "DMA32"), (1, "DMA32"), (1, "Normal"), (1, "Movable"),
    ]  # fmt: skip
    assert zones[-1].managed_pages == GIB // 2 >> 12


@pytest.mark.parametrize(
    ("memory", "usable_pfn", "movable_pages", "starts"),
    [
        # even halves of what stays with the kernel
        ([[(0, 100)], [(100, 200)]], 0, 60, (70, 170)),
        # node 0 is smaller than its half: node 1 takes over the rest, in a second round
        ([[(0, 20)], [(20, 200)]], 0, 100, (None, 100)),
        # what lies below the highest zone is the kernel's anyway: node 0 counts with all of it
        ([[(0, 100)], [(100, 200)]], 150, 30, (None, 170)),
        # a hole within a node
        ([[(0, 30), (50, 120)], [(120, 220)]], 0, 100, (70, 170)),
        # one node, rounded up
        ([[(0, 100)]], 0, 33, (70,)),
    ],
)
def test_where_movable_begins(
    memory: list[list[tuple[int, int]]],
    usable_pfn: int,
    movable_pages: int,
    starts: tuple[int | None, ...],
) -> None:
    assert movable_starts(memory, usable_pfn, movable_pages, 10) == starts


@pytest.mark.parametrize(
    ("memory_bytes", "movable_bytes", "nodes", "message"),
    [
        (28 * MIB, 0, 2, "nodes: 2 nodes need memory of at least 32 MiB, a multiple of 8 MiB"),
        (36 * MIB, 0, 2, "nodes: 2 nodes need memory of at least 32 MiB, a multiple of 8 MiB"),
        (GIB, 0, 3, "nodes: must be 1 to 2"),
        (GIB, 0, 0, "nodes: must be 1 to 2"),
        (GIB, GIB, 2, "movable_bytes: .* outside 4 MiB to 952 MiB"),
        (GIB, 948 * MIB, 2, "movable_bytes: zone DMA32 of node 0 would keep no block of 4 MiB"),
    ],
)
def test_what_cannot_be_dealt_out(
    memory_bytes: int, movable_bytes: int, nodes: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        guest_zones(memory_bytes, movable_bytes, nodes)


@given(st.integers(4, 8 * 1024).map(lambda granules: granules * 8 * MIB))
def test_every_size_on_two_nodes(memory_bytes: int) -> None:
    zones = guest_zones(memory_bytes, nodes=2)
    places = [(zone.node, zone.index) for zone in zones]
    assert places == sorted(set(places))
    for below, above in pairwise(zones):
        assert below.end_pfn <= above.start_pfn
    for zone in zones:
        ((first, end),) = zone.managed_ranges
        assert zone.start_pfn <= first < end <= zone.end_pfn
        assert end % geometry.MAX_BLOCK_PAGES == 0
    half_pages = memory_bytes >> 13
    for node in (0, 1):
        present = sum(zone.present_pages for zone in zones if zone.node == node)
        assert present == half_pages - (98 if node == 0 else 0)  # pfn 0 and the legacy hole
        assert sum(managed_by_index(zones, node)) >= half_pages * 2 // 3


# -- marks, reserves, pagesets --------------------------------------------------------------------


def test_min_free_kbytes_is_shared_out_over_all_nodes() -> None:
    """249600 pages: the root of 16 x 998400 KiB is 3996, so 999 pages."""
    managed = [managed_by_index(ONE_GIB, node) for node in (0, 1)]
    first, second = guest_watermarks(managed, thp=False)
    assert (first.min_free_kbytes, second.min_free_kbytes) == (3996, 3996)
    assert first.zones[:2] == (ZoneWatermarks(15, 18, 21), ZoneWatermarks(475, 593, 711))
    assert second.zones[:2] == (ZoneWatermarks(0, 0, 0), ZoneWatermarks(508, 635, 762))


def test_khugepaged_counts_the_zones_of_all_nodes() -> None:
    """Three zones want 16896 pages; a twentieth of the 248106 above the high marks is less."""
    managed = [managed_by_index(ONE_GIB, node) for node in (0, 1)]
    assert guest_watermarks(managed, thp=True)[0].min_free_kbytes == 248_106 // 20 * 4
    large = [(3840, 700_000, 262_144, 0), (0, 0, 1_000_000, 0)]
    assert guest_watermarks(large, thp=True)[1].min_free_kbytes == 4 * 512 * 11 * 4


def test_a_node_keeps_reserves_for_its_own_zones_only(guest: CoreGuest) -> None:
    reserve = [guest.word(Z_LOWMEM_RESERVE + 3, zone) for zone in range(3)]
    assert reserve == [118_784 // 256, 0, 0]
    assert lowmem_reserves((0, 245_760, 262_144, 0))[1][2] == 262_144 // 256


@pytest.mark.parametrize(
    ("cpus", "high"),
    [(1, (593, 635)), (2, (593, 635)), (4, (593 // 2, 635 // 2)), (3, (593 // 2, 635))],
)
def test_pagesets_share_the_low_mark_among_the_cpus_of_the_node(
    cpus: int, high: tuple[int, int]
) -> None:
    """A node without a CPU takes all of them, and that is one."""
    with core_guest(*ONE_GIB, cpus=cpus) as guest:
        assert (guest.word(Z_WMARK_LOW, LOCAL), guest.word(Z_WMARK_LOW, REMOTE)) == (593, 635)
        for cpu in range(cpus):
            found = tuple(guest.pageset_word(P_HIGH, zone, cpu) for zone in (LOCAL, REMOTE))
            assert found == high


# -- zonelists ------------------------------------------------------------------------------------


def test_cpus_in_equal_runs() -> None:
    assert [node_of_cpu(cpu, 4, 2) for cpu in range(4)] == [0, 0, 1, 1]
    assert [node_of_cpu(cpu, 3, 2) for cpu in range(3)] == [0, 0, 1]
    assert [node_of_cpu(cpu, 3, 1) for cpu in range(3)] == [0, 0, 0]
    assert [local_cpus(node, 3, 2) for node in (0, 1)] == [2, 1]
    assert [local_cpus(node, 1, 2) for node in (0, 1)] == [1, 1]


@pytest.mark.parametrize(
    ("zones", "node", "order"),
    [
        ([(0, 0), (0, 1)], 0, (1, 0)),
        ([(0, 0), (0, 1), (0, 2), (0, 3)], 0, (3, 2, 1, 0)),
        ([(0, 0), (0, 1), (1, 1)], 0, (1, 0, 2)),
        ([(0, 0), (0, 1), (1, 1)], 1, (2, 1, 0)),
        ([(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)], 0, (2, 1, 0, 4, 3)),
        ([(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)], 1, (4, 3, 2, 1, 0)),
    ],
)
def test_all_zones_of_a_node_come_before_the_next(
    zones: Sequence[tuple[int, int]], node: int, order: tuple[int, ...]
) -> None:
    assert zonelist(zones, node) == order


def test_the_header_holds_every_cpus_zonelist(guest: CoreGuest) -> None:
    rows = [H_ZONELIST_FIRST + cpu * ZONES_MAX for cpu in (0, 1)]
    found = [tuple(guest.segment.header[row : row + 3]) for row in rows]
    assert found == [(LOCAL, DMA, REMOTE), (REMOTE, LOCAL, DMA)]
    assert [guest.word(Z_NODE, zone) for zone in range(3)] == [0, 0, 1]
    assert [guest.word(Z_INDEX, zone) for zone in range(3)] == [0, 1, 1]


# -- who gets pages from where --------------------------------------------------------------------


def test_each_cpu_takes_from_its_own_node(guest: CoreGuest) -> None:
    assert guest.alloc(cpu=0) == 0x3000
    assert guest.alloc(cpu=1) == REMOTE_PFN


def test_the_own_nodes_dma_comes_before_the_other_node(guest: CoreGuest) -> None:
    """DMA32 of node 0 at its low mark; then DMA, down to its own low mark and reserve."""
    guest.take_down_to(593, LOCAL)
    assert guest.alloc(4) < 4096
    guest.take_down_to(18 + 464 + 1, DMA)
    assert guest.alloc() < 4096
    guest.drain()
    guest.take_down_to(18 + 464, DMA)
    assert guest.alloc() == REMOTE_PFN
    assert guest.alloc(4) >= REMOTE_PFN


def test_the_other_way_round(guest: CoreGuest) -> None:
    """CPU 1 goes from its node's only zone to node 0's DMA32, then to its DMA."""
    guest.take_down_to(635, REMOTE)
    assert guest.alloc(4, cpu=1) == 0x3000
    guest.take_down_to(593, LOCAL)
    assert guest.alloc(4, cpu=1) < 4096


def test_a_dma32_request_prefers_its_node_too(guest: CoreGuest) -> None:
    dma32 = parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")
    dma = parse_packed_gfp("GFP_KERNEL|__GFP_DMA")
    assert guest.alloc(4, UNMOVABLE, dma32, cpu=1) >= REMOTE_PFN
    assert guest.alloc(4, UNMOVABLE, dma, cpu=1) < 4096


def test_a_remote_page_lies_in_the_pageset_of_who_frees_it(guest: CoreGuest) -> None:
    pfn = guest.alloc(cpu=1)
    assert guest.pageset_word(P_COUNT, REMOTE, 1) == 30
    assert guest.free(pfn, cpu=0) == 0
    assert guest.pageset_word(P_COUNT, REMOTE, 0) == 1
    assert guest.pageset(1, REMOTE, 0) == [pfn]


def test_thisnode_stays_on_its_node(guest: CoreGuest) -> None:
    """A huge page of a fault is local or none; the single pages after it may come from afar."""
    guest.take_down_to(593, LOCAL)
    guest.take_down_to(400, DMA)
    assert guest.alloc(9, gfp=THP, cpu=0) == FAILED
    assert guest.counter(FALLBACKS) == 1
    assert guest.alloc(9, gfp=THP, cpu=1) >= REMOTE_PFN
    assert guest.alloc(0, gfp=USER_MOVABLE, cpu=0) >= REMOTE_PFN


def test_the_cause_looks_at_the_zones_the_request_may_use(guest: CoreGuest) -> None:
    """Both nodes at min; 1024 isolated pages in node 1. Who may go there would be served."""
    for zone, minimum in ((DMA, 15), (LOCAL, 475), (REMOTE, 508)):
        guest.take_down_to(minimum, zone)
        assert guest.word(Z_FREE_PAGES, zone) == minimum
    thisnode = parse_packed_gfp("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE")
    assert cause_of_request(guest.base, 0, 0, USER_MOVABLE, WMARK_MIN) == EXHAUSTED
    guest.set_word(Z_ISOLATED, 1024, REMOTE)
    assert cause_of_request(guest.base, 0, 0, USER_MOVABLE, WMARK_MIN) == ISOLATED
    assert cause_of_request(guest.base, 0, 0, thisnode, WMARK_MIN) == EXHAUSTED
    assert cause_of_request(guest.base, 1, 0, thisnode, WMARK_MIN) == ISOLATED
    guest.set_word(Z_ISOLATED, 0, REMOTE)


# -- kswapd of each node --------------------------------------------------------------------------


def awake(guest: CoreGuest) -> list[int]:
    """Whether the kswapd of node 0, of node 1, is awake."""
    return [guest.segment.header[node_at(node) + N_AWAKE] for node in (0, 1)]


@entry
def throttled_by(base: int, cpu: int, gfp: int) -> int:
    """`throttling_node` for a test."""
    return throttling_node(open_core(base), cpu, gfp)


@pytest.mark.parametrize(("dma_pages", "found"), [(483, [0, 0]), (482, [1, 1])])
def test_all_nodes_of_the_zonelist_are_woken_together(
    guest: CoreGuest, dma_pages: int, found: list[int]
) -> None:
    """KS-1 across nodes: as long as node 0's DMA serves, above 18 + 464, nobody is woken."""
    guest.take_down_to(593, LOCAL)
    guest.take_down_to(635, REMOTE)
    guest.take_down_to(dma_pages, DMA)
    assert guest.alloc(0, UNMOVABLE, NORETRY_KERNEL, cpu=1) >= 0
    assert awake(guest) == found


def test_a_request_for_its_node_wakes_its_node(guest: CoreGuest) -> None:
    for zone, pages in ((DMA, 400), (LOCAL, 500), (REMOTE, 550)):
        guest.take_down_to(pages, zone)
    gfp = NORETRY_KERNEL | GFP_THISNODE
    assert guest.alloc(0, UNMOVABLE, gfp, cpu=1) >= REMOTE_PFN
    assert awake(guest) == [0, 1]
    assert guest.alloc(0, UNMOVABLE, gfp, cpu=0) < REMOTE_PFN
    assert awake(guest) == [1, 1]


def test_a_run_takes_back_the_boosts_of_its_node(guest: CoreGuest) -> None:
    for zone in (LOCAL, REMOTE):
        guest.set_word(Z_BOOST, 512, zone)
    guest.set_word(Z_BOOSTED, 1, REMOTE)
    guest.segment.header[H_KSWAPD_WAKE] = 1
    kswapd(guest.base)
    assert [guest.word(Z_BOOST, zone) for zone in (LOCAL, REMOTE)] == [512, 0]


def test_who_throttles_a_request() -> None:
    """The node of the first zone up to Normal in the request's zonelist, which need not be its
    own: of 8 GiB node 1 has Normal alone.
    """
    user, dma32 = USER_MOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")
    with core_guest(*guest_zones(8 * GIB, nodes=2), cpus=2) as guest:
        assert [throttled_by(guest.base, cpu, user) for cpu in (0, 1)] == [0, 1]
        assert [throttled_by(guest.base, cpu, dma32) for cpu in (0, 1)] == [0, 0]
        assert throttled_by(guest.base, 1, dma32 | GFP_THISNODE) == -1


# -- a pass of the reporter -----------------------------------------------------------------------


def test_a_pass_goes_through_the_zones_node_after_node() -> None:
    """Node 0's DMA and DMA32, then node 1's: each with the gate of its own marks and its own
    leftover. Order 6 and four entries, so that DMA has something to report too.
    """
    with mixed_guest(ONE_GIB, 2) as mix:
        mix.settle()
        zones = [zone for zone, _ in mix.reports]
    first_pass = zones[: next(n for n, (one, two) in enumerate(pairwise(zones), 1) if two < one)]
    assert [zone for zone, _ in groupby(first_pass)] == [DMA, LOCAL, REMOTE]
    # 118784 pages are 116 blocks of order 10: a budget of 2, so 3 reports; 124 blocks: the same
    assert first_pass.count(LOCAL) == first_pass.count(REMOTE) == 3
    assert {zone for zone, _ in groupby(zones)} == {DMA, LOCAL, REMOTE}


def test_a_closed_gate_closes_one_zone_only() -> None:
    """Node 0's DMA32 is at its low mark; the others are reported, node 1 behind it as well."""
    with mixed_guest(ONE_GIB, 2) as mix:
        mix.guest.take_down_to(593, LOCAL)
        for _ in range(400):
            mix.report()
        assert {zone for zone, _ in mix.reports} == {DMA, REMOTE}


# -- reading and printing -------------------------------------------------------------------------


def test_proc_files_of_two_nodes_come_back(guest: CoreGuest, tmp_path: Path) -> None:
    guest.alloc(3, UNMOVABLE, KERNEL, cpu=1)
    path = tmp_path / "file"
    path.write_text(format_buddyinfo(buddy_info(guest.segment)))
    assert path.read_text().splitlines()[2].startswith("Node 1, zone    DMA32 ")
    assert read_buddyinfo(path) == buddy_info(guest.segment)
    path.write_text(format_pagetypeinfo(page_type_info(guest.segment)))
    assert path.read_text().count("Page block order: 9") == 2
    assert read_pagetypeinfo(path) == page_type_info(guest.segment)
    path.write_text(format_zoneinfo(zone_info(guest.segment)))
    found = read_zoneinfo(path)
    assert found == zone_info(guest.segment)
    assert [(zone.node, zone.zone) for zone in found if zone.populated] == [
        (0, "DMA"), (0, "DMA32"), (1, "DMA32"),
    ]  # fmt: skip
    assert len(found) == 2 * 5


def test_a_snapshot_of_two_nodes_starts_the_same_guest(guest: CoreGuest, tmp_path: Path) -> None:
    guest.alloc(0, cpu=1)
    guest.alloc(9, cpu=0)
    snapshot = free_list_snapshot(guest.segment, 5)
    path = tmp_path / "x.free"
    path.write_text(format_free_lists(snapshot))
    assert "\nz,DMA32/1,20000,131072,126976,508,635,762," in path.read_text()
    again = read_free_lists(path)
    assert again.zones == snapshot.zones
    assert [zone.label for zone in again.zones] == ["DMA", "DMA32", "DMA32/1"]
    segment = Segment.create(plan_from_snapshot(again, cpus=2))
    populate_snapshot(segment, again)
    assert free_list_snapshot(segment, 5) == snapshot
    header = slice(H_ZONELIST_FIRST, H_ZONELIST_FIRST + 2 * ZONES_MAX)
    assert segment.header[header].tolist() == guest.segment.header[header].tolist()
    segment.close()
    assert state_digest(guest.segment)


@pytest.mark.parametrize("name", ["DMA32/0", "DMA32/x", "DMA32/01", "DMA32/", "A/1/1"])
def test_a_zone_is_named_in_one_way(guest: CoreGuest, tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.free"
    text = format_free_lists(free_list_snapshot(guest.segment, 5))
    path.write_text(text.replace("z,DMA32/1", f"z,{name}"))
    with pytest.raises(InputError, match="is no zone: NAME, or NAME/NODE from node 1 on"):
        read_free_lists(path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((0, 0, 2), "zones of node 2; a guest has at most 2 nodes"),
        ((1, 1, 1), "no zone of node 0, but of node 1"),
        ((1, 1, 0), "zone DMA32 does not lie above zone DMA32/1"),
    ],
)
def test_nodes_that_no_guest_has(guest: CoreGuest, nodes: tuple[int, ...], message: str) -> None:
    snapshot = free_list_snapshot(guest.segment, 5)
    zones = [replace(zone, node=node) for zone, node in zip(snapshot.zones, nodes, strict=True)]
    with pytest.raises(InputErrors, match=message):
        check_snapshot(replace(snapshot, zones=tuple(zones)), 2, None)
