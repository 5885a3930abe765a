"""The watermark tests by their table: WO, WM-6 and PC-2 of docs/model.md."""

import pytest

from pagesoak.allocator.fallback_choice import BOOST_FACTOR_UNIT
from pagesoak.allocator.gfp import (
    ATOMIC,
    KERNEL,
    USER_MOVABLE,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)
from pagesoak.allocator.page_alloc import KILLED
from pagesoak.allocator.single import watermark_passes
from pagesoak.allocator.watermark import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
)
from pagesoak.base.layout import (
    HIGHATOMIC,
    MOVABLE,
    P_COUNT,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_RESERVED_HIGHATOMIC,
)
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, zone_of_blocks

DMA, DMA32 = 0, 1
"""Zone records of G512."""


def passes(
    guest: CoreGuest, free_pages: int, flags: int, zone: int = DMA32, order: int = 0
) -> bool:
    """Whether a user's request passes with so many pages free."""
    guest.set_word(Z_FREE_PAGES, free_pages, zone)
    return watermark_passes(guest.base, zone, order, ZONE_MOVABLE, flags) == 1


WO = {
    "WO fast path": (DMA32, WMARK_LOW | ALLOC_KSWAPD, 847),
    "WO slow path": (DMA32, WMARK_MIN | ALLOC_KSWAPD, 678),
    "WO last chance": (DMA32, WMARK_HIGH, 1016),
    "WO OOM victim": (DMA32, WMARK_MIN | ALLOC_OOM, 339),
    "WO GFP_ATOMIC": (DMA32, WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK, 255),
    "WO only __GFP_HIGH": (DMA32, WMARK_MIN | ALLOC_MIN_RESERVE, 339),
    "WO only NON_BLOCK": (DMA32, WMARK_MIN | ALLOC_NON_BLOCK, 678),
    "WO atomic of a victim": (
        DMA32,
        WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_OOM,
        128,
    ),
    "WO DMA at min": (DMA, WMARK_MIN, 485),
    "WO DMA at low": (DMA, WMARK_LOW, 490),
}
"""Zone, rights, and the pages above which order 0 passes.

The rows without a number in the table follow from 3.1: __GFP_HIGH alone halves (678 - 339);
NON_BLOCK takes its quarter only on top of that (339 - 84 = 255); a victim halves what is left (255
- 127).
"""


@pytest.mark.parametrize(("zone", "flags", "threshold"), WO.values(), ids=list(WO))
def test_wo(zone: int, flags: int, threshold: int) -> None:
    with core_guest(*G512, audited=False) as guest:
        assert passes(guest, threshold + 1, flags, zone)
        assert not passes(guest, threshold, flags, zone)


@pytest.mark.parametrize(
    ("gfp", "threshold"),
    [
        pytest.param(USER_MOVABLE, 678, id="WO user"),
        pytest.param(KERNEL, 678, id="WO GFP_KERNEL"),
        pytest.param(ATOMIC, 255, id="WO GFP_ATOMIC by its flags"),
    ],
)
def test_requests_use_the_thresholds(gfp: int, threshold: int) -> None:
    """Whole requests, the pageset and DMA out of play: served at threshold + 1, not at the
    threshold.
    """
    with dma32_alone() as guest:
        guest.take_down_to(threshold + 1)
        assert guest.take(0) >= 0
        assert guest.word(Z_FREE_PAGES) == threshold
        assert guest.alloc(gfp=gfp) < 0
    with dma32_alone() as guest:
        guest.take_down_to(threshold + 1)
        assert guest.alloc(gfp=gfp) >= 0


def test_wo_no_watermarks() -> None:
    """PF_MEMALLOC: no test, down to the last page."""
    memalloc = KERNEL | (1 << 14)
    with dma32_alone() as guest:
        guest.take_down_to(1)
        assert guest.alloc(migratetype=UNMOVABLE, gfp=memalloc) >= 0
        assert guest.word(Z_FREE_PAGES) == 0
        assert guest.alloc(migratetype=UNMOVABLE, gfp=KERNEL) == KILLED


def test_wo_user_request_falls_to_dma() -> None:
    """With DMA32 at its min mark DMA serves, and stops at its own mark and reserve."""
    with core_guest(*G512) as guest:
        guest.take_down_to(678, DMA32)
        pfn = guest.alloc()
        assert pfn < 4096
        guest.take_down_to(486, DMA)
        assert guest.alloc() < 4096
        assert guest.word(Z_FREE_PAGES, DMA) == 485
        assert guest.alloc() == KILLED


def test_dma_only_request_ignores_the_reserve() -> None:
    with core_guest(*G512, audited=False) as guest:
        assert guest.word(Z_LOWMEM_RESERVE + ZONE_DMA32, DMA) == 464
        assert guest.word(Z_LOWMEM_RESERVE + ZONE_NORMAL, DMA32) == 0
        guest.set_word(Z_FREE_PAGES, 22, DMA)
        assert watermark_passes(guest.base, DMA, 0, 0, WMARK_MIN) == 1
        guest.set_word(Z_FREE_PAGES, 21, DMA)
        assert watermark_passes(guest.base, DMA, 0, 0, WMARK_MIN) == 0


def test_wm_6_full_boost_counts_for_users() -> None:
    """WM-6: with the cap of 1524 a user needs F > 2202."""
    with core_guest(*G512, audited=False) as guest:
        guest.set_word(Z_BOOST, 1524, DMA32)
        assert passes(guest, 2203, WMARK_MIN)
        assert not passes(guest, 2202, WMARK_MIN)
        assert passes(guest, 847 + 1524 + 1, WMARK_LOW)
        assert not passes(guest, 847 + 1524, WMARK_LOW)
        assert not passes(guest, 1016 + 1524, WMARK_HIGH)


def test_wm_6_cap() -> None:
    """1524 is 1.5 times the high mark, rounded down."""
    assert 1016 // BOOST_FACTOR_UNIT * 15_000 + 1016 * 15_000 // BOOST_FACTOR_UNIT == 1524


def test_atomic_order_0_at_min_ignores_the_boost() -> None:
    atomic = ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
    with core_guest(*G512, audited=False) as guest:
        guest.set_word(Z_BOOST, 1524, DMA32)
        assert passes(guest, 256, WMARK_MIN | atomic)
        assert not passes(guest, 255, WMARK_MIN | atomic)
        assert not passes(guest, 256, WMARK_LOW | atomic), "only at the min mark"
        assert not passes(guest, 256, WMARK_MIN | ALLOC_NON_BLOCK), "only with __GFP_HIGH"
        assert not passes(guest, 260, WMARK_MIN | atomic, order=1), "only for order 0"


def test_highatomic_reserve_counts_for_those_without_rights() -> None:
    with core_guest(*G512, audited=False) as guest:
        guest.set_word(Z_RESERVED_HIGHATOMIC, 512, DMA32)
        assert not passes(guest, 678 + 512, WMARK_MIN)
        assert passes(guest, 679 + 512, WMARK_MIN)
        assert passes(guest, 340, WMARK_MIN | ALLOC_MIN_RESERVE)
        assert passes(guest, 340, WMARK_MIN | ALLOC_OOM)


@pytest.mark.parametrize("order", [1, 4, 10])
def test_larger_orders_need_their_own_rest_too(order: int) -> None:
    with core_guest(*G512, audited=False) as guest:
        assert passes(guest, 678 + (1 << order), WMARK_MIN, order=order)
        assert not passes(guest, 678 + (1 << order) - 1, WMARK_MIN, order=order)


@pytest.mark.parametrize(
    ("migratetype", "flags", "expected"),
    [
        (UNMOVABLE, WMARK_MIN, True),
        (MOVABLE, WMARK_MIN, True),
        (RECLAIMABLE, WMARK_MIN, True),
        (HIGHATOMIC, WMARK_MIN, False),
        (HIGHATOMIC, WMARK_MIN | ALLOC_HIGHATOMIC, True),
        (HIGHATOMIC, WMARK_MIN | ALLOC_OOM, True),
        (HIGHATOMIC, WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK, False),
    ],
)
def test_a_block_must_exist_on_a_usable_list(migratetype: int, flags: int, expected: bool) -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        guest.set_marks(0, 0, 0)
        guest.take_all()
        for page in range(0, 1024, 2):
            guest.give(page, 0)
        guest.set_type(2048, migratetype)
        guest.give(2048, 3)
        assert watermark_passes(guest.base, 0, 3, ZONE_MOVABLE, flags) == int(expected)
        assert watermark_passes(guest.base, 0, 4, ZONE_MOVABLE, flags) == 0


def test_pc_2_pages_in_the_own_pageset_are_out_of_reach() -> None:
    """PC-2: F = 679, empty pageset, min 678: one request succeeds, the next one fails."""
    with dma32_alone() as guest:
        guest.take_down_to(679)
        assert guest.alloc() >= 0
        assert guest.word(Z_FREE_PAGES) == 648
        assert guest.pageset_word(P_COUNT) == 30
        assert guest.alloc() == KILLED
        assert guest.pageset_word(P_COUNT) == 30
