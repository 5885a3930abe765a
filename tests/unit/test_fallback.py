"""Taking from other types: their order, what comes along, the boost (docs/model.md 2.3 and 4.4;
WM-6).
"""

import pytest

from pagesoak.allocator.buddy import NO_PAGE
from pagesoak.allocator.fallback_choice import BOOST_PAGEBLOCKS_MIN
from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.watermark import ALLOC_KSWAPD
from pagesoak.base.layout import (
    HIGHATOMIC,
    MOVABLE,
    PAGEBLOCK_PAGES,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_MANAGED,
    Z_WMARK_HIGH,
)
from pagesoak.base.statistics import STEALS
from tests.core_helper import CoreGuest, core_guest, dma32_alone, zone_of_blocks

NAMES = {UNMOVABLE: "unmovable", MOVABLE: "movable", RECLAIMABLE: "reclaimable"}
FALLBACKS = {
    UNMOVABLE: (RECLAIMABLE, MOVABLE),
    MOVABLE: (RECLAIMABLE, UNMOVABLE),
    RECLAIMABLE: (UNMOVABLE, MOVABLE),
}


def typed(guest: CoreGuest, pfn: int, order: int, migratetype: int) -> None:
    """A free block in a page block of this type."""
    guest.set_type(pfn, migratetype)
    guest.give(pfn, order)


@pytest.mark.parametrize("migratetype", NAMES, ids=NAMES.values())
@pytest.mark.parametrize("order", [0, 9])
def test_order_of_types(migratetype: int, order: int) -> None:
    first, second = FALLBACKS[migratetype]
    with core_guest(zone_of_blocks(4)) as guest:
        guest.take_all()
        typed(guest, 0, 9, second)
        typed(guest, 1024, 9, first)
        typed(guest, 2048, 9, HIGHATOMIC)
        assert guest.take(order, migratetype) == 1024
        assert guest.type_of(1024) == migratetype
        guest.take(9, migratetype)
        assert guest.take(9, migratetype) == NO_PAGE, "HIGHATOMIC is never a fallback"
        assert guest.free_list(9, HIGHATOMIC) == [2048]


def test_own_lists_come_first() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        typed(guest, 0, 3, UNMOVABLE)
        typed(guest, 1024, 10, MOVABLE)
        assert guest.take(0, MOVABLE) == 1024
        assert guest.counter(STEALS) == 0


def test_the_largest_block_wins_before_the_preferred_type() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        typed(guest, 0, 4, RECLAIMABLE)
        typed(guest, 1024, 5, MOVABLE)
        assert guest.take(0, UNMOVABLE) == 1024


def test_a_whole_page_block_changes_type_without_boost() -> None:
    with dma32_alone() as guest:
        assert guest.take(0, UNMOVABLE) == 12_288
        assert guest.type_of(12_288) == guest.type_of(12_800) == UNMOVABLE
        assert guest.word(Z_BOOST) == 0
        assert guest.free_list(9, UNMOVABLE) == [12_800]
        assert guest.counter(STEALS) == 1


def test_moved_pieces_stay_reported() -> None:
    """Page reporting at order 5: the pieces of a claimed page block move to the tail, Reported or
    not.
    """
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        for pfn in (0, 64, 128, 192, 256):
            typed(guest, pfn, 5, MOVABLE)
        guest.set_reported(64, 256)
        assert guest.free_list(5, MOVABLE) == [256, 192, 128, 64, 0]
        assert guest.take(5, UNMOVABLE) == 0
        assert guest.free_list(5, UNMOVABLE) == [64, 128, 192, 256]
        assert guest.state(64) == (1, 5, UNMOVABLE, True)
        assert guest.state(128) == (1, 5, UNMOVABLE, False)


@pytest.mark.parametrize("migratetype", [UNMOVABLE, RECLAIMABLE])
def test_unmovable_and_reclaimable_claim_the_page_block_of_any_block(migratetype: int) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        typed(guest, 0, 0, MOVABLE)
        guest.give(8, 0)
        assert guest.take(0, migratetype) in {0, 8}
        assert guest.free_list(0, MOVABLE) == []


def test_a_movable_request_takes_the_smallest_when_it_cannot_claim() -> None:
    """Blocks below order 4: only the smallest block itself moves, and its rest with it."""
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.set_type(0, UNMOVABLE)
        for pfn, order in ((0, 3), (32, 1), (64, 2)):
            guest.give(pfn, order)
        assert guest.take(0, MOVABLE) == 32
        assert guest.free_lists() == {
            (0, MOVABLE): [33],
            (2, UNMOVABLE): [64],
            (3, UNMOVABLE): [0],
        }
        assert guest.type_of(0) == UNMOVABLE


def test_a_movable_request_claims_from_order_4_on() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.set_type(0, UNMOVABLE)
        for pfn, order in ((0, 4), (32, 1)):
            guest.give(pfn, order)
        assert guest.take(0, MOVABLE) == 32, "the smaller of what has come along"
        assert guest.free_lists() == {(0, MOVABLE): [33], (4, MOVABLE): [0]}


@pytest.mark.parametrize(
    ("free_pages", "on_lru", "start", "old", "changes"),
    [
        pytest.param(256, 0, MOVABLE, UNMOVABLE, True, id="256 free"),
        pytest.param(255, 0, MOVABLE, UNMOVABLE, False, id="255 free"),
        pytest.param(255, 1, MOVABLE, UNMOVABLE, True, id="255 free and 1 movable, for movable"),
        pytest.param(100, 156, MOVABLE, RECLAIMABLE, True, id="100 free and 156 movable"),
        pytest.param(100, 155, MOVABLE, RECLAIMABLE, False, id="100 free and 155 movable"),
        pytest.param(100, 0, UNMOVABLE, MOVABLE, True, id="unmovable: 412 others in use"),
        pytest.param(100, 256, UNMOVABLE, MOVABLE, True, id="unmovable: 156 others in use"),
        pytest.param(100, 257, UNMOVABLE, MOVABLE, False, id="unmovable: 155 others in use"),
        pytest.param(100, 0, UNMOVABLE, RECLAIMABLE, False, id="nothing alike of reclaimable"),
        pytest.param(256, 0, UNMOVABLE, RECLAIMABLE, True, id="256 free of reclaimable"),
    ],
)
def test_the_page_block_changes_type_at_256(
    free_pages: int, on_lru: int, start: int, old: int, changes: bool
) -> None:
    """256 = half a page block of pages that are free or alike. Free pages are given from the start
    on, user pages stand at the end.
    """
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.set_type(0, old)
        given = 0
        for order in reversed(range(9)):
            if free_pages & (1 << order):
                guest.give(given, order)
                given += 1 << order
        for page in range(512 - on_lru, 512):
            guest.split(page, 0, on_lru=True)
        guest.take(0, start)
        assert guest.type_of(0) == (start if changes else old)
        assert guest.type_of(512) == MOVABLE
        assert not [key for key in guest.free_lists() if key[1] != start], (
            "every free block came along"
        )


def test_a_claim_moves_no_block_of_another_page_block() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.give(0, 4)
        guest.give(32, 4)
        guest.give(512, 4)
        guest.set_type(512, MOVABLE)
        assert guest.take(0, UNMOVABLE) == 512
        assert guest.free_list(4, MOVABLE) == [32, 0]


def test_wm_6_boost_steps() -> None:
    """WM-6: 512, 1024, then the cap of 1524 for high 1016."""
    with dma32_alone() as guest:
        guest.take_all()
        seen = []
        for page_block in range(4):
            guest.give(12_288 + page_block * PAGEBLOCK_PAGES, 0)
            guest.take(0, UNMOVABLE, alloc_flags=ALLOC_KSWAPD)
            seen.append(guest.word(Z_BOOST))
        assert seen == [512, 1024, 1524, 1524]
        assert guest.word(Z_BOOSTED) == 1


def test_boost_wakes_kswapd_only_for_those_who_may() -> None:
    with dma32_alone() as guest:
        guest.take_all()
        guest.give(12_288, 0)
        guest.take(0, UNMOVABLE)
        assert guest.word(Z_BOOST) == 512
        assert guest.word(Z_BOOSTED) == 0


@pytest.mark.parametrize(
    ("word", "value", "boost"),
    [
        pytest.param(Z_BOOST_FACTOR, 0, 0, id="factor 0"),
        pytest.param(Z_WMARK_HIGH, 0, 0, id="high 0"),
        pytest.param(Z_BOOST_FACTOR, 1, 0, id="a cap of 0 pages"),
        pytest.param(Z_BOOST_FACTOR, 10, 512, id="a cap below a page block is one page block"),
        pytest.param(Z_MANAGED, BOOST_PAGEBLOCKS_MIN * PAGEBLOCK_PAGES - 1, 0, id="too small"),
        pytest.param(
            Z_MANAGED, BOOST_PAGEBLOCKS_MIN * PAGEBLOCK_PAGES, 512, id="just large enough"
        ),
    ],
)
def test_where_boosting_is_off(word: int, value: int, boost: int) -> None:
    with core_guest(zone_of_blocks(5), audited=word != Z_MANAGED) as guest:
        guest.set_marks(678, 847, 1016)
        guest.take_all()
        guest.give(0, 0)
        guest.set_word(word, value)
        guest.take(0, UNMOVABLE)
        assert guest.word(Z_BOOST) == boost


def test_a_page_block_that_begins_before_its_zone() -> None:
    """Of the first page block of DMA (its zone begins at page 1) only what lies from the found
    block on comes along.
    """
    zone = ZoneGeometry("DMA", 0, 1, 1023, 768, ((256, 1024),))
    with core_guest(zone) as guest:
        guest.take_all()
        guest.give(256, 2)
        guest.give(272, 2)
        guest.give(288, 1)
        assert guest.take(2, UNMOVABLE) == 272
        assert guest.free_lists() == {(1, UNMOVABLE): [288], (2, MOVABLE): [256]}


def test_a_page_block_that_ends_behind_its_zone() -> None:
    """Only the block itself is moved."""
    zone = ZoneGeometry("DMA32", 1, 0, 768, 768, ((0, 768),))
    with core_guest(zone) as guest:
        guest.take_all()
        guest.give(512, 2)
        guest.give(528, 2)
        assert guest.take(2, UNMOVABLE) == 528
        assert guest.free_lists() == {(2, MOVABLE): [512]}
        assert guest.type_of(512) == MOVABLE
