"""ALLOC_NOFRAGMENT: with zone Normal preferred, another zone before a mixed page block."""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.geometry import (
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    ZoneGeometry,
)
from pagesoak.allocator.gfp import KERNEL, USER_MOVABLE
from pagesoak.allocator.page_alloc import alloc_flags_nofragment
from pagesoak.allocator.watermark import ALLOC_NOFRAGMENT
from pagesoak.base.layout import MOVABLE, UNMOVABLE, Z_BOOST, open_core
from pagesoak.base.native import entry
from pagesoak.base.statistics import STEALS
from tests.core_helper import CoreGuest, core_guest, zone_of_blocks

DMA32, NORMAL = 0, 1
"""Zone records."""
NORMAL_PFN = 4096
ORDER = 4
"""Passes no pageset."""


@entry
def flags_of(base: int, cpu: int, gfp: int) -> int:
    """`alloc_flags_nofragment` for a test."""
    return alloc_flags_nofragment(open_core(base), cpu, gfp)


@pytest.fixture(params=["6.1", "6.12"])
def guest(request: pytest.FixtureRequest) -> Iterator[CoreGuest]:
    """DMA32 of 16 MiB full of free memory, Normal with half a movable page block free."""
    zones = (zone_of_blocks(4), zone_of_blocks(4, NORMAL_PFN, ZONE_NORMAL))
    with core_guest(*zones) as made:
        made.set_kernel(request.param)
        for zone in (DMA32, NORMAL):
            made.set_marks(0, 0, 0, zone)
        made.take_all(NORMAL)
        made.give(NORMAL_PFN, 8)
        yield made


def test_another_zones_page_block_comes_before_half_of_one_here(guest: CoreGuest) -> None:
    """Normal has half a movable page block free: it stays as it is."""
    assert guest.alloc(ORDER, UNMOVABLE, KERNEL) == 0
    assert guest.type_of(0) == guest.type_of(512) == UNMOVABLE
    assert guest.free_list(8, MOVABLE, NORMAL) == [NORMAL_PFN]
    assert guest.word(Z_BOOST, NORMAL) == 0
    assert guest.counter(STEALS) == 1


def test_a_page_block_here_comes_before_another_zones(guest: CoreGuest) -> None:
    guest.give(NORMAL_PFN + 1024, 9)
    assert guest.alloc(ORDER, UNMOVABLE, KERNEL) == NORMAL_PFN + 1024
    assert guest.free_list(8, MOVABLE, NORMAL) == [NORMAL_PFN]


def test_with_no_page_block_anywhere_they_are_mixed_after_all(guest: CoreGuest) -> None:
    """In the preferred zone, though the other one has as much."""
    guest.take_all(DMA32)
    guest.give(0, 8)
    pfn = guest.alloc(ORDER, UNMOVABLE, KERNEL)
    assert guest.zone_of(pfn) == NORMAL
    assert guest.type_of(NORMAL_PFN) == UNMOVABLE
    assert guest.free_list(8, MOVABLE, DMA32) == [0]


def test_a_request_whose_own_lists_have_some_is_served_here(guest: CoreGuest) -> None:
    assert guest.alloc(ORDER, MOVABLE, USER_MOVABLE) == NORMAL_PFN


def with_node(zone: ZoneGeometry, node: int) -> ZoneGeometry:
    """The same zone on another node."""
    values = {name: getattr(zone, name) for name in ZoneGeometry.__dataclass_fields__}
    return ZoneGeometry(**{**values, "node": node})


@pytest.mark.parametrize(
    ("zones", "gfp", "expected"),
    [
        pytest.param([(ZONE_DMA32, 0)], KERNEL, 0, id="no Normal"),
        pytest.param([(ZONE_NORMAL, 0)], KERNEL, ALLOC_NOFRAGMENT, id="Normal alone"),
        pytest.param(
            [(ZONE_DMA, 0), (ZONE_NORMAL, 0)], KERNEL, ALLOC_NOFRAGMENT, id="one node, no DMA32"
        ),
        pytest.param(
            [(ZONE_NORMAL, 0), (ZONE_MOVABLE, 0)], KERNEL, ALLOC_NOFRAGMENT, id="below Movable"
        ),
        pytest.param([(ZONE_NORMAL, 0), (ZONE_MOVABLE, 0)], USER_MOVABLE, 0, id="Movable first"),
        pytest.param(
            [(ZONE_DMA32, 0), (ZONE_NORMAL, 0), (ZONE_NORMAL, 1)],
            KERNEL,
            ALLOC_NOFRAGMENT,
            id="two nodes, DMA32 on this one",
        ),
        pytest.param(
            [(ZONE_DMA, 0), (ZONE_NORMAL, 0), (ZONE_NORMAL, 1)], KERNEL, 0, id="two nodes, none"
        ),
    ],
)
def test_which_zone_wants_it(zones: list[tuple[int, int]], gfp: int, expected: int) -> None:
    places = [
        with_node(zone_of_blocks(4, number << 12, index), node)
        for number, (index, node) in enumerate(zones)
    ]
    with core_guest(*places) as guest:
        assert flags_of(guest.base, 0, gfp) == expected
