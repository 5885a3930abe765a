"""Guests with a Normal or a Movable zone: marks, and the way down from zone to zone.

Worked out by hand for 4 GiB: DMA has 3840 managed pages, DMA32 745472, Normal 262144; together
1011456. The root of 16 x 4045824 KiB is 8045, so 2011 pages are shared out. What a zone keeps from
requests for a higher zone: DMA a 256th of what lies above it (2912 for DMA32, 3936 for Normal),
DMA32 a 256th of Normal (1024).
"""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.attribution import EXHAUSTED, ISOLATED
from pagesoak.allocator.geometry import ZONE_NAMES, ZoneGeometry, guest_zones, managed_by_index
from pagesoak.allocator.gfp import (
    ATOMIC,
    GFP_NORETRY,
    KERNEL,
    NORETRY_KERNEL,
    USER_MOVABLE,
    parse_packed_gfp,
)
from pagesoak.allocator.page_alloc import FAILED, KILLED
from pagesoak.allocator.watermark import WMARK_MIN
from pagesoak.allocator.watermark_setup import ZoneWatermarks, lowmem_reserves, zone_watermarks
from pagesoak.allocator.writeback import dirtyable_pages
from pagesoak.base.layout import (
    MOVABLE,
    UNMOVABLE,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_LOWMEM_RESERVE,
    Z_START_PFN,
    open_core,
)
from pagesoak.base.native import entry
from tests.core_helper import CoreGuest, cause_of_request, core_guest
from tests.layouts import ALLOC, KINDS, mixed_guest, random_steps

MIB = 1 << 20
GIB = 1 << 30
FOUR_GIB = guest_zones(4 * GIB)
DMA, DMA32, NORMAL, MOVABLE_ZONE = range(4)
NORMAL_PFN = 1 << 20
GFP_DMA32 = parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")
GFP_DMA = parse_packed_gfp("GFP_KERNEL|__GFP_DMA")


@entry
def could_be_dirty(base: int) -> int:
    """`dirtyable_pages` for a test."""
    return dirtyable_pages(open_core(base))


@pytest.fixture
def guest() -> Iterator[CoreGuest]:
    """4 GiB, all free."""
    with core_guest(*FOUR_GIB) as made:
        yield made


def zone_of(guest: CoreGuest, **request: int) -> int:
    """The zone that serves a request, straight from the buddy lists; -1 if none does."""
    pfn = guest.alloc(4, **request)
    return guest.zone_of(pfn) if pfn >= 0 else -1


def test_marks_and_reserves_of_4_gib(guest: CoreGuest) -> None:
    assert managed_by_index(FOUR_GIB) == (3840, 745_472, 262_144, 0)
    setup = zone_watermarks(managed_by_index(FOUR_GIB), thp=False)
    assert setup.min_free_kbytes == 8045
    assert setup.zones[:3] == (
        ZoneWatermarks(7, 10, 13),
        ZoneWatermarks(1482, 2227, 2972),
        ZoneWatermarks(521, 783, 1045),
    )
    reserves = [
        tuple(guest.word(Z_LOWMEM_RESERVE + highest, zone) for highest in range(4))
        for zone in range(3)
    ]
    assert reserves == [(0, 2912, 3936, 3936), (0, 0, 1024, 1024), (0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("gibibytes", "managed", "min_free_kbytes", "marks", "reserves"),
    [
        (8, (3840, 712_704, 1_310_720, 0), 11_390,
         ((5, 8, 11), (1000, 1712, 2424), (1840, 3150, 4460)), (2784, 7904, 5120)),
        (64, (3840, 391_168, 15_990_784, 0), 32_383,
         ((1, 4, 7), (193, 584, 975), (7899, 23_889, 39_879)), (1528, 63_992, 62_464)),
    ],
)  # fmt: skip
def test_marks_of_larger_guests(
    gibibytes: int,
    managed: tuple[int, ...],
    min_free_kbytes: int,
    marks: tuple[tuple[int, int, int], ...],
    reserves: tuple[int, int, int],
) -> None:
    """By hand, as above. Reserves: of DMA from requests for DMA32 and for Normal, of DMA32 from
    those for Normal. khugepaged asks for 33 page blocks, however large the guest is.
    """
    zones = guest_zones(gibibytes * GIB)
    assert managed_by_index(zones) == managed
    setup = zone_watermarks(managed, thp=False)
    assert setup.min_free_kbytes == min_free_kbytes
    assert tuple((zone.min, zone.low, zone.high) for zone in setup.zones[:3]) == marks
    table = lowmem_reserves(managed)
    assert (table[DMA][1], table[DMA][2], table[DMA32][2]) == reserves
    assert zone_watermarks(managed, thp=True).min_free_kbytes == 33 * 512 * 4


def test_what_a_guest_may_have_dirty(guest: CoreGuest) -> None:
    """What is free above all reserves together: DMA keeps all of its 3840 pages, DMA32 1024 and
    its high mark, Normal its high mark; 8881 in all. An empty Normal does not make them fewer.
    """
    assert could_be_dirty(guest.base) == 1_011_456 - 8881
    guest.take_down_to(0, NORMAL)
    assert could_be_dirty(guest.base) == 3840 + 745_472 - 8881


@pytest.mark.parametrize(
    ("gfp", "migratetype"),
    [
        pytest.param(USER_MOVABLE, MOVABLE, id="user page"),
        pytest.param(KERNEL, UNMOVABLE, id="GFP_KERNEL"),
    ],
)
def test_from_normal_down_to_dma32_and_never_to_dma(
    guest: CoreGuest, gfp: int, migratetype: int
) -> None:
    """Normal serves while more than 783 pages stay over; then DMA32 down to 2227 + 1024; DMA,
    which keeps more back than it has, never, and the slow path only down to the min marks.
    """
    request = {"gfp": gfp, "migratetype": migratetype}
    guest.take_down_to(783 + 16, NORMAL)
    assert zone_of(guest, **request) == NORMAL
    guest.take_down_to(783 + 15, NORMAL)
    assert zone_of(guest, **request) == DMA32
    guest.take_down_to(2227 + 1024 + 16, DMA32)
    assert zone_of(guest, **request) == DMA32
    assert guest.word(Z_FREE_PAGES, DMA32) == 2227 + 1024
    assert zone_of(guest, **request) == NORMAL, "in the slow path, above min"
    guest.take_down_to(521 + 15, NORMAL)
    assert zone_of(guest, **request) == DMA32, "above min and reserve"
    guest.take_down_to(1482 + 1024 + 15, DMA32)
    assert guest.alloc(4, migratetype, gfp | GFP_NORETRY) == FAILED
    assert guest.word(Z_FREE_PAGES, DMA) == 3840


def test_who_asks_for_a_low_zone_gets_what_it_keeps_back(guest: CoreGuest) -> None:
    """A request for DMA32 starts there and may take all of it, and of DMA what is over 10 + 2912;
    one for DMA all of that.
    """
    assert zone_of(guest, gfp=GFP_DMA32, migratetype=UNMOVABLE) == DMA32
    guest.take_down_to(2227 + 16, DMA32)
    assert zone_of(guest, gfp=GFP_DMA32, migratetype=UNMOVABLE) == DMA32
    guest.take_down_to(2227, DMA32)
    assert zone_of(guest, gfp=GFP_DMA32, migratetype=UNMOVABLE) == DMA
    guest.take_down_to(10 + 2912 + 15, DMA)
    guest.take_down_to(1482, DMA32)
    noretry = GFP_DMA32 | GFP_NORETRY
    assert guest.alloc(4, UNMOVABLE, noretry) >= 0, "in the slow path, above 7 + 2912"
    guest.take_down_to(7 + 2912, DMA)
    assert guest.alloc(4, UNMOVABLE, noretry) == FAILED
    assert zone_of(guest, gfp=GFP_DMA, migratetype=UNMOVABLE) == DMA


def test_atomic_requests_go_deeper_in_every_zone(guest: CoreGuest) -> None:
    """Half of min and a quarter of that: 521 - 260 - 65 = 196 in Normal; 1482 - 741 - 185 = 556 in
    DMA32, and its reserve stands.
    """
    request = {"gfp": ATOMIC, "migratetype": UNMOVABLE}
    guest.take_down_to(521, NORMAL)
    guest.take_down_to(1482 + 1024, DMA32)
    assert zone_of(guest, **request) == NORMAL
    assert guest.unreserve(), "the request had reserved its page block"
    guest.take_down_to(196 + 15, NORMAL)
    assert zone_of(guest, **request) == DMA32
    assert guest.unreserve()
    guest.take_down_to(556 + 1024 + 15, DMA32)
    assert zone_of(guest, **request) == -1


def test_a_kill_while_another_zone_keeps_its_reserve(guest: CoreGuest) -> None:
    """GFP_KERNEL dies with 15 MiB of DMA and 8 MiB of DMA32 free; isolated pages of DMA32 are the
    cause only if they lift it above its reserve.
    """
    guest.take_down_to(521, NORMAL)
    guest.take_down_to(2000, DMA32)
    assert guest.alloc(0, UNMOVABLE, KERNEL) == KILLED
    for isolated, cause in ((506, EXHAUSTED), (507, ISOLATED)):
        guest.set_word(Z_ISOLATED, isolated, DMA32)
        assert cause_of_request(guest.base, 0, 0, KERNEL, WMARK_MIN) == cause
    assert cause_of_request(guest.base, 0, 0, GFP_DMA, WMARK_MIN) == -1
    guest.set_word(Z_ISOLATED, 0, DMA32)


def test_a_zone_goes_back_to_serving_first(guest: CoreGuest) -> None:
    """Nothing is remembered: as soon as Normal is above its mark it comes first again."""
    guest.take_down_to(783, NORMAL)
    pfn = guest.alloc(5, UNMOVABLE, NORETRY_KERNEL)
    assert guest.zone_of(pfn) == DMA32
    top = guest.take(10, zone=NORMAL) if guest.free_list(10, zone=NORMAL) else -1
    assert top == -1
    guest.free(pfn, 5)
    guest.split(NORMAL_PFN, 10)
    guest.give(NORMAL_PFN, 6)
    assert zone_of(guest) == NORMAL


# -- zone Movable ---------------------------------------------------------------------------------


def test_only_movable_user_pages_go_to_movable() -> None:
    """1 GiB with 256 MiB Movable: its share of the marks too, and no reserve for anybody."""
    with core_guest(*guest_zones(GIB, 256 * MIB)) as guest:
        assert [guest.word(Z_START_PFN, zone) for zone in range(3)] == [1, 4096, 196_608]
        movable = 2
        assert guest.zone_of(guest.alloc()) == movable
        assert guest.zone_of(guest.alloc(0, UNMOVABLE, KERNEL)) == DMA32
        assert guest.zone_of(guest.alloc(0, MOVABLE, parse_packed_gfp("GFP_USER"))) == DMA32
        assert guest.word(Z_LOWMEM_RESERVE + 3, DMA32) == 65_536 // 256
        assert guest.word(Z_LOWMEM_RESERVE + 3, movable) == 0
        guest.take_down_to(0, movable)
        assert guest.zone_of(guest.alloc(4)) == DMA32


def test_the_order_of_all_four_zones() -> None:
    with core_guest(*guest_zones(6 * GIB, GIB)) as guest:
        found = []
        for _ in range(3):
            found.append(zone_of(guest))
            guest.take_down_to(0, found[-1])
        assert found == [MOVABLE_ZONE, NORMAL, DMA32]
        assert guest.alloc(3) == KILLED, "DMA keeps back more than it has"
        assert guest.word(Z_FREE_PAGES, DMA) == 3840


# -- one place is like another --------------------------------------------------------------------

STEPS = random_steps(5, 1500)
SHIFT = 37 << 10
"""No power of two, and a multiple of the largest block: buddies stay buddies."""


def zones_at(first_pfn: int, *indices: int) -> tuple[ZoneGeometry, ...]:
    """Zones of 20 MiB one behind the other, each with a hole."""
    zones = []
    for index in indices:
        ranges = ((first_pfn + 10, first_pfn + 2000), (first_pfn + 2100, first_pfn + 5120))
        zones.append(ZoneGeometry(ZONE_NAMES[index], index, first_pfn, 5120, 5120, ranges))
        first_pfn += 5120
    return tuple(zones)


def outcome(zones: tuple[ZoneGeometry, ...], shift: int) -> list[object]:
    """Answers, reports and final lists of a load, with every page frame less `shift`."""
    with mixed_guest(zones, 2) as mix:
        for step in STEPS:
            mix.take(step)
        mix.guest.check()
        lists = [
            {place: [pfn - shift for pfn in pfns] for place, pfns in found.items()}
            for zone in range(len(zones))
            for found in (
                mix.guest.free_lists(zone),
                mix.guest.pagesets(zone, 0),
                mix.guest.pagesets(zone, 1),
            )
        ]
        assert len(mix.reports) > 20
        assert min(mix.answers) < 0, "memory ran out, too"
        answers = [pfn - shift if pfn >= 0 else pfn for pfn in mix.answers]
        return [answers, mix.reports, *lists]


def test_the_same_load_on_a_guest_further_up_ends_further_up() -> None:
    """Nothing hangs on where a zone lies."""
    here = outcome(zones_at(0, 0, 1), 0)
    assert outcome(zones_at(SHIFT, 0, 1), SHIFT) == here
    assert outcome(zones_at(5 * SHIFT, 0, 1), 5 * SHIFT) == here


def test_a_zone_of_another_index_does_the_same() -> None:
    """DMA or DMA32, where no request tells them apart by its highest zone."""
    same = [step for step in STEPS if step[0] != ALLOC or step[2] % len(KINDS) != len(KINDS) - 1]
    found = []
    for index in (DMA, DMA32):
        with mixed_guest(zones_at(0, index), 1) as mix:
            for step in same:
                mix.take(step)
            assert mix.reports
            found.append((mix.answers, mix.reports, mix.guest.free_lists()))
    assert found[0] == found[1]
