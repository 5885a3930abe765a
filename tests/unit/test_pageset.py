"""The per-CPU pagesets: refill, high, what goes back and in which order (docs/model.md, section 5;
PC-1, PC-2).
"""

import pytest

from pagesoak.allocator.gfp import KERNEL
from pagesoak.base.layout import (
    H_THP_PAGESETS,
    MOVABLE,
    P_ALLOCATED,
    P_BATCH,
    P_CLAIM,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    PAGESET_WORDS,
    PCP_THP_LIST,
    RECLAIMABLE,
    UNMOVABLE,
    Z_ALLOCATED_DIRECT,
    Z_FREE_PAGES,
    Z_RECLAIM_ACTIVE,
)
from pagesoak.base.statistics import PAGESET_DRAINS, PAGESET_REFILLS
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, zone_of_blocks


def small(guest: CoreGuest, high: int, batch: int) -> None:
    """A zone without watermarks whose pages are all in use, and a pageset of this size."""
    guest.set_marks(0, 0, 0)
    guest.take_all()
    guest.set_pageset_word(P_HIGH, high)
    guest.set_pageset_word(P_BATCH, batch)


# -- refill ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "order", "blocks"),
    [(31, 0, 31), (31, 1, 15), (31, 2, 7), (31, 3, 3), (31, 9, 2), (63, 3, 7), (3, 3, 2)]
    + [(1, order, 1) for order in (0, 1, 2, 3, 9)],
)
def test_refill_takes_a_batch(batch: int, order: int, blocks: int) -> None:
    """max(batch >> order, 2) blocks, appended in order, the first handed out; batch 1: one."""
    with core_guest(zone_of_blocks(4)) as guest:
        guest.set_marks(0, 0, 0)
        guest.set_pageset_word(P_BATCH, batch)
        free_pages = guest.word(Z_FREE_PAGES)
        assert guest.alloc(order) == 0
        index = PCP_THP_LIST + 1 if order == 9 else order * 3 + MOVABLE
        expected = [block << order for block in range(1, blocks)]
        assert guest.pagesets() == ({index: expected} if expected else {})
        assert guest.word(Z_FREE_PAGES) == free_pages - (blocks << order)
        assert guest.pageset_word(P_COUNT) == (blocks - 1) << order
        assert guest.pageset_word(P_ALLOCATED) == 1 << order
        assert guest.counter(PAGESET_REFILLS) == 1


def test_pc_1_sizes_of_g512_reach_the_pagesets() -> None:
    """PC-1, as test_model_wm computes it: DMA32 batch 31, high 847; DMA batch 1, high 26."""
    with core_guest(*G512) as guest:
        sizes = [
            (guest.pageset_word(P_BATCH, zone), guest.pageset_word(P_HIGH, zone))
            for zone in (0, 1)
        ]
        assert sizes == [(1, 26), (31, 847)]


@pytest.mark.parametrize(("cpus", "high"), [(1, 847), (2, 423), (4, 211), (8, 124)])
def test_pc_1_high_by_cpus(cpus: int, high: int) -> None:
    with core_guest(*G512, cpus=cpus) as guest:
        assert guest.pageset_word(P_HIGH, zone=1, cpu=cpus - 1) == high


def test_a_refill_takes_what_there_is() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        small(guest, 847, 31)
        for pfn in (0, 2, 4):
            guest.give(pfn)
        assert guest.alloc() == 4
        assert guest.pageset(MOVABLE) == [2, 0]


def test_blocks_are_taken_from_the_head_without_the_zone() -> None:
    with dma32_alone() as guest:
        first = guest.alloc()
        free_pages = guest.word(Z_FREE_PAGES)
        assert [guest.alloc() for _ in range(3)] == [first + 1, first + 2, first + 3]
        assert guest.word(Z_FREE_PAGES) == free_pages


def test_each_order_and_type_has_a_list() -> None:
    with core_guest(zone_of_blocks(16)) as guest:
        guest.set_marks(0, 0, 0)
        for order in range(4):
            for migratetype in (UNMOVABLE, MOVABLE, RECLAIMABLE):
                guest.alloc(order, migratetype, KERNEL)
        assert list(guest.pagesets()) == list(range(12))


@pytest.mark.parametrize(
    ("migratetype", "index"), [(UNMOVABLE, 12), (MOVABLE, 13), (RECLAIMABLE, 12)]
)
def test_whole_page_blocks_have_two_lists(migratetype: int, index: int) -> None:
    with core_guest(zone_of_blocks(16)) as guest:
        guest.set_marks(0, 0, 0)
        guest.alloc(9, migratetype, KERNEL)
        assert list(guest.pagesets()) == [index]


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8, 10])
def test_orders_4_to_8_and_10_go_straight_to_the_lists(order: int) -> None:
    with core_guest(zone_of_blocks(8)) as guest:
        guest.set_marks(0, 0, 0)
        pfn = guest.alloc(order)
        assert guest.pagesets() == {}
        assert guest.word(Z_ALLOCATED_DIRECT) == 1 << order
        assert guest.word(Z_FREE_PAGES) == 8192 - (1 << order)
        guest.free(pfn, order)
        assert guest.pagesets() == {}
        assert guest.word(Z_ALLOCATED_DIRECT) == 0
        assert guest.word(Z_FREE_PAGES) == 8192


def test_without_thp_order_9_goes_straight_too() -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        guest.set_marks(0, 0, 0)
        guest.segment.header[H_THP_PAGESETS] = 0
        guest.free(guest.alloc(9), 9)
        assert guest.pagesets() == {}
        assert guest.word(Z_FREE_PAGES) == 4096


# -- free -----------------------------------------------------------------------------------------


def test_frees_go_to_the_head_of_their_page_blocks_type() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        small(guest, 847, 31)
        for page_block, migratetype in enumerate((UNMOVABLE, MOVABLE, RECLAIMABLE)):
            guest.set_type(page_block * 512, migratetype)
        for pfn in (0, 512, 1024, 2, 514, 1026):
            guest.free(pfn)
        assert guest.pagesets() == {0: [2, 0], 1: [514, 512], 2: [1026, 1024]}
        assert guest.word(Z_FREE_PAGES) == 0
        assert guest.pageset_word(P_COUNT) == 6


def test_a_page_goes_back_with_the_type_it_was_freed_with() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        small(guest, 847, 31)
        guest.free(0)
        guest.set_type(0, UNMOVABLE)
        guest.drain()
        assert guest.free_lists() == {(0, MOVABLE): [0]}


def test_at_high_a_batch_goes_back_from_the_tail() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        small(guest, 10, 4)
        for pfn in range(0, 18, 2):
            guest.free(pfn)
        assert guest.word(Z_FREE_PAGES) == 0
        guest.free(18)
        assert guest.pageset(MOVABLE) == [18, 16, 14, 12, 10, 8]
        assert guest.free_lists() == {(0, MOVABLE): [6, 4, 2, 0]}
        assert guest.counter(PAGESET_DRAINS) == 1


def test_free_factor_doubles_what_goes_back() -> None:
    """Batch 31, high 847: 31, 62, 124, 248, 496, then all but a batch: 816."""
    with core_guest(zone_of_blocks(8)) as guest:
        small(guest, 847, 31)
        drained, factors = [], []
        page = 0
        while len(drained) < 8:
            before = guest.word(Z_FREE_PAGES)
            guest.free(page)
            page += 1
            if guest.word(Z_FREE_PAGES) != before:
                drained.append(guest.word(Z_FREE_PAGES) - before)
                factors.append(guest.pageset_word(P_FREE_FACTOR))
        assert drained == [31, 62, 124, 248, 496, 816, 816, 816]
        assert factors == [1, 2, 3, 4, 5, 5, 5, 5]


@pytest.mark.parametrize(("high", "factor"), [(8, 0), (9, 1)])
def test_free_factor_grows_only_while_more_may_go_back(high: int, factor: int) -> None:
    """Batch 4: with high 8 four pages are all that may go."""
    with core_guest(zone_of_blocks(1)) as guest:
        small(guest, high, 4)
        for page in range(0, 2 * high, 2):
            guest.free(page)
        assert guest.pageset_word(P_FREE_FACTOR) == factor
        assert guest.word(Z_FREE_PAGES) == 4


def test_free_factor_grows_no_further_than_5() -> None:
    """With high 6985 (THP) more than 31 << 5 would be allowed."""
    with core_guest(zone_of_blocks(16)) as guest:
        small(guest, 6985, 31)
        guest.set_pageset_word(P_FREE_FACTOR, 5)
        for page in range(6985):
            guest.free(page)
        assert guest.word(Z_FREE_PAGES) == 31 << 5
        assert guest.pageset_word(P_FREE_FACTOR) == 5


def test_every_allocation_halves_free_factor() -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        guest.set_marks(0, 0, 0)
        guest.set_pageset_word(P_FREE_FACTOR, 5)
        seen = []
        for order in (0, 0, 3, 0):
            guest.alloc(order)
            seen.append(guest.pageset_word(P_FREE_FACTOR))
        assert seen == [2, 1, 0, 0]


def test_an_allocation_past_the_pageset_leaves_free_factor() -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        guest.set_marks(0, 0, 0)
        guest.set_pageset_word(P_FREE_FACTOR, 5)
        guest.alloc(4)
        assert guest.pageset_word(P_FREE_FACTOR) == 5


@pytest.mark.parametrize(
    ("order", "factor", "flushed"),
    [(1, 1, True), (2, 1, True), (3, 5, True), (1, 0, False), (0, 5, False), (9, 5, False)],
)
def test_free_high_flushes_everything(order: int, factor: int, flushed: bool) -> None:
    """A block of order 1 to 3 while free_factor is not 0 empties the whole pageset."""
    with core_guest(zone_of_blocks(4)) as guest:
        small(guest, 2000, 31)
        guest.free(1024)
        guest.free(1026)
        guest.set_pageset_word(P_FREE_FACTOR, factor)
        guest.join(0, order)
        guest.free(0, order)
        count = 2 + (1 << order)
        assert guest.pageset_word(P_COUNT) == (0 if flushed else count)
        assert guest.word(Z_FREE_PAGES) == (count if flushed else 0)
        assert guest.pageset_word(P_FREE_FACTOR) == factor


def mixed(guest: CoreGuest, high: int, batch: int) -> None:
    """Three unmovable pages, three movable, two reclaimable in the pageset; the page blocks in
    that order.
    """
    small(guest, high, batch)
    for page_block, migratetype in enumerate((UNMOVABLE, MOVABLE, RECLAIMABLE)):
        guest.set_type(page_block * 512, migratetype)
    for pfn in (0, 2, 4, 512, 514, 516, 1024, 1026):
        guest.free(pfn)


def test_drain_begins_with_the_list_freed_to() -> None:
    """Five pages: the four movable ones from their tail, then one reclaimable, from its tail."""
    with core_guest(zone_of_blocks(2)) as guest:
        mixed(guest, 10, 5)
        guest.set_pageset_word(P_HIGH, 9)
        guest.set_pageset_word(P_BATCH, 4)
        guest.set_pageset_word(P_FREE_FACTOR, 1)
        guest.free(518)
        assert guest.pagesets() == {0: [4, 2, 0], 2: [1026]}
        assert guest.free_lists() == {
            (0, MOVABLE): [518, 516, 514, 512],
            (0, RECLAIMABLE): [1024],
        }


def test_drain_goes_round_to_the_first_list() -> None:
    """From the reclaimable list over the empty ones of higher orders to the unmovable one."""
    with core_guest(zone_of_blocks(2)) as guest:
        mixed(guest, 10, 5)
        guest.set_pageset_word(P_HIGH, 9)
        guest.set_pageset_word(P_BATCH, 4)
        guest.set_pageset_word(P_FREE_FACTOR, 1)
        guest.free(1028)
        assert guest.pagesets() == {0: [4], 1: [516, 514, 512]}
        assert guest.free_lists() == {
            (0, UNMOVABLE): [2, 0],
            (0, RECLAIMABLE): [1028, 1026, 1024],
        }


def test_the_quota_counts_pages_and_may_be_exceeded_by_a_block() -> None:
    """Four pages are to go; the first block has eight."""
    with core_guest(zone_of_blocks(2)) as guest:
        small(guest, 9, 4)
        guest.free(1024)
        guest.join(0, 3)
        guest.free(0, 3)
        assert guest.pagesets() == {1: [1024]}
        assert guest.word(Z_FREE_PAGES) == 8


def test_a_pageset_without_high_keeps_no_more_than_it_has() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        small(guest, 0, 1)
        for page in range(0, 8, 2):
            guest.free(page)
            assert guest.pagesets() == {}
        assert guest.free_list(0) == [6, 4, 2, 0]


def test_while_reclaim_is_active_high_is_four_batches() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        small(guest, 847, 31)
        for page in range(123):
            guest.free(page)
        guest.set_word(Z_RECLAIM_ACTIVE, 1)
        guest.free(123)
        assert guest.pageset_word(P_COUNT) == 124 - 31
        assert guest.word(Z_FREE_PAGES) == 31


def test_active_reclaim_never_raises_high() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        small(guest, 50, 31)
        guest.set_word(Z_RECLAIM_ACTIVE, 1)
        for page in range(50):
            guest.free(page)
        assert guest.pageset_word(P_COUNT) == 50 - 19, "at most high - batch = 19 go"


def test_drain_all_empties_every_cpu_and_misses_the_locked() -> None:
    with core_guest(*G512, cpus=2) as guest:
        for cpu in (0, 1):
            guest.alloc(cpu=cpu)
        guest.segment.pagesets[(1 * 2 + 1) * PAGESET_WORDS + P_CLAIM] = 9
        assert guest.drain() == 1
        assert guest.pagesets(zone=1, cpu=0) == {}
        assert guest.pageset_word(P_COUNT, zone=1, cpu=1) == 30
        guest.segment.pagesets[(1 * 2 + 1) * PAGESET_WORDS + P_CLAIM] = 0
        assert guest.drain() == 0
        assert guest.pagesets(zone=1, cpu=1) == {}


def test_while_somebody_drains_requests_go_past_the_pageset() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_marks(0, 0, 0)
        guest.set_pageset_word(P_CLAIM, 9)
        pfn = guest.alloc()
        assert guest.pageset_word(P_COUNT) == 0
        assert guest.word(Z_FREE_PAGES) == 2047
        guest.free(pfn)
        assert guest.pageset_word(P_COUNT) == 0
        assert guest.free_lists() == {(10, MOVABLE): [0, 1024]}
        assert guest.pageset_word(P_CLAIM) == 9, "the lock is still the other's"
        guest.set_pageset_word(P_CLAIM, 0)
