"""The buddy lists: removing, merging, placing, splitting (docs/model.md, section 4), and RP-13."""

import pytest

from pagesoak.allocator.buddy import NO_PAGE, SKIP_REPORT_NOTIFY, TO_TAIL
from pagesoak.base.layout import (
    HIGHATOMIC,
    IDLE,
    MOVABLE,
    R_NOTIFY_SEQUENCE,
    R_ORDER,
    R_REGISTERED,
    R_STATE,
    RECLAIMABLE,
    REQUESTED,
    UNMOVABLE,
    Z_FREE_PAGES,
    Z_NR_FREE,
    Z_REPORTED,
)
from tests.core_helper import CoreGuest, core_guest, zone_of_blocks

FREE, ALLOCATED = 1, 3


def register(guest: CoreGuest, order: int = 9) -> None:
    """A reporting device, idle."""
    guest.segment.report[R_REGISTERED] = 1
    guest.segment.report[R_ORDER] = order
    guest.segment.report[R_STATE] = IDLE


def test_boot_memory_is_largest_blocks_ascending() -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        assert guest.free_lists() == {(10, MOVABLE): [0, 1024, 2048, 3072]}


# -- split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(11))
def test_expand_returns_the_lowest_part_and_lists_the_upper_halves(order: int) -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        assert guest.take(order) == 0
        expected = {(half, MOVABLE): [1 << half] for half in range(order, 10)}
        expected[10, MOVABLE] = [1024]
        assert guest.free_lists() == expected
        assert guest.word(Z_FREE_PAGES) == 2048 - (1 << order)
        assert guest.state(0) == (ALLOCATED, order, MOVABLE, False)


def test_the_smallest_fitting_order_is_taken_from_its_head() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.give(1024, 10)
        for pfn in (0, 64, 32):
            guest.give(pfn, 3)
        assert guest.free_list(3) == [32, 64, 0]
        assert guest.take(2) == 32
        assert guest.free_list(2) == [36]
        assert guest.free_list(10) == [1024]


def test_take_from_nothing() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        assert guest.take(0) == NO_PAGE
        assert guest.word(Z_FREE_PAGES) == 0


def test_rp_13_allocation_splits_a_reported_block() -> None:
    """RP-13: ten unreported pieces at the orders 9 to 0, no notification."""
    with core_guest(zone_of_blocks(1)) as guest:
        register(guest)
        guest.set_reported(0)
        assert guest.word(Z_REPORTED) == 1024
        assert guest.take(0) == 0
        pieces = [(order, pfns) for (order, _), pfns in guest.free_lists().items()]
        assert pieces == [(order, [1 << order]) for order in range(10)]
        assert all(guest.state(1 << order) == (FREE, order, MOVABLE, False) for order in range(10))
        assert guest.word(Z_REPORTED) == 0
        assert guest.segment.report[R_STATE] == IDLE
        assert guest.segment.report[R_NOTIFY_SEQUENCE] == 0


# -- merge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(10))
def test_buddies_merge_all_the_way_up(order: int) -> None:
    """The whole block but one piece of `order` is free in buddies; freeing that piece merges
    everything.
    """
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        for piece in range(order, 10):
            assert guest.give(1 << piece, piece) == piece
        assert guest.give(0, order) == 10
        assert guest.free_lists() == {(10, MOVABLE): [0]}
        assert guest.state(1 << order)[0] == 0, "no longer the first page of a block"


def test_order_10_is_the_largest() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.give(0, 10)
        assert guest.give(1024, 10) == 10
        assert guest.free_list(10) == [1024, 0]


def test_only_a_free_buddy_of_the_same_order_merges() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.give(0, 2)
        assert guest.give(4, 1) == 1, "its neighbour of order 2 is no buddy of order 1"
        assert guest.free_lists() == {(1, MOVABLE): [4], (2, MOVABLE): [0]}
        assert guest.give(8, 2) == 2, "free and of the same order, but of another pair"
        assert guest.give(6, 1) == 3


def test_a_zone_ends_merging() -> None:
    """Two zones that meet inside an order-10 pair never merge over the border."""
    first, second = zone_of_blocks(1, 0, 0), zone_of_blocks(1, 1024, 1)
    with core_guest(first, second) as guest:
        for zone in (0, 1):
            guest.take_all(zone)
        guest.give(512, 9)
        assert guest.give(1024, 9) == 9
        assert guest.free_list(9, zone=0) == [512]
        assert guest.free_list(9, zone=1) == [1024]


def test_a_merged_block_goes_to_the_type_passed_in() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.give(0, 3, UNMOVABLE)
        assert guest.give(8, 3, RECLAIMABLE) == 4
        assert guest.free_lists() == {(4, RECLAIMABLE): [0]}
        guest.set_type(0, RECLAIMABLE)


@pytest.mark.parametrize(
    ("types", "reached"),
    [
        ((UNMOVABLE, MOVABLE), 10),
        ((RECLAIMABLE, UNMOVABLE), 10),
        ((HIGHATOMIC, MOVABLE), 9),
        ((MOVABLE, HIGHATOMIC), 9),
        ((HIGHATOMIC, HIGHATOMIC), 10),
    ],
)
def test_page_blocks_merge_unless_highatomic_meets_another(
    types: tuple[int, int], reached: int
) -> None:
    with core_guest(zone_of_blocks(1), audited=HIGHATOMIC not in types) as guest:
        guest.take_all()
        guest.set_type(0, types[0])
        guest.set_type(512, types[1])
        guest.give(512, 9)
        assert guest.give(0, 9) == reached


@pytest.mark.parametrize("first", [0, 512])
def test_two_reported_blocks_merge_into_an_unreported_one(first: int) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.give(first, 9)
        guest.set_reported(first)
        assert guest.give(512 - first, 9) == 10
        assert guest.state(0) == (FREE, 10, MOVABLE, False)
        assert guest.word(Z_REPORTED) == 0


# -- place ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(9))
def test_tail_iff_the_next_levels_buddy_is_free(order: int) -> None:
    """A block whose pair's neighbour pair is free waits at the tail, for it is likely to merge
    soon.
    """
    size = 1 << order
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.give(1024, order)
        guest.give(2 * size, order + 1)
        guest.give(0, order)
        assert guest.free_list(order) == [1024, 0]
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.give(1024, order)
        guest.give(0, order)
        assert guest.free_list(order) == [0, 1024]


def test_orders_9_and_10_go_to_the_head() -> None:
    """Though the buddy one level up (order 10 at 1024) is free."""
    with core_guest(zone_of_blocks(5)) as guest:
        guest.take_all()
        guest.give(2048, 9)
        guest.give(1024, 10)
        guest.give(0, 9)
        assert guest.free_list(9) == [0, 2048]
        guest.give(3072, 10)
        assert guest.free_list(10) == [3072, 1024]


@pytest.mark.parametrize("order", [0, 5, 9, 10])
def test_to_tail_puts_at_the_tail(order: int) -> None:
    with core_guest(zone_of_blocks(4)) as guest:
        guest.take_all()
        guest.give(0, order)
        guest.give(2048, order, flags=TO_TAIL)
        assert guest.free_list(order) == [0, 2048]


# -- notify ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "device_order", "expected"),
    [(8, 9, IDLE), (9, 9, REQUESTED), (10, 9, REQUESTED), (9, 10, IDLE), (5, 5, REQUESTED)],
)
def test_a_free_of_the_device_order_asks_for_a_pass(
    order: int, device_order: int, expected: int
) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        register(guest, device_order)
        guest.take_all()
        guest.give(0, order)
        assert guest.segment.report[R_STATE] == expected


def test_a_small_free_that_merges_up_asks_for_a_pass() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        register(guest)
        guest.take_all()
        for order in range(9):
            guest.give(1 << order, order)
        assert guest.segment.report[R_STATE] == IDLE
        assert guest.give(0, 0) == 9
        assert guest.segment.report[R_STATE] == REQUESTED


def test_the_reporters_own_put_back_asks_for_nothing() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        register(guest)
        guest.take_all()
        guest.give(0, 10, flags=SKIP_REPORT_NOTIFY | TO_TAIL)
        assert guest.segment.report[R_STATE] == IDLE


def test_without_a_device_nobody_is_asked() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.give(0, 10)
        assert guest.segment.report[R_NOTIFY_SEQUENCE] == 0


def test_nr_free_counts_all_types_of_an_order() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        for page_block, migratetype in enumerate((UNMOVABLE, MOVABLE, RECLAIMABLE)):
            guest.set_type(512 * page_block, migratetype)
            guest.give(512 * page_block, 4)
        assert guest.word(Z_NR_FREE + 4) == 3
